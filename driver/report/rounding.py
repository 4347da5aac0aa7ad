"""What quantization did to each layer: a table of schemes, ranges, errors and times, and the values that the worst
layers read, with the points at which they are clipped.
"""

from __future__ import annotations

from . import svg, text
from .markup import Child, Markup, element, joined, name
from .schema import Layer, Report, Rounding
from .table import Cell, Column, arrow, number, over, table, words
from .text import ABSENT

_COLUMNS = (
    Column("Layer", "wide"),
    Column("Scheme", "mid"),
    Column("Range of its input", "num"),
    Column("Weight", "num"),
    Column("Alone", "num"),
    Column("With those before", "num"),
    Column("Time", "num"),
    Column("Decision", "wide"),
)


def rounded(report: Report) -> Markup | None:
    """The table and the histograms; None where nothing was quantized."""
    rows = [(layer, layer.rounding) for layer in report.layers if layer.rounding is not None]
    if not rows:
        return None
    drawn = [(layer, rounding) for layer, rounding in rows if rounding.counts]
    drawn.sort(key=lambda row: _key(row[1].alone_sqnr_db))
    made = table("Quantized layers", _COLUMNS, (_row(*row) for row in rows), sortable="rounding")
    panels = element("div", (_panel(*row) for row in drawn), class_="panels") if drawn else None
    return joined((made, panels))


def _row(layer: Layer, rounding: Rounding) -> list[Cell]:
    times = rounding.before_us, rounding.after_us
    timed: Child = (
        ABSENT
        if None in times
        else over(arrow(*(_microseconds(t) for t in times)), "measured" if rounding.measured else "modelled")
    )
    return [
        Cell(over(name(layer.name), layer.op), layer.name),
        words(rounding.scheme),
        Cell(_range(rounding), None if rounding.low is None or rounding.high is None else rounding.high - rounding.low),
        number(text.decibels(rounding.weight_sqnr_db), rounding.weight_sqnr_db),
        number(text.decibels(rounding.alone_sqnr_db), rounding.alone_sqnr_db),
        number(text.decibels(layer.sqnr_db), layer.sqnr_db),
        Cell(timed, rounding.before_us),
        Cell(over(layer.decision, layer.reason or None), layer.decision),
    ]


def _panel(layer: Layer, rounding: Rounding) -> Markup:
    """The values that a layer reads."""
    start, end = rounding.seen_low or 0.0, rounding.seen_high or 0.0
    low, high = (start if rounding.low is None else rounding.low), (end if rounding.high is None else rounding.high)
    caption = element(
        "figcaption", name(layer.name), element("span", text.decibels(rounding.alone_sqnr_db), class_="sub")
    )
    ends = f"from {_real(start)} to {_real(end)}; kept from {_real(max(start, low))} to {_real(min(end, high))}"
    return element(
        "figure",
        caption,
        svg.histogram(rounding.counts, start, end, low, high),
        element("p", ends, class_="sub"),
        class_="card panel",
    )


def _range(rounding: Rounding) -> str:
    if rounding.low is None or rounding.high is None:
        return ABSENT
    return f"{_real(rounding.low)} … {_real(rounding.high)}"


def _real(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _microseconds(value: float | None) -> str:
    return text.milliseconds(None if value is None else value / 1e3)


def _key(value: float | None) -> float:
    return float("inf") if value is None else value
