"""Random networks through every pass that makes them smaller: python benchmarks/network_fuzz.py [--minutes N]

Grows networks (tests/safety/networks.py), prunes, quantizes and stores them in every way of `SMALLER`
(tests/safety/properties.py), and checks that they run, keep their interface and compute what the pass promises. A
network that breaks something is shrunk, printed and kept; others are looked for behind it. The exit code is 1 when
something broke.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from tersor.ir import Model, TersorError, to_text

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "safety"))
from networks import networks
from properties import LONG, SMALLER, check_smaller

AT_ONCE = 25
"""Networks between two looks at the clock."""


class Broken(Exception):
    """What a pass did to a network."""

    def __init__(self, kind: str, model: Model, error: Exception) -> None:
        super().__init__(kind)
        self.kind, self.model, self.error = kind, model, error


class Fuzz:
    """Counts by pass, and the kinds of failures that are known already."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()

    def check(self, model: Model, name: str) -> None:
        """Raises Broken for the first new kind of failure."""
        try:
            self.held[name] += check_smaller(model, name)
        except Exception as error:
            told = str(error).split(":")[0] if isinstance(error, (AssertionError, TersorError)) else str(error)
            kind = f"{name}: {type(error).__name__} {told[:60]}"
            if self.broken[kind]:
                self.broken[kind] += 1
                return
            raise Broken(kind, model, error) from error

    def draw(self, seed: int, layers: int) -> None:
        """One run of hypothesis; a failure is shrunk, reported and known from then on."""

        @hypothesis.seed(seed)
        @hypothesis.settings(LONG, max_examples=AT_ONCE)
        @hypothesis.given(networks(most=layers), st.sampled_from(list(SMALLER)))
        def holds(model: Model, name: str) -> None:
            self.check(model, name)

        try:
            holds()
        except Broken as broken:
            self.report(broken)

    def report(self, broken: Broken) -> None:
        self.broken[broken.kind] += 1
        kept = Path(tempfile.gettempdir()) / f"tersor-network-{len(self.broken)}.txt"
        kept.write_text(to_text(broken.model.graph))
        print(f"\n{broken.kind}\n  kept as {kept}\n{to_text(broken.model.graph)}", flush=True)
        traceback.print_exception(broken.error, limit=-3)

    def __str__(self) -> str:
        passes = ", ".join(f"{name} {count}" for name, count in sorted(self.held.items()))
        return f"{self.held.total()} networks kept what was promised ({passes}); {len(self.broken)} kinds of failures"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=10, help="the most layers of a network (default: 10)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    fuzz, start, seed = Fuzz(), time.monotonic(), arguments.seed
    while time.monotonic() - start < 60 * arguments.minutes:
        fuzz.draw(seed, arguments.layers)
        seed += 1
        print(f"{time.monotonic() - start:.0f} s: {fuzz}", file=sys.stderr)
    print(fuzz)
    return 1 if fuzz.broken else 0


if __name__ == "__main__":
    sys.exit(main())
