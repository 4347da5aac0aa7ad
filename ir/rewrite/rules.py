"""A rule: a pattern (or operator names) and one function that gives the replacement, None, or `decline("why")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Union

from ..builder import Builder
from ..graph import Node, Value
from .patterns import Alternatives, Match, Operator, Pattern, Producers, match_node, producers


@dataclass(frozen=True)
class Declined:
    """A rule looked at a match and said no; the reason is counted and can be asked for."""

    why: str


@lru_cache(maxsize=1 << 12)
def decline(why: str) -> Declined:
    """The result of a rule that does not apply to a match, with the reason in a few words."""
    return Declined(why)


Result = Union[Value, Sequence[Union[Value, None]], Declined, None]


@dataclass(frozen=True)
class Rule:
    """One rewrite. `ops` are the operators of the nodes at which it is tried; `names` the bindings that the function
    takes; `above`, where a rule has no pattern, operators of which one has to make an operand ('' for constants).
    """

    name: str
    ops: tuple[str, ...]
    pattern: Pattern | None
    function: Callable[..., Result]
    names: tuple[str, ...]
    doc: str
    above: frozenset[str] = frozenset()

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
        if self.pattern is None:
            return not self.above or not self.above.isdisjoint(found)
        for pattern in self.starts[node.op]:  # noqa: SIM110 (what every attempt begins with)
            if pattern.fits(found):
                return True
        return False

    def match(self, node: Node) -> tuple[Match, bool]:
        """The bindings at `node`, and whether the pattern matches there."""
        if self.pattern is not None:
            return match_node(self.pattern, node)
        found = Match()
        found.bound["node"], found.nodes = node, [node]
        if self.above and self.above.isdisjoint(producers(node)):
            found.fail(
                lambda: f"no operand of {node.where} is {' or '.join(sorted(op or 'a constant' for op in self.above))}"
            )
            return found, False
        return found, node.op in self.ops and not node.domain

    def apply(self, op: Builder, match: Match) -> Result:
        """Calls the rule's function on a match."""
        if self.pattern is None:
            return self.function(op, match.bound["node"])
        return self.function(op, **{name: match.bound.get(name) for name in self.names})

    def explain(self, node: Node) -> str:
        """Why the rule does or does not fire at `node`; the graph stays as it is. For many nodes see `Explainer`."""
        from .explain import Explainer

        return str(Explainer(node).ask(self, node))


def rule(what: Pattern | str, *more: str, above: Sequence[str] = ()) -> Callable[[Callable[..., Result]], Rule]:
    """Makes a rule from a function `(op, **bindings)`, or from `(op, node)` where names of ONNX operators are given
    instead of a pattern. Operators of other domains are for patterns: `P.Gelu(x, domain="com.microsoft")`.

    With `above` such a rule is tried only where one of these operators, '' for a constant, makes one of the operands.

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
        return Rule(function.__name__, ops, pattern, function, wanted, inspect.getdoc(function) or "", frozenset(above))

    return decorate


def index(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """Rules by the operator at which they are tried, in the given order."""
    out: dict[str, list[Any]] = {}
    for each in rules:
        for op in each.ops:
            out.setdefault(op, []).append(each)
    return out
