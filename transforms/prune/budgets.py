"""Budgets: what may be left of FLOPs, parameters or time, and the choice of channels that keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...ir import Model
from ..base import Context
from . import bill
from .allocate import Choice, Market, by_ratio, optimal
from .atoms import Ids
from .axes import AxisMap
from .bill import Bill
from .damage import Curve, Probe, by_scores
from .importance import Evidence
from .obs import Reading

Resource = Literal["flops", "parameters"]


@dataclass(frozen=True)
class Budget:
    """What may be left: `share` of what the original costs."""

    resource: Resource
    share: float


BILLS: Mapping[Resource, Callable[[Model, AxisMap], Bill]] = {
    "flops": lambda model, axes: bill.flops(model.graph, axes),
    "parameters": lambda model, axes: bill.parameters(model.graph, axes),
}
"""What can be given as a budget, and how it is counted."""


def keep_to(budget: Budget, best: bool, model: Model, market: Market, evidence: Evidence, context: Context) -> Choice:
    """What goes under a budget: where it costs the outputs least if `best`, else by the ratios of `market.limits`."""
    priced = replace(market, bill=BILLS[budget.resource](model, market.axes))
    if not best:
        return by_ratio(priced, budget.share)
    return optimal(priced, budget.share, lambda orders: damage(model, market, evidence, orders, context))


def damage(
    model: Model, market: Market, evidence: Evidence, orders: Sequence[Ids], context: Context
) -> Sequence[Curve]:
    """What each pool's removal costs: measured where there is data, else the share of its scores."""
    if context.samples is None:
        return [by_scores(order, market.scores) for order in orders]
    layers = {reader: Reading(reader, moments) for reader, moments in evidence.moments.items()}
    probe = Probe(model, market.axes, evidence.moments, layers, context.samples, context.progress)
    return probe.curves(orders, market.scores)
