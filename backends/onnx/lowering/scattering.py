"""Scatters that combine what meets in one place (opsets 16 and 18), TensorScatter (24) and Col2Im (18)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir import Builder, Node, Value, constant
from .loops import loop
from .operands import indices, known, number, scalar, shape_of, size_of, vector, wide

COMBINE: dict[str, str] = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


def reduces_by(*reductions: str) -> Callable[[Node], bool]:
    return lambda node: node.str("reduction") in reductions


def scatter_elements(node: Node, op: Builder) -> Sequence[Value | None]:
    """One position along the axis after the other: within one of them no two updates meet."""
    data, index, updates = (node.operand(i) for i in range(3))
    axis, combine = node.int("axis", 0), COMBINE[node.str("reduction")]

    def turn(body: Builder, i: Value, carried: Sequence[Value], outer: Sequence[Value]) -> list[Value]:
        at = body.Reshape(i, [1])
        place, update = (body.Gather(v, at, axis=axis) for v in outer)
        found = body.GatherElements(carried[0], place, axis=axis)
        return [body.ScatterElements(carried[0], place, _combined(body, combine, found, update), axis=axis)]

    return list(loop(op, size_of(op, index, axis), [data], [index, updates], turn))


def scatter_nd(node: Node, op: Builder) -> Sequence[Value | None]:
    """One slice after the other."""
    data, index, updates = (node.operand(i) for i in range(3))
    combine, depth = COMBINE[node.str("reduction")], size_of(op, index, -1)
    rows = op.Reshape(index, vector(op, -1, depth))
    rest = op.Slice(op.Shape(data), op.Reshape(depth, [1]), [np.iinfo(np.int64).max], [0])
    slices = op.Reshape(updates, vector(op, size_of(op, rows, 0), rest), allowzero=1)

    def turn(body: Builder, i: Value, carried: Sequence[Value], outer: Sequence[Value]) -> list[Value]:
        at = body.Reshape(i, [1])
        place, update = (body.Gather(v, at, axis=0) for v in outer)
        found = body.GatherND(carried[0], place)
        return [body.ScatterND(carried[0], place, _combined(body, combine, found, update))]

    return list(loop(op, size_of(op, rows, 0), [data], [rows, slices], turn))


def _combined(op: Builder, combine: str, a: Value, b: Value) -> Value:
    made = op.node(combine, [a, b])
    assert isinstance(made, Node)
    return made.output


def tensor_scatter(node: Node, op: Builder) -> Sequence[Value | None]:
    """Updates at a running place along the axis, for each element of the batch its own (TensorScatter-24)."""
    cache, update, start = node.operand(0), node.operand(1), node.input(2)
    rank = len(shape_of(cache))
    axis = node.int("axis") % rank
    place = op.Unsqueeze(indices(op, size_of(op, update, axis)), [0])
    if start is not None:
        place = op.Add(op.Unsqueeze(wide(op, start), [1]), place)
    if node.str("mode") == "circular":
        place = op.Mod(place, size_of(op, cache, axis))
    spread = op.Unsqueeze(place, [i for i in range(1, rank) if i != axis]) if rank > 2 else place
    return [op.ScatterElements(cache, op.Expand(spread, op.Shape(update)), update, axis=axis)]


def col2im(node: Node, op: Builder) -> Sequence[Value | None]:
    """Columns are added up where their blocks lie in the padded image, which is cut out of that (Col2Im-18)."""
    x, image, block = node.operand(0), wide(op, node.operand(1)), wide(op, node.operand(2))
    count = known(shape_of(node.operand(1))[0], "the number of axes of the image")
    strides, dilations = (node.ints(n, (1,) * count) for n in ("strides", "dilations"))
    pads = node.ints("pads", (0,) * (2 * count))
    one, before = scalar(1), constant(np.array(pads[:count], np.int64))
    padded = op.Add(image, constant(np.array(pads[:count]) + np.array(pads[count:])))
    linear = scalar(0)
    for d in range(count):
        size, taps = (op.Gather(v, scalar(d), axis=0) for v in (padded, block))
        reach = op.Add(op.Mul(op.Sub(taps, one), scalar(dilations[d])), one)
        blocks = op.Add(op.Div(op.Sub(size, reach), scalar(strides[d])), one)
        inside = op.Unsqueeze(op.Mul(indices(op, taps), scalar(dilations[d])), [1])
        corner = op.Unsqueeze(op.Mul(indices(op, blocks), scalar(strides[d])), [0])
        others = [i for i in range(2 * count) if i not in (d, count + d)]
        place = op.Add(inside, corner)
        place = op.Unsqueeze(place, others) if others else place
        linear = op.Add(op.Mul(linear, size), place)
    channels = op.Div(size_of(op, x, 1), op.ReduceProd(block, [0], keepdims=0))
    both = vector(op, size_of(op, x, 0), channels)
    columns = op.Reshape(x, vector(op, both, -1))
    zeros = op.Expand(number(0, x), vector(op, both, op.ReduceProd(padded, [0], keepdims=0)))
    places = op.Expand(op.Reshape(linear, [-1]), op.Shape(columns))
    total = op.ScatterElements(zeros, places, columns, axis=2, reduction="add")
    axes = list(range(2, 2 + count))
    return [op.Slice(op.Reshape(total, vector(op, both, padded)), before, op.Add(before, image), axes)]
