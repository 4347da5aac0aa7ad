"""Chains that simplifiers look for, with everything that makes them look for more: other attributes, shared interiors,
constants that broadcast, sizes computed from shapes. Each grows from values that a random graph has (see graphs.py).
"""

from __future__ import annotations

import math

import numpy as np
from graphs import BOOLEANS, FLOATS, INTEGERS, Grow, Grower, known, shape_of
from hypothesis import strategies as st
from tersor.ir import DType, TensorType, Value, constant

MOVABLE = (*FLOATS, *INTEGERS, *BOOLEANS)


def _ints(*numbers: int) -> Value:
    return constant(np.array(numbers, np.int64))


def _float(number: float) -> Value:
    return constant(np.float32(number))


def _one_of(g: Grower, *choices: object) -> object:
    return g.draw(st.sampled_from(choices))


def _number(g: Grower, x: Value, *numbers: float) -> Value:
    """A number as a scalar, or with axes of one that may raise the rank."""
    number = np.float32(g.draw(st.sampled_from(numbers)))
    rank = g.draw(st.sampled_from([0, 0, 0, 1, len(shape_of(x)), len(shape_of(x)) + 1]))
    return constant(np.full((1,) * rank, number, np.float32))


def numbers(g: Grower) -> Value | None:
    """Arithmetic with neutral and absorbing numbers, several in a row."""
    x = g.pick()
    for _ in range(g.draw(st.integers(1, 3))):
        if x is None:
            return None
        op = str(_one_of(g, "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"))
        values = (1.0, 2.0, 0.5) if op in ("Div", "Pow") else (0.0, 1.0, -1.0, 2.0)
        pair = [g.add("Abs", x) if op == "Pow" else x, _number(g, x, *values)]
        if op not in ("Div", "Pow") and g.draw(st.booleans()):
            pair.reverse()
        x = g.add(op, *pair)
    return x


def integer_numbers(g: Grower) -> Value | None:
    """The same for integers, whose division truncates and whose products wrap around."""
    x = g.pick(INTEGERS)
    for _ in range(g.draw(st.integers(1, 3))):
        if x is None:
            return None
        assert isinstance(x.type, TensorType)
        op = str(_one_of(g, "Add", "Sub", "Mul", "Div", "Mod"))
        number = int(g.draw(st.sampled_from([1, -1, 2, 3] if op in ("Div", "Mod") else [0, 1, -1, 2, 1 << 20])))
        x = g.add(op, x, constant(np.array(number, x.type.dtype.numpy)))
    return x


def negations(g: Grower) -> Value | None:
    x, y = g.pick(), g.pick()
    if x is None or y is None or x.type != y.type:
        return None
    x = g.add("Neg", x) if g.draw(st.booleans()) else x
    y = g.add("Neg", y) if g.draw(st.booleans()) else y
    z = g.add(str(_one_of(g, "Add", "Sub", "Mul")), x, y)
    return g.add("Neg", z) if g.draw(st.booleans()) else z


def reciprocals(g: Grower) -> Value | None:
    x, y = g.pick(), g.pick()
    if x is None or y is None or x.type != y.type:
        return None
    below = g.add("Add", g.add("Abs", y), _float(1.0))
    if g.draw(st.booleans()):
        below = g.add("Sqrt", below)
    inverse = g.add("Reciprocal", below) if g.draw(st.booleans()) else g.add("Div", _float(1.0), below)
    return g.add(str(_one_of(g, "Mul", "Div")), x, inverse)


def bounds(g: Grower) -> Value | None:
    """Clip, Relu, Min and Max in a row; bounds may cross."""
    x = g.pick()
    for _ in range(g.draw(st.integers(1, 3))):
        if x is None:
            return None
        low, high = (g.draw(st.sampled_from([-1.0, 0.0, 0.5, 6.0])) for _ in range(2))
        match g.draw(st.integers(0, 3)):
            case 0:
                x = g.add("Clip", x, _float(low), _float(high))
            case 1:
                x = g.add("Clip", x, None, _float(high)) if g.draw(st.booleans()) else g.add("Clip", x, _float(low))
            case 2:
                x = g.add("Relu", x)
            case _:
                x = g.add(str(_one_of(g, "Max", "Min")), x, _float(low))
    return x


def activations(g: Grower) -> Value | None:
    """Activation functions as exporters write them, now and then with a number that is slightly off."""
    x = g.pick()
    if x is None:
        return None
    off = g.draw(st.sampled_from([1.0, 1.0, 1.0, 1.01]))
    match g.draw(st.integers(0, 8)):
        case 0:
            inner = g.add("Div", x, _float(math.sqrt(2) * off))
            half = g.add("Mul", x, _float(0.5))
            return g.add("Mul", half, g.add("Add", g.add("Erf", inner), _float(1.0)))
        case 1:
            inner = g.add("Div", x, _float(math.sqrt(2)))
            return g.add("Mul", g.add("Mul", x, g.add("Add", g.add("Erf", inner), _float(1.0))), _float(0.5 * off))
        case 2:
            cubed = g.add("Mul", g.add("Pow", x, _float(3.0)), _float(0.044715 * off))
            inner = g.add("Mul", g.add("Add", x, cubed), _float(math.sqrt(2 / math.pi)))
            return g.add("Mul", g.add("Mul", x, _float(0.5)), g.add("Add", g.add("Tanh", inner), _float(1.0)))
        case 3:
            inner = g.add("Mul", x, _float(off)) if off != 1.0 else x
            return g.add("Mul", x, g.add("Sigmoid", inner))
        case 4:
            six = g.add("Clip", g.add("Add", x, _float(3.0 * off)), _float(0.0), _float(6.0))
            return g.add("Mul", x, g.add("Div", six, _float(6.0)))
        case 5:
            return g.add("Mul", x, g.add("HardSigmoid", x, alpha=1 / 6 * off, beta=0.5))
        case 6:
            return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))
        case 7:
            return g.add("Log", g.add("Add", g.add("Exp", x), _float(off)))
        case _:
            return g.add("Div", _float(1.0), g.add("Add", g.add("Exp", g.add("Neg", x)), _float(off)))


def normalization(g: Grower) -> Value | None:
    """Layer and root-mean-square normalization written out, over the last axis or the last two."""
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    count = g.draw(st.integers(1, min(2, len(shape_of(x)) - 1)))
    axes = _ints(*range(-count, 0))
    if g.draw(st.booleans()):
        x = g.add("Sub", x, g.add("ReduceMean", x, axes, keepdims=1))
    square = g.add("Mul", x, x) if g.draw(st.booleans()) else g.add("Pow", x, _float(2.0))
    spread = g.add("Sqrt", g.add("Add", g.add("ReduceMean", square, axes, keepdims=1), _float(1e-2)))
    y = g.add("Div", x, spread) if g.draw(st.booleans()) else g.add("Mul", x, g.add("Reciprocal", spread))
    width = known(y)[-1]
    if g.draw(st.booleans()):
        y = g.add("Mul", y, g.constant([width], name="scale"))
    if g.draw(st.booleans()):
        y = g.add("Add", y, g.constant([width], name="shift"))
    return g.add("MatMul", y, g.constant([width, 3], name="w")) if g.draw(st.booleans()) else y


def softmax(g: Grower) -> Value | None:
    x = g.pick(ranks=(2, 3))
    if x is None:
        return None
    axes = _ints(-1)
    if g.draw(st.booleans()):
        x = g.add("Sub", x, g.add("ReduceMax", x, axes, keepdims=1))
    powers = g.add("Exp", x)
    return g.add("Div", powers, g.add("ReduceSum", powers, axes, keepdims=1))


def affine(g: Grower) -> Value | None:
    """A convolution or product with scales and shifts before and behind it, per channel, per column or one number."""
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    spatial = len(shape_of(x)) == 4
    axis = 1 if spatial else -1

    def factor(value: Value) -> Value:
        channels = known(value)[0 if spatial else -1]
        shape = [channels, 1, 1] if spatial else [channels]
        shape = g.draw(st.sampled_from([shape, [1, *shape], []]))
        return g.constant(shape, name="factor")

    def around(value: Value) -> Value:
        for _ in range(g.draw(st.integers(0, 2))):
            if spatial and g.draw(st.booleans()):
                n = known(value)[0]
                scale, shift, mean = (g.constant([n]) for _ in range(3))
                value = g.add("BatchNormalization", value, scale, shift, mean, constant(np.full(n, 0.5, np.float32)))
            else:
                pair = [value, factor(value)]
                op = str(_one_of(g, "Mul", "Add", "Sub"))
                value = g.add(op, *(pair if op != "Sub" or g.draw(st.booleans()) else pair[::-1]))
        return value

    x = around(x)
    for _ in range(g.draw(st.integers(1, 2))):
        channels = known(x)[axis if not spatial else 0]
        out = g.draw(st.integers(1, 4))
        bias = g.constant([out], name="b") if g.draw(st.booleans()) else None
        if spatial and g.draw(st.booleans()):
            x = g.add("ConvTranspose", x, g.constant([channels, out, 2, 2], name="w"), bias, kernel_shape=(2, 2))
        elif spatial:
            kernel, pad = g.draw(st.sampled_from([(1, 0), (3, 1), (1, 1)]))
            weight = g.constant([out, channels, kernel, kernel], name="w")
            x = g.add("Conv", x, weight, bias, kernel_shape=(kernel, kernel), pads=(pad,) * 4)
        else:
            weight = g.constant([channels, out], name="w")
            if g.draw(st.booleans()) and len(shape_of(x)) == 2:
                scales = {"alpha": g.draw(st.sampled_from([1.0, 0.5])), "beta": g.draw(st.sampled_from([1.0, 2.0]))}
                x = g.add("Gemm", x, weight, bias, **scales)
            else:
                x = g.add("MatMul", x, weight)
                x = x if bias is None else g.add("Add", *g.draw(st.permutations([x, bias])))
        x = around(x)
    return x


def products(g: Grower) -> Value | None:
    """Several products of one value, and products of transposed values."""
    x = g.pick(ranks=(2, 3))
    if x is None:
        return None
    width = known(x)[-1]
    columns = [g.draw(st.integers(1, 4)) for _ in range(g.draw(st.integers(2, 3)))]
    parts = [g.add("MatMul", x, g.constant([width, c], name="w")) for c in columns]
    if g.draw(st.booleans()):
        parts = [g.add("Add", p, g.constant([c], name="b")) for p, c in zip(parts, columns, strict=True)]
    perm = (1, 0) if len(shape_of(x)) == 2 else (0, 2, 1)
    if len(shape_of(x)) == 3:
        return g.add("MatMul", parts[0], g.add("Transpose", parts[0], perm=perm))
    return g.add("Concat", *parts, axis=-1)


def attention(g: Grower) -> Value | None:
    """Scaled dot products of heads, with the scale in one of several places, with and without a mask."""
    x = g.pick(ranks=(3,))
    if x is None or None in shape_of(x) or not isinstance(shape_of(x)[1], int):
        return None
    width, heads, size = known(x)[-1], g.draw(st.integers(1, 2)), g.draw(st.sampled_from([2, 4]))
    parts: list[Value] = []
    for index in range(3):
        y = g.add("MatMul", x, g.constant([width, heads * size], name="w"))
        if g.draw(st.booleans()):
            y = g.add("Add", y, g.constant([heads * size], name="b"))
        y = g.add("Reshape", y, _ints(0, -1 if g.draw(st.booleans()) else known(x)[0], heads, size))
        turned = index == 1 and g.draw(st.booleans())
        y = g.add("Transpose", y, perm=(0, 2, 3, 1) if turned else (0, 2, 1, 3))
        parts.append(y if turned or index != 1 else g.add("Transpose", y, perm=(0, 1, 3, 2)))
    scale, where = _float(size**-0.5), g.draw(st.integers(0, 3))
    if where < 2:
        parts[where] = g.add("Mul", parts[where], scale)
    scores = g.add("MatMul", parts[0], parts[1])
    scores = g.add("Mul", scores, scale) if where == 2 else scores
    if g.draw(st.booleans()):
        scores = g.add("Add", scores, g.constant([known(x)[0], known(x)[0]], name="mask"))
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), parts[2])
    back = g.add("Transpose", mixed, perm=(0, 2, 1, 3))
    return g.add("Reshape", back, _ints(0, 0, heads * size))


def bare_attention(g: Grower) -> Value | None:
    """Products of one value with itself, as it is, with a guard against rows that are masked entirely."""
    x = g.pick(ranks=(4,))
    if x is None:
        return None
    scores = g.add("MatMul", x, g.add("Transpose", x, perm=(0, 1, 3, 2)))
    scores = g.add("Mul", scores, _float(0.5)) if g.draw(st.booleans()) else scores
    if g.draw(st.booleans()):
        seen = g.add("Greater", scores, _float(g.draw(st.sampled_from([-0.5, 0.5]))))
        scores = g.add("Where", seen, scores, _float(g.draw(st.sampled_from([-np.inf, -1e4]))))
    weights = g.add("Softmax", scores, axis=-1)
    if g.draw(st.booleans()):
        weights = g.add("Where", g.add("IsNaN", weights), _float(0.0), weights)
    return g.add("MatMul", weights, x)


def rotation(g: Grower) -> Value | None:
    """Halves of the last axis exchanged, one negated, with cosines and sines around them: rotary positions."""
    x = g.pick(ranks=(3, 4))
    if x is None or known(x)[-1] % 2 or known(x)[-1] < 2:
        return None
    width = known(x)[-1]
    length = known(x)[-2] if len(known(x)) > 1 else 1
    low = g.add("Slice", x, _ints(0), _ints(width // 2), _ints(-1))
    high = g.add("Slice", x, _ints(width // 2), _ints(2**31 - 1), _ints(-1))
    turned = g.add("Concat", g.add("Neg", high), low, axis=-1)
    angles = g.constant([length, width // 2]).tensor.numpy()
    twice = np.concatenate([angles, angles] if g.draw(st.booleans()) else [angles, -angles], -1)
    kept = g.add("Mul", x, constant(np.cos(twice).astype(np.float32)))
    return g.add("Add", kept, g.add("Mul", turned, constant(np.sin(twice).astype(np.float32))))


def layouts(g: Grower) -> Value | None:
    """Reshapes, transposes, squeezes and flattenings in a row: some cancel, some are one, some must stay."""
    x = g.pick(MOVABLE, ranks=(2, 3, 4))
    for _ in range(g.draw(st.integers(2, 5))):
        if x is None or any(not isinstance(s, int) for s in shape_of(x)[1:]):
            return x
        sizes, rank = [s for s in shape_of(x)[1:] if isinstance(s, int)], len(shape_of(x))
        match g.draw(st.integers(0, 4)):
            case 0 if rank > 2:
                x = g.add("Transpose", x, perm=(0, *g.draw(st.permutations(range(1, rank)))))
            case 1:
                count = math.prod(sizes)
                first = g.draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
                target = g.draw(st.sampled_from([[0, first, -1], [-1, first, count // first], [0, -1]]))
                x = g.add("Reshape", x, _ints(*target))
            case 2 if rank < 5:
                x = g.add("Unsqueeze", x, _ints(g.draw(st.integers(1, rank))))
            case 3 if 1 in sizes:
                x = g.add("Squeeze", x, _ints(1 + sizes.index(1)))
            case _:
                x = g.add("Flatten", x, axis=g.draw(st.sampled_from([1, 1 - rank]))) if rank > 1 else x
    return x


def slices(g: Grower) -> Value | None:
    """Slices in a row with negative steps, bounds outside the axis, and of several axes at once."""
    x = g.pick(MOVABLE, ranks=(2, 3, 4))
    for _ in range(g.draw(st.integers(1, 3))):
        if x is None or any(s == 0 for s in shape_of(x)):
            return x
        axes = sorted(g.draw(st.sets(st.integers(1, len(shape_of(x)) - 1), min_size=1, max_size=2)))
        starts, ends, steps = [list[int]() for _ in range(3)]
        for axis in axes:
            size = known(x)[axis - 1]
            step = g.draw(st.sampled_from([1, 1, 2, -1, -2]))
            low, high = g.draw(st.integers(0, size - 1)), g.draw(st.sampled_from([size, size + 3, 2**31 - 1]))
            start, end = (low, high) if step > 0 else (g.draw(st.sampled_from([size - 1, 2**31 - 1])), low - 1 - size)
            starts.append(start - size if g.draw(st.booleans()) and 0 <= start < size else start)
            ends.append(end)
            steps.append(step)
        shown = [a - len(shape_of(x)) if g.draw(st.booleans()) else a for a in axes]
        x = g.add("Slice", x, _ints(*starts), _ints(*ends), _ints(*shown), _ints(*steps))
        if any(s == 0 for s in shape_of(x)):
            return None
    return x


def pieces(g: Grower) -> Value | None:
    """A value cut into pieces and put together again, in order or not."""
    x = g.pick(MOVABLE, ranks=(2, 3, 4))
    if x is None:
        return None
    axis = g.draw(st.integers(1, len(shape_of(x)) - 1))
    size = known(x)[axis - 1]
    if size < 2:
        return None
    at = g.draw(st.integers(1, size - 1))
    cuts = [(0, at), (at, size)]
    if g.draw(st.booleans()):
        parts = g.several("Split", [x, _ints(at, size - at)], 2, axis=axis)
    else:
        parts = [g.add("Slice", x, _ints(a), _ints(b), _ints(axis)) for a, b in cuts]
    parts = [g.add("Relu", p) if _is_float(p) and g.draw(st.booleans()) else p for p in parts]
    return g.add("Concat", *g.draw(st.permutations(parts)), axis=axis)


def _is_float(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype is DType.F32


def gathers(g: Grower) -> Value | None:
    x = g.pick(MOVABLE, ranks=(2, 3, 4))
    if x is None:
        return None
    axis = g.draw(st.integers(1, len(shape_of(x)) - 1))
    size = known(x)[axis - 1]
    index = g.draw(
        st.one_of(
            st.integers(-size, size - 1).map(lambda i: np.array(i, np.int64)),
            st.lists(st.integers(-size, size - 1), min_size=1, max_size=size).map(lambda i: np.array(i, np.int64)),
            st.just(np.arange(size)),
        )
    )
    return g.add("Gather", x, constant(index), axis=axis)


def pads(g: Grower) -> Value | None:
    """Padding in several modes, twice in a row or before something with a window."""
    x = g.pick(ranks=(4,))
    if x is None or min(known(x)[1:]) < 2:
        return None
    for _ in range(g.draw(st.integers(1, 2))):
        widths = [
            0,
            0,
            *(g.draw(st.integers(0, 1)) for _ in range(2)),
            0,
            0,
            *(g.draw(st.integers(0, 1)) for _ in "ab"),
        ]
        value = _float(g.draw(st.sampled_from([0.0, 0.0, 1.0])))
        mode = g.draw(st.sampled_from(["constant", "constant", "edge", "reflect"]))
        x = g.add("Pad", x, _ints(*widths), value if mode == "constant" else None, mode=mode)
    match g.draw(st.integers(0, 3)):
        case 0:
            return g.add("Conv", x, g.constant([2, known(x)[0], 2, 2], name="w"), kernel_shape=(2, 2))
        case 1:
            return g.add("MaxPool", x, kernel_shape=(2, 2), strides=(1, 1))
        case 2:
            counted = g.draw(st.integers(0, 1))
            return g.add("AveragePool", x, kernel_shape=(2, 2), strides=(1, 1), count_include_pad=counted)
        case _:
            return x


def casts(g: Grower) -> Value | None:
    """Conversions in a row, some of which lose digits or sign."""
    x = g.pick((*FLOATS, *INTEGERS, *BOOLEANS))
    if x is None:
        return None
    types = (DType.F32, DType.F16, DType.F64, DType.I64, DType.I32, DType.I8, DType.BOOL)
    if _is_float(x):
        types = (DType.F32, DType.F16, DType.F64, DType.BOOL)  # to an integer is undefined out of its range
    for _ in range(g.draw(st.integers(1, 3))):
        kind = g.draw(st.sampled_from(types))
        x = g.add("Cast", x, to=kind.code)
        if kind.is_float:
            types = tuple(t for t in types if t.is_float or t is DType.BOOL)
    return g.add("Cast", x, to=g.draw(st.sampled_from([DType.F32, DType.F32, DType.BOOL])).code)


def expands(g: Grower) -> Value | None:
    """Expand to fixed sizes or to another value's, and what broadcasts anyway behind it."""
    x = g.pick(ranks=(2, 3))
    if x is None:
        return None
    one = g.add("Unsqueeze", x, _ints(1)) if g.draw(st.booleans()) else x
    target = _ints(*([1] * (len(shape_of(one)) - 1)), known(one)[-1]) if g.draw(st.booleans()) else g.add("Shape", x)
    wide = g.add("Expand", one, target)
    return g.add(str(_one_of(g, "Add", "Mul")), wide, x) if g.draw(st.booleans()) else wide


def choices(g: Grower) -> Value | None:
    """Where under conditions that are negated, constant or computed, and truths in a row."""
    x, y = g.pick(), g.pick()
    if x is None or y is None or x.type != y.type:
        return None
    condition = g.add(str(_one_of(g, "Greater", "Less", "Equal", "GreaterOrEqual")), x, y)
    match g.draw(st.integers(0, 4)):
        case 0:
            condition = g.add("Not", condition)
        case 1:
            condition = g.add(str(_one_of(g, "And", "Or")), condition, constant(np.array(g.draw(st.booleans()))))
        case 2:
            condition = g.add("Not", g.add("Not", condition))
        case 3:
            condition = constant(np.full((1,) * g.draw(st.integers(0, 2)), g.draw(st.booleans())))
        case _:
            pass
    other = y if g.draw(st.booleans()) else _float(g.draw(st.sampled_from([0.0, 1.0, -1e4])))
    chosen = g.add("Where", condition, *g.draw(st.permutations([x, other])))
    return g.add("Where", condition, chosen, _float(0.5)) if g.draw(st.booleans()) else chosen


def reductions(g: Grower) -> Value | None:
    """Reductions written in several ways, over several axes, and one behind the other."""
    x = g.pick(ranks=(3, 4))
    if x is None:
        return None
    rank = len(shape_of(x))
    for _ in range(g.draw(st.integers(1, 2))):
        axes = sorted(g.draw(st.sets(st.integers(1, rank - 1), min_size=1, max_size=2)))
        op = str(_one_of(g, "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"))
        x = g.add(op, x, _ints(*axes), keepdims=1)
    if g.draw(st.booleans()):
        return g.add("Squeeze", x, _ints(*axes))
    return g.add("Reshape", x, _ints(0, -1))


def resizing(g: Grower) -> Value | None:
    x = g.pick(ranks=(4,))
    if x is None:
        return None
    mode, shift = g.draw(
        st.sampled_from(
            [
                ("nearest", "asymmetric"),
                ("nearest", "half_pixel"),
                ("linear", "half_pixel"),
                ("linear", "align_corners"),
            ]
        )
    )
    factor = g.draw(st.sampled_from([1.0, 2.0]))
    scales = constant(np.array([1.0, 1.0, factor, 2.0 * factor if factor > 1 else 1.0], np.float32))
    return g.add("Resize", x, None, scales, mode=mode, coordinate_transformation_mode=shift, nearest_mode="floor")


def shuffles(g: Grower) -> Value | None:
    """Channels regrouped and pixels moved between channels and places."""
    x = g.pick(ranks=(4,))
    if x is None:
        return None
    channels, height, width = known(x)
    if g.draw(st.booleans()) and height % 2 == 0 and width % 2 == 0:
        y = g.add("Reshape", x, _ints(0, channels, height // 2, 2, width // 2, 2))
        order = g.draw(st.sampled_from([(0, 1, 3, 5, 2, 4), (0, 3, 5, 1, 2, 4), (0, 3, 1, 5, 2, 4)]))
        return g.add("Reshape", g.add("Transpose", y, perm=order), _ints(0, channels * 4, height // 2, width // 2))
    groups = g.draw(st.sampled_from([d for d in range(1, channels + 1) if channels % d == 0]))
    y = g.add("Reshape", x, _ints(0, groups, channels // groups, height, width))
    return g.add("Reshape", g.add("Transpose", y, perm=(0, 2, 1, 3, 4)), _ints(0, channels, height, width))


def rounding(g: Grower) -> Value | None:
    """A quantization and its inverse, which must not be taken for nothing."""
    x = g.pick()
    if x is None:
        return None
    scale, zero = _float(0.25), constant(np.array(g.draw(st.integers(-2, 2)), np.int8))
    y = g.add("DequantizeLinear", g.add("QuantizeLinear", x, scale, zero), scale, zero)
    return g.add("Relu", y) if g.draw(st.booleans()) else y


def sizes(g: Grower) -> Value | None:
    """Reshape and Expand to sizes that the graph computes from shapes."""
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    shape = g.add("Shape", x)
    parts: list[Value] = []
    for axis in range(len(shape_of(x))):
        part = g.add("Gather", shape, constant(np.array(axis, np.int64)), axis=0)
        parts.append(g.add("Unsqueeze", part, _ints(0)))
    if len(parts) > 2 and g.draw(st.booleans()):
        parts = [*parts[:-2], g.add("Mul", parts[-2], parts[-1])]
    target = g.add("Concat", *parts, axis=0)
    return g.add("Reshape", x, target)


def positions(g: Grower) -> Value | None:
    """Range over a size, compared with itself: how causal masks are made."""
    x = g.pick(ranks=(3,))
    if x is None:
        return None
    size = g.add("Gather", g.add("Shape", x), constant(np.array(1, np.int64)), axis=0)
    row = g.add("Range", constant(np.int64(0)), size, constant(np.int64(1)))
    column = g.add("Unsqueeze", row, _ints(1))
    seen = g.add(str(_one_of(g, "LessOrEqual", "Greater")), g.add("Unsqueeze", row, _ints(0)), column)
    mask = g.add("Where", seen, _float(0.0), _float(-1e4))
    return g.add("Add", g.add("ReduceMean", x, _ints(-1), keepdims=1), g.add("Unsqueeze", mask, _ints(0)))


MOTIFS: tuple[Grow, ...] = (
    numbers, integer_numbers, negations, reciprocals, bounds, activations, normalization, softmax, affine, products,
    attention, bare_attention, rotation, layouts, slices, pieces, gathers, pads, casts, expands, choices, reductions, resizing, shuffles, rounding,
    sizes, positions,
)  # fmt: skip
