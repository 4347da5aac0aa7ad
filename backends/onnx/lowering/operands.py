"""Helpers that decompositions share: typed numbers, known types and sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir import Builder, DType, TensorType, Value, constant
from ....ir.dims import Size
from ....ir.graph import ENTRY
from .form import Inexpressible


def dtype_of(value: Value) -> DType:
    """The element type of a value. Raises Inexpressible where it is not known."""
    if not isinstance(value.type, TensorType):
        raise Inexpressible(f"the element type of its operand %{value.name} is not known")
    return value.type.dtype


def number(value: float, like: Value | DType) -> Value:
    """A scalar constant of the element type of `like`."""
    dtype = like if isinstance(like, DType) else dtype_of(like)
    return constant(np.asarray(value, dtype.numpy))


def shape_of(value: Value) -> tuple[Size, ...]:
    """The shape of a value. Raises Inexpressible where its rank is not known."""
    if value.shape is None:
        raise Inexpressible(f"the rank of its operand %{value.name} is not known")
    return value.shape


def known(size: Size, what: str) -> int:
    """A size that must be a number. Raises Inexpressible where it is not."""
    if not isinstance(size, int):
        raise Inexpressible(f"{what} is not known")
    return size


def cast(op: Builder, value: Value, source: DType, target: DType) -> Value:
    """`value`, which has the element type `source`, as `target`."""
    return value if source is target else op.Cast(value, to=target.code)


def scalar(number: int) -> Value:
    """An int64 scalar constant."""
    return constant(np.array(number, np.int64))


def vector(op: Builder, *parts: Value | int) -> Value:
    """An int64 vector of scalars and vectors, one after the other."""
    return op.Concat(*[op.Reshape(scalar(p) if isinstance(p, int) else p, [-1]) for p in parts], axis=0)


def size_of(op: Builder, value: Value, axis: int) -> Value:
    """The size of one axis as an int64 scalar, a constant where it is known."""
    shape = value.shape
    if shape is not None and isinstance(shape[axis], int):
        return scalar(shape[axis])
    return op.Gather(op.Shape(value), scalar(axis), axis=0)


def sizes_of(op: Builder, value: Value) -> Value:
    """The shape as an int64 vector, a constant where it is known."""
    shape = value.type.static_shape if isinstance(value.type, TensorType) else None
    return op.Shape(value) if shape is None else constant(np.array(shape, np.int64))


def rank_of(op: Builder, value: Value) -> Value:
    """The rank as an int64 scalar, a constant where it is known."""
    return op.Size(op.Shape(value)) if value.rank is None else scalar(value.rank)


def indices(op: Builder, count: Value | int) -> Value:
    """0, 1, ... below `count` as an int64 vector."""
    return op.Range(scalar(0), scalar(count) if isinstance(count, int) else count, scalar(1))


def wide(op: Builder, value: Value) -> Value:
    """Integers as int64."""
    return cast(op, value, dtype_of(value), DType.I64)


def normal(op: Builder, axes: Value, rank: Value) -> Value:
    """Axes as int64, counted from the front."""
    return op.Mod(wide(op, axes), rank)


def around(op: Builder, x: Value, axis: Value, build: Callable[[Value], Value]) -> Value:
    """What `build` makes of `x` as [before, size, behind] around a computed axis, in the axes of `x` again."""
    shape, place = op.Shape(x), op.Reshape(normal(op, axis, rank_of(op, x)), [-1])
    size, behind = op.Gather(shape, place, axis=0), op.Add(place, constant(np.ones(1, np.int64)))
    before, after = (
        op.ReduceProd(vector(op, 1, part), [0])
        for part in (op.Slice(shape, [0], place, [0]), op.Slice(shape, behind, [np.iinfo(np.int64).max], [0]))
    )
    return op.Reshape(build(op.Reshape(x, vector(op, before, size, after), allowzero=1)), shape, allowzero=1)


def drop_unused(values: Sequence[Value | None]) -> None:
    """Erases the nodes that made something that nobody uses any more."""
    pending = list(values)
    while pending:
        value = pending.pop()
        node = value.node if value is not None else None
        if node is None or node.graph is None or node.op == ENTRY:
            continue
        if not any(v.users for v in node.outputs):
            pending += node.inputs
            node.erase()
