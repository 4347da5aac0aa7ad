"""Writes an annotation into the graph: QuantizeLinear/DequantizeLinear pairs at values, DequantizeLinear at weights and biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...ir import NOWHERE, Builder, DType, Graph, Loc, Node, TensorType, Value, constant
from . import scheme
from .layers import Layer
from .observers import Range
from .placement import Placement, limit
from .prepare import row
from .scheme import Affine


def activation_parameters(placement: Placement, ranges: Mapping[Value, Range]) -> dict[Value, Affine]:
    """Scale and zero point of every quantized value, from the ranges of the placement's sources."""
    own = {v: scheme.activation(ranges[v], limit(v)) for v in placement.sources()}
    return {v: own[placement.source(v)] for v in placement.quantized}


def insert(
    graph: Graph,
    placement: Placement,
    chosen: Mapping[Node, Layer],
    parameters: Mapping[Value, Affine],
    weights: Mapping[Node, Affine],
) -> dict[Value, Value]:
    """Puts the pairs and quantized constants into the graph; gives each quantized value's dequantized form.

    `parameters` and `weights` are the scales of the placement's values and of the layers' weights.
    """
    held: dict[int, tuple[Value, Value]] = {}
    dequantized: dict[Value, Value] = {}
    for value, given_by_kernel in placement.quantized.items():
        affine = parameters[value]
        if id(affine) not in held:
            held[id(affine)] = _constants(affine, placement.source(value).name)
        users = list(value.users)
        pair = _pair(graph, value, affine, held[id(affine)])
        dequantized[value] = pair
        for user in users:
            if given_by_kernel or value in placement.takers.get(user, ()):
                user.set_inputs([pair if v is value else v for v in user.inputs])
    for node, layer in chosen.items():
        _constants_of(graph, node, layer, parameters[layer.input], weights[node])
    return dequantized


def _pair(graph: Graph, value: Value, affine: Affine, constants: tuple[Value, Value]) -> Value:
    maker = value.node
    assert maker is not None
    op = Builder(graph, maker.next, loc=_loc(maker))
    integers = op.QuantizeLinear(value, *constants)
    integers.name, integers.type = f"{value.name}_quantized", _typed(value, affine.dtype)
    result = op.DequantizeLinear(integers, *constants)
    result.name, result.type = f"{value.name}_dequantized", _typed(value, DType.F32)
    return result


def _constants_of(graph: Graph, node: Node, layer: Layer, input: Affine, weights: Affine) -> None:
    """Replaces weight and bias by integers behind a DequantizeLinear."""
    op = Builder(graph, node, loc=_loc(node))
    node.set_input(1, _dequantized(op, layer.weight, weights))
    if layer.bias is not None:
        vector = constant(row(layer.bias.tensor, layer.channels), layer.bias.name)
        node.set_input(2, _dequantized(op, vector, scheme.bias(input, weights, layer.channels)))


def _dequantized(op: Builder, value: Value, affine: Affine) -> Value:
    name = value.name or "constant"
    operands = [constant(affine.apply(value.tensor), f"{name}_quantized"), *_constants(affine, name)]
    if affine.dtype is DType.I32:
        operands.pop()
    node = op.node("DequantizeLinear", operands, {"axis": affine.axis} if affine.scale.ndim else {})
    assert isinstance(node, Node)
    node.output.type, node.output.name = value.type, f"{name}_dequantized"
    return node.output


def _constants(affine: Affine, name: str) -> tuple[Value, Value]:
    """Scale and zero point. A bias has no use for the latter, but a weight's must be written out: a Gemm is not fused without it."""
    return constant(affine.scale, f"{name}_scale"), constant(affine.zero_point, f"{name}_zero_point")


def _typed(value: Value, dtype: DType) -> TensorType:
    assert isinstance(value.type, TensorType)
    return value.type.with_dtype(dtype)


def _loc(node: Node) -> Loc:
    """The place of nodes made for `node`: its scope and source line, without its name."""
    return NOWHERE if node.loc is NOWHERE else replace(node.loc, origin="", fused=(), rule="quantize", metadata=())
