"""The pass `prune`: removes channels from trained networks without being told where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...ir import Array, Model, UsageError, Value
from ..base import Context, Contract, Decision, Outcome, Pass
from ..select import Selection
from .allocate import Choice, Market
from .analysis import analyse, has_choice
from .axes import AxisMap, Heads, Layer
from .budgets import RESOURCES, SLACK, Budget, Case, keep_to
from .choose import Limits, choose
from .compensate import COMPENSATION, affected
from .gradients import curvature
from .groups import Slot, families, slots
from .importance import IMPORTANCE, Evidence
from .kept import Kept
from .oracle import check
from .prepare import prepare
from .proof import feeds, proved, say_compensated
from .readers import Reader
from .readers import readers as readers_of
from .statistics import Calibration, Moments, Watch
from .surgery import masked, operate, touched

Scope = Literal["auto", "local", "global", "optimal"]
SCOPES = ("auto", "local", "global", "optimal")
NORMS = ("strict", "semantic")
HEADS = ("auto", "heads", "dims")
Norms = Literal["strict", "semantic"]
FEW = 3
"""Layers that a message names."""
ONE = "all of it is one group"


@dataclass(frozen=True)
class Prune(Pass):
    """Structured pruning of coupled channel groups, checked by the mask oracle.

    The result computes what the original computes with the removed channels masked; that is proved first. `compensate`
    then changes what is left from calibration data, by a row of `COMPENSATION`: "auto" is least squares where there is
    data and nothing elsewhere, None is nothing. `ridge` holds least squares back, as a share of what is read squared.
    The result then is an approximation of the original, better than the masked one.

    `ratio` is the share of groups that go: of each family of interchangeable groups (scope "local"), or of all groups
    ranked together ("global"). Instead of it `flops`, `parameters` or `latency` may say what share stays: the ratio
    then follows ("local", "global"), or ("optimal", the default then) each family loses what costs the outputs least,
    as measured on calibration data, for what it saves. What cannot be kept is kept to as far as possible; the outcome's
    `missed` says so. `importance` names a criterion of `IMPORTANCE`. At least `1 - max_ratio` of each family
    stays, and a multiple of `multiple_of` groups where there are that many. Where `norms` is "semantic", channels also
    go over which normalisations and means take statistics, and the masked original takes these over the channels that
    stay; where it is "strict", such channels stay. `heads` says whether attention loses whole "heads" or the same
    "dims" of every head; "auto" takes what leaves more to choose from. Only layers that match `only` and not
    `skip` lose channels of their own.
    """

    name: ClassVar[str] = "prune"
    contract: ClassVar[Contract] = "masked"

    ratio: float = 0.5
    importance: str = "l2"
    scope: Scope = "auto"
    flops: float | None = None
    parameters: float | None = None
    latency: float | None = None
    multiple_of: int = 1
    max_ratio: float = 0.9
    norms: Norms = "strict"
    heads: Heads = "auto"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    compensate: str | None = "auto"
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if self.importance not in IMPORTANCE:
            raise UsageError(f"prune has no importance {self.importance!r}", do=f"there are {', '.join(IMPORTANCE)}")
        if self.scope not in SCOPES:
            raise UsageError(f"prune has no scope {self.scope!r}", do=f"there are {', '.join(SCOPES)}")
        if self.norms not in NORMS:
            raise UsageError(f"prune has no norms {self.norms!r}", do=f"there are {', '.join(NORMS)}")
        if self.heads not in HEADS:
            raise UsageError(f"prune has no heads {self.heads!r}", do=f"there are {', '.join(HEADS)}")
        budgets = {name: getattr(self, name) for name in RESOURCES if getattr(self, name) is not None}
        if len(budgets) > 1:
            raise UsageError(f"prune has {len(budgets)} budgets: {', '.join(budgets)}", do="give one of them")
        for name, share in budgets.items():
            if not 0 < share <= 1:
                raise UsageError(f"prune({name}={share}) is out of range", do="give the share that stays, such as 0.7")
        if self.scope == "optimal" and not budgets:
            raise UsageError(
                "prune(scope='optimal') has nothing to keep to", do=f"give a share of {', '.join(RESOURCES)} that stays"
            )
        if not 0 <= self.ratio < 1 or not 0 <= self.max_ratio < 1:
            raise UsageError(
                f"prune(ratio={self.ratio}, max_ratio={self.max_ratio}) is out of range",
                do="give shares from 0 up to, not including, 1",
            )
        if self.compensate not in (None, "auto", *COMPENSATION):
            raise UsageError(
                f"prune has no compensation {self.compensate!r}", do=f"there are auto, None, {', '.join(COMPENSATION)}"
            )
        if not 0 <= self.ridge < math.inf:
            raise UsageError(f"prune(ridge={self.ridge}) is out of range", do="give a share from 0 on, such as 0.001")
        if self.multiple_of < 1:
            raise UsageError(
                f"prune(multiple_of={self.multiple_of}) is out of range", do="give a number of channels from 1 on"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises ParityError when the pruned graph does not compute what the masked original does, and UsageError where
        calibration data is missing, empty or unfit, or no attention can lose the `heads` that were asked for.
        """
        data, method = self.calibration(context), self.method(context)
        original, selection = model.clone(), Selection(model.graph, self.only, self.skip)
        prepare(model.graph, context.fallback)
        dense = model.clone()
        axes = analyse(model.graph, selection, self.norms == "semantic", self.heads)
        self.require_heads(axes)
        found = slots(axes)
        context.progress("ranking channels", 0, None)
        evidence = self.evidence(model, axes, found, data, context.seed)
        limits = Limits(self.ratio, "global" if self.scope == "global" else "local", self.multiple_of, self.max_ratio)
        scores = IMPORTANCE[self.importance].score(evidence)
        market = Market(axes, families(found), found, scores, limits)
        case = Case(model, market, evidence, context, lambda: self.analysed(dense, selection), feeds(original, context))
        choice = self.choose(case)
        kept = Kept(axes, choice.dead)
        decisions = [decide(layer, kept, limits) for layer in axes.layers]
        if not any(touched(node, kept) for node in model.graph):
            model.restore(original)
            return Outcome(decisions=decisions, notes=["no channel was removed"], missed=self.missed(choice, decisions))
        reference, weaker = masked(model, kept), affected(model, dense, kept)
        operate(model.graph, kept)
        context.progress("comparing with the masked original", 0, None)
        comparison = check(original, reference, model, kept, feeds(original, context))
        outcome = proved(original, reference, model, comparison)
        outcome.changed = sum(d.decision != "kept" for d in decisions)
        outcome.decisions, outcome.missed = decisions, self.missed(choice, decisions)
        if method is not None and data is not None:
            count = COMPENSATION[method](weaker, model, dense, data, self.ridge)
            say_compensated(outcome, method, count)
        return outcome

    def missed(self, choice: Choice, decisions: Sequence[Decision]) -> list[str]:
        """Why the best effort does not reach the budget, or nothing went; empty where it does."""
        budget, kept = self.budget(), [d for d in decisions if not d.decision.startswith("pruned")]
        if len(kept) == len(decisions) and (self.ratio if budget is None else budget.share < 1):
            first = (
                "; ".join(f"{d.layer}: {d.reason}" for d in kept[:FEW])
                or "the network has no layer that makes channels"
            )
            more = f"; and {len(kept) - FEW} more" if len(kept) > FEW else ""
            return [f"no channel was removed: {first}{more}"]
        if budget is None or choice.left <= budget.share * (1 + SLACK):
            return []
        return [
            f"{budget.resource}={budget.share:g} was not reached: {choice.left:.3f} is left with "
            f"max_ratio={self.max_ratio:g}, multiple_of={self.multiple_of} and {len(kept)} of {len(decisions)} layers "
            "that keep their channels"
        ]

    def method(self, context: Context) -> str | None:
        """The row of COMPENSATION that is used."""
        if self.compensate == "auto":
            return "least-squares" if context.samples is not None else None
        return self.compensate

    def calibration(self, context: Context) -> Calibration | None:
        """The samples, where there are any. Raises UsageError where an option needs them and there are none."""
        if context.samples is not None:
            return Calibration(context.samples, context.progress, context.seed)
        criterion = IMPORTANCE[self.importance].needs_data and f"importance={self.importance!r}"
        wants = criterion or (self.compensate not in (None, "auto") and f"compensate={self.compensate!r}")
        if wants:
            raise UsageError(
                f"prune({wants}) needs calibration data",
                why="what layers read is measured on real inputs",
                do="give some with data=... (--data on the command line), or leave the option out",
            )
        return None

    def evidence(self, model: Model, axes: AxisMap, found: list[Slot], data: Calibration | None, seed: int) -> Evidence:
        """What the criterion looks at; the moments also where damage is to be measured."""
        moments, squares = dict[Reader, Moments](), dict[Value, Array]()
        criterion = IMPORTANCE[self.importance]
        reads = criterion.needs_data and not criterion.needs_gradients
        if data is not None and (reads or self.method_of_choice() == "optimal"):
            readers = readers_of(found)
            measured = data.moments(model, [Watch(r.node, r.node.output) for r in readers])
            moments = dict(zip(readers, measured, strict=True))
        if data is not None and criterion.needs_gradients:
            squares = curvature(model, data)
        return Evidence(found, axes.atoms.count, moments, seed, squares)

    def budget(self) -> Budget | None:
        return next((Budget(r, share) for r in RESOURCES if (share := getattr(self, r)) is not None), None)

    def method_of_choice(self) -> str:
        """The scope that is used."""
        return self.scope if self.scope != "auto" else "local" if self.budget() is None else "optimal"

    def analysed(self, model: Model, selection: Selection) -> tuple[Model, AxisMap]:
        """A copy of a prepared model, with its axes."""
        copy = model.clone()
        return copy, analyse(copy.graph, selection, self.norms == "semantic", self.heads)

    def require_heads(self, axes: AxisMap) -> None:
        """Raises UsageError where the user says what attention is to lose, and none can."""
        if self.heads == "auto" or any(has_choice(axes, ids) for ids in axes.attention.values()):
            return
        told = [f"{node.where}: {next(map(str, axes.atoms.reasons(ids)), ONE)}" for node, ids in axes.attention.items()]
        raise UsageError(
            f"prune(heads={self.heads!r}) finds no attention that can lose them",
            why="; ".join(told[:FEW]) or "the network has no Attention operator",
            do="run simplify in front, which finds attention that is written out, or leave the option out",
        )

    def choose(self, case: Case) -> Choice:
        """What goes, by ratio or by budget."""
        budget, market = self.budget(), case.market
        if budget is None:
            return Choice(choose(market.axes, market.families, market.slots, market.scores, market.limits))
        return keep_to(budget, self.method_of_choice() == "optimal", case)


def decide(layer: Layer, kept: Kept, limits: Limits) -> Decision:
    """What happens to the channels that a layer makes, and why. Called before surgery, while sizes are the old ones."""
    node, axes = layer.node, kept.axes
    ids, left = axes[node.output, layer.axis], kept.indices(node.output, layer.axis)
    inputs = fewer_inputs(layer, kept)
    if left is not None:
        return Decision.of(
            node,
            f"pruned {100 * (1 - left.size / ids.size):.0f} %",
            f"{left.size} of {ids.size} channels kept{inputs and '; ' + inputs}",
        )
    why = kept_because(axes, layer, limits)
    return Decision.of(
        node, "inputs pruned" if inputs else "kept", f"{inputs}; its own channels stay: {why}" if inputs else why
    )


def fewer_inputs(layer: Layer, kept: Kept) -> str:
    """How many of the weight's other channels stay, where some go."""
    weight = layer.node.operand(0 if layer.node.op == "Gather" else 1)
    own = kept.axes[layer.node.output, layer.axis]
    for axis, left in kept.changed(weight).items():
        ids = kept.axes[weight, axis]
        if ids is not own and (ids.size != own.size or bool((ids != own).any())):
            return f"{left.size} of {ids.size} inputs kept"
    return ""


def kept_because(axes: AxisMap, layer: Layer, limits: Limits) -> str:
    """Why a layer keeps all of its channels."""
    ids = axes[layer.node.output, layer.axis]
    if axes.is_active(ids):
        groups = np.unique(axes.atoms.roots(ids)).size
        return f"ratio {limits.ratio:g} in multiples of {limits.multiple_of} leaves all of its {groups} group(s)"
    reasons = axes.atoms.reasons(ids)
    return str(reasons[0]) if reasons else "it has none to spare"
