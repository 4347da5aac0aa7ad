"""A pass that runs rewrite rules: what a rule of one's own, or of a plug-in, becomes to be run by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from ..ir import Model
from ..ir.inference import infer
from ..ir.rewrite import Rewriter, Rule
from .base import Context, Contract, Outcome, Pass


@dataclass(frozen=True)
class RulePass(Pass):
    """Runs its rules until none of them fires. Subclasses set `name` and `rules`, and nothing else."""

    contract: ClassVar[Contract] = "exact"
    rules: ClassVar[tuple[Rule, ...]] = ()

    def run(self, model: Model, context: Context) -> Outcome:
        inference = infer(model.graph, context.fallback)
        found = Rewriter(self.rules).run(
            model.graph, infer=inference.node, sizes=inference.contents_of, fuel=context.fuel
        )
        outcome = Outcome(changed=found.fired, rules=found.statistics)
        if found.exhausted:
            outcome.warnings.append(
                ("TSR101", f"rewriting stopped early; the busiest rules were {found.busiest()}", "")
            )
        return outcome


@cache
def pass_of(name: str, rules: tuple[Rule, ...]) -> type[Pass]:
    """The pass called `name` that runs the rules."""
    doc = "; ".join(each.doc.splitlines()[0] if each.doc else each.name for each in rules)
    return type(name, (RulePass,), {"name": name, "rules": rules, "__doc__": doc})
