"""Scales and zero points: activations u8 asymmetric per tensor, weights i8 symmetric per channel, biases int32.

A real number r stands for the integer round(r / scale) + zero_point, saturated (ONNX QuantizeLinear); zero is always
exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Dense, DType, Tensor
from ...ir.tensors.base import BLOCK_BYTES
from ...ir.tensors.lazy import quantize
from .observers import Range

ACTIVATION_MAX = 255
WEIGHT_MAX = 127
REDUCED_WEIGHT_MAX = 63
"""Largest weight with `reduce_range`: without VNNI a pair of u8 * i8 products is summed in 16 bits, where 2 * 255 *
127 saturates."""

BIAS_MAX = 2**30
"""Largest |bias| in int32; the other half of the range is left for the sum of products (255 * 127 * 33000 < 2**30)."""

PER_CHANNEL_OPSET = 13
"""The first ai.onnx with a scale per channel: at older ones the weights would be restored by float arithmetic, which no
runtime takes for integers."""

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Scales are never subnormal: their reciprocals and products would overflow or lose digits."""


@dataclass(frozen=True)
class Affine:
    """How a tensor is quantized: `scale` f32 and `zero_point` i8, u8 or i32, both scalars, or vectors along `axis`.

    One that `keeps` its integers computes them once and holds them in memory, else they are computed where they are
    read.
    """

    scale: NDArray[np.float32]
    zero_point: Array
    axis: int = 0
    keeps: bool = False
    _kept: dict[Tensor, Tensor] = field(default_factory=dict[Tensor, Tensor], init=False, repr=False, compare=False)

    @property
    def dtype(self) -> DType:
        return DType.of_numpy(self.zero_point.dtype)

    def apply(self, x: Tensor) -> Tensor:
        """The tensor quantized."""
        if x in self._kept:
            return self._kept[x]
        made = quantize(x, Dense(self.scale), Dense(self.zero_point), self.axis)
        if self.keeps:
            made = self._kept[x] = Dense(made.numpy())
        return made


def activation(seen: Range, limit: Range | None = None) -> Affine:
    """u8 with a range that holds zero and `seen`; a range of one point becomes [0, 1].

    `limit` is the interval that a Relu or Clip in front leaves: no code may stand for a number outside it, since only
    then does the runtime see that the Clip does nothing and drop it.
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if limit is not None:
        low, high = max(low, limit.low), min(high, limit.high)
    step = (high - low) / ACTIVATION_MAX
    if step < SMALLEST_SCALE:
        return _u8(1.0 / ACTIVATION_MAX, 0)
    zero = round(-low / step)
    if limit is not None:
        bounds = [limit.high / (ACTIVATION_MAX - zero)] if zero < ACTIVATION_MAX else []
        bounds += [-limit.low / zero] if zero else []
        step = min([step, *(_below(b) for b in bounds if math.isfinite(b))])
    return _u8(step, zero)


def signed(seen: Range) -> Affine:
    """i8 without a zero point that covers `seen`; a range of one point becomes [-1, 1]."""
    step = max(-seen.low, seen.high, 0.0) / WEIGHT_MAX
    return Affine(np.asarray(step if step >= SMALLEST_SCALE else 1.0 / WEIGHT_MAX, np.float32), np.asarray(0, np.int8))


def _u8(scale: float, zero: int) -> Affine:
    return Affine(np.asarray(scale, np.float32), np.asarray(zero, np.uint8))


def _below(scale: float) -> float:
    """The float32 just below `scale`: 255 times it must not round up past the limit."""
    return float(np.nextafter(np.float32(scale), np.float32(0)))


def weight(
    amplitude: NDArray[np.float64],
    axis: int,
    input_scale: float,
    bias: NDArray[np.float64] | None,
    largest: int = WEIGHT_MAX,
) -> Affine:
    """i8 symmetric; `amplitude` is max|w|, a scalar or one per output channel along `axis`, `bias` one number per
    channel.

    A channel whose bias would not fit int32 in units of input_scale * scale (a pruned channel with tiny weights, say)
    gets a larger scale: it loses resolution that its bias makes irrelevant. A channel of zeros without a bias gets
    the scale 1.
    """
    scale = amplitude / largest
    if bias is not None:
        needed = np.abs(bias) / (input_scale * BIAS_MAX)
        scale = np.maximum(scale, needed if amplitude.ndim else needed.max(initial=0.0))
    smallest = max(SMALLEST_SCALE, SMALLEST_SCALE / input_scale)
    scale = np.where(scale > 0, np.maximum(scale, smallest), 1.0).astype(np.float32)
    return Affine(scale, np.zeros(scale.shape, np.int8), axis)


def bias(input: Affine, weights: Affine, channels: int) -> Affine:
    """int32 with the scale input * weight, rounded as the runtime does (float32); it must be exactly that to be
    fused."""
    scale = np.broadcast_to(input.scale * weights.scale, (channels,)).astype(np.float32)
    return Affine(scale, np.zeros(channels, np.int32))


def amplitude(tensor: Tensor, axis: int | None) -> NDArray[np.float64]:
    """max|x| per entry of `axis`, or over the whole tensor (a scalar); read row by row."""
    rows = tensor.shape[0]
    step = max(1, BLOCK_BYTES // max(1, tensor.nbytes // max(1, rows)))
    others = tuple(a for a in range(tensor.rank) if a != axis)
    parts = [
        np.abs(tensor.rows(start, min(rows, start + step)).astype(np.float64)).max(others, initial=0.0)
        for start in range(0, rows, step)
    ]
    if axis == 0:
        return np.concatenate(parts)
    return np.asarray(np.max(np.stack(parts), 0), np.float64)
