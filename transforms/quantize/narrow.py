"""What floats of 16 bits hold: the weights that can be stored in them, and the largest number of a value."""

from __future__ import annotations

import math

import numpy as np

from ...ir import Array, Builder, DType, Graph, Node, Tensor, Value, constant, fuse
from ...ir.tensors import cast
from .observers import Statistic, not_finite

DTYPES = {"float16": DType.F16, "bfloat16": DType.BF16}

SMALLEST = 4096
"""Elements below which a weight is not worth a Cast."""

LEAST_DB = {DType.F16: 60.0, DType.BF16: 40.0}
"""SQNR below which a weight has lost more than the digits that 16 bits lack: it holds numbers too small for them. Plain
rounding leaves about 74 and 56 dB."""

LARGEST = {DType.F16: 65504.0, DType.BF16: 3.38e38}
TINIEST = {DType.F16: 2.0**-24, DType.BF16: 1.2e-38}
"""The largest number, and the smallest that is not taken for zero."""


def judged(weight: Tensor, dtype: DType) -> tuple[str, float]:
    """Why a weight cannot be stored in `dtype` ('' where it can), and the SQNR in dB that it has there."""
    if dtype not in LARGEST:
        raise ValueError(f"{dtype.label} is no float of 16 bits")
    signal = noise = largest = 0.0
    step = max(1, (1 << 22) // max(1, weight.count // max(1, weight.shape[0] if weight.shape else 1)))
    for start in range(0, weight.shape[0], step):
        rows = weight.rows(start, min(weight.shape[0], start + step)).astype(np.float64)
        if not np.isfinite(rows).all():
            return "it holds NaN or infinity", 0.0
        largest = max(largest, float(np.abs(rows).max(initial=0.0)))
        if largest > LARGEST[dtype]:
            return f"its largest number, {largest:.3g}, is beyond the {LARGEST[dtype]:g} of {dtype.label}", 0.0
        signal += float(np.square(rows).sum())
        noise += float(np.square(rows - rows.astype(np.float32).astype(dtype.numpy).astype(np.float64)).sum())
    sqnr = 10 * math.log10(signal / noise) if noise and signal else math.inf
    if sqnr < LEAST_DB[dtype]:
        return f"its numbers are too small for {dtype.label}: {sqnr:.0f} dB", sqnr
    return "", sqnr


def stored(weight: Value, dtype: DType, node: Node, graph: Graph) -> Value:
    """The weight in `dtype` behind a Cast at the front of the graph that `node` is in."""
    narrow = constant(cast(weight.tensor, dtype), weight.name)
    wide = Builder(graph, graph.entry.next, loc=fuse(node.loc, [], "half")).Cast(narrow, to=DType.F32.code)
    wide.type, wide.name = weight.type, f"{weight.name}_restored" if weight.name else ""
    return wide


class Magnitude(Statistic):
    """The largest finite |x|: 16 bits hold infinities too."""

    def __init__(self) -> None:
        self.largest = 0.0

    def update(self, array: Array) -> None:
        size = np.abs(array)
        if np.isnan(size).any():
            raise not_finite(array)
        self.largest = max(self.largest, float(size.max(initial=0.0, where=np.isfinite(size))))

    def merge(self, other: Statistic) -> None:
        if not isinstance(other, Magnitude):
            raise TypeError("only magnitudes can be merged")
        self.largest = max(self.largest, other.largest)


def fits(tensor: Tensor, dtype: DType) -> str:
    """Why a constant cannot have 16 bits without becoming another one: infinity, or zero."""
    if tensor.count >= SMALLEST:
        return judged(tensor, dtype)[0]
    size = np.abs(tensor.numpy().astype(np.float64))
    size = size[np.isfinite(size) & (size > 0)]
    if size.size and size.max() > LARGEST[dtype]:
        return f"its constant {size.max():.3g} is beyond the {LARGEST[dtype]:g} of {dtype.label}"
    if size.size and size.max() < TINIEST[dtype]:
        return f"its constant {size.max():.3g} is zero in {dtype.label}"
    return ""
