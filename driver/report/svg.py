"""Inline SVG pieces: bars, whiskers and dots.

They use percentages of the width instead of a view box, so that lines and dots keep their shape at any width. The
numbers stand beside them as text; the drawings are hidden from screen readers. Colours come from the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .markup import Child, Markup, element, joined


def bar(
    value: float, scale: float, *, before: float | None = None, low: float | None = None, high: float | None = None
) -> Markup:
    """A bar from zero to `value` where `scale` is the full width.

    `before` is the previous step's value: what was removed is drawn pale after the bar, what was added is drawn in the
    colour of growth at its end. [low, high] is the whisker.
    """
    at = _axis(0, scale)
    parts: list[Child] = [_rect(0, 100, "track")]
    if before is not None and before > value:
        parts.append(_rect(at(value), at(before), "removed"))
    parts.append(_rect(0, at(value), "remaining"))
    if before is not None and before < value:
        parts.append(_rect(at(before), at(value), "grown"))
    if low is not None and high is not None:
        parts.append(_whisker(at(low), at(high)))
    return _svg(parts, 14)


def dot(value: float, start: float, end: float, *, low: float | None = None, high: float | None = None) -> Markup:
    """A dot at `value` on an axis from `start` to `end` that need not begin at zero, with its whisker."""
    at = _axis(start, end)
    parts: list[Child] = [element("line", x1="0%", x2="100%", y1=7, y2=7, class_="axis")]
    if low is not None and high is not None:
        parts.append(_whisker(at(low), at(high)))
    parts.append(element("circle", cx=_percent(at(value)), cy=7, r=4.5, class_="point"))
    return _svg(parts, 14)


def pair(before: float, after: float, scale: float) -> Markup:
    """A thin bar for a table cell: `after` solid over `before` pale, `scale` the full width."""
    at = _axis(0, scale)
    kept = min(before, after)
    parts = [_rect(0, 100, "track"), _rect(0, at(before), "removed"), _rect(0, at(kept), "remaining")]
    if after > before:
        parts.append(_rect(at(before), at(after), "grown"))
    return _svg(parts, 5)


def meter(fraction: float) -> Markup:
    """What remains of a whole: 0.22 fills 22 % of the width; more than the whole fills it in the colour of growth."""
    kind = "remaining" if fraction <= 1 else "grown"
    return _svg([_rect(0, 100, "removed"), _rect(0, min(fraction, 1) * 100, kind)], 5)


def histogram(counts: Sequence[int], start: float, end: float, low: float, high: float) -> Markup:
    """Counts on equal bins from `start` to `end`, as logarithms, so that rare values are seen beside common ones; what
    lies outside [low, high], and is clipped, is drawn in the colour of growth, with a line at either clip point.
    """
    at, width = _axis(start, end), (end - start) / max(1, len(counts))
    top = math.log1p(max(counts, default=0)) or 1.0
    parts: list[Child] = [_rect(0, 100, "track")]
    for place, count in enumerate(counts):
        left = start + place * width
        inside = low <= left + width / 2 <= high
        height = 100 * math.log1p(count) / top
        parts.append(
            element(
                "rect",
                x=_percent(at(left)),
                width=_percent(100 / len(counts) * 0.9),
                y=_percent(100 - height),
                height=_percent(height),
                class_="remaining" if inside else "grown",
            )
        )
    for edge in (low, high):
        if start < edge < end:
            parts.append(element("line", x1=_percent(at(edge)), x2=_percent(at(edge)), y1=0, y2="100%", class_="clip"))
    return _svg(parts, 90)


def mark(met: bool | None) -> Markup:
    """A round sign: a check, a cross, or a dash for what is not known."""
    shape = {True: "M7.5 12.5l3 3 6-7", False: "M8.5 8.5l7 7m0-7l-7 7", None: "M8 12h8"}[met]
    return element(
        "svg",
        element("circle", cx=12, cy=12, r=11),
        element("path", d=shape),
        class_="mark",
        viewBox="0 0 24 24",
        width=24,
        height=24,
        aria_hidden="true",
    )


def whisker_key() -> Markup:
    """A whisker for the legend."""
    return element("svg", _whisker(5, 95), aria_hidden="true")


class _axis:
    """Maps a value to percent of the width, kept inside it."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.length = start, end - start

    def __call__(self, value: float) -> float:
        return 0.0 if self.length <= 0 else min(100.0, max(0.0, (value - self.start) / self.length * 100))


def _svg(parts: Sequence[Child], height: int) -> Markup:
    return element("svg", parts, class_="chart", width="100%", height=height, aria_hidden="true")


def _rect(start: float, end: float, class_: str) -> Markup:
    return element("rect", x=_percent(start), width=_percent(end - start), y=0, height="100%", class_=class_)


def _whisker(low: float, high: float) -> Markup:
    ends = ((low, high, 7, 7), (low, low, 3, 11), (high, high, 3, 11))
    lines = [element("line", x1=_percent(x1), x2=_percent(x2), y1=y1, y2=y2) for x1, x2, y1, y2 in ends]
    # The halo sets the whisker off from the bar under it.
    return joined(element("g", lines, class_=kind) for kind in ("halo", "whisker"))


def _percent(value: float) -> str:
    return f"{value:.2f}%"
