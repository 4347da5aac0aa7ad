"""QuantizeLinear, DequantizeLinear and QLinearMatMul with the types, blocks and channels that older opsets lack.

What opsets lack are the operators' forms, not the element types, so the arithmetic is written out: round(x / scale) +
zero point, kept within the type's range, and (x - zero point) * scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .form import Inexpressible
from .operands import cast, dtype_of, indices, scalar, shape_of, size_of

SMALL = (DType.I8, DType.U8, DType.I16, DType.U16)


def quantized_type(node: Node) -> DType | None:
    """The element type on the quantized side."""
    if node.op == "DequantizeLinear":
        return node.operand(0).dtype
    code = node.int("output_dtype", 0)
    if code:
        return DType.of_code(code)
    zero_point = node.input(2)
    return (None if zero_point is None else zero_point.dtype) or DType.U8


def is_blocked_or_16_bit(node: Node) -> bool:
    """True for a form of version 21 whose types opsets before have all the same."""
    dtype = quantized_type(node)
    return dtype in (DType.I16, DType.U16) or (bool(node.int("block_size", 0)) and dtype in (*SMALL, DType.I32))


def is_half(node: Node) -> bool:
    """True where 16-bit floats are quantized, or made (version 19)."""
    floats = (node.operand(0).dtype, node.operand(1).dtype)
    return any(d in (DType.F16, DType.BF16) for d in floats) and quantized_type(node) in (*SMALL, DType.I32)


def is_per_channel(node: Node) -> bool:
    """True where there is a scale for each channel (version 13)."""
    shape = node.operand(1).shape
    return shape is not None and shape != () and quantized_type(node) in (*SMALL, DType.I32)


def quantize_linear(node: Node, op: Builder) -> Sequence[Value | None]:
    x, wanted = node.operand(0), quantized_type(node)
    if wanted not in SMALL:
        raise Inexpressible("its output type does not exist there")
    code = node.int("precision", 0)
    own = dtype_of(x)
    precision = DType.of_code(code) if code else (own if own is DType.F64 else DType.F32)
    ratio = op.Div(cast(op, x, own, precision), _spread(node, op, 1, precision))
    whole, limits = op.Round(ratio), np.iinfo(wanted.numpy.name)
    if node.input(2) is not None:
        whole = op.Add(whole, _spread(node, op, 2, precision))
    low, high = (constant(np.asarray(v, precision.numpy)) for v in (limits.min, limits.max))
    return [op.Cast(op.Min(op.Max(whole, low), high), to=wanted.code)]


def dequantize_linear(node: Node, op: Builder) -> Sequence[Value | None]:
    x, scale = node.operand(0), node.operand(1)
    own, code = dtype_of(x), node.int("output_dtype", 0)
    wanted = DType.of_code(code) if code else dtype_of(scale)
    if own not in (*SMALL, DType.I32):
        raise Inexpressible("its input type does not exist there")
    if node.input(2) is not None:
        x, own = op.Sub(cast(op, x, own, DType.I32), _spread(node, op, 2, DType.I32)), DType.I32
    y = op.Mul(op.Cast(x, to=DType.F32.code), _spread(node, op, 1, DType.F32))
    return [cast(op, y, DType.F32, wanted)]


def _spread(node: Node, op: Builder, index: int, dtype: DType) -> Value:
    """A scale or zero point as `dtype`, in a shape that broadcasts with the data."""
    x, value = node.operand(0), node.operand(index)
    value = cast(op, value, dtype_of(value), dtype)
    shape, block = shape_of(node.operand(index)), node.int("block_size", 0)
    if not shape:
        return value
    rank = len(shape_of(x))
    axis = node.int("axis", 1) % rank
    if block:
        return op.Gather(value, op.Div(indices(op, size_of(op, x, axis)), scalar(block)), axis=axis)
    others = [i for i in range(rank) if i != axis]
    return op.Unsqueeze(value, others) if others else value


def has_half_scales(node: Node) -> bool:
    return any(node.operand(i).dtype in (DType.F16, DType.BF16) for i in (1, 4, 6))


def q_linear_mat_mul(node: Node, op: Builder) -> Sequence[Value | None]:
    """Scales in 32 bits, which hold those in 16 (QLinearMatMul-21)."""
    operands = [
        cast(op, v, dtype_of(v), DType.F32) if v is not None and i in (1, 4, 6) else v
        for i, v in enumerate(node.inputs)
    ]
    made = op.node("QLinearMatMul", operands)
    assert isinstance(made, Node)
    return [made.output]
