"""Pooling, padding and resampling over the spatial axes of [N, C, ...]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir import Array, DType, Size, Value, constant, fresh
from ...ir.dims import exact_div, product
from .linear import of_ranks
from .lowering import Lowering, Row, Rows, dtype_of, rank_of, shape_of, typed


def batched(op: Lowering, x: Value, rank: int) -> Value:
    """x with an axis of samples, where it came without one."""
    return x if rank_of(x) == rank + 2 else op.unsqueeze(x, [0])


def unbatched(op: Lowering, made: Value, x: Value, rank: int) -> Value:
    return made if rank_of(x) == rank + 2 else op.squeeze(typed(made, op.out.dtype, [1, *op.out_shape]), [0])


def window(op: Lowering, rank: int, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> dict[str, Any]:
    """The attributes that all pools share; a missing stride is the kernel's size."""
    sizes = op.ints(kernel, rank)
    strides = op.ints(stride, rank) if stride else sizes
    return {"kernel_shape": sizes, "strides": strides, "pads": op.ints(padding, rank) * 2, "ceil_mode": int(ceil_mode)}


def max_pool(rank: int) -> Row:
    def row(
        op: Lowering,
        x: Value,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Value:
        attrs = window(op, rank, kernel_size, stride, padding, ceil_mode)
        return unbatched(op, op.MaxPool(batched(op, x, rank), **attrs, dilations=op.ints(dilation, rank)), x, rank)

    return row


def max_pool_with_indices(rank: int) -> Row:
    """With the place of each largest entry, which torch counts within a channel and ONNX within the tensor."""

    def row(
        op: Lowering, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> tuple[Value, Value | None]:  # fmt: skip
        if 1 not in op.used:
            return max_pool(rank)(op, x, kernel_size, stride, padding, dilation, ceil_mode), None
        attrs = window(op, rank, kernel_size, stride, padding, ceil_mode)
        wide = batched(op, x, rank)
        values, places = op.MaxPool(wide, **attrs, dilations=op.ints(dilation, rank), outputs=2)
        return unbatched(op, values, x, rank), unbatched(op, within_channel(op, wide, places, rank), x, rank)

    return row


def within_channel(op: Lowering, x: Value, places: Value, rank: int) -> Value:
    """Places in a tensor as places in the channel of each."""
    area = op.size(product(shape_of(x)[-rank:]))
    return op.Mod(typed(places, DType.I64, None), area)


def max_unpool(rank: int) -> Row:
    """Each entry at its place within the channel, and zeros elsewhere."""

    def row(op: Lowering, x: Value, indices: Value, output_size: Sequence[Size], *_: object) -> Value:
        lead, dtype = list(shape_of(x)[:-rank]), dtype_of(x)
        flat = [op.reshape(v, [*lead, product(shape_of(v)[-rank:])]) for v in (x, indices)]
        shape = [*lead, product(output_size)]
        zeros = op.full(shape, 0, dtype)
        made = op.ScatterElements(zeros, flat[1], flat[0], axis=len(lead))
        return op.reshape(typed(made, dtype, shape), op.out_shape)

    return row


def average_pool(rank: int) -> Row:
    def row(
        op: Lowering, x: Value, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Value:  # fmt: skip
        attrs = window(op, rank, kernel_size, stride, padding, ceil_mode)
        if divisor_override is not None and ceil_mode:
            op.decline("its windows that stick out are divided by a given number")
        counted = count_include_pad or divisor_override is not None
        made = op.AveragePool(batched(op, x, rank), **attrs, count_include_pad=int(counted))
        if divisor_override is not None:
            factor = math.prod(attrs["kernel_shape"]) / divisor_override
            made = op.Mul(typed(made, dtype_of(x), None), op.scalar(factor, dtype_of(x)))
        return unbatched(op, made, x, rank)

    return row


def adaptive(rank: int, pool: str) -> Row:
    """Pools to a given size: to one entry globally, else with the window that divides the input evenly, else by a
    matrix."""

    def row(op: Lowering, x: Value, output_size: Any) -> Value:
        wide = batched(op, x, rank)
        sizes, wanted = shape_of(wide)[-rank:], op.out_shape[-rank:]
        if all(size == 1 for size in wanted):
            return unbatched(op, op.call(f"Global{pool}", wide), x, rank)
        kernel = [exact_div(a, b) for a, b in zip(sizes, wanted, strict=True)]
        if all(isinstance(k, int) for k in kernel):
            window: Any = kernel
            return unbatched(op, op.call(pool, wide, kernel_shape=window, strides=window), x, rank)
        if pool == "MaxPool":
            made = uneven_extreme(op, wide, op.ints(sizes), op.ints(wanted))
            return unbatched(op, made, x, rank)
        return unbatched(op, uneven_average(op, wide, op.ints(sizes), op.ints(wanted)), x, rank)

    return row


def uneven_average(op: Lowering, x: Value, sizes: Sequence[int], wanted: Sequence[int]) -> Value:
    """Windows [floor(i * in / out), ceil((i + 1) * in / out)) of differing size: an average is a product with a
    constant matrix."""
    rows = [averages(a, b).astype(dtype_of(x).numpy) for a, b in zip(sizes, wanted, strict=True)]
    made = op.MatMul(x, rows[-1].T)
    if len(rows) > 1:
        made = op.MatMul(rows[-2], made)
    if len(rows) < 3:
        return made
    lead, (deep, high, wide) = shape_of(x)[:2], (sizes[0], *wanted[1:])
    flat = op.reshape(typed(made, dtype_of(x), [*lead, deep, high, wide]), [*lead, deep, high * wide])
    return op.reshape(typed(op.MatMul(rows[0], flat), dtype_of(x), [*lead, wanted[0], high * wide]), [*lead, *wanted])


def uneven_extreme(op: Lowering, x: Value, sizes: Sequence[int], wanted: Sequence[int]) -> Value:
    """The same windows for extremes, along one axis after the other: shorter windows see their last entry again."""
    for axis, (size, count) in enumerate(zip(sizes, wanted, strict=True), rank_of(x) - len(sizes)):
        spans = uneven_windows(size, count)
        width = max(end - start for start, end in spans)
        places = np.array([[min(start + i, end - 1) for i in range(width)] for start, end in spans])
        before, after = shape_of(x)[:axis], shape_of(x)[axis + 1 :]
        seen = typed(op.Gather(x, places, axis=axis), dtype_of(x), [*before, count, width, *after])
        x = typed(op.ReduceMax(seen, [axis + 1], keepdims=0), dtype_of(x), [*before, count, *after])
    return x


def uneven_windows(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def averages(size: int, count: int) -> Array:
    """The matrix [count, size] whose rows average over one window each."""
    out = np.zeros((count, size))
    for i, (start, end) in enumerate(uneven_windows(size, count)):
        out[i, start:end] = 1 / (end - start)
    return out


def adaptive_max(rank: int) -> Row:
    """The places are given where all windows have the same size."""
    row, with_places = adaptive(rank, "MaxPool"), max_pool_with_indices(rank)

    def pooled(op: Lowering, x: Value, output_size: Any) -> tuple[Value, Value | None]:
        kernel = [exact_div(a, b) for a, b in zip(shape_of(x)[-rank:], op.out_shape[-rank:], strict=True)]
        if 1 in op.used and all(isinstance(k, int) for k in kernel):
            return with_places(op, x, kernel)
        return row(op, x, output_size), None

    return pooled


PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(op: Lowering, x: Value, pad: Sequence[Size], mode: str = "constant", value: Any = None) -> Value:
    """torch names pads from the last axis on, begin and end of each; ONNX all begins, then all ends."""
    if all(p == 0 for p in pad):
        return x
    rank = rank_of(x)
    begins: list[Size] = [0] * rank
    ends: list[Size] = [0] * rank
    for i, (begin, end) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        begins[rank - 1 - i], ends[rank - 1 - i] = begin, end
    filler = [op.number(value, dtype_of(x))] if mode == "constant" and value not in (None, 0) else []
    return op.Pad(x, op.dims([*begins, *ends]), *filler, mode=PAD_MODES[mode])


def constant_pad(op: Lowering, x: Value, widths: Sequence[Size], value: Any = 0) -> Value:
    return pad(op, x, widths, "constant", value)


def edge_pad(mode: str) -> Row:
    return lambda op, x, widths: pad(op, x, widths, mode)


def resize(op: Lowering, x: Value, scales: Sequence[float] | None, attrs: dict[str, Any]) -> Value:
    """Resamples the spatial axes to the result's sizes, or by scales where the user gave these: they decide the
    coordinates."""
    if scales is not None and all(s is not None for s in scales):
        return op.Resize(x, None, np.asarray([1, 1, *scales], np.float32), **attrs)
    return op.Resize(x, None, None, op.dims(op.out_shape[2:]), axes=list(range(2, rank_of(x))), **attrs)


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
NEAREST_EXACT = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
SMOOTH = {"linear": {"mode": "linear"}, "cubic": {"mode": "cubic", "cubic_coeff_a": -0.75}}


def nearest(attrs: dict[str, Any]) -> Row:
    """`.vec` overloads, which have a list of scale factors."""
    return lambda op, x, output_size, scale_factors=None: resize(op, x, scale_factors, attrs)


def nearest_sized(attrs: dict[str, Any]) -> Row:
    return lambda op, x, output_size, *scales: resize(op, x, scales or None, attrs)


def smooth_attrs(kind: str, align_corners: bool) -> dict[str, Any]:
    return {**SMOOTH[kind], "coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}


def smooth(kind: str) -> Row:
    return lambda op, x, output_size, align_corners, scale_factors=None: resize(
        op, x, None if align_corners else scale_factors, smooth_attrs(kind, align_corners)
    )


def smooth_sized(kind: str) -> Row:
    return lambda op, x, output_size, align_corners, *scales: resize(
        op, x, None if align_corners else scales or None, smooth_attrs(kind, align_corners)
    )


def antialiased(kind: str) -> Row:
    """Filters of the width that shrinking asks for; torch's cubic filter has another coefficient here."""
    attrs = (
        {"antialias": 1, "exclude_outside": 1}
        if kind == "linear"
        else {"antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5}
    )
    return lambda op, x, output_size, align_corners, *scales: resize(
        op, x, scales[0] if len(scales) == 1 else None, {**smooth_attrs(kind, align_corners), **attrs}
    )


INTERPOLATION = ("linear", "nearest", "cubic")
BORDERS = ("zeros", "border", "reflection")


def grid_sample(
    op: Lowering, x: Value, grid: Value, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Value:
    return op.GridSample(
        x,
        grid,
        mode=INTERPOLATION[interpolation_mode],
        padding_mode=BORDERS[padding_mode],
        align_corners=int(align_corners),
    )


def patches(
    op: Lowering, x: Value, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    stride: Sequence[int],
) -> Value:  # fmt: skip
    """The windows of [N, C, H, W] as columns [N, C * window, places] (unfold): a convolution of each channel with one
    kernel for each place of the window, 1 there and 0 elsewhere."""
    if rank_of(x) != 4 or not dtype_of(x).is_float:
        op.decline("only windows of batches of pictures in floating point are covered")
    window, (channels, *_) = op.ints(kernel_size, 2), op.ints(shape_of(x)[1:2])
    count = window[0] * window[1]
    kernels = np.tile(np.eye(count).reshape(count, 1, *window), (channels, 1, 1, 1))
    attrs = {
        "kernel_shape": window, "strides": op.ints(stride, 2), "pads": op.ints(padding, 2) * 2,
        "dilations": op.ints(dilation, 2), "group": channels,
    }  # fmt: skip
    made = op.Conv(x, constant(kernels.astype(op.out.dtype.numpy)), **attrs)
    batch, rows, _ = op.out_shape
    return op.Reshape(typed(made, op.out.dtype, [batch, rows, fresh(), fresh()]), op.operand([0, 0, -1]))


def unfold(op: Lowering, x: Value, dimension: int, size: int, step: int) -> Value:
    """Windows of `size` entries along an axis, every `step` entries; the entries of a window are the last axis."""
    if not rank_of(x):
        op.decline("it has no axis")
    axis, shape = dimension % rank_of(x), shape_of(x)
    (count,) = op.ints(op.out_shape[axis : axis + 1])
    places = np.arange(count)[:, None] * step + np.arange(size)
    windows = [*shape[:axis], count, size, *shape[axis + 1 :]]
    made = typed(op.Gather(x, constant(places), axis=axis), dtype_of(x), windows)
    order = [a for a in range(len(windows)) if a != axis + 1]
    return made if axis == rank_of(x) - 1 else op.Transpose(made, perm=[*order, axis + 1])


def from_patches(
    op: Lowering, x: Value, output_size: Sequence[Size], kernel_size: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], stride: Sequence[int],
) -> Value:  # fmt: skip
    """The sum of windows at their places (fold)."""
    if rank_of(x) != 3:
        op.decline("only batches are covered")
    attrs = {"dilations": op.ints(dilation, 2), "pads": op.ints(padding, 2) * 2, "strides": op.ints(stride, 2)}
    return op.Col2Im(x, op.dims(output_size), op.dims(op.ints(kernel_size, 2)), **attrs)


ROWS: Rows = {
    "aten.unfold.default": unfold, "aten.im2col.default": patches, "aten.col2im.default": from_patches,
    **{f"aten.max_pool{r}d.default": max_pool(r) for r in (1, 2, 3)},
    **{f"aten.max_pool{r}d_with_indices.default": max_pool_with_indices(r) for r in (1, 2, 3)},
    **{f"aten.avg_pool{r}d.default": average_pool(r) for r in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{r}d.default": adaptive(r, "AveragePool") for r in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{r}d.default": adaptive(r, "AveragePool") for r in (2, 3)},
    **{f"aten.adaptive_max_pool{r}d.default": adaptive_max(r) for r in (1, 2, 3)},
    **{f"aten.max_unpool{r}d.default": max_unpool(r) for r in (2, 3)},
    "aten.pad.default": pad, "aten.constant_pad_nd.default": constant_pad,
    **of_ranks(edge_pad("reflect"), "aten.reflection_pad{}d.default"),
    **of_ranks(edge_pad("replicate"), "aten.replication_pad{}d.default"),
    **of_ranks(nearest(NEAREST), "aten.upsample_nearest{}d.vec"),
    **of_ranks(nearest_sized(NEAREST), "aten.upsample_nearest{}d.default"),
    **of_ranks(nearest(NEAREST_EXACT), "aten._upsample_nearest_exact{}d.vec"),
    **of_ranks(nearest_sized(NEAREST_EXACT), "aten._upsample_nearest_exact{}d.default"),
    "aten.upsample_linear1d.vec": smooth("linear"), "aten.upsample_linear1d.default": smooth_sized("linear"),
    "aten.upsample_bilinear2d.vec": smooth("linear"), "aten.upsample_bilinear2d.default": smooth_sized("linear"),
    "aten.upsample_trilinear3d.vec": smooth("linear"), "aten.upsample_trilinear3d.default": smooth_sized("linear"),
    "aten.upsample_bicubic2d.vec": smooth("cubic"), "aten.upsample_bicubic2d.default": smooth_sized("cubic"),
    "aten._upsample_bilinear2d_aa.default": antialiased("linear"),
    "aten._upsample_bilinear2d_aa.vec": antialiased("linear"),
    "aten._upsample_bicubic2d_aa.default": antialiased("cubic"),
    "aten._upsample_bicubic2d_aa.vec": antialiased("cubic"),
    "aten.grid_sampler.default": grid_sample, "aten.grid_sampler_2d.default": grid_sample,
    "aten.grid_sampler_3d.default": grid_sample,
}  # fmt: skip
