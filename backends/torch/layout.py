"""Line breaking at 100 columns in the style of the usual Python formatters."""

from __future__ import annotations

from collections.abc import Iterator

WIDTH = 100
INDENT = "    "
OPERATORS = (" + ", " - ", " | ", " & ", " ^ ", " * ", " / ", " // ", " % ", " @ ", " << ", " >> ")
"""Binary operators, loosest groups first as far as it matters for where to break."""


def statement(text: str, depth: int, comment: str = "") -> list[str]:
    """One statement as lines at an indentation of `depth` levels; the comment stands at the end where it fits."""
    pad = INDENT * depth
    if fits(text, depth):
        noted = f"{pad}{text}  # {comment}"
        return [noted if comment and len(noted) <= WIDTH else pad + text]
    head, value = _assignment(text)
    if head and len(list(split_items(value))) > 1:
        lines = [f"{pad}{head}(", *_items(" (", value, depth + 1), f"{pad})"]
    elif head and len(links(value)) > 2:
        inner = [INDENT + pad + value] if fits(value, depth + 1) else _chained(value, depth + 1)
        lines = [f"{pad}{head}(", *inner, f"{pad})"]
    elif head and operators_in(value) and not _ends_in_call(text, value, depth):
        lines = [f"{pad}{head}(", *broken(value, depth + 1), f"{pad})"]
    elif head and operators_in(value):
        lines = _opened(text, depth)
    elif head and _last_bracket(value) is None:
        lines = [f"{pad}{head}(", f"{pad}{INDENT}{value}", f"{pad})"]
    else:
        lines = broken(text, depth)
    noted = f"{lines[-1]}  # {comment}"
    return [*lines[:-1], noted] if comment and len(noted) <= WIDTH else lines


def links(value: str) -> list[str]:
    """A chain of calls cut in front of each attribute that follows a bracket; empty where there is an operator."""
    if operators_in(value):
        return []
    cuts = [i for i in _positions(value, ".") if i and value[i - 1] in ")]"]
    return [value[a:b] for a, b in zip([0, *cuts], [*cuts, len(value)], strict=True)]


def _chained(value: str, depth: int) -> list[str]:
    """A call per line."""
    first, *rest = links(value)
    name, dot, call = first.rpartition(".") if "(" in first and "." in first.split("(")[0] else (first, "", "")
    if dot and "(" not in name:
        first, rest = name, [f".{call}", *rest]
    return [line for link in [first, *rest] for line in broken(link, depth)]


def _ends_in_call(text: str, value: str, depth: int) -> bool:
    """True for one operation whose last operand's bracket can be opened on the first line."""
    span = _last_bracket(text)
    last = operators_in(value)[1:]
    return len(last) == 1 and span is not None and span[1] == len(text) - 1 and fits(text[: span[0] + 1], depth)


def _opened(text: str, depth: int) -> list[str]:
    span = _last_bracket(text)
    assert span is not None
    start, end = span
    body = text[start + 1 : end].strip()
    pad = INDENT * depth
    return [pad + text[: start + 1], *broken(body, depth + 1), pad + text[end:]]


def fits(text: str, depth: int) -> bool:
    return len(INDENT) * depth + len(text) <= WIDTH


def broken(text: str, depth: int, tail: str = "") -> list[str]:
    """`text + tail` on as many lines as it needs.

    An operation is broken in front of its loosest operators, anything else by opening its last bracket: the inside on
    one line of its own where it fits, else an item per line.
    """
    pad = INDENT * depth
    if fits(text + tail, depth):
        return [pad + text + tail]
    pieces = operators_in(text)
    if pieces:
        return [
            line
            for i, piece in enumerate(pieces)
            for line in broken(piece, depth, tail if i + 1 == len(pieces) else "")
        ]
    span = _last_bracket(text)
    if span is None:
        return [pad + text + tail]
    start, end = span
    head, body, rest = text[: start + 1], text[start + 1 : end].strip(), text[end:] + tail
    opening = [pad + head] if fits(head, depth) else _broken_head(head, depth)
    if fits(body, depth + 1) and not body.endswith(","):
        return [*opening, INDENT * (depth + 1) + body, pad + rest]
    return [*opening, *_items(head, body, depth + 1), pad + rest]


def _broken_head(head: str, depth: int) -> list[str]:
    """A chain of calls whose last one alone does not make room: broken at the one before as well."""
    lines = broken(head[:-1], depth)
    return [*lines[:-1], lines[-1] + head[-1]]


def _items(head: str, body: str, depth: int) -> list[str]:
    """The items of a bracket, one per line. A comma ends the last one except where it would change the meaning."""
    items = list(split_items(body))
    if len(items) == 1:
        loop = next(iter(_positions(items[0], " for ")), None)
        if loop is not None:
            return [*broken(items[0][:loop], depth), *broken(items[0][loop + 1 :], depth)]
    before = head[-2:-1]
    follows_value = before.isalnum() or before in ("_", ")", "]", '"')
    grouping = (head[-1] == "(") != follows_value  # (a + b) and x[a], in which a comma would make a tuple
    comma = len(items) > 1 or body.endswith(",") or not grouping or head[-1] == "{"
    return [
        line for i, item in enumerate(items) for line in broken(item, depth, "," if comma or i + 1 < len(items) else "")
    ]


def _assignment(text: str) -> tuple[str, str]:
    """What stands in front of a statement's value, and the value."""
    if text.startswith("return "):
        return "return ", text[len("return ") :]
    position = next(iter(_positions(text, " = ")), None)
    return ("", text) if position is None else (text[: position + 3], text[position + 3 :])


def operators_in(text: str) -> list[str]:
    """The text cut in front of its loosest binary operators outside brackets; empty without one."""
    cuts = [i + 1 for word in (" if ", " else ") for i in _positions(text, word)]
    if len(cuts) == 2:
        return [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for group in (OPERATORS[:2], *([o] for o in OPERATORS[2:5]), OPERATORS[5:]):
        cuts = sorted(i + 1 for operator in group for i in _positions(text, operator))
        if cuts:
            return [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return []


def _scan(text: str) -> Iterator[tuple[int, str, int]]:
    """Position, character and bracket depth of everything outside string literals; brackets count as outside."""
    depth, quote, escaped = 0, "", False
    for index, ch in enumerate(text):
        if quote:
            quote = "" if ch == quote and not escaped else quote
            escaped = ch == "\\" and not escaped
            continue
        if ch in "\"'":
            quote = ch
            continue
        if ch in ")]}":
            depth -= 1
        yield index, ch, depth
        if ch in "([{":
            depth += 1


def _last_bracket(text: str) -> tuple[int, int] | None:
    """Where the last outermost bracket with something in it opens and closes."""
    start, found = -1, None
    for index, ch, depth in _scan(text):
        if depth == 0 and ch in "([{":
            start = index
        elif depth == 0 and ch in ")]}" and index > start + 1:
            found = (start, index)
    return found


def _positions(text: str, wanted: str) -> list[int]:
    return [i for i, _, depth in _scan(text) if depth == 0 and text.startswith(wanted, i)]


def split_items(body: str) -> Iterator[str]:
    """The comma-separated items of a bracket's inside."""
    start = 0
    for index, ch, depth in _scan(body):
        if ch == "," and depth == 0:
            yield body[start:index].strip()
            start = index + 1
    last = body[start:].strip()
    if last:
        yield last
