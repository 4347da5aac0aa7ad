"""Pad with computed pads or axes, and around its own end; CenterCropPad; Reshape to sizes that may be zero; Split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, TensorType, Value, constant
from .form import Inexpressible
from .loops import branch
from .operands import (
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


def is_computed(value: Value | None) -> bool:
    return value is not None and value.const is None


def pads_some_computed(node: Node) -> bool:
    """True where some axes alone are padded, and not all of it is known here."""
    return node.input(3) is not None and (
        is_computed(node.input(3)) or is_computed(node.input(1)) or node.operand(0).rank is None
    )


def pad_all(node: Node, op: Builder) -> Sequence[Value | None]:
    """Pads for all axes, zero where there were none (Pad-18)."""
    x, axes = node.operand(0), node.operand(3)
    rank = rank_of(op, x)
    places = normal(op, axes, rank)
    none = op.Expand(scalar(0), op.Reshape(op.Mul(rank, scalar(2)), [-1]))
    pads = op.ScatterElements(none, vector(op, places, op.Add(places, rank)), wide(op, node.operand(1)), axis=0)
    return [op.Pad(x, pads, node.input(2), **node.attrs)]


def feeds_a_maximum(node: Node) -> bool:
    """True for zeros around what a MaxPool takes: ONNX Runtime 1.31 makes them the pool's own padding, which is smaller
    than any number."""
    kind, filler = node.operand(0).type, node.input(2)
    if node.str("mode") != "constant" or not isinstance(kind, TensorType) or not kind.dtype.is_float:
        return False
    if not any(user.op == "MaxPool" and not user.domain for user in node.output.users):
        return False
    return filler is None or (filler.const is not None and filler.tensor.numpy().tobytes().strip(b"\0") == b"")


def pad_minus_zero(node: Node, op: Builder) -> Sequence[Value | None]:
    """Padding with -0.0, which the runtime leaves alone where the number is an operand (from Pad-11 on)."""
    x, pads, _, axes = (*node.inputs, None, None)[:4]
    return [op.Pad(x, pads, number(-0.0, node.operand(0)), axes, **node.attrs)]


def wraps(node: Node) -> bool:
    return node.str("mode") == "wrap"


def pad_around(node: Node, op: Builder) -> Sequence[Value | None]:
    """Padding with the values of the other end: what is gathered in each axis (Pad-19)."""
    x, pads, axes = node.operand(0), wide(op, node.operand(1)), node.input(3)
    rank = len(shape_of(x))
    if axes is not None:
        if axes.const is None:
            raise Inexpressible("its axes are computed, and padding wraps around")
        places: list[int] = [int(a) % rank for a in axes.const.numpy().tolist()]
    else:
        places = list(range(rank))
    for i, axis in enumerate(places):
        size = size_of(op, x, axis)
        before, after = (op.Gather(pads, scalar(j), axis=0) for j in (i, i + len(places)))
        index = op.Range(op.Neg(before), op.Add(size, after), scalar(1))
        x = op.Gather(x, op.Mod(index, size), axis=axis)
    return [x]


def center_crop_pad(node: Node, op: Builder) -> Sequence[Value | None]:
    """Slice away what is too much around the centre, pad what is missing (CenterCropPad-18)."""
    x, wanted = node.operand(0), wide(op, node.operand(1))
    rank = rank_of(op, x)
    given = node.attr("axes")
    axes = indices(op, rank) if given is None else normal(op, constant(np.array(given, np.int64)), rank)
    sizes = op.Gather(sizes_of(op, x), axes, axis=0)
    zero, two = scalar(0), scalar(2)
    excess, missing = op.Max(op.Sub(sizes, wanted), zero), op.Max(op.Sub(wanted, sizes), zero)
    start, front = op.Div(excess, two), op.Div(missing, two)
    cut = op.Slice(x, start, op.Add(start, op.Min(sizes, wanted)), axes)
    return [op.Pad(cut, vector(op, front, op.Sub(missing, front)), number(0, x), axes)]


def may_be_empty(node: Node) -> bool:
    """True where a target size may be zero and means that, and nothing here says that it is not."""
    if not node.int("allowzero", 0):
        return False
    shape, sizes = node.operand(0).shape, node.operand(1).const
    if sizes is not None and not (sizes.numpy() == 0).any():
        return False
    return shape is None or not all(isinstance(d, int) and d > 0 for d in shape)


def reshape(node: Node, op: Builder) -> Sequence[Value | None]:
    """An empty tensor where a size is zero, else a Reshape to other sizes (Reshape-14)."""
    x, sizes = node.operand(0), node.operand(1)
    empty = op.Equal(op.ReduceProd(sizes, [0], keepdims=0), scalar(0))
    nothing = constant(np.zeros((), dtype_of(x).numpy))
    return branch(
        op,
        empty,
        [x, sizes],
        lambda op, seen: [op.Expand(nothing, seen[1])],
        lambda op, seen: [op.Reshape(seen[0], seen[1])],
    )


def splits_unknown_size(node: Node) -> bool:
    """True where parts are counted and the size is not known here."""
    if node.attr("num_outputs") is None or node.input(1) is not None:
        return False
    shape = node.operand(0).shape
    return shape is None or not isinstance(shape[node.int("axis", 0)], int)


def split(node: Node, op: Builder) -> Sequence[Value | None]:
    """Parts of the rounded up size, the last ones with what remains (Split-18)."""
    x, parts, axis = node.operand(0), len(node.outputs), node.int("axis", 0)
    size = op.Gather(op.Shape(x), scalar(axis), axis=0)
    part = op.Div(op.Add(size, scalar(parts - 1)), scalar(parts))
    starts = op.Mul(constant(np.arange(parts)), part)
    sizes = op.Max(op.Min(op.Sub(size, starts), part), scalar(0))
    made = op.node("Split", [x, sizes], {"axis": axis}, outputs=parts)
    assert isinstance(made, Node)
    return made.outputs


def compares_strings(node: Node) -> bool:
    type_ = node.operand(0).type
    return isinstance(type_, TensorType) and type_.dtype is DType.STRING


def equal_strings(node: Node, op: Builder) -> Sequence[Value | None]:
    """Strings are equal where they have the same place among the distinct ones (Equal-19)."""
    a, b = node.operand(0), node.operand(1)
    flat = op.Concat(op.Reshape(a, [-1]), op.Reshape(b, [-1]), axis=0)
    distinct = op.node("Unique", [flat], outputs=4)
    assert isinstance(distinct, Node)
    count = op.Reshape(op.Size(a), [-1])
    places = distinct.outputs[2]
    first = op.Slice(places, [0], count, [0])
    second = op.Slice(places, count, [np.iinfo(np.int64).max], [0])
    return [op.Equal(op.Reshape(first, op.Shape(a)), op.Reshape(second, op.Shape(b)))]
