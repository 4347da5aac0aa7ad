"""Chains that networks are written out as: normalizations, activations, reductions, heads of attention, rotary
positions, recurrent layers and images. Like motifs.py, for the rules that need a certain kind of input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from graphs import FLOATS, Grow, Grower, known, shape_of
from hypothesis import strategies as st
from tersor.ir import DType, Value, constant, symbol, tensor

BATCH, LENGTH = symbol("batch"), symbol("length")
END = 2**63 - 1


def ints(*numbers: int) -> Value:
    return constant(np.array(numbers, np.int64))


def number(value: float) -> Value:
    return constant(np.array(value, np.float32))


def either(g: Grower) -> bool:
    return g.draw(st.booleans())


def one_of(g: Grower, *choices: object) -> object:
    return g.draw(st.sampled_from(choices))


def fresh(g: Grower, *shape: int | str, dtype: str = "f32") -> Value:
    """A new input of the graph."""
    made = g.graph.add_input(f"z{len(g.graph.inputs)}", tensor(dtype, *shape))
    g.values.append(made)
    return made


def image(g: Grower, channels: int = 4) -> Value:
    return fresh(g, "batch", channels, 4, 4)


def near(g: Grower, value: float) -> Value:
    """A number, now and then another one that is close."""
    return number(value * g.draw(st.sampled_from([1, 1, 1, 1.01])))


def scaled_norms(g: Grower) -> Value | None:
    """Normalizations with scale and bias behind them, and products with weights or other norms behind those."""
    kind = one_of(g, "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization")
    channelwise = kind in ("InstanceNormalization", "GroupNormalization")
    x = image(g) if channelwise else (g.pick(ranks=(2, 3)) or fresh(g, "batch", 3, 4))
    width = 4 if channelwise else known(x)[-1]
    wide = [width, 1, 1] if channelwise else g.draw(st.sampled_from([[width], [1, width], []]))
    unit = constant(np.ones(width, np.float32)) if either(g) else g.constant([width], name="k")
    zero = constant(np.zeros(width, np.float32)) if either(g) else g.constant([width], name="s")
    rest = {"num_groups": 2} if kind == "GroupNormalization" else {} if channelwise else {"axis": -1}
    operands = [x, unit] if kind == "RMSNormalization" or (not channelwise and either(g)) else [x, unit, zero]
    y = g.add(str(kind), *operands, epsilon=1e-2, **rest)
    if channelwise and either(g):
        rows = [g.constant([width]), g.constant([width]), constant(np.zeros(width, np.float32))]
        return g.add("BatchNormalization", y, *rows, constant(np.ones(width, np.float32)), epsilon=0.0)
    y = g.add("Mul", y, g.constant(wide, name="factor")) if either(g) else y
    y = g.add("Add", y, g.constant(wide, name="summand")) if either(g) else y
    if channelwise:
        return g.add("Conv", y, g.constant([2, width, 1, 1], name="w"), kernel_shape=(1, 1))
    return g.add("MatMul", y, g.constant([width, 3], name="w")) if either(g) else y


def half_norms(g: Grower) -> Value | None:
    """Half precision that is widened for a normalization and narrowed behind it."""
    x = fresh(g, "batch", 3, 4, dtype="f16")
    wide = g.add("Cast", x, to=DType.F32.code)
    unit = constant(np.ones(4, np.float32)) if either(g) else g.constant([4], name="k")
    y = g.add(str(one_of(g, "LayerNormalization", "RMSNormalization")), wide, unit, axis=-1, epsilon=1e-2)
    return g.add("Cast", y, to=g.draw(st.sampled_from([DType.F16, DType.F16, DType.F32])).code)


def group_norms(g: Grower) -> Value | None:
    """Groups of channels that are normalised on an axis of their own."""
    x = image(g)
    groups = g.draw(st.sampled_from([2, 2, 4]))
    inner = g.add("Reshape", x, ints(0, groups, -1))
    if either(g):
        y = g.add("InstanceNormalization", inner, g.constant([groups]), g.constant([groups]), epsilon=1e-2)
    else:
        y = g.add("LayerNormalization", inner, constant(np.ones(16 * 4 // groups, np.float32)), axis=-1, epsilon=1e-2)
    y = g.add("Reshape", y, g.add("Shape", x) if either(g) else ints(0, 4, 4, 4))
    return g.add("Add", g.add("Mul", y, g.constant([4, 1, 1])), g.constant([4, 1, 1])) if either(g) else y


def more_activations(g: Grower) -> Value | None:
    """Activation functions by their formulas, of which the motifs have no form, with numbers that may be slightly
    off.
    """
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    zero, one = number(0), number(1)
    match g.draw(st.integers(0, 7)):
        case 0:
            line = g.add("Add", g.add("Mul", x, near(g, 0.25)) if either(g) else x, near(g, 3))
            return g.add("Div", g.add("Clip", line, zero, number(6)), near(g, 6))
        case 1:
            grown = g.add("Log", g.add("Add", g.add("Exp", x), one))
            soft = g.add("Softplus", x) if either(g) else grown
            return g.add("Where", g.add("Greater", x, number(g.draw(st.sampled_from([20, 20, 0])))), x, soft)
        case 2:
            inner = g.add("Sub", g.add("Exp", g.add("Div", x, near(g, 0.5))), one)
            return g.add("Add", g.add("Relu", x), g.add("Min", g.add("Mul", inner, number(0.5)), zero))
        case 3:
            inner = g.add("Mul", g.add("Sub", g.add("Exp", x), one), near(g, 1.5))
            return g.add("Where", g.add("Greater", x, zero), x, inner)
        case 4:
            return g.add("Mul", g.add("Elu", x, alpha=1.67), near(g, 1.05))
        case 5:
            steep = g.add("Mul", x, number(g.draw(st.sampled_from([0.1, 1.5, -0.5]))))
            return g.add("Max", x, steep) if either(g) else g.add("Where", g.add("GreaterOrEqual", x, zero), x, steep)
        case 6:
            slope = g.constant([known(x)[-1]] if either(g) else [], name="slope")
            half = g.add("Mul", slope, g.add("Sub", x, g.add("Abs", x)))
            return g.add("Add", g.add("Relu", x), g.add("Mul", half, near(g, 0.5)))
        case 7:
            return g.add("Div", x, g.add("Add", g.add("Abs", x), near(g, 1)))
        case _:
            up = g.add("Mul", g.add("ReduceMean", x, ints(-1), keepdims=1), number(known(x)[-1]))
            return g.add("Sub", x, up)


def composed_activations(g: Grower) -> Value | None:
    """Activation functions made of others, and powers."""
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    zero, one = number(0), number(1)
    match g.draw(st.integers(0, 6)):
        case 0:
            return g.add("Div", one, g.add("Add", g.add("Exp", g.add("Neg", x)), near(g, 1)))
        case 1:
            return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))
        case 2:
            return g.add("Mul", x, g.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))
        case 3:
            bent = g.add("Clip", g.add("Add", x, near(g, 3)), zero, number(6))
            return g.add("Div", g.add("Mul", x, bent), number(6))
        case 4:
            return g.add("Clip", g.add("Relu", x), number(g.draw(st.sampled_from([-1.0, 0.5]))), number(6))
        case 5:
            cubed = g.add("Mul", g.add("Mul", x, g.add("Mul", x, x)), number(0.044715))
            inner = g.add("Mul", g.add("Add", x, cubed), near(g, math.sqrt(2 / math.pi)))
            return g.add("Mul", g.add("Mul", x, number(0.5)), g.add("Add", g.add("Tanh", inner), one))
        case _:
            power = g.draw(st.sampled_from([0.5, -1.0, -0.5, 2.0]))
            return g.add("Pow", g.add("Add", g.add("Abs", x), one), number(power))


def formulas(g: Grower) -> Value | None:
    """Reductions and softmaxes by their formulas."""
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    axes = ints(-1) if len(shape_of(x)) == 2 or either(g) else ints(1, 2)
    count = known(x)[-1] if axes.tensor.count == 1 else known(x)[0] * known(x)[1]
    kept = {"keepdims": g.draw(st.integers(0, 1))}
    square = g.add("Mul", x, x) if either(g) else g.add("Pow", x, number(2))
    match g.draw(st.integers(0, 8)):
        case 0:
            return g.add("Div", g.add("ReduceSum", x, axes, **kept), near(g, count))
        case 1:
            return g.add("Mul", g.add("ReduceSum", x, axes, **kept), near(g, 1 / count))
        case 2:
            return g.add("Mul", g.add("ReduceMean", x, axes, **kept), near(g, count))
        case 3:
            return g.add("Sqrt", g.add("ReduceSum", square, axes, **kept))
        case 4:
            return g.add("ReduceSum", square, axes, **kept)
        case 5:
            return g.add("ReduceSum", g.add("Abs", x), axes, **kept)
        case 6:
            return g.add("Log", g.add("ReduceSum", g.add("Exp", x), axes, **kept))
        case 7:
            return g.add("Sub", x, g.add("ReduceLogSumExp", x, ints(-1), keepdims=1))
        case _:
            low = g.add("Sub", x, g.add("ReduceMax", x, axes, keepdims=1))
            return g.add(str(one_of(g, "Softmax", "LogSoftmax")), low, axis=-1)


def pooled(g: Grower) -> Value | None:
    """A pool over all places and what takes its axes away."""
    x = image(g)
    y = g.add(str(one_of(g, "GlobalAveragePool", "GlobalMaxPool")), x)
    match g.draw(st.integers(0, 2)):
        case 0:
            return g.add("Flatten", y, axis=1)
        case 1:
            return g.add("Squeeze", y, ints(2, 3))
        case _:
            return g.add("Reshape", y, ints(0, -1))


# Attention


def _heads(g: Grower, x: Value, count: int, size: int, perm: Sequence[int] = (0, 2, 1, 3)) -> Value:
    return g.add("Transpose", g.add("Reshape", x, ints(0, -1, count, size)), perm=tuple(perm))


def _repeated(g: Grower, x: Value, heads: int, times: int) -> Value:
    """Every head several times in a row."""
    if times == 1:
        return x
    if heads == 1 and either(g):
        return g.add("Expand", x, ints(1, times, 1, 1))
    if either(g):
        order = np.repeat(range(heads), times) if either(g) else np.tile(range(heads), times)
        return g.add("Gather", x, constant(order), axis=1)
    wide = g.add("Expand", g.add("Unsqueeze", x, ints(2)), ints(1, 1, times, 1, 1))
    return g.add("Reshape", wide, ints(0, heads * times, 3, -1))


def attentions(g: Grower) -> Value | None:
    """Attention of packed or split heads, shared or not, masked in several ways, raised already or written out."""
    heads, times, size = g.draw(st.sampled_from([(2, 1, 4), (1, 2, 4), (2, 2, 2)]))
    q = fresh(g, "batch", 3, heads * times * size)
    k, v = (fresh(g, "batch", 3, heads * size) for _ in "kv")
    if either(g):
        width = heads * times * size
        q = g.add("Add", g.add("MatMul", q, g.constant([width, width], name="wq")), g.constant([width], name="bq"))
    query = _heads(g, q, heads * times, size)
    key, value = (_repeated(g, _heads(g, x, heads, size), heads, times) for x in (k, v))
    mask = masks(g, (3, 3)) if either(g) else None
    if either(g):
        scale = {"scale": g.draw(st.sampled_from([0.5, 1.0]))} if either(g) else {}
        mixed = g.add("Attention", query, key, value, mask, **scale)
    else:
        scores = g.add("MatMul", query, g.add("Transpose", key, perm=(0, 1, 3, 2)))
        scores = g.add("Mul", scores, near(g, size**-0.5))
        if mask is not None and mask.dtype is DType.BOOL:
            scores = g.add("Where", mask, scores, number(g.draw(st.sampled_from([-1e4, -np.inf, -1e32]))))
        elif mask is not None:
            scores = g.add("Add", scores, mask)
        weights = g.add("Softmax", scores, axis=-1)
        if either(g):
            weights = g.add("Where", g.add("IsNaN", weights), number(0), weights)
        mixed = g.add("MatMul", weights, value)
    back = g.add("Transpose", mixed, perm=(0, 2, 1, 3))
    return g.add("Reshape", back, ints(0, 0, heads * times * size))


def masks(g: Grower, shape: tuple[int, int]) -> Value:
    """Booleans or numbers that a score may be hidden by, of one of the ranks that are broadcast."""
    match g.draw(st.integers(0, 4)):
        case 0:
            return fresh(g, *shape, dtype="bool")
        case 1:
            return fresh(g, "batch", 1, *shape, dtype="bool")
        case 2:
            return g.constant(shape, name="mask")
        case 3:
            return g.add("Where", fresh(g, *shape, dtype="bool"), number(0), number(-1e4))
        case _:
            lead = g.add("Shape", g.graph.inputs[-1], start=0, end=1)
            small = g.constant(shape, name="mask")
            return g.add("Expand", small, g.add("Concat", lead, ints(1, 1, 1), axis=0))


def cleared_attention(g: Grower) -> Value | None:
    """An Attention whose rows without keys are cleared behind it, as it is written for older runtimes."""
    q, k, v = (fresh(g, "batch", 2, 3, 4) for _ in "qkv")
    seen = fresh(g, "batch", 1, 3, 3, dtype="bool")
    bias = g.add("Where", seen, number(0), number(g.draw(st.sampled_from([-1.7e38, -1.7e38, -9.0]))))
    best = g.add("Exp", g.add("ReduceMax", bias, ints(-1), keepdims=1))
    return g.add("Mul", g.add("Attention", q, k, v, bias), best)


def packed_projection(g: Grower) -> Value | None:
    """Queries, keys and values of one projection, taken out as entries of an axis or as parts of the last one."""
    x = fresh(g, "batch", 5, 6)
    heads, size = 2, 4
    y = g.add("MatMul", x, g.constant([6, 3 * heads * size], name="w"))
    y = g.add("Add", y, g.constant([3 * heads * size], name="b")) if either(g) else y
    if either(g):
        wide = g.add("Reshape", y, ints(0, 5, 3, heads, size))
        moved = g.add("Transpose", wide, perm=(2, 0, 3, 1, 4))
        parts = [g.add("Gather", moved, constant(np.array(i, np.int64)), axis=0) for i in range(3)]
    else:
        parts = g.several("Split", [y], 3, axis=-1, num_outputs=3)
        turn = g.draw(st.sampled_from([(0, 2, 1, 3), (0, 2, 1, 3), (0, 1, 2, 3)]))
        parts = [_heads(g, p, heads, size, turn if i == 2 else (0, 2, 1, 3)) for i, p in enumerate(parts)]
    if either(g):
        parts[0] = g.add("Neg", parts[0])
    if shape_of(parts[2]) != shape_of(parts[0]):
        return g.add("Concat", parts[0], parts[1], axis=-1)
    mixed = g.add("Attention", *parts)
    return g.add("Reshape", g.add("Transpose", mixed, perm=(0, 2, 1, 3)), ints(0, 5, heads * size))


def windowed_projection(g: Grower) -> Value | None:
    """What an Attention of packed heads is projected from is flattened first."""
    x = fresh(g, "batch", 2, 3, 8)
    flat = g.add("Reshape", x, ints(-1, 3, 8))
    y = g.add("Add", g.add("MatMul", flat, g.constant([8, 24], name="w")), g.constant([24], name="b"))
    parts = g.several("Split", [y], 3, axis=-1, num_outputs=3)
    mixed = g.add("Attention", *parts, q_num_heads=2, kv_num_heads=2)
    return g.add("Reshape", mixed, ints(-1, 2, 3, 8))


def rotations(g: Grower) -> Value | None:
    """Rotary positions of heads, of all their features or of the first ones."""
    heads, size = 2, 4
    rest = g.draw(st.sampled_from([0, 0, 2]))
    x = fresh(g, "batch", heads, 3, size + rest)
    angles = fresh(g, 1, 3, size // 2)
    whole, part = x, x
    if rest:
        part, rest_of = g.several("Split", [x, ints(size, rest)], 2, axis=-1)
    if either(g):
        both = g.add("Concat", angles, angles, axis=-1)
        tables = [g.add("Unsqueeze", g.add(f, both), ints(1)) for f in ("Cos", "Sin")]
        low = g.add("Slice", part, ints(0), ints(size // 2), ints(-1))
        high = g.add("Slice", part, ints(size // 2), ints(END), ints(-1))
        turned = g.add("Concat", g.add("Neg", high), low, axis=-1)
        y = g.add("Add", g.add("Mul", part, tables[0]), g.add("Mul", turned, tables[1]))
    else:
        sizes = g.add("Concat", g.add("Shape", x, start=0, end=1), ints(1, 1), axis=0)
        cos, sin = (g.add("Expand", g.add(f, angles), sizes) for f in ("Cos", "Sin"))
        y = g.add("RotaryEmbedding", part, cos, sin)
    return g.add("Concat", y, rest_of, axis=-1) if whole is not part else y


# Weights


def recurrent(g: Grower) -> Value | None:
    """A recurrent layer with states of zeros, lengths that are all the same, and its last step taken."""
    kind, gates = g.draw(st.sampled_from([("LSTM", 4), ("GRU", 3), ("RNN", 1)]))
    way = g.draw(st.sampled_from(["forward", "reverse"]))
    x = fresh(g, 3, 2, 4)
    zeros = constant(np.zeros((1, 2, 2), np.float32))
    bias = constant(np.zeros((1, gates * 4), np.float32)) if either(g) else g.constant([1, gates * 4])
    lengths = constant(np.full(2, g.draw(st.sampled_from([3, 3, 2])), np.int32)) if either(g) else None
    start = g.draw(st.sampled_from([None, zeros, fresh(g, 1, 2, 2)]))
    weights = [g.constant([1, gates * 2, 4], name="w"), g.constant([1, gates * 2, 2], name="r")]
    states = [start, zeros] if kind == "LSTM" and start is not None else [start]
    operands = [x, *weights, bias, lengths, *states]
    y = g.several(kind, operands, 1, hidden_size=2, direction=way)[0]
    steps = g.add("Squeeze", y, ints(1))
    if either(g):
        turned = g.add("Transpose", steps, perm=(1, 0, 2))
        return g.add("Gather", turned, constant(np.array(g.draw(st.sampled_from([-1, 0, 2])), np.int64)), axis=1)
    return g.add("Gather", steps, constant(np.array(g.draw(st.sampled_from([-1, 0, 2])), np.int64)), axis=0)


def weights(g: Grower) -> Value | None:
    """Products, sums of products and convolutions whose constants are zeros, ones or matrices of the identity."""
    x = fresh(g, "batch", 4)
    match g.draw(st.integers(0, 6)):
        case 0:
            return g.add("MatMul", x, constant(np.eye(4, dtype=np.float32)))
        case 1:
            bias = constant(np.zeros(3, np.float32)) if either(g) else g.constant([3])
            turned = g.add("Transpose", x, perm=(1, 0)) if either(g) else x
            if turned is not x:
                return g.add("Gemm", turned, g.constant([4, 3]), bias, transA=1)
            return g.add("Gemm", x, g.constant([4, 3]), bias, alpha=g.draw(st.sampled_from([1.0, 0.5])))
        case 2:
            a = g.add("Gemm", x, g.constant([4, 3]), g.constant([3]))
            return g.add("Gemm", a, g.constant([2, 3]), g.constant([2]), transB=1)
        case 3:
            y = g.add("MatMul", g.add("MatMul", x, g.constant([4, 2])), g.constant([2, 3]))
            return g.add("Add", y, g.constant([3]))
        case 4:
            y = image(g)
            for out in (4, 3):
                y = g.add("Conv", y, g.constant([out, known(y)[0], 1, 1]), g.constant([out]), kernel_shape=(1, 1))
            return y
        case 5:
            fill = constant(np.array(0.5, np.float32)) if either(g) else constant(np.zeros((), np.float32))
            bias = g.add("Expand", fill, g.add("Shape", g.constant([3])))
            return g.add("Conv", image(g), g.constant([3, 4, 1, 1]), bias, kernel_shape=(1, 1))
        case _:
            y = g.add("MatMul", g.add("Mul", x, number(0.5)), g.add("Mul", fresh(g, 4, 3), number(0.25)))
            return g.add("Relu", y)


def einsums(g: Grower) -> Value | None:
    a, b = fresh(g, 2, 3, 4), fresh(g, 2, 4, 5)
    match g.draw(st.integers(0, 3)):
        case 0:
            return g.add("Einsum", a, b, equation="bij,bjk->bik")
        case 1:
            return g.add("Einsum", a, g.constant([4, 3]), equation="bij,jk->bik")
        case 2:
            return g.add("Einsum", a, g.constant([5, 4]), equation="bij,kj->bki")
        case _:
            return g.add("Einsum", a, equation="bij->bji")


def pixels(g: Grower) -> Value | None:
    """Pixels moved to channels and back, and images that are enlarged by repeating."""
    x = image(g)
    match g.draw(st.integers(0, 2)):
        case 0:
            y = g.add("Reshape", x, ints(0, 4, 2, 2, 2, 2))
            y = g.add("Transpose", y, perm=g.draw(st.sampled_from([(0, 3, 5, 1, 2, 4), (0, 1, 3, 5, 2, 4)])))
            return g.add("Reshape", y, ints(0, 16, 2, 2))
        case 1:
            order = g.draw(st.sampled_from([(0, 1, 4, 2, 5, 3), (0, 3, 4, 1, 5, 2)]))
            split = (1, 2, 2) if order[1] == 1 else (2, 2, 1)
            y = g.add("Transpose", g.add("Reshape", x, ints(0, *split, 4, 4)), perm=order)
            return g.add("Reshape", y, ints(0, 1, 8, 8))
        case _:
            apart = g.add("Unsqueeze", x, ints(3, 5))
            copies = [1, 1, 1, 2, 1, g.draw(st.sampled_from([2, 3]))]
            wide = g.add(str(one_of(g, "Expand", "Tile")), apart, ints(*copies))
            return g.add("Reshape", wide, ints(0, 4, 8, -1))


def image_noops(g: Grower) -> Value | None:
    """Windows of single elements, pads of nothing, dropouts that are off, pads in front of windows."""
    x = image(g)
    match g.draw(st.integers(0, 4)):
        case 0:
            return g.add(str(one_of(g, "MaxPool", "AveragePool")), x, kernel_shape=(1, 1))
        case 1:
            return g.add("Pad", x, ints(*[0] * 8), number(1))
        case 2:
            off = constant(np.array(False)) if either(g) else None
            return g.add("Dropout", x, number(0.5), off)
        case 3:
            y = g.add("Pad", x, ints(0, 0, 1, 1, 0, 0, 1, 1))
            return g.add("Pad", y, ints(0, 0, 0, 1, 0, 0, 1, 0))
        case _:
            sizes = g.add("Concat", ints(1, 4), ints(8, 8), axis=0)
            lead = g.add("Slice", g.add("Shape", x), ints(0), ints(2), ints(0))
            sizes = g.add("Concat", lead, ints(8, 8), axis=0)
            return g.add(
                "Resize", x, None, None, sizes, mode="nearest", coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )  # fmt: skip


def logic(g: Grower) -> Value | None:
    """Truths chosen by truths, double negations, the larger of a value and itself, roundings of roundings."""
    x = g.pick(FLOATS)
    if x is None:
        return None
    seen = g.add("Greater", x, number(0.1))
    match g.draw(st.integers(0, 6)):
        case 0:
            yes, no = g.draw(st.permutations([constant(np.array(True)), constant(np.array(False))]))
            return g.add("Where", seen, yes, no)
        case 1:
            return g.add(str(one_of(g, "Max", "Min")), x, x)
        case 2:
            return g.add(str(one_of(g, "And", "Or")), seen, seen)
        case 3:
            return g.add(str(one_of(g, "Ceil", "Floor", "Sign")), g.add(str(one_of(g, "Round", "Floor", "Sign")), x))
        case 4:
            return g.add("CastLike", seen, x)
        case 5:
            return g.add(str(one_of(g, "Sum", "Max", "Mean")), x)
        case _:
            return g.add("Clip", g.add("Reciprocal", g.add("Reciprocal", g.add("Add", g.add("Abs", x), number(1)))))


def signs(g: Grower) -> Value | None:
    """Signs and quotients of sums, differences, products and quotients."""
    x = g.pick(FLOATS)
    if x is None:
        return None
    y = g.add("Add", g.add("Abs", x), number(0.5))
    match g.draw(st.integers(0, 6)):
        case 0:
            return g.add("Neg", g.add("Sub", x, y))
        case 1:
            return g.add("Sub", x, g.add("Neg", y))
        case 2:
            return g.add(str(one_of(g, "Mul", "Div")), g.add("Neg", x), g.add("Neg", y))
        case 3:
            return g.add("Neg", g.add(str(one_of(g, "Mul", "Div")), x, number(0.25)))
        case 4:
            return g.add(str(one_of(g, "Mul", "Div")), g.add("Neg", x), number(0.25))
        case 5:
            return g.add("Reciprocal", g.add("Div", y, g.add("Add", g.add("Abs", x), number(1))))
        case _:
            return g.add("Add", x, g.add("Neg", y))


WRITTEN: tuple[Grow, ...] = (
    scaled_norms, half_norms, group_norms, more_activations, composed_activations, formulas, pooled, attentions, cleared_attention,
    packed_projection, windowed_projection, rotations, recurrent, weights, einsums, pixels, image_noops, logic, signs,
)  # fmt: skip
