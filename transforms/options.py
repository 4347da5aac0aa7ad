"""Dataclasses from plain values: the one place where options become fields, of whatever origin.

Pipeline text, recipes, plug-ins and the command line all end here, so that an option means the same everywhere and a
mistake reads the same. Values are checked against the type hints of the fields.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from ..ir import UsageError
from .base import Pass, options_of

T = TypeVar("T")

KINDS: dict[object, str] = {str: "text", bool: "true or false", int: "an integer", float: "a number"}
"""Type of a plain value -> what a person calls it."""


class Misfit(Exception):
    """A value is not what a type hint says: the argument is what was expected."""


def make(kind: type[Pass], options: Mapping[str, Any]) -> Pass:
    """An instance of a pass. Raises UsageError for an option that it does not have or that is of another type, for one
    that is missing, and for what the pass itself refuses.
    """
    return build(kind, options, f"pass {kind.name!r}", known=list(options_of(kind)))


def build(kind: type[T], options: Mapping[str, Any], owner: str, known: Sequence[str]) -> T:
    """An instance of a dataclass from plain values by field. `owner` is what a message calls it, `known` are its
    fields. Raises UsageError as `make` does.
    """
    hints = hints_of(kind)
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"{owner} has no option {name!r}", **suggestion(name, known, "its options are"))
        try:
            fields[name] = fitted(hints.get(name, Any), value)
        except Misfit as misfit:
            raise UsageError(
                f"option {name!r} of {owner} is {shown(value)}", why=f"expected {misfit}, found {kind_of(value)}"
            ) from None
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{owner} cannot be made of these options", why=str(error)) from error


def suggestion(name: str, known: Iterable[str], label: str) -> dict[str, str]:
    """The lines of an error about a name that does not exist: the nearest one that does, and all of them."""
    there = list(known)
    close = get_close_matches(name, there, 1)
    return {"why": f"did you mean {close[0]!r}?" if close else "", "do": f"{label} {', '.join(there) or 'none'}"}


def hints_of(kind: type) -> dict[str, Any]:
    """The types of a class's fields; none where a plug-in's annotations cannot be evaluated."""
    try:
        return typing.get_type_hints(kind)
    except Exception:  # annotations are code
        return {}


def fitted(hint: Any, value: Any) -> Any:
    """`value` as the hint wants it: lists as tuples, integers as floats, the text "none" as None where that is allowed
    (TOML has no null). What a hint outside of the plain ones says is left to the class. Raises Misfit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return _one_of(arguments, value)
    if origin in (types.UnionType, typing.Union):
        return _any_of(arguments, value)
    if hint is tuple or origin is tuple:
        return _tuple(arguments, value)
    if origin in (dict, Mapping) or dataclasses.is_dataclass(hint):
        return _table(hint, arguments, value)
    if hint in KINDS:
        return _scalar(hint, value)
    if hint is None or hint is types.NoneType:
        return _one_of((None,), None if value == "none" else value)
    return tuple(typing.cast("list[Any]", value)) if isinstance(value, list) else value


def _one_of(choices: tuple[Any, ...], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise Misfit(" or ".join(shown(choice) for choice in choices))


def _any_of(hints: tuple[Any, ...], value: Any) -> Any:
    expected: list[str] = []
    for hint in sorted(hints, key=lambda h: h is not types.NoneType):
        try:
            return fitted(hint, value)
        except Misfit as misfit:
            expected.append(str(misfit))
    raise Misfit(" or ".join((*expected[1:], expected[0]) if types.NoneType in hints else expected))


def _tuple(hints: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise Misfit("a list")
    items: Sequence[Any] = typing.cast("Sequence[Any]", value)
    each = [hints[0]] * len(items) if len(hints) == 2 and hints[1] is ... else list(hints or [Any] * len(items))
    if len(each) != len(items):
        raise Misfit(f"a list of {len(each)}")
    try:
        return tuple(fitted(hint, item) for hint, item in zip(each, items, strict=True))
    except Misfit as misfit:
        raise Misfit(f"a list, of {misfit} each") from None


def _table(hint: Any, arguments: tuple[Any, ...], value: Any) -> Any:
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    if not isinstance(value, Mapping):
        raise Misfit("a table")
    items: Mapping[str, Any] = typing.cast("Mapping[str, Any]", value)
    if dataclasses.is_dataclass(hint):
        names = [f.name for f in dataclasses.fields(hint)]
        return build(typing.cast("type[Any]", hint), items, "that table", names)
    return {key: fitted(arguments[1] if arguments else Any, item) for key, item in items.items()}


def _scalar(hint: Any, value: Any) -> Any:
    # bool is a subclass of int, but true is not a count.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise Misfit("a number that a float can hold") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Misfit(KINDS[hint])
    return value


def kind_of(value: Any) -> str:
    """What a person calls the type of a plain value."""
    if isinstance(value, list | tuple):
        return "a list"
    found = typing.cast("type[object]", type(value))
    return "a table" if isinstance(value, Mapping) else KINDS.get(found, found.__name__)


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


# Text

NAME = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(?:\((.*)\))?\s*\Z", re.DOTALL)
"""One pass in pipeline text: its name, and what stands in its parentheses."""

HOW = "write passes as in simplify,prune(ratio=0.3)"


def parse_pipeline(text: str, passes: Mapping[str, type[Pass]]) -> list[Pass]:
    """Passes from text such as `simplify,prune(ratio=0.3),quantize(mode="static")`. Raises UsageError with what is
    wrong.
    """
    return [_pass(item, passes) for item in _items(text)]


def named(name: str, passes: Mapping[str, type[Pass]]) -> type[Pass]:
    """The pass of that name. Raises UsageError, with the nearest name, where there is none."""
    if name not in passes:
        raise UsageError(f"there is no pass called {name!r}", **suggestion(name, sorted(passes), "the passes are"))
    return passes[name]


def _items(text: str) -> list[str]:
    """The parts of a pipeline between the commas that stand outside of parentheses and strings."""
    items, depth, quote = [""], 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            items.append("")
        else:
            items[-1] += letter
    return items if len(items) == 1 or items[-1].strip() else items[:-1]


def _pass(item: str, passes: Mapping[str, type[Pass]]) -> Pass:
    found = NAME.match(item)
    if found is None:
        raise UsageError(f"not a pass: {item.strip()!r}", do=HOW)
    name, options = found.group(1), _options(found.group(2) or "", item)
    return make(named(name, passes), options)


def _options(text: str, item: str) -> dict[str, Any]:
    """The options between the parentheses of a pass. Raises UsageError for anything but plain values by name."""
    call = _parsed(lambda: ast.parse(f"options({text})", mode="eval").body, item)
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise UsageError(f"not a pass: {item.strip()!r}", do="give options by name, as in prune(ratio=0.3)")
    names = [str(k.arg) for k in call.keywords]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise UsageError(f"option {twice!r} is given twice in {item.strip()!r}", do="give it once")
    try:
        return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"an option in {item.strip()!r} is not a plain value", why=str(error)) from error


def _parsed(parse: Callable[[], ast.expr], item: str) -> ast.expr:
    try:
        return parse()
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"not a pass: {item.strip()!r}", why=str(error), do=HOW) from error
