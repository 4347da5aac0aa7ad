"""Growers of random networks: layers with weights as architectures put them together, with channels that pass through
joins, splits, shuffles, windows, gates and heads. What prunes and quantizes is tried on them.
"""

from __future__ import annotations

from math import prod

import numpy as np
from graphs import FLOATS, Draw, Grow, Grower, known, shape_of
from hypothesis import strategies as st
from tersor.ir import Graph, Model, Value, constant, symbol, tensor, verify

WIDTHS = (4, 6, 8, 12)
BATCH, LENGTH = symbol("batch"), 6


def ints(*numbers: int) -> Value:
    return constant(np.array(numbers, np.int64))


def width(g: Grower) -> int:
    return g.draw(st.sampled_from(WIDTHS))


def weight(g: Grower, *shape: int, reads: int) -> Value:
    """Numbers that keep what is computed from them at moderate size."""
    numbers = np.random.default_rng(g.draw(st.integers(0, 99))).standard_normal(shape) / np.sqrt(reads)
    return constant(numbers.astype(np.float32), "w")


def positive(g: Grower, count: int) -> Value:
    return constant(np.random.default_rng(g.draw(st.integers(0, 9))).uniform(0.5, 2, count).astype(np.float32), "s")


def image(g: Grower) -> Value | None:
    return g.pick(ranks=(4,))


def tokens(g: Grower) -> Value | None:
    return g.pick(ranks=(3,))


# Images


def convolved(g: Grower, x: Value, out: int, kernel: int = 1, groups: int = 1) -> Value:
    channels, pad = known(x)[0], kernel // 2
    made = weight(g, out, channels // groups, kernel, kernel, reads=channels // groups * kernel**2)
    bias = g.constant([out], name="b") if g.draw(st.booleans()) else None
    return g.add("Conv", x, made, bias, group=groups, kernel_shape=(kernel, kernel), pads=(pad,) * 4)


def conv(g: Grower) -> Value | None:
    """Convolutions of all group counts, with or without a norm and an activation."""
    x = image(g)
    if x is None:
        return None
    channels, kernel = known(x)[0], g.draw(st.sampled_from([1, 3]))
    groups = g.draw(st.sampled_from([1, 1, 1, *(n for n in (2, 3, channels) if channels % n == 0)]))
    out = channels if groups == channels else groups * g.draw(st.integers(1, 4)) if groups > 1 else width(g)
    return activated(g, normed(g, convolved(g, x, out, kernel, groups)))


def normed(g: Grower, x: Value) -> Value:
    channels = known(x)[0]
    kind = g.draw(st.sampled_from(["none", "batch", "instance", "group"]))
    scale, shift = positive(g, channels), g.constant([channels])
    if kind == "batch":
        return g.add("BatchNormalization", x, scale, shift, g.constant([channels]), positive(g, channels))
    if kind == "instance":
        return g.add("InstanceNormalization", x, scale, shift)
    if kind == "group" and channels % 2 == 0:
        return g.add("GroupNormalization", x, scale, shift, num_groups=g.draw(st.sampled_from([2, channels // 2])))
    return x


def activated(g: Grower, x: Value) -> Value:
    kind = g.draw(st.sampled_from(["none", "Relu", "Sigmoid", "HardSwish", "Elu", "clip", "silu", "PRelu"]))
    if kind == "none":
        return x
    if kind == "clip":
        return g.add("Clip", x, constant(np.float32(0)), constant(np.float32(6)))
    if kind == "silu":
        return g.add("Mul", x, g.add("Sigmoid", x))
    if kind == "PRelu":
        slope = (known(x)[0], 1, 1) if len(shape_of(x)) == 4 else (known(x)[-1],)
        return g.add("PRelu", x, g.constant(slope))
    return g.add(kind, x)


def transposed(g: Grower) -> Value | None:
    x = image(g)
    if x is None or known(x)[1] > 8:
        return None
    channels, out = known(x)[0], width(g)
    made = weight(g, channels, out, 2, 2, reads=channels)
    return g.add("ConvTranspose", x, made, g.constant([out]), kernel_shape=(2, 2), strides=(2, 2))


def gate(g: Grower) -> Value | None:
    """Squeeze and excite."""
    x = image(g)
    if x is None:
        return None
    squeezed = activated(g, convolved(g, g.add("GlobalAveragePool", x), width(g)))
    return g.add("Mul", x, g.add("Sigmoid", convolved(g, squeezed, known(x)[0])))


def residual(g: Grower) -> Value | None:
    """x + f(x), or the product."""
    x = image(g)
    if x is None:
        return None
    inner = activated(g, normed(g, convolved(g, x, width(g), 3)))
    pair = [x, normed(g, convolved(g, inner, known(x)[0]))]
    return activated(g, g.add(g.draw(st.sampled_from(["Add", "Add", "Mul", "Max"])), *g.draw(st.permutations(pair))))


def joined(g: Grower) -> Value | None:
    """Values side by side, some of them twice."""
    x = image(g) if g.draw(st.booleans()) else tokens(g)
    if x is None:
        return None
    axis, places = (1, known(x)[1:]) if len(shape_of(x)) == 4 else (2, known(x)[:1])
    fits = [v for v in g.values if alike(v, x) and (known(v)[1:] if axis == 1 else known(v)[:1]) == places]
    parts = [x, *g.draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))]
    return g.add("Concat", *parts, axis=axis) if sum(known(p)[axis - 1] for p in parts) <= 32 else None


def alike(value: Value, other: Value) -> bool:
    return value.type is not None and value.is_float and value.rank == other.rank and shape_of(value)[0] is BATCH


def halves(g: Grower) -> Value | None:
    """Channels in two, which are treated differently and joined, multiplied or added (C2f, gated units)."""
    x = image(g) if g.draw(st.booleans()) else tokens(g)
    if x is None:
        return None
    axis = 1 if len(shape_of(x)) == 4 else 2
    channels = known(x)[axis - 1]
    if channels % 2:
        return None
    first, second = g.several("Split", [x], 2, axis=axis, num_outputs=2)
    second = activated(g, second)
    if g.draw(st.booleans()):
        return g.add(g.draw(st.sampled_from(["Mul", "Add"])), first, second)
    return g.add("Concat", *g.draw(st.permutations([first, second])), axis=axis)


def shuffled(g: Grower) -> Value | None:
    x = image(g)
    if x is None or known(x)[0] % 2:
        return None
    channels, high, wide = known(x)
    y = g.add("Reshape", x, ints(0, 2, channels // 2, high, wide))
    return g.add("Reshape", g.add("Transpose", y, perm=(0, 2, 1, 3, 4)), ints(0, channels, high, wide))


def regrouped(g: Grower) -> Value | None:
    x = image(g)
    if x is None:
        return None
    channels, high, wide = known(x)
    if channels % 4 == 0 and high <= 8 and g.draw(st.booleans()):
        return g.add("DepthToSpace", x, blocksize=2, mode=g.draw(st.sampled_from(["DCR", "CRD"])))
    return g.add("SpaceToDepth", x, blocksize=2) if high % 2 == 0 and wide % 2 == 0 and channels <= 6 else None


def resized(g: Grower) -> Value | None:
    x = image(g)
    if x is None or known(x)[1] > 8:
        return None
    scales = constant(np.array([1, 1, 2, 2], np.float32))
    return g.add("Resize", x, None, scales, mode=g.draw(st.sampled_from(["nearest", "linear"])))


def pooled(g: Grower) -> Value | None:
    x = image(g)
    if x is None or known(x)[1] < 4:
        return None
    return g.add(g.draw(st.sampled_from(["MaxPool", "AveragePool"])), x, kernel_shape=(2, 2), strides=(2, 2))


def flattened(g: Grower) -> Value | None:
    """An image as tokens, its places in either order, or as a row of numbers."""
    x = image(g)
    if x is None:
        return None
    channels, high, wide = known(x)
    kind = g.draw(st.sampled_from(["tokens", "row", "mean"]))
    if kind == "tokens":
        return g.add("Transpose", g.add("Reshape", x, ints(0, channels, high * wide)), perm=(0, 2, 1))
    if kind == "row":
        return g.add("Flatten", x) if channels * high * wide <= 256 else None
    return g.add("ReduceMean", x, ints(2, 3), keepdims=0)


# Tokens


def projected(g: Grower, x: Value, out: int) -> Value:
    inputs = known(x)[-1]
    y = g.add("MatMul", x, weight(g, inputs, out, reads=inputs))
    return g.add("Add", y, g.constant([out], name="b")) if g.draw(st.booleans()) else y


def linear(g: Grower) -> Value | None:
    x = tokens(g)
    return None if x is None else activated(g, scaled(g, projected(g, x, width(g))))


def scaled(g: Grower, x: Value) -> Value:
    channels, kind = known(x)[-1], g.draw(st.sampled_from(["none", "layer", "rms"]))
    if kind == "layer":
        return g.add("LayerNormalization", x, positive(g, channels), g.constant([channels]), axis=-1)
    return g.add("RMSNormalization", x, positive(g, channels), axis=-1) if kind == "rms" else x


def hidden(g: Grower) -> Value | None:
    """x + f(norm(x)), f with hidden units, gated or not."""
    x = tokens(g)
    if x is None:
        return None
    y, units = scaled(g, x), width(g)
    up = activated(g, projected(g, y, units))
    up = g.add("Mul", up, projected(g, y, units)) if g.draw(st.booleans()) else up
    return g.add("Add", x, projected(g, up, known(x)[-1]))


def attention(g: Grower) -> Value | None:
    """Heads written out; keys and values may have fewer heads than queries."""
    x = tokens(g)
    if x is None:
        return None
    places, channels = known(x)
    heads, size = g.draw(st.sampled_from([(2, 2), (4, 2), (4, 4), (2, 1)])), g.draw(st.sampled_from([2, 4]))

    def split(count: int) -> Value:
        y = g.add("Reshape", projected(g, x, count * size), ints(0, places, count, size))
        return g.add("Transpose", y, perm=(0, 2, 1, 3))

    q, k, v = split(heads[0]), split(heads[1]), split(heads[1])
    if heads[0] != heads[1]:
        k, v = (repeated(g, y, heads[0] // heads[1], places, size) for y in (k, v))
    scores = g.add("MatMul", q, g.add("Transpose", k, perm=(0, 1, 3, 2)))
    scores = g.add("Mul", scores, constant(np.float32(size**-0.5)))
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
    mixed = g.add("Reshape", g.add("Transpose", mixed, perm=(0, 2, 1, 3)), ints(0, places, heads[0] * size))
    y = projected(g, mixed, channels)
    return g.add("Add", x, y) if g.draw(st.booleans()) else y


def repeated(g: Grower, x: Value, times: int, places: int, size: int) -> Value:
    """Each head `times` times in a row."""
    count = known(x)[0]
    y = g.add("Expand", g.add("Unsqueeze", x, ints(2)), ints(1, count, times, places, size))
    return g.add("Reshape", y, ints(0, count * times, places, size))


def recurrent(g: Grower) -> Value | None:
    x = tokens(g)
    if x is None:
        return None
    op, gates = g.draw(st.sampled_from([("LSTM", 4), ("GRU", 3), ("RNN", 1)]))
    both, units, inputs = g.draw(st.booleans()), g.draw(st.sampled_from([4, 6])), known(x)[-1]
    directions = 2 if both else 1
    w = weight(g, directions, gates * units, inputs, reads=inputs)
    r = weight(g, directions, gates * units, units, reads=units)
    b = g.constant([directions, 2 * gates * units])
    direction = "bidirectional" if both else g.draw(st.sampled_from(["forward", "reverse"]))
    steps = g.add("Transpose", x, perm=(1, 0, 2))
    y = g.several(op, [steps, w, r, b], 1, hidden_size=units, direction=direction)[0]
    y = g.add("Transpose", y, perm=(2, 0, 1, 3))
    return g.add("Reshape", y, ints(0, known(x)[0], directions * units))


def windows(g: Grower) -> Value | None:
    """Places in groups, mixed within their group."""
    x = tokens(g)
    if x is None or known(x)[0] % 2:
        return None
    places, channels = known(x)
    y = g.add("Reshape", x, ints(-1, places // 2, channels))
    y = g.add("Add", y, g.add("ReduceMean", y, ints(1), keepdims=1))
    return g.add("Reshape", activated(g, projected(g, y, channels)), ints(-1, places, channels))


def mixed(g: Grower) -> Value | None:
    """Positions mixed by a weight of their own (MLP-Mixer)."""
    x = tokens(g)
    if x is None:
        return None
    y = g.add("Transpose", x, perm=(0, 2, 1))
    y = projected(g, activated(g, projected(g, y, width(g))), known(x)[0])
    return g.add("Add", x, g.add("Transpose", y, perm=(0, 2, 1)))


def row(g: Grower) -> Value | None:
    """Layers on a row of numbers."""
    x = g.pick(FLOATS, ranks=(2,))
    if x is None:
        return None
    inputs, out, turned = known(x)[0], width(g), g.draw(st.integers(0, 1))
    shape = (out, inputs) if turned else (inputs, out)
    return activated(g, g.add("Gemm", x, weight(g, *shape, reads=inputs), g.constant([out]), transB=turned))


def pooled_tokens(g: Grower) -> Value | None:
    x = tokens(g)
    if x is None:
        return None
    if g.draw(st.booleans()):
        return g.add("ReduceMean", x, ints(1), keepdims=0)
    return g.add("Gather", x, constant(np.array(0, np.int64)), axis=1)


LAYERS: tuple[Grow, ...] = (
    conv, conv, transposed, gate, residual, joined, halves, shuffled, regrouped, resized, pooled, flattened, linear,
    hidden, attention, recurrent, windows, mixed, row, pooled_tokens,
)  # fmt: skip
INPUTS = (tensor("f32", BATCH, 3, 8, 8), tensor("f32", BATCH, LENGTH, 8))


@st.composite
def networks(draw: Draw, most: int = 8) -> Model:
    """A verified network of up to `most` layers on an image, on tokens or on both; outputs are what nothing reads,
    through a last layer of their own in two of three cases.
    """
    types = draw(st.sampled_from([INPUTS[:1], INPUTS[1:], INPUTS]))
    graph = Graph("network", [Value(f"x{i}", t) for i, t in enumerate(types)])
    g = Grower(draw, graph, graph.inputs)
    for grow in draw(st.lists(st.sampled_from(LAYERS), min_size=2, max_size=most)):
        grow(g)
    results = [v for v in g.values if not v.is_input and not v.users and v.type is not None]
    results = [headed(g, v) if draw(st.integers(0, 2)) else v for v in results]
    graph.set_outputs(results or [g.add("Identity", graph.inputs[0])], [f"y{i}" for i in range(max(1, len(results)))])
    verify(graph)
    return Model(graph, {"": 26})


def headed(g: Grower, x: Value) -> Value:
    if len(shape_of(x)) == 4:
        return convolved(g, x, 5)
    return projected(g, x, 5) if len(shape_of(x)) in (2, 3) and prod(known(x)) else x
