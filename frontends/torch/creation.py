"""Operators that make tensors from numbers and sizes. Random numbers are refused: they have no meaning that a check
could compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir import DType, Size, Value, constant
from .lowering import SMALL, Lowering, Row, Rows, rank_of, shape_of, typed


def filled(number: Any) -> Row:
    """A tensor of the result's shape filled with one number."""

    def row(op: Lowering, *_: object, **__: object) -> Value:
        return op.full(op.out_shape, number, op.out.dtype)

    return row


def full(op: Lowering, _: object, fill_value: Any, **__: object) -> Value:
    """The number may be symbolic, as in full([2], x.shape[0])."""
    return _fill(op, fill_value)


def new_full(op: Lowering, _: object, size: object, fill_value: Any, **__: object) -> Value:
    return full(op, size, fill_value)


def fill(op: Lowering, _: object, value: Any) -> Value:
    return _fill(op, value)


def _fill(op: Lowering, number: Any) -> Value:
    if isinstance(number, (bool, int, float)):
        return op.full(op.out_shape, number, op.out.dtype)
    return op.expand(op.tensor(number, op.out.dtype), op.out_shape)


def scalar_tensor(op: Lowering, s: Any) -> Value:
    return op.number(s, op.out.dtype)


def arange(op: Lowering, start: Any, end: Any = None, step: Any = 1) -> Value:
    """start, start + step, ... below `end`; with one argument from 0 up to it."""
    if end is None:
        start, end = 0, start
    dtype = op.out.dtype
    if all(isinstance(n, (int, float)) for n in (start, end, step)) and (count := op.ints(op.out_shape)[0]) <= SMALL:
        return constant((start + np.arange(count) * step).astype(dtype.numpy))
    if not dtype.is_integer and not any(isinstance(n, float) for n in (start, end, step)):
        whole = typed(op.Range(*[op.number(n, DType.I64) for n in (start, end, step)]), DType.I64, op.out_shape)
        return op.cast(whole, dtype)
    return op.Range(*[op.number(n, dtype) for n in (start, end, step)])


def linspace(op: Lowering, start: Any, end: Any, steps: int) -> Value:
    if not all(isinstance(n, (int, float)) for n in (start, end)):
        op.decline("its ends are not fixed numbers")
    return constant(np.linspace(start, end, op.ints(steps)[0]).astype(op.out.dtype.numpy))


def eye(op: Lowering, n: Size, m: Size | None = None) -> Value:
    rows, columns = op.ints([n, n if m is None else m])
    return constant(np.eye(rows, columns).astype(op.out.dtype.numpy))


def meshgrid(op: Lowering, tensors: Sequence[Value], indexing: str = "ij") -> list[Value]:
    """Each vector along its own axis of a common grid; "xy" swaps the first two axes."""
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    out: list[Value] = []
    for axis, x in zip(order, tensors, strict=True):
        size = shape_of(x)[0] if rank_of(x) else 1
        out.append(op.expand(op.reshape(x, [size if a == axis else 1 for a in range(len(tensors))]), op.out_shape))
    return out


def one_hot(op: Lowering, x: Value, num_classes: int = -1) -> Value:
    """1 at the index, else 0, along a new last axis."""
    if not isinstance(num_classes, int) or num_classes < 0:
        op.decline("the number of classes depends on the data")
    classes = constant(np.arange(num_classes))
    return op.Cast(op.Equal(op.unsqueeze(x, [rank_of(x)]), classes), to=op.out.dtype.code)


ROWS: Rows = {
    **dict.fromkeys(
        [
            "aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.empty.memory_format",
            "aten.empty_like.default", "aten.new_empty.default", "aten.zero.default", "aten.empty_permuted.default",
        ],
        filled(0),
    ),
    **dict.fromkeys(["aten.ones.default", "aten.ones_like.default", "aten.new_ones.default"], filled(1)),
    "aten.full.default": full, "aten.full_like.default": full, "aten.new_full.default": new_full,
    "aten.fill.Scalar": fill, "aten.fill.Tensor": fill, "aten.scalar_tensor.default": scalar_tensor,
    "aten.arange.default": arange, "aten.arange.start": arange, "aten.arange.start_step": arange,
    "aten.linspace.default": linspace, "aten.eye.default": eye, "aten.eye.m": eye,
    "aten.meshgrid.default": meshgrid, "aten.meshgrid.indexing": meshgrid, "aten.one_hot.default": one_hot,
}  # fmt: skip
