"""Reading and writing entries by index: embedding, gather, index, scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir import DType, Size, Value
from ...ir.dims import product
from .lowering import Lowering, Row, Rows, axis_of, broadcast, dtype_of, end_of, rank_of, shape_of, typed

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


REDUCTIONS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min", "mean": "add"}


def scatter_reduce(
    op: Lowering, x: Value, dim: int, index: Value, src: Any, reduce: str, include_self: bool = True
) -> Value:
    """Entries of x combined with those of `src` at the places `index`; without `include_self` of those alone."""
    if reduce not in REDUCTIONS:
        op.decline(f"the reduction {reduce!r} is not one of ONNX's")
    dtype, shape = dtype_of(x), shape_of(x)
    start = x if include_self else scatter()(op, x, dim, index, neutral(reduce, dtype))
    made = scatter(REDUCTIONS[reduce])(op, typed(start, dtype, shape), dim, index, src)
    if reduce != "mean":
        return made
    ones = op.full(shape, 1, dtype)
    base = ones if include_self else typed(scatter()(op, ones, dim, index, 0), dtype, shape)
    count = typed(scatter("add")(op, base, dim, index, op.full(shape_of(index), 1, dtype)), dtype, shape)
    made = typed(made, dtype, shape)
    if dtype.is_float:
        return op.Div(made, count)
    return op.Div(op.Sub(made, op.Mod(made, count)), count)


def neutral(reduce: str, dtype: DType) -> float:
    """What changes nothing when it is combined with other numbers."""
    if reduce in ("amax", "amin"):
        return end_of(dtype, largest=reduce == "amin")
    return 1 if reduce in ("prod", "multiply") else 0


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
    if sorter is not None:
        op.decline("what is sorted by another tensor is not covered")
    if not isinstance(x, Value):
        x = op.number(x, dtype_of(boundaries))
    rows = boundaries if rank_of(boundaries) == 1 else op.unsqueeze(boundaries, [rank_of(x) - 1])
    wide = op.unsqueeze(x, [rank_of(x)])
    below = op.LessOrEqual(rows, wide) if right or side == "right" else op.Less(rows, wide)
    counted = op.cast(typed(below, DType.BOOL, [*shape_of(x), shape_of(boundaries)[-1]]), op.out.dtype)
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
    """One value for all entries where the mask, which covers the leading axes, is true, or one for each of them."""
    mask = indices[0] if indices else None
    if mask is None or len(indices) != 1:
        op.decline("of writes through a mask only those through one that covers the leading axes are covered")
    mask = op.cast(mask, DType.BOOL)
    shape, rank = shape_of(x), rank_of(mask)
    if product(shape_of(values)) == 1 and not accumulate:
        wide = op.unsqueeze(mask, range(rank, len(shape))) if rank < len(shape) else mask
        return op.Where(wide, op.reshape(values, []), x)
    chosen = places(op, mask)
    count = op.Slice(op.Shape(chosen), [0], [1], [0])
    target = count if rank == len(shape) else op.Concat(count, op.dims(shape[rank:]), axis=0)
    return op.ScatterND(x, chosen, op.Expand(values, target), reduction="add" if accumulate else "none")


def inverse(perm: Sequence[int]) -> list[int]:
    return [list(perm).index(i) for i in range(len(perm))]


def index_add(op: Lowering, x: Value, dim: int, index: Value, source: Value, alpha: Any = 1) -> Value:
    if alpha != 1:
        source = typed(op.Mul(source, op.number(alpha, dtype_of(x))), dtype_of(x), shape_of(source))
    return along_axis(op, x, dim, index, source, "add")


def index_copy(op: Lowering, x: Value, dim: int, index: Value, source: Value) -> Value:
    return along_axis(op, x, dim, index, source, "none")


def index_reduce(
    op: Lowering, x: Value, dim: int, index: Value, source: Value, reduce: str, include_self: bool = True
) -> Value:
    return scatter_reduce(op, x, dim, slices(op, index, source, axis_of(x, dim)), source, reduce, include_self)


def index_fill(op: Lowering, x: Value, dim: int, index: Value, value: Any) -> Value:
    """One number in whole slices of x."""
    axis = axis_of(x, dim)
    shape = [shape_of(index)[0] if i == axis else d for i, d in enumerate(shape_of(x))]
    return index_copy(op, x, dim, index, op.expand(op.tensor(value, dtype_of(x)), shape))


def along_axis(op: Lowering, x: Value, dim: int, index: Value, source: Value, reduction: str) -> Value:
    """Writes whole slices of `source` to the places `index` along one axis."""
    axis = axis_of(x, dim)
    return op.ScatterElements(x, slices(op, index, source, axis), source, axis=axis, reduction=reduction)


def slices(op: Lowering, index: Value, source: Value, axis: int) -> Value:
    """The places along an axis, for each entry of `source`."""
    shape = shape_of(source)
    wide = op.reshape(as_index(op, index), [shape[axis] if i == axis else 1 for i in range(len(shape))])
    return op.expand(wide, shape)


def put(op: Lowering, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    """x with the entries at places of the flattened tensor replaced by `source`, or with that added."""
    count = product(shape_of(index))
    flat = [op.reshape(v, [n]) for v, n in ((x, product(shape_of(x))), (as_index(op, index), count), (source, count))]
    made = op.ScatterElements(*flat, axis=0, reduction="add" if accumulate else "none")
    return op.reshape(typed(made, dtype_of(x), [product(shape_of(x))]), shape_of(x))


SUM, MEAN, MAX = 0, 1, 2
"""How torch numbers what embedding_bag makes of a bag's rows."""


def embedding_bag(
    op: Lowering, weight: Value, indices: Value, offsets: Value, scale_grad_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, per_sample_weights: Value | None = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> list[Value | None]:  # fmt: skip
    """Rows of a table, chosen by the vector `indices`, that are summed, averaged or compared by bag; `offsets` are
    where bags start. A bag without rows is 0."""
    dtype, width, (count,) = dtype_of(weight), shape_of(weight)[1], shape_of(indices)
    bags = op.out_shape[0]
    starts = op.Slice(offsets, [0], [-1], [0]) if include_last_offset else offsets
    starts = typed(starts, dtype_of(offsets), [bags])
    place = op.cast(op.unsqueeze(op.places(count), [1]), dtype_of(offsets))
    reached = op.cast(typed(op.LessOrEqual(starts, place), DType.BOOL, [count, bags]), DType.I64)
    bag = op.Sub(op.ReduceSum(reached, [1]), op.scalar(1, DType.I64))
    rows = typed(op.Gather(weight, as_index(op, indices), axis=0), dtype, [count, width])
    kept = op.full([count], 1, dtype)
    if padding_idx is not None and padding_idx >= 0:
        other = op.Not(op.Equal(indices, op.scalar(padding_idx, dtype_of(indices))))
        kept = op.cast(typed(other, DType.BOOL, [count]), dtype)
    factor = kept if per_sample_weights is None else typed(op.Mul(kept, per_sample_weights), dtype, [count])
    columns = [op.unsqueeze(v, [1]) for v in (kept, factor)]
    bag = typed(bag, DType.I64, [count, 1])
    sizes = op.ScatterND(op.full([bags, 1], 0, dtype), bag, columns[0], reduction="add")
    if mode == MAX:
        low = op.full([bags, width], -np.inf, dtype)
        chosen = op.Where(op.Equal(columns[0], op.scalar(0, dtype)), op.scalar(-np.inf, dtype), rows)
        best = op.ScatterND(low, bag, typed(chosen, dtype, [count, width]), reduction="max")
        made = op.Where(op.Equal(sizes, op.scalar(0, dtype)), op.scalar(0, dtype), best)
        return [made, None, None, None]
    weighted = typed(op.Mul(rows, columns[1]), dtype, [count, width])
    total = op.ScatterND(op.full([bags, width], 0, dtype), bag, weighted, reduction="add")
    made = total if mode == SUM else op.Div(total, op.Max(sizes, op.scalar(1, dtype)))
    return [made, None, None, None]


ROWS: Rows = {
    "aten.embedding.default": embedding, "aten.index_select.default": index_select, "aten.gather.default": gather,
    "aten.index.Tensor": index, "aten._unsafe_index.Tensor": index,
    "aten.index_put.default": index_put, "aten._unsafe_index_put.default": index_put,
    "aten.index_add.default": index_add, "aten.index_copy.default": index_copy,
    "aten.scatter.src": scatter(), "aten.scatter.value": scatter(), "aten.scatter_add.default": scatter("add"),
    "aten.scatter.reduce": scatter_reduce, "aten.scatter.value_reduce": scatter_reduce,
    "aten.scatter_reduce.two": scatter_reduce, "aten.index_reduce.default": index_reduce,
    "aten.index_fill.int_Scalar": index_fill, "aten.index_fill.int_Tensor": index_fill, "aten.put.default": put,
    "aten.embedding_bag.default": embedding_bag, "aten.embedding_bag.padding_idx": embedding_bag,
    "aten._embedding_bag.default": embedding_bag, "aten._embedding_bag_forward_only.default": embedding_bag,
    "aten.masked_scatter.default": masked_scatter, "aten.nonzero_numpy.default": nonzero_columns,
    "aten.searchsorted.Tensor": searchsorted, "aten.bucketize.Tensor": bucketize,
    "aten.searchsorted.Scalar": searchsorted,
    "aten.nonzero.default": nonzero, "aten.argwhere.default": nonzero, "aten.masked_select.default": masked_select,
}  # fmt: skip
