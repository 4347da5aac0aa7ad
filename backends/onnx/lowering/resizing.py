"""Resize of some axes with computed operands, with an aspect ratio that is kept, with antialiasing (opset 18), and
around the centre (19).

The latter three are written out axis by axis: interpolation is separable. A place in the output has a place in the
input, whose neighbours are gathered and weighted; with antialiasing the neighbourhood grows with the scale, and the
weights are a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .form import Inexpressible
from .kernels import cubic, triangle
from .operands import (
    cast,
    dtype_of,
    indices,
    normal,
    number,
    rank_of,
    scalar,
    shape_of,
    size_of,
    sizes_of,
    vector,
    wide,
)

ROI, SCALES, SIZES = 1, 2, 3
F64 = DType.F64.code


def is_newer(node: Node) -> bool:
    """True for what Resize could not do before version 18."""
    return is_written_out(node) or resizes_some_computed(node)


def is_written_out(node: Node) -> bool:
    return bool(node.int("antialias", 0)) or node.str("keep_aspect_ratio_policy", "stretch") != "stretch"


def is_symmetric(node: Node) -> bool:
    return node.str("coordinate_transformation_mode") == "half_pixel_symmetric"


def resizes_some_computed(node: Node) -> bool:
    if node.attr("axes") is None:
        return False
    crops = node.str("coordinate_transformation_mode") == "tf_crop_and_resize"
    given = [v for v in (node.input(SCALES), node.input(SIZES)) if v is not None]
    shape = node.operand(0).shape
    partial = node.input(SIZES) is not None and (shape is None or not all(isinstance(d, int) for d in shape))
    return crops or partial or shape is None or any(v.const is None for v in given)


def resize(node: Node, op: Builder) -> Sequence[Value | None]:
    return resampled(node, op) if is_written_out(node) else all_axes(node, op)


def all_axes(node: Node, op: Builder) -> Sequence[Value | None]:
    """Operands for all axes, which say of the others that they stay (Resize-18)."""
    x, attrs = node.operand(0), dict(node.attrs)
    axes = attrs.pop("axes")
    assert isinstance(axes, tuple)
    rank = rank_of(op, x)
    places = normal(op, constant(np.array(axes, np.int64)), rank)
    operands: list[Value | None] = [x, node.input(ROI), node.input(SCALES), node.input(SIZES)]
    if (roi := node.input(ROI)) is not None:
        ends = op.Concat(*[op.Expand(number(v, roi), op.Reshape(rank, [-1])) for v in (0, 1)], axis=0)
        operands[ROI] = op.ScatterElements(ends, vector(op, places, op.Add(places, rank)), roi, axis=0)
    if (scales := node.input(SCALES)) is not None:
        ones = op.Expand(number(1, scales), op.Reshape(rank, [-1]))
        operands[SCALES] = op.ScatterElements(ones, places, scales, axis=0)
    if (sizes := node.input(SIZES)) is not None:
        operands[SIZES] = op.ScatterElements(sizes_of(op, x), places, wide(op, sizes), axis=0)
    made = op.node("Resize", operands, attrs)
    assert isinstance(made, Node)
    return [made.output]


def resampled(node: Node, op: Builder) -> Sequence[Value | None]:
    x, mode = node.operand(0), node.str("mode")
    rank, own = len(shape_of(x)), dtype_of(x)
    if node.str("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Inexpressible("a region of interest together with that does not exist there")
    if mode != "nearest" and not own.is_float:
        raise Inexpressible("how integers between others are rounded is not said")
    axes = [a % rank for a in node.ints("axes", tuple(range(rank)))]
    scales, lengths = _scales(node, op, axes)
    precise = own if mode == "nearest" or own is DType.F64 else DType.F32
    y = cast(op, x, own, precise)
    constant_scales = node.input(SCALES)
    given = constant_scales.const if constant_scales is not None else None
    ones = [False] * len(axes) if given is None else [bool(s == 1) for s in given.numpy().tolist()]
    for i, axis in enumerate(axes):
        if ones[i]:
            continue
        scale, length = (op.Gather(v, scalar(i), axis=0) for v in (scales, lengths))
        y = _along(node, op, y, axis, scale, length)
    return [cast(op, y, precise, own)]


def _scales(node: Node, op: Builder, axes: Sequence[int]) -> tuple[Value, Value]:
    """The scale (64-bit float) and the new size of each axis."""
    x, sizes, policy = node.operand(0), node.input(SIZES), node.str("keep_aspect_ratio_policy", "stretch")
    old = op.Gather(sizes_of(op, x), constant(np.array(axes, np.int64)), axis=0)
    if sizes is None:
        scales = node.operand(SCALES)
        new = op.Floor(op.Mul(scales, op.Cast(old, to=dtype_of(scales).code)))
        return op.Cast(scales, to=F64), op.Cast(new, to=DType.I64.code)
    new, old = wide(op, sizes), op.Cast(old, to=F64)
    scales = op.Div(op.Cast(new, to=F64), old)
    if policy == "stretch":
        return scales, new
    one = op.ReduceMin(scales, [0]) if policy == "not_larger" else op.ReduceMax(scales, [0])
    new = op.Cast(op.Floor(op.Add(op.Mul(one, old), 0.5)), to=DType.I64.code)
    return op.Expand(one, op.Shape(old)), new


def _place(mode: str, op: Builder, y: Value, scale: Value, old: Value, new: Value) -> Value:
    """The place in the input of each place in the output (64-bit floats)."""
    centre: Callable[[], Value] = lambda: op.Sub(op.Div(op.Add(y, 0.5), scale), 0.5)  # noqa: E731
    length = op.Mul(scale, old)
    match mode:
        case "asymmetric":
            return op.Div(y, scale)
        case "align_corners":
            last = op.Sub(length, 1.0)
            factor = op.Div(op.Sub(old, 1.0), op.Where(op.Equal(last, number(0, DType.F64)), 1.0, last))
            return op.Mul(y, op.Where(op.Equal(last, number(0, DType.F64)), number(0, DType.F64), factor))
        case "pytorch_half_pixel":
            return op.Where(op.Greater(length, number(1, DType.F64)), centre(), number(0, DType.F64))
        case "half_pixel_symmetric":
            offset = op.Mul(op.Div(old, 2.0), op.Sub(number(1, DType.F64), op.Div(new, length)))
            return op.Add(centre(), offset)
        case _:
            return centre()


NEAREST: dict[str, Callable[[Builder, Value], Value]] = {
    "floor": lambda op, x: op.Floor(x),
    "ceil": lambda op, x: op.Ceil(x),
    "round_prefer_floor": lambda op, x: op.Ceil(op.Sub(x, 0.5)),
    "round_prefer_ceil": lambda op, x: op.Floor(op.Add(x, 0.5)),
}
TAPS = {"linear": (0, 1), "cubic": (-1, 0, 1, 2)}


def _along(node: Node, op: Builder, x: Value, axis: int, scale: Value, length: Value) -> Value:
    """One axis of the data resized."""
    size, mode = size_of(op, x, axis), node.str("mode")
    old, new = op.Cast(size, to=F64), op.Cast(length, to=F64)
    steps = op.Cast(indices(op, length), to=F64)
    place = _place(node.str("coordinate_transformation_mode"), op, steps, scale, old, new)
    last = op.Sub(size, scalar(1))
    if mode == "nearest":
        index = op.Cast(NEAREST[node.str("nearest_mode")](op, place), to=DType.I64.code)
        return op.Gather(x, op.Max(op.Min(index, last), scalar(0)), axis=axis)
    if node.int("antialias", 0):
        return _by_matrix(node, op, x, axis, place, scale)
    first = op.Floor(place)
    rest, total = op.Sub(place, first), None
    weights = [_kernel(node, op, op.Sub(rest, float(t))) for t in TAPS[mode]]
    places = [op.Cast(op.Add(first, float(t)), to=DType.I64.code) for t in TAPS[mode]]
    if node.int("exclude_outside", 0):
        weights = [_inside(op, w, p, last) for w, p in zip(weights, places, strict=True)]
        weights = [op.Div(w, op.Sum(*weights)) for w in weights]
    rank = len(shape_of(x))
    for weight, at in zip(weights, places, strict=True):
        found = op.Gather(x, op.Max(op.Min(at, last), scalar(0)), axis=axis)
        column = op.Unsqueeze(weight, list(range(1, rank - axis))) if axis < rank - 1 else weight
        term = op.Mul(found, op.Cast(column, to=dtype_of(x).code))
        total = term if total is None else op.Add(total, term)
    assert total is not None
    return total


def _kernel(node: Node, op: Builder, distance: Value) -> Value:
    return cubic(op, distance, node.float("cubic_coeff_a")) if node.str("mode") == "cubic" else triangle(op, distance)


def _inside(op: Builder, weight: Value, place: Value, last: Value) -> Value:
    here = op.And(op.GreaterOrEqual(place, scalar(0)), op.LessOrEqual(place, last))
    return op.Where(here, weight, number(0, weight))


def _by_matrix(node: Node, op: Builder, x: Value, axis: int, place: Value, scale: Value) -> Value:
    """The kernel widened by how much the axis shrinks, over the data with its borders repeated."""
    rank, last = len(shape_of(x)), op.Sub(size_of(op, x, axis), scalar(1))
    narrow = op.Min(scale, number(1, DType.F64))
    reach = op.Cast(op.Ceil(op.Div(number(len(TAPS[node.str("mode")]) // 2, DType.F64), narrow)), to=DType.I64.code)
    at = op.Range(op.Neg(reach), op.Add(op.Add(last, reach), scalar(1)), scalar(1))
    distance = op.Sub(op.Unsqueeze(op.Cast(at, to=F64), [1]), op.Unsqueeze(place, [0]))
    weights = _kernel(node, op, op.Mul(distance, narrow))
    if node.int("exclude_outside", 0):
        weights = _inside(op, weights, op.Unsqueeze(at, [1]), last)
    weights = op.Cast(op.Div(weights, op.ReduceSum(weights, [0])), to=dtype_of(x).code)
    repeated = op.Gather(x, op.Max(op.Min(at, last), scalar(0)), axis=axis)
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    if axis == rank - 1:
        return op.MatMul(repeated, weights)
    return op.Transpose(op.MatMul(op.Transpose(repeated, perm=perm), weights), perm=perm)
