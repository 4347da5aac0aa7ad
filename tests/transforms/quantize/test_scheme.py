"""Scales and zero points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tersor.ir import Dense, Lazy
from tersor.ir.tensors.lazy import transpose
from tersor.transforms.quantize import scheme
from tersor.transforms.quantize.observers import Range

bounds = st.floats(-(2.0**100), 2.0**100, width=32)
RELU, RELU6, HARDTANH = Range(0.0, math.inf), Range(0.0, 6.0), Range(-1.0, 1.0)


def representable(affine: scheme.Affine) -> tuple[np.float32, np.float32]:
    """The numbers that the codes 0 and 255 stand for, in float32 as the runtime computes them."""
    zero = np.float32(affine.zero_point)
    return (np.float32(0) - zero) * affine.scale, (np.float32(255) - zero) * affine.scale


@given(bounds, bounds)
def test_an_activation_covers_its_range_and_zero_up_to_one_step(a: float, b: float):
    affine = scheme.activation(Range(min(a, b), max(a, b)))
    low, high = representable(affine)
    step = float(affine.scale) * 1.001
    assert low <= 0 <= high
    assert low - step <= min(a, b)
    assert max(a, b) <= high + step


def test_a_range_of_positive_numbers_starts_at_zero():
    affine = scheme.activation(Range(2.0, 5.1))
    assert int(affine.zero_point) == 0
    assert float(affine.scale) == pytest.approx(5.1 / 255)


def test_an_activation_that_is_always_zero_has_a_usable_scale():
    affine = scheme.activation(Range(0.0, 0.0))
    assert float(affine.scale) > 0
    assert int(affine.zero_point) == 0


@pytest.mark.parametrize("limit", [RELU, RELU6, HARDTANH])
@given(bounds, bounds)
def test_no_code_stands_for_a_number_outside_the_limit_of_a_clip(limit: Range, a: float, b: float):
    seen = Range(max(min(a, b), limit.low), min(max(a, b), limit.high))
    low, high = representable(scheme.activation(seen, limit))
    assert limit.low <= low
    assert high <= limit.high


def test_weights_of_a_channel_use_all_of_plus_and_minus_127():
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    affine = scheme.weight(scheme.amplitude(Dense(weight), 0), 0, 1.0, None)
    integers = affine.apply(Dense(weight)).numpy()
    assert integers.dtype == np.int8
    assert (np.abs(integers.astype(int)).max((1, 2, 3)) == 127).all()
    error = integers * affine.scale[:, None, None, None] - weight
    assert (np.abs(error).max((1, 2, 3)) <= affine.scale / 2 * 1.001).all()


def test_reduced_range_keeps_weights_within_seven_bits():
    weight = Dense(np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32))
    affine = scheme.weight(scheme.amplitude(weight, 0), 0, 1.0, None, scheme.REDUCED_WEIGHT_MAX)
    assert np.abs(affine.apply(weight).numpy().astype(int)).max() == 63


def test_a_bias_that_would_overflow_int32_enlarges_the_scale_of_its_channel_alone():
    weight = np.array([[1e-9, -1e-9], [1.0, -1.0]], np.float32)
    bias = np.array([100.0, 0.5])
    affine = scheme.weight(scheme.amplitude(Dense(weight), 0), 0, 0.01, bias)
    assert affine.scale[1] == np.float32(1 / 127)
    integers = bias / (0.01 * affine.scale.astype(np.float64))
    assert (np.abs(integers) <= scheme.BIAS_MAX * 1.000001).all()
    stored = scheme.bias(scheme.activation(Range(0, 2.55)), affine, 2).apply(Dense(bias.astype(np.float32))).numpy()
    assert stored.astype(np.float64)[0] * 0.01 * float(affine.scale[0]) == pytest.approx(100.0, rel=1e-6)


def test_a_channel_of_zeros_keeps_its_bias():
    affine = scheme.weight(np.array([0.0, 0.0]), 0, 0.1, np.array([3.0, 0.0]))
    assert (affine.scale > 0).all()
    stored = scheme.bias(scheme.activation(Range(0, 25.5)), affine, 2).apply(Dense(np.array([3.0, 0.0], np.float32)))
    assert stored.numpy()[0] * 0.1 * float(affine.scale[0]) == pytest.approx(3.0, rel=1e-6)


@given(st.floats(2.0**-126, 2.0**60, width=32), st.floats(0, 2.0**60, width=32))
def test_the_scale_of_a_bias_is_never_zero_or_infinite(input_scale: float, amplitude: float):
    affine = scheme.weight(np.array([amplitude]), 0, input_scale, np.array([1.0]))
    scale = scheme.bias(scheme.Affine(np.float32(input_scale), np.uint8(0)), affine, 1).scale
    assert np.isfinite(affine.scale).all()
    assert (scale > 0).all()


def test_the_scale_of_a_bias_is_exactly_that_of_input_times_weight():
    affine = scheme.activation(Range(-1.0, 2.0))
    weights = scheme.weight(np.array([0.3, 0.7, 1.1]), 0, float(affine.scale), None)
    assert (scheme.bias(affine, weights, 3).scale == affine.scale * weights.scale).all()


@pytest.mark.parametrize("axis", [0, 1, None])
def test_amplitudes_are_read_in_blocks_of_rows(axis: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheme, "BLOCK_BYTES", 100)
    array = np.random.default_rng(1).standard_normal((13, 7)).astype(np.float32)
    asked: list[int] = []

    class Watched(Dense):
        def rows(self, start: int, stop: int) -> np.ndarray:
            asked.append(stop - start)
            return super().rows(start, stop)

    others = None if axis is None else 1 - axis
    assert (scheme.amplitude(Watched(array), axis) == np.abs(array).max(others)).all()
    assert max(asked) == 3


def test_quantized_weights_stay_lazy_until_they_are_written():
    weight = transpose(Dense(np.ones((4, 6), np.float32)), [1, 0])
    quantized = scheme.weight(scheme.amplitude(weight, 1), 1, 1.0, None).apply(weight)
    assert isinstance(quantized, Lazy)
    assert (quantized.rows(2, 4) == 127).all()
