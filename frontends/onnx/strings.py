"""Strings of a protobuf message: text, also where a file breaks the rule that it is UTF-8.

Exporters have written names and paths in the encoding of the machine they ran on. Protobuf's classes give such a string
as bytes.
"""

from __future__ import annotations

from collections.abc import Iterable


def text(value: str | bytes) -> str:
    """The string; bytes that are not UTF-8 become escapes like \\xe9, so that different names stay different."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def texts(values: Iterable[str | bytes]) -> tuple[str, ...]:
    return tuple([v if isinstance(v, str) else text(v) for v in values])
