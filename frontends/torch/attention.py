"""Scaled dot-product attention as ONNX's Attention operator, which ONNX Runtime computes as fast as its parts."""

from __future__ import annotations

import math

from ...ir import DType, Size, Value
from ...ir.attributes import shortest
from ...ir.dims import product
from .lowering import Lowering, Rows, dtype_of, rank_of, shape_of, typed


def scaled_dot_product_attention(
    op: Lowering, query: Value, key: Value, value: Value, attn_mask: Value | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(query @ key.T * scale + mask) @ value for [batch, heads, length, head dimension].

    A mask of truth values keeps what is true, a mask of numbers is added. Heads of key and value may be fewer (grouped
    queries) when `enable_gqa` says so. A tensor of rank 3 has no heads, one of rank 5 and more several axes of samples.
    The scale is always explicit, since it does not follow from shapes once heads are pruned.
    """
    if dropout_p:
        op.refuse_training()
    width = shape_of(query)[-1]
    if scale is None and not isinstance(width, int):
        op.decline("the head dimension is symbolic, so its scale is not a fixed number")
    factor = shortest(scale if scale is not None else 1 / math.sqrt(op.ints(width)[0] or 1))
    samples = op.out_shape[: max(1, len(op.out_shape) - 3)]
    q, k, v = (four_axes(op, x, samples) for x in (query, key, value))
    attrs = {"scale": factor} | ({"is_causal": 1} if is_causal else {})
    mask = [] if attn_mask is None else [mask_of(op, attn_mask, query, key)]
    made = op.Attention(q, k, v, *mask, **attrs)
    shape = op.out_shape
    four = [product(samples), *(shape[-3:] if len(shape) > 3 else [1, *shape[-2:]])]
    return made if len(shape) == 4 else op.reshape(typed(made, op.out.dtype, four), shape)


def four_axes(op: Lowering, x: Value, samples: tuple[Size, ...]) -> Value:
    """x as [samples, heads, length, width], with as many samples as the result has."""
    shape = shape_of(x)
    rest = shape[-3:] if len(shape) > 3 else [1, *shape[-2:]]
    if len(shape) == 3:
        x = op.unsqueeze(x, [1])
    return op.reshape(op.expand(x, [*samples, *rest]), [product(samples), *rest])


def mask_of(op: Lowering, mask: Value, query: Value, key: Value) -> Value:
    """The mask in the query's element type, or of truth values, with an entry per query and key; axes before these may
    have size 1."""
    rank = rank_of(query)
    if rank_of(mask) > 4 or (rank > 4 and rank_of(mask) > 2):
        op.decline("a mask for several axes of samples is not covered")
    if dtype_of(mask) is not DType.BOOL:
        mask = op.cast(mask, dtype_of(query))
    if rank_of(mask) == 3 and rank == 3:
        mask = op.unsqueeze(mask, [1])
    return op.expand(mask, [*shape_of(mask)[:-2], shape_of(query)[-2], shape_of(key)[-2]])


ROWS: Rows = {"aten.scaled_dot_product_attention.default": scaled_dot_product_attention}
