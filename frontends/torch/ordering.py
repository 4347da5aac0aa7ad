"""What depends on the order of entries: sorting, order statistics, distinct values, and running sums and extremes."""

from __future__ import annotations

import numpy as np

from ...ir import DType, Size, Value, constant
from ...ir.dims import product
from .lowering import MOST, Lowering, Row, Rows, axis_of, dtype_of, end_of, rank_of, shape_of, typed
from .reductions import reduced

# Sorting


def topk(
    op: Lowering, x: Value, k: Size, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, Value]:
    """TopK has no form for truth values, which are ordered as the numbers 0 and 1."""
    wide, kind = (op.cast(x, DType.I32), DType.I32) if dtype_of(x) is DType.BOOL else (x, dtype_of(x))
    axis = axis_of(x, dim)
    shape = [k if i == axis else d for i, d in enumerate(shape_of(x))]
    options = {"largest": int(largest), "sorted": int(sorted), "outputs": 2}
    if not rank_of(x):
        return x, op.scalar(0, DType.I64)
    values, places = op.TopK(wide, op.dims([k]), axis=axis, **options)
    return op.cast(typed(values, kind, shape), dtype_of(x)), typed(places, DType.I64, shape)


def sort(op: Lowering, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, Value]:
    """All entries along `dim` in order; among equal ones TopK takes the first, as a stable sort does."""
    count = shape_of(x)[axis_of(x, dim)] if rank_of(x) else 1
    return topk(op, x, count, dim, largest=descending)


def sort_stable(
    op: Lowering, x: Value, stable: object = None, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    return sort(op, x, dim, descending)


def argsort(op: Lowering, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return sort(op, x, dim, descending)[1]


def argsort_stable(op: Lowering, x: Value, stable: object = None, dim: int = -1, descending: bool = False) -> Value:
    return argsort(op, x, dim, descending)


# Order statistics


def kthvalue(op: Lowering, x: Value, k: Size, dim: int = -1, keepdim: bool = False) -> tuple[Value, Value]:
    """The k-th smallest entry along `dim`, and its place: the last of the k smallest."""
    if not rank_of(x):
        return x, op.scalar(0, DType.I64)
    axis = axis_of(x, dim)
    return entry(op, topk(op, x, k, dim, largest=False), op.Sub(op.dims([k]), op.dims([1])), axis, keepdim)


def entry(op: Lowering, pair: tuple[Value, Value], place: Value, axis: int, keepdim: bool) -> tuple[Value, Value]:
    """Values and their places at the `place` [1] along an axis."""
    shape = [1 if i == axis else d for i, d in enumerate(shape_of(pair[0]))]
    place = typed(place, DType.I64, [1])
    made = [typed(op.Gather(v, place, axis=axis), dtype_of(v), shape) for v in pair]
    values, places = made if keepdim else [op.squeeze(v, [axis]) for v in made]
    return values, places


def median(op: Lowering, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The lower of the two middle entries; NaN and its first place where there is one."""
    if not rank_of(x):
        return x, op.scalar(0, DType.I64)
    axis = axis_of(x, dim)
    values, places = kthvalue(op, x, (shape_of(x)[axis] + 1) // 2, dim, keepdim)
    if not dtype_of(x).is_float:
        return values, places
    nan = op.cast(typed(op.IsNaN(x), DType.BOOL, shape_of(x)), DType.I32)
    any_nan = op.cast(reduced(op, "ReduceMax", nan, axis, keepdim), DType.BOOL)
    first = op.ArgMax(nan, axis=axis, keepdims=int(keepdim))
    return op.Where(any_nan, op.scalar(np.nan, dtype_of(x)), values), op.Where(any_nan, first, places)


def median_of_all(op: Lowering, x: Value) -> Value:
    return median(op, flat(op, x), 0)[0]


def nanmedian(op: Lowering, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The lower of the two middle entries among those that are numbers: NaN is put behind all others."""
    if not dtype_of(x).is_float:
        return median(op, x, dim, keepdim)
    if not rank_of(x):
        return x, op.scalar(0, DType.I64)
    axis, dtype, shape = axis_of(x, dim), dtype_of(x), shape_of(x)
    nan = typed(op.IsNaN(x), DType.BOOL, shape)
    last = typed(op.Where(nan, op.scalar(np.inf, dtype), x), dtype, shape)
    ordered = sort(op, last, axis)
    numbers = op.cast(typed(op.Not(nan), DType.BOOL, shape), DType.I64)
    kept = [1 if i == axis else d for i, d in enumerate(shape)]
    count = typed(op.ReduceSum(numbers, [axis]), DType.I64, kept)
    middle = op.Div(op.Max(op.Sub(count, op.scalar(1, DType.I64)), op.scalar(0, DType.I64)), op.scalar(2, DType.I64))
    values, places = (typed(op.GatherElements(v, middle, axis=axis), dtype_of(v), kept) for v in ordered)
    values = typed(op.Where(op.Equal(count, op.scalar(0, DType.I64)), op.scalar(np.nan, dtype), values), dtype, kept)
    return (values, places) if keepdim else (op.squeeze(values, [axis]), op.squeeze(places, [axis]))


def nanmedian_of_all(op: Lowering, x: Value) -> Value:
    return nanmedian(op, flat(op, x), 0)[0]


def mode(op: Lowering, x: Value, dim: int = -1, keepdim: bool = False) -> tuple[Value, Value]:
    """The entry that is there most often, the smallest of these, and the last place where it stands."""
    if not rank_of(x):
        return x, op.scalar(0, DType.I64)
    axis, shape, dtype = axis_of(x, dim), shape_of(x), dtype_of(x)
    values, places = sort(op, x, dim)
    pairs = [op.unsqueeze(values, [axis + 1]), op.unsqueeze(values, [axis])]
    square = [*shape[: axis + 1], shape[axis], *shape[axis + 1 :]]
    equal = op.cast(typed(op.Equal(*pairs), DType.BOOL, square), DType.I32)
    counts = typed(op.ReduceSum(equal, [axis + 1], keepdims=0), DType.I32, shape)
    kept = [1 if i == axis else d for i, d in enumerate(shape)]
    first = typed(op.ArgMax(counts, axis=axis), DType.I64, kept)
    times = op.cast(typed(op.ReduceMax(counts, [axis]), DType.I32, kept), DType.I64)
    last = op.Sub(op.Add(first, times), op.scalar(1, DType.I64))
    made = [typed(op.GatherElements(v, i, axis=axis), dtype_of(v), kept) for v, i in ((values, first), (places, last))]
    value, place = made if keepdim else [op.squeeze(v, [axis]) for v in made]
    return typed(value, dtype, value.shape), place


def flat(op: Lowering, x: Value) -> Value:
    return op.reshape(x, [product(shape_of(x))])


# Distinct values


def unique(
    op: Lowering, x: Value, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> tuple[Value | None, ...]:
    """The distinct elements in order, which of them each element is, and how often each is there."""
    values, _, inverse, counts = op.Unique(flat(op, x), outputs=4)
    inverse = op.reshape(typed(inverse, DType.I64, [product(shape_of(x))]), shape_of(x))
    return values, inverse if return_inverse else None, counts if return_counts else None


def unique_along(
    op: Lowering, x: Value, dim: int, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> tuple[Value | None, ...]:
    """The same for slices along an axis."""
    values, _, inverse, counts = op.Unique(x, axis=axis_of(x, dim), outputs=4)
    return values, inverse if return_inverse else None, counts if return_counts else None


def unique_consecutive(
    op: Lowering, x: Value, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> tuple[Value | None, ...]:
    """The elements that differ from the one before, which of them each element is, and how many are equal in a row."""
    if dim is not None and rank_of(x) > 1:
        op.decline("only single elements are compared with the one before")
    count, entries = product(shape_of(x)), flat(op, x)
    after, before = op.Slice(entries, [1], [MOST], [0]), op.Slice(entries, [0], [-1], [0])
    differs = op.Not(op.Equal(typed(after, dtype_of(x), [count - 1]), typed(before, dtype_of(x), [count - 1])))
    starts = typed(op.Concat(constant(np.ones(1, np.bool_)), differs, axis=0), DType.BOOL, [count])
    values = op.Compress(entries, starts, axis=0)
    ranks = op.Sub(op.CumSum(op.cast(starts, DType.I64), op.scalar(0, DType.I64)), op.scalar(1, DType.I64))
    inverse = op.reshape(typed(ranks, DType.I64, [count]), shape_of(x))
    places = op.Squeeze(op.NonZero(starts), [0])
    ends = op.Concat(op.Slice(places, [1], [MOST], [0]), op.dims([count]), axis=0)
    return values, inverse if return_inverse else None, op.Sub(ends, places) if return_counts else None


def bincount(op: Lowering, x: Value, weights: Value | None = None, minlength: Size = 0) -> Value:
    """How often each of the numbers 0, 1, ... is there, or the sum of its weights."""
    count, dtype = shape_of(x)[0], op.out.dtype
    whole = op.cast(x, DType.I64)
    size = op.Max(op.Add(op.ReduceMax(whole, [0]), op.dims([1])), op.dims([minlength]))
    zeros = op.ConstantOfShape(size, value=constant(np.zeros(1, dtype.numpy)).tensor)
    given = op.full([count], 1, dtype) if weights is None else op.cast(weights, dtype)
    return op.ScatterElements(typed(zeros, dtype, op.out_shape), whole, given, axis=0, reduction="add")


# Running sums and extremes


def cumsum(op: Lowering, x: Value, dim: int) -> Value:
    x = op.cast(x, op.out.dtype)
    return op.CumSum(x, op.scalar(axis_of(x, dim), DType.I64)) if rank_of(x) else x


def cumprod(op: Lowering, x: Value, dim: int) -> Value:
    x = op.cast(x, op.out.dtype)
    return op.CumProd(x, op.scalar(axis_of(x, dim), DType.I64)) if rank_of(x) else x


def so_far(op: Lowering, x: Value, axis: int, filler: float) -> tuple[Value, Value]:
    """x repeated along a new axis after `axis`, where the i-th entry has what stands after the i-th of x replaced by
    `filler`; and the places along the new axis."""
    shape = shape_of(x)
    size = shape[axis]
    places = op.places(size)
    behind = len(shape) - axis - 1
    columns = op.unsqueeze(places, [*range(1, behind + 1)]) if behind else places
    rows = op.unsqueeze(columns, [1])
    square = [*shape[: axis + 1], size, *shape[axis + 1 :]]
    seen = op.GreaterOrEqual(rows, columns)
    made = op.Where(seen, op.unsqueeze(x, [axis]), op.scalar(filler, dtype_of(x)))
    return typed(made, dtype_of(x), square), columns


def running(reduce: str, *, largest: bool) -> Row:
    """cummax and cummin: the extreme of the entries so far, and the last place where it stands."""

    def row(op: Lowering, x: Value, dim: int) -> tuple[Value, Value]:
        if not rank_of(x):
            return x, op.scalar(0, DType.I64)
        if dtype_of(x) is DType.BOOL:
            op.decline("truth values have no extremes in ONNX")
        axis, shape, dtype = axis_of(x, dim), shape_of(x), dtype_of(x)
        seen, places = so_far(op, x, axis, end_of(dtype, largest=not largest))
        values = typed(op.call(reduce, seen, [axis + 1], keepdims=0), dtype, shape)
        equal = op.Equal(seen, op.unsqueeze(values, [axis + 1]))
        before = so_far(op, op.expand(places, [d if i >= axis else 1 for i, d in enumerate(shape)]), axis, -1)[0]
        standing = op.Where(typed(equal, DType.BOOL, shape_of(seen)), before, op.scalar(-1, DType.I64))
        return values, op.ReduceMax(typed(standing, DType.I64, shape_of(seen)), [axis + 1], keepdims=0)

    return row


def logcumsumexp(op: Lowering, x: Value, dim: int) -> Value:
    """log of the running sum of exp(x), each sum relative to the largest entry so far."""
    x = op.cast(x, op.out.dtype)
    if not rank_of(x):
        return x
    axis = axis_of(x, dim)
    return op.ReduceLogSumExp(so_far(op, x, axis, -np.inf)[0], [axis + 1], keepdims=0)


ROWS: Rows = {
    "aten.topk.default": topk, "aten.sort.default": sort, "aten.sort.stable": sort_stable,
    "aten.argsort.default": argsort, "aten.argsort.stable": argsort_stable,
    "aten.kthvalue.default": kthvalue, "aten.median.dim": median, "aten.median.default": median_of_all,
    "aten.nanmedian.dim": nanmedian, "aten.nanmedian.default": nanmedian_of_all, "aten.mode.default": mode,
    "aten._unique2.default": unique, "aten.unique_dim.default": unique_along,
    "aten.unique_consecutive.default": unique_consecutive, "aten.bincount.default": bincount,
    "aten.cumsum.default": cumsum, "aten.cumprod.default": cumprod, "aten.logcumsumexp.default": logcumsumexp,
    "aten.cummax.default": running("ReduceMax", largest=True),
    "aten.cummin.default": running("ReduceMin", largest=False),
}  # fmt: skip
