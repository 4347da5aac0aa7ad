"""Line breaking at 100 columns in the style of the usual Python formatters."""

from __future__ import annotations

from collections.abc import Iterator

WIDTH = 100
INDENT = "    "
PAIRS = {"(": ")", "[": "]", "{": "}"}


def statement(text: str, depth: int, comment: str = "") -> list[str]:
    """One statement as lines at an indentation of `depth` levels; the comment stands at the end where it fits."""
    pad = INDENT * depth
    if len(pad) + len(text) <= WIDTH:
        noted = f"{pad}{text}  # {comment}"
        return [noted if comment and len(noted) <= WIDTH else pad + text]
    lines = _broken(text, depth)
    noted = f"{lines[-1]}  # {comment}"
    return [*lines[:-1], noted] if comment and len(noted) <= WIDTH else lines


def _broken(text: str, depth: int, tail: str = "") -> list[str]:
    """`text + tail` on as many lines as it needs: the last bracket is opened, then the items in it stand one per line."""
    pad, inner = INDENT * depth, INDENT * (depth + 1)
    if len(pad) + len(text) + len(tail) <= WIDTH:
        return [pad + text + tail]
    span = _last_bracket(text)
    if span is None:
        return _parenthesised(text, depth, tail)
    start, end = span
    head, body, rest = text[: start + 1], text[start + 1 : end].strip(), text[end:] + tail
    if not body:
        return _parenthesised(text, depth, tail)
    if len(pad) + len(head) > WIDTH:
        return [*_broken_head(head, depth), *_items(head, body, depth), pad + rest]
    if len(inner) + len(body) <= WIDTH and not body.endswith(","):
        return [pad + head, inner + body, pad + rest]
    return [pad + head, *_items(head, body, depth), pad + rest]


def _broken_head(head: str, depth: int) -> list[str]:
    """A head that is itself too long (nested calls): broken at its own last complete bracket."""
    lines = _broken(head[:-1], depth)
    return [*lines[:-1], lines[-1] + head[-1]]


def _items(head: str, body: str, depth: int) -> list[str]:
    """The items of a bracket, one per line. A comma ends the last one except where it would change the meaning."""
    items = list(split_items(body))
    many = len(items) > 1 or body.endswith(",")
    called = head[-1] == "(" and (head[-2:-1].isalnum() or head[-2:-1] in ("_", ")", "]"))
    displayed = head[-1] != "(" and not (head[-2:-1].isalnum() or head[-2:-1] in ("_", ")", "]"))
    comma = many or called or displayed
    if len(items) == 1 and _top_level(items[0], " for ") is not None:
        return _comprehension(items[0], depth + 1)
    return [line for i, item in enumerate(items) for line in _broken(item, depth + 1, "," if comma or i + 1 < len(items) else "")]


def _comprehension(text: str, depth: int) -> list[str]:
    position = _top_level(text, " for ")
    assert position is not None
    return [*_broken(text[:position], depth), *_broken(text[position + 1 :], depth)]


def _parenthesised(text: str, depth: int, tail: str) -> list[str]:
    """A long right-hand side without a bracket at its end: put in parentheses where it is an assignment or return."""
    pad = INDENT * depth
    for opener in (" = ", "return "):
        position = _top_level(text, opener)
        if position is not None and not text[position + len(opener) :].startswith("("):
            head, body = text[: position + len(opener)], text[position + len(opener) :]
            return [f"{pad}{head}(", *_operators(body, depth + 1), f"{pad}){tail}"]
    return [pad + text + tail]


def _operators(text: str, depth: int) -> list[str]:
    """An expression broken in front of its outermost operators."""
    pad = INDENT * depth
    if len(pad) + len(text) <= WIDTH:
        return [pad + text]
    cuts = [0]
    for operator in (" + ", " - ", " * ", " / ", " @ "):
        cuts += [i + 1 for i in _positions(text, operator)]
        if len(cuts) > 1:
            break
    cuts = sorted(set(cuts))
    if len(cuts) == 1:
        return _broken(text, depth)
    pieces = [text[a:b].strip() for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [line for piece in pieces for line in _broken(piece, depth)]


def _scan(text: str) -> Iterator[tuple[int, str, int]]:
    """Position, character and bracket depth (before the character) of everything outside string literals."""
    depth, quote, skip = 0, "", False
    for index, ch in enumerate(text):
        if quote:
            if skip:
                skip = False
            elif ch == "\\":
                skip = True
            elif ch == quote:
                quote = ""
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
    """Where the last outermost bracket opens and closes; None when much text follows it."""
    start, found = -1, None
    for index, ch, depth in _scan(text):
        if depth == 0 and ch in PAIRS:
            start = index
        elif depth == 0 and ch in ")]}":
            found = (start, index)
    if found is None or len(text) - found[1] > 30:
        return None
    return found


def _positions(text: str, wanted: str) -> list[int]:
    return [i for i, _, depth in _scan(text) if depth == 0 and text.startswith(wanted, i)]


def _top_level(text: str, wanted: str) -> int | None:
    return next(iter(_positions(text, wanted)), None)


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
