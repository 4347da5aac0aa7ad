"""Every test case that the onnx package ships, through tersor and back, at its own opset and at every other one.

    python benchmarks/conformance.py [--opsets own|all|13,17,...] [--only PATTERN] [--jobs N]

A case is a model with inputs and expected outputs. It is read (which raises it to the canonical opset), verified and
written for an opset; what is written has to give what the original gives. ONNX Runtime judges where it runs the
original, the reference evaluator of the onnx package where it does not. Progress goes to stderr; the table, the
exceptions and what opsets cannot express go to stdout. The exit code is 1 where they differ from the committed lists
in tests/conformance.
"""

from __future__ import annotations

import argparse
import ctypes
import fnmatch
import os
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.backend.test import loader
from onnx.reference import ReferenceEvaluator
from tersor.backends.onnx import to_proto
from tersor.frontends.onnx import load
from tersor.ir import CANONICAL_OPSET, Model, UnsupportedError, UsageError, verify

LISTS = Path(__file__).resolve().parent.parent / "tests" / "conformance"
DATA = Path(loader.DATA_DIR)
KINDS = ("light", "node", "simple", "pytorch-converted", "pytorch-operator")
OPSETS = range(13, CANONICAL_OPSET + 1)
OWN = 0
"""Stands for the opset that a case comes in."""

LONGEST = 300
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operators whose results only have to have the same shapes and types."""

Data = list[Any]


@dataclass
class Case:
    """A model with inputs and the outputs that its authors expect, None where there are none."""

    name: str
    kind: str
    proto: onnx.ModelProto
    inputs: Data
    expected: Data | None
    rtol: float = 1e-3
    atol: float = 1e-7

    @cached_property
    def opset(self) -> int:
        return next((o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")), 0)

    @cached_property
    def random(self) -> bool:
        return any(node.op_type in RANDOM for node in self.proto.graph.node)

    @cached_property
    def by_runtime(self) -> Data | str:
        """What ONNX Runtime gives on the original, or why it gives nothing."""
        return attempt(run_in_runtime, self.proto, self.inputs)

    @cached_property
    def by_reference(self) -> Data | str:
        return attempt(run_in_reference, self.proto, self.inputs)

    @cached_property
    def model(self) -> Model:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = load(self.proto)
        verify(model.graph)
        return model


@dataclass(frozen=True)
class Verdict:
    """What became of a case at an opset: "same", "inexpressible" or "failed", and why."""

    case: str
    opset: int
    result: str
    judge: str = ""
    why: str = ""
    op: str = ""
    needs: int = 0


# Cases


def cases(kinds: Sequence[str] = KINDS) -> Iterator[Case]:
    """All cases that the package has the data of; node cases are generated in memory."""
    for kind in kinds:
        if kind == "node":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some cases overflow on purpose
                found = loader.load_model_tests(kind="node")
            for test in found:
                assert test.model is not None
                assert test.data_sets is not None
                ((inputs, outputs),) = test.data_sets
                yield Case(test.name, kind, test.model, tensors(inputs), tensors(outputs), test.rtol, test.atol)
        elif kind == "light":
            yield from light()
        else:
            for folder in sorted((DATA / kind).iterdir()):
                yield from stored(folder, kind)


def tensors(data: Iterable[Any]) -> Data:
    return [numpy_helper.to_array(d) if isinstance(d, onnx.TensorProto) else d for d in data]


def stored(folder: Path, kind: str) -> Iterator[Case]:
    proto = onnx.load(folder / "model.onnx")
    for index, data in enumerate(sorted(folder.glob("test_data_set_*"))):
        inputs = [read(p, i.type) for p, i in zip(numbered(data, "input"), required(proto.graph), strict=False)]
        outputs = [read(p, o.type) for p, o in zip(numbered(data, "output"), proto.graph.output, strict=False)]
        yield Case(f"{folder.name}{f'/{index}' if index else ''}", kind, proto, inputs, outputs)


def numbered(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}_*.pb"), key=lambda p: int(re.findall(r"\d+", p.stem)[-1]))


def required(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs without a default."""
    defaults = {t.name for t in graph.initializer}
    found = [i for i in graph.input if i.name not in defaults]
    return found or list(graph.input)


def read(path: Path, type_: onnx.TypeProto) -> Any:
    match type_.WhichOneof("value"):
        case "sequence_type":
            return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
        case _:
            return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def light() -> Iterator[Case]:
    """Well-known networks with weights that are made by nodes; their input is a ramp, as onnx's own runner has it."""
    for path in sorted((DATA / "light").glob("*.onnx")):
        proto = onnx.load(path)
        inputs: Data = []
        for info in required(proto.graph):
            shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
        outputs = [numpy_helper.to_array(onnx.load_tensor(p)) for p in sorted(path.parent.glob(f"{path.stem}_output*"))]
        yield Case(path.stem, "light", proto, inputs, outputs, rtol=2e-3)


# Judges


def attempt(run: Any, proto: onnx.ModelProto, inputs: Data) -> Data | str:
    try:
        return run(proto, inputs)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def feeds_of(proto: onnx.ModelProto, inputs: Data) -> dict[str, Any]:
    names = [i.name for i in proto.graph.input]
    if len(inputs) != len(names):
        names = [i.name for i in required(proto.graph)]
    return dict(zip(names, inputs, strict=False))


def run_in_runtime(proto: onnx.ModelProto, inputs: Data) -> Data:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {n: runtime_value(v) for n, v in feeds_of(proto, inputs).items()}
    if any(isinstance(v, ort.OrtValue) for v in feeds.values()) or any(unusual(o.type) for o in session.get_outputs()):
        values = {n: v if isinstance(v, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(np.asarray(v))
                  for n, v in feeds.items()}  # fmt: skip
        return [from_runtime(v) for v in session.run_with_ort_values(None, values)]
    return list(session.run(None, feeds))


UNUSUAL = {
    np.dtype(t): c for t, c in (
        (ml_dtypes.bfloat16, 16), (ml_dtypes.float8_e4m3fn, 17), (ml_dtypes.float8_e4m3fnuz, 18),
        (ml_dtypes.float8_e5m2, 19), (ml_dtypes.float8_e5m2fnuz, 20),
    )
}  # fmt: skip
"""Element types that numpy does not know, of whole bytes, with their codes."""


def unusual(type_name: str) -> bool:
    return any(s in type_name for s in ("bfloat16", "float8")) and type_name.startswith("tensor(")


def runtime_value(value: Any) -> Any:
    if isinstance(value, list) or value is None:
        return value
    array = np.asarray(value)
    code = UNUSUAL.get(array.dtype)
    if code is None:
        return array
    carrier = np.ascontiguousarray(array).view(np.uint16 if array.itemsize == 2 else np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(carrier, code)


def from_runtime(value: ort.OrtValue) -> Any:
    dtype = next((d for d, c in UNUSUAL.items() if value.is_tensor() and c == value.element_type()), None)
    if dtype is None:
        return value.numpy()
    shape = value.shape()
    held = ctypes.string_at(value.data_ptr(), int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(held, dtype).reshape(shape)


def run_in_reference(proto: onnx.ModelProto, inputs: Data) -> Data:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(proto).run(None, feeds_of(proto, inputs)))


def difference(expected: Any, found: Any, rtol: float, atol: float) -> str:
    """Why two results are not the same; empty where they are."""
    if expected is None or found is None:
        return "" if expected is found else f"{expected!r} became {found!r}"
    if isinstance(expected, (list, tuple)) or isinstance(found, (list, tuple)):
        if not isinstance(found, (list, tuple)) or not isinstance(expected, (list, tuple)):
            return "a sequence became a tensor or the reverse"
        if len(expected) != len(found):
            return f"{len(expected)} elements became {len(found)}"
        return next((d for e, f in zip(expected, found, strict=True) if (d := difference(e, f, rtol, atol))), "")
    if isinstance(expected, dict):
        return "" if expected == found else "another map"
    a, b = np.asarray(expected), np.asarray(found)
    if a.shape != b.shape:
        return f"shape {a.shape} became {b.shape}"
    if a.dtype != b.dtype and not (a.dtype.kind in "OUST" and b.dtype.kind in "OUST"):
        return f"dtype {a.dtype} became {b.dtype}"
    if a.dtype.kind in "OUSTb" or a.dtype.kind in "iu":
        return "" if np.array_equal(a, b) else "other values"
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        x, y = a.astype(wide), b.astype(wide)
        close = np.isclose(y, x, rtol=rtol, atol=atol, equal_nan=True)
        return "" if close.all() else f"other values (by up to {np.nanmax(np.abs(np.where(close, 0, x - y))):.3g})"


def differences(case: Case, expected: Data, found: Data, *, exact: bool) -> str:
    """`exact` is for the same operators; decompositions round differently, in the precision of the outputs."""
    if len(expected) != len(found):
        return f"{len(expected)} outputs became {len(found)}"
    for index, (e, f) in enumerate(zip(expected, found, strict=True)):
        rtol, atol = case.rtol, case.atol
        if case.random:
            e, f = np.zeros_like(e), np.zeros_like(f)  # noqa: PLW2901
        array = e if isinstance(e, np.ndarray) else None
        if not exact and array is not None and array.dtype.kind not in "OUSTbiuc" and array.size:
            try:
                eps = float(ml_dtypes.finfo(array.dtype).eps)
            except ValueError:
                eps = 0.0
            largest = np.abs(array.astype(np.float64)[np.isfinite(array.astype(np.float64))]).max(initial=0)
            rtol, atol = max(rtol, 16 * eps), max(atol, 16 * eps * float(largest))
        if why := difference(e, f, rtol, atol):
            return f"output {index}: {why}"
    return ""


# The matrix


def judge(case: Case, opset: int) -> Verdict:
    """One case, written for one opset, against the original.

    At its own opset a case that this cannot hold any more is compared at the next one that can.
    """
    try:
        proto = to_proto(case.model, opset or case.opset or None)
    except UnsupportedError as error:
        found = re.search(r"use opset (\d+) or higher", error.do)
        if found is None:
            return Verdict(case.name, opset, "failed", why=one_line(error))
        if opset == OWN and (verdict := compared(case, opset, to_proto(case.model))).result == "failed":
            return verdict
        return Verdict(
            case.name, opset, "inexpressible", op=error.where.split()[0], why=general(error.why), needs=int(found[1])
        )
    except UsageError:  # the case comes in an opset that is not written: newer than the canonical one, or too old
        return compared(case, opset, to_proto(case.model))
    except Exception as error:
        return Verdict(case.name, opset, "failed", why=one_line(error))
    return compared(case, opset, proto)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]


def general(why: str) -> str:
    """A reason without the sizes and numbers of one case."""
    why = re.sub(r"=(\(.*?\)|\d+) does", " does", why)
    return re.sub(
        r"\b([a-z]+\d+\w*|bool|str)\[[^\]]*\]",
        r"\1",
        re.sub(r"axis \d+|num_outputs=\d+", lambda m: re.split(r"[ =]", m[0])[0], why),
    )


def compared(case: Case, opset: int, proto: onnx.ModelProto) -> Verdict:
    same_operators = opset in (OWN, case.opset)
    found = attempt(run_in_runtime, proto, case.inputs)
    if not isinstance(found, str):
        why = first_difference(case, found, (lambda: case.expected, lambda: case.by_runtime), exact=same_operators)
        if not why:
            return Verdict(case.name, opset, "same", "runtime")
        if not isinstance(case.by_runtime, str):
            return Verdict(case.name, opset, "failed", "runtime", why)
    elif same_operators and not isinstance(case.by_runtime, str):
        return Verdict(case.name, opset, "failed", "runtime", found[:LONGEST])
    again = attempt(run_in_reference, proto, case.inputs)
    if isinstance(again, str):
        judge = "nobody" if isinstance(case.by_reference, str) else "reference"
        return Verdict(case.name, opset, "failed", judge, again[:LONGEST])
    why = first_difference(case, again, (lambda: case.expected, lambda: case.by_reference), exact=same_operators)
    return Verdict(case.name, opset, "failed" if why else "same", "reference", why)


def first_difference(
    case: Case, found: Data, oracles: Iterable[Callable[[], Data | str | None]], *, exact: bool
) -> str:
    """Why the outputs are not those of any of the oracles, as the first one sees it; empty where they are."""
    reasons: list[str] = []
    for oracle in oracles:
        wanted = oracle()
        if wanted is None or isinstance(wanted, str):
            continue
        why = differences(case, wanted, found, exact=exact)
        if not why:
            return ""
        reasons.append(why)
    return reasons[0] if reasons else "there are no outputs to compare with"


# The committed lists


def exceptions() -> dict[tuple[str, str], str]:
    """Reasons by case and opset ("own", a number, or "*" for all)."""
    rows = (line.split(None, 2) for line in lines("exceptions.txt"))
    return {(case, opset): reason for opset, case, reason in rows}


def inexpressible() -> set[tuple[int, str, str]]:
    """What opsets cannot express: the lowest opset that can, the operator and what of it."""
    rows = (line.split(None, 2) for line in lines("inexpressible.txt"))
    return {(int(needs), op, why) for needs, op, why in rows}


def lines(name: str) -> list[str]:
    found = (line.strip() for line in (LISTS / name).read_text().splitlines())
    return [line for line in found if line and not line.startswith("#")]


def surprises(verdicts: Iterable[Verdict]) -> list[str]:
    """Where results and lists differ: a case fails and is not listed, or is listed and does not fail any more."""
    listed, known, found = exceptions(), inexpressible(), []
    for v in verdicts:
        opset = str(v.opset or "own")
        reason = listed.get((v.case, opset)) or listed.get((v.case, "*"))
        if v.result == "failed" and reason is None:
            found.append(f"{v.case} at opset {opset}: {v.why}")
        elif v.result == "same" and reason is not None:
            found.append(f"{v.case} at opset {opset} passes now: take it off exceptions.txt")
        elif v.result == "inexpressible" and (v.needs, v.op, v.why) not in known:
            found.append(f"{v.case} at opset {opset}: {v.op} needs opset {v.needs}, {v.why}")
    return found


# The command line


def row(index: int, opsets: Sequence[int]) -> list[Verdict]:
    """All opsets of one case; what was computed for it is forgotten afterwards."""
    case = _CASES[index]
    found = [judge(case, opset) for opset in opsets]
    for name in ("model", "by_runtime", "by_reference"):
        case.__dict__.pop(name, None)
    return found


_CASES: list[Case] = []
"""The cases, for the processes that are forked off."""


def matrix(chosen: Sequence[Case], opsets: Sequence[int], jobs: int) -> Iterator[list[Verdict]]:
    _CASES[:] = chosen
    if jobs == 1:
        yield from (row(i, opsets) for i in range(len(chosen)))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        yield from pool.map(row, range(len(chosen)), [list(opsets)] * len(chosen), chunksize=16)


def print_table(chosen: Sequence[Case], verdicts: Sequence[Verdict]) -> None:
    kinds = ", ".join(f"{n} {k}" for k, n in Counter(c.kind for c in chosen).items())
    print(f"{len(chosen)} cases: {kinds}\n")
    print(" opset   same  by ONNX Runtime  by reference  inexpressible  exceptions")
    for opset in sorted({v.opset for v in verdicts}):
        count = Counter((v.result, v.judge if v.result == "same" else "") for v in verdicts if v.opset == opset)
        by_runtime, by_reference = count["same", "runtime"], count["same", "reference"]
        print(f"{opset or 'own':>6} {by_runtime + by_reference:6} {by_runtime:16} {by_reference:13}"
              f" {count['inexpressible', '']:14} {count['failed', '']:11}")  # fmt: skip
    print("\nExceptions")
    reasons = exceptions()
    groups: dict[str, set[str]] = defaultdict(set)
    for v in verdicts:
        if v.result == "failed":
            known = reasons.get((v.case, str(v.opset or "own"))) or reasons.get((v.case, "*"))
            groups[known or f"NOT LISTED: {v.why}"].add(v.case)
    for reason, names in sorted(groups.items()):
        print(f"  {len(names):3}  {reason}: {', '.join(sorted(names))}")
    print("\nInexpressible: cases, the lowest opset that can, operator, what")
    held: dict[tuple[int, str, str], set[str]] = defaultdict(set)
    for v in verdicts:
        if v.result == "inexpressible":
            held[v.needs, v.op, v.why].add(v.case)
    for (needs, op, why), names in sorted(held.items()):
        print(f"  {len(names):3}  {needs}  {op}  {why}")


def main() -> int:
    parser = argparse.ArgumentParser(description="ONNX's own test cases through tersor")
    parser.add_argument("--opsets", default="all", help='"own", "all", or numbers with commas')
    parser.add_argument("--only", default="*", help="cases whose names match")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--data", help="not used: the cases come with the onnx package")
    parser.add_argument("--write", action="store_true", help="write the list of what opsets cannot express anew")
    given = parser.parse_args()
    opsets = {"own": [OWN], "all": [OWN, *OPSETS]}.get(given.opsets) or [int(v) for v in given.opsets.split(",")]
    start = time.perf_counter()
    chosen = [c for c in cases() if fnmatch.fnmatch(c.name, given.only)]
    verdicts: list[Verdict] = []
    for done, found in enumerate(matrix(chosen, opsets, given.jobs), 1):
        verdicts += found
        if done % 50 == 0 or done == len(chosen):
            print(f"\r{done} of {len(chosen)} cases, {time.perf_counter() - start:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    if given.write:
        held = sorted({(v.needs, v.op, v.why) for v in verdicts if v.result == "inexpressible"})
        text = "".join(f"{needs:2}  {op:28} {why}\n" for needs, op, why in held)
        (LISTS / "inexpressible.txt").write_text(HEAD + text)
    print_table(chosen, verdicts)
    wrong = surprises(verdicts)
    if given.opsets == "all" and given.only == "*":
        seen = {(v.needs, v.op, v.why) for v in verdicts}
        wrong += [f"inexpressible.txt lists what is expressible now: {k}" for k in sorted(inexpressible() - seen)]
    for line in wrong:
        print(f"NOT AS COMMITTED: {line}")
    print(f"\n{len(wrong)} differences from the committed lists, {time.perf_counter() - start:.0f} s")
    return 1 if wrong else 0


HEAD = """# What opsets cannot express: the lowest opset that can, the operator, and what of it.
# Written by `python benchmarks/conformance.py --write`.
"""

if __name__ == "__main__":
    sys.exit(main())
