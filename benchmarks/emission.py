"""PyTorch source from ONNX files: python benchmarks/emission.py FILE_OR_FOLDER... [--limit BYTES] [--keep FOLDER]

Every file that loads is simplified at level "train" and emitted; the emitted file is imported, run and compared with
ONNX Runtime before it counts. Prints a line per file (what became of it, lines of code, the largest relative error),
then the shares emitted and equal and the operators that were refused.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tersor.backends.torch import emit
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
    except UnsupportedError as error:
        found = re.match(r"(\S+) cannot be emitted", error.what)
        return Outcome("refused", f"{error.what}: {error.why}", operator=found.group(1) if found else error.what)
    except ParityError as error:
        return Outcome("differs", f"{error.where}: {error.why}")
    except TersorError as error:
        return Outcome("not run", error.what)
    except Exception as error:
        return Outcome("crashed", f"{type(error).__name__}: {error}"[:120])
    lines = len(made.files[0].read_text("ascii").splitlines())
    return Outcome("equal", f"{made.difference.max_error:.1e}" if made.difference else "", lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=1 << 30, help="leave out larger files")
    parser.add_argument("--keep", type=Path, help="write the emitted folders here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = [f for place in options.places for f in (sorted(place.rglob("*.onnx")) if place.is_dir() else [place])]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in (f for f in files if f.stat().st_size <= options.limit):
            folder = Path(options.keep or scratch) / path.stem
            outcomes.append(tried(path, folder))
            found = outcomes[-1]
            print(f"{path.stem:48} {found.kind:10} {found.lines or '':>5} {found.detail}", flush=True)
    kinds = Counter(o.kind for o in outcomes)
    loaded = len(outcomes) - kinds["not loaded"]
    print(f"\n{loaded} of {len(outcomes)} files load; of these:")
    for kind in ("equal", "refused", "differs", "not run", "crashed"):
        print(f"  {kind:10} {kinds[kind]:5} {100 * kinds[kind] / max(loaded, 1):5.1f} %")
    print(f"lines of code, median: {statistics.median([o.lines for o in outcomes if o.lines] or [0])}")
    print("refused operators:", dict(Counter(o.operator for o in outcomes if o.operator).most_common()))
    return 1 if kinds["differs"] or kinds["crashed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
