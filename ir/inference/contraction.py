"""Operators that sum products: matrix products, einsum and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from ..dims import Size, floordiv
from ..graph import Node
from ..types import Shape
from .contents import Contents
from .operands import (
    Answer,
    Mismatch,
    Partial,
    Rule,
    Unknown,
    agree,
    broadcast,
    broadcast_size,
    ceildiv,
    shape_of,
    shape_of_rank,
    shape_or_none,
)

# Matrix products


def matmul(left: int, right: int) -> Rule:
    """numpy.matmul of operands `left` and `right` (MatMul-13, MatMulInteger-10, QLinearMatMul-21)."""

    def rule(node: Node, contents: Contents) -> Answer:
        a, b = shape_of(node, left), shape_of(node, right)
        if not a or not b:
            raise Mismatch("operands of rank 1 or more", "a scalar")
        inner, columns = b[-2:][0], b[-1:] if len(b) > 1 else ()
        rows = a[-2:-1]
        agree([a[-1], inner], "an inner size of")
        return (*broadcast([a[:-2], b[:-2]]), *rows, *columns)

    return rule


def gemm(node: Node, contents: Contents) -> Answer:
    """[M, K] by [K, N], each transposed where an attribute says so (Gemm-13)."""
    m, k = _matrix(node, 0, node.int("transA"))
    k2, n = _matrix(node, 1, node.int("transB"))
    agree([k, k2], "an inner size of")
    return m, n


def _matrix(node: Node, index: int, transposed: int) -> tuple[Size | None, Size | None]:
    if shape_or_none(node.operand(index)) is None:
        return None, None
    rows, columns = shape_of_rank(node, index, 2)
    return (columns, rows) if transposed else (rows, columns)


def einsum(node: Node, contents: Contents) -> Answer:
    """Each letter is an axis; an ellipsis stands for axes that broadcast (Einsum-12, numpy.einsum)."""
    left, arrow, right = node.str("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(node.inputs):
        raise Mismatch(f"{len(node.inputs)} terms in the equation", left)
    sizes: dict[str, Size | None] = {}
    batch: list[Partial] = []
    for index, term in enumerate(terms):
        shape = shape_of(node, index)
        before, dots, after = term.partition("...")
        if len(before + after) > len(shape) or (not dots and len(before) != len(shape)):
            raise Mismatch(f"an operand with the axes {term!r}", f"rank {len(shape)}")
        tail = len(shape) - len(after)
        batch.append(shape[len(before) : tail] if dots else ())
        for letter, size in zip(before + after, (*shape[: len(before)], *shape[tail:]), strict=True):
            sizes[letter] = broadcast_size(sizes[letter], size) if letter in sizes else size
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    before, dots, after = right.partition("...")
    if any(x not in sizes for x in before + after):
        raise Mismatch("output axes that operands have", right)
    middle = broadcast(batch) if dots else ()
    return (*(sizes[x] for x in before), *middle, *(sizes[x] for x in after))


# Convolutions


def window_attribute(node: Node, name: str, count: int, default: int) -> tuple[int, ...]:
    """A list with one entry per spatial axis (two for pads). Raises Mismatch for any other number."""
    found = node.ints(name, (default,) * count) or (default,) * count
    if len(found) != count:
        raise Mismatch(f"{count} entries in {name}", str(list(found)))
    return found


def windows(size: Size, kernel: int, stride: int, dilation: int, padding: int) -> Size:
    """How many windows fit: floor((size + padding - extent) / stride) + 1."""
    if stride < 1 or dilation < 1:
        raise Mismatch("strides and dilations of at least 1", f"{stride} and {dilation}")
    return floordiv(size + (padding - dilation * (kernel - 1) - 1), stride) + 1


def spatial(node: Node, sizes: Sequence[Size], kernel: Sequence[Size]) -> list[Size | None]:
    """The output's spatial sizes of a convolution (Conv-22)."""
    count = len(sizes)
    strides, dilations = (window_attribute(node, name, count, 1) for name in ("strides", "dilations"))
    pads = window_attribute(node, "pads", 2 * count, 0)
    auto = node.str("auto_pad", "NOTSET")
    out: list[Size | None] = []
    for i, (size, k) in enumerate(zip(sizes, kernel, strict=True)):
        if auto.startswith("SAME"):
            out.append(ceildiv(size, max(1, strides[i])))
        elif isinstance(k, int):
            padding = 0 if auto == "VALID" else pads[i] + pads[i + count]
            out.append(not_negative(windows(size, k, strides[i], dilations[i], padding)))
        else:
            out.append(None)
    return out


def not_negative(size: Size) -> Size:
    """A computed size. Raises Mismatch where it is below zero: the window is larger than the padded input."""
    if isinstance(size, int) and size < 0:
        raise Mismatch("a window no larger than the padded input", f"{1 - size} too large")
    return size


def convolution(weight: int) -> Rule:
    """[N, C, *sizes] by a kernel [M, C/group, *kernel] in operand `weight` (Conv-22, QLinearConv-10)."""

    def rule(node: Node, contents: Contents) -> Answer:
        x, w = shape_or_none(node.operand(0)), shape_or_none(node.operand(weight))
        if x is None or w is None:
            known = x or w
            if known is None:
                raise Unknown
            return (x[0] if x else None, w[0] if w else None, *(None,) * (len(known) - 2))
        if len(x) != len(w) or len(x) < 2:
            raise Mismatch(f"a kernel of the input's rank {len(x)}", f"rank {len(w)}")
        agree([x[1], w[1] * node.int("group", 1)], "input channels")
        return x[0], w[0], *spatial(node, x[2:], kernel_shape(node, w))

    return rule


def kernel_shape(node: Node, weight: Shape) -> Sequence[Size]:
    """The kernel's spatial sizes, from the attribute or the weight. Raises Mismatch where both are there and differ."""
    given = node.ints("kernel_shape", ())
    if given and len(given) != len(weight) - 2:
        raise Mismatch(f"a kernel of {len(weight) - 2} axes", str(list(given)))
    for stated, found in zip(given, weight[2:], strict=False):
        agree([stated, found], "a kernel of size")
    return given or weight[2:]


def conv_transpose(node: Node, contents: Contents) -> Answer:
    """[N, C, *sizes] and a kernel [C, M/group, *kernel] (ConvTranspose-22)."""
    x, w = shape_of(node, 0), shape_of(node, 1)
    if len(x) != len(w) or len(x) < 2:
        raise Mismatch(f"a kernel of the input's rank {len(x)}", f"rank {len(w)}")
    agree([x[1], w[0]], "input channels")
    count = len(x) - 2
    kernel = kernel_shape(node, w)
    strides, dilations = (window_attribute(node, name, count, 1) for name in ("strides", "dilations"))
    extra, pads = window_attribute(node, "output_padding", count, 0), window_attribute(node, "pads", 2 * count, 0)
    auto = node.str("auto_pad", "NOTSET")
    wanted = node.ints("output_shape", ())
    sizes: list[Size | None] = []
    for i, (size, k) in enumerate(zip(x[2:], kernel, strict=True)):
        if wanted:
            sizes.append(wanted[i - count])
        elif auto.startswith("SAME"):
            sizes.append(size * strides[i])
        elif isinstance(k, int):
            padding = 0 if auto == "VALID" else pads[i] + pads[i + count]
            sizes.append((size - 1) * strides[i] + (extra[i] + (k - 1) * dilations[i] + 1 - padding))
        else:
            sizes.append(None)
    return x[0], w[1] * node.int("group", 1), *sizes


RULES: dict[str, Rule] = {
    "Conv": convolution(1),
    "ConvInteger": convolution(1),
    "ConvTranspose": conv_transpose,
    "DeformConv": convolution(1),
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul(0, 1),
    "MatMulInteger": matmul(0, 1),
    "QLinearConv": convolution(3),
    "QLinearMatMul": matmul(0, 3),
}
