"""How the errors of all layers together grow on the way through a network: at each layer, and at the outputs.

The error that reaches a layer is the worst of those that the layers right in front of it have. Where the share of noise
in the signal grows most is where there is something to win; behind the last layer, too: a Sigmoid that is nearly zero
everywhere keeps little of what its input keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...backends.runners import OrtRunner, Samples
from ...ir import Array, Graph, Model, Node, Value
from ..select import label
from .report import signal_to_noise, signals

BLAMED = 3
"""Layers that are named for an output."""


@dataclass(frozen=True)
class Growth:
    """The SQNR in dB in front of a layer (infinite where nothing is rounded there) and of its result."""

    layer: str
    before: float
    after: float

    @property
    def added(self) -> float:
        """By how much the share of noise in the signal grew."""
        return share(self.after) - share(self.before)

    def __str__(self) -> str:
        return f"{self.layer} ({f'{self.before:.1f} -> ' if math.isfinite(self.before) else ''}{decibels(self.after)})"


@dataclass(frozen=True)
class Reached:
    """What an output keeps: its SQNR in dB (-inf where it became NaN), that in front of what no layer computes, and the
    layers on the way in which the error grows most, worst first.
    """

    name: str
    sqnr_db: float
    before: float
    layers: tuple[Growth, ...]

    def __str__(self) -> str:
        grown = ", ".join(map(str, self.layers))
        rest = share(self.sqnr_db) - share(self.before)
        behind = f"behind the last layer ({self.before:.1f} -> {decibels(self.sqnr_db)})"
        most = all(rest > growth.added for growth in self.layers)
        return f"{behind}, then in {grown}" if grown and most else f"in {grown}" if grown else "behind the last layer"


@dataclass(frozen=True)
class Accumulated:
    """SQNR in dB of layers' results, and what the outputs keep; nothing of those without any error."""

    layers: Mapping[Node, float]
    outputs: Sequence[Reached]


def accumulated(
    wanted: Iterable[Sequence[Array]],
    model: Model,
    layers: Mapping[Node, Value],
    names: Sequence[str],
    samples: Samples,
) -> Accumulated:
    """Compares `model` with what is `wanted` (see `report.signals`) of its `layers`, in their order, and behind that of
    the outputs `names`. A layer is called by its key, and its result in `model` is the value.
    """
    all_outputs = dict(zip(model.graph.output_names, model.graph.outputs, strict=True))
    outputs = {name: all_outputs[name] for name in names}
    found = signal_to_noise(wanted, model, [*layers.values(), *outputs.values()], samples)
    known = {
        value: (node, db)
        for (node, value), db in zip(layers.items(), found, strict=False)
        if db is not None and math.isfinite(db)
    }
    ends = {name: db for name, db in zip(outputs, found[len(layers) :], strict=True) if db is not None}
    reached, growths = _follow(model.graph, known)
    kept = [
        Reached(name, db, reached.get(outputs[name], math.inf), _worst(outputs[name], growths))
        for name, db in ends.items()
    ]
    return Accumulated(dict(known.values()), kept)


def around(change: Callable[[], None], model: Model, samples: Samples | None) -> Sequence[Reached]:
    """What the outputs keep when `change` rounds something in the model; nothing is measured without samples."""
    ends = float_outputs(model.graph)
    if samples is None:
        change()
        return ()
    floats = list(signals(OrtRunner(model, taps=list(ends.values()), once=True), model, samples))
    change()
    return accumulated(floats, model, {}, list(ends), samples).outputs


def float_outputs(graph: Graph) -> dict[str, Value]:
    """The outputs of floating-point numbers by name."""
    pairs = zip(graph.output_names, graph.outputs, strict=True)
    return {name: v for name, v in pairs if v.is_float}


def decibels(sqnr_db: float) -> str:
    """With the unit; in words where numbers became NaN or infinite, or zeros something else."""
    return f"{sqnr_db:.1f} dB" if math.isfinite(sqnr_db) else "nothing"


def share(sqnr_db: float) -> float:
    """Power of the noise, where that of the signal is 1."""
    return 10 ** (-sqnr_db / 10)


def _follow(graph: Graph, known: Mapping[Value, tuple[Node, float]]) -> tuple[dict[Value, float], dict[Value, Growth]]:
    """The SQNR that reaches each value, and how it changed at the results of layers."""
    reached: dict[Value, float] = {}
    growths: dict[Value, Growth] = {}
    for node in graph:
        before = min((reached.get(v, math.inf) for v in node.inputs if v is not None), default=math.inf)
        for value in node.outputs:
            reached[value] = before
            if value in known:
                layer, reached[value] = known[value]
                growths[value] = Growth(label(layer), before, reached[value])
    return reached, growths


def _worst(output: Value, growths: Mapping[Value, Growth]) -> tuple[Growth, ...]:
    """The layers that an output depends on and in which the error grows most."""
    seen, left = {output}, [output]
    while left:
        maker = left.pop().node
        for value in maker.inputs if maker is not None else ():
            if value is not None and value not in seen:
                seen.add(value)
                left.append(value)
    grown = sorted((g for v, g in growths.items() if v in seen and g.added > 0), key=lambda g: -g.added)
    return tuple(grown[:BLAMED])
