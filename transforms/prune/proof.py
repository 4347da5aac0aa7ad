"""What passes that remove structure share: what the oracle runs on, and what its answer makes of the outcome."""

from __future__ import annotations

from ...backends.runners import Feeds, synthesize
from ...ir import Model, ParityError
from ..base import Context, Outcome
from ..cost import graph_flops
from .oracle import Comparison

UNMOVED = ("TSR301", "masking the removed channels changed no output: agreeing with it proves little", "")


def feeds(model: Model, context: Context) -> Feeds:
    """The user's first calibration sample, or a synthesized input."""
    given = next(iter(context.samples), None) if context.samples is not None else None
    return given if given is not None else synthesize(model.graph, count=1, seed=context.seed)[0]


def proved(original: Model, reference: Model, pruned: Model, comparison: Comparison) -> Outcome:
    """The outcome of a pass whose result agrees with `reference`, the masked original. Raises ParityError where it does
    not.
    """
    require(comparison)
    return Outcome(
        notes=[summary(original, pruned, comparison)],
        warnings=[] if comparison.changed else [UNMOVED],
        reference=reference,
        checks={"mask_oracle": comparison},
    )


def require(comparison: Comparison) -> None:
    """Raises ParityError where the oracle found a difference."""
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


def say_compensated(outcome: Outcome, method: str, count: int) -> None:
    """From then on the model is not what was compared."""
    outcome.notes.append(f"compensated by {method}: {count} nodes, after that comparison")
    outcome.reference, outcome.contract = None, "approximate"
