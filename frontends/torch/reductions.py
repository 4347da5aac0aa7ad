"""Sums, means, extremes, norms, variances and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir import DType, Size, Value, constant
from ...ir.dims import product
from .lowering import MOST, Lowering, Row, Rows, axis_of, broadcast, dtype_of, rank_of, shape_of, typed

Axes = Sequence[int] | int | None


def axes_of(x: Value, dim: Axes) -> list[int]:
    """The axes that are reduced: all of them without `dim`."""
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        return list(range(rank_of(x)))
    return sorted(axis_of(x, d) for d in ([dim] if isinstance(dim, int) else dim))


def reduced(op: Lowering, name: str, x: Value, dim: Axes, keepdim: bool) -> Value:
    """The ONNX reduction `name` over the axes `dim`; a scalar is its own reduction where that holds."""
    axes, shape = axes_of(x, dim), shape_of(x)
    kept = (
        [1 if i in axes else d for i, d in enumerate(shape)]
        if keepdim
        else [d for i, d in enumerate(shape) if i not in axes]
    )
    if not axes:
        return op.Abs(x) if name in ("ReduceL1", "ReduceL2") else x
    return typed(op.call(name, x, axes, keepdims=int(keepdim)), dtype_of(x), kept)


def reduction(name: str) -> Row:
    """A reduction computed in the result's element type."""

    def row(op: Lowering, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
        return reduced(op, name, op.cast(x, op.out.dtype), dim, keepdim)

    return row


def truth(name: str) -> Row:
    """any and all: the largest and the smallest of numbers 0 and 1."""

    def row(op: Lowering, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
        number = op.cast(op.cast(x, DType.BOOL), DType.I32)
        return op.cast(reduced(op, name, number, dim, keepdim), op.out.dtype)

    return row


def extreme(reduce: str, arg: str) -> Row:
    """The largest or smallest entry along `dim` and its place."""

    def row(op: Lowering, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        return reduced(op, reduce, x, dim, keepdim), op.call(arg, x, axis=axis_of(x, dim), keepdims=int(keepdim))

    return row


def arg_extreme(name: str) -> Row:
    def row(op: Lowering, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is not None:
            return op.call(name, x, axis=axis_of(x, dim), keepdims=int(keepdim))
        flat = op.reshape(x, [product(shape_of(x))])
        return op.reshape(typed(op.call(name, flat, axis=0, keepdims=0), DType.I64, ()), op.out_shape)

    return row


def aminmax(op: Lowering, x: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, Value]:
    return reduced(op, "ReduceMin", x, dim, keepdim), reduced(op, "ReduceMax", x, dim, keepdim)


def vector_norm(op: Lowering, x: Value, ord: Any = 2, dim: Axes = None, keepdim: bool = False) -> Value:
    """The norm of order `ord` of the entries along the axes."""
    x = op.cast(x, op.out.dtype)
    order = 2 if ord is None else ord
    if order in (1, 2):
        return reduced(op, f"ReduceL{order:g}", x, dim, keepdim)
    size = typed(op.Abs(x), dtype_of(x), shape_of(x))
    if order == float("inf"):
        return reduced(op, "ReduceMax", size, dim, keepdim)
    if order == float("-inf"):
        return reduced(op, "ReduceMin", size, dim, keepdim)
    if order == 0:
        return reduced(op, "ReduceSum", op.cast(op.cast(x, DType.BOOL), dtype_of(x)), dim, keepdim)
    powers = typed(op.Pow(size, op.scalar(order, dtype_of(x))), dtype_of(x), shape_of(x))
    return op.Pow(reduced(op, "ReduceSum", powers, dim, keepdim), op.scalar(1 / order, dtype_of(x)))


def variance_and_mean(op: Lowering, x: Value, dim: Axes, correction: Any, keepdim: bool) -> tuple[Value, Value]:
    """The mean of squared distances from the mean, with `n - correction` in place of n."""
    axes, dtype = axes_of(x, dim), dtype_of(x)
    count = product(shape_of(x)[a] for a in axes)
    mean = reduced(op, "ReduceMean", x, axes, True)
    distance = op.Sub(x, mean)
    squares = typed(op.Mul(distance, distance), dtype, shape_of(x))
    if not correction:
        variance = reduced(op, "ReduceMean", squares, axes, keepdim)
    else:
        variance = op.Div(reduced(op, "ReduceSum", squares, axes, keepdim), divisor(op, count, correction, dtype))
    return variance, (mean if keepdim else op.squeeze(mean, axes))


def divisor(op: Lowering, count: Size, correction: float, dtype: DType) -> Value:
    """max(0, count - correction)."""
    if isinstance(count, int):
        return op.scalar(max(0.0, count - correction), dtype)
    return op.Max(op.Sub(op.number(count, dtype), op.scalar(correction, dtype)), op.scalar(0, dtype))


def spread(*, root: bool = False, with_mean: bool = False) -> Row:
    """Variance or standard deviation with a `correction` (1 by default), alone or with the mean."""

    def row(op: Lowering, x: Value, dim: Axes = None, correction: Any = None, keepdim: bool = False) -> Any:
        variance, mean = variance_and_mean(op, x, dim, 1 if correction is None else correction, keepdim)
        made = op.Sqrt(variance) if root else variance
        return (made, mean) if with_mean else made

    return row


def spread_unbiased(*, root: bool = False, with_mean: bool = False) -> Row:
    """The older overloads, where `unbiased` stands for a correction of 1."""
    row = spread(root=root, with_mean=with_mean)

    def of_dim(op: Lowering, x: Value, dim: Axes, unbiased: bool = True, keepdim: bool = False) -> Any:
        return row(op, x, dim, int(unbiased), keepdim)

    return of_dim


def spread_of_all(*, root: bool = False, with_mean: bool = False) -> Row:
    row = spread(root=root, with_mean=with_mean)
    return lambda op, x, unbiased=True: row(op, x, None, int(unbiased))


def cosine_similarity(op: Lowering, a: Value, b: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """a @ b along `dim` over the product of their norms, each at least `eps`."""
    dtype = op.out.dtype
    x, y = (op.expand(op.cast(v, dtype), broadcast([shape_of(a), shape_of(b)])) for v in (a, b))
    small = op.scalar(eps, dtype)
    lengths = [op.Max(reduced(op, "ReduceL2", v, dim, False), small) for v in (x, y)]
    products = typed(op.Mul(x, y), dtype, shape_of(x))
    return op.Div(reduced(op, "ReduceSum", products, dim, False), op.Mul(*lengths))


def distances(op: Lowering, a: Value, b: Value, p: float = 2.0, compute_mode: object = None) -> Value:
    """The norms [..., n, m] of the differences between n and m rows."""
    rows, columns = op.unsqueeze(a, [rank_of(a) - 1]), op.unsqueeze(b, [rank_of(b) - 2])
    between = typed(op.Sub(rows, columns), op.out.dtype, [*op.out_shape, shape_of(a)[-1]])
    return vector_norm(op, between, p, -1)


def distances_within(op: Lowering, x: Value, p: float = 2.0) -> Value:
    """The norms of the differences between every two rows."""
    (count,) = op.ints(shape_of(x)[:1])
    first, second = (op.Gather(x, constant(places), axis=0) for places in np.triu_indices(count, 1))
    pairs = [typed(v, dtype_of(x), [*op.out_shape, shape_of(x)[1]]) for v in (first, second)]
    return vector_norm(op, typed(op.Sub(*pairs), dtype_of(x), shape_of(pairs[0])), p, -1)


def diff(
    op: Lowering, x: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None
) -> Value:
    """The differences between neighbours along `dim`, taken n times; between truth values whether they differ."""
    axis, dtype = axis_of(x, dim), dtype_of(x)
    parts = [p for p in (prepend, x, append) if p is not None]
    size: Size = 0
    for part in parts:
        size = size + shape_of(part)[axis]
    if len(parts) > 1:
        x = op.Concat(*parts, axis=axis)
    for _ in range(op.ints(n)[0]):
        size = size - 1
        kept = [size if i == axis else d for i, d in enumerate(op.out_shape)]
        after, before = op.Slice(x, [1], [MOST], [axis]), op.Slice(x, [0], [-1], [axis])
        pair = typed(after, dtype, kept), typed(before, dtype, kept)
        x = typed(op.Xor(*pair) if dtype is DType.BOOL else op.Sub(*pair), dtype, kept)
    return x


def histc(op: Lowering, x: Value, bins: int = 100, min: float = 0, max: float = 0) -> Value:
    """How many elements lie in each of `bins` equal parts of [min, max]; the last part includes its end."""
    if min == max:
        op.decline("its range depends on the data")
    dtype = dtype_of(x)
    count, flat = product(shape_of(x)), dtype if dtype.is_float else DType.F32
    values = op.cast(op.reshape(x, [count]), flat)
    low, high = op.scalar(min, flat), op.scalar(max, flat)
    scaled = op.Mul(typed(op.Sub(values, low), flat, [count]), op.scalar(bins / (max - min), flat))
    place = op.Min(typed(op.Floor(typed(scaled, flat, [count])), flat, [count]), op.scalar(bins - 1, flat))
    inside = op.And(op.GreaterOrEqual(values, low), op.LessOrEqual(values, high))
    columns = [op.unsqueeze(typed(v, kind, [count]), [1]) for v, kind in ((place, flat), (inside, DType.BOOL))]
    chosen = op.And(op.Equal(columns[0], constant(np.arange(bins).astype(flat.numpy))), columns[1])
    return op.ReduceSum(op.cast(typed(chosen, DType.BOOL, [count, bins]), dtype), [0], keepdims=0)


ROWS: Rows = {
    "aten.sum.default": reduction("ReduceSum"), "aten.sum.dim_IntList": reduction("ReduceSum"),
    "aten.mean.default": reduction("ReduceMean"), "aten.mean.dim": reduction("ReduceMean"),
    "aten.prod.default": reduction("ReduceProd"), "aten.prod.dim_int": reduction("ReduceProd"),
    "aten.amax.default": reduction("ReduceMax"), "aten.amin.default": reduction("ReduceMin"),
    "aten.max.default": reduction("ReduceMax"), "aten.min.default": reduction("ReduceMin"),
    "aten.logsumexp.default": reduction("ReduceLogSumExp"),
    "aten.any.default": truth("ReduceMax"), "aten.any.dim": truth("ReduceMax"), "aten.any.dims": truth("ReduceMax"),
    "aten.all.default": truth("ReduceMin"), "aten.all.dim": truth("ReduceMin"), "aten.all.dims": truth("ReduceMin"),
    "aten.max.dim": extreme("ReduceMax", "ArgMax"), "aten.min.dim": extreme("ReduceMin", "ArgMin"),
    "aten.argmax.default": arg_extreme("ArgMax"), "aten.argmin.default": arg_extreme("ArgMin"),
    "aten.aminmax.default": aminmax,
    "aten.linalg_vector_norm.default": vector_norm, "aten.norm.Scalar": vector_norm,
    "aten.norm.ScalarOpt_dim": vector_norm,
    "aten.var.correction": spread(), "aten.var.dim": spread_unbiased(), "aten.var.default": spread_of_all(),
    "aten.std.correction": spread(root=True), "aten.std.dim": spread_unbiased(root=True),
    "aten.std.default": spread_of_all(root=True),
    "aten.var_mean.correction": spread(with_mean=True), "aten.var_mean.dim": spread_unbiased(with_mean=True),
    "aten.var_mean.default": spread_of_all(with_mean=True),
    "aten.std_mean.correction": spread(root=True, with_mean=True),
    "aten.std_mean.dim": spread_unbiased(root=True, with_mean=True),
    "aten.cosine_similarity.default": cosine_similarity,
    "aten.cdist.default": distances, "aten._cdist_forward.default": distances, "aten.pdist.default": distances_within,
    "aten._pdist_forward.default": distances_within,
    "aten.diff.default": diff, "aten.histc.default": histc,
}  # fmt: skip
