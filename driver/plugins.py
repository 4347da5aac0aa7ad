"""Passes of other packages: the entry-point group `tersor.passes`.

An entry point names a Pass class, a rewrite rule, or several rules; rules become a pass of the entry point's name. A
plug-in is imported when its name is used and not before, so a broken one breaks nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from ..ir import UsageError
from ..ir.rewrite import Rule
from ..transforms.base import Pass
from ..transforms.rule_pass import pass_of

GROUP = "tersor.passes"


class PluginWarning(UserWarning):
    """Something about an installed plug-in that its user should know."""


class Registry(Mapping[str, type[Pass]]):
    """Passes by name: the built-in ones, and those that installed packages register.

    A built-in pass cannot be replaced; that one tries is a PluginWarning when the name is used. Looking a name up
    raises UsageError, naming the distribution, where two of them claim it or where it cannot be imported.
    """

    def __init__(self, built_in: Mapping[str, type[Pass]]) -> None:
        self.built_in = dict(built_in)
        self.entries: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=GROUP):
            same = self.entries.setdefault(entry.name, [])
            if all((e.value, _owner(e)) != (entry.value, _owner(entry)) for e in same):
                same.append(entry)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.built_in, *self.entries)))

    def __len__(self) -> int:
        return len(set(self.built_in) | set(self.entries))

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.entries

    def __getitem__(self, name: str) -> type[Pass]:
        if name in self.built_in:
            for entry in self.entries.get(name, ()):
                warnings.warn(f"{hidden(entry)}; the built-in pass is used", PluginWarning, stacklevel=3)
            return self.built_in[name]
        claims = self.entries[name]
        if len(claims) > 1:
            raise UsageError(
                f"several packages have a pass called {name!r}",
                why=", ".join(f"{_owner(e)} ({e.value})" for e in claims),
                do="uninstall all but one of them",
            )
        return loaded(claims[0])

    def origin(self, name: str) -> str:
        """Where a pass comes from: "built in", or the distribution."""
        return "built in" if name in self.built_in else " and ".join(_owner(e) for e in self.entries[name])


def _owner(entry: EntryPoint) -> str:
    """The distribution that an entry point belongs to, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"


def hidden(entry: EntryPoint) -> str:
    return f"{_owner(entry)} registers a pass under the built-in name {entry.name!r} ({entry.value})"


@cache
def renamed(kind: type[Pass], name: str) -> type[Pass]:
    """The same pass under another name: the entry point's is the one that counts."""
    return type(name, (kind,), {"name": name, "__doc__": kind.__doc__})


def loaded(entry: EntryPoint) -> type[Pass]:
    """The pass behind an entry point. Raises UsageError, naming the distribution, where there is none."""
    try:
        found = entry.load()
    except Exception as error:  # importing runs the plug-in's code, which may do anything
        raise UsageError(
            f"the pass {entry.name!r} of {_owner(entry)} cannot be imported",
            why=f"{entry.value}: {type(error).__name__}: {error}",
            do="fix, update or uninstall that package",
        ) from error
    rules = (found,) if isinstance(found, Rule) else tuple(found) if isinstance(found, (tuple, list)) else ()
    if rules and all(isinstance(each, Rule) for each in rules):
        return pass_of(entry.name, rules)
    if isinstance(found, type) and issubclass(found, Pass):
        return found if found.name == entry.name else renamed(found, entry.name)
    raise UsageError(
        f"the plug-in {entry.name!r} of {_owner(entry)} is not a pass",
        why=f"{entry.value} is {found!r}; expected a Pass class, a rule or a tuple of rules",
        do="fix, update or uninstall that package",
    )
