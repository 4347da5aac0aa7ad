"""SmoothQuant: outlying channels of what matrix products read move into their weights; the function stays.

x W = (x / s) (s W) for any positive s per channel. Activations have one scale per tensor, so a few large channels leave
little resolution to the others, while weights have a scale per column (Xiao et al., "SmoothQuant: Accurate and
Efficient Post-Training Quantization for Large Language Models", 2023: s = max|x|^alpha / max|w|^(1 - alpha)). How much
is moved is chosen for each tensor by the noise that rounding both sides would add to the products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Builder, Dense, DType, Graph, Model, Node, UsageError, Value, constant, fuse
from ...ir.inference import infer
from ..base import Context, Contract, Decision, Outcome, Pass
from ..select import Selection
from .calibrate import observe, require
from .layers import Layer, layers
from .observers import Statistic, not_finite
from .scheme import ACTIVATION_MAX, WEIGHT_MAX

Numbers = NDArray[np.float64]

STRENGTHS = tuple(i / 20 for i in range(0, 19))
"""Values of alpha that a search looks at; 0 of them stands for leaving a tensor as it is."""

FOLDED_DB, MULTIPLIED_DB = 0.1, 1.0
"""What must be won, in dB of the products' noise: where s goes into a norm in front, which costs nothing, and where a
multiplication is put in."""


class ChannelRanges(Statistic):
    """Smallest, largest and mean square value per entry of the last axis."""

    def __init__(self) -> None:
        self.low: Numbers = np.zeros(1)
        self.high: Numbers = np.zeros(1)
        self.squares: Numbers = np.zeros(1)
        self.count = 0

    def update(self, array: Array) -> None:
        if not array.size:
            return
        rows = array.reshape(-1, array.shape[-1])
        squares = np.square(rows, dtype=np.float64).sum(0)
        if not np.isfinite(squares).all():
            raise not_finite(array)
        self.low, self.high = np.minimum(self.low, rows.min(0)), np.maximum(self.high, rows.max(0))
        self.squares, self.count = self.squares + squares, self.count + len(rows)

    def merge(self, other: Statistic) -> None:
        if not isinstance(other, ChannelRanges):
            raise TypeError("only ranges of channels can be merged into ranges of channels")
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self.squares, self.count = self.squares + other.squares, self.count + other.count

    def amplitude(self) -> Numbers:
        return np.maximum(-self.low, self.high)


@dataclass(frozen=True)
class Smooth(Pass):
    """Moves outlying channels of the inputs of matrix products into their weights, before `quantize`.

    `alpha` is how much of them goes, 0.5 in the paper; 0 has it chosen for each tensor by the noise of the rounded
    products. s goes into the norm in front of the layers where nothing else reads it, else a multiplication is put
    there, if enough is won. `only` and `skip` select layers by node name, module scope or operator; `samples` is how
    many calibration samples are used (0: all).
    """

    name: ClassVar[str] = "smooth"
    contract: ClassVar[Contract] = "exact"

    alpha: float = 0.0
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    samples: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < 1.0:
            raise UsageError(f"alpha={self.alpha} is not in [0, 1)", do="give 0.5, or 0 to have it chosen")

    def run(self, model: Model, context: Context) -> Outcome:
        """Changes the model in place. Raises UsageError for missing data and patterns that match nothing."""
        samples = require(context.samples, "smooth", "")
        infer(model.graph, context.fallback)
        groups = shared_inputs(model.graph, Selection(model.graph, self.only, self.skip))
        wanted = [(value, ChannelRanges) for value in groups]
        found = (
            observe(
                model,
                wanted,
                samples,
                progress=context.progress,
                limit=self.samples,
                executor=context.executor,
            )
            if wanted
            else []
        )
        outcome = Outcome()
        for (value, products), seen in zip(groups.items(), found, strict=True):
            why = self.smooth(model.graph, value, products, seen)
            outcome.changed += not why
            decision = "as it is" if why else "smoothed"
            outcome.decisions += [Decision.of(layer.node, decision, why) for layer in products]
        outcome.notes.append(f"{outcome.changed} of {len(groups)} inputs of matrix products smoothed")
        return outcome

    def smooth(self, graph: Graph, value: Value, products: Sequence[Layer], seen: ChannelRanges) -> str:
        """Carries out what is best for one value; or why nothing is to be done."""
        weights = [rows_of(layer) for layer in products]
        before = noise(np.ones(len(weights[0])), weights, seen)
        tried = {a: factors(a, weights, seen) for a in ((self.alpha,) if self.alpha else STRENGTHS[1:])}
        best = min(tried.values(), key=lambda s: noise(s, weights, seen))
        after = noise(best, weights, seen)
        won = 10 * math.log10(before / after) if before > 0 and after > 0 else 0.0
        norm = foldable(value, products)
        least = 0.0 if self.alpha else FOLDED_DB if norm is not None else MULTIPLIED_DB
        if won <= least and not (self.alpha and before > 0):
            return f"its input's channels are even enough: {won:.1f} dB to win"
        if norm is not None:
            for index in (1, 2):
                held = norm.input(index)
                if held is not None:
                    norm.set_input(index, _made(held.tensor.numpy() / best, held))
        else:
            divide(graph, value, products, best)
        for layer in products:
            by = best if layer.axis == 0 else best[:, None]
            layer.node.set_input(1, _made(layer.weight.tensor.numpy() * by, layer.weight))
        return ""


def shared_inputs(graph: Graph, selection: Selection) -> dict[Value, list[Layer]]:
    """The values that selected matrix products read, each with those products."""
    found: dict[Value, list[Layer]] = {}
    for node, layer in layers(graph):
        if isinstance(layer, str) or node.op not in ("MatMul", "Gemm") or layer.input.const is not None:
            continue
        if len(layer.weight.users) == 1 and not selection.reason(node):
            found.setdefault(layer.input, []).append(layer)
    return found


def rows_of(layer: Layer) -> Numbers:
    """The weight in double precision as [inputs, outputs]."""
    wide = layer.weight.tensor.numpy().astype(np.float64)
    return wide.T if layer.axis == 0 else wide


def factors(alpha: float, weights: Sequence[Numbers], seen: ChannelRanges) -> Numbers:
    """s per channel, with the geometric mean 1; 1 for channels that are zero on either side."""
    x, w = seen.amplitude(), np.max([np.abs(w).max(1, initial=0.0) for w in weights], 0)
    alive = (x > 0) & (w > 0)
    logs = np.where(alive, alpha * np.log(np.where(alive, x, 1.0)) - (1 - alpha) * np.log(np.where(alive, w, 1.0)), 0)
    logs[alive] -= logs[alive].mean() if alive.any() else 0.0
    return np.exp(logs)


def noise(s: Numbers, weights: Sequence[Numbers], seen: ChannelRanges) -> float:
    """Expected squared error of one row of all products after rounding x / s to u8 and s W to i8 per column.

    Roundings are taken as independent and uniform: a step squared by twelve each.
    """
    step = ((seen.high / s).max() - (seen.low / s).min()) / ACTIVATION_MAX
    squares = (seen.squares / max(seen.count, 1) / s**2).sum()
    total = 0.0
    for weight in weights:
        scaled = weight * s[:, None]
        steps = np.abs(scaled).max(0) / WEIGHT_MAX
        total += step**2 / 12 * float(np.square(scaled).sum()) + squares * float(np.square(steps).sum()) / 12
    return float(total)


def foldable(value: Value, products: Sequence[Layer]) -> Node | None:
    """The norm that gives the value to these products alone, with a scale of its own per channel."""
    norm = value.node
    if norm is None or norm.domain or norm.op not in ("LayerNormalization", "RMSNormalization"):
        return None
    last = norm.int("axis") in (-1, (value.rank or 0) - 1)
    if value is not norm.outputs[0] or any(v.users for v in norm.outputs[1:]) or not last:
        return None
    if set(value.users) != {layer.node for layer in products}:
        return None
    held = [v for v in (norm.input(1), norm.input(2)) if v is not None]
    plain = all(v.const is not None and v.tensor.rank == 1 for v in held)
    return norm if plain and norm.input(1) is not None else None


def divide(graph: Graph, value: Value, products: Sequence[Layer], s: Numbers) -> None:
    """Puts a multiplication by 1 / s between the value and the products."""
    chosen = {layer.node for layer in products}
    first = next(node for node in graph if node in chosen)
    op = Builder(graph, first, loc=fuse(first.loc, [], "smooth"))
    divided = op.Mul(value, constant((1 / s).astype(np.float32), f"{value.name}_smoothing"))
    divided.type, divided.name = value.type, f"{value.name}_smoothed" if value.name else ""
    for node in chosen:
        node.set_inputs([divided if v is value else v for v in node.inputs])


def _made(array: Array, old: Value) -> Value:
    return constant(Dense(np.ascontiguousarray(array, np.float32), DType.F32), old.name)
