"""Rounding weights by what layers read: GPTQ and AdaRound, as passes in front of `quantize`.

Both minimise the squared error of a layer's result, tr (W - Q) H (W - Q)^T with H the second moments of what it reads,
and leave float weights that lie on the integers' grid, so that `quantize` finds the same scale and rounds nothing. GPTQ
goes through the columns and has those that are left make up for the error so far (Frantar et al., "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers", 2023). AdaRound chooses between rounding up and
down (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020), here by going down along one
column after another: with H known that needs no samples and no gradients.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...backends.runners import Samples
from ...ir import Array, Model, Node, UsageError
from ...ir.inference import infer
from .. import matrices
from ..base import Context, Contract, Decision, Outcome, Pass
from ..portions import portions
from ..select import Selection
from .accumulated import around
from .calibrate import observe, require
from .layers import QUANTIZED, Layer, layers
from .observers import Statistic, not_finite
from .scheme import REDUCED_WEIGHT_MAX, WEIGHT_MAX
from .warnings import of_outputs
from .weights import BITS

Wide = NDArray[np.float64]

PLACES = 256
"""Rows of one sample that take part, evenly spread: neighbouring positions of an image say much the same."""

BLOCK = 128
"""Columns that GPTQ goes through before it changes those behind them."""


class SecondMoments(Statistic):
    """Mean of x x^T over the rows that a layer multiplies its weight with, [groups, columns, columns]."""

    def __init__(self, node: Node) -> None:
        self.node, self.count = node, 0
        columns = matrices.matrix(node).shape[-1]
        self.sums = np.zeros((matrices.groups(node), columns, columns))

    def update(self, array: Array) -> None:
        if not array.size:
            return
        total = positions(self.node, array)
        rows = np.linspace(0, total - 1, min(total, PLACES * max(1, array.shape[0]))).astype(np.int64)
        x = matrices.columns(self.node, array, rows).astype(np.float64)
        if not np.isfinite(x).all():
            raise not_finite(array)
        self.sums += x.swapaxes(1, 2) @ x
        self.count += x.shape[1]

    def merge(self, other: Statistic) -> None:
        if not isinstance(other, SecondMoments) or other.sums.shape != self.sums.shape:
            raise TypeError("only second moments of one layer can be merged")
        self.sums, self.count = self.sums + other.sums, self.count + other.count

    def damped(self, damping: float) -> Wide:
        """With `damping` times the mean of the diagonal added to it, so that it can be inverted."""
        found = self.sums / max(self.count, 1)
        diagonal = np.einsum("gii->gi", found)
        extra = damping * diagonal.mean(1, keepdims=True)
        np.einsum("gii->gi", found)[...] += np.where(extra > 0, extra, 1.0)
        return found


def positions(node: Node, x: Array) -> int:
    """Rows that a layer's input has: places of its output."""
    if node.op != "Conv":
        return x.size // x.shape[-1]
    space = x.ndim - 2
    size, ones = node.operand(1).tensor.shape[2:], (1,) * space
    pads, strides = node.ints("pads", (0,) * (2 * space)), node.ints("strides", ones)
    spans = [d * (k - 1) + 1 for d, k in zip(node.ints("dilations", ones), size, strict=True)]
    made = [
        (x.shape[2 + i] + pads[i] + pads[space + i] - spans[i]) // strides[i] + 1 for i in range(space)
    ]  # fmt: skip
    return x.shape[0] * math.prod(made)


@dataclass(frozen=True)
class Rounding(Pass):
    """What GPTQ and AdaRound share: choosing layers, measuring what they read, the grid.

    `bits` and `reduce_range` say for which grid, a scale per output channel (`block` 0) or per `block` inputs of a
    MatMul (as `quantize(mode="weights")` has it). `samples` is how many calibration samples are used (0: all).
    """

    contract: ClassVar[Contract] = "approximate"

    bits: int = 8
    block: int = 0
    reduce_range: bool = False
    damping: float = 0.01
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    samples: int = 0

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(f"bits={self.bits} is not possible", do="give 8 or 4")
        if self.bits == 4 and not self.block:
            raise UsageError("bits=4 needs a block", why="one scale per channel is too coarse", do="give block=32")
        if self.damping <= 0:
            raise UsageError(f"damping={self.damping} is not positive", do="give 0.01")

    def run(self, model: Model, context: Context) -> Outcome:
        """Rounds in place. Raises UsageError for missing data and patterns that match nothing."""
        samples = require(context.samples, self.name, "")
        infer(model.graph, context.fallback)
        selection = Selection(model.graph, self.only, self.skip)
        outcome = Outcome()
        chosen: list[Layer] = []
        for node, layer in layers(model.graph):
            why = selection.reason(node) or (layer if isinstance(layer, str) else self.why_not(layer))
            if isinstance(layer, Layer) and not why:
                chosen.append(layer)
            else:
                outcome.decisions.append(Decision.of(node, "int8" if why == QUANTIZED else "as it is", why))
        rounded: list[Decision] = []
        change = partial(self.round_all, model, chosen, samples, context, rounded)
        kept = around(change, model, samples if chosen else None)
        outcome.decisions += rounded
        outcome.warnings = of_outputs(kept, f"int{self.bits} weights", "grid")
        outcome.changed = len(chosen)
        outcome.notes.append(f"{len(chosen)} weights on the grid of int{self.bits}")
        return outcome

    def round_all(
        self, model: Model, chosen: Sequence[Layer], samples: Samples, context: Context, rounded: list[Decision]
    ) -> None:
        """Rounds the layers, as many at a time as there is memory for; adds what was won to `rounded`."""
        for portion in portions(chosen, moment_bytes):
            wanted = [(layer.input, lambda node=layer.node: SecondMoments(node)) for layer in portion]
            found = observe(model, wanted, samples, progress=context.progress, limit=self.samples)
            for layer, moments in zip(portion, found, strict=True):
                won = self.round(layer.node, moments.damped(self.damping))
                reason = f"its result's error is {won:.1f} dB below that of rounding to nearest"
                rounded.append(Decision.of(layer.node, f"int{self.bits} grid", reason))

    def why_not(self, layer: Layer) -> str:
        if matrices.input_axis(layer.node) is None:
            return "it is no product of its input's columns in this form"
        if len(layer.weight.users) > 1:
            return "its weight is used elsewhere, too"
        if self.block and (layer.node.op != "MatMul" or layer.weight.tensor.shape[0] % self.block):
            return f"blocks of {self.block} are for a MatMul with a multiple of so many inputs"
        return ""

    def round(self, node: Node, moments: Wide) -> float:
        """Gives the node a weight on the grid; by how many dB the error is below that of rounding to nearest."""
        weight = matrices.matrix(node)
        grid = Grid(weight, self.bits, self.block, self.reduce_range)
        made = np.stack([self.solve(weight[g], grid.of(g), moments[g]) for g in range(len(weight))])
        nearest = np.stack([grid.of(g).nearest(weight[g]) for g in range(len(weight))])
        before, after = (squared_error(weight - found, moments) for found in (nearest, made))
        if after > before:
            made, after = nearest, before
        matrices.set_matrix(node, made)
        return 10 * math.log10(before / after) if before > 0 and after > 0 else 0.0

    @abstractmethod
    def solve(self, weight: Wide, grid: Steps, moments: Wide) -> Wide:
        """The weight [outputs, columns] on the grid."""


@dataclass(frozen=True)
class Steps:
    """The grid of one group: the step of every element, the largest integer, and which elements are at it.

    The largest weight of each scale stays at the largest integer, so that the scale is found again.
    """

    step: Wide
    largest: int
    pinned: NDArray[np.bool_]

    def nearest(self, weight: Wide, columns: slice = slice(None)) -> Wide:
        """The nearest points of the grid for some columns."""
        step = self.step[:, columns]
        found = np.clip(np.rint(weight / step), -self.largest, self.largest)
        found = np.where(self.pinned[:, columns], np.copysign(self.largest, weight), found)
        return found * step


class Grid:
    """The points that a quantized weight [groups, outputs, columns] can take."""

    def __init__(self, weight: Wide, bits: int, block: int, reduce_range: bool) -> None:
        self.largest = REDUCED_WEIGHT_MAX if reduce_range else WEIGHT_MAX if bits == 8 else BITS[bits][1]
        parts = weight.reshape(*weight.shape[:2], -1, block or weight.shape[2])
        size = np.abs(parts)
        step: Wide = (size.max(-1, keepdims=True) / self.largest).astype(np.float32).astype(np.float64)
        self.step: Wide = np.broadcast_to(np.where(step > 0, step, 1.0), parts.shape).reshape(weight.shape)
        largest: NDArray[np.bool_] = np.zeros(parts.shape, np.bool_)
        np.put_along_axis(largest, size.argmax(-1)[..., None], True, -1)
        largest[size == 0] = False
        self.pinned = largest.reshape(weight.shape)

    def of(self, group: int) -> Steps:
        return Steps(self.step[group], self.largest, self.pinned[group])


def squared_error(difference: Wide, moments: Wide) -> float:
    """Mean squared error of the layer's results, summed over outputs."""
    return float(np.einsum("goi,gij,goj->", difference, moments, difference, optimize=True))


def moment_bytes(layer: Layer) -> int:
    columns = math.prod(layer.weight.tensor.shape) // layer.channels
    return 8 * columns**2 * matrices.groups(layer.node)


@dataclass(frozen=True)
class Gptq(Rounding):
    """GPTQ: columns that are still to be rounded make up for the error of those that were.

    For int8 in front of `quantize`; for weight-only int4 `gptq(bits=4, block=32),quantize(mode="weights", bits=4)`.
    """

    name: ClassVar[str] = "gptq"

    def solve(self, weight: Wide, grid: Steps, moments: Wide) -> Wide:
        left, made = weight.copy(), np.zeros_like(weight)
        inverse = np.linalg.cholesky(np.linalg.inv(moments)).T
        count = weight.shape[1]
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            errors = np.zeros((len(weight), stop - start))
            for i in range(start, stop):
                made[:, i : i + 1] = grid.nearest(left[:, i : i + 1], slice(i, i + 1))
                error = (left[:, i] - made[:, i]) / inverse[i, i]
                left[:, i:stop] -= error[:, None] * inverse[i, i:stop]
                errors[:, i - start] = error
            left[:, stop:] -= errors @ inverse[start:stop, stop:]
        return made


@dataclass(frozen=True)
class AdaRound(Rounding):
    """AdaRound: each weight is rounded up or down, whichever is better for the layer's result with all the others."""

    name: ClassVar[str] = "adaround"

    rounds: int = 4

    def solve(self, weight: Wide, grid: Steps, moments: Wide) -> Wide:
        below = np.floor(weight / grid.step)
        made = np.clip(np.rint(weight / grid.step), below, below + 1)
        gradient = (made * grid.step - weight) @ moments
        for _ in range(self.rounds):
            moved = 0
            for i in range(weight.shape[1]):
                change = (2 * below[:, i] + 1 - 2 * made[:, i]) * grid.step[:, i]
                better = 2 * change * gradient[:, i] + change**2 * moments[i, i] < 0
                target = made[:, i] + np.sign(change)
                better &= ~grid.pinned[:, i] & (np.abs(target) <= grid.largest)
                if better.any():
                    change = np.where(better, change, 0.0)
                    made[:, i] += np.sign(change)
                    gradient += change[:, None] * moments[i]
                    moved += int(better.sum())
            if not moved:
                break
        kept = np.clip(made, -grid.largest, grid.largest)
        return np.where(grid.pinned, np.copysign(grid.largest, weight), kept) * grid.step
