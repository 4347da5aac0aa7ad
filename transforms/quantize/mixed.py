"""Mixed precision: which layers are left in float for accuracy, by what each is measured to cost and to gain.

One layer at a time goes back to float: of those whose loss of speed fits what is left to give, the one that wins most
for the network's outputs, measured on calibration samples with the rest in int8. Layers that int8 hardly makes faster
(the first and the last, small and depthwise ones) are often those that hurt most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ...backends.compare import Comparison
from ...backends.runners import Feeds, OrtRunner, Samples
from ...ir import Array, Graph, Model, Node
from ..base import Progress
from ..samples import few
from .gain import Costs, cheapest
from .layers import Integer

MEASURED_SAMPLES = 32
"""Calibration samples on which an assignment is measured."""

TRIED = 8
"""Layers that are tried in each round: those that cost least."""

LEAST_DB = 0.15
"""A layer that wins less than this stays in int8: so much is within what samples differ by."""

Build = Callable[[Collection[Node]], Model]
"""A copy of the model with just these layers in int8."""


@dataclass
class Choice:
    """What was found: layers to leave in float, each with the reason, and the SQNR of the outputs before and after."""

    floats: dict[Node, str] = field(default_factory=dict[Node, str])
    before: float = math.inf
    after: float = math.inf


class Outputs:
    """The outputs of the float model on a few samples, to measure quantized copies against."""

    def __init__(self, model: Model, samples: Samples) -> None:
        self.feeds: list[Feeds] = list(few(model.graph, samples, MEASURED_SAMPLES))
        runner = OrtRunner(model)
        self.wanted: list[dict[str, Array]] = [runner.run(feed) for feed in self.feeds]

    def sqnr(self, model: Model) -> float:
        """The worst SQNR in dB of the floating-point outputs."""
        runner = OrtRunner(model)
        compared: dict[str, Comparison] = {}
        for feed, wanted in zip(self.feeds, self.wanted, strict=True):
            for name, found in runner.run(feed).items():
                if found.dtype.kind == "f":
                    compared.setdefault(name, Comparison()).update(wanted[name], found)
        return min((c.difference().sqnr_db for c in compared.values()), default=math.inf)


def choose(
    graph: Graph,
    layers: Mapping[Node, Integer],
    build: Build,
    outputs: Outputs,
    costs: Costs,
    slack: float,
    progress: Progress,
) -> Choice:
    """The layers to leave in float where the time may grow by the share `slack`."""
    start, kept = cheapest(graph, layers, costs)
    limit = start * (1 + slack)
    choice = Choice()
    if not kept:
        return choice
    choice.before = choice.after = outputs.sqnr(build(kept))
    floats = set(layers) - kept
    rounds = 0
    while kept and math.isfinite(choice.after):
        rounds += 1
        prices = {node: cheapest(graph, layers, costs, {*floats, node}) for node in kept}
        affordable = sorted((n for n in kept if prices[n][0] <= limit and prices[n][1]), key=lambda n: prices[n][0])
        found: dict[Node, float] = {}
        for node in affordable[:TRIED]:
            found[node] = outputs.sqnr(build(prices[node][1]))
            progress("trying layers in float", rounds, None)
        best = max(found, key=lambda n: found[n], default=None)
        if best is None or found[best] < choice.after + LEAST_DB:
            break
        won, cost = found[best] - choice.after, prices[best][0]
        for node in kept - prices[best][1]:
            choice.floats[node] = (
                f"float wins {won:.1f} dB at the outputs for {100 * (cost / start - 1):.1f} % of the {costs.word} time"
                f"; int8 takes {costs.said(node)}"
            )
        floats |= kept - prices[best][1]
        kept, choice.after = prices[best][1], found[best]
    return choice
