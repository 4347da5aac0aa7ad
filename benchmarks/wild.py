"""ONNX files as people really have them: python benchmarks/wild.py --data FOLDER [--only PATTERN] [--jobs N]

For every file below FOLDER/wild and FOLDER/models: what ONNX Runtime loads must load, and give the same outputs on the
same random inputs after a round trip and after `simplify`; what is refused must be refused with a reason. Files are
tried in processes that are ended when one of our steps takes longer than LIMIT. Prints a line for each file that is no
plain success, then the counts; the exit code is 1 when one of the promises is broken.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnxruntime as ort
from tersor.backends.onnx import save
from tersor.frontends.onnx import load
from tersor.ir import Model, TersorError, UsageError, lookup, structural_hash, verify
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify

LIMIT = 10.0
"""Seconds in which a model has to be loaded, saved and simplified; loading it in ONNX Runtime is not counted."""

SIZES = (2, 1, 3, 16, 64, 512)
"""Symbolic sizes to try, until ONNX Runtime runs the original."""

TOLERANCE = 1e-4
"""The largest difference, relative to the largest output, that reassociation of floats may leave after simplify, unless
ONNX Runtime's own optimizations of the original make one that is a tenth of it or more."""

ROUNDING = 1e-6
"""The same after a round trip, where an operator is written in the form of another opset."""

ELEMENTS: dict[str, Any] = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_, "string": object,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip
BROKEN = ("refused by us", "lost by saving", "lost by simplify", "differs", "hash", "traceback", "hang")


@dataclass
class Finding:
    """What became of one file: the kind that is counted, what to say of it, and seconds by step."""

    kind: str
    why: str = ""
    seconds: dict[str, float] = field(default_factory=dict[str, float])


class Clock:
    """Seconds by step, each step told to the watching process as it begins."""

    def __init__(self, watcher: Connection) -> None:
        self.watcher, self.seconds = watcher, {}

    def run(self, step: str, call: Any) -> Any:
        self.watcher.send(step)
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[step] = time.perf_counter() - start
            self.watcher.send("")


def session_of(path: Path, *, optimize: bool = False) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # Without optimizations the runtime computes what the file says, and both files the same way.
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def made_up(session: ort.InferenceSession, size: int, seed: int) -> dict[str, Any]:
    """Random inputs for a session; raises KeyError for types of which none can be made."""
    generator = np.random.default_rng(seed)
    return {i.name: _value(i.type, i.shape, size, generator) for i in session.get_inputs()}


def _value(kind: str, shape: list[Any], size: int, generator: np.random.Generator) -> Any:
    if kind.startswith("seq("):
        return [_value(kind[4:-1], [size, 3], size, generator) for _ in range(3)]
    if kind.startswith("optional("):
        return _value(kind[9:-1], shape, size, generator)
    dtype = ELEMENTS[kind.removeprefix("tensor(").removesuffix(")")]
    dims = [d if isinstance(d, int) and d >= 0 else size for d in shape]
    if dtype is object:
        return np.array(["alpha", "beta", "gamma"], object)[generator.integers(0, 3, dims)]
    if dtype is np.bool_:
        return generator.integers(0, 2, dims).astype(bool)
    if np.issubdtype(dtype, np.integer):
        return generator.integers(0, 2 if size == 1 else 4, dims).astype(dtype)
    return generator.standard_normal(dims).astype(dtype)


def difference(a: Any, b: Any) -> float:
    """The largest error relative to the largest element; infinity for another structure, type or shape."""
    if isinstance(a, (list, tuple)):
        same = isinstance(b, type(a)) and len(a) == len(b)
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0) if same else np.inf
    if isinstance(a, dict):
        return max((difference(v, b[k]) for k, v in a.items()), default=0.0) if a.keys() == b.keys() else np.inf
    if not isinstance(a, np.ndarray):
        return 0.0 if a == b else abs(a - b) if isinstance(a, float) and isinstance(b, float) else np.inf
    if not isinstance(b, np.ndarray) or a.dtype != b.dtype or a.shape != b.shape:
        return np.inf
    if a.dtype.kind not in "fc":
        return 0.0 if np.array_equal(a, b) else np.inf
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    odd = ~np.isfinite(x)
    if not np.array_equal(x[odd], y[odd], equal_nan=True):
        return np.inf
    error = np.abs(x[~odd] - y[~odd])
    return float(error.max() / max(float(np.abs(x[~odd]).max()), 1e-6)) if error.size else 0.0


def same_interface(before: ort.InferenceSession, after: ort.InferenceSession) -> bool:
    """Inputs and outputs are the same. Files of IR version 3 have defaults that ONNX Runtime does not let one replace;
    that one can now is no loss.
    """

    def shown(values: list[Any]) -> list[tuple[str, str]]:
        return [(v.name, v.type) for v in values]

    return (
        shown(before.get_inputs()) == shown(after.get_inputs())
        and shown(before.get_outputs()) == shown(after.get_outputs())
        and set(shown(before.get_overridable_initializers())) <= set(shown(after.get_overridable_initializers()))
    )


def described(model: Model) -> tuple[Any, ...]:
    """What a file says about itself and must say after saving."""
    # A file that names no producer was last written by us.
    return (
        model.metadata,
        model.doc,
        model.producer or "tersor",
        model.domain,
        model.version,
        model.graph.doc,
        model.graph.name,
    )


def examine(path: Path, clock: Clock) -> Finding:
    try:
        original = session_of(path)
    except Exception as error:
        original = str(error).splitlines()[0]
    try:
        model = clock.run("load", lambda: load(path))
    except TersorError as error:
        why = " | ".join(str(error).splitlines())
        return Finding("refused by both" if isinstance(original, str) else "refused by us", why)
    with tempfile.TemporaryDirectory() as folder:
        copy, simple = Path(folder) / "copy.onnx", Path(folder) / "simple.onnx"
        try:
            clock.run("save", lambda: save(model, copy))
            again = clock.run("load again", lambda: load(copy))
        except TersorError as error:
            return Finding("lost by saving", " | ".join(str(error).splitlines()))
        if structural_hash(again.graph) != structural_hash(model.graph) or described(again) != described(model):
            if described(again) != described(model):
                return Finding("hash", f"the file says of itself {described(again)}, before {described(model)}")
            canonical = Path(folder) / "canonical.onnx"
            save(model, canonical, opset=26)
            if structural_hash(load(canonical).graph) != structural_hash(model.graph):
                return Finding("hash", "the structural hash changed over a round trip at the canonical opset")
        simplified = model.clone()
        try:
            clock.run("simplify", lambda: Simplify().run(simplified, Context()))
            verify(simplified.graph, after="simplify")
            clock.run("save", lambda: save(simplified, simple))
        except TersorError as error:
            return Finding("lost by simplify", " | ".join(str(error).splitlines()))
        if isinstance(original, str):
            return Finding("only we load it", original)
        return compared(path, original, copy, simple)


def compared(path: Path, original: ort.InferenceSession, copy: Path, simple: Path) -> Finding:
    sessions: list[ort.InferenceSession] = []
    for written, kind in ((copy, "lost by saving"), (simple, "lost by simplify")):
        try:
            sessions.append(session_of(written))
        except Exception as error:
            return Finding(kind, str(error).splitlines()[0])
        if not same_interface(original, sessions[-1]):
            return Finding("differs", "the interface is another one")
    why = ""
    for size in SIZES:
        try:
            results = [judged(path, original, sessions, made_up(original, size, seed)) for seed in (0, 1)]
        except Exception as error:
            why = why or f"{type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        return next((r for r in results if r.kind != "same outputs"), results[0])
    return Finding("loads, made-up inputs do not fit", why)


def is_random(path: Path) -> bool:
    schemas = (lookup(node.op, node.domain) for node in load(path).graph.walk())
    return any(schema is not None and not schema.deterministic for schema in schemas)


def judged(
    path: Path, original: ort.InferenceSession, sessions: list[ort.InferenceSession], feeds: dict[str, Any]
) -> Finding:
    """How the outputs of the copy and of the simplified model compare. Raises what ONNX Runtime raises on the original.

    Outputs that differ between runs of the original are random and are not compared.
    """
    wanted, *others = (original.run(None, feeds) for _ in range(300 if is_random(path) else 2))
    steady = [i for i, a in enumerate(wanted) if all(difference(a, b[i]) == 0 for b in others)]
    worst: list[float] = []
    for session, kind in zip(sessions, ("round trip", "simplify"), strict=True):
        try:
            found = session.run(None, feeds)
        except Exception as error:
            return Finding("differs", f"after {kind} it does not run: {str(error).splitlines()[0]}")
        worst.append(max((difference(wanted[i], found[i]) for i in steady), default=0.0))
    if not worst[0] <= ROUNDING:
        return Finding("differs", f"after round trip by {worst[0]:.3g}")
    if worst[1] > TOLERANCE:
        theirs = session_of(path, optimize=True).run(None, feeds)
        usual = max((difference(wanted[i], theirs[i]) for i in steady), default=0.0)
        if not worst[1] <= 10 * usual:
            return Finding("differs", f"after simplify by {worst[1]:.3g}, optimized by ONNX Runtime {usual:.3g}")
    return Finding("same outputs")


def _work(watcher: Connection) -> None:
    """Examines the paths that come in, until none comes."""
    warnings.simplefilter("ignore")
    while (path := watcher.recv()) is not None:
        clock = Clock(watcher)
        try:
            finding = examine(path, clock)
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            finding = Finding("traceback", why)
        finding.seconds = clock.seconds
        watcher.send(finding)


class Worker:
    """A process that examines files; it is ended when one of our steps takes longer than the limit, or when it dies."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def examine(self, path: Path) -> Finding:
        self.pipe.send(path)
        step = ""
        try:
            while self.pipe.poll(LIMIT if step else 300):
                message = self.pipe.recv()
                if isinstance(message, Finding):
                    slow = {s: round(t, 1) for s, t in message.seconds.items() if t > LIMIT}
                    return Finding("hang", f"seconds {slow}", message.seconds) if slow else message
                step = message
            finding = Finding("hang", f"more than {LIMIT:.0f} s in {step or 'ONNX Runtime'}")
            self.process.kill()
        except EOFError:
            self.process.join()
            finding = Finding("traceback", f"the process ended with {self.process.exitcode}")
        self.process.join()
        self.start()
        return finding


def files(data: Path) -> list[Path]:
    found = [p for part in ("wild", "models") for p in sorted((data / part).rglob("*.onnx"))]
    if not found:
        raise UsageError(f"there are no .onnx files below {data}/wild and {data}/models", do="give another --data")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="*", help="a pattern of file names")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    try:
        paths = [p for p in files(arguments.data) if fnmatch(p.name, arguments.only)]
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    slowest: dict[str, tuple[float, str]] = {}
    workers: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(arguments.jobs):
        workers.put(Worker())

    def examined(path: Path) -> Finding:
        worker = workers.get()
        try:
            return worker.examine(path)
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        for path, finding in zip(paths, pool.map(examined, paths), strict=True):
            counts[finding.kind] += 1
            for step, seconds in finding.seconds.items():
                slowest[step] = max(slowest.get(step, (0.0, "")), (seconds, path.name))
            if finding.kind != "same outputs":
                print(f"{finding.kind:34} {path.name}\n    {finding.why}", flush=True)
    while not workers.empty():
        workers.get().pipe.send(None)
    print(f"\n{len(paths)} files")
    for kind, count in counts.most_common():
        print(f"{count:5}  {kind}{'   <- broken promise' if kind in BROKEN else ''}")
    for step, (seconds, name) in slowest.items():
        print(f"slowest {step}: {seconds:.2f} s, {name}")
    return 1 if any(kind in BROKEN for kind in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
