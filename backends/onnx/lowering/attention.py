"""Attention and rotary positions in terms of MatMul and Softmax, for opsets before 23."""

from __future__ import annotations

import math

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .form import Inexpressible
from .operands import cast, dtype_of, known, number, shape_of

HEADS_FIRST = [0, 2, 1, 3]
Q, K, V, MASK, PAST_KEY, PAST_VALUE, VALID = range(7)
RAW, CAPPED, BIASED, PROBABILITIES = range(4)


def attention(node: Node, op: Builder) -> list[Value | None]:
    """softmax(Q K' scale + bias) V with an optional cache, grouped heads, soft cap and masks (Attention-25)."""
    if node.input(VALID) is not None or any(node.int(n, -1) >= 0 for n in ("left_window_size", "right_window_size")):
        raise Inexpressible("nonpad_kv_seqlen and sliding windows have no decomposition")
    dtype = dtype_of(node.operand(Q))
    packed = len(shape_of(node.operand(Q))) == 3
    query, key, value = (_by_heads(node, op, i, packed) for i in (Q, K, V))
    for index, past in ((K, node.input(PAST_KEY)), (V, node.input(PAST_VALUE))):
        if past is not None:
            joined = op.Concat(past, key if index == K else value, axis=2)
            key, value = (joined, value) if index == K else (key, joined)
    heads, kept = _heads(node, Q, packed), _heads(node, K, packed)
    present = (key, value)
    if heads != kept:
        sizes = [_head_size(node, i, packed) for i in (K, V)]
        key, value = (_repeat(op, v, kept, heads // kept, s) for v, s in zip((key, value), sizes, strict=True))
    root = number(math.sqrt(_scale(node, packed)), dtype)
    raw = op.MatMul(op.Mul(query, root), op.Transpose(op.Mul(key, root), perm=[0, 1, 3, 2]))
    capped = _cap(op, raw, node.float("softcap"), dtype)
    bias = _bias(node, op, query, key, dtype)
    scores = capped if bias is None else op.Add(capped, bias)
    probabilities = _softmax(node, op, scores, bias, dtype)
    y = op.MatMul(probabilities, value)
    if packed:
        y = op.Reshape(op.Transpose(y, perm=HEADS_FIRST), [0, 0, -1])
    shown = {RAW: raw, CAPPED: capped, BIASED: scores, PROBABILITIES: probabilities}[node.int("qk_matmul_output_mode")]
    return [y, *present, shown][: len(node.outputs)]


def _by_heads(node: Node, op: Builder, index: int, packed: bool) -> Value:
    """An operand as [batch, heads, length, head size]."""
    if not packed:
        return node.operand(index)
    heads = _heads(node, index, packed)
    return op.Transpose(op.Reshape(node.operand(index), [0, 0, heads, -1]), perm=HEADS_FIRST)


def _heads(node: Node, index: int, packed: bool) -> int:
    if packed:
        return node.int("q_num_heads" if index == Q else "kv_num_heads")
    return known(shape_of(node.operand(index))[1], "the number of heads")


def _head_size(node: Node, index: int, packed: bool) -> int:
    size = known(shape_of(node.operand(index))[-1], "the size of a head")
    return size // _heads(node, index, packed) if packed else size


def _scale(node: Node, packed: bool) -> float:
    given = node.attr("scale")
    return float(given) if isinstance(given, (int, float)) else 1 / math.sqrt(_head_size(node, Q, packed))


def _repeat(op: Builder, x: Value, heads: int, times: int, size: int) -> Value:
    """Every head `times` times in a row: [b, heads, s, d] as [b, heads * times, s, d]."""
    wide = op.Concat(*[op.Unsqueeze(x, [2])] * times, axis=2)
    return op.Reshape(wide, [0, heads * times, -1, size])


def _cap(op: Builder, scores: Value, limit: float, dtype: DType) -> Value:
    if limit <= 0:
        return scores
    bound = number(limit, dtype)
    return op.Mul(op.Tanh(op.Div(scores, bound)), bound)


def _bias(node: Node, op: Builder, query: Value, key: Value, dtype: DType) -> Value | None:
    """What is added to the scores, minus infinity where a query does not see a key; None where all see all."""
    mask, zero, never = node.input(MASK), number(0, dtype), number(-np.inf, dtype)
    bias = None
    if mask is not None:
        _check_length(node, mask)
        bias = op.Where(mask, zero, never) if dtype_of(mask) is DType.BOOL else mask
    if node.int("is_causal"):
        causal = op.Where(_causal(node, op, query, key), zero, never)
        bias = causal if bias is None else op.Add(bias, causal)
    return bias


def _check_length(node: Node, mask: Value) -> None:
    """A mask may be shorter than the keys from version 24 on; that needs a padding that depends on sizes."""
    shape, keys = shape_of(mask), node.operand(K).shape
    if node.input(PAST_KEY) is not None or keys is None:
        return
    if isinstance(shape[-1], int) and isinstance(keys[-2], int) and 1 < shape[-1] < keys[-2]:
        raise Inexpressible("its mask is shorter than its keys")


def _causal(node: Node, op: Builder, query: Value, key: Value) -> Value:
    """Key j is seen by query i where j <= i + the length of the cache."""
    zero, one, axis = (constant(np.array(i, np.int64)) for i in (0, 1, 2))
    rows = op.Unsqueeze(op.Range(zero, op.Gather(op.Shape(query), axis), one), [1])
    columns = op.Range(zero, op.Gather(op.Shape(key), axis), one)
    past = node.input(PAST_KEY)
    if past is not None:
        rows = op.Add(rows, op.Gather(op.Shape(past), axis))
    return op.LessOrEqual(columns, rows)


def _softmax(node: Node, op: Builder, scores: Value, bias: Value | None, dtype: DType) -> Value:
    """Probabilities; a query that sees no key has zeros instead of the NaN of a plain softmax."""
    code = node.attr("softmax_precision")
    wide = DType.of_code(code) if isinstance(code, int) and code else dtype
    result = cast(op, op.Softmax(cast(op, scores, dtype, wide), axis=-1), wide, dtype)
    mask = node.input(MASK)
    if bias is None or mask is None or not (node.int("is_causal") or _may_hide_all(mask)):
        return result
    best = op.ReduceMax(bias, [-1])
    return op.Where(op.Equal(best, number(-np.inf, dtype)), number(0, dtype), result)


def _may_hide_all(mask: Value) -> bool:
    """False where a constant mask lets every query see some key."""
    if mask.const is None:
        return True
    array = mask.const.numpy()
    hidden = ~array if array.dtype == bool else np.isneginf(array.astype(np.float64))
    return bool(hidden.all(axis=-1).any())


def rotary_embedding(node: Node, op: Builder) -> list[Value | None]:
    """Pairs of features rotated by an angle for each position (RotaryEmbedding-23)."""
    x, positions, shape = node.operand(0), node.input(3), shape_of(node.operand(0))
    packed, heads = len(shape) == 3, node.int("num_heads", 0)
    size = known(shape[-1], "the size of a head") // (heads if packed else 1)
    rotated = node.int("rotary_embedding_dim", 0) or size
    x4 = op.Reshape(x, [0, 0, heads, size]) if packed else x
    # The tables get the axis of the heads: the third one where heads are packed, else the second.
    tables = (v if positions is None else op.Gather(v, positions, axis=0) for v in (node.operand(1), node.operand(2)))
    cos, sin = (op.Unsqueeze(v, [2 if packed else 1]) for v in tables)
    moving = op.Slice(x4, [0], [rotated], [3]) if rotated < size else x4
    if node.int("interleaved", 0):
        a, b = (op.Slice(moving, [start], [rotated], [3], [2]) for start in (0, 1))
    else:
        a, b = op.Split(moving, [rotated // 2, rotated // 2], axis=3, outputs=2)
    real = op.Sub(op.Mul(cos, a), op.Mul(sin, b))
    imaginary = op.Add(op.Mul(sin, a), op.Mul(cos, b))
    if node.int("interleaved", 0):
        pairs = op.Concat(op.Unsqueeze(real, [4]), op.Unsqueeze(imaginary, [4]), axis=4)
        turned = op.Reshape(pairs, [0, 0, 0, rotated])
    else:
        turned = op.Concat(real, imaginary, axis=3)
    if rotated < size:
        turned = op.Concat(turned, op.Slice(x4, [rotated], [size], [3]), axis=3)
    return [op.Reshape(turned, [0, 0, heads * size]) if packed else turned]
