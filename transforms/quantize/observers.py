"""Streaming observers of a tensor's values: memory is constant in the number of samples, and shapes are free to vary.

What an observer has seen is kept in integer counts on a grid that depends on the values alone, or in exact sums, so the
result does not depend on the order of the samples or on how observers are merged; but for the moving average, which is
one over batches, nor does it depend on how samples are batched.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, TersorError

BINS = 8192
"""Bins of a histogram, half of them below zero: at least 2048 on the side of the largest magnitude, for 255 levels."""

SMALLEST_EXPONENT = -120
"""Bins are never narrower than 2**-120, so that dividing by their width is exact in float32."""

LEVELS = 255
"""Steps between the smallest and the largest number of an 8-bit type."""

CANDIDATES = 64
"""Clip points per side that a search for the least cost looks at."""


@dataclass(frozen=True)
class Range:
    """The interval [low, high] that quantization must cover."""

    low: float
    high: float


Cost = Callable[[Range], float]
"""What quantizing to a range costs."""


class NotFinite(TersorError):
    """A tensor held NaN or an infinity while it was observed (exit code 3)."""


class Statistic(ABC):
    """Sees arrays of one tensor, one after the other, and keeps what does not grow with their number."""

    @abstractmethod
    def update(self, array: Array) -> None:
        """Takes in an array of any shape; an empty one says nothing. Raises NotFinite for NaN and infinities."""

    @abstractmethod
    def merge(self, other: Statistic) -> None:
        """Takes in what another one of the same kind has seen. Raises TypeError for one of another kind."""


class Observer(Statistic):
    """A statistic that gives the range of the values."""

    @abstractmethod
    def range(self) -> Range:
        """The range of what was seen; [0, 0] where nothing was."""


class MinMax(Observer):
    """The smallest and the largest value."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def update(self, array: Array) -> None:
        if array.size:
            low, high = float(array.min()), float(array.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise not_finite(array)
            self.low, self.high = min(self.low, low), max(self.high, high)

    def merge(self, other: Statistic) -> None:
        other = _same_kind(self, other)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def range(self) -> Range:
        return Range(self.low, self.high) if self.low <= self.high else Range(0.0, 0.0)


class MovingAverage(Observer):
    """The mean over batches of their smallest and of their largest value, so that one odd batch does not decide alone.

    Every batch weighs the same, which makes it independent of their order; sums are exact (rational) numbers.
    """

    def __init__(self) -> None:
        self.low, self.high, self.batches = Fraction(0), Fraction(0), 0

    def update(self, array: Array) -> None:
        if array.size:
            seen = MinMax()
            seen.update(array)
            self.low, self.high, self.batches = (
                self.low + Fraction(seen.low),
                self.high + Fraction(seen.high),
                self.batches + 1,
            )

    def merge(self, other: Statistic) -> None:
        other = _same_kind(self, other)
        self.low, self.high, self.batches = self.low + other.low, self.high + other.high, self.batches + other.batches

    def range(self) -> Range:
        count = max(self.batches, 1)
        return Range(float(self.low / count), float(self.high / count))


class Histogram(Observer):
    """Counts on BINS bins of width 2**exponent, the middle edge at zero.

    Where a value does not fit, the exponent grows by one and the bins are merged pairwise towards zero's edge. Since
    floor(floor(x / w) / 2) = floor(x / 2w), the counts are those that the wide grid would have given at once.
    """

    def __init__(self) -> None:
        self.exponent = SMALLEST_EXPONENT
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.extremes = MinMax()
        self.zeros = 0

    def update(self, array: Array) -> None:
        if not array.size:
            return
        self.extremes.update(array)
        self.widen(exponent_for(self.extremes.low, self.extremes.high))
        flat = array.reshape(-1)
        # Scaling by a power of two is exact but for underflow to zero, so bins are those of real numbers.
        scaled = flat * flat.dtype.type(2.0**-self.exponent)
        if self.extremes.low < 0:
            np.floor(scaled, out=scaled)
        index = scaled.astype(np.int16)
        if self.extremes.low < 0 and self.exponent > 0:
            index[(index == 0) & (flat < 0)] = -1
        # Below zero comes behind the rest, as unsigned numbers do.
        counts = np.bincount(index.view(np.uint16), minlength=1 << 16)
        self.counts[: BINS // 2] += counts[-(BINS // 2) :]
        self.counts[BINS // 2 :] += counts[: BINS // 2]
        self.zeros += int(np.count_nonzero(flat == 0))

    def merge(self, other: Statistic) -> None:
        other = _same_kind(self, other)
        self.extremes.merge(other.extremes)
        self.widen(other.exponent)
        self.counts += _rebinned(other.counts, self.exponent - other.exponent)
        self.zeros += other.zeros

    def widen(self, exponent: int) -> None:
        """Goes to bins of width 2**exponent, unless they are that wide already."""
        if exponent > self.exponent:
            self.counts = _rebinned(self.counts, exponent - self.exponent)
            self.exponent = exponent

    def edges(self) -> NDArray[np.float64]:
        """The BINS + 1 edges between bins."""
        return np.ldexp(np.arange(-(BINS // 2), BINS // 2 + 1, dtype=np.float64), self.exponent)

    def range(self) -> Range:
        return self.extremes.range()


class Percentile(Histogram):
    """The range that holds `percentile` percent of the values, as much cut off at each end; linear inside a bin."""

    def __init__(self, percentile: float) -> None:
        super().__init__()
        self.percentile = percentile

    def range(self) -> Range:
        seen = self.extremes.range()
        total = int(self.counts.sum())
        if not total:
            return seen
        below = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.float64)
        cut = total * (100.0 - self.percentile) / 200.0
        edges = self.edges()
        low, high = (float(_inverse(below, edges, rank)) for rank in (cut, total - cut))
        return Range(min(max(low, seen.low), seen.high), max(min(high, seen.high), seen.low))


class Searched(Histogram):
    """The range of the least cost, over equally spaced clip points at both ends, searched in turn.

    A bin counts at its centre; exact zeros do not count, since zero is always representable.
    """

    @abstractmethod
    def cost(self, centres: NDArray[np.float64], counts: NDArray[np.float64]) -> Cost:
        """The cost of ranges, for so many values at each centre (ascending; counts are not zero)."""

    def range(self) -> Range:
        seen = self.extremes.range()
        low, high = min(seen.low, 0.0), max(seen.high, 0.0)
        if low == high:
            return seen
        edges = self.edges()
        centres, counts = (edges[:-1] + edges[1:]) / 2, self.counts.astype(np.float64)
        counts[BINS // 2] -= self.zeros
        used = counts > 0
        cost = self.cost(np.clip(centres[used], low, high), counts[used])
        steps = [i / CANDIDATES for i in range(1, CANDIDATES + 1)]
        best = Range(low, high)
        for _ in range(2):
            best = min((Range(best.low, high * s) for s in steps), key=cost) if high > 0 else best
            best = min((Range(low * s, best.high) for s in steps), key=cost) if low < 0 else best
        return best


class LeastSquares(Searched):
    """The range whose 255 steps give the least mean squared error: clipping outside, step**2 / 12 inside (uniform
    rounding error).
    """

    def cost(self, centres: NDArray[np.float64], counts: NDArray[np.float64]) -> Cost:
        def error(chosen: Range) -> float:
            outside = np.maximum(centres - chosen.high, 0.0) + np.maximum(chosen.low - centres, 0.0)
            step = (chosen.high - chosen.low) / LEVELS
            return float((counts * np.where(outside > 0, outside**2, step**2 / 12)).sum())

        return error


class Entropy(Searched):
    """The range whose quantized histogram is nearest to the clipped one by the Kullback-Leibler divergence (Migacz,
    "8-bit Inference with TensorRT", 2017).

    The clipped histogram has what lies outside in its outermost bins; the quantized one has not, and spreads the counts
    of a level evenly over its bins. It is not scaled to the same sum, and the divergence is that of unequal sums
    (sum p log(p/q) - p + q): otherwise a range with all values but one bin outside would fit perfectly.
    """

    def cost(self, centres: NDArray[np.float64], counts: NDArray[np.float64]) -> Cost:
        def divergence(chosen: Range) -> float:
            first = int(np.searchsorted(centres, chosen.low, "left"))
            last = int(np.searchsorted(centres, chosen.high, "right"))
            if first == last:
                return math.inf
            clipped = counts[first:last].copy()
            level = np.rint((centres[first:last] - chosen.low) * (LEVELS / (chosen.high - chosen.low))).astype(np.int64)
            spread = (np.bincount(level, clipped) / np.maximum(np.bincount(level), 1))[level]
            outside = counts[:first].sum() + counts[last:].sum()
            clipped[0] += counts[:first].sum()
            clipped[-1] += counts[last:].sum()
            return float((clipped * np.log(clipped / spread)).sum() - outside)

        return divergence


Kind = TypeVar("Kind", bound=Statistic)


def _same_kind(wanted: Kind, other: Statistic) -> Kind:
    if not isinstance(other, type(wanted)):
        raise TypeError(f"a {type(other).__name__} cannot be merged into a {type(wanted).__name__}")
    return other


def exponent_for(low: float, high: float) -> int:
    """The smallest bin exponent whose grid holds every value of [low, high]."""
    bound = max(-low, np.nextafter(high, math.inf), 0.0)
    if not bound:
        return SMALLEST_EXPONENT
    mantissa, exponent = math.frexp(bound)
    return max(SMALLEST_EXPONENT, exponent - (mantissa == 0.5) - (BINS // 2).bit_length() + 1)


def _rebinned(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """The counts on a grid that is 2**doublings times as wide."""
    if doublings and not counts.any():
        return counts
    for _ in range(min(doublings, BINS.bit_length())):
        merged = counts.reshape(-1, 2).sum(1)
        counts = np.zeros(BINS, np.int64)
        counts[BINS // 4 : 3 * BINS // 4] = merged
    return counts


def _inverse(below: NDArray[np.float64], edges: NDArray[np.float64], rank: float) -> float:
    """The value below which `rank` values lie, from the cumulative counts at the edges."""
    right = int(np.searchsorted(below, rank, "left"))
    if right == 0:
        right = int(np.searchsorted(below, 0.0, "right"))
    inside = below[right] - below[right - 1]
    return float(edges[right - 1] + (edges[right] - edges[right - 1]) * (rank - below[right - 1]) / inside)


def not_finite(array: Array) -> NotFinite:
    """What to say of an array that holds NaN or infinities."""
    bad = int(array.size - np.isfinite(array).sum())
    return NotFinite(
        "a tensor is not finite during calibration",
        why=f"{bad} of {array.size} values are NaN or infinite",
        do="look for an overflow in the model or for broken calibration data; or leave the layer out with skip=",
    )


OBSERVERS: dict[str, Callable[[float], Observer]] = {
    "minmax": lambda _: MinMax(),
    "moving_average": lambda _: MovingAverage(),
    "percentile": Percentile,
    "entropy": lambda _: Entropy(),
    "mse": lambda _: LeastSquares(),
}
"""Observers by name; each is made from the percentile, which only the one of that name uses."""
