"""Damaged models: python benchmarks/fuzz.py --data FOLDER [--seconds N] [--seed N] [--graphs N]

Flips bytes of real files below FOLDER/wild, cuts them short, repeats and exchanges parts of them, and loads the result:
only a Model or a TersorError may come out, within LIMIT seconds. With --graphs also tries that many random valid graphs
(tests/safety). Prints the counts and what broke the promise; the exit code is 1 when something did.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
from tersor.frontends.onnx import load
from tersor.ir import TersorError, verify

LIMIT = 10
"""Seconds that loading one damaged file may take."""

LARGEST = 300_000
"""Bytes of the largest file in the corpus: damage to structure is rare in files that are nearly all weights."""

MEMORY = 8 << 30
"""Bytes of address space: whoever allocates what a file only claims to hold is found out."""

Change = Callable[[bytearray, np.random.Generator], bytearray]


def flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(rng.integers(1, 8)):
        data[rng.integers(len(data))] = rng.integers(256)
    return data


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def flip_head(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Near the start and the end, where most of the structure is."""
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(min(len(data), 2000)))
        data[at if rng.integers(2) else -1 - at] = rng.integers(256)
    return data


def cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(len(data))]


def drop(data: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, 64))]
    return data


def repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, to = rng.integers(len(data), size=2)
    part = data[start : start + int(rng.integers(1, 256))]
    return data[:to] + part + data[to:]


CHANGES: tuple[Change, ...] = (flip, flip_bits, flip_head, cut, drop, repeat)


def out_of_time(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LIMIT} s")


def outcome(data: bytes, path: Path) -> str:
    """What comes out of loading damaged bytes, from a mapped file and from memory alike; raises what must not be."""
    path.write_bytes(data)
    kinds: set[str] = set()
    for source in (data, path):
        signal.alarm(LIMIT)
        try:
            verify(load(source).graph)
            kinds.add("Model")
        except TersorError as error:
            kinds.add(type(error).__name__)
        finally:
            signal.alarm(0)
    if len(kinds) > 1 and "Model" in kinds:
        raise AssertionError(f"bytes and file disagree: {sorted(kinds)}")
    return min(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graphs", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    corpus = [(p, p.read_bytes()) for p in sorted((arguments.data / "wild").glob("*.onnx"))]
    corpus = [(p, data) for p, data in corpus if 0 < len(data) <= LARGEST]
    if not corpus:
        print(f"there are no .onnx files below {arguments.data}/wild", file=sys.stderr)
        return 2
    rng = np.random.default_rng(arguments.seed)
    counts: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    end = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            path, original = corpus[rng.integers(len(corpus))]
            change = CHANGES[rng.integers(len(CHANGES))]
            data = bytes(change(bytearray(original), rng))
            try:
                counts[outcome(data, Path(folder) / "damaged.onnx")] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                place = traceback.extract_tb(error.__traceback__)[-1]
                kind = f"{type(error).__name__}: {str(error)[:150]} ({Path(place.filename).name}:{place.lineno})"
                if not broken[kind]:
                    kept = Path(tempfile.gettempdir()) / f"tersor-fuzz-{len(broken)}.onnx"
                    kept.write_bytes(data)
                    print(f"{kind}\n    {change.__name__} of {path.name}, kept as {kept}", flush=True)
                broken[kind] += 1
    if arguments.graphs:
        broken.update(random_graphs(arguments.graphs, arguments.seed))
    print(
        f"{counts.total()} damaged files from {len(corpus)}: " + ", ".join(f"{n} {k}" for k, n in counts.most_common())
    )
    print(f"{broken.total()} broke the promise, in {len(broken)} ways")
    return 1 if broken else 0


def random_graphs(count: int, seed: int) -> Counter[str]:
    """The properties of tests/safety on `count` random graphs; a line for the first failure, shrunk by hypothesis."""
    import hypothesis

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "safety"))
    from graphs import models  # pyright: ignore[reportMissingImports]
    from properties import check_all  # pyright: ignore[reportMissingImports]

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(models())
    def run(model: object) -> None:
        check_all(model)

    try:
        run()
    except Exception as error:
        print(f"a random graph broke a property: {type(error).__name__}: {error}")
        return Counter(["a random graph"])
    print(f"{count} random graphs keep every property")
    return Counter()


if __name__ == "__main__":
    sys.exit(main())
