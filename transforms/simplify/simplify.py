"""The pass `simplify`: everything exact that makes a graph smaller, repeated until nothing changes."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from ...ir import Model, UsageError
from ...ir.inference import Inference
from ...ir.rewrite import Rewriter, Rule, RuleStatistics
from ..base import Context, Contract, Outcome, Pass
from . import algebra, folding, raising, structure
from .folding import BUDGET, Room, fold_constants, rebuild_sizes
from .structure import erase_dead, merge_common
from .trained import any_numbers

ROUNDS = 8
SHAPE_OF_PARTS = 15
"""The opset from which on a Shape may give a part of the axes."""

RULES: dict[str, tuple[Rule, ...]] = {
    "train": (*folding.RULES, *structure.RULES, *raising.RULES),
    "deploy": (*folding.RULES, *structure.RULES, *structure.DEPLOY_RULES, *raising.RULES, *algebra.RULES),
}
"""Rules by level: "train" keeps every parameter apart and named as in the source, "deploy" folds what inference does
not need.
"""

PROMISES: dict[str, tuple[Rule, ...]] = raising.PROMISED
"""Rules that are exact only where a promise about the model's inputs holds, by the promise's name."""


@dataclass(frozen=True)
class Simplify(Pass):
    """Folds constants and shapes, merges and erases nodes, applies the rules of `level`.

    `budget` is the number of bytes that a folded constant may have where its operands are smaller than that. `assume`
    names promises about the inputs (separated by commas, or a tuple) that let more rules apply: see PROMISES.
    """

    name: ClassVar[str] = "simplify"
    contract: ClassVar[Contract] = "exact"

    level: Literal["deploy", "train"] = "deploy"
    budget: int = BUDGET
    assume: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in RULES:
            raise UsageError(f"simplify has no level {self.level!r}", do=f"the levels are {', '.join(RULES)}")
        if self.budget < 0:
            raise UsageError(f"simplify(budget={self.budget}) is negative", do="give a number of bytes")
        for name in self.promises:
            if name not in PROMISES:
                raise UsageError(f"nothing depends on a promise {name!r}", do=f"the promises are {', '.join(PROMISES)}")

    @property
    def promises(self) -> tuple[str, ...]:
        """The names in `assume`."""
        names = self.assume.split(",") if isinstance(self.assume, str) else self.assume
        return tuple(name.strip() for name in names if name.strip())

    @property
    def chosen(self) -> tuple[Rule, ...]:
        """The rules that are applied; rules that rest on a promise come first, since others could take their place."""
        promised = [rule for name in self.promises for rule in PROMISES[name]]
        return (*promised, *RULES[self.level])

    def run(self, model: Model, context: Context) -> Outcome:
        if self.level == "deploy":
            return self.simplified(model, context, frozenset())
        with any_numbers(model) as keep:
            return self.simplified(model, context, keep)

    def simplified(self, model: Model, context: Context, keep: Set[int]) -> Outcome:
        """The pass itself; tensors whose identities are in `keep` are not computed with."""
        graph, outcome = model.graph, Outcome()
        rewriter = Rewriter(self.chosen)
        totals: dict[str, RuleStatistics] = {r.name: RuleStatistics() for r in rewriter.rules}
        sweeps: dict[str, RuleStatistics] = {}
        sweep, allow = partial(context.fuel.sweep, rows=sweeps), context.fuel.change
        has_parts = model.source_opset == 0 or model.source_opset >= SHAPE_OF_PARTS
        inference, room = Inference(graph, context.fallback), Room(graph)
        settled = False
        for _ in range(ROUNDS):
            known = inference.changes
            inference.run()
            changed = sweep(
                "fold_constants", lambda: fold_constants(graph, inference, self.budget, room, keep, allow=allow)
            )
            changed += sweep("erase_dead", lambda: erase_dead(graph, allow=allow))
            if settled and not changed and inference.changes == known:
                break  # nothing happened since the rules had nothing more to do
            result = rewriter.run(
                graph, infer=inference.node, sizes=inference.contents_of, fuel=context.fuel, keep=keep
            )
            after = sweep("merge_common", lambda: merge_common(graph, keep, allow=allow))
            after += sweep("rebuild_sizes", lambda: rebuild_sizes(graph, inference, parts=has_parts, allow=allow))
            after += sweep("erase_dead", lambda: erase_dead(graph, allow=allow))
            settled = not after
            for name, statistics in result.statistics.items():
                totals[name].add(statistics)
            if result.exhausted:
                outcome.warnings.append(
                    ("TSR101", f"rewriting stopped early; the busiest rules were {result.busiest()}", "")
                )
                break
            if settled and not changed and not result.fired:
                break
        outcome.rules = {**sweeps, **totals}
        outcome.changed = sum(row.hits for row in outcome.rules.values())
        return outcome
