"""Random typed graphs: a hypothesis strategy that grows a graph node by node, each fitting the types of what is there.

Every graph runs in ONNX Runtime: sizes are small, indices are in range, and operators keep numbers of moderate size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st
from tersor.ir import Dense, DType, Graph, Model, Node, TensorType, Value, constant, symbol, tensor, verify
from tersor.ir.inference import Inference

Draw = st.DrawFn
Grow = Callable[["Grower"], "Value | None"]

BATCH = symbol("batch")
FLOATS, INTEGERS, BOOLEANS = (DType.F32,), (DType.I64, DType.I32), (DType.BOOL,)


class Grower:
    """A graph under construction; `values` are what a new node may use."""

    def __init__(self, draw: Draw, graph: Graph, values: Sequence[Value], depth: int = 0) -> None:
        self.draw, self.graph, self.values, self.depth = draw, graph, list(values), depth
        self.inference = Inference(graph)

    def pick(self, dtypes: Sequence[DType] = FLOATS, *, ranks: Sequence[int] = (1, 2, 3, 4)) -> Value | None:
        """Any value of one of the types and ranks whose sizes are known but for a symbolic first one."""
        fits = [v for v in self.values if _is(v, dtypes, ranks)]
        return self.draw(st.sampled_from(fits)) if fits else None

    def constant(self, shape: Sequence[int], dtype: DType = DType.F32, name: str = "") -> Value:
        seed = self.draw(st.integers(0, 9))
        numbers = np.random.default_rng(seed).standard_normal(tuple(shape))
        if dtype is not DType.F32:
            numbers = np.round(3 * numbers)
        return constant(Dense(numbers.astype(dtype.numpy), dtype), name)

    def add(self, op: str, *inputs: Value | None, **attrs: object) -> Value:
        return self.several(op, inputs, 1, **attrs)[0]

    def several(self, op: str, inputs: Sequence[Value | None], count: int, **attrs: object) -> list[Value]:
        """The outputs of a new node, as new values to grow from."""
        outputs = [Value(f"v{self.graph.count}_{i}") for i in range(count)]
        node = Node(op, inputs, attrs, outputs)  # pyright: ignore[reportArgumentType]
        self.graph.insert(node)
        self.inference.node(node)
        self.values += outputs
        return outputs


def shape_of(value: Value) -> tuple[object, ...]:
    assert isinstance(value.type, TensorType)
    assert value.type.shape is not None
    return value.type.shape


def known(value: Value) -> list[int]:
    """The sizes behind a first one that may be symbolic."""
    return [s for s in shape_of(value)[1:] if isinstance(s, int)]


def _is(value: Value, dtypes: Sequence[DType], ranks: Sequence[int]) -> bool:
    kind = value.type
    if (
        not isinstance(kind, TensorType)
        or kind.dtype not in dtypes
        or kind.shape is None
        or len(kind.shape) not in ranks
    ):
        return False
    first, *rest = kind.shape or (0,)
    return (first is BATCH or isinstance(first, int)) and all(isinstance(s, int) and 0 < s <= 64 for s in rest)


def unary(g: Grower) -> Value | None:
    x = g.pick()
    return (
        None if x is None else g.add(g.draw(st.sampled_from(["Relu", "Tanh", "Sigmoid", "Abs", "Neg", "Identity"])), x)
    )


def integers(g: Grower) -> Value | None:
    x = g.pick(INTEGERS)
    return None if x is None else g.add(g.draw(st.sampled_from(["Neg", "Abs", "Sign", "Identity"])), x)


def binary(g: Grower) -> Value | None:
    """Two values of one shape, or one and a constant that broadcasts against it from either side."""
    x = g.pick((*FLOATS, *INTEGERS))
    if x is None:
        return None
    assert isinstance(x.type, TensorType)
    op = g.draw(st.sampled_from(["Add", "Sub", "Mul"]))
    twins = [v for v in g.values if v.type == x.type]
    if g.draw(st.booleans()):
        return g.add(op, x, g.draw(st.sampled_from(twins)))
    shape = [g.draw(st.sampled_from([s, 1])) for s in known(x)]
    other = g.constant(g.draw(st.sampled_from([shape, shape[-1:], []])), x.type.dtype, "c")
    return g.add(op, *(g.draw(st.permutations([x, other]))))


def cast(g: Grower) -> Value | None:
    x = g.pick((*INTEGERS, *BOOLEANS))
    return None if x is None else g.add("Cast", x, to=g.draw(st.sampled_from([DType.F32, DType.I64, DType.I32])).code)


def compare(g: Grower) -> Value | None:
    x = g.pick()
    return None if x is None else g.add("Greater", x, constant(np.float32(0.1)))


def where(g: Grower) -> Value | None:
    c = g.pick(BOOLEANS)
    fits = [v for v in g.values if c is not None and _is(v, FLOATS, (1, 2, 3, 4)) and v.shape == c.shape]
    if c is None or not fits:
        return None
    return g.add("Where", c, g.draw(st.sampled_from(fits)), constant(np.float32(-1)))


def matmul(g: Grower) -> Value | None:
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    y = g.add("MatMul", x, g.constant([known(x)[-1], g.draw(st.integers(1, 5))], name="weight"))
    return g.add("Add", y, g.constant([known(y)[-1]], name="bias")) if g.draw(st.booleans()) else y


def gemm(g: Grower) -> Value | None:
    x = g.pick(ranks=(2,))
    if x is None:
        return None
    width, turned = g.draw(st.integers(1, 5)), g.draw(st.integers(0, 1))
    shape = [known(x)[0], width]
    return g.add("Gemm", x, g.constant(shape[::-1] if turned else shape), g.constant([width]), transB=turned)


def conv(g: Grower) -> Value | None:
    x = g.pick(ranks=(4,))
    if x is None:
        return None
    channels, groups = known(x)[0], g.draw(st.sampled_from([1, known(x)[0]]))
    out, kernel = groups * g.draw(st.integers(1, 2)), g.draw(st.sampled_from([1, 3]))
    pad = kernel // 2
    bias = g.constant([out], name="b") if g.draw(st.booleans()) else None
    weight = g.constant([out, channels // groups, kernel, kernel], name="w")
    y = g.add("Conv", x, weight, bias, group=groups, kernel_shape=(kernel, kernel), pads=(pad, pad, pad, pad))
    if g.draw(st.booleans()):
        scale, shift, mean = (g.constant([out]) for _ in range(3))
        y = g.add("BatchNormalization", y, scale, shift, mean, constant(np.ones(out, np.float32)))
    return y


def pool(g: Grower) -> Value | None:
    x = g.pick(ranks=(4,))
    if x is None or min(known(x)[1:]) < 2:
        return None
    return g.add(g.draw(st.sampled_from(["MaxPool", "AveragePool"])), x, kernel_shape=(2, 2), strides=(1, 1))


def reshape(g: Grower) -> Value | None:
    """Joins the axes behind the first, through a constant or through the sizes that the graph computes."""
    x = g.pick((*FLOATS, *INTEGERS), ranks=(2, 3, 4))
    if x is None:
        return None
    if g.draw(st.booleans()):
        return g.add("Reshape", x, constant(np.array([0, -1], np.int64)))
    batch = g.add("Gather", g.add("Shape", x), constant(np.array([0], np.int64)), axis=0)
    return g.add("Reshape", x, g.add("Concat", batch, constant(np.array([-1], np.int64)), axis=0))


def transpose(g: Grower) -> Value | None:
    x = g.pick((*FLOATS, *INTEGERS, *BOOLEANS), ranks=(3, 4))
    if x is None:
        return None
    rank = len(shape_of(x))
    return g.add("Transpose", x, perm=(0, *(g.draw(st.permutations(range(1, rank))))))


def concat(g: Grower) -> Value | None:
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    twins = [v for v in g.values if v.type == x.type]
    return g.add("Concat", x, g.draw(st.sampled_from(twins)), axis=g.draw(st.sampled_from([1, -1])))


def slice_(g: Grower) -> Value | None:
    x = g.pick((*FLOATS, *INTEGERS), ranks=(2, 3, 4))
    if x is None:
        return None
    axis = g.draw(st.integers(1, len(shape_of(x)) - 1))
    start, step = g.draw(st.integers(0, known(x)[axis - 1] - 1)), g.draw(st.integers(1, 2))
    numbers = (start, 2**31 - 1, axis, step)
    return g.add("Slice", x, *(constant(np.array([n], np.int64)) for n in numbers))


def squeeze(g: Grower) -> Value | None:
    x = g.pick((*FLOATS, *INTEGERS), ranks=(1, 2, 3))
    if x is None:
        return None
    axes = constant(np.array([g.draw(st.integers(1, len(shape_of(x))))], np.int64))
    y = g.add("Unsqueeze", x, axes)
    return g.add("Squeeze", y, axes) if g.draw(st.booleans()) else y


def reduce(g: Grower) -> Value | None:
    x = g.pick(ranks=(2, 3, 4))
    if x is None:
        return None
    axis = constant(np.array([g.draw(st.integers(1, len(shape_of(x)) - 1))], np.int64))
    op = g.draw(st.sampled_from(["ReduceMean", "ReduceSum", "ReduceMax"]))
    return g.add(op, x, axis, keepdims=g.draw(st.integers(0, 1)))


def softmax(g: Grower) -> Value | None:
    x = g.pick(ranks=(2, 3, 4))
    return None if x is None else g.add("Softmax", x, axis=-1)


def branch(g: Grower) -> Value | None:
    """An If whose condition is an input; each branch is a small graph over captured values, or yields one of them."""
    conditions = [v for v in g.graph.inputs if v.type == tensor("bool")]
    x = g.pick()
    if not conditions or x is None or g.depth:
        return None
    y = g.pick()
    captured = [x] if y is None or y is x else [x, y]
    regions: dict[str, Graph] = {}
    for name in ("then_branch", "else_branch"):
        region = Graph(name, [Value(f"{name}_{i}", v.type) for i, v in enumerate(captured)])
        inner = Grower(g.draw, region, region.inputs, depth=1)
        for grow in g.draw(st.lists(st.sampled_from([unary, binary]), max_size=2)):
            grow(inner)
        same = [v for v in inner.values if v.type == x.type]
        result = g.draw(st.sampled_from(same))
        region.set_outputs([result], ["result"])
        regions[name] = region
    # What no branch uses is not captured in a file either.
    for index in reversed(range(len(captured))):
        if not any(region.inputs[index].users for region in regions.values()):
            del captured[index]
            for region in regions.values():
                kept = [v for v in region.inputs if v.index != index]
                region.entry.outputs = tuple(kept)
                for position, value in enumerate(kept):
                    value.index = position
    made = Node("If", [conditions[0], *captured], {}, [Value("chosen")], regions=regions, captures=len(captured))
    g.graph.insert(made)
    g.inference.node(made)
    g.values.append(made.output)
    return made.output


GROW: tuple[Grow, ...] = (
    unary, integers, binary, cast, compare, where, matmul, gemm, conv, pool, reshape, transpose, concat, slice_, squeeze,
    reduce, softmax, branch,
)  # fmt: skip
INPUTS = (tensor("f32", "batch", 3, 4, 4), tensor("f32", "batch", 6), tensor("i64", "batch", 3), tensor("f32", 2, 3))


@st.composite
def models(draw: Draw, most: int = 10, growers: Sequence[Grow] = GROW) -> Model:
    """A verified model with inferred types, grown by up to `most` of the growers; the first size of most inputs is
    symbolic. Outputs are what nothing uses, and one in four of the values that something does use.
    """
    types = draw(st.lists(st.sampled_from(INPUTS), min_size=1, max_size=3))
    inputs = [Value(f"x{i}", t) for i, t in enumerate(types)]
    if draw(st.booleans()):
        inputs.append(Value("flag", tensor("bool")))
    graph = Graph("random", inputs)
    g = Grower(draw, graph, graph.inputs)
    for grow in draw(st.lists(st.sampled_from(growers), min_size=1, max_size=most)):
        grow(g)
    inner = [v for v in g.values if not v.is_input and v.users and draw(st.integers(0, 3)) == 3]
    results = [v for v in g.values if not v.is_input and not v.users] or [g.add("Identity", graph.inputs[0])]
    results += inner
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    verify(graph)
    return Model(graph, {"": 26})
