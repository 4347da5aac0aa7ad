"""Casts: those that lose nothing on the way are left out."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Dense, DType, Node, Tensor, Value
from ....ir.rewrite import P, Result, decline, rule

FRACTION_BITS = {DType.F16: 11, DType.BF16: 8, DType.F32: 24, DType.F64: 53}
"""Integers up to 2 to this power have exact values."""

EXPONENT_BITS = {DType.F16: 5, DType.BF16: 8, DType.F32: 8, DType.F64: 11}


def is_lossless(source: DType, target: DType) -> bool:
    """True where every number of `source` is one of `target`."""
    if source is target or source is DType.BOOL:
        return target is not DType.STRING
    if source in FRACTION_BITS:
        return (
            target in FRACTION_BITS
            and FRACTION_BITS[source] <= FRACTION_BITS[target]
            and EXPONENT_BITS[source] <= EXPONENT_BITS[target]
        )
    if not source.is_integer:
        return False
    bits = source.bits - source.is_signed
    if target in FRACTION_BITS:
        return bits <= FRACTION_BITS[target]
    signs = target.is_signed or not source.is_signed
    return target.is_integer and signs and bits <= target.bits - target.is_signed


@rule("Cast")
def drop_lossless_cast(op: Builder, node: Node) -> Result:
    """A Cast of a Cast that loses nothing is one Cast."""
    inner = node.operand(0).node
    if inner is None or inner.op != "Cast" or inner.domain:
        return decline("its operand is no Cast")
    source, between = inner.operand(0).dtype, node.operand(0).dtype
    if source is None or between is None or not is_lossless(source, between):
        return decline("the first Cast loses something")
    if source is node.output.dtype:
        return inner.operand(0)
    return op.Cast(inner.operand(0), **node.attrs)


@rule("CastLike")
def cast_instead_of_cast_like(op: Builder, node: Node) -> Result:
    """A CastLike to a known element type is a Cast."""
    target = node.operand(1).dtype
    if target is None:
        return decline("the element type is not known")
    return op.Cast(node.operand(0), **{**node.attrs, "to": target.code})


MOVING = frozenset(["Expand", "Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"])
"""Operators that put elements of their first operand elsewhere, in every element type."""

REACH = 8
"""Such operators between two Casts that are to meet."""


@rule("Cast")
def meet_across_movement(op: Builder, node: Node) -> Result:
    """A Cast that loses nothing before elements are moved, and a Cast behind it, are one Cast behind it or none."""
    path: list[Node] = []
    value = node.operand(0)
    while value.node is not None and value.op in MOVING and value.only_user is not None and len(path) < REACH:
        path.append(value.node)
        value = value.node.operand(0)
    if not path or value.node is None or value.op != "Cast" or value.only_user is None:
        return decline("no elements are moved between it and another Cast")
    source = value.node.operand(0)
    before, between = source.dtype, value.dtype
    if before is None or between is None or not is_lossless(before, between):
        return decline("the first Cast loses something")
    moved = source
    for step in reversed(path):
        made = op.node(step.op, [moved, *step.inputs[1:]], step.attrs)
        moved = made.output if isinstance(made, Node) else made
    return moved if before is node.output.dtype else op.Cast(moved, **node.attrs)


@rule(P.Cast(P.ConstantOfShape(P.var("shape")).named("filled")).named("cast"))
def fill_with_cast(op: Builder, shape: Value, filled: Node, cast: Node) -> Result:
    """A Cast of what is filled with one number is filled with that number, cast."""
    given, target = filled.attr("value"), cast.output.dtype
    number = given.numpy().reshape(1) if isinstance(given, Tensor) else np.zeros(1, np.float32)
    if (
        target is None
        or not (target.is_float or target.is_integer or target is DType.BOOL)
        or number.dtype.kind in "OV"
    ):
        return decline("runtimes do not fill with its element type")
    whole = number.dtype.kind != "f" or (bool(np.isfinite(number).all()) and float(number[0]).is_integer())
    if not whole and not target.is_float:
        return decline("what the number is as an integer is up to the runtime")
    return op.ConstantOfShape(shape, value=Dense(number.astype(target.numpy), target))


x, s, t, z, w = P.var("x"), P.const("s"), P.const("t"), P.opt_const("z"), P.opt_const("w")
ORDINARY = (1e-30, 1e30)
"""Scales between which a step up and down again is exact for integers of 16 bits."""


@rule(P.QuantizeLinear(P.DequantizeLinear(x, s, z).named("down"), t, w).named("up"))
def drop_requantization(
    op: Builder, x: Value, s: Value, t: Value, z: Value | None, w: Value | None, down: Node, up: Node
) -> Result:
    """Integers that are dequantized and quantized again in the same way are what they were. Not the other way round:
    quantizing rounds.
    """
    zeros = [None if v is None else v.tensor for v in (z, w)]
    if not s.tensor.same_as(t.tensor) or (zeros[0] is None) != (zeros[1] is None):
        return decline("scales or zero points differ")
    if zeros[0] is not None and zeros[1] is not None and not zeros[0].same_as(zeros[1]):
        return decline("scales or zero points differ")
    if any(down.int(name) != up.int(name) for name in ("axis", "block_size")) or x.dtype is not up.output.dtype:
        return decline("element types or axes differ")
    scales = s.tensor.numpy().astype(np.float64)
    if x.dtype is None or not x.dtype.is_integer or x.dtype.bits > 16 or s.dtype is not DType.F32:
        return decline("its numbers are too wide for single precision")
    if not bool(((scales > ORDINARY[0]) & (scales < ORDINARY[1])).all()):
        return decline("a scale is not an ordinary number")
    return x


RULES = (drop_requantization, drop_lossless_cast, cast_instead_of_cast_like, meet_across_movement, fill_with_cast)
