"""Casts: those that lose nothing on the way are left out."""

from __future__ import annotations

from ....ir import Builder, DType, Node
from ....ir.rewrite import Result, decline, rule

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


RULES = (drop_lossless_cast, cast_instead_of_cast_like)
