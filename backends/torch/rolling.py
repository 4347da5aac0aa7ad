"""Repeated statements as loops: `for layer in self.layer:` instead of the same lines for layer 0, 1, 2, ...

Statements are compared as the text that would stand in the file. What one index of an `nn.ModuleList` does is rolled up
with the next when the two texts are equal but for the index, so a loop runs exactly the statements that it replaces, in
the same order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Union

from .layout import INDENT, statement
from .names import RESERVED, identifier, unused


@dataclass(frozen=True, slots=True)
class Line:
    """One statement; `note` is the comment at its end, `heading` the one above it."""

    text: str
    note: str = ""
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """Statements under a header, such as a loop; `spaced` ones have blank lines around them."""

    header: str
    body: tuple[Item, ...]
    heading: str = ""
    spaced: bool = False


Item = Union[Line, Suite]

OFTEN = 4
"""From how many mentions on a module gets a name of its own."""


def lines(items: Sequence[Item], depth: int) -> Iterator[str]:
    """The text of statements, broken where it is too long; blank lines above headings and loops over modules."""
    previous: Item | None = None
    for item in items:
        spaced = item.heading or any(isinstance(i, Suite) and i.spaced for i in (item, previous))
        if previous is not None and spaced:
            yield ""
        if item.heading:
            yield f"{INDENT * depth}# {item.heading}"
        if isinstance(item, Line):
            yield from statement(item.text, depth, item.note)
        else:
            yield from statement(item.header, depth)
            yield from lines(item.body, depth + 1)
        previous = item


def roll(items: Sequence[Item], lists: Sequence[tuple[str, int]], taken: Collection[str]) -> list[Item]:
    """Statements with loops over `lists`, pairs of an expression (`self.layer`) and a length, inner lists first."""
    rolled = list(items)
    for expression, length in sorted(lists, key=lambda pair: (-pair[0].count("."), pair[0])):
        rolled = _roll_list(rolled, expression, length, taken)
    return rolled


def roll_series(items: Sequence[Item], series: Sequence[tuple[str, list[str]]], taken: Collection[str]) -> list[Item]:
    """Statements with loops over groups of numbered modules, each of them whole."""
    rolled = list(items)
    for expression, names in series:
        calls = [f"{expression}.{name}(" for name in names]
        starts = [_first_use(rolled, text) for text in calls]
        first, size = starts[0], (starts[1] or 0) - (starts[0] or 0)
        if first is None or size < 1 or starts != [first + i * size for i in range(len(names))]:
            continue
        bodies = [
            [_replaced(item, text, f"{PLACEHOLDER}(") for item in rolled[place : place + size]]
            for text, place in zip(calls, [first + i * size for i in range(len(names))], strict=True)
        ]
        if any([flat(i) for i in b] != [flat(i) for i in bodies[0]] or len(b) != size for b in bodies):
            continue
        if any(
            f"{expression}." in flat(i) for i in [*bodies[0], *rolled[:first], *rolled[first + size * len(names) :]]
        ):
            continue
        body = bodies[0]
        for other in bodies[1:]:
            body = [common(a, b) for a, b in zip(body, other, strict=True)]
        name = unused(re.sub(r"\d+$", "", names[0]), {*taken, *RESERVED, *_bound(body)})
        loop = Suite(f"for {name} in {expression}.values():", tuple(_named(i, name) for i in body), spaced=True)
        rolled[first : first + size * len(names)] = [loop]
    return rolled


def _bound(body: Sequence[Item]) -> set[str]:
    """What loops inside of statements bind."""
    return {word for item in body for word in re.findall(r"\w+(?= in )", flat(item))}


def _roll_list(items: list[Item], expression: str, length: int, taken: Collection[str]) -> list[Item]:
    starts = [_first_use(items, f"{expression}[{i}]") for i in range(length)]
    index = 0
    while index < length - 1:
        count, body = _run(items, expression, starts, index)
        if count > 1 and count * len(body) > 2:
            first = starts[index]
            assert first is not None
            loop = _loop(body, expression, (index, count, length), taken)
            after = first + count * len(body)
            return [*items[:first], loop, *_roll_list(items[after:], expression, length, taken)]
        index += 1
    return items


def _first_use(items: Sequence[Item], wanted: str) -> int | None:
    return next((i for i, item in enumerate(items) if wanted in flat(item)), None)


def _run(items: list[Item], expression: str, starts: list[int | None], index: int) -> tuple[int, list[Item]]:
    """How many indices from `index` on have equal statements, and these with a placeholder for the module."""
    first, second = starts[index], starts[index + 1]
    if first is None or second is None or second <= first:
        return 0, []
    size = second - first
    body = [_generic(item, expression, index) for item in items[first:second]]
    if any(f"{expression}[" in flat(item) or f"{expression}." in flat(item) for item in body):
        return 0, []
    count = 1
    while index + count < len(starts) and starts[index + count] == first + count * size:
        here = first + count * size
        others = [_generic(item, expression, index + count) for item in items[here : here + size]]
        if len(others) != size or [flat(a) for a in others] != [flat(b) for b in body]:
            break
        body = [common(a, b) for a, b in zip(body, others, strict=True)]
        count += 1
    return count, body


PLACEHOLDER = "\0"


def _generic(item: Item, expression: str, index: int) -> Item:
    return _replaced(item, f"{expression}[{index}]", PLACEHOLDER)


def _replaced(item: Item, old: str, new: str) -> Item:
    if isinstance(item, Line):
        return replace(item, text=item.text.replace(old, new), heading="")
    return Suite(item.header.replace(old, new), tuple(_replaced(i, old, new) for i in item.body))


def _named(item: Item, name: str) -> Item:
    if isinstance(item, Line):
        return replace(item, text=item.text.replace(PLACEHOLDER, name))
    return Suite(item.header.replace(PLACEHOLDER, name), tuple(_named(i, name) for i in item.body))


def common(a: Item, b: Item) -> Item:
    """The first of two equal statements, without notes that differ."""
    if isinstance(a, Line) and isinstance(b, Line):
        return a if a.note == b.note else replace(a, note="")
    assert isinstance(a, Suite)
    assert isinstance(b, Suite)
    return Suite(a.header, tuple(common(x, y) for x, y in zip(a.body, b.body, strict=True)))


def flat(item: Item) -> str:
    return item.text if isinstance(item, Line) else "\n".join([item.header, *(flat(i) for i in item.body)])


def _loop(body: Sequence[Item], expression: str, span: tuple[int, int, int], taken: Collection[str]) -> Suite:
    start, count, length = span
    stop = start + count
    part = "" if count == length else f"[{start or ''}:{stop if stop < length else ''}]"
    name = unused(_singular(expression), {*taken, *RESERVED, *_bound(body)})
    whole = "list(self)" if expression == "self" and part else expression  # a slice would be of the class itself
    return Suite(f"for {name} in {whole}{part}:", tuple(_named(item, name) for item in body), spaced=True)


def returned(items: Sequence[Item], result: str) -> tuple[list[Item], str, str]:
    """Statements, what they return, and its note, without a name for a result that is returned at once."""
    last = items[-1] if items else None
    if isinstance(last, Line) and not last.heading and result.isidentifier() and last.text.startswith(f"{result} = "):
        return list(items[:-1]), last.text[len(result) + 3 :], last.note
    return list(items), result, ""


def shortened(
    items: Sequence[Item], lists: Sequence[tuple[str, int]], groups: Sequence[str], taken: Collection[str]
) -> list[Item]:
    """Statements with a name for each module of a list that is mentioned often, such as `block = self.layer2[0]`, and
    for groups of modules, such as `encoder = self.model.encoder`."""
    found = list(items)
    for expression, length in sorted(lists, key=lambda pair: (pair[0].count("."), pair[0])):
        for index in range(length):
            found = _shorten(found, f"{expression}[{index}]", _singular(expression), taken)
    for group in sorted(groups, key=lambda name: (-name.count("."), name)):
        found = _shorten(found, f"{group}.", identifier(group.rsplit(".", 1)[-1], "part"), taken)
    return found


def _shorten(items: list[Item], module: str, wanted: str, taken: Collection[str]) -> list[Item]:
    places = [i for i, item in enumerate(items) if module in flat(item)]
    if sum(flat(items[i]).count(module) for i in places) < OFTEN:
        return items
    first, stop = places[0], places[-1] + 1
    if any(isinstance(item, Suite) and not item.spaced for item in items[first:stop]):
        return items
    words = {word for item in items[first:stop] for word in re.findall(r"(?<![\w.])\w+", flat(item))}
    name = unused(wanted, {*taken, *RESERVED, *words})
    head = items[first]
    end = module[len(module.rstrip(".")) :]
    body = [_renamed(item, module, name + end) for item in items[first:stop]]
    body[0] = replace(body[0], heading="")
    return [*items[:first], Line(f"{name} = {module.rstrip('.')}", heading=head.heading), *body, *items[stop:]]


def _renamed(item: Item, module: str, name: str) -> Item:
    if isinstance(item, Line):
        return replace(item, text=item.text.replace(module, name))
    return replace(
        item, header=item.header.replace(module, name), body=tuple(_renamed(i, module, name) for i in item.body)
    )


def _singular(expression: str) -> str:
    """layers -> layer, blocks -> block; anything that is no plural is a block."""
    last = re.sub(r"\W", "", expression.rsplit(".", 1)[-1]).lower()
    if last in ("layer", "stage"):
        return last
    return last[:-1] if last.endswith("s") and len(last) > 3 and last.isidentifier() else "block"
