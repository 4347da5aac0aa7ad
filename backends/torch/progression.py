"""Texts that differ in numbers which grow evenly, as one text in `i`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")


def progression(values: Sequence[str], start: int) -> str | None:
    """One expression in `i = start, start + 1, ...` for all values, which may differ in numbers that grow evenly."""
    texts = {NUMBER.sub("\0", v) for v in values}
    if len(texts) != 1:
        return None
    pieces = texts.pop().split("\0")
    columns = zip(*[[int(n) for n in NUMBER.findall(v)] for v in values], strict=True)
    shown: list[str] = []
    for column in columns:
        step = column[1] - column[0]
        if any(b - a != step for a, b in pairwise(column)):
            return None
        shown.append(linear(column[0] - step * start, step) if step else str(column[0]))
    return "".join(a + b for a, b in zip(pieces, [*shown, ""], strict=True))


def linear(base: int, step: int) -> str:
    """`base + step * i`, as short as it gets."""
    term = "i" if step == 1 else f"{step} * i"
    return f"{base} + {term}" if base > 0 else term if base == 0 else f"{term} - {-base}"


def numbered_names(names: Sequence[str]) -> tuple[str, int] | None:
    """The stem and the first number of names such as layer1, layer2, layer3."""
    found = re.fullmatch(r"(\D\w*?)(\d+)", names[0]) if names else None
    if found is None:
        return None
    stem, first = found.group(1), int(found.group(2))
    return (stem, first) if [f"{stem}{first + i}" for i in range(len(names))] == list(names) else None


def span(first: int, count: int) -> str:
    return f"range({count})" if first == 0 else f"range({first}, {first + count})"
