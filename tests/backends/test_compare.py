"""What counts as a difference."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from tersor.backends.compare import Comparison, compare, max_error

A = np.array([[1.0, -4.0, 2.0], [0.5, 3.0, 1.0]], np.float32)


def test_equal_arrays_differ_in_nothing() -> None:
    found = compare(A, A.copy())
    assert (found.max_error, found.max_abs, found.sqnr_db, found.mismatch) == (0, 0, math.inf, 0)
    assert found.cosine == pytest.approx(1)
    assert (found.argmax_agreement, found.count, found.reason) == (1, 6, "")


def test_the_measures_follow_their_definitions() -> None:
    b = A.copy()
    b[0, 1] += 0.5
    found = compare(A, b)
    assert found.max_abs == 0.5
    assert found.max_error == 0.5 / 4
    assert found.sqnr_db == pytest.approx(10 * math.log10(float((A**2).sum()) / 0.25))
    assert found.cosine == pytest.approx(float((A * b).sum() / np.linalg.norm(A) / np.linalg.norm(b)))
    assert found.mismatch == pytest.approx(1 / 6)


def test_argmax_agreement_counts_rows_along_the_last_axis() -> None:
    b = A.copy()
    b[1] = [9, 0, 0]
    assert compare(A, b).argmax_agreement == 0.5
    assert compare(A[:, :1], A[:, :1]).argmax_agreement is None


def test_a_comparison_in_parts_equals_one_of_the_whole() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.standard_normal((2, 10, 7))
    parts = Comparison()
    for i in range(0, 10, 3):
        parts.update(a[i : i + 3], b[i : i + 3])
    whole, found = compare(a, b), parts.difference()
    assert found.max_error == whole.max_error
    assert found.sqnr_db == pytest.approx(whole.sqnr_db)
    assert found.cosine == pytest.approx(whole.cosine)
    assert (found.argmax_agreement, found.count) == (whole.argmax_agreement, whole.count)


def test_nan_and_infinities_at_the_same_places_are_equal() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1.0])
    found = compare(a, a.copy())
    assert (found.max_error, found.mismatch, found.reason) == (0, 0, "")


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_nan_or_infinity_against_a_number_is_an_infinite_error(odd: float) -> None:
    for a, b in (([1.0, odd], [1.0, 2.0]), ([1.0, 2.0], [1.0, odd])):
        found = compare(np.array(a), np.array(b))
        assert (found.max_error, found.max_abs, found.sqnr_db) == (math.inf, math.inf, -math.inf)
        assert "NaN or infinity" in found.reason


def test_opposite_infinities_differ() -> None:
    assert compare(np.array([np.inf]), np.array([-np.inf])).max_error == math.inf


def test_another_shape_is_an_infinite_error_with_the_reason() -> None:
    found = compare(A, A.T)
    assert found.max_error == math.inf
    assert found.mismatch == 1
    assert found.reason == "shape [3, 2] instead of [2, 3]"


def test_integers_and_booleans_count_what_is_not_equal() -> None:
    assert compare(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])).mismatch == 0.25
    assert compare(np.array([True, False]), np.array([True, True])).mismatch == 0.5
    assert compare(np.array([True, False]), np.array([True, False])).max_error == 0


def test_strings_are_equal_or_not() -> None:
    found = compare(np.array(["a", "b"], object), np.array(["a", "c"], object))
    assert (found.mismatch, found.count) == (0.5, 2)


def test_strings_that_differ_have_no_numeric_error_to_hide_behind() -> None:
    assert compare(np.array(["a"], object), np.array(["b"], object)).max_error == math.inf


def test_nothing_differs_between_empty_arrays() -> None:
    found = compare(np.zeros((0, 4)), np.zeros((0, 4)))
    assert (found.max_error, found.count, found.cosine, found.argmax_agreement) == (0, 0, 1, None)


def test_a_reference_of_zeros_makes_any_error_infinite() -> None:
    assert compare(np.zeros(3), np.zeros(3)).max_error == 0
    assert compare(np.zeros(3), np.array([0, 0, 1e-9])).max_error == math.inf


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, np.uint64])
def test_narrow_and_wide_element_types_are_compared_in_double_precision(dtype: type) -> None:
    a = np.array([1, 2, 3], dtype)
    b = np.array([1, 2, 4], dtype)
    assert compare(a, b).max_abs == 1
    assert compare(a, a).argmax_agreement == 1


def test_complex_numbers_differ_by_their_distance() -> None:
    assert compare(np.array([3 + 4j]), np.array([0j])).max_abs == 5


def test_large_arrays_are_compared_in_parts() -> None:
    a = np.zeros(3_000_000, np.int8)
    b = a.copy()
    b[-1] = 1
    assert compare(a, b).mismatch == pytest.approx(1 / 3_000_000)


def test_sequences_and_maps_are_compared_part_by_part() -> None:
    assert compare([A, {"k": A}], [A, {"k": A}]).max_error == 0
    assert compare([A], [A, A]).max_error == math.inf
    assert compare({"a": A}, {"b": A}).reason == "another number of parts, or other keys"
    assert compare([A], [A + 1]).max_abs == 1


PAIRS = {
    "equal": (A, A),
    "floats": (A, A + np.float32(0.25)),
    "doubles": (A.astype(np.float64), A * 1.001),
    "other types": (A, A.astype(np.float64) + 1e-9),
    "half precision": (A.astype(np.float16), (A * 1.01).astype(np.float16)),
    "integers": (np.arange(5), np.arange(5) // 2),
    "zeros": (np.zeros(3, np.float32), np.zeros(3, np.float32)),
    "zero instead of something": (np.zeros(3, np.float32), np.ones(3, np.float32)),
    "infinite at the same place": (np.array([np.inf, 1, -2], "f4"), np.array([np.inf, 1, -2.5], "f4")),
    "infinite at one place": (np.array([np.inf, 1], "f4"), np.array([3, 1], "f4")),
    "no number at the same place": (np.array([np.nan, 1, 4], "f4"), np.array([np.nan, 2, 4], "f4")),
    "no number at one place": (np.array([1, 1], "f4"), np.array([1, np.nan], "f4")),
    "too far apart to subtract": (np.array([3e38, 1], "f4"), np.array([-3e38, 1], "f4")),
    "shapes": (A, A[:1]),
    "empty": (A[:0], A[:0]),
    "many": (np.arange(200_000, dtype=np.float32), np.arange(200_000, dtype=np.float32)[::-1]),
    "the last of many": (np.arange(200_000, dtype=np.float32), np.append(np.arange(199_999, dtype=np.float32), 0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_error_alone_is_that_of_the_comparison(name: str) -> None:
    a, b = PAIRS[name]
    assert max_error(a, b) == pytest.approx(compare(a, b).max_error, rel=1e-6)
