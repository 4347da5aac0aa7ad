"""numpy kernels of operators that slide a window over any number of axes: convolutions by matrix products, pools one
axis after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir import Array, Node
from .kernels import Operands, Results

BLOCK = 1 << 21
"""About how many elements of unfolded windows exist at a time."""

Pads = list[tuple[int, int]]


def conv(node: Node, xs: Operands) -> Results:
    """Conv-22: windows are unfolded, for some rows of the result at a time, and multiplied with the weights."""
    x, w, bias = (*xs, None)[:3]
    if x is None or w is None:
        return None
    kernel, groups = w.shape[2:], node.int("group", 1)
    strides, dilations = steps(node, "strides", kernel), steps(node, "dilations", kernel)
    pads = padding(node, x.shape[2:], kernel, strides, dilations)
    if pads is None:
        return None
    x = padded(x, pads, 0)
    out = [sizes_left(*each) for each in zip(x.shape[2:], kernel, strides, dilations, strict=True)]
    weights = w.reshape(groups, w.shape[0] // groups, -1)
    y = np.empty((len(x), groups, weights.shape[1], *out), x.dtype)
    plain = math.prod(kernel) == math.prod(strides) == 1
    row = max(1, x.shape[1] * math.prod(kernel) * math.prod(out[1:]))
    height = out[0] if plain else max(1, BLOCK // row)
    for image, result in zip(x, y, strict=True):
        unfolded = windows(image, kernel, out, strides, dilations)
        for start in range(0, out[0], height):
            part = unfolded[(slice(None),) * (1 + len(kernel)) + (slice(start, start + height),)]
            columns = part.reshape(groups, weights.shape[2], -1)
            block = result[:, :, start : start + height]
            block[...] = np.matmul(weights, columns).reshape(block.shape)
    y = y.reshape(len(x), -1, *out)
    return y if bias is None else np.add(y, along_channels(bias, y.ndim), out=y)


def conv_transpose(node: Node, xs: Operands) -> Results:
    """ConvTranspose-22: a product per position in the kernel is added where that position falls."""
    x, w, bias = (*xs, None)[:3]
    if x is None or w is None:
        return None
    kernel, groups = w.shape[2:], node.int("group", 1)
    ends = node.ints("pads", [0] * (2 * len(kernel)))
    if node.attr("output_shape") is not None or node.str("auto_pad", "NOTSET") != "NOTSET" or min(ends, default=0) < 0:
        return None
    strides, dilations = steps(node, "strides", kernel), steps(node, "dilations", kernel)
    extra = node.ints("output_padding", [0] * len(kernel))
    whole = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, k, s, d, e in zip(x.shape[2:], kernel, strides, dilations, extra, strict=True)
    ]
    inputs = x.reshape(len(x), groups, x.shape[1] // groups, -1)
    weights = w.reshape(groups, w.shape[0] // groups, w.shape[1], *kernel)
    y = np.zeros((len(x), groups, w.shape[1], *whole), x.dtype)
    for place in np.ndindex(*kernel):
        factor = np.ascontiguousarray(weights[(..., *place)].swapaxes(1, 2))
        where = strided(place, x.shape[2:], strides, dilations)
        y[(..., *where)] += np.matmul(factor, inputs).reshape(*y.shape[:3], *x.shape[2:])
    cut = zip(ends[: len(kernel)], whole, ends[len(kernel) :], strict=True)
    y = y.reshape(len(x), -1, *whole)[(..., *(slice(a, n - b) for a, n, b in cut))]
    return y if bias is None else y + along_channels(bias, y.ndim)


def max_pool(node: Node, xs: Operands) -> Results:
    """MaxPool-22, unless the places of the maxima are wanted."""
    (x,) = xs
    if x is None or x.dtype.kind != "f" or any(v.users for v in node.outputs[1:]):
        return None
    found = pooled(node, x, np.maximum, -math.inf)
    return None if found is None else found[0]


def average_pool(node: Node, xs: Operands) -> Results:
    """AveragePool-22: padding counts where `count_include_pad` says so, what a ceiled size adds never does."""
    (x,) = xs
    found = None if x is None else pooled(node, x, np.add, 0)
    if x is None or found is None:
        return None
    total, pads, extra = found
    ones = np.ones(x.shape[2:], x.dtype)[None, None]
    if node.int("count_include_pad", 0):
        ones = np.pad(ones, [(0, 0), (0, 0), *pads], constant_values=1)
        pads = [(0, 0)] * len(pads)
    counts = slide(node, padded(ones, [(a, b + e) for (a, b), e in zip(pads, extra, strict=True)], 0), np.add)
    return total / counts


def pooled(
    node: Node, x: Array, function: Callable[..., Any], nothing: float
) -> tuple[Array, Pads, Sequence[int]] | None:
    """The windows of a pool reduced by a function of which `nothing` is the neutral element, the padding, and by how
    much a ceiled size reaches beyond it.
    """
    kernel = node.ints("kernel_shape")
    strides, dilations = steps(node, "strides", kernel), steps(node, "dilations", kernel)
    pads = padding(node, x.shape[2:], kernel, strides, dilations)
    if pads is None:
        return None
    extra = [0] * len(kernel)
    if node.int("ceil_mode", 0):
        for axis, (n, k, s, d, (a, b)) in enumerate(zip(x.shape[2:], kernel, strides, dilations, pads, strict=True)):
            reach = (k - 1) * d + 1
            count = -(-(n + a + b - reach) // s) + 1
            count -= (count - 1) * s >= n + a  # no window starts in the padding at the end
            extra[axis] = max(0, (count - 1) * s + reach - n - a - b)
    whole = padded(x, [(a, b + e) for (a, b), e in zip(pads, extra, strict=True)], nothing)
    return slide(node, whole, function), pads, extra


def slide(node: Node, x: Array, function: Callable[..., Any]) -> Array:
    """Reduces the windows along one axis after the other."""
    kernel = node.ints("kernel_shape")
    strides, dilations = steps(node, "strides", kernel), steps(node, "dilations", kernel)
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True), start=2):
        out = sizes_left(x.shape[axis], k, s, d)
        parts = (x[(slice(None),) * axis + strided([i], [out], [s], [d])] for i in range(k))
        total = np.array(next(parts))
        for part in parts:
            function(total, part, out=total)
        x = total
    return x


def steps(node: Node, name: str, kernel: Sequence[int]) -> Sequence[int]:
    return node.ints(name, [1] * len(kernel))


def padding(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads | None:
    """What is added before and after each axis; None for negative padding."""
    how = node.str("auto_pad", "NOTSET")
    if how == "VALID":
        return [(0, 0)] * len(kernel)
    if how == "NOTSET":
        ends = node.ints("pads", [0] * (2 * len(kernel)))
        return None if min(ends, default=0) < 0 else list(zip(ends[: len(kernel)], ends[len(kernel) :], strict=True))
    found: Pads = []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        less, more = total // 2, total - total // 2
        found.append((less, more) if how == "SAME_UPPER" else (more, less))
    return found


def padded(x: Array, pads: Pads, value: float) -> Array:
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value) if any(map(any, pads)) else x


def sizes_left(size: int, kernel: int, stride: int, dilation: int) -> int:
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def strided(
    place: Sequence[int], counts: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[slice, ...]:
    """Where a position in the kernel falls, for that many windows along each axis."""
    return tuple(
        slice(k * d, k * d + (n - 1) * s + 1, s) for k, n, s, d in zip(place, counts, strides, dilations, strict=True)
    )


def windows(
    image: Array, kernel: Sequence[int], out: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """A view [channels, *kernel, *out] of an image [channels, *sizes]."""
    channel, *apart = image.strides
    within = [d * a for d, a in zip(dilations, apart, strict=True)]
    between = [s * a for s, a in zip(strides, apart, strict=True)]
    shape = (len(image), *kernel, *out)
    return np.lib.stride_tricks.as_strided(image, shape, (channel, *within, *between), writeable=False)


def along_channels(vector: Array, rank: int) -> Array:
    return vector.reshape(-1, *(1,) * (rank - 2))
