"""Chains that move data, state sizes, build sequences and decide control flow. Like motifs.py, for the rules that need
a certain kind of input.
"""

from __future__ import annotations

import numpy as np
from graphs import FLOATS, INTEGERS, Grow, Grower, known, shape_of
from hypothesis import strategies as st
from tersor.ir import Dense, DType, Graph, Node, TensorType, Value, constant, tensor
from written import END, either, fresh, ints, number, one_of

MOVABLE = (*FLOATS, *INTEGERS)


def scalar(value: int) -> Value:
    return constant(np.array(value, np.int64))


def like(g: Grower, x: Value) -> Value:
    """A value of the same type, or the value itself."""
    return g.draw(st.sampled_from([v for v in g.values if v.type == x.type]))


# Sizes


def stated_sizes(g: Grower) -> Value | None:
    """Bounds, pieces, scales and repeats that are computed from shapes."""
    x = fresh(g, "batch", "length", 4)
    batch, length = (g.add("Shape", x, start=i, end=i + 1) for i in (0, 1))
    match g.draw(st.integers(0, 6)):
        case 0:
            end = g.add("Sub", length, ints(g.draw(st.integers(0, 2))))
            return g.add("Slice", x, ints(g.draw(st.integers(0, 1))), end, ints(1))
        case 1:
            y = g.add("Concat", x, g.add("Neg", x), axis=1)
            return g.add("Add", *g.several("Split", [y, g.add("Concat", length, length, axis=0)], 2, axis=1))
        case 2:
            image = fresh(g, "batch", 3, "height", "width")
            twice = [g.add("Mul", g.add("Shape", image, start=i, end=i + 1), ints(2)) for i in (2, 3)]
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            if either(g):
                scales = constant(np.array([2, 2], np.float32))
                return g.add("Resize", image, None, scales, axes=(2, 3), **how)
            sizes = g.add("Concat", g.add("Shape", image, start=0, end=2), *twice, axis=0)
            return g.add("Resize", image, None, None, sizes, **how)
        case 3:
            one = g.add("ReduceSum", x, ints(1), keepdims=1)
            repeats = g.add("Concat", ints(1), length, ints(1), axis=0) if either(g) else ints(1, 2, 1)
            return g.add("Tile", one, repeats)
        case 4:
            target = g.add("Concat", batch, g.add("Mul", length, ints(2)), ints(2), axis=0)
            return g.add("Reshape", x, target)
        case 5:
            return g.add("Split", x, ints(4), axis=2)
        case _:
            repeats = g.add("Concat", ints(1), length, ints(1), axis=0)
            y = g.add("Expand", g.add("ReduceMax", x, ints(1), keepdims=1), repeats)
            z = g.add(str(one_of(g, "Relu", "Neg", "Sigmoid", "Exp")), y)
            return g.add("Mul", z, g.constant([4]) if either(g) else x)


def uniform_operands(g: Grower) -> Value | None:
    """Operands that are computed but hold one number, and comparisons that sizes decide."""
    x = fresh(g, "batch", "length")
    size = g.add("Shape", x, start=1, end=2)
    fill = g.draw(st.sampled_from([0.0, 1.0]))
    match g.draw(st.integers(0, 3)):
        case 0:
            y = g.add("Expand", number(fill), size)
            return g.add(str(one_of(g, "Add", "Mul", "Sub", "Div" if fill else "Add")), x, y)
        case 1:
            other = fresh(g, "batch", 1)
            y = g.add("Expand", number(fill), g.add("Shape", x))
            return g.add(str(one_of(g, "Add", "Mul")), y, other)
        case 2:
            row = g.add("Range", scalar(0), g.add("Squeeze", size, ints(0)), scalar(1))
            seen = g.add("GreaterOrEqual", row, scalar(0))
            return g.add(str(one_of(g, "And", "Or")), seen, g.add("Cast", x, to=DType.BOOL.code))
        case _:
            table = g.constant([6, 4], name="table")
            index = g.add("Expand", scalar(g.draw(st.integers(-2, 2))), size)
            return g.add("Add", g.add("Gather", table, index), g.add("Unsqueeze", x, ints(2)))


def counted(g: Grower) -> Value | None:
    """Gathers by indices that count: of everything in order, of everything in another order, of part of a table."""
    x = fresh(g, "batch", "length")
    batch, length = (g.add("Shape", x, start=i, end=i + 1) for i in (0, 1))
    rows = g.add("Range", scalar(0), g.add("Squeeze", batch, ints(0)), scalar(1))
    columns = g.add("Range", scalar(0), g.add("Squeeze", length, ints(0)), scalar(1))
    match g.draw(st.integers(0, 3)):
        case 0:
            shift = scalar(g.draw(st.sampled_from([0, 0, -1])))
            return g.add("Gather", x, g.add("Add", columns, shift), axis=1)
        case 1:
            flat = g.add("Flatten", x, axis=2)
            at = g.add("Add", g.add("Mul", g.add("Unsqueeze", rows, ints(1)), length), columns)
            return g.add("Gather", flat, at, axis=0)
        case 2:
            target = g.add("Concat", batch, length, axis=0)
            pair = [g.add("Expand", g.add("Unsqueeze", rows, ints(1)), target), g.add("Expand", columns, target)]
            parts = [g.add("Unsqueeze", p, ints(2)) for p in pair]
            return g.add("GatherND", x, g.add("Concat", *parts, axis=-1))
        case _:
            table, order = g.constant([16, 4], name="table"), np.arange(16)[:: g.draw(st.sampled_from([1, -1]))]
            index = constant(np.ascontiguousarray(order[None]).astype(np.int64))
            part = g.add("Slice", index, ints(0), length, ints(1))
            return g.add("Gather", table, part)


def points(g: Grower) -> Value | None:
    """GatherND by constant indices, Gathers of Gathers, and reshapings behind them."""
    x = fresh(g, 3, 4, 2)
    index = np.array(g.draw(st.lists(st.integers(-3, 2), min_size=2, max_size=4)), np.int64)
    match g.draw(st.integers(0, 3)):
        case 0:
            return g.add("GatherND", x, constant(index[:, None]))
        case 1:
            y = g.add("Gather", x, constant(index), axis=0)
            at = g.draw(st.lists(st.integers(-len(index), len(index) - 1), min_size=1, max_size=3))
            return g.add("Gather", y, constant(np.array(at, np.int64)), axis=g.draw(st.sampled_from([0, 0, -3])))
        case 2:
            y = g.add("Gather", x, constant(index), axis=0)
            return g.add("Reshape", y, ints(1, len(index), 4, 2) if either(g) else ints(len(index), 1, 4, 2))
        case _:
            table = g.constant([5, 4], name="table")
            y = g.add("Gather", table, constant(np.abs(index).reshape(1, -1)))
            return g.add("Transpose", y, perm=g.draw(st.sampled_from([(2, 0, 1), (0, 2, 1), (1, 0, 2)])))


# Movement


def around_products(g: Grower) -> Value | None:
    """Reshapings on both sides of a product with weights."""
    x = fresh(g, "batch", 2, 3, 4)
    match g.draw(st.integers(0, 2)):
        case 0:
            flat = g.add("Reshape", x, ints(-1, 4))
            bias = g.constant([5]) if either(g) else None
            y = g.add("Gemm", flat, g.constant([4, 5], name="w"), bias)
            return g.add("Reshape", y, ints(-1, 2, 3, 5))
        case 1:
            flat = g.add("Reshape", x, ints(-1, 3, 4))
            y = g.add("MatMul", flat, g.constant([4, 6], name="w"))
            y = g.add("Add", y, g.constant([6])) if either(g) else y
            return g.add("Reshape", y, g.draw(st.sampled_from([ints(-1, 3, 3, 2), ints(-1, 6, 6), ints(-1, 2, 3, 6)])))
        case _:
            turned = g.add("Reshape", g.add("Transpose", x, perm=(0, 2, 1, 3)), ints(0, 3, 8))
            y = g.add("MatMul", turned, g.constant([8, 6], name="w"))
            return g.add("Reshape", y, ints(0, 3, 2, 3))


def across_elementwise(g: Grower) -> Value | None:
    """Reshapings and Transposes with elementwise operators, reductions and softmaxes between them."""
    x = g.pick(ranks=(3, 4)) or fresh(g, "batch", 3, 4, 4)
    rank = len(shape_of(x))
    perm = (0, *g.draw(st.permutations(range(1, rank))))
    y = g.add("Transpose", x, perm=perm)
    for _ in range(g.draw(st.integers(1, 3))):
        match g.draw(st.integers(0, 6)):
            case 0:
                y = g.add(str(one_of(g, "Relu", "Sigmoid", "Neg", "Tanh")), y)
            case 1:
                y = g.add(str(one_of(g, "Add", "Mul", "Sub")), y, number(0.5))
            case 2:
                y = g.add(str(one_of(g, "Add", "Mul")), y, g.add("Transpose", like(g, x), perm=perm))
            case 3:
                y = g.add(str(one_of(g, "Softmax", "LogSoftmax")), y, axis=g.draw(st.sampled_from([-1, 1, 2])))
            case 4:
                kept = g.constant([known(y)[-1]]) if either(g) else g.constant([known(y)[-2], 1])
                y = g.add(str(one_of(g, "Add", "Mul")), y, kept)
            case 5:
                y = g.add("LayerNormalization", y, g.constant([known(y)[-1]]), axis=-1, epsilon=1e-2)
            case _:
                y = g.add("Clip", y, number(-0.5), number(0.5))
    back = tuple(int(i) for i in np.argsort(perm)) if either(g) else perm
    match g.draw(st.integers(0, 3)):
        case 0:
            return g.add(
                str(one_of(g, "ReduceMean", "ReduceMax")), y, ints(g.draw(st.sampled_from([1, -1]))), keepdims=0
            )
        case 1:
            return g.add("Reshape", g.add("Transpose", y, perm=back), ints(0, -1))
        case _:
            return g.add("Transpose", y, perm=back)


def moved_pieces(g: Grower) -> Value | None:
    """Transposes, Squeezes and Unsqueezes before or behind Concat, Split, Slice, Gather, Pad and reductions."""
    x = g.pick(MOVABLE, ranks=(3, 4)) or fresh(g, "batch", 3, 4, 4)
    rank = len(shape_of(x))
    perm = (0, *g.draw(st.permutations(range(1, rank))))
    back = tuple(int(i) for i in np.argsort(perm))
    axis = g.draw(st.integers(1, rank - 1))
    y = g.add("Transpose", x, perm=perm)
    size = known(y)[axis - 1]
    match g.draw(st.integers(0, 6)):
        case 0:
            z = g.add("Concat", y, g.add("Transpose", like(g, x), perm=perm), axis=axis)
        case 1 if size > 1:
            parts = g.several("Split", [y, ints(1, size - 1)], 2, axis=axis)
            first = g.add("Transpose", parts[0], perm=back)
            z = parts[1]
            if either(g):
                return g.add("Concat", first, g.add("Transpose", z, perm=back), axis=perm[axis])
        case 2:
            z = g.add("Slice", y, ints(0), ints(max(1, size - 1)), ints(axis))
        case 3:
            order = g.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3))
            z = g.add("Gather", y, constant(np.array(order, np.int64)), axis=axis)
        case 4 if _is_float(y):
            z = g.add("Pad", y, ints(*[0] * axis, 1, *[0] * (rank - 1), 1, *[0] * (rank - 1 - axis)), number(0.5))
        case 5 if _is_float(y):
            z = g.add(str(one_of(g, "ReduceSum", "ReduceMax", "ReduceMean")), y, ints(axis), keepdims=1)
        case _:
            z = g.add("Unsqueeze", y, ints(axis))
            return g.add("Squeeze", g.add("Neg", z), ints(axis))
    return g.add("Transpose", z, perm=back)


def _is_float(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype is DType.F32


def joined_pieces(g: Grower) -> Value | None:
    """Pieces of joined values, and pieces joined again: whole, in order, in another order, repeated."""
    x = g.pick(MOVABLE, ranks=(2, 3, 4)) or fresh(g, "batch", 4, 4)
    axis = g.draw(st.integers(1, len(shape_of(x)) - 1))
    size = known(x)[axis - 1]
    both = g.add("Concat", x, g.add("Neg", x), x, axis=axis)
    match g.draw(st.integers(0, 5)):
        case 0:
            start = g.draw(st.integers(0, 2)) * size
            return g.add("Slice", both, ints(start), ints(start + size * g.draw(st.integers(1, 2))), ints(axis))
        case 1:
            parts = g.several("Split", [both, ints(size, size, size)], 3, axis=axis)
            return g.add("Concat", *(parts if either(g) else parts[:2]), axis=axis)
        case 2:
            at = g.draw(st.integers(-3 * size, 3 * size - 1))
            return g.add("Gather", both, scalar(at), axis=axis)
        case 3:
            parts = [g.add("Gather", x, scalar(i), axis=axis) for i in range(size)]
            parts = [g.add("Unsqueeze", p, ints(axis)) for p in parts]
            return g.add("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
        case 4:
            wide = g.add("Tile", x, ints(*[2 if a == axis else 1 for a in range(len(shape_of(x)))]))
            other = g.draw(st.integers(1, len(shape_of(x)) - 1))
            return g.add("Tile", wide, ints(*[2 if a == other else 1 for a in range(len(shape_of(x)))]))
        case _:
            entry = g.add("Slice", x, ints(0), ints(1), ints(axis))
            return g.add("Squeeze", entry, ints(axis))


def meetings(g: Grower) -> Value | None:
    """Casts, reshapings and Transposes on both sides of movement and of products, or of all operands."""
    match g.draw(st.integers(0, 7)):
        case 0:
            x = fresh(g, "batch", 2, 3, dtype=str(one_of(g, "i32", "bool", "f16", "f32")))
            middle = g.draw(st.sampled_from([DType.F32, DType.I64, DType.F64])) if not x.is_float else DType.F64
            y = g.add("Transpose", g.add("Cast", x, to=middle.code), perm=(0, 2, 1))
            y = g.add("Gather", y, ints(0, 1), axis=1) if either(g) else g.add("Unsqueeze", y, ints(1))
            return g.add("Cast", y, to=g.draw(st.sampled_from([DType.F32, DType.F64, x.dtype])).code)  # pyright: ignore
        case 1:
            q, k = fresh(g, "batch", 2, 3, 4), fresh(g, "batch", 2, 4, 5)
            y = g.add("MatMul", g.add("Reshape", q, ints(-1, 3, 4)), g.add("Reshape", k, ints(-1, 4, 5)))
            return g.add("Reshape", y, g.draw(st.sampled_from([ints(-1, 2, 3, 5), ints(2, -1, 3, 5), ints(-1, 6, 5)])))
        case 2:
            q, k = fresh(g, "batch", 3, 4), fresh(g, "batch", 4, 3)
            turned = [g.add("Transpose", v, perm=(0, 2, 1)) for v in (q, k)]
            return g.add("MatMul", *turned)
        case 3:
            a, b = fresh(g, 4, "batch"), fresh(g, 5, 4)
            left = g.add("Transpose", a, perm=(1, 0))
            right = g.add("Transpose", b) if either(g) else g.constant([4, 5])
            y = g.add(str(one_of(g, "MatMul", "Gemm")), left, right)
            return g.add("Add", y, g.constant([5])) if either(g) else y
        case 4:
            x, y = fresh(g, "batch", 6), fresh(g, "batch", 6)
            how = g.draw(
                st.sampled_from([("Reshape", ints(0, 2, 3)), ("Unsqueeze", ints(1)), ("Reshape", ints(-1, 3))])
            )
            return g.add(str(one_of(g, "Add", "Mul", "Max", "Sub")), *(g.add(how[0], v, how[1]) for v in (x, y)))
        case 5:
            x = fresh(g, "batch", 4)
            y = g.add(str(one_of(g, "Max", "Min", "Sum")), x, g.constant([4]))
            return g.add(str(one_of(g, "Max", "Min", "Sum")), y, number(0.5), x, number(-0.25))
        case 6:
            x = fresh(g, "batch", 4, dtype="i64")
            seen = g.add(str(one_of(g, "Less", "GreaterOrEqual", "Greater", "LessOrEqual")), x, ints(1))
            return g.add("Where", g.add("Not", seen), x, ints(7))
        case _:
            image = fresh(g, "batch", 2, 4, 4)
            y = g.add("Relu", image) if either(g) else image
            fill = number(g.draw(st.sampled_from([0.0, -np.inf])))
            y = g.add("Pad", y, ints(0, 0, 1, 0, 0, 0, 1, 1), fill)
            return g.add("MaxPool", y, kernel_shape=(2, 2), strides=g.draw(st.sampled_from([(1, 1), (2, 2)])))


def filled(g: Grower) -> Value | None:
    """A tensor that is filled with a number, in another element type."""
    x = fresh(g, "batch", 3)
    how = {"value": Dense(np.array([g.draw(st.sampled_from([0.0, 2.0, 1.5]))], np.float32))} if either(g) else {}
    y = g.add("ConstantOfShape", g.add("Shape", x), **how)
    kind = g.draw(st.sampled_from([DType.I64, DType.F64, DType.F16]))
    return g.add("Cast", g.add("Cast", y, to=kind.code), to=DType.F32.code)


def shapes(g: Grower) -> Value | None:
    """Pieces of the Shape of a value, of its parts and of what has the same one."""
    x = fresh(g, "batch", "length", 4)
    same = g.add(str(one_of(g, "Relu", "Neg", "Abs")), x)
    shape = g.add("Shape", g.draw(st.sampled_from([x, same])))
    match g.draw(st.integers(0, 3)):
        case 0:
            part = g.add("Gather", shape, ints(*g.draw(st.permutations([0, 1, 2]))), axis=0)
            return g.add("Cast", part, to=DType.F32.code)
        case 1:
            part = g.add("Slice", shape, ints(1), ints(END), ints(0))
            return g.add("Mul", g.add("ReduceProd", part, ints(0), keepdims=0), scalar(2))
        case 2:
            low, high = g.several("Split", [shape, ints(1, 2)], 2, axis=0)
            return g.add("Reshape", same, g.add("Concat", low, g.add("ReduceProd", high, ints(0), keepdims=1), axis=0))
        case _:
            return g.add("Add", g.add("Size", same), g.add("Gather", shape, scalar(1)))


# Sequences and control flow


def sequence_values(g: Grower) -> Value | None:
    """Sequences that are built, changed and taken apart."""
    x = fresh(g, "batch", 3, 4)
    items = [x, g.add("Neg", x), g.add("Relu", x)][: g.draw(st.integers(1, 3))]
    axis = g.draw(st.integers(1, 2))
    if either(g):
        pieces = g.draw(st.sampled_from([None, scalar(2), ints(1, 2)]))
        row = g.several("SplitToSequence", [x, pieces], 1, axis=1, keepdims=g.draw(st.integers(0, 1)))[0]
        return g.add("SequenceAt", row, scalar(g.draw(st.sampled_from([0, 1, -1]))))
    row = g.add("SequenceConstruct", *items)
    if either(g):
        row = g.add("SequenceInsert", row, x, scalar(g.draw(st.integers(-1, 1))) if either(g) else None)
    if either(g):
        row = g.add("SequenceErase", row, scalar(g.draw(st.sampled_from([0, -1]))) if either(g) else None)
    match g.draw(st.integers(0, 2)):
        case 0:
            return g.add("SequenceAt", row, scalar(g.draw(st.sampled_from([0, -1]))))
        case 1:
            return g.add("ConcatFromSequence", row, axis=axis, new_axis=g.draw(st.integers(0, 1)))
        case _:
            return g.add("Cast", g.add("SequenceLength", row), to=DType.F32.code)


def optional_values(g: Grower) -> Value | None:
    x = fresh(g, "batch", 3)
    kept = g.add("Optional", x)
    if either(g):
        return g.add("Cast", g.add("OptionalHasElement", kept), to=DType.F32.code)
    return g.add("OptionalGetElement", kept)


def grown_region(g: Grower, name: str, inputs: list[Value], names: list[str], steps: int) -> tuple[Graph, Grower]:
    """A region with these inputs and a few elementwise nodes."""
    region = Graph(name, [Value(f"{name}_{n}", v.type) for n, v in zip(names, inputs, strict=True)])
    return region, Grower(g.draw, region, region.inputs, depth=1)


def decided(g: Grower) -> Value | None:
    """An If on a constant, or on a condition with branches that do the same, use the same, or give the same."""
    if g.depth:
        return None
    x = fresh(g, "batch", 3)
    condition = constant(np.array(either(g))) if either(g) else fresh(g, dtype="bool")
    outer = g.add("Exp", x)
    regions: dict[str, Graph] = {}
    same = g.draw(st.integers(0, 2))
    for index, name in enumerate(("then_branch", "else_branch")):
        region, inner = grown_region(g, name, [x, outer], ["x", "e"], 2)
        a, b = region.inputs
        first = inner.add("Exp" if either(g) else "Tanh", a)
        second = inner.add("Add", first, b) if index or same else inner.add("Mul", first, b)
        third = inner.add("Relu", a) if same == 2 else second
        region.set_outputs([second, third], ["p", "q"])
        regions[name] = region
    node = Node("If", [condition, x, outer], {}, [Value("p"), Value("q")], regions=regions, captures=2)
    g.graph.insert(node)
    g.inference.node(node)
    p, q = node.outputs
    g.values += [p, q]
    return g.add("Add", p, q) if either(g) else p


def loops(g: Grower) -> Value | None:
    """A Loop that computes something anew each time which it could once, carries what it does not change, gives the same
    twice, or what nobody uses; it may not run at all.
    """
    if g.depth:
        return None
    x = fresh(g, 2, 3)
    known_count = g.draw(st.booleans())
    count = scalar(g.draw(st.integers(0, 3))) if known_count else fresh(g, dtype="i64")
    body = Graph(
        "body",
        [Value("i", tensor("i64")), Value("go", tensor("bool")), *(Value(n, x.type) for n in ("a", "b", "c", "x"))],
    )
    inner = Grower(g.draw, body, body.inputs, depth=1)
    _, go, a, b, c, outer = body.inputs
    still = inner.add(str(one_of(g, "Exp", "Tanh", "Relu")), outer)
    still = inner.add("Mul", still, g.constant([3])) if either(g) else still
    step = inner.add("Add", a, still)
    other = inner.add("Add", b, still) if either(g) else b
    last = inner.add("Neg", c) if either(g) else c
    goes_on = inner.add("Identity", go) if either(g) else constant(np.array(True))
    scanned = [step, inner.add("Relu", step)] if either(g) else [step, step]
    body.set_outputs([goes_on, step, other, last, *scanned], ["go_on", "a2", "b2", "c2", "s", "t"])
    starts = [x, g.add("Neg", x), x]
    node = Node(
        "Loop", [count, constant(np.array(True)), *starts, x], {}, [Value(n) for n in "pqrst"],
        regions={"body": body}, captures=1,
    )  # fmt: skip
    g.graph.insert(node)
    g.inference.node(node)
    used = g.draw(st.lists(st.sampled_from(range(5)), min_size=1, max_size=3, unique=True))
    return _summed(g, [node.outputs[i] for i in used])


def _summed(g: Grower, values: list[Value]) -> Value:
    """One value of several of different ranks."""
    total = [g.add("ReduceSum", v, keepdims=0) for v in values]
    return total[0] if len(total) == 1 else g.add("Sum", *total)


def scans(g: Grower) -> Value | None:
    """A Scan over the first axis with a state, something that it could compute once, and results that are the same."""
    if g.depth:
        return None
    x, state = fresh(g, g.draw(st.sampled_from([1, 2, 3])), 3), fresh(g, 3)
    body = Graph("body", [Value("s", state.type), Value("e", state.type), Value("c", state.type)])
    inner = Grower(g.draw, body, body.inputs, depth=1)
    s, e, c = body.inputs
    once = inner.add("Exp", c)
    t = inner.add("Add", s, inner.add("Mul", e, once))
    body.set_outputs([t, t, inner.add("Relu", t)], ["t", "u", "v"])
    node = Node(
        "Scan", [state, x, g.add("Neg", state)], {"num_scan_inputs": 1}, [Value(n) for n in "pqr"],
        regions={"body": body}, captures=1,
    )  # fmt: skip
    g.graph.insert(node)
    g.inference.node(node)
    used = g.draw(st.lists(st.sampled_from(range(3)), min_size=1, max_size=3, unique=True))
    return _summed(g, [node.outputs[i] for i in used])


MOVED: tuple[Grow, ...] = (
    stated_sizes, uniform_operands, counted, points, around_products, across_elementwise, moved_pieces, joined_pieces,
    meetings, filled, shapes, sequence_values, optional_values, decided, loops, scans,
)  # fmt: skip
