"""Pools with gaps or rounded up sizes as convolutions with ones, and BatchNormalization in training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .form import Inexpressible
from .operands import cast, dtype_of, number, shape_of, vector

LAST = np.iinfo(np.int64).max


def has_gaps(node: Node) -> bool:
    return any(d != 1 for d in node.ints("dilations", ()))


def has_gaps_or_rounds_up(node: Node) -> bool:
    return has_gaps(node) or bool(node.int("ceil_mode", 0))


def average_pool(node: Node, op: Builder) -> Sequence[Value | None]:
    """Sums over windows divided by how many elements each has (AveragePool-19)."""
    x = node.operand(0)
    own = dtype_of(x)
    precise = own if own is DType.F64 else DType.F32
    wide = cast(op, x, own, precise)
    ones = op.Expand(number(1, precise), op.Shape(wide))
    pads, extra = _pads(node)
    if node.int("count_include_pad", 0):  # padding counts, what rounding up adds does not
        wide, ones = (op.Pad(v, _around(pads), number(i, precise)) for i, v in ((0, wide), (1, ones)))
        pads = [0] * len(pads)
    outer = [a + b for a, b in zip(pads, extra, strict=True)]
    total, count = (_sums(node, op, v, outer, precise) for v in (wide, ones))
    return [cast(op, op.Div(total, count), precise, own)]


def lp_pool(node: Node, op: Builder) -> Sequence[Value | None]:
    """Roots of sums of powers over windows (LpPool-18)."""
    x, p = node.operand(0), node.int("p")
    own = dtype_of(x)
    precise = own if own is DType.F64 else DType.F32
    pads, extra = _pads(node)
    powers = op.Pow(op.Abs(cast(op, x, own, precise)), number(p, precise))
    total = _sums(node, op, powers, [a + b for a, b in zip(pads, extra, strict=True)], precise)
    return [cast(op, op.Pow(total, number(1 / p, precise)), precise, own)]


def _pads(node: Node) -> tuple[list[int], list[int]]:
    """The padding, and what has to be added at the end where the number of windows is rounded up."""
    kernel = node.ints("kernel_shape")
    count = len(kernel)
    strides, gaps = (node.ints(n, (1,) * count) for n in ("strides", "dilations"))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, gaps, strict=True)]
    automatic = node.str("auto_pad", "NOTSET")
    pads = list(node.ints("pads", (0,) * (2 * count)))
    if automatic == "VALID":
        pads = [0] * (2 * count)
    sizes = shape_of(node.operand(0))[2:]
    extra = [0] * (2 * count)
    if automatic not in ("NOTSET", "VALID") or node.int("ceil_mode", 0):
        known = [s for s in sizes if isinstance(s, int)]
        if len(known) != count:
            raise Inexpressible("its padding depends on sizes that are not known")
        for i, size in enumerate(known):
            if automatic.startswith("SAME"):
                total = max(0, (math.ceil(size / strides[i]) - 1) * strides[i] + reach[i] - size)
                small, large = total // 2, total - total // 2
                pads[i], pads[count + i] = (small, large) if automatic == "SAME_UPPER" else (large, small)
            rest = size + pads[i] + pads[count + i] - reach[i]
            windows = math.ceil(rest / strides[i]) + 1
            # A window that would start in the padding behind is left out.
            if node.int("ceil_mode", 0) and (windows - 1) * strides[i] < size + pads[i]:
                extra[count + i] = max(0, (windows - 1) * strides[i] - rest)
    return pads, extra


def _around(pads: Sequence[int]) -> list[int]:
    count = len(pads) // 2
    return [0, 0, *pads[:count], 0, 0, *pads[count:]]


def _sums(node: Node, op: Builder, x: Value, pads: Sequence[int], dtype: DType) -> Value:
    """The sum over each window: channels go to the batch, so that one kernel of ones serves all."""
    kernel = node.ints("kernel_shape")
    shape = op.Shape(x)
    sizes = op.Slice(shape, [2], [LAST], [0])
    ones = constant(np.ones((1, 1, *kernel), dtype.numpy))
    attrs = {n: node.attrs[n] for n in ("strides", "dilations") if n in node.attrs}
    sums = op.Conv(op.Reshape(x, vector(op, -1, 1, sizes)), ones, pads=list(pads), **attrs)
    found = op.Slice(op.Shape(sums), [2], [LAST], [0])
    return op.Reshape(sums, vector(op, op.Slice(shape, [0], [2], [0]), found))


def trains(node: Node) -> bool:
    return bool(node.int("training_mode", 0))


def batch_normalization(node: Node, op: Builder) -> Sequence[Value | None]:
    """Normalization by the batch's own mean and variance, which move the running ones (BatchNormalization-14)."""
    x, scale, bias = (node.operand(i) for i in range(3))
    axes = [i for i in range(len(shape_of(x))) if i != 1]
    own, momentum = dtype_of(x), node.float("momentum")
    mean = op.ReduceMean(x, axes)
    spread = op.Sub(x, mean)
    variance = op.ReduceMean(op.Mul(spread, spread), axes, keepdims=0)
    mean = op.Squeeze(mean, axes)
    made = op.node("BatchNormalization", [x, scale, bias, *(
        cast(op, v, own, dtype_of(node.operand(3))) for v in (mean, variance)
    )], {"epsilon": node.float("epsilon")})  # fmt: skip
    assert isinstance(made, Node)
    results: list[Value | None] = [made.output]
    for index, (output, now) in enumerate(zip(node.outputs[1:], (mean, variance), strict=False), 3):
        before = node.operand(index)
        kind = dtype_of(before)
        now = cast(op, now, own, kind)  # noqa: PLW2901
        moved = op.Add(op.Mul(before, number(momentum, kind)), op.Mul(now, number(1 - momentum, kind)))
        results.append(moved if output.users else None)
    return results
