"""What int8 costs each layer by itself: the error of its weight, and of its result where nothing else is rounded.

Beside each layer of a copy of the float model stands its int8 twin, which reads the same float input; all are measured
in one run on a few samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...backends.compare import Comparison
from ...backends.runners import OrtRunner, Samples
from ...ir import Array, Builder, Graph, Model, Node, Value, pairs
from ...ir.tensors import integer_range
from ..base import Rounded
from ..samples import few
from .accumulated import float_outputs
from .bias import restored
from .gain import Costs
from .insertion import integers_of, pair_behind, scale_and_zero
from .layers import Integer, Layer
from .observers import Histogram
from .placement import Placement, result
from .report import SIGNAL_SAMPLES, spread
from .scheme import Affine

WORST = 6
"""Layers whose inputs' values are counted for the report: those that lose most."""

BARS = 64


@dataclass(frozen=True)
class Assigned:
    """The scales that a set of layers gets: of activations (`parameters`) and of weights."""

    layers: Mapping[Node, Integer]
    placement: Placement
    parameters: Mapping[Value, Affine]
    weights: Mapping[Node, Affine]


def evidence(
    model: Model, found: Assigned, samples: Samples, costs: Costs | None
) -> tuple[dict[Node, Rounded], list[list[Array]]]:
    """How each layer is rounded and what that costs it; `model` is the one of floats. With `costs` also its times.

    Beside that, for each feed that was measured on (see `few`), what the layers and then the floating-point outputs
    give in float, as `spread` takes it.
    """
    measured = alone(model, found, samples)
    rows: dict[Node, Rounded] = {}
    for node, layer in found.layers.items():
        low, high = interval(found.parameters[layer.operands[0]])
        time = costs.times.get(node) if costs is not None else None
        rows[node] = Rounded(
            scheme=scheme_of(layer, found),
            low=low,
            high=high,
            weight_sqnr_db=weight_sqnr(layer, found.weights[node]) if isinstance(layer, Layer) else None,
            alone_sqnr_db=measured.errors.get(node),
            before_us=time.float if time else None,
            after_us=time.int8 if time else None,
            measured=costs is not None and costs.measured,
        )
    for node in sorted(measured.errors, key=lambda n: measured.errors[n])[:WORST]:
        counts, ends = bars(measured.inputs[found.layers[node].operands[0]])
        rows[node] = replace(rows[node], counts=counts, seen=ends)
    return rows, measured.floats


def scheme_of(layer: Integer, found: Assigned) -> str:
    """In a few words; of a product also the range of its right operand."""
    if isinstance(layer, Layer):
        return scheme_text(found.parameters[layer.input], found.weights[layer.node])
    left, right = (found.parameters[v] for v in layer.operands)
    return "{} x {}, right {:.3g} to {:.3g}".format(left.dtype.label, right.dtype.label, *interval(right))


def scheme_text(input: Affine | None, weight: Affine) -> str:
    """In a few words, such as "u8 x i8 per channel"."""
    per = "per channel" if weight.scale.ndim else "per tensor"
    return f"{'u8 at run time' if input is None else input.dtype.label} x {weight.dtype.label} {per}"


def interval(affine: Affine) -> tuple[float, float]:
    """The smallest and the largest number that the integers stand for."""
    scale, zero = float(affine.scale), int(affine.zero_point)
    low, high = integer_range(affine.dtype)
    return (low - zero) * scale, (high - zero) * scale


def weight_sqnr(layer: Layer, weight: Affine) -> float | None:
    """SQNR in dB of a rounded weight; None where nothing was lost."""
    own = layer.weight.tensor.numpy().astype(np.float64)
    noise = float(np.square(restored(weight, layer.weight.tensor) - own).sum())
    signal = float(np.square(own).sum())
    return 10 * math.log10(signal / noise) if noise and signal else None


def bars(histogram: Histogram) -> tuple[tuple[int, ...], tuple[float, float] | None]:
    """The counts on few equal bins between the extremes, and these."""
    range = histogram.range()
    if not range.low < range.high:
        return (), None
    edges = histogram.edges()
    centres = np.clip((edges[:-1] + edges[1:]) / 2, range.low, range.high)
    counts, _ = np.histogram(centres, BARS, (range.low, range.high), weights=histogram.counts.astype(np.float64))
    return tuple(int(c) for c in counts), (range.low, range.high)


@dataclass(frozen=True)
class Alone:
    """What was measured in one run: `errors`, the SQNR in dB of each layer's result with only its own rounding (none
    without any error), the values that layers read, and per feed what layers and outputs give in float.
    """

    errors: Mapping[Node, float]
    inputs: Mapping[Value, Histogram]
    floats: list[list[Array]]


def alone(model: Model, found: Assigned, samples: Samples) -> Alone:
    """Runs the float layers beside their int8 twins."""
    copy = model.clone()
    twins, nodes = pairs(model, copy), dict(zip(model.graph, copy.graph, strict=True))
    owns: list[Value] = []
    mades: list[Value] = []
    inputs: dict[Value, Value] = {}
    for node, layer in found.layers.items():
        for x in layer.operands:
            if twins[x] not in inputs:
                affine = found.parameters[x]
                inputs[twins[x]] = pair_behind(copy.graph, twins[x], affine, scale_and_zero(affine, twins[x]), False)
        whole = result(node, layer)
        own = twins[whole]
        made = twin(copy.graph, nodes[node], own, layer, [inputs[twins[x]] for x in layer.operands], found)
        if whole in found.parameters:
            affine = found.parameters[whole]
            made = pair_behind(copy.graph, made, affine, scale_and_zero(affine, made), False)
        owns, mades = [*owns, own], [*mades, made]
    ends = list(float_outputs(copy.graph).values())
    runner = OrtRunner(copy, taps=[*owns, *ends, *mades, *inputs], once=True)
    first, last = len(owns) + len(ends), 2 * len(owns) + len(ends)
    compared = [Comparison() for _ in owns]
    seen = {x: Histogram() for layer in found.layers.values() for x in layer.operands}
    floats: list[list[Array]] = []
    for feed in few(model.graph, samples, SIGNAL_SAMPLES):
        arrays = runner.run_taps(feed)
        rounded = map(spread, arrays[first:last])
        floats.append([np.array(spread(array)) for array in arrays[:first]])
        for comparison, a, b in zip(compared, floats[-1][: len(owns)], rounded, strict=True):
            comparison.update(a, b)
        for histogram, array in zip(seen.values(), arrays[last:], strict=True):
            histogram.extremes.update(array)
            histogram.update(spread(array))
    errors = {node: c.difference().sqnr_db for node, c in zip(found.layers, compared, strict=True)}
    return Alone({node: sqnr for node, sqnr in errors.items() if math.isfinite(sqnr)}, seen, floats)


def twin(graph: Graph, node: Node, own: Value, layer: Integer, inputs: Sequence[Value], found: Assigned) -> Value:
    """The result of the int8 twin of a layer, which reads `inputs`, behind the same Relu, Clip or Add as `own`, the
    layer's result in the copy.
    """
    last = own.node
    assert last is not None, "a layer gives its result"
    op = Builder(graph, last.next, loc=node.loc)
    made = op.node(node.op, [*inputs, *node.inputs[len(inputs) :]], node.attrs)
    assert isinstance(made, Node), "its input is computed"
    made.output.type = node.output.type
    if isinstance(layer, Layer):
        integers_of(graph, made, layer, found.parameters[layer.input], found.weights[layer.node])
    if last is node:
        return made.output
    behind = op.node(last.op, [made.output if v is node.output else v for v in last.inputs], last.attrs)
    assert isinstance(behind, Node), "its input is computed"
    behind.output.type = own.type
    return behind.output
