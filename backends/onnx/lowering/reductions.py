"""Reductions whose axes are computed, while opsets take axes as an attribute, and reductions over no axes.

ReduceSum takes computed axes from opset 13 on, and most reductions are a sum of something. Those that are not, and
sums before, are folded axis by axis: each axis in turn is the middle one of three, reduced where it is among the axes,
and merged into the last one with a middle axis of size 1 where it is not. The loop over the axes works for any rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir import Builder, DType, Node, TensorType, Value, constant
from .loops import loop
from .operands import cast, dtype_of, indices, normal, rank_of, scalar, sizes_of

SUMS: dict[str, tuple[Callable[[Builder, Value], Value], Callable[[Builder, Value], Value]]] = {
    "ReduceL1": (lambda op, x: op.Abs(x), lambda _, y: y),
    "ReduceL2": (lambda op, x: op.Mul(x, x), lambda op, y: op.Sqrt(y)),
    "ReduceLogSum": (lambda _, x: x, lambda op, y: op.Log(y)),
    "ReduceMean": (lambda _, x: x, lambda _, y: y),
    "ReduceSumSquare": (lambda op, x: op.Mul(x, x), lambda _, y: y),
}
"""Reductions that are sums: what is summed, and what is made of the sum (a mean is divided as well)."""

SINGLE: dict[str, Callable[[Builder, Value], Value]] = {
    "ReduceL1": lambda op, x: op.Abs(x),
    "ReduceL2": lambda op, x: op.Abs(x),
    "ReduceLogSum": lambda op, x: op.Log(x),
    "ReduceSumSquare": lambda op, x: op.Mul(x, x),
}
"""What a reduction over no axes does to single elements, where that is something."""


def is_special(node: Node) -> bool:
    return reduces_nothing(node) or has_computed_axes(node)


def reduces_nothing(node: Node) -> bool:
    axes = node.input(1)
    empty = axes is None or (axes.const is not None and axes.const.count == 0)
    return empty and bool(node.int("noop_with_empty_axes", 0))


def has_computed_axes(node: Node) -> bool:
    axes = node.input(1)
    return axes is not None and axes.const is None


def reduction(node: Node, op: Builder) -> Sequence[Value | None]:
    x = node.operand(0)
    if reduces_nothing(node):
        return [SINGLE.get(node.op, lambda op, x: op.Identity(x))(op, x)]
    if node.op not in SUMS:
        return [folded(node, op)]
    before, after = SUMS[node.op]
    own = dtype_of(x)
    wide = _precise(node.op, own)
    values = before(op, cast(op, x, own, wide))
    attrs = {"keepdims": node.int("keepdims"), "noop_with_empty_axes": node.int("noop_with_empty_axes", 0)}
    total = op.ReduceSum(values, node.operand(1), **attrs)
    if node.op == "ReduceMean":
        total = op.Div(total, op.Cast(op.Div(op.Size(x), op.Size(total)), to=wide.code))
    return [cast(op, after(op, total), wide, own)]


def _precise(reduction: str, own: DType) -> DType:
    """The type that sums are made in: 16-bit floats would overflow, and roots and logarithms are of floats."""
    if own in (DType.F16, DType.BF16):
        return DType.F32
    return DType.F64 if not own.is_float and reduction in ("ReduceL2", "ReduceLogSum") else own


def folded(node: Node, op: Builder) -> Value:
    """A reduction that may be done axis by axis (ReduceSum, ReduceProd, ReduceMax, ReduceMin, ReduceLogSumExp)."""
    x, axes = node.operand(0), node.operand(1)
    sizes, rank = sizes_of(op, x), rank_of(op, x)
    chosen = _chosen(node, op, axes, rank)
    one = constant(np.ones(1, np.int64))
    kept = op.Where(chosen, one, sizes)
    # In turn d, the kept sizes in front of it, its own where it is reduced, and the rest.
    axis = indices(op, rank)
    in_front = op.Less(op.Unsqueeze(axis, [0]), op.Unsqueeze(axis, [1]))
    behind = op.Less(op.Unsqueeze(axis, [1]), op.Unsqueeze(axis, [0]))
    front = _product(op, in_front, kept)
    back = op.Mul(_product(op, behind, sizes), op.Where(chosen, one, sizes))
    turns = op.Concat(*[op.Unsqueeze(v, [1]) for v in (front, op.Where(chosen, sizes, one), back)], axis=1)

    def turn(body: Builder, index: Value, carried: Sequence[Value], outer: Sequence[Value]) -> list[Value]:
        three = body.Reshape(carried[0], body.Gather(outer[0], index, axis=0), allowzero=1)
        reduced = body.node(node.op, [three, [1]], {"keepdims": 0})
        assert isinstance(reduced, Node)
        return [body.Reshape(reduced.output, [-1])]

    flat = op.Reshape(x, [-1])
    (y,) = loop(op, rank, [flat], [turns], turn)
    if not node.int("keepdims"):
        kept = op.Compress(sizes, op.Not(chosen), axis=0)
    return op.Reshape(y, kept, allowzero=1)


def _chosen(node: Node, op: Builder, axes: Value, rank: Value) -> Value:
    """Which axes are reduced, as booleans."""
    places = normal(op, axes, rank)
    none = op.Expand(scalar(0), op.Reshape(rank, [-1]))
    ones = op.Expand(scalar(1), op.Shape(places))
    chosen = op.ScatterElements(none, places, ones, axis=0)
    count = axes.shape[0] if axes.shape else None
    if not node.int("noop_with_empty_axes", 0) and not isinstance(count, int):
        chosen = op.Add(chosen, op.Cast(op.Equal(op.Size(axes), scalar(0)), to=DType.I64.code))
    elif count == 0 and not node.int("noop_with_empty_axes", 0):
        chosen = op.Add(chosen, scalar(1))
    return op.Cast(chosen, to=DType.BOOL.code)


def _product(op: Builder, mask: Value, sizes: Value) -> Value:
    """For each row of a mask the product of the sizes that it selects."""
    selected = op.Where(mask, op.Unsqueeze(sizes, [0]), scalar(1))
    return op.ReduceProd(selected, [1], keepdims=0)


def boolean(node: Node, op: Builder) -> Sequence[Value | None]:
    """The greatest or least of booleans, as bytes."""
    made = op.node(node.op, [op.Cast(node.operand(0), to=DType.U8.code), *node.inputs[1:]], node.attrs)
    assert isinstance(made, Node)
    return [op.Cast(made.output, to=DType.BOOL.code)]


def is_boolean(node: Node) -> bool:
    type_ = node.operand(0).type
    return isinstance(type_, TensorType) and type_.dtype is DType.BOOL
