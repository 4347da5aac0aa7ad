"""Rows for operators that changed after the canonical opset: a newer node in terms of canonical ones."""

from __future__ import annotations

import numpy as np

from ....ir import DType, TensorType, Value, constant
from .step import Rule, Step


def bit_shift(step: Step) -> None:
    """BitShift-28: signed types, and shifts by fewer than no or more than all bits, which give what is shifted in."""
    node = step.node
    x, amount = node.operand(0), node.operand(1)
    dtype = _dtype(step, x)
    unsigned = DType[dtype.name.replace("I", "U")] if dtype.is_signed else dtype
    op, bits = step.before, constant(np.asarray(8 * dtype.numpy.itemsize, unsigned.numpy))
    negative = op.Less(x, _zero(dtype)) if dtype.is_signed and node.str("direction") == "RIGHT" else None
    if negative is not None:  # of a negative number the complement is shifted, as ones come in
        x = op.Where(negative, op.BitwiseNot(x), x)
    if dtype.is_signed:
        x, amount = (op.BitCast(v, to=unsigned.code) for v in (x, amount))
    partial = op.Less(amount, bits)
    node.set_inputs([x, op.Where(partial, amount, _zero(unsigned))])
    result = step.after.Where(partial, node.output, _zero(unsigned))
    if dtype.is_signed:
        result = step.after.BitCast(result, to=dtype.code)
    if negative is not None:
        result = step.after.Where(negative, step.after.BitwiseNot(result), result)
    step.replace(0, result)


def mod(step: Step) -> None:
    """Mod-28: the remainder of a floor division of floats too; it has the sign of the divisor."""
    node = step.node
    a, b = node.operand(0), node.operand(1)
    dtype = _dtype(step, a)
    if node.int("fmod") or not dtype.is_float:
        return
    node.attrs["fmod"] = 1
    op, zero, rest = step.after, _zero(dtype), node.output
    opposed = op.Xor(op.Less(rest, zero), op.Less(b, zero))
    shifted = op.Where(opposed, op.Add(rest, b), rest)
    step.replace(0, op.Where(op.Equal(rest, zero), op.Mul(op.Sign(b), zero), shifted))


def float_range(step: Step) -> None:
    """Range-27: 16-bit floats, counted in 32 bits."""
    node = step.node
    dtype, stash = _dtype(step, node.operand(0)), step.pop("stash_type")
    if dtype not in (DType.F16, DType.BF16):
        return
    if stash not in (None, DType.F32.code):
        raise step.refuse("it counts in another type than 32-bit floats", "use stash_type=1")
    node.set_inputs([step.before.Cast(v, to=DType.F32.code) for v in node.inputs if v is not None])
    step.replace(0, step.after.Cast(node.output, to=dtype.code))


def space_to_depth(step: Step) -> None:
    """SpaceToDepth-28: `mode`; what CRD gives are the channels of DCR in another order."""
    node = step.node
    if step.pop("mode") != "CRD":
        return
    x, blocks = node.operand(0), node.int("blocksize") ** 2
    channels = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
    if not isinstance(channels, int):
        raise step.refuse("the number of channels is not known")
    order = np.arange(blocks * channels).reshape(blocks, channels).T.reshape(-1)
    step.replace(0, step.after.Gather(node.output, constant(order), axis=1))


def _dtype(step: Step, value: Value) -> DType:
    if not isinstance(value.type, TensorType):
        raise step.refuse("the element type of its operand is not known")
    return value.type.dtype


def _zero(dtype: DType) -> Value:
    return constant(np.asarray(0, dtype.numpy))


CHANGED: dict[tuple[str, int], Rule] = {
    ("BitShift", 28): bit_shift,
    ("Mod", 28): mod,
    ("Range", 27): float_range,
    ("SpaceToDepth", 28): space_to_depth,
}
"""By operator and version: how a node of that version becomes one of the canonical opset."""
