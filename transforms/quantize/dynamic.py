"""Dynamic int8: weights i8 per channel in the file, activations quantized at run time from their own minimum and
maximum.

A layer becomes DynamicQuantizeLinear, MatMulInteger, Cast, Mul by both scales, and the Add of its bias. ONNX Runtime
fuses these into one DynamicQuantizeMatMul, or, where layers share their input, into one DynamicQuantizeLinear and a
MatMulIntegerToFloat each.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...ir import Builder, DType, Graph, Node, Tensor, TensorType, Value, constant, fuse
from ...ir.tensors.lazy import transpose
from .layers import Layer
from .prepare import RULE, row
from .scheme import Affine

Quantized = tuple[Value, Value, Value]
"""A value's u8 form, its scale and its zero point, as DynamicQuantizeLinear gives them."""


def insert(graph: Graph, chosen: Mapping[Node, Layer], weights: Mapping[Node, Affine]) -> dict[Node, Value]:
    """Rewrites every chosen MatMul and Gemm; gives the value that each layer's result has now (without a MatMul's
    bias)."""
    inputs: dict[Value, Quantized] = {}
    found: dict[Node, Value] = {}
    for node, layer in chosen.items():
        x = node.operand(0)  # not `layer.input`, which the layer in front may just have replaced
        if x not in inputs:
            inputs[x] = _quantized(graph, node, x)
        found[node] = _layer(graph, layer, inputs[x], weights[node])
    return found


def _quantized(graph: Graph, node: Node, x: Value) -> Quantized:
    op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
    integers, scale, zero = op.DynamicQuantizeLinear(x, outputs=3)
    for value, dtype, shape, suffix in (
        (integers, DType.U8, x.shape, "quantized"), (scale, DType.F32, (), "scale"), (zero, DType.U8, (), "zero_point"),
    ):  # fmt: skip
        value.type, value.name = TensorType(dtype, shape), f"{x.name}_{suffix}"
    return integers, scale, zero


def _layer(graph: Graph, layer: Layer, x: Quantized, affine: Affine) -> Value:
    node, y = layer.node, layer.node.output
    op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
    name = layer.weight.name
    weight = constant(_columns_last(layer, affine), f"{name}_quantized")
    integers = op.MatMulInteger(x[0], weight, x[2])
    integers.type = TensorType(DType.I32, y.shape)
    scaled = op.Cast(integers, to=DType.F32.code)
    scale = op.Mul(x[1], constant(affine.scale, f"{name}_scale"))
    scale.type = TensorType(DType.F32, affine.scale.shape)
    result = op.Mul(scaled, scale)
    if node.op == "Gemm" and layer.bias is not None:
        scaled.type = result.type = y.type
        result = op.Add(result, constant(row(layer.bias.tensor, layer.channels), layer.bias.name))
    scaled.type = result.type = y.type
    result.name = y.name
    y.replace_by(result)
    node.erase()
    return result


def _columns_last(layer: Layer, affine: Affine) -> Tensor:
    """The quantized weight as [inputs, outputs]."""
    quantized = affine.apply(layer.weight.tensor)
    return quantized if layer.axis == 1 else transpose(quantized, [1, 0])
