"""Budgets: what may be left of FLOPs, parameters or time, and the choice of channels that keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...backends.benchmark import latency
from ...backends.runners import Feeds, OrtRunner
from ...ir import Model
from ..base import Context
from . import bill
from .allocate import Choice, Market, by_ratio, optimal
from .atoms import Ids
from .axes import AxisMap
from .bill import Bill
from .damage import Curve, Probe, by_scores
from .importance import Evidence
from .kept import Kept
from .obs import Reading
from .surgery import operate

Resource = Literal["flops", "parameters", "latency"]
RESOURCES: tuple[Resource, ...] = ("flops", "parameters", "latency")
"""What can be given as a budget."""

VECTOR = 8
"""Channels that the runtime computes at once."""
TRIALS = 5
"""Networks that are timed in the search for a latency."""
RUNS = 25
SLACK = 1e-6


@dataclass(frozen=True)
class Budget:
    """What may be left: `share` of what the original costs."""

    resource: Resource
    share: float


BILLS: Mapping[Resource, Callable[[Model, AxisMap], Bill]] = {
    "flops": lambda model, axes: bill.flops(model.graph, axes),
    "parameters": lambda model, axes: bill.parameters(model.graph, axes),
    "latency": lambda model, axes: bill.flops(model.graph, axes),
}
"""How each is counted; latency is searched for along the FLOPs."""

Rebuild = Callable[[], tuple[Model, AxisMap]]
"""The model once more, analysed alike."""


@dataclass(frozen=True)
class Case:
    """A model with everything that a choice under a budget looks at; `feeds` is the input that is timed."""

    model: Model
    market: Market
    evidence: Evidence
    context: Context
    rebuild: Rebuild
    feeds: Feeds


def keep_to(budget: Budget, best: bool, case: Case) -> Choice:
    """What goes under a budget: where it costs the outputs least if `best`, else by the ratios of `market.limits`."""
    priced = replace(case.market, bill=BILLS[budget.resource](case.model, case.market.axes))
    known: list[Sequence[Curve]] = []

    def curves(orders: Sequence[Ids]) -> Sequence[Curve]:
        if not known:
            known.append(damage(case, orders))
        return known[0]

    def pick(share: float, multiple: int) -> Choice:
        market = replace(priced, limits=replace(priced.limits, multiple_of=multiple))
        return optimal(market, share, curves) if best else by_ratio(market, share)

    multiple = priced.limits.multiple_of
    if budget.resource != "latency":
        return pick(budget.share, multiple)
    return by_latency(budget.share, multiple, pick, lambda choice: measured(case, choice))


def by_latency(
    share: float, multiple: int, pick: Callable[[float, int], Choice], time: Callable[[Choice], float]
) -> Choice:
    """The choice that keeps most of the FLOPs while its measured time is at most `share` of the original's, or the
    fastest one. Whole vectors of channels are kept where that is faster at equal FLOPs.
    """
    tried: list[Choice] = []

    def attempt(flops: float, multiple: int) -> Choice:
        choice = pick(flops, multiple)
        tried.append(replace(choice, left=time(choice)))
        return tried[-1]

    first = attempt(share, multiple)
    if multiple == 1 and attempt(share, VECTOR).left < first.left:
        first, multiple = tried[-1], VECTOR
    low, high = (share, 1.0) if first.left <= share else (0.0, share)
    kept = first if first.left <= share else None
    for _ in range(TRIALS):
        middle = (low + high) / 2
        found = attempt(middle, multiple)
        if found.left <= share:
            kept, low = found, middle
        else:
            high = middle
    return kept or min(tried, key=lambda choice: choice.left)


def measured(case: Case, choice: Choice) -> float:
    """The latency of a pruned network as a share of the original's, taken in turns."""
    model, axes = case.rebuild()
    operate(model.graph, Kept(axes, choice.dead))
    return latency([OrtRunner(case.model), OrtRunner(model)], case.feeds, runs=RUNS)[1].ratio


def damage(case: Case, orders: Sequence[Ids]) -> Sequence[Curve]:
    """What each pool's removal costs: measured where there is data, else the share of its scores."""
    market, evidence, context = case.market, case.evidence, case.context
    if context.samples is None:
        return [by_scores(order, market.scores) for order in orders]
    layers = {reader: Reading(reader, moments) for reader, moments in evidence.moments.items()}
    probe = Probe(case.model, market.axes, evidence.moments, layers, context.samples, context.progress)
    return probe.curves(orders, market.scores)
