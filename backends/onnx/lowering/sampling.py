"""Sampling between the elements of a tensor: GridSample (opsets 16 and 20), AffineGrid (20), DeformConv (19),
RoiAlign with half pixels (16).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .form import Inexpressible
from .kernels import cubic, triangle
from .operands import cast, dtype_of, indices, known, number, scalar, shape_of, size_of, vector

TAPS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
ALPHA = -0.75
"""Of the cubic convolution (Keys 1981), as the specification of GridSample has it."""


def is_not_planar(node: Node) -> bool:
    return node.operand(0).rank != 4


def grid_sample(node: Node, op: Builder) -> Sequence[Value | None]:
    """Neighbours of each place that the grid names, weighted (GridSample-20)."""
    x, grid = node.operand(0), node.operand(1)
    count, align = len(shape_of(x)) - 2, bool(node.int("align_corners", 0))
    sizes = [size_of(op, x, 2 + d) for d in range(count)]
    places: list[Value] = []
    for d, size in enumerate(sizes):  # the grid names the last axis first
        part = op.Reshape(op.Gather(grid, scalar(count - 1 - d), axis=-1), [0, -1])
        unit = op.Add(_float(op, part), 1.0)
        length = op.Cast(size, to=DType.F32.code)
        if align:
            places.append(op.Mul(op.Div(unit, 2.0), op.Sub(length, 1.0)))
        else:
            places.append(op.Div(op.Sub(op.Mul(unit, length), 1.0), 2.0))
    flat = op.Reshape(x, [0, 0, -1])
    y = sampled(op, flat, sizes, places, node.str("mode"), node.str("padding_mode"), align)
    shape = vector(op, op.Slice(op.Shape(x), [0], [2], [0]), op.Slice(op.Shape(grid), [1], [-1], [0]))
    return [op.Reshape(y, shape)]


def sampled(
    op: Builder, x: Value, sizes: Sequence[Value], places: Sequence[Value], mode: str, padding: str, align: bool
) -> Value:
    """`x` [batch, channels, elements of all axes] at `places` [batch, points], one for each axis: [..., points].

    What lies outside is zero, the nearest border, or reflected at the borders (which with `align` are the centres of
    the outermost elements, else their edges).
    """
    own = dtype_of(x)
    precise = own if own is DType.F64 else DType.F32
    x, taps = cast(op, x, own, precise), TAPS[mode]
    rows: list[list[tuple[Value, Value, Value]]] = []
    for size, place in zip(sizes, places, strict=True):
        place = op.Round(place) if mode == "nearest" else place  # noqa: PLW2901
        place = _moved_inside(op, place, size, padding, align)  # noqa: PLW2901
        first = op.Floor(place)
        rest, row = op.Sub(place, first), list[tuple[Value, Value, Value]]()
        for tap in taps:
            at = op.Add(first, float(tap)) if tap else first
            distance = op.Sub(rest, float(tap)) if tap else rest
            weight = cubic(op, distance, ALPHA) if mode == "cubic" else triangle(op, distance)
            row.append((*_index(op, at, size, padding, align), weight))
        rows.append(row)
    shape, total = op.Shape(x), None
    for corner in itertools.product(*rows):
        linear, inside, weight = corner[0]
        for size, (index, here, factor) in zip(sizes[1:], corner[1:], strict=True):
            linear = op.Add(op.Mul(linear, size), index)
            inside, weight = op.And(inside, here), op.Mul(weight, factor)
        wanted = op.Unsqueeze(linear, [1])
        points = op.Shape(linear)
        spread = op.Expand(wanted, vector(op, op.Slice(shape, [0], [2], [0]), op.Slice(points, [1], [2], [0])))
        found = op.GatherElements(x, spread, axis=2)
        if padding == "zeros":
            found = op.Where(op.Unsqueeze(inside, [1]), found, number(0, precise))
        if mode != "nearest":
            found = op.Mul(found, cast(op, op.Unsqueeze(weight, [1]), DType.F32, precise))
        total = found if total is None else op.Add(total, found)
    assert total is not None
    return cast(op, total, precise, own)


def _moved_inside(op: Builder, place: Value, size: Value, padding: str, align: bool) -> Value:
    """Places beyond the borders where padding says; those of zero padding stay outside."""
    if padding == "zeros":
        return place
    last = op.Sub(op.Cast(size, to=DType.F32.code), 1.0)
    if padding == "reflection":
        return _reflected(op, place, last, align)
    low, high = _borders(op, last, align)
    beyond = op.Or(op.Less(place, low), op.Greater(place, high))
    return op.Where(beyond, op.Max(op.Min(place, last), number(0, DType.F32)), place)


def _index(op: Builder, at: Value, size: Value, padding: str, align: bool) -> tuple[Value, Value]:
    """An index that surely exists, and whether it is the one asked for."""
    last = op.Sub(op.Cast(size, to=DType.F32.code), 1.0)
    inside = op.And(op.GreaterOrEqual(at, number(0, DType.F32)), op.LessOrEqual(at, last))
    if padding == "reflection":
        at = _reflected(op, at, last, align)
    index = op.Cast(at, to=DType.I64.code)
    return op.Max(op.Min(index, op.Sub(size, scalar(1))), scalar(0)), inside


def _borders(op: Builder, last: Value, align: bool) -> tuple[Value, Value]:
    low = number(0 if align else -0.5, DType.F32)
    return low, last if align else op.Add(last, 0.5)


def _reflected(op: Builder, place: Value, last: Value, align: bool) -> Value:
    low, high = _borders(op, last, align)
    width = op.Max(op.Sub(high, low), number(1e-6, DType.F32))
    below, above = op.Less(place, low), op.Greater(place, high)
    beyond = op.Where(below, op.Sub(low, place), op.Sub(place, high))
    times = op.Floor(op.Div(beyond, width))
    rest = op.Sub(beyond, op.Mul(times, width))
    even = op.Equal(op.Sub(times, op.Mul(op.Floor(op.Div(times, 2.0)), 2.0)), number(0, DType.F32))
    from_low = op.Equal(op.Cast(below, to=DType.I32.code), op.Cast(even, to=DType.I32.code))
    back = op.Where(from_low, op.Add(low, rest), op.Sub(high, rest))
    return op.Where(op.Or(below, above), back, place)


def _float(op: Builder, x: Value) -> Value:
    return cast(op, x, dtype_of(x), DType.F32)


def affine_grid(node: Node, op: Builder) -> Sequence[Value | None]:
    """A product of the matrices with a regular grid (AffineGrid-20)."""
    theta, size = node.operand(0), node.operand(1)
    count = known(shape_of(theta)[1], "the number of axes")
    own = dtype_of(theta)
    lengths = [op.Gather(size, scalar(2 + d), axis=0) for d in range(count)]
    places: list[Value] = []
    for d, length in enumerate(lengths):
        steps, whole = op.Cast(indices(op, length), to=DType.F64.code), op.Cast(length, to=DType.F64.code)
        if node.int("align_corners", 0):
            place = op.Div(op.Mul(steps, 2.0), op.Max(op.Sub(whole, 1.0), number(1, DType.F64)))
        else:
            place = op.Div(op.Add(op.Mul(steps, 2.0), 1.0), whole)
        places.append(op.Unsqueeze(_spread(op, op.Sub(place, 1.0), d, lengths), [0]))
    ones = op.Expand(number(1, DType.F64), op.Shape(places[0]))
    grid = cast(op, op.Concat(*reversed(places), ones, axis=0), DType.F64, own)
    points = op.Transpose(op.MatMul(theta, grid), perm=[0, 2, 1])
    return [op.Reshape(points, vector(op, size_of(op, theta, 0), *lengths, count))]


def _spread(op: Builder, along: Value, axis: int, lengths: Sequence[Value]) -> Value:
    """A vector along one axis of a regular grid, at all points of that in order."""
    others = [i for i in range(len(lengths)) if i != axis]
    column = op.Unsqueeze(along, others) if others else along
    return op.Reshape(op.Expand(column, vector(op, *lengths)), [-1])


def deform_conv(node: Node, op: Builder) -> Sequence[Value | None]:
    """Samples at the moved places of the kernel, and a product with that (DeformConv-19)."""
    x, w, offset, bias, mask = (node.input(i) for i in range(5))
    assert x is not None
    assert w is not None
    assert offset is not None
    count = len(shape_of(x)) - 2
    outputs, inner, *kernel = (known(d, "the size of a kernel") for d in shape_of(w))
    taps, groups, shifts = math.prod(kernel), node.int("group", 1), node.int("offset_group", 1)
    strides, gaps = (node.ints(n, (1,) * count) for n in ("strides", "dilations"))
    pads = node.ints("pads", (0,) * (2 * count))
    lengths = [size_of(op, offset, 2 + d) for d in range(count)]
    sizes = [size_of(op, x, 2 + d) for d in range(count)]
    points = op.ReduceProd(vector(op, *lengths), [0])
    batch = op.Reshape(op.Mul(size_of(op, x, 0), scalar(shifts)), [1])
    moves = op.Reshape(_float(op, offset), vector(op, batch, taps, count, points))
    inside = np.indices(kernel).reshape(count, taps, 1)
    places: list[Value] = []
    for d in range(count):
        corner = op.Sub(op.Mul(indices(op, lengths[d]), scalar(strides[d])), scalar(pads[d]))
        regular = op.Add(constant(inside[d] * gaps[d]), op.Unsqueeze(_spread(op, corner, d, lengths), [0]))
        moved = op.Add(op.Gather(moves, scalar(d), axis=2), op.Cast(regular, to=DType.F32.code))
        places.append(op.Reshape(moved, [0, -1]))
    flat = op.Reshape(x, vector(op, batch, op.Div(size_of(op, x, 1), scalar(shifts)), op.ReduceProd(vector(op, *sizes),
                                                                                                     [0])))  # fmt: skip
    found = sampled(op, flat, sizes, places, "linear", "zeros", align=True)
    if mask is not None:
        found = op.Mul(found, op.Reshape(mask, vector(op, batch, 1, op.Mul(points, scalar(taps)))))
    columns = op.Reshape(found, vector(op, size_of(op, x, 0), groups, inner * taps, points))
    kernels = op.Reshape(w, [groups, outputs // groups, inner * taps])
    y = op.Reshape(op.MatMul(kernels, columns), vector(op, size_of(op, x, 0), outputs, *lengths))
    return [y if bias is None else op.Add(y, op.Reshape(bias, [-1] + [1] * count))]


def is_shifted(node: Node) -> bool:
    return node.str("coordinate_transformation_mode") == "half_pixel"


def roi_align(node: Node, op: Builder) -> Sequence[Value | None]:
    """Means of samples in each bin of regions that are half a pixel further up and left (RoiAlign-16)."""
    x, regions, batch = (node.operand(i) for i in range(3))
    samples = node.int("sampling_ratio")
    if node.str("mode") != "avg" or samples < 1:
        raise Inexpressible("maxima, and as many samples as a region needs, do not exist there with half pixels")
    corners = op.Sub(op.Mul(_float(op, regions), node.float("spatial_scale")), 0.5)
    picked = op.Reshape(op.Gather(x, batch, axis=0), [0, 0, -1])
    counts = (node.int("output_height"), node.int("output_width"))
    sizes, places, seen = [size_of(op, x, 2 + d) for d in (0, 1)], list[Value](), list[Value]()
    for d, count in enumerate(counts):  # a region is x, y, x, y
        start, end = (op.Slice(corners, [i], [i + 1], [1]) for i in (1 - d, 3 - d))
        parts = constant(((np.arange(count * samples) + 0.5) / (count * samples)).astype(np.float32))
        place = op.Unsqueeze(op.Add(start, op.Mul(op.Sub(end, start), parts)), [2 - d])
        length = op.Cast(sizes[d], to=DType.F32.code)
        near = op.And(op.GreaterOrEqual(place, number(-1, DType.F32)), op.LessOrEqual(place, length))
        places.append(op.Max(op.Min(place, op.Sub(length, 1.0)), number(0, DType.F32)))
        seen.append(near)
    near = op.Reshape(op.And(seen[0], seen[1]), [0, 1, -1])
    grid = op.Shape(op.Add(places[0], places[1]))
    flat = [op.Reshape(op.Expand(place, grid), [0, -1]) for place in places]
    found = sampled(op, picked, sizes, flat, "linear", "border", align=True)
    found = op.Where(near, found, number(0, found))
    bins = op.Reshape(found, [0, 0, counts[0], samples, counts[1], samples])
    return [op.ReduceMean(bins, [3, 5], keepdims=0)]
