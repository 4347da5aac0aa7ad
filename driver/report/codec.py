"""Frozen dataclasses to plain JSON values and back, checked field by field against their type hints.

This knows nothing of what a report says. It supports exactly what the schema uses: text, integers, floats, booleans,
`X | None`, `Literal`, `tuple[X, ...]`, `dict[str, X]` and nested records; any other hint is a programming error.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias, TypeVar

from ...ir.errors import TersorError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
T = TypeVar("T")


class ReportFormatError(TersorError, ValueError):
    """A text is not a report, or a report holds a value that its schema does not allow (exit code 3).

    `path` is the field, such as "report.steps[2].seconds".
    """

    def __init__(self, path: str, expected: str, found: str, *, do: str = "") -> None:
        super().__init__("not a report that can be read", where=path, why=f"expected {expected}, found {found}", do=do)


class Record:
    """Base of the schema's dataclasses.

    Invariants after construction: no float is NaN or infinite (it becomes `None`, as JSON has neither), a field that
    is a float holds no int, a scalar of numpy is Python's, and every sequence is a tuple. So a record equals what its
    JSON reads back as.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = _normal(getattr(self, field.name))
            if type(value) is int and hints[field.name] == float | None:
                value = float(value)
            object.__setattr__(self, field.name, value)


def _normal(value: Any) -> Any:
    if hasattr(value, "dtype"):
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(map(_normal, value))
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def encode(value: Any, path: str) -> Json:
    """`value`, a record or a field of one, as plain JSON values. Raises ReportFormatError naming the field."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple):
        return [encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): encode(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, Record):
        return {f.name: encode(getattr(value, f.name), f"{path}.{f.name}") for f in dataclasses.fields(value)}  # pyright: ignore[reportArgumentType]
    raise _unexpected(path, "a value that JSON can hold", value)


def parse(text: str) -> Json:
    """JSON text as plain values: strict (no NaN, no Infinity, no key twice). Raises ReportFormatError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ReportFormatError("report", "a few levels of nesting", "more than can be read") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ReportFormatError(place, "JSON", f"something else ({error.msg})") from None
    except ReportFormatError:
        raise
    except ValueError:
        raise ReportFormatError("report", "numbers of a sensible size", "one of thousands of digits") from None


def decode(hint: type[T], value: Json, path: str) -> T:
    """`value` as an instance of `hint`. Raises ReportFormatError: which field, what was expected, what was found."""
    return _decode(hint, value, path)


def _decode(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _decode(inner, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise _unexpected(path, "one of " + ", ".join(map(repr, arguments)), value)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _unexpected(path, "a list", value)
        return tuple(_decode(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        items = _object(value, path).items()
        return {key: _decode(arguments[1], item, f"{path}.{key}") for key, item in items}
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, _object(value, path), path)
    return _decode_scalar(hint, value, path)


def _decode_record(record: Any, values: dict[str, Any], path: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(record)}
    for key in values:
        if key not in fields:
            raise ReportFormatError(path, f"the fields {', '.join(fields)}", f"also {_short(key)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ReportFormatError(f"{path}.{name}", "a value", "no such field")
    hints = _hints(record)
    return record(**{name: _decode(hints[name], value, f"{path}.{name}") for name, value in values.items()})


_SCALARS: dict[type, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("an integer", (int,)),
    float: ("a number", (int, float)),
}


def _decode_scalar(hint: type, value: Any, path: str) -> Any:
    expected, accepted = _SCALARS[hint]
    # bool is a subclass of int, but true is not a count.
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise _unexpected(path, expected, value)
    try:
        return hint(value)
    except OverflowError:
        raise _unexpected(path, expected, value) from None


@cache
def _hints(record: type) -> dict[str, Any]:
    return typing.get_type_hints(record)


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(path, "an object", value)
    return value


def _unexpected(path: str, expected: str, value: object) -> ReportFormatError:
    return ReportFormatError(path, expected, _short(value))


def _short(value: object) -> str:
    found = ascii(value)
    return found if len(found) <= 60 else found[:57] + "..."


def _refuse_constant(name: str) -> float:
    raise ReportFormatError("report", "finite numbers or null", name)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ReportFormatError("report", "each key once in an object", f"{_short(key)} twice")
        values[key] = value
    return values
