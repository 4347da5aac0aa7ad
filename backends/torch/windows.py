"""Windows that slide over spatial axes: padding, options of convolutions, and the rows for pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...ir import Node
from .code import Code, Piece, call, infix, method
from .emitter import Emitter, Row, Unpacked


def spatial_padding(node: Node, e: Emitter, spatial: int, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Explicit pads before and after each spatial axis; SAME is worked out from the operand's sizes."""
    mode = node.str("auto_pad")
    if mode in ("NOTSET", ""):
        pads = node.ints("pads", (0,) * (2 * spatial))
        return list(pads[:spatial]), list(pads[spatial:])
    if mode == "VALID":
        return [0] * spatial, [0] * spatial
    strides, dilations = node.ints("strides", (1,) * spatial), node.ints("dilations", (1,) * spatial)
    shape = e.resolve(node.operand(0)).shape
    before, after = list[int](), list[int]()
    for axis in range(spatial):
        size = shape[axis + 2] if shape is not None else None
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        if strides[axis] == 1:
            total = extent - 1
        elif isinstance(size, int):
            total = max((-(-size // strides[axis]) - 1) * strides[axis] + extent - size, 0)
        else:
            e.refuse(node, f"auto_pad {mode} needs a known size of spatial axis {axis}")
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def padded(x: Code, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Code:
    """F.pad of the spatial axes."""
    flat = [n for pair in reversed(list(zip(before, after, strict=True))) for n in pair]
    return call("F.pad", x, tuple(flat), **({"value": value} if value else {}))


def conv_options(node: Node, spatial: int, padding: Sequence[int]) -> dict[str, Piece]:
    """stride, padding, dilation and groups where they are not the defaults."""
    strides, dilations = node.ints("strides", (1,) * spatial), node.ints("dilations", (1,) * spatial)
    options: dict[str, Piece] = {}
    if set(strides) != {1}:
        options["stride"] = compact(strides)
    if any(padding):
        options["padding"] = compact(padding)
    if set(dilations) != {1}:
        options["dilation"] = compact(dilations)
    if node.int("group") != 1:
        options["groups"] = node.int("group")
    return options


def compact(numbers: Sequence[int]) -> Piece:
    """One number for equal ones, as `nn.Conv2d` takes them."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def max_pool(node: Node, e: Emitter) -> Code | Unpacked:
    """MaxPool-22. Places are counted within the tensor, by PyTorch within each channel."""
    placed = any(o.users for o in node.outputs[1:])
    kernel = node.ints("kernel_shape")
    spatial = len(kernel)
    e.need(spatial in (1, 2, 3), node, f"there is no row for {spatial} spatial axes")
    before, after = spatial_padding(node, e, spatial, kernel)
    x = e.tensor(node.operand(0))
    if before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        e.need(not placed, node, "its indices are used, and its padding differs by side")
        x, before = padded(x, before, after, float("-inf")), [0] * spatial
    options = pool_options(node, kernel, before)
    dilations = node.ints("dilations", (1,) * spatial)
    if set(dilations) != {1}:
        options["dilation"] = compact(dilations)
    if placed:
        e.need(not node.int("storage_order"), node, "its indices count columns first")
        return Unpacked(call(e.helper("max_pool_places"), x, compact(kernel), **options))
    return call(f"F.max_pool{spatial}d", x, compact(kernel), **options)


def pool_options(node: Node, kernel: Sequence[int], padding: Sequence[int]) -> dict[str, Piece]:
    """PyTorch's stride defaults to the kernel, ONNX's to 1."""
    strides = node.ints("strides", (1,) * len(kernel))
    options: dict[str, Piece] = {}
    if tuple(strides) != tuple(kernel):
        options["stride"] = compact(strides)
    if any(padding):
        options["padding"] = compact(padding)
    if node.int("ceil_mode"):
        options["ceil_mode"] = True
    return options


def average_pool(node: Node, e: Emitter) -> Code:
    kernel = node.ints("kernel_shape")
    spatial = len(kernel)
    e.need(spatial in (1, 2, 3), node, f"there is no row for {spatial} spatial axes")
    e.need(set(node.ints("dilations", (1,) * spatial)) == {1}, node, "it is dilated")
    before, after = spatial_padding(node, e, spatial, kernel)
    x, include = e.tensor(node.operand(0)), bool(node.int("count_include_pad"))
    uneven = before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True))
    e.need(not uneven or not node.int("ceil_mode"), node, "its padding differs by side and its size is rounded up")
    if uneven and not include:
        sums, counts = (padded(v, before, after) for v in (x, call("torch.ones_like", x)))
        options = pool_options(node, kernel, [0] * spatial)
        pools = [call(f"F.avg_pool{spatial}d", v, compact(kernel), **options) for v in (sums, counts)]
        return infix("/", *pools)
    if uneven:
        x, before = padded(x, before, after), [0] * spatial
    options = pool_options(node, kernel, before)
    if any(before) and not include:
        options["count_include_pad"] = False
    return call(f"F.avg_pool{spatial}d", x, compact(kernel), **options)


def global_pool(name: str) -> Row:
    """Mean or maximum over all spatial axes."""

    def row(node: Node, e: Emitter) -> Code:
        rank = e.need_rank(node, node.operand(0))
        spatial = rank - 2
        if spatial in (1, 2, 3) and name == "avg":
            return call(f"F.adaptive_avg_pool{spatial}d", e.tensor(node.operand(0)), 1)
        return method(
            e.tensor(node.operand(0)), "mean" if name == "avg" else "amax", dim=tuple(range(2, rank)), keepdim=True
        )

    return row


def norm_pool(node: Node, e: Emitter) -> Code:
    """LpPool-22 as a sum over windows: an average without its division."""
    kernel, p = node.ints("kernel_shape"), node.int("p")
    spatial = len(kernel)
    plain = set(node.ints("dilations", (1,) * spatial)) == {1} and not node.int("ceil_mode")
    e.need(spatial in (1, 2, 3) and plain, node, "it is dilated, rounds sizes up, or has more than 3 spatial axes")
    before, after = spatial_padding(node, e, spatial, kernel)
    powers = infix("**", method(e.tensor(node.operand(0)), "abs"), p)
    if before != after or any(2 * b > k for b, k in zip(before, kernel, strict=True)):
        powers, before = padded(powers, before, after), [0] * spatial
    means = call(f"F.avg_pool{spatial}d", powers, compact(kernel), **pool_options(node, kernel, before))
    return infix("**", infix("*", means, math.prod(kernel)), 1 / p)


def global_norm_pool(node: Node, e: Emitter) -> Code:
    axes = tuple(range(2, e.need_rank(node, node.operand(0))))
    return call("torch.linalg.vector_norm", e.tensor(node.operand(0)), node.int("p"), axes, keepdim=True)


def fold(node: Node, e: Emitter) -> Code:
    """Col2Im-18, for pictures."""
    pads = node.ints("pads", (0,) * 4)
    even = e.resolve(node.operand(1)).shape == (2,) and pads[:2] == pads[2:]
    e.need(even, node, "only windows of pictures with even padding have a row")
    size, window = e.shape_argument(node.operand(1)), e.static(node.operand(2))
    kernel = compact(window) if window is not None else e.shape_argument(node.operand(2))
    options: dict[str, Piece] = {}
    for name, default, numbers in (
        ("dilation", 1, node.ints("dilations", (1, 1))), ("padding", 0, pads[:2]),
        ("stride", 1, node.ints("strides", (1, 1))),
    ):  # fmt: skip
        if set(numbers) != {default}:
            options[name] = compact(numbers)
    return call("F.fold", e.tensor(node.operand(0)), size, kernel, **options)


ROWS: dict[str, Row] = {
    "LpPool": norm_pool, "GlobalLpPool": global_norm_pool, "Col2Im": fold,
    "MaxPool": max_pool, "AveragePool": average_pool, "GlobalAveragePool": global_pool("avg"),
    "GlobalMaxPool": global_pool("max"),
}  # fmt: skip
