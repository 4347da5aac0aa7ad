"""Rewriting tried on random graphs: python benchmarks/rewrite_fuzz.py [--minutes N] [--seed N] [--rules PATTERN...]

Random typed graphs of tests/safety, half of them grown from chains that rules look for, go through every rule by itself
and through the whole pass; what comes out must compute what ONNX Runtime computes of the original without optimizing.
Each kind of failure is shrunk and printed once, with the graph as text and where it is kept; the last lines say how
often each rule fired and which never did. The exit code is 1 when something failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from tersor.backends.runners import synthesize
from tersor.ir import Model, TersorError, to_text
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.simplify import RULES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "safety"))
from graphs import GROW, models  # pyright: ignore[reportMissingImports]
from motifs import MOTIFS  # pyright: ignore[reportMissingImports]
from properties import check_rules, check_same, computed, simplified  # pyright: ignore[reportMissingImports]

WHOLE = "the whole pass"
AT_ONCE = 100
"""Graphs that hypothesis draws in one run; each run has a seed of its own."""

BOTH = (*GROW, *MOTIFS)


class Failure(AssertionError):
    """What is wrong with a graph; `kind` names the rule, or the whole pass."""

    def __init__(self, kind: str, model: Model, error: Exception) -> None:
        super().__init__(f"{kind}: {type(error).__name__}: {error}")
        self.kind, self.model, self.error = kind, model, error


class Fuzz:
    """Counts over all graphs, and the kinds of failures that are known already: others are looked for behind them."""

    def __init__(self, rules: list[Rewriter]) -> None:
        self.rules = rules
        self.graphs, self.known = 0, set[str]()
        self.fired: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()

    def check(self, model: Model) -> None:
        """Raises Failure for the first new kind of failure."""
        feeds = synthesize(model.graph, count=2, seed=1)
        try:
            wanted = computed(model, feeds)
        except TersorError:
            return  # ONNX Runtime does not run the original
        self.graphs += 1
        try:
            for rule, fired in check_rules([r for r in self.rules if r.rules[0].name not in self.known], model, feeds):
                self.fired[rule.name] += fired
        except Exception as error:
            raise Failure(error.__notes__[-1], model, error) from error
        if WHOLE not in self.known:
            try:
                check_same(wanted, computed(simplified(model), feeds))
            except Exception as error:
                raise Failure(WHOLE, model, error) from error

    def run(self, seed: int) -> None:
        """One run of hypothesis; a failure is shrunk, reported and known from then on."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=AT_ONCE,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            report_multiple_bugs=False,
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(st.one_of(models(most=6), models(most=3, growers=MOTIFS), models(most=5, growers=BOTH)))
        def check(model: Model) -> None:
            self.check(model)

        try:
            check()
        except Failure as failure:
            self.report(failure)
        except Exception as error:  # the generator itself, or a graph that cannot be made
            kind = f"{type(error).__name__}: {str(error)[:200]}"
            if kind not in self.broken:
                traceback.print_exc()
            self.broken[kind] += 1

    def report(self, failure: Failure) -> None:
        self.known.add(failure.kind)
        self.broken[failure.kind] += 1
        kept = Path(tempfile.gettempdir()) / f"tersor-rewrite-{failure.kind.replace(' ', '-')}.txt"
        kept.write_text(to_text(failure.model.graph))
        print(f"\n{failure}\n  kept as {kept}\n{to_text(failure.model.graph)}", flush=True)
        if not isinstance(failure.error, AssertionError):
            traceback.print_exception(failure.error, limit=-3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="+", default=["*"], metavar="PATTERN", help="rules to try by themselves")
    arguments = parser.parse_args()
    rules = [Rewriter([rule]) for rule in RULES["deploy"] if any(fnmatch(rule.name, p) for p in arguments.rules)]
    fuzz, end = Fuzz(rules), time.monotonic() + 60 * arguments.minutes
    seed = arguments.seed
    while time.monotonic() < end:
        fuzz.run(seed)
        seed += 1
    print("fired: " + ", ".join(f"{name} {count}" for name, count in fuzz.fired.most_common() if count))
    print("never fired: " + ", ".join(name for r in rules if not fuzz.fired[name := r.rules[0].name]))
    print(f"{fuzz.graphs} graphs, {fuzz.fired.total()} firings of single rules, {len(fuzz.broken)} kinds of failures")
    return 1 if fuzz.broken else 0


if __name__ == "__main__":
    sys.exit(main())
