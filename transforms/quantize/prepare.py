"""Exact rewritings that give layers the form which int8 kernels have.

A MatMul and the Add of its bias become a two-dimensional Gemm: ONNX Runtime has a kernel for it that takes u8 and
gives f32, while it turns a quantized MatMul with an Add behind it into a float Gemm. A mean over both spatial axes
becomes GlobalAveragePool, Swish the product with a Sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...ir import Builder, DType, Graph, Node, Tensor, TensorType, Value, constant, fuse
from ...ir.dims import Size
from ...ir.tensors.lazy import Lazy, reshape
from .layers import Integer, Layer, is_f32

RULE = "quantize"


def matmuls_to_gemms(graph: Graph, chosen: Mapping[Node, Integer]) -> dict[Node, Integer]:
    """Rewrites every chosen MatMul with a weight; gives the layers as they are afterwards, in the same order, under the
    nodes that now compute them."""
    flat: dict[Value, Value] = {}
    found: dict[Node, Integer] = {}
    for layer in chosen.values():
        now = layer.again()
        made = _to_gemm(graph, now, flat) if isinstance(now, Layer) and now.node.op == "MatMul" else now
        found[made.node] = made
    return found


def _to_gemm(graph: Graph, layer: Layer, flat: dict[Value, Value]) -> Layer:
    """The layer as Gemm; inputs of a higher rank are flattened to rows, once for all layers that share one (`flat`)."""
    node, x, last = layer.node, layer.input, layer.adder or layer.node
    shape = x.shape or ()
    loc = fuse(node.loc, [last.loc], RULE)
    if x.rank != 2 and x not in flat:
        flat[x] = Builder(graph, node, loc=loc).Reshape(x, [-1, int(layer.weight.tensor.shape[0])])
        flat[x].type = TensorType(DType.F32, (math.prod(shape[:-1]), layer.weight.tensor.shape[0]))
        flat[x].name = x.name
    op = Builder(graph, last, loc=loc)
    bias = None if layer.bias is None else constant(row(layer.bias.tensor, layer.channels), layer.bias.name)
    rows = flat.get(x, x)
    y = op.Gemm(rows, layer.weight, *([bias] if bias is not None else []))
    gemm = y.node
    y.type, y.name = TensorType(DType.F32, (math.prod(shape[:-1]), layer.channels)), last.output.name
    if x.rank != 2:
        y = op.Reshape(y, _target(op, x, shape[:-1], layer.channels))
        y.type, y.name = last.output.type, last.output.name
    last.output.replace_by(y)
    last.erase()
    if last is not node:
        node.erase()
    return Layer(gemm, rows, layer.weight, 1, layer.amplitude, bias)


def _target(op: Builder, x: Value, leading: tuple[Size, ...], columns: int) -> Value | list[int]:
    """The shape of the result: a constant where at most one leading size is open and none is zero, else computed from
    `x`."""
    sizes = [d if isinstance(d, int) else -1 for d in leading]
    if sizes.count(-1) <= 1 and 0 not in sizes:
        return [*sizes, columns]
    shape = op.Shape(x, end=-1)
    shape.type = TensorType(DType.I64, (len(leading),))
    target = op.Concat(shape, np.array([columns], np.int64), axis=0)
    target.type = TensorType(DType.I64, (len(leading) + 1,))
    return target


def row(bias: Tensor, count: int) -> Tensor:
    """A bias as a vector of `count` numbers, from one of any rank that broadcasts along the last axis."""
    if bias.count == 1 and count != 1:
        return Lazy("broadcast", [reshape(bias, [1])], shape=(count,))
    return reshape(bias, [count])


def means_to_pools(graph: Graph) -> None:
    """Rewrites means over the two spatial axes of images as GlobalAveragePool (and Flatten where the axes are
    dropped)."""
    for node in graph:
        if node.op != "ReduceMean" or node.domain or not _is_spatial(node):
            continue
        x, y = node.operand(0), node.output
        op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
        pooled = op.GlobalAveragePool(x)
        pooled.type = TensorType(DType.F32, (*(x.shape or ())[:2], 1, 1))
        if not node.int("keepdims"):
            pooled = op.Flatten(pooled)
        pooled.type, pooled.name = y.type, y.name
        y.replace_by(pooled)
        node.erase()


def swishes_to_products(graph: Graph) -> None:
    """Rewrites Swish as x sigmoid(alpha x): Sigmoid and Mul have kernels that stay in u8, Swish has none."""
    for node in graph:
        if node.op != "Swish" or node.domain or not is_f32(node.operand(0)):
            continue
        x, y, alpha = node.operand(0), node.output, node.float("alpha")
        op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
        gate = op.Sigmoid(x if alpha == 1 else op.Mul(x, alpha))
        product = op.Mul(x, gate)
        for made in op.new:
            made.output.type = y.type
        product.name = y.name
        y.replace_by(product)
        node.erase()


def _is_spatial(node: Node) -> bool:
    x, axes = node.operand(0), node.input(1)
    if x.rank != 4 or not is_f32(x) or axes is None or axes.const is None:
        return False
    return sorted(int(a) % 4 for a in axes.tensor.numpy()) == [2, 3]
