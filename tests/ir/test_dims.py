"""Symbolic sizes: exact polynomial arithmetic, canonical forms, honest ranges, and text that reads back."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tersor.ir.dims import (
    Dim,
    Size,
    at_least,
    bounds,
    exact_div,
    floordiv,
    free_symbols,
    fresh,
    is_known,
    known_product,
    maximum,
    minimum,
    mod,
    parse,
    product,
    substitute,
    symbol,
    symbols_of,
    to_text,
)

B, S, H = symbol("B"), symbol("S"), symbol("H")
NAMES = {"B": B, "S": S, "H": H}


def read(text: str) -> Size:
    return parse(text, lambda name: NAMES.get(name) or symbol(name))


# Arithmetic


def test_equal_expressions_are_one_object() -> None:
    assert (B + S) * 2 is S * 2 + 2 * B
    assert B * S * H is H * (S * B)


def test_arithmetic_gives_an_int_as_soon_as_no_symbol_is_left() -> None:
    assert B + 3 - B == 3
    assert B * 0 == 0
    assert isinstance(B - B, int)


def test_a_fresh_symbol_equals_nothing_but_itself() -> None:
    a, b = fresh(), fresh()
    assert a != b
    assert a - a == 0
    assert copy.deepcopy(a) is a


def test_symbols_with_the_same_name_and_range_are_one() -> None:
    assert symbol("N", 1, 8) is symbol("N", 1, 8)
    assert symbol("N", 1, 8) is not symbol("N")


def test_a_size_says_whether_a_fresh_symbol_is_part_of_it() -> None:
    a = fresh()
    assert isinstance(a, Dim)
    assert a.has_fresh
    assert (a * B + 1).has_fresh  # type: ignore[union-attr]
    assert floordiv(a + 1, 2).has_fresh  # type: ignore[union-attr]
    assert not B.has_fresh


def test_division_is_exact_where_every_term_divides() -> None:
    assert exact_div(B * 197 * 768, 768) is B * 197
    assert exact_div(B * S * 64, S * 16) is B * 4
    assert exact_div(B * 4 + 2, 4) is None
    assert exact_div(B + S, B) is None
    assert exact_div(0, B) == 0
    assert exact_div(7, 2) is None
    assert exact_div(B, 0) is None


def test_floor_division_takes_whole_multiples_out() -> None:
    assert floordiv(B * 4 + 5, 2) is B * 2 + 2
    assert floordiv(S - 1, 2) + 1 is floordiv(S + 1, 2)
    assert str(floordiv(S + 3, 2)) == "((S+1)//(2))+1"


def test_nested_floor_divisions_are_joined() -> None:
    assert floordiv(floordiv(S, 2), 3) is floordiv(S, 6)
    assert floordiv(floordiv(S + 1, 2) + 1, 2) is floordiv(S + 3, 4)


def test_whole_multiples_vanish_from_a_remainder() -> None:
    assert mod(B * 4 + 6, 4) == 2
    assert mod(B, 1) == 0
    assert mod(S * B, S) == 0


def test_maximum_and_minimum_are_decided_by_ranges() -> None:
    big = symbol("N", 16, 64)
    assert maximum(big, 8) is big
    assert minimum(big, 100) is big
    assert minimum(big, 8) == 8
    assert maximum(B, S) is maximum(S, B)
    assert maximum(maximum(3, B), maximum(8, B)) is maximum(B, 8)
    assert minimum(minimum(S, B), minimum(H, B)) is minimum(H, minimum(B, S))
    assert isinstance(maximum(B, S), Dim)


def test_products_of_sizes() -> None:
    assert product([B, 3, 4]) is B * 12
    assert product([]) == 1
    assert known_product([2, 3]) == 6
    assert is_known([1, 2])
    assert not is_known([1, B])
    with pytest.raises(ValueError, match="symbolic"):
        known_product([2, B])


# Ranges


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (B, (0, None)),
        (symbol("N", 2, 8), (2, 8)),
        (symbol("N", 2, 8) * 3 - 1, (5, 23)),
        (5 - symbol("N", 2, 8), (-3, 3)),
        (floordiv(symbol("N", 2, 9), 2), (1, 4)),
        (mod(symbol("N", 2, 9), 4), (0, 3)),
        (floordiv(B, S), (0, None)),
        (floordiv(B - 5, S), (None, None)),
        (mod(B, S - 5), (None, None)),
        (maximum(B, 3), (3, None)),
        (minimum(B, 3), (0, 3)),
    ],
)
def test_ranges_follow_from_those_of_the_symbols(size: Size, expected: tuple[int | None, int | None]) -> None:
    assert bounds(size) == expected


def test_at_least_holds_for_every_value_of_the_symbols() -> None:
    assert at_least(B + 1, B)
    assert at_least(B, 0)
    assert not at_least(B, 1)
    assert at_least(symbol("N", 2), 2)


# Text


@pytest.mark.parametrize(
    "name", ["None", "True", "for", "a b", "é", "max", "x?y", 'say "hi"', "back\\", "", "__fresh1", "😀", "?"]
)
def test_any_name_of_a_symbol_reads_back(name: str) -> None:
    size = (symbol(name) + 3) * B
    assert read(to_text(size)) is size
    assert read(to_text(floordiv(size, 7))) is floordiv(size, 7)


@pytest.mark.parametrize(
    "text", ["", "B+", "B//0", "B%0", "True", "f(B)", "B.x", "1.5", "[B]", "5//0", "B**2", "lambda: 1"]
)
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        read(text)


def test_symbols_are_listed_by_name() -> None:
    assert list(symbols_of([floordiv(S * B + 1, 3), H])) == ["B", "H", "S"]


def test_a_size_survives_pickling() -> None:
    size = floordiv(symbol("N", 1, 9) * 3 + 1, 2)
    assert pickle.loads(pickle.dumps(size)) is size


# Properties

OPERATIONS: dict[str, tuple[Callable[[Size, Size], Size], Callable[[int, int], int]]] = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "max": (maximum, max),
    "min": (minimum, min),
    "//": (floordiv, lambda a, b: a // b),
    "%": (mod, lambda a, b: a % b),
}

Expression = tuple[Size, Callable[[dict[str, int]], int]]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> Expression:
    """A size, and the function of the symbols' values that it should be."""
    if depth == 0 or draw(st.booleans()):
        if draw(st.booleans()):
            number = draw(st.integers(-6, 12))
            return number, lambda _: number
        name = draw(st.sampled_from(sorted(NAMES)))
        return NAMES[name], lambda values: values[name]
    operation = draw(st.sampled_from(sorted(OPERATIONS)))
    symbolic, plain = OPERATIONS[operation]
    left, left_value = draw(expressions(depth - 1))
    if operation in ("//", "%"):
        divisor = draw(st.integers(1, 7))
        return symbolic(left, divisor), lambda values: plain(left_value(values), divisor)
    right, right_value = draw(expressions(depth - 1))
    return symbolic(left, right), lambda values: plain(left_value(values), right_value(values))


ASSIGNMENTS = st.fixed_dictionaries({name: st.integers(0, 20) for name in NAMES})


def evaluate(size: Size, values: dict[str, int]) -> Size:
    return substitute(size, {s: values[s.name] for s in free_symbols(size)})


@given(expressions(), ASSIGNMENTS)
def test_evaluating_commutes_with_arithmetic(expression: Expression, values: dict[str, int]) -> None:
    size, expected = expression
    assert evaluate(size, values) == expected(values)


@given(expressions(), ASSIGNMENTS)
def test_values_lie_in_the_range(expression: Expression, values: dict[str, int]) -> None:
    size, expected = expression
    low, high = bounds(size)
    assert (-math.inf if low is None else low) <= expected(values) <= (math.inf if high is None else high)


@given(expressions(), expressions(), ASSIGNMENTS)
def test_an_exact_quotient_times_the_divisor_is_the_dividend(
    a: Expression, b: Expression, values: dict[str, int]
) -> None:
    quotient = exact_div(a[0] * b[0], b[0])
    if quotient is not None and b[1](values):
        assert evaluate(quotient, values) == a[1](values)


@given(expressions())
def test_text_reads_back_as_the_same_object(expression: Expression) -> None:
    again = read(to_text(expression[0]))
    assert again is expression[0] or again == expression[0]
