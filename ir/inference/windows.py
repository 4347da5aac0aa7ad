"""Operators that look at windows or regions of images: pooling, unpooling, regions of interest, resizing, sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dims import Dim, Size, floordiv
from ..graph import Node
from .contents import Contents
from .contraction import not_negative, window_attribute, windows
from .operands import (
    Answer,
    Mismatch,
    Rule,
    ceildiv,
    normalized_axes,
    shape_of,
    shape_of_rank,
    shape_or_none,
    vector_entries,
)


def pool(node: Node, contents: Contents) -> list[Answer]:
    """[N, C, *sizes] to [N, C, *windows] (AveragePool-22, LpPool-22, MaxPool-22 with indices of the same shape)."""
    n, c, *sizes = _image(node)
    count = len(sizes)
    kernel, strides, dilations = (
        window_attribute(node, name, count, 1) for name in ("kernel_shape", "strides", "dilations")
    )
    pads = window_attribute(node, "pads", 2 * count, 0)
    out = [
        pooled_size(node, size, (kernel[i], strides[i], dilations[i]), (pads[i], pads[i + count]))
        for i, size in enumerate(sizes)
    ]
    return [(n, c, *out), (n, c, *out)]


def _image(node: Node) -> tuple[Size, ...]:
    shape = shape_of(node, 0)
    if len(shape) < 2:
        raise Mismatch("an input with batch and channel axes", f"rank {len(shape)}")
    return shape


def pooled_size(node: Node, size: Size, window: tuple[int, int, int], pads: tuple[int, int]) -> Size | None:
    """The number of windows (kernel, stride, dilation) along one axis.

    None where rounding up a symbolic size might add a window that lies in the padding, which does not count.
    """
    kernel, stride, dilation = window
    auto, ceil = node.str("auto_pad", "NOTSET"), bool(node.int("ceil_mode", 0))
    if auto.startswith("SAME"):
        return ceildiv(size, max(1, stride))
    head, tail = (0, 0) if auto == "VALID" else pads
    down = not_negative(windows(size, kernel, stride, dilation, head + tail))
    if not ceil:
        return down
    up = windows(size, kernel, stride, dilation, head + tail + stride - 1)
    if up is down or up == down:
        return down
    if auto == "VALID":
        return None
    if isinstance(up, int) and isinstance(size, int):
        return up - 1 if (up - 1) * stride >= size + head else up
    return up if tail + stride <= dilation * (kernel - 1) + 1 else None


def global_pool(node: Node, contents: Contents) -> Answer:
    """Every spatial axis shrinks to 1 (GlobalAveragePool-22 and its kin)."""
    shape = _image(node)
    return (*shape[:2], *(1,) * (len(shape) - 2))


def max_unpool(node: Node, contents: Contents) -> Answer:
    """The sizes of the third operand, else those that the pooling had at least (MaxUnpool-22)."""
    if node.input(2) is not None:
        return vector_entries(node.operand(2), contents)
    n, c, *sizes = _image(node)
    count = len(sizes)
    kernel, strides = (window_attribute(node, name, count, 1) for name in ("kernel_shape", "strides"))
    pads = window_attribute(node, "pads", 2 * count, 0)
    grown = [(d - 1) * strides[i] + (kernel[i] - pads[i] - pads[i + count]) for i, d in enumerate(sizes)]
    return n, c, *grown


def max_roi_pool(node: Node, contents: Contents) -> Answer:
    """One pooled map per region (MaxRoiPool-22)."""
    x, rois = shape_of_rank(node, 0, 4), shape_of_rank(node, 1, 2)
    return rois[0], x[1], *window_attribute(node, "pooled_shape", 2, 1)


def roi_align(node: Node, contents: Contents) -> Answer:
    """One map of `output_height` by `output_width` per region (RoiAlign-22)."""
    x, rois = shape_of_rank(node, 0, 4), shape_of_rank(node, 1, 2)
    return rois[0], x[1], node.int("output_height"), node.int("output_width")


def grid_sample(node: Node, contents: Contents) -> Answer:
    """The input's batch and channels over the grid's positions (GridSample-22)."""
    x, grid = shape_of(node, 0), shape_of(node, 1)
    if len(x) != len(grid):
        raise Mismatch(f"a grid of the input's rank {len(x)}", f"rank {len(grid)}")
    return *x[:2], *grid[1:-1]


def affine_grid(node: Node, contents: Contents) -> Answer:
    """[N, C, *sizes] as a vector gives a grid [N, *sizes, number of sizes] (AffineGrid-20)."""
    size = vector_entries(node.operand(1), contents)
    return *size[:1], *size[2:], len(size) - 2


def resize(node: Node, contents: Contents) -> Answer:
    """The given sizes, or each size times its scale rounded down (Resize-19)."""
    out: list[Size | None] = list(shape_of(node, 0))
    axes = normalized_axes(node.ints("axes", ()) or range(len(out)), len(out))
    if _is_there(node, 3):
        stretched = node.str("keep_aspect_ratio_policy", "stretch") == "stretch"
        sizes = contents.of(node.operand(3)) if stretched else None
        _put(out, axes, sizes or (None,) * len(axes))
    elif _is_there(node, 2):
        cropped = node.str("coordinate_transformation_mode", "") == "tf_crop_and_resize"
        scales = None if cropped else contents.floats(node.operand(2))
        new = [scaled(out[a], s) for a, s in zip(axes, scales or (None,) * len(axes), strict=False)]
        _put(out, axes, new)
    else:
        raise Mismatch("scales or sizes", "neither")
    return tuple(out)


def _is_there(node: Node, index: int) -> bool:
    """True for an operand that is given; an empty vector also means "not given"."""
    return node.input(index) is not None and shape_or_none(node.operand(index)) != (0,)


def _put(out: list[Size | None], axes: Sequence[int], sizes: Sequence[Size | None]) -> None:
    if len(sizes) != len(axes):
        raise Mismatch(f"{len(axes)} sizes or scales", str(len(sizes)))
    for axis, size in zip(axes, sizes, strict=True):
        out[axis] = size


def scaled(size: Size | None, scale: float | Dim | None) -> Size | None:
    """floor(size * scale) where single and double precision agree; of a symbol only multiples and binary parts."""
    if size is None or not isinstance(scale, float) or not np.isfinite(scale) or scale <= 0:
        return None
    if isinstance(size, int):
        single, double = np.floor(np.float32(size) * np.float32(scale)), np.floor(size * scale)
        return int(double) if single == double else None
    if scale.is_integer():
        return size * int(scale)
    parts = 1 / scale
    return floordiv(size, int(parts)) if parts.is_integer() and int(parts).bit_count() == 1 else None


RULES: dict[str, Rule] = {
    "AffineGrid": affine_grid,
    "AveragePool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalLpPool": global_pool,
    "GlobalMaxPool": global_pool,
    "GridSample": grid_sample,
    "LpPool": pool,
    "MaxPool": pool,
    "MaxRoiPool": max_roi_pool,
    "MaxUnpool": max_unpool,
    "Resize": resize,
    "RoiAlign": roi_align,
}
