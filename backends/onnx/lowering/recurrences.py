"""Recurrences of newer opsets as scans: CumProd, LinearAttention; and CausalConvWithState, whose state is a window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .loops import scan
from .operands import around, cast, dtype_of, known, number, shape_of, size_of, vector

BATCH, STEPS = 0, 1


def cum_prod(node: Node, op: Builder) -> Sequence[Value | None]:
    """A scan that multiplies (CumProd-26)."""
    exclusive, x = bool(node.int("exclusive", 0)), node.operand(0)

    def products(x3: Value) -> Value:
        one = op.Expand(number(1, x), vector(op, size_of(op, x3, 0), size_of(op, x3, 2)))

        def turn(body: Builder, states: Sequence[Value], items: Sequence[Value], _: Sequence[Value]) -> list[Value]:
            product = body.Mul(states[0], items[0])
            return [product, body.Identity(states[0] if exclusive else product)]

        return scan(op, [one], [x3], [], turn, axis=1, reverse=bool(node.int("reverse", 0)))[1]

    return [around(op, x, node.operand(1), products)]


def linear_attention(node: Node, op: Builder) -> Sequence[Value | None]:
    """A state that decays, is corrected and written to with each key, and read with each query (LinearAttention-27)."""
    query, past = node.operand(0), node.input(3)
    own = dtype_of(query)
    wide = own if own is DType.F64 else DType.F32
    heads, kept = node.int("q_num_heads"), node.int("kv_num_heads")
    gated, corrected = node.input(4) is not None, node.input(5) is not None
    scale = node.float("scale", 0.0)
    if not scale:
        scale = 1 / math.sqrt(known(shape_of(query)[-1], "the size of a head") // heads)
    items = [_by_heads(node, op, i, heads if i == 0 else kept, wide) for i in (0, 1, 2)]
    items += [_by_heads(node, op, 4, kept, wide)] if gated else []
    items += [cast(op, op.Unsqueeze(node.operand(5), [3]), own, wide)] if corrected else []
    if past is None:
        sizes = [op.Div(size_of(op, node.operand(i), 2), np.array(kept)) for i in (1, 2)]
        state = op.Expand(number(0, wide), vector(op, size_of(op, query, BATCH), kept, *sizes))
    else:
        state = cast(op, past, dtype_of(past), wide)

    def turn(body: Builder, states: Sequence[Value], items: Sequence[Value], _: Sequence[Value]) -> list[Value]:
        state, (q, k, v), rest = states[0], items[:3], list(items[3:])
        if gated:
            state = body.Mul(state, body.Exp(body.Unsqueeze(rest.pop(0), [3])))
        if corrected:
            found = body.Squeeze(body.MatMul(body.Unsqueeze(k, [2]), state), [2])
            v = body.Mul(rest.pop(0), body.Sub(v, found))
        state = body.Add(state, body.Mul(body.Unsqueeze(k, [3]), body.Unsqueeze(v, [2])))
        read = body.MatMul(body.Reshape(q, [0, kept, heads // kept, -1]), state)
        return [state, body.Mul(body.Reshape(read, [0, heads, -1]), number(scale, wide))]

    final, read = scan(op, [state], items, [], turn, axis=STEPS)
    output = cast(op, op.Reshape(read, [0, 0, -1]), wide, own)
    return [output, cast(op, final, wide, own if past is None else dtype_of(past))][: len(node.outputs)]


def _by_heads(node: Node, op: Builder, index: int, heads: int, wide: DType) -> Value:
    """An operand as [batch, steps, heads, size]."""
    x = node.operand(index)
    return cast(op, op.Reshape(x, [0, 0, heads, -1]), dtype_of(x), wide)


def causal_conv(node: Node, op: Builder) -> Sequence[Value | None]:
    """A depthwise convolution over the kept window and what follows it (CausalConvWithState-27)."""
    x, weight, past = node.operand(0), node.operand(1), node.input(3)
    channels = known(shape_of(weight)[0], "the number of channels")
    if past is None:
        before = op.Sub(size_of(op, weight, 2), np.array(1))
        past = op.Expand(number(0, x), vector(op, size_of(op, x, BATCH), channels, before))
    window = op.Concat(past, x, axis=2)
    y = op.Conv(window, weight, node.input(2), group=channels)
    if node.str("activation", "none") != "none":
        own = dtype_of(x)
        y = cast(op, y, own, own if own is DType.F64 else DType.F32)
        y = cast(op, op.Mul(y, op.Sigmoid(y)), own if own is DType.F64 else DType.F32, own)
    start = op.Reshape(size_of(op, x, 2), constant(np.array([1])))
    return [y, op.Slice(window, start, [np.iinfo(np.int64).max], [2])][: len(node.outputs)]


def swiglu(node: Node, op: Builder) -> Sequence[Value | None]:
    """Swish of the gate times the value (SwiGLU-28)."""
    return [op.Mul(op.Swish(node.operand(0), alpha=node.float("alpha", 1.0)), node.operand(1))]
