"""PyTorch source from ONNX files: python benchmarks/emission.py FILE_OR_FOLDER... [--limit BYTES] [--keep FOLDER]

Every file that loads is simplified at level "train" and emitted; the emitted file is imported, run and compared with
ONNX Runtime before it counts. Prints a line per file (what became of it, lines of code, the largest relative error),
then the shares emitted and equal and the operators that were refused.

--node-cases takes the cases that the onnx package has for single operators instead, as they are, and compares with the
outputs that their authors expect. --only PATTERN... chooses among them; cases that are equal get no line.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from tersor.backends.torch import emit
from tersor.backends.torch.emit import to_runner
from tersor.frontends.onnx import load
from tersor.ir import ParityError, TersorError, UnsupportedError
from tersor.transforms.base import Context
from tersor.transforms.manager import run_passes
from tersor.transforms.simplify import Simplify


@dataclass(frozen=True)
class Outcome:
    """What became of one file; `operator` is the one that was refused."""

    kind: str
    detail: str
    lines: int = 0
    operator: str = ""


def tried(path: Path, folder: Path) -> Outcome:
    """One file through load, simplify and emit."""
    try:
        model = load(path)
        run_passes(model, [Simplify(level="train")], Context())
    except TersorError as error:
        return Outcome("not loaded", error.what)
    except Exception as error:
        return Outcome("crashed", f"{type(error).__name__}: {error}"[:120])
    try:
        made = emit(model, folder)
    except Exception as error:
        return failed(error)
    lines = len(made.files[0].read_text("ascii").splitlines())
    return Outcome("equal", f"{made.difference.max_error:.1e}" if made.difference else "", lines)


def failed(error: Exception) -> Outcome:
    """What an error of emission means."""
    match error:
        case UnsupportedError():
            found = re.match(r"(\S+) cannot be emitted", error.what)
            return Outcome("refused", f"{error.what}: {error.why}", operator=found.group(1) if found else error.what)
        case ParityError():
            return Outcome("differs", f"{error.where}: {error.why}")
        case TersorError():
            return Outcome("not run", f"{error.what}: {error.why}"[:300])
        case _:
            return Outcome("crashed", f"{type(error).__name__}: {error}"[:120])


def node_cases(patterns: list[str]) -> Iterator[tuple[str, Outcome]]:
    """The onnx package's cases for single operators, each with what became of it."""
    import conformance

    for place, case in enumerate(conformance.cases(["node"])):
        if any(fnmatch(case.name, pattern) for pattern in patterns):
            if place % 100 == 0:
                print(f"case {place}", file=sys.stderr, flush=True)
            yield case.name, tried_case(conformance, case)


def tried_case(conformance: Any, case: Any) -> Outcome:
    try:
        model = case.model
    except TersorError as error:
        return Outcome("not loaded", error.what)
    try:
        runner = to_runner(model)
        found = runner.run({n: np.asarray(v) for n, v in conformance.feeds_of(case.proto, case.inputs).items()})
    except Exception as error:
        return failed(error)
    results = [found[name] for name in model.graph.output_names]
    why = conformance.differences(case, case.expected, results, exact=False)
    return Outcome("differs", why) if why else Outcome("equal", "")


def files(options: argparse.Namespace) -> Iterator[tuple[str, Outcome]]:
    """The files in the places given, each with what became of it."""
    found = [f for place in options.places for f in (sorted(place.rglob("*.onnx")) if place.is_dir() else [place])]
    with tempfile.TemporaryDirectory() as scratch:
        for path in (f for f in found if f.stat().st_size <= options.limit):
            yield path.stem, tried(path, Path(options.keep or scratch) / path.stem)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", type=Path)
    parser.add_argument("--limit", type=int, default=1 << 30, help="leave out larger files")
    parser.add_argument("--keep", type=Path, help="write the emitted folders here")
    parser.add_argument("--node-cases", action="store_true", help="the onnx package's cases instead of files")
    parser.add_argument("--only", nargs="*", default=["*"], metavar="PATTERN", help="patterns of cases' names")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes: list[Outcome] = []
    for name, found in node_cases(options.only) if options.node_cases else files(options):
        outcomes.append(found)
        if found.kind != "equal" or not options.node_cases:
            print(f"{name:48} {found.kind:10} {found.lines or '':>5} {found.detail}", flush=True)
    kinds = Counter(o.kind for o in outcomes)
    loaded = len(outcomes) - kinds["not loaded"]
    print(f"\n{loaded} of {len(outcomes)} models load; of these:")
    for kind in ("equal", "refused", "differs", "not run", "crashed"):
        print(f"  {kind:10} {kinds[kind]:5} {100 * kinds[kind] / max(loaded, 1):5.1f} %")
    lines = [o.lines for o in outcomes if o.lines]
    if lines:
        print(f"lines of code, median: {statistics.median(lines)}")
    print("refused operators:", dict(Counter(o.operator for o in outcomes if o.operator).most_common()))
    return 1 if kinds["differs"] or kinds["crashed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
