"""The pass `prune`: removes channels from trained networks without being told where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...backends.runners import Feeds, synthesize
from ...ir import Model, ParityError, UsageError
from ..base import Context, Contract, Decision, Outcome, Pass
from ..cost import graph_flops
from ..select import Selection
from .analysis import analyse
from .axes import AxisMap, Layer
from .choose import Limits, Scope, choose
from .groups import families, slots
from .importance import IMPORTANCE
from .kept import Kept
from .oracle import Comparison, check
from .prepare import prepare
from .surgery import masked, operate, touched

SCOPES = ("local", "global")
UNMOVED = ("TSR301", "masking the removed channels changed no output: agreeing with it proves little", "")


@dataclass(frozen=True)
class Prune(Pass):
    """Structured pruning of coupled channel groups, checked by the mask oracle.

    `ratio` is the share of groups that go: of each family of interchangeable groups (scope "local"), or of all groups
    ranked together ("global"). `importance` names a score of `IMPORTANCE`. At least `1 - max_ratio` of each family
    stays, and a multiple of `multiple_of` groups where there are that many. Only layers that match `only` and not
    `skip` lose channels of their own.
    """

    name: ClassVar[str] = "prune"
    contract: ClassVar[Contract] = "masked"

    ratio: float = 0.5
    importance: str = "l2"
    scope: Scope = "local"
    multiple_of: int = 1
    max_ratio: float = 0.9
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.importance not in IMPORTANCE:
            raise UsageError(f"prune has no importance {self.importance!r}", do=f"there are {', '.join(IMPORTANCE)}")
        if self.scope not in SCOPES:
            raise UsageError(f"prune has no scope {self.scope!r}", do=f"there are {', '.join(SCOPES)}")
        if not 0 <= self.ratio < 1 or not 0 <= self.max_ratio < 1:
            raise UsageError(
                f"prune(ratio={self.ratio}, max_ratio={self.max_ratio}) is out of range",
                do="give shares from 0 up to, not including, 1",
            )
        if self.multiple_of < 1:
            raise UsageError(
                f"prune(multiple_of={self.multiple_of}) is out of range", do="give a number of channels from 1 on"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises ParityError when the pruned graph does not compute what the masked original does."""
        original, selection = model.clone(), Selection(model.graph, self.only, self.skip)
        prepare(model.graph, context.fallback)
        axes = analyse(model.graph, selection)
        found = slots(axes)
        context.progress("ranking channels", 0, None)
        scores = IMPORTANCE[self.importance](found, axes.atoms.count)
        limits = Limits(self.ratio, self.scope, self.multiple_of, self.max_ratio)
        kept = Kept(axes, choose(axes, families(found), found, scores, limits))
        decisions = [decide(layer, kept, limits) for layer in axes.layers]
        if not any(touched(node, kept) for node in model.graph):
            model.restore(original)
            return Outcome(decisions=decisions, notes=["no channel was removed"])
        reference = masked(model, kept)
        operate(model.graph, kept)
        context.progress("comparing with the masked original", 0, None)
        comparison = check(original, reference, model, kept, feeds(original, context))
        require(comparison)
        return Outcome(
            changed=sum(d.decision != "kept" for d in decisions),
            decisions=decisions,
            notes=[summary(original, model, comparison)],
            warnings=[] if comparison.changed else [UNMOVED],
            reference=reference,
            checks={"mask_oracle": comparison},
        )


def feeds(model: Model, context: Context) -> Feeds:
    """The user's first calibration sample, or a synthesized input."""
    given = next(iter(context.samples), None) if context.samples is not None else None
    return given if given is not None else synthesize(model.graph, count=1, seed=context.seed)[0]


def require(comparison: Comparison) -> None:
    if not comparison.passed:
        raise ParityError(
            "pruning gave another function than masking",
            where=comparison.where,
            why=f"max|a-b|/max|masked| is {comparison.worst:.3g} there; {comparison.values} values were compared",
            do="leave this layer out with skip, and please report it with the model",
        )


def summary(original: Model, pruned: Model, comparison: Comparison) -> str:
    before, after = comparison.parameters
    flops = graph_flops(original.graph), graph_flops(pruned.graph)
    return (
        f"parameters {before:,} -> {after:,} ({after / before:.1%}), FLOPs {flops[0]:,} -> {flops[1]:,} "
        f"({flops[1] / max(1, flops[0]):.1%}); {comparison.values} values agree with the masked original within "
        f"{comparison.worst:.1e}, whose outputs moved by {comparison.changed:.2g}"
    )


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
