"""Writes an annotation into the graph: QuantizeLinear/DequantizeLinear pairs at values, DequantizeLinear at weights
and biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from ...ir import NOWHERE, Builder, Dense, DType, Graph, Lazy, Loc, Node, TensorType, Value, constant
from . import scheme
from .layers import Integer, Layer, weighted
from .observers import Range
from .placement import ORT, Placement, Target, clip_range, limit
from .prepare import row
from .scheme import Affine

CHANNELS = 4
"""ONNX Runtime gathers the input of a convolution in units of all channels of a pixel, which is slow where they are
not words."""


def activation_parameters(placement: Placement, ranges: Mapping[Value, Range]) -> dict[Value, Affine]:
    """Scale and zero point of every quantized value, from the ranges of the placement's sources."""
    own = {v: _affine(placement, v, ranges[v]) for v in placement.sources()}
    return {v: own[placement.source(v)] for v in placement.quantized}


def _affine(placement: Placement, value: Value, seen: Range) -> Affine:
    if value in placement.signed and (placement.signed[value] or seen.low < 0):
        return scheme.signed(seen)
    return scheme.activation(seen, limit(value))


def insert(
    graph: Graph,
    placement: Placement,
    chosen: Mapping[Node, Integer],
    parameters: Mapping[Value, Affine],
    weights: Mapping[Node, Affine],
    target: Target = ORT,
) -> dict[Value, Value]:
    """Puts the pairs and quantized constants into the graph; gives each quantized value's dequantized form.

    `parameters` and `weights` are the scales of the placement's values and of the layers' weights.
    """
    held: dict[int, tuple[Value, Value]] = {}
    dequantized: dict[Value, Value] = {}
    for value, given_by_kernel in placement.quantized.items():
        affine = parameters[value]
        if id(affine) not in held:
            held[id(affine)] = scale_and_zero(affine, placement.source(value))
        users = list(value.users)
        isolated = target.words and value.op == "MaxPool" and value.node not in placement.takers
        pair = pair_behind(graph, value, affine, held[id(affine)], isolated)
        dequantized[value] = pair
        for user in users:
            if given_by_kernel or value in placement.takers.get(user, ()):
                user.set_inputs([pair if v is value else v for v in user.inputs])
    for node, layer in weighted(chosen).items():
        odd = target.words and node.op == "Conv" and node.int("group") == 1 and layer.weight.tensor.shape[1] % CHANNELS
        padded = _pad_channels(graph, node, layer, parameters[layer.input]) if odd else layer
        integers_of(graph, node, padded, parameters[layer.input], weights[node])
    if target.rounds_floats:
        keep_floats(graph)
        keep_outputs(graph)
    return dequantized


ROUNDED = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose float weight ONNX Runtime rounds to int8, one scale for all of it, where the input comes from a
DequantizeLinear and the result goes into a QuantizeLinear."""


def keep_floats(graph: Graph) -> None:
    """Puts a Max of one operand in front of float layers that the runtime would round, so that it does not see that
    their input was quantized."""
    kept: dict[Value, Value] = {}
    for node in graph:
        if node.op not in ROUNDED or node.domain or len(node.inputs) < 2 or node.operand(1).const is None:
            continue
        x, user = node.operand(0), node.output.only_user
        if user is not None and clip_range(user) is not None:
            user = user.output.only_user
        if x.op != "DequantizeLinear" or user is None or user.op != "QuantizeLinear":
            continue
        if x not in kept:
            assert x.node is not None, "a DequantizeLinear gives it"
            kept[x] = Builder(graph, x.node.next, loc=_loc(node)).Max(x)
            kept[x].name, kept[x].type = _name(x, "kept"), x.type
        node.set_input(0, kept[x])


MOVERS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators to whose front ONNX Runtime moves a QuantizeLinear."""


def keep_outputs(graph: Graph) -> None:
    """Puts a Max of one operand in front of a Transpose between an output and a QuantizeLinear: the runtime would move
    the latter to the front, and give the output as the integers stand for it."""
    kept: dict[Value, Value] = {}
    for node in list(graph):
        mover = node.operand(0).node if node.op == "QuantizeLinear" and not node.domain else None
        while mover is not None and mover.op in MOVERS and not mover.domain:
            x = mover.operand(0)
            if mover.op == "Transpose" and x.is_output:
                if x not in kept:
                    assert x.node is not None, "an output is computed or an input"
                    kept[x] = Builder(graph, x.node.next, loc=_loc(node)).Max(x)
                    kept[x].name, kept[x].type = _name(x, "kept"), x.type
                mover.set_input(0, kept[x])
                break
            mover = x.node


def erase_unused(pairs: Iterable[Value]) -> None:
    """Takes away DequantizeLinear nodes that nothing uses (all users took a padded form): ONNX Runtime would compute
    them."""
    for value in pairs:
        if not value.users and value.node is not None:
            value.node.erase()


def pair_behind(graph: Graph, value: Value, affine: Affine, constants: tuple[Value, Value], isolated: bool) -> Value:
    """QuantizeLinear and DequantizeLinear behind the node that gives `value`.

    ONNX Runtime moves a QuantizeLinear to the front of a MaxPool, whose u8 kernel is twenty times as slow as the
    float one unless int8 convolutions stand on both sides. A Max of one operand keeps an `isolated` pool in float.
    """
    maker = value.node
    assert maker is not None
    op = Builder(graph, maker.next, loc=_loc(maker))
    source = value
    if isolated:
        source = op.Max(value)
        source.name, source.type = _name(value, "kept"), value.type
    integers = op.QuantizeLinear(source, *constants)
    integers.name, integers.type = _name(value, "quantized"), _typed(value, affine.dtype)
    result = op.DequantizeLinear(integers, *constants)
    result.name, result.type = _name(value, "dequantized"), _typed(value, DType.F32)
    return result


def _pad_channels(graph: Graph, node: Node, layer: Layer, input: Affine) -> Layer:
    """Appends channels of zeros to the input, between its two nodes, and to the weight: the same sums, 1.3 to 5 times
    as fast."""
    pair, weight = node.operand(0), layer.weight.tensor
    assert pair.node is not None
    integers, scale, zero = (pair.node.operand(i) for i in range(3))
    more = -weight.shape[1] % CHANNELS
    op = Builder(graph, node, loc=_loc(node))
    padded = op.Pad(integers, np.array([0, 0, 0, 0, 0, more, 0, 0]), zero)
    assert layer.input.shape is not None, "a Conv without a known rank is no layer"
    batch, channels, *sizes = layer.input.shape
    padded.type = TensorType(input.dtype, (batch, channels + more, *sizes))
    result = op.DequantizeLinear(padded, scale, zero)
    result.type = padded.type.with_dtype(DType.F32)
    padded.name, result.name = _name(layer.input, "padded"), _name(layer.input, "padded_dequantized")
    node.set_input(0, result)
    zeros = Dense(np.zeros((weight.shape[0], more, *weight.shape[2:]), np.float32))
    wide = constant(Lazy("concat", [weight, zeros], axis=1), layer.weight.name)
    return replace(layer, weight=wide)


def integers_of(graph: Graph, node: Node, layer: Layer, input: Affine, weights: Affine) -> None:
    """Replaces weight and bias by integers behind a DequantizeLinear."""
    op = Builder(graph, node, loc=_loc(node))
    node.set_input(1, _dequantized(op, layer.weight, weights))
    if layer.bias is not None:
        vector = constant(row(layer.bias.tensor, layer.channels), layer.bias.name)
        integers = _dequantized(op, vector, scheme.bias(input, weights, layer.channels))
        node.set_inputs([node.operand(0), node.operand(1), integers])


def _dequantized(op: Builder, value: Value, affine: Affine) -> Value:
    operands = [constant(affine.apply(value.tensor), _name(value, "quantized")), *scale_and_zero(affine, value)]
    if affine.dtype is DType.I32:
        operands.pop()
    node = op.node("DequantizeLinear", operands, {"axis": affine.axis} if affine.scale.ndim else {})
    assert isinstance(node, Node)
    node.output.type, node.output.name = value.type, _name(value, "dequantized")
    return node.output


def scale_and_zero(affine: Affine, value: Value) -> tuple[Value, Value]:
    """Scale and zero point. A bias has no use for the latter, but a weight's must be written out: a Gemm is not fused
    without it."""
    return constant(affine.scale, _name(value, "scale")), constant(affine.zero_point, _name(value, "zero_point"))


def _name(value: Value, suffix: str) -> str:
    return f"{value.name}_{suffix}" if value.name else ""


def _typed(value: Value, dtype: DType) -> TensorType:
    assert isinstance(value.type, TensorType)
    return value.type.with_dtype(dtype)


def _loc(node: Node) -> Loc:
    """The place of nodes made for `node`: its scope and source line, without its name."""
    return NOWHERE if node.loc is NOWHERE else node.loc._replace(origin="", fused=(), rule="quantize", metadata=())
