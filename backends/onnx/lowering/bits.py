"""Operators on the bits of integers: BitwiseAnd, BitwiseOr, BitwiseXor and BitwiseNot (opset 18), BitCast (26)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .form import Inexpressible
from .operands import cast, dtype_of

LOGICAL = {"BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor"}


def bitwise(node: Node, op: Builder) -> Sequence[Value | None]:
    """The logical operator on each bit, along a new last axis; powers of two add up to the result."""
    dtype = dtype_of(node.operand(0))
    width = 8 * dtype.numpy.itemsize
    a, b = (_bits(op, node.operand(i), width) for i in (0, 1))
    both = op.node(LOGICAL[node.op], [a, b])
    assert isinstance(both, Node)
    powers = (np.uint64(1) << np.arange(width, dtype=np.uint64)).astype(np.int64)
    chosen = op.Where(both.output, constant(powers), constant(np.array(0, np.int64)))
    return [cast(op, op.ReduceSum(chosen, [-1], keepdims=0), DType.I64, dtype)]


def _bits(op: Builder, x: Value, width: int) -> Value:
    """The bits from the lowest on, as booleans along a new last axis."""
    places = constant(np.arange(width, dtype=np.uint64))
    shifted = op.BitShift(op.Unsqueeze(cast(op, x, dtype_of(x), DType.U64), [-1]), places, direction="RIGHT")
    return op.Cast(op.Mod(shifted, constant(np.array(2, np.uint64))), to=DType.BOOL.code)


def bitwise_not(node: Node, op: Builder) -> Sequence[Value | None]:
    """All ones minus the number, which is -1 - x where it is signed."""
    dtype = dtype_of(node.operand(0))
    return [op.Sub(constant(np.array(-1 if dtype.is_signed else np.iinfo(dtype.numpy.name).max, dtype.numpy)),
                   node.operand(0))]  # fmt: skip


def bit_cast(node: Node, op: Builder) -> Sequence[Value | None]:
    """A cast between integers of one width, which keeps the bits (BitCast-26)."""
    own, wanted = dtype_of(node.operand(0)), DType.of_code(node.int("to"))
    if own is wanted:
        return [op.Identity(node.operand(0))]
    whole = own is DType.BOOL or own.is_integer
    if not whole or not wanted.is_integer or wanted is DType.BOOL:
        raise Inexpressible("nothing older shows the bits of floats, or takes any byte as a boolean")
    return [op.Cast(node.operand(0), to=wanted.code)]
