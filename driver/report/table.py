"""Tables that scroll inside their own container, so the page itself never does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from . import svg
from .markup import Child, Markup, element, joined
from .text import ABSENT


@dataclass(frozen=True)
class Column:
    """A heading; `style` is "num" (right-aligned, sorted as a number) or a least width of the style sheet."""

    title: str
    style: str | None = None


@dataclass(frozen=True)
class Cell:
    """What a cell shows and the `key` it sorts by (none sorts last)."""

    content: Child
    key: str | float | None = None


def table(
    label: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, sortable: str | None = None
) -> Markup:
    """A table named `label` for screen readers; `sortable` is a name that is unique in the page."""
    return framed(label, columns, (table_row(columns, row) for row in rows), sortable=sortable)


def framed(label: str, columns: Sequence[Column], rows: Iterable[Child], *, sortable: str | None = None) -> Markup:
    """As `table`, of rows that are `<tr>` already."""
    head = element("tr", (element("th", c.title, scope="col", class_=c.style) for c in columns))
    body = element("table", element("thead", head), element("tbody", rows), data_sortable=sortable)
    return element("div", body, class_="scroll", role="region", aria_label=label, tabindex=0)


def table_row(columns: Sequence[Column], cells: Sequence[Cell], class_: str | None = None) -> Markup:
    """One `<tr>`; the first cell is the row's heading."""
    first, *rest = zip(columns, cells, strict=True)
    return element(
        "tr",
        element("th", first[1].content, scope="row", class_=first[0].style, data_v=first[1].key),
        (element("td", cell.content, class_=column.style, data_v=cell.key) for column, cell in rest),
        class_=class_,
    )


def number(text: str, key: float | None) -> Cell:
    """A number that is written `text`."""
    return Cell(text, key)


def words(text: str | None) -> Cell:
    """Free text, or the dash where there is none."""
    return Cell(text or ABSENT, text or None)


def arrow(before: Child, after: Child) -> Markup:
    """before → after."""
    return joined((before, element("span", "→", class_="arrow"), after))


def pill(text: str, kind: str | None = None) -> Markup:
    """A few words on a tint: "yes", "no", "care" and "changed" have their own."""
    return element("span", text, class_=f"pill {kind}" if kind else "pill")


def passed(value: bool | None, yes: str = "passed", no: str = "failed") -> Markup | str:
    """A pill that says whether something held, or the dash of what nobody checked."""
    return ABSENT if value is None else pill(yes if value else no, "yes" if value else "no")


def before_after(before: int | None, after: int | None, write: Callable[[int | None], str], scale: float) -> Cell:
    """Both numbers, once if they are equal, over a thin bar against `scale`; sorted by what it was before."""
    if before is None and after is None:
        return Cell(ABSENT)
    content: Child = write(after) if before == after else arrow(write(before), write(after))
    bars = svg.pair(before or 0, after or 0, scale) if before or after else None
    return Cell((content, bars), before if before is not None else after)


def over(main: Child, below: Child) -> Markup:
    """Something with something smaller under it, if there is such."""
    return joined((main, element("div", below, class_="sub") if below and below != ABSENT else None))
