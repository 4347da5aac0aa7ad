"""A rule: a pattern (or operator names) and one function that gives the replacement, None, or `decline("why")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Union

from ..builder import Builder
from ..graph import Node, Value
from .patterns import Alternatives, Match, Operator, Pattern, Producers, match_node


@dataclass(frozen=True)
class Declined:
    """A rule looked at a match and said no; the reason is counted and can be asked for."""

    why: str


def decline(why: str) -> Declined:
    """The result of a rule that does not apply to a match, with the reason in a few words."""
    return Declined(why)


Result = Union[Value, Sequence[Union[Value, None]], Declined, None]


@dataclass(frozen=True)
class Rule:
    """One rewrite. `ops` are the operators of the nodes at which it is tried; `names` the bindings that the function
    takes.
    """

    name: str
    ops: tuple[str, ...]
    pattern: Pattern | None
    function: Callable[..., Result]
    names: tuple[str, ...]
    doc: str

    @property
    def depth(self) -> int:
        """How far above its root the rule looks."""
        return 2 if self.pattern is None else self.pattern.depth()

    @cached_property
    def starts(self) -> dict[str, list[Operator]]:
        """The alternatives of the pattern by the operator of their root."""
        each = self.pattern.patterns if isinstance(self.pattern, Alternatives) else [self.pattern]
        roots = [p for p in each if isinstance(p, Operator)]
        return {op: [p for p in roots if p.op == op] for op in self.ops}

    def is_possible(self, node: Node, found: Producers) -> bool:
        """False where the operators that make the operands of `node`, which are `found`, rule out a match: what
        decides most attempts, without the bookkeeping of one.
        """
        return self.pattern is None or any(p.fits(found) for p in self.starts[node.op])

    def match(self, node: Node) -> tuple[Match, bool]:
        """The bindings at `node`, and whether the pattern matches there."""
        if self.pattern is not None:
            return match_node(self.pattern, node)
        found = Match()
        found.bound["node"], found.nodes = node, [node]
        return found, node.op in self.ops and not node.domain

    def apply(self, op: Builder, match: Match) -> Result:
        """Calls the rule's function on a match."""
        return self.function(op, **{name: match.bound.get(name) for name in self.names})

    def explain(self, node: Node) -> str:
        """Why the rule does or does not fire at `node`; the graph stays as it is. For many nodes see `Explainer`."""
        from .explain import Explainer

        return str(Explainer(node).ask(self, node))


def rule(what: Pattern | str, *more: str) -> Callable[[Callable[..., Result]], Rule]:
    """Makes a rule from a function `(op, **bindings)`, or from `(op, node)` where names of ONNX operators are given
    instead of a pattern. Operators of other domains are for patterns: `P.Gelu(x, domain="com.microsoft")`.

    Raises TypeError when the function asks for a name that the pattern does not bind.
    """

    def decorate(function: Callable[..., Result]) -> Rule:
        wanted = tuple(inspect.signature(function).parameters)[1:]
        known = what.names() if isinstance(what, Pattern) else {"node"}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise TypeError(f"rule {function.__name__} takes {unknown[0]!r}, which its pattern does not bind")
        ops = tuple(dict.fromkeys(what.roots())) if isinstance(what, Pattern) else (what, *more)
        pattern = what if isinstance(what, Pattern) else None
        return Rule(function.__name__, ops, pattern, function, wanted, inspect.getdoc(function) or "")

    return decorate


def index(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """Rules by the operator at which they are tried, in the given order."""
    out: dict[str, list[Any]] = {}
    for each in rules:
        for op in each.ops:
            out.setdefault(op, []).append(each)
    return out
