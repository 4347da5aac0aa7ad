"""Rewriting tried on random graphs: python benchmarks/rewrite_fuzz.py [--minutes N] [--seed N] [--rules PATTERN...]

Random typed graphs of tests/safety, most of them grown from chains that rules look for, and random instances of each
rule's own pattern with symbolic sizes, shared interiors and interior outputs, go through every rule by itself and
through the whole pass; what comes out must compute what ONNX Runtime computes of the original without optimizing.
Each kind of failure is shrunk and printed once, with the graph as text and where it is kept; `--report FILE` writes a
table of how often each rule fired by itself and within the pass. The exit code is 1 when something failed, or when
`--reach N` is given and fewer than N rules fired.
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
import numpy as np
from hypothesis import strategies as st
from tersor.backends.runners import Feeds, synthesize
from tersor.ir import DType, Model, TersorError, to_text, verify
from tersor.ir.rewrite import Rewriter, Rule
from tersor.testing.instances import instance
from tersor.testing.variants import variants
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify
from tersor.transforms.simplify.simplify import RULES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "safety"))
from graphs import GROW, models  # pyright: ignore[reportMissingImports]
from motifs import MOTIFS  # pyright: ignore[reportMissingImports]
from moved import MOVED  # pyright: ignore[reportMissingImports]
from properties import LONG, check_rules, check_same, computed  # pyright: ignore[reportMissingImports]
from written import WRITTEN  # pyright: ignore[reportMissingImports]

WHOLE = "the whole pass"
AT_ONCE = 40
"""Graphs that hypothesis draws in one run; each run has a seed of its own."""

IN_TURN = 8
"""Kinds of chains that graphs of one run are grown from alone; the next run takes the next ones."""

CHAINS = (*MOTIFS, *WRITTEN, *MOVED)
BOTH = (*GROW, *CHAINS)
DTYPES = (DType.F32,) * 7 + (DType.I64, DType.F64, DType.I32)


class Failure(AssertionError):
    """What is wrong with a graph; `kind` names the rule, or the whole pass."""

    def __init__(self, kind: str, model: Model, error: Exception) -> None:
        super().__init__(f"{kind}: {type(error).__name__}: {error}")
        self.kind, self.model, self.error = kind, model, error


def may_trap(model: Model) -> bool:
    """True where integers are divided by computed ones: ONNX Runtime ends the process when one of them is zero."""
    return any(
        node.op in ("Div", "Mod") and not node.operand(0).is_float and not node.operand(1).is_const
        for node in model.graph.walk()
    )


class Fuzz:
    """Counts over all graphs, and the kinds of failures that are known already: others are looked for behind them."""

    def __init__(self, rules: list[Rewriter]) -> None:
        self.rules = rules
        self.graphs, self.known = 0, set[str]()
        self.fired: Counter[str] = Counter()
        self.within: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()

    def check(self, model: Model, feeds: list[Feeds] | None = None) -> None:
        """Raises Failure for the first new kind of failure."""
        feeds = synthesize(model.graph, count=2, seed=1) if feeds is None else feeds
        if may_trap(model):
            return
        try:
            wanted = computed(model, feeds)
        except (TersorError, ValueError):
            return  # the original does not run
        self.graphs += 1
        try:
            for rule, fired in check_rules([r for r in self.rules if r.rules[0].name not in self.known], model, feeds):
                self.fired[rule.name] += fired
        except Exception as error:
            raise Failure(error.__notes__[-1], model, error) from error
        if WHOLE not in self.known:
            try:
                check_same(wanted, computed(self.simplified(model), feeds))
            except Exception as error:
                raise Failure(WHOLE, model, error) from error

    def simplified(self, model: Model) -> Model:
        copy = model.clone()
        outcome = Simplify().run(copy, Context())
        assert not outcome.warnings, outcome.warnings
        verify(copy.graph, after="simplify")
        self.within.update({name: row.hits for name, row in outcome.rules.items()})
        return copy

    def draw(self, seed: int) -> None:
        """One run of hypothesis; a failure is shrunk, reported and known from then on."""
        turn = [CHAINS[(seed * IN_TURN + i) % len(CHAINS)] for i in range(IN_TURN)]

        @hypothesis.seed(seed)
        @hypothesis.settings(LONG, max_examples=AT_ONCE)
        @hypothesis.given(
            st.one_of(
                models(most=6),
                models(most=1, growers=turn),
                models(most=3, growers=CHAINS),
                models(most=1, growers=turn),
                models(most=5, growers=BOTH),
            )
        )
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

    def instances(self, rule: Rule, seed: int) -> None:
        """Two forms of one instance of a rule's pattern, for this rule and all others: as it is, and another one."""
        made, random = (
            instance(rule, (seed,), DTYPES[seed % len(DTYPES)]),
            np.random.default_rng([seed, len(rule.name)]),
        )
        forms = list(variants(made.graph, made.spans, random, frozenset())) if made else []
        for place in {0, int(random.integers(len(forms)))} if forms else ():
            form = forms[place]
            try:
                self.check(Model(form.graph, {"": 26}), form.feeds)
            except Failure as failure:
                self.report(failure)

    def report(self, failure: Failure) -> None:
        self.known.add(failure.kind)
        self.broken[failure.kind] += 1
        kept = Path(tempfile.gettempdir()) / f"tersor-rewrite-{failure.kind.replace(' ', '-')}.txt"
        kept.write_text(to_text(failure.model.graph))
        print(f"\n{failure}\n  kept as {kept}\n{to_text(failure.model.graph)}", flush=True)
        if not isinstance(failure.error, AssertionError):
            traceback.print_exception(failure.error, limit=-3)

    @property
    def never(self) -> list[str]:
        """Rules that fired on no graph."""
        return [name for r in self.rules if not self.fired[name := r.rules[0].name] and not self.within[name]]

    def summary(self) -> str:
        reached, alone = len(self.rules) - len(self.never), sum(count > 0 for count in self.fired.values())
        return (
            f"{self.graphs} graphs, {self.fired.total()} firings of single rules and {self.within.total()} within the "
            f"pass, {reached} of {len(self.rules)} rules fired ({alone} by themselves), "
            f"{len(self.broken)} kinds of failures"
        )

    def table(self) -> str:
        """All rules with how often they fired, as Markdown."""
        rows = sorted((r.rules[0].name for r in self.rules), key=lambda n: (-self.fired[n], -self.within[n]))
        lines = [f"| {n} | {self.fired[n]} | {self.within[n]} | {self.broken[n] or ''} |" for n in rows]
        head = ["| rule | by itself | within the pass | failures |", "| --- | ---: | ---: | ---: |"]
        return "\n".join([self.summary(), "", *head, *lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", nargs="+", default=["*"], metavar="PATTERN", help="rules to try by themselves")
    parser.add_argument("--reach", type=int, default=0, metavar="N", help="fail where fewer than N rules fired")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a table of all rules there")
    arguments = parser.parse_args()
    chosen = [rule for rule in RULES["deploy"] if any(fnmatch(rule.name, p) for p in arguments.rules)]
    fuzz, start = Fuzz([Rewriter([rule]) for rule in chosen]), time.monotonic()
    end, seed, place = start + 60 * arguments.minutes, arguments.seed, 0
    while time.monotonic() < end:
        fuzz.draw(seed)
        turn = time.monotonic() + min(30.0, end - time.monotonic()) / 3
        while time.monotonic() < turn:
            fuzz.instances(chosen[place % len(chosen)], arguments.seed + place // len(chosen))
            place += 1
        seed += 1
        print(f"{time.monotonic() - start:.0f} s: {fuzz.summary()}", file=sys.stderr)
    print("never fired: " + (", ".join(fuzz.never) or "none"))
    print(fuzz.summary())
    if arguments.report:
        arguments.report.write_text(fuzz.table())
    return 1 if fuzz.broken or len(chosen) - len(fuzz.never) < arguments.reach else 0


if __name__ == "__main__":
    sys.exit(main())
