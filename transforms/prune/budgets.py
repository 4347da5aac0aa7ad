"""Budgets: what may be left of FLOPs, parameters or time, and the choice of channels that keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from ...backends.runners import Feeds
from ...ir import Graph, Model
from ..base import Context
from ..cost import graph_flops, parameter_count
from ..samples import single
from . import bill, timetable
from .allocate import Choice, Curves, Market, Part, by_ratio, optimal, wholes
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

TRIALS = 8
"""Networks, at most, that are timed in the search for a latency."""
CLOSE = 0.97
"""The share of a latency from which on it counts as used."""
RUNS, SECONDS = 200, 2.0
"""How often, and about how long, a network is timed."""
SLACK = 1e-6


@dataclass(frozen=True)
class Budget:
    """What may be left: `share` of what the original costs."""

    resource: Resource
    share: float


@dataclass(frozen=True)
class Row:
    """How a resource is counted: in a graph, and as a bill of what any choice leaves."""

    total: Callable[[Graph], float]
    bill: Callable[[Graph, AxisMap], Bill]


COUNTED: Mapping[Resource, Row] = {
    "flops": Row(graph_flops, bill.flops),
    "parameters": Row(parameter_count, bill.parameters),
}

Rebuild = Callable[[], tuple[Model, AxisMap]]
"""The model once more, analysed alike."""


@dataclass(frozen=True)
class Case:
    """A model with everything that a choice under a budget looks at.

    `original` is what shares are of; `feeds` is the input that is timed.
    """

    model: Model
    original: Model
    market: Market
    evidence: Evidence
    context: Context
    rebuild: Rebuild
    feeds: Feeds


def keep_to(budget: Budget, best: bool, case: Case) -> Choice:
    """What goes under a budget: where it costs the outputs least if `best`, else by the ratios of `market.limits`."""
    curves = measured_once(case)

    def pick(priced: Bill, share: float) -> Choice:
        market = replace(case.market, bill=priced)
        return optimal(market, share, curves) if best else by_ratio(market, share)

    if budget.resource == "latency":
        return by_latency(budget.share, partial(pick, timed(case)), partial(measured, case))
    row = COUNTED[budget.resource]
    there = remaining(row, case)
    choice = pick(row.bill(case.model.graph, case.market.axes), budget.share / there)
    return replace(choice, left=choice.left * there)


def remaining(row: Row, case: Case) -> float:
    """The share of what the original costs that the model of this round costs; 1 where nothing costs anything."""
    now = row.total(case.model.graph)
    return now / row.total(case.original.graph) if now else 1.0


def compete(budget: Budget, case: Case, parts: Sequence[Part]) -> list[Part]:
    """The parts of the network that go as a whole where they compete with channels under a budget."""
    if budget.resource == "latency":
        priced, there = timed(case), measured(case, Choice(np.zeros(0, np.int64)))
    else:
        row = COUNTED[budget.resource]
        priced = row.bill(case.model.graph, case.market.axes)
        there = remaining(row, case)
    return wholes(replace(case.market, bill=priced), budget.share / there, measured_once(case), parts)


def measured_once(case: Case) -> Curves:
    """The damage curves, measured when they are first asked for."""
    known: list[Sequence[Curve]] = []

    def curves(orders: Sequence[Ids]) -> Sequence[Curve]:
        if not known:
            known.append(damage(case, orders))
        return known[0]

    return curves


def timed(case: Case) -> Bill:
    """The bill in seconds, of layers that are timed on the input's shapes."""
    feeds = single(case.model.graph, case.feeds)
    shapes = {name: np.shape(array) for name, array in feeds.items()}
    return timetable.latency(
        case.model.graph, case.market.axes, shapes, total(case.model, feeds), timetable.width(), timetable.seconds
    )


def total(model: Model, feeds: Feeds) -> float:
    """Seconds of the shortest run, as for layers."""
    return timetable.shortest([(model, feeds)])[0]


def by_latency(share: float, pick: Callable[[float], Choice], time: Callable[[Choice], float]) -> Choice:
    """The choice that keeps most by the bill while its measured time is at most `share` of the original's, or the
    fastest one; nothing where everything would be slower than the original.

    What was measured of one choice scales what the bill is to say of the next one; where that leads out of what is
    known, the middle is tried.
    """
    nothing = Choice(np.zeros(0, np.int64))
    tried = {nothing.dead.tobytes(): replace(nothing, left=time(nothing))}
    kept: Choice | None = None
    low, high, target = 0.0, 1.0, share / tried[nothing.dead.tobytes()].left
    for _ in range(TRIALS):
        choice = pick(min(target, 1.0))
        key = choice.dead.tobytes()
        found = tried[key] = tried.get(key) or replace(choice, left=time(choice))
        if found.left <= share:
            low, kept = target, found
        else:
            high = target
        if CLOSE * share <= found.left <= share or low >= 1:
            break
        scaled = target * share / max(found.left, SLACK)
        target = scaled if low < scaled < high else (low + high) / 2
    return kept or min([nothing, *tried.values()], key=lambda choice: choice.left)


def measured(case: Case, choice: Choice) -> float:
    """The latency of a pruned network as a share of the original's, taken in turns."""
    model, axes = case.rebuild()
    operate(model.graph, Kept(axes, choice.dead))
    feeds = single(model.graph, case.feeds)
    before, after = timetable.shortest([(case.original, feeds), (model, feeds)], RUNS, SECONDS)
    return after / before


def damage(case: Case, orders: Sequence[Ids]) -> Sequence[Curve]:
    """What each pool's removal costs: measured where there is data, else the share of its scores."""
    market, evidence, context = case.market, case.evidence, case.context
    if context.samples is None:
        return [by_scores(order, market.scores) for order in orders]
    layers = {reader: Reading(reader, moments) for reader, moments in evidence.moments.items()}
    probe = Probe(case.model, market.axes, evidence.moments, layers, context.samples, context.progress)
    return probe.curves(orders, market.scores)
