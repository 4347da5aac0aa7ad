"""Calls with the options that most often differ between parts stated, and without those that have their defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .layout import split_items

CALL = re.compile(r"(?<![\w.])((?:nn\.)?[A-Za-z]\w*)\(")
DEFAULTS = {"stride": "1", "padding": "0", "groups": "1"}
"""What convolutions in parts state even where it is the default, since it is what most often differs."""

Signatures = Mapping[str, Mapping[str, str]]
"""The options of modules and classes with their defaults."""


def stated(text: str, signatures: Signatures) -> str:
    """Convolutions and classes of the file with the options that most often differ between parts."""
    return respelled(
        text, signatures, lambda plain, options, usual: [*plain, *(f"{k}={v}" for k, v in {**usual, **options}.items())]
    )


def unstated(text: str, signatures: Signatures) -> str:
    """The same without options that have their defaults."""
    return respelled(
        text,
        signatures,
        lambda plain, options, usual: [*plain, *(f"{k}={v}" for k, v in options.items() if usual.get(k) != v)],
    )


def respelled(
    text: str,
    signatures: Signatures,
    spell: Callable[[list[str], dict[str, str], Mapping[str, str]], list[str]],
) -> str:
    """A text in which calls of what has a signature get other arguments."""
    found = CALL.search(text)
    while found is not None and found.group(1) not in signatures:
        found = CALL.search(text, found.end())
    if found is None:
        return text
    depth, end = 1, found.end()
    while depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    items = [respelled(i, signatures, spell) for i in split_items(text[found.end() : end - 1])]
    options = dict(i.split("=", 1) for i in items if re.match(r"\w+=", i))
    plain = [i for i in items if not re.match(r"\w+=", i)]
    made = ", ".join(spell(plain, options, signatures[found.group(1)]))
    return f"{text[: found.end()]}{made}){respelled(text[end:], signatures, spell)}"
