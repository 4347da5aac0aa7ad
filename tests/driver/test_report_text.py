"""How the report writes numbers."""

import pytest
from tersor.driver.report import text

SPACE = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (text.size, 0, "0 B"),
        (text.size, 512, "512 B"),
        (text.size, 9_812, "9.81 kB"),
        (text.size, 999_499, "999 kB"),
        (text.size, 999_500, "1.00 MB"),
        (text.size, 44_600_000, "44.6 MB"),
        (text.compact, 842, "842"),
        (text.compact, 999.6, "1.00 k"),
        (text.compact, 1_820_000_000, "1.82 G"),
        (text.count, 11_689_512, "11,689,512"),
        (text.count, -5, "−5"),
        (text.milliseconds, 12.41, "12.4 ms"),
        (text.milliseconds, 0.4123, "0.412 ms"),
        (text.milliseconds, 0.00831, "8.31 µs"),
        (text.milliseconds, 1234.5, "1,230 ms"),
        (text.milliseconds, 0.0, "0 ms"),
        (text.seconds, 0.3123, "0.31 s"),
        (text.ratio, 0.4515, "0.45×"),
        (text.ratio, 0.0831, "0.083×"),
        (text.ratio, 12.0, "12.00×"),
        (text.decimal, 0.98333, "0.9833"),
        (text.decimal, 76.13, "76.13"),
        (text.decimal, -0.25, "−0.2500"),
        (text.scientific, 2.14e-6, "2.1e-6"),
        (text.scientific, 0.0312, "0.031"),
        (text.scientific, 0.0, "0"),
        (text.decibels, 38.24, "38.2 dB"),
    ],
)
def test_numbers_have_few_digits_and_fitting_units(write, value, expected):
    assert write(value).replace(SPACE, " ") == expected


@pytest.mark.parametrize(
    "write",
    [text.size, text.compact, text.count, text.milliseconds, text.seconds, text.ratio, text.decimal, text.scientific],
)
def test_an_absent_number_is_a_dash(write):
    assert write(None) == "–"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (100, 22, "−78 %"),
        (100, 104.2, "+4.2 %"),
        (1000, 3, "−99.7 %"),
        (3, 3, "±0 %"),
        (0, 3, "–"),
        (None, 3, "–"),
        (3, None, "–"),
    ],
)
def test_a_change_is_signed_percent_where_there_is_a_proportion(before, after, expected):
    assert text.change(before, after).replace(SPACE, " ") == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.44, 0.46, "[0.440, 0.460]"),
        (0.98, 1.02, "[0.98, 1.02]"),
        (12.40001, 12.40002, "[12.40001, 12.40002]"),
        (-1.5, 2.5, "[−1.50, 2.50]"),
        (0.0, 0.0, "[0, 0]"),
        (1200.4, 1300.2, "[1,200, 1,300]"),
        (None, 1.0, ""),
    ],
)
def test_an_interval_has_the_decimals_that_tell_its_ends_apart(low, high, expected):
    assert text.interval(low, high) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.6, "x", "0.60×"),
        (25_000_000, "B", "25.0 MB"),
        (12.0, "ms", "12.0 ms"),
        (0.5, "%", "0.5 %"),
        (76.25, "", "76.25"),
        (None, "x", "–"),
    ],
)
def test_a_goal_s_quantities_are_written_in_their_unit(value, unit, expected):
    assert text.quantity(value, unit).replace(SPACE, " ") == expected
