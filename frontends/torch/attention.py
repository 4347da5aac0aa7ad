"""Scaled dot-product attention as ONNX's Attention operator, which ONNX Runtime computes as fast as its parts."""

from __future__ import annotations

import math

from ...ir import DType, Value
from .lowering import Lowering, Rows, dtype_of, rank_of, shape_of, short, typed


def scaled_dot_product_attention(
    op: Lowering, query: Value, key: Value, value: Value, attn_mask: Value | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(query @ key.T * scale + mask) @ value for [batch, heads, length, head dimension].

    A mask of truth values keeps what is true, a mask of numbers is added. Heads of key and value may be fewer (grouped queries) when
    `enable_gqa` says so. A tensor of rank 3 has no heads. The scale is always explicit, since it does not follow from shapes once heads
    are pruned.
    """
    if dropout_p:
        op.decline("it drops attention weights, as in training; export the module after module.eval()")
    rank = rank_of(query)
    if rank not in (3, 4) or rank_of(key) != rank or rank_of(value) != rank:
        op.decline("only tensors of rank 3 and 4 are covered")
    width = shape_of(query)[-1]
    if scale is None and not isinstance(width, int):
        op.decline("the head dimension is symbolic, so its scale is not a fixed number")
    factor = short(scale if scale is not None else 1 / math.sqrt(op.ints(width)[0] or 1))
    q, k, v = (x if rank == 4 else op.unsqueeze(x, [1]) for x in (query, key, value))
    attrs = {"scale": factor} | ({"is_causal": 1} if is_causal else {})
    mask = [] if attn_mask is None else [mask_of(op, attn_mask, query)]
    made = op.Attention(q, k, v, *mask, **attrs)
    return made if rank == 4 else op.squeeze(typed(made, op.out.dtype, [*op.out_shape[:1], 1, *op.out_shape[1:]]), [1])


def mask_of(op: Lowering, mask: Value, query: Value) -> Value:
    """The mask in the query's element type, or of truth values; one without heads gets an axis for them."""
    if dtype_of(mask) is not DType.BOOL:
        mask = op.cast(mask, dtype_of(query))
    return op.unsqueeze(mask, [1]) if rank_of(mask) == 3 and rank_of(query) == 3 else mask


ROWS: Rows = {"aten.scaled_dot_product_attention.default": scaled_dot_product_attention}
