"""Work in portions of bounded memory: what measures or compares every layer of a model must fit beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PORTION_BYTES = 1 << 29
"""A portion's arrays take about this much."""


def portions(items: Iterable[T], nbytes: Callable[[T], int], limit: int = PORTION_BYTES) -> Iterator[list[T]]:
    """The items in order, in lists that end with the item that brings the sum of their `nbytes` above `limit`."""
    portion: list[T] = []
    total = 0
    for item in items:
        total += nbytes(item)
        portion.append(item)
        if total > limit:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion
