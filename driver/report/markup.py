"""HTML elements that cannot be injected into: every text is escaped unless it is `Markup` already.

Names in models are hostile. Besides `<`, `&` and quotes, they hold control characters, lone surrogates and
bidirectional overrides that make one name look like another: those are shown as their code points, "⟨U+202E⟩".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Markup(str):
    """Text that is HTML already. Only this module and constants written by us may make one."""

    __slots__ = ()


Child: TypeAlias = "str | Markup | Iterable[Child] | None"

# Control, format (bidirectional, zero width), surrogate, line and paragraph separator.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """`text` with each character that has no glyph of its own replaced by its code point."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _INVISIBLE else c for c in text)


def escaped(text: str) -> Markup:
    """`text` safe as content and inside a double-quoted attribute."""
    return text if isinstance(text, Markup) else Markup(escape(visible(text), quote=True))


def joined(children: Iterable[Child]) -> Markup:
    """The children one after the other; None is nothing."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, str):
            parts.append(escaped(child))
        elif child is not None:
            parts.append(joined(child))
    return Markup("".join(parts))


def element(tag: str, *children: Child, **attributes: str | float | None) -> Markup:
    """`<tag attributes>children</tag>`; an attribute of None is left out, `class_` is class and `data_v` data-v."""
    return Markup(f"<{tag}{_attributes(attributes)}>{joined(children)}</{tag}>")


def void(tag: str, **attributes: str | float | None) -> Markup:
    """An element that has no content, such as `<meta>`."""
    return Markup(f"<{tag}{_attributes(attributes)}>")


def name(text: str, class_: str = "name") -> Markup:
    """A name from the model: monospaced, isolated from the direction of its surroundings, wrapping anywhere."""
    return element("bdi", text, class_=class_)


def _attributes(attributes: dict[str, str | float | None]) -> str:
    return "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
