"""Observers: what they have seen does not depend on order, batching, merging or the width of the grid they started
with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tersor.transforms.quantize.observers import (
    BINS,
    OBSERVERS,
    Histogram,
    LeastSquares,
    MinMax,
    NotFinite,
    Percentile,
    Range,
    exponent_for,
)

floats = st.floats(-1e6, 1e6, width=32)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
batches = st.lists(st.lists(floats, max_size=20), max_size=8)


def arrays(values: list[list[float]]) -> list[np.ndarray]:
    return [np.array(v, np.float32) for v in values]


def watched(kind: str, parts: list[np.ndarray], percentile: float = 99.0):
    observer = OBSERVERS[kind](percentile)
    for part in parts:
        observer.update(part)
    return observer


@pytest.mark.parametrize("kind", OBSERVERS)
@settings(max_examples=30, deadline=None)
@given(batches)
def test_the_range_does_not_depend_on_the_order_of_the_samples(kind: str, values: list[list[float]]):
    parts = arrays(values)
    assert watched(kind, parts).range() == watched(kind, parts[::-1]).range()


@pytest.mark.parametrize("kind", [k for k in OBSERVERS if k != "moving_average"])
@settings(max_examples=30, deadline=None)
@given(batches)
def test_the_range_does_not_depend_on_batching(kind: str, values: list[list[float]]):
    parts = arrays(values)
    whole = np.concatenate([np.zeros(0, np.float32), *parts])
    assert watched(kind, parts).range() == watched(kind, [whole]).range()


@pytest.mark.parametrize("kind", OBSERVERS)
@settings(max_examples=30, deadline=None)
@given(batches, batches)
def test_merging_equals_having_seen_both(kind: str, left: list[list[float]], right: list[list[float]]):
    a, b = watched(kind, arrays(left)), watched(kind, arrays(right))
    a.merge(b)
    assert a.range() == watched(kind, arrays(left + right)).range()


@pytest.mark.parametrize("kind", OBSERVERS)
@settings(max_examples=20, deadline=None)
@given(batches, batches, batches)
def test_merging_is_associative(kind: str, a: list[list[float]], b: list[list[float]], c: list[list[float]]):
    left, middle, right = (watched(kind, arrays(v)) for v in (a, b, c))
    left.merge(middle)
    left.merge(right)
    first, second, third = (watched(kind, arrays(v)) for v in (a, b, c))
    second.merge(third)
    first.merge(second)
    assert left.range() == first.range()


@given(st.lists(floats, min_size=1, max_size=50), st.integers(1, 40))
@example([4096.0, -1e-45], 1)
def test_rebinning_gives_the_counts_of_the_wide_grid(values: list[float], doublings: int):
    array = np.array(values, np.float32)
    narrow = Histogram()
    narrow.update(array)
    wide = narrow.exponent + doublings
    expected = np.zeros(BINS, np.int64)
    np.add.at(expected, np.floor(np.ldexp(array.astype(np.float64), -wide)).astype(np.int64) + BINS // 2, 1)
    narrow.widen(wide)
    assert (narrow.counts == expected).all()


@given(finite, finite)
def test_the_grid_holds_its_values_and_is_the_narrowest_that_does(a: float, b: float):
    low, high = min(a, b), max(a, b)
    exponent = exponent_for(low, high)
    half = BINS // 2

    def fits(e: int) -> bool:
        return bool(-half <= np.floor(np.ldexp(low, -e)) and np.floor(np.ldexp(high, -e)) < half)

    assert fits(exponent)
    assert exponent == -120 or not fits(exponent - 1) or max(-low, high) <= 0


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=200), st.sampled_from([90.0, 99.0, 99.99]))
@settings(deadline=None)
def test_a_percentile_is_that_of_the_sorted_values_up_to_one_bin(values: list[float], percentile: float):
    array = np.sort(np.array(values, np.float32)).astype(np.float64)
    observer = watched("percentile", [array.astype(np.float32)], percentile)
    assert isinstance(observer, Percentile)
    found, width = observer.range(), 2.0**observer.exponent
    cut = len(array) * (100 - percentile) / 200
    low = array[min(int(np.ceil(cut)), len(array)) - 1] if cut > 0 else array[0]
    high = array[max(int(np.ceil(len(array) - cut)), 1) - 1]
    assert abs(found.low - low) <= width
    assert abs(found.high - high) <= width


def test_a_percentile_of_a_hundred_is_the_minimum_and_maximum():
    array = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert watched("percentile", [array], 100.0).range() == watched("minmax", [array]).range()


def test_a_percentile_cuts_a_lone_outlier_off():
    array = np.append(np.random.default_rng(0).standard_normal(100_000), 1000.0).astype(np.float32)
    assert watched("percentile", [array], 99.9).range().high < 5


def test_least_squares_clips_an_outlier_and_keeps_a_uniform_range():
    generator = np.random.default_rng(0)
    uniform = generator.uniform(-1, 1, 100_000).astype(np.float32)
    assert watched("mse", [uniform]).range() == watched("minmax", [uniform]).range()
    outlier = np.append(generator.standard_normal(100_000), 100.0).astype(np.float32)
    assert watched("mse", [outlier]).range().high < 90


def test_least_squares_has_less_error_than_the_full_range():
    array = np.random.default_rng(1).laplace(size=100_000).astype(np.float32)
    errors: list[float] = []
    for observer in (MinMax(), LeastSquares()):
        observer.update(array)
        found = observer.range()
        step = (found.high - found.low) / 255
        rounded = np.clip(np.rint(array / step), np.rint(found.low / step), np.rint(found.high / step)) * step
        errors.append(float(np.square(rounded - array).mean()))
    assert errors[1] < errors[0]


def test_the_moving_average_is_the_mean_of_the_extremes_of_batches():
    parts = [np.array(v, np.float32) for v in ([-1.0, 3.0], [-2.0, 5.0, 0.0], [0.5, 1.0])]
    assert watched("moving_average", parts).range() == Range(-2.5 / 3, 3.0)


def test_entropy_clips_a_thin_tail_and_keeps_a_uniform_range():
    generator = np.random.default_rng(0)
    uniform = generator.uniform(-1, 1, 100_000).astype(np.float32)
    found = watched("entropy", [uniform]).range()
    assert found.high > 0.95
    assert found.low < -0.95
    outlier = np.append(generator.standard_normal(100_000), 100.0).astype(np.float32)
    assert watched("entropy", [outlier]).range().high < 20


def test_entropy_does_not_collapse_onto_one_of_few_distinct_values():
    values = np.tile(np.array([1.0, 3.0], np.float32), 500)
    assert watched("entropy", [values]).range() == Range(0.0, 3.0)


@pytest.mark.parametrize("kind", ["mse", "entropy"])
def test_exact_zeros_do_not_draw_a_searched_range_towards_zero(kind: str):
    half = np.random.default_rng(2).uniform(0, 1, 10_000).astype(np.float32)
    mostly_zero = np.concatenate([half, np.zeros(1_000_000, np.float32)])
    assert watched(kind, [mostly_zero]).range() == watched(kind, [half]).range()


@pytest.mark.parametrize("kind", OBSERVERS)
def test_shapes_may_vary_and_memory_does_not_grow(kind: str):
    observer = OBSERVERS[kind](99.0)
    for size in range(1, 30):
        observer.update(np.ones((1, size, 3), np.float32) * size)
    sizes = [v.nbytes for v in vars(observer).values() if isinstance(v, np.ndarray)]
    assert sum(sizes) <= 8 * BINS
    assert observer.range().high >= 15


@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(kind: str, bad: float):
    with pytest.raises(NotFinite, match="not finite"):
        OBSERVERS[kind](99.0).update(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize("kind", OBSERVERS)
def test_nothing_and_zeros_have_the_range_zero(kind: str):
    assert watched(kind, []).range() == Range(0.0, 0.0)
    assert watched(kind, [np.zeros(0, np.float32)]).range() == Range(0.0, 0.0)
    assert watched(kind, [np.zeros(5, np.float32)]).range() == Range(0.0, 0.0)
