"""Reading and writing entries by index: embedding, gather, index, scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...ir import DType, Size, Value
from ...ir.dims import product
from .lowering import Lowering, Row, Rows, axis_of, broadcast, dtype_of, rank_of, shape_of, typed

INDEX_TYPES = (DType.I64, DType.I32)


def as_index(op: Lowering, x: Value) -> Value:
    return x if dtype_of(x) in INDEX_TYPES else op.cast(x, DType.I64)


def embedding(op: Lowering, weight: Value, indices: Value, *_: object, **__: object) -> Value:
    return op.Gather(weight, as_index(op, indices), axis=0)


def index_select(op: Lowering, x: Value, dim: int, index: Value) -> Value:
    """Entries `index` along `dim`."""
    return op.Gather(x, as_index(op, index), axis=axis_of(x, dim))


def gather(op: Lowering, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    return op.GatherElements(x, as_index(op, index), axis=axis_of(x, dim))


def scatter(reduction: str = "none") -> Row:
    """x with entries replaced by, or combined with, those of `src` or one number."""

    def row(op: Lowering, x: Value, dim: int, index: Value, src: Any) -> Value:
        shape = shape_of(index)
        values = (
            op.expand(op.tensor(src, dtype_of(x)), shape) if not isinstance(src, Value) or rank_of(src) == 0 else src
        )
        if shape_of(values) != shape:
            values = op.Slice(values, [0] * len(shape), op.dims(shape), list(range(len(shape))))
        return op.ScatterElements(x, as_index(op, index), values, axis=axis_of(x, dim), reduction=reduction)

    return row


REDUCTIONS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}


def scatter_reduce(
    op: Lowering, x: Value, dim: int, index: Value, src: Any, reduce: str, include_self: bool = True
) -> Value:
    if reduce not in REDUCTIONS or not include_self:
        op.decline(f"the reduction {reduce!r} with include_self={include_self} is not one of ONNX's")
    return scatter(REDUCTIONS[reduce])(op, x, dim, index, src)


@dataclass(frozen=True)
class Advanced:
    """Indexing of several axes at once, as GatherND and ScatterND do it.

    `perm` puts the indexed axes first, `indices` [*broadcast, number of indexed axes] goes with that order, and `back`
    puts the result's axes where torch has them: in place of the indexed axes when these are neighbours, else in front.
    """

    perm: list[int]
    indices: Value
    broadcast: list[Size]
    back: list[int]


def advanced(op: Lowering, x: Value, indices: Sequence[Value | None]) -> Advanced:
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    given = [index for index in indices if index is not None]
    shape = broadcast([shape_of(i) for i in given])
    columns = [op.unsqueeze(op.expand(op.cast(i, DType.I64), shape), [len(shape)]) for i in given]
    stacked = columns[0] if len(columns) == 1 else op.Concat(*columns, axis=len(shape))
    rest = [a for a in range(rank_of(x)) if a not in axes]
    in_place = axes == list(range(axes[0], axes[-1] + 1))
    before = sum(a < axes[0] for a in rest) if in_place else 0
    count = len(shape)
    back = [*range(count, count + before), *range(count), *range(count + before, count + len(rest))]
    return Advanced([*axes, *rest], stacked, shape, back)


def permuted(op: Lowering, x: Value, perm: list[int]) -> Value:
    if perm == sorted(perm):
        return x
    return typed(op.Transpose(x, perm=perm), dtype_of(x), [shape_of(x)[p] for p in perm])


def index(op: Lowering, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[indices]: integer tensors, one truth value per entry, or nothing for an axis that is kept whole."""
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if any(dtype_of(i) in (DType.BOOL, DType.U8) for _, i in given):
        return masked(op, x, given)
    if len(given) == 1:
        axis, chosen = given[0]
        return op.Gather(x, as_index(op, chosen), axis=axis)
    how = advanced(op, x, indices)
    rest = [shape_of(x)[p] for p in how.perm[len(given) :]]
    made = typed(op.GatherND(permuted(op, x, how.perm), how.indices), dtype_of(x), [*how.broadcast, *rest])
    return permuted(op, made, how.back)


def masked(op: Lowering, x: Value, given: Sequence[tuple[int, Value]]) -> Value:
    """x[mask]: the entries where the mask, which covers the leading axes, is true."""
    if len(given) != 1 or given[0][0] != 0:
        op.decline("a mask together with other indices is not covered")
    return op.GatherND(x, places(op, given[0][1]))


def places(op: Lowering, mask: Value) -> Value:
    """The coordinates [count, rank] of the entries that are not 0."""
    return op.Transpose(op.NonZero(op.cast(mask, DType.BOOL)), perm=[1, 0])


def nonzero(op: Lowering, x: Value) -> Value:
    return places(op, x)


def masked_select(op: Lowering, x: Value, mask: Value) -> Value:
    shape = broadcast([shape_of(x), shape_of(mask)])
    flat = [op.reshape(op.expand(t, shape), [product(shape)]) for t in (x, op.cast(mask, DType.BOOL))]
    return op.Compress(*flat, axis=0)


def masked_scatter(op: Lowering, x: Value, mask: Value, source: Value) -> Value:
    """x with the entries where the mask is true replaced by those of `source`, one after the other."""
    shape, count = op.out_shape, product(op.out_shape)
    chosen = op.expand(op.cast(mask, DType.BOOL), shape)
    flat = op.cast(op.reshape(chosen, [count]), DType.I64)
    ranks = typed(op.Sub(op.CumSum(flat, op.scalar(0, DType.I64)), op.scalar(1, DType.I64)), DType.I64, [count])
    taken = op.Max(ranks, op.scalar(0, DType.I64))
    entries = op.Gather(op.reshape(op.cast(source, dtype_of(x)), [product(shape_of(source))]), taken, axis=0)
    return op.Where(chosen, op.reshape(typed(entries, dtype_of(x), [count]), shape), x)


def nonzero_columns(op: Lowering, x: Value) -> list[Value]:
    """The coordinates of the entries that are not 0, a vector for each axis."""
    rows = op.NonZero(op.cast(x, DType.BOOL))
    return [op.Gather(rows, op.scalar(axis, DType.I64), axis=0) for axis in range(rank_of(x))]


def searchsorted(
    op: Lowering, boundaries: Value, x: Value, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: Value | None = None,
) -> Value:  # fmt: skip
    """How many of the sorted boundaries are below each number, or not above it from the right."""
    if sorter is not None or rank_of(boundaries) != 1:
        op.decline("only one sorted vector is covered")
    wide = op.unsqueeze(x, [rank_of(x)])
    below = op.LessOrEqual(boundaries, wide) if right or side == "right" else op.Less(boundaries, wide)
    counted = op.cast(typed(below, DType.BOOL, [*shape_of(x), *shape_of(boundaries)]), op.out.dtype)
    return op.ReduceSum(counted, [rank_of(x)], keepdims=0)


def bucketize(op: Lowering, x: Value, boundaries: Value, out_int32: bool = False, right: bool = False) -> Value:
    return searchsorted(op, boundaries, x, out_int32, right)


def index_put(
    op: Lowering, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    """x with x[indices] replaced by `values`, or with them added."""
    given = [i for i in indices if i is not None]
    values = op.cast(values, dtype_of(x))
    if any(dtype_of(i) in (DType.BOOL, DType.U8) for i in given):
        return masked_put(op, x, indices, values, accumulate)
    how = advanced(op, x, indices)
    rest = [shape_of(x)[p] for p in how.perm[len(given) :]]
    target = [*how.broadcast, *rest]
    placed = op.expand(values, [target[b] for b in how.back])
    placed = permuted(op, placed, inverse(how.back))
    made = op.ScatterND(permuted(op, x, how.perm), how.indices, placed, reduction="add" if accumulate else "none")
    return permuted(op, typed(made, dtype_of(x), [shape_of(x)[p] for p in how.perm]), inverse(how.perm))


def masked_put(op: Lowering, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool) -> Value:
    """One value for all entries where the mask, which covers the leading axes, is true."""
    mask = indices[0] if indices else None
    if mask is None or len(indices) != 1 or accumulate or product(shape_of(values)) != 1:
        op.decline("of writes through a mask only that of one value is covered")
    wide = (
        op.unsqueeze(op.cast(mask, DType.BOOL), range(rank_of(mask), rank_of(x)))
        if rank_of(mask) < rank_of(x)
        else mask
    )
    return op.Where(wide, op.reshape(values, []), x)


def inverse(perm: Sequence[int]) -> list[int]:
    return [list(perm).index(i) for i in range(len(perm))]


def index_add(op: Lowering, x: Value, dim: int, index: Value, source: Value, alpha: Any = 1) -> Value:
    if alpha != 1:
        source = typed(op.Mul(source, op.number(alpha, dtype_of(x))), dtype_of(x), shape_of(source))
    return along_axis(op, x, dim, index, source, "add")


def index_copy(op: Lowering, x: Value, dim: int, index: Value, source: Value) -> Value:
    return along_axis(op, x, dim, index, source, "none")


def along_axis(op: Lowering, x: Value, dim: int, index: Value, source: Value, reduction: str) -> Value:
    """Writes whole slices of `source` to the places `index` along one axis."""
    axis = axis_of(x, dim)
    shape = shape_of(source)
    wide = op.reshape(as_index(op, index), [shape[axis] if i == axis else 1 for i in range(len(shape))])
    return op.ScatterElements(x, op.expand(wide, shape), source, axis=axis, reduction=reduction)


ROWS: Rows = {
    "aten.embedding.default": embedding, "aten.index_select.default": index_select, "aten.gather.default": gather,
    "aten.index.Tensor": index, "aten._unsafe_index.Tensor": index,
    "aten.index_put.default": index_put, "aten._unsafe_index_put.default": index_put,
    "aten.index_add.default": index_add, "aten.index_copy.default": index_copy,
    "aten.scatter.src": scatter(), "aten.scatter.value": scatter(), "aten.scatter_add.default": scatter("add"),
    "aten.scatter.reduce": scatter_reduce, "aten.scatter.value_reduce": scatter_reduce,
    "aten.scatter_reduce.two": scatter_reduce,
    "aten.masked_scatter.default": masked_scatter, "aten.nonzero_numpy.default": nonzero_columns,
    "aten.searchsorted.Tensor": searchsorted, "aten.bucketize.Tensor": bucketize,
    "aten.nonzero.default": nonzero, "aten.argwhere.default": nonzero, "aten.masked_select.default": masked_select,
}  # fmt: skip
