"""The pass `prune_depth`: whole residual blocks, or whole layers of several, removed from trained networks.

Where `prune` makes tensors narrower this makes the network shallower: of x + f(x) the stream x is left. Nothing here
knows what blocks are called or how many there are; see `blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...backends.benchmark import latency
from ...backends.runners import Feeds, OrtRunner
from ...ir import DType, Model, Node, TensorType, UsageError, Value, constant, pairs
from ...ir.inference import Inference
from ..base import Context, Contract, Decision, Outcome, Pass
from ..cost import bind_sizes, graph_flops, is_parameter, node_flops, parameter_count
from ..select import Selection
from ..simplify.structure import erase_dead
from .blocks import Block, blocks, cut, layers, reason
from .budgets import RESOURCES, RUNS, SECONDS, SLACK, Budget
from .choose import share
from .compensate import COMPENSATION, Affected, following
from .oracle import Pair, compared
from .proof import feeds, proved, say_compensated
from .rounds import Proof
from .rules.semantic import builder
from .statistics import Calibration
from .worth import WORTH

Unit = Literal["block", "layer"]
UNITS = ("block", "layer")


@dataclass(frozen=True)
class PruneDepth(Pass):
    """Depth pruning: residual blocks that matter least go, checked by the mask oracle.

    The result computes what the original computes with the outputs of these blocks multiplied by zero; that is proved
    first. `compensate` then changes later layers from calibration data, as in `Prune`.

    `unit` is what goes at a time: a "block" x + f(x), or a "layer", the blocks that repeat in a row, such as attention
    and hidden units. `ratio` is the share of these that go, `count` their number, and `flops`, `parameters` or
    `latency` the share of these that may stay; one of the three goes by what a unit saves as well. `importance` is a
    row of `WORTH`; "auto" is "cosine" where there is data, and "magnitude" elsewhere. Only blocks that match
    `only` and not `skip` go.
    """

    name: ClassVar[str] = "prune_depth"
    contract: ClassVar[Contract] = "masked"

    ratio: float = 0.25
    count: int | None = None
    unit: Unit = "block"
    importance: str = "auto"
    flops: float | None = None
    parameters: float | None = None
    latency: float | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    compensate: str | None = "auto"
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UsageError(f"prune_depth has no unit {self.unit!r}", do=f"there are {', '.join(UNITS)}")
        if self.importance not in ("auto", *WORTH):
            raise UsageError(
                f"prune_depth has no importance {self.importance!r}", do=f"there are auto, {', '.join(WORTH)}"
            )
        if self.compensate not in (None, "auto", *COMPENSATION):
            raise UsageError(
                f"prune_depth has no compensation {self.compensate!r}",
                do=f"there are auto, None, {', '.join(COMPENSATION)}",
            )
        budgets = [name for name in RESOURCES if getattr(self, name) is not None]
        given = [*budgets, *(["count"] if self.count is not None else [])]
        if len(given) > 1:
            raise UsageError(f"prune_depth has {len(given)} budgets: {', '.join(given)}", do="give one of them")
        for name in budgets:
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(
                    f"prune_depth({name}={getattr(self, name)}) is out of range",
                    do="give the share that stays, such as 0.7",
                )
        if not 0 <= self.ratio < 1:
            raise UsageError(
                f"prune_depth(ratio={self.ratio}) is out of range", do="give a share from 0 up to, not including, 1"
            )
        if self.count is not None and self.count < 0:
            raise UsageError(f"prune_depth(count={self.count}) is out of range", do="give a number from 0 on")
        if not 0 <= self.ridge < math.inf:
            raise UsageError(f"prune_depth(ridge={self.ridge}) is out of range", do="give a share from 0 on")

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises ParityError when the shallower graph does not compute what the masked original does, and UsageError
        where calibration data is missing, empty or unfit.
        """
        data = self.calibration(context)
        original, selection = model.clone(), Selection(model.graph, self.only, self.skip)
        Inference(model.graph, context.fallback).run()
        found = blocks(model.graph)
        whys = {block: reason(block, selection) for block in found}
        units = [(b,) for b in found if b.stream is not None] if self.unit == "block" else layers(found)
        free = [unit for unit in units if not any(whys[b] for b in unit)]
        worth = dict(zip(free, WORTH[self.criterion(data)].score(model, free, data), strict=True)) if free else {}
        gone, left = self.choose(model, worth, feeds(original, context))
        removed = {block for unit in gone for block in unit}
        scores = {block: score for unit, score in worth.items() for block in unit}
        decisions = [self.decide(b, removed, whys[b] or partner(b, units, whys), scores.get(b)) for b in found]
        missed = self.missed(left, len(free), len(gone), decisions)
        if not gone:
            model.restore(original)
            return Outcome(decisions=decisions, notes=["no block was removed"], missed=missed)
        dense, chosen = model.clone(), [block for block in found if block in removed]
        context.progress("comparing with the masked original", 0, None)
        proof = remove(model, chosen, original, dense, feeds(original, context))
        outcome = proved(original, proof.reference, model, proof.comparison)
        outcome.changed, outcome.decisions, outcome.missed = len(chosen), decisions, missed
        outcome.notes[0] = f"{len(chosen)} of {len(found)} blocks removed; {outcome.notes[0]}"
        method = self.method(data)
        if method is not None and data is not None:
            count = COMPENSATION[method](proof.weaker, model, dense, data, self.ridge)
            say_compensated(outcome, method, count)
        return outcome

    def calibration(self, context: Context) -> Calibration | None:
        """The samples, where there are any. Raises UsageError where an option needs them and there are none."""
        if context.samples is not None:
            return Calibration(context.samples, context.progress, context.seed)
        wants = self.importance != "auto" and WORTH[self.importance].needs_data and f"importance={self.importance!r}"
        wants = wants or (self.compensate not in (None, "auto") and f"compensate={self.compensate!r}")
        if wants:
            raise UsageError(
                f"prune_depth({wants}) needs calibration data",
                why="what blocks do is measured on real inputs",
                do="give some with data=... (--data on the command line), or leave the option out",
            )
        return None

    def criterion(self, data: Calibration | None) -> str:
        if self.importance != "auto":
            return self.importance
        return "cosine" if data is not None else "magnitude"

    def method(self, data: Calibration | None) -> str | None:
        """The row of COMPENSATION that is used."""
        if self.compensate == "auto":
            return "least-squares" if data is not None else None
        return self.compensate

    def budget(self) -> Budget | None:
        return next((Budget(r, kept) for r in RESOURCES if (kept := getattr(self, r)) is not None), None)

    def choose(
        self, model: Model, worth: Mapping[tuple[Block, ...], float], timed: Feeds
    ) -> tuple[list[tuple[Block, ...]], float]:
        """The units that go, and what share of the budget's resource is left (1 without a budget)."""
        budget = self.budget()
        if budget is None:
            total = sum(len(unit) for unit in worth) if self.unit == "block" else len(worth)
            wanted = share(self.ratio, total) if self.count is None else self.count
            return first(sorted(worth, key=worth.__getitem__), wanted), 1.0
        prices = {unit: price(model, unit, budget) for unit in worth}
        order = first(sorted((u for u in worth if prices[u]), key=lambda u: worth[u] / prices[u]), len(worth))
        return keep_to(model, order, budget, timed)

    def missed(self, left: float, free: int, gone: int, decisions: Sequence[Decision]) -> list[str]:
        """Why the best effort does not reach what was asked for; empty where it does."""
        budget = self.budget()
        asked = budget.share < 1 if budget is not None else self.ratio if self.count is None else self.count
        if asked and not gone:
            why = "; ".join(f"{d.layer}: {d.reason}" for d in decisions[:3]) or "the network has no sum of two branches"
            if free and budget is None and self.count is None:
                why = f"ratio={self.ratio:g} of the {free} that could go is none"
            return [f"no block was removed: {why}"]
        if budget is not None and left > budget.share * (1 + SLACK):
            return [f"{budget.resource}={budget.share:g} was not reached: {left:.3f} is left"]
        if self.count is not None and gone < self.count:
            return [f"count={self.count} was not reached: {gone} could go"]
        return []

    def decide(self, block: Block, removed: set[Block], why: str, score: float | None) -> Decision:
        told = "" if score is None else f"importance {score:.3g}"
        if block in removed:
            return Decision.of(block.add, "removed", f"{len(block.nodes)} operators; {told}")
        inside = next((b for b in removed if block.add in b.nodes), None)
        if inside is not None:
            return Decision.of(block.add, "removed", f"with the block around it, {inside.add.where}")
        return Decision.of(block.add, "kept", why or told)


def partner(block: Block, units: Sequence[tuple[Block, ...]], whys: Mapping[Block, str]) -> str:
    """Why a block that could go alone has to stay with its layer."""
    others = next((unit for unit in units if block in unit), ())
    held = next((b for b in others if whys[b]), None)
    return f"{held.add.where} of the same layer stays: {whys[held]}" if held is not None else ""


def first(order: Sequence[tuple[Block, ...]], wanted: int) -> list[tuple[Block, ...]]:
    """The first units, `wanted` of them with those that lie inside of them; the outermost ones are given."""
    gone: set[tuple[Block, ...]] = set()
    for unit in order:
        new = {other for other in order if other is unit or inside(other, unit)} - gone
        if unit not in gone and len(gone) + len(new) <= wanted:
            gone |= new
    return [unit for unit in order if unit in gone and not any(inside(unit, other) for other in gone)]


def inside(inner: tuple[Block, ...], outer: tuple[Block, ...]) -> bool:
    return any(block.add in around.nodes for block in inner for around in outer)


def price(model: Model, unit: tuple[Block, ...], budget: Budget) -> float:
    """What a unit alone saves of a resource; of time as much as of FLOPs."""
    nodes = {node for block in unit for node in block.nodes}
    if budget.resource == "parameters":
        held = {v for node in nodes for v in node.inputs if v is not None and v.is_const and is_parameter(v)}
        return float(sum(v.tensor.count for v in held if set(v.users) <= nodes))
    sizes = bind_sizes(model.graph)
    return float(sum(node_flops(node, sizes) for node in nodes))


def keep_to(
    model: Model, order: Sequence[tuple[Block, ...]], budget: Budget, timed: Feeds
) -> tuple[list[tuple[Block, ...]], float]:
    """The fewest units from the front of the order that keep the budget, or all of them, and what is left."""

    def left(count: int) -> float:
        copy = model.clone()
        twins = pairs(model, copy)
        cut(twins[block.branch] for unit in order[:count] for block in unit)
        erase_dead(copy.graph)
        if budget.resource == "latency":
            return latency([OrtRunner(model), OrtRunner(copy)], timed, runs=RUNS, seconds=SECONDS)[1].ratio
        cost = graph_flops if budget.resource == "flops" else parameter_count
        return cost(copy.graph) / max(1, cost(model.graph))

    low, high = 0, len(order)
    best = left(high) if high else 1.0
    while low < high and best <= budget.share:
        middle = (low + high) // 2
        found = left(middle) if middle else 1.0
        if found <= budget.share:
            high, best = middle, found
        else:
            low = middle + 1
    return list(order[:high]), best


def remove(model: Model, chosen: Sequence[Block], original: Model, dense: Model, timed: Feeds) -> Proof:
    """Takes blocks out of a model, of which `dense` is a copy, and asks the oracle about that; `original` is what
    masking is seen to move.
    """
    reference = model.clone()
    twins, counterparts = (dict(zip(model.graph, m.graph, strict=True)) for m in (dense, reference))
    silence(chosen, counterparts)
    weaker = following(twins.items(), {b.add.output for b in chosen})
    cut(block.branch for block in chosen)
    erase_dead(model.graph)
    comparison = compared(original, reference, model, paired(model, reference, counterparts), timed)
    return Proof(comparison, reference, alive(weaker, model))


def silence(chosen: Sequence[Block], twins: Mapping[Node, Node]) -> None:
    """Multiplies the branches by zero in the masked model, whose nodes are the twins."""
    for block in chosen:
        add, index = twins[block.add], block.add.inputs.index(block.branch)
        zero = constant(np.zeros((), float_of(block.branch).numpy))
        add.set_input(index, builder(add).Mul(add.operand(index), zero))


def float_of(value: Value) -> DType:
    assert isinstance(value.type, TensorType)
    return value.type.dtype


def paired(model: Model, reference: Model, twins: Mapping[Node, Node]) -> list[Pair]:
    """Every tensor that the shallower model still computes, and its outputs."""
    made = [pair for node in model.graph for pair in zip(twins[node].outputs, node.outputs, strict=True)]
    made += zip(reference.graph.outputs, model.graph.outputs, strict=True)
    places = [v.node.where if v.node is not None else "" for _, v in made]
    return [
        Pair(a, b, {}, where)
        for (a, b), where in zip(made, places, strict=True)
        if isinstance(a.type, TensorType) and a.type.dtype is not DType.STRING and b.users
    ]


def alive(found: Affected, model: Model) -> Affected:
    """What of it is still in the model."""
    nodes = set(model.graph)
    return Affected([w for w in found.layers if w.node in nodes], [w for w in found.norms if w.node in nodes])
