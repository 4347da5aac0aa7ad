"""Patterns over the producers of a value: `P.BatchNormalization(P.Conv(x, w, b), ...)`.

A pattern is matched from its root upwards. Interior values must have no user outside the pattern's own edge, unless
marked `.shared`. Commutative operators match both ways, alternatives are tried in order, and matching backtracks
through all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

from ..attributes import Attribute, same
from ..graph import EXIT, Node, Value
from ..tensors import Placeholder
from ..types import DType

COMMUTATIVE = frozenset(
    ["Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]
)
SCALAR_TOLERANCE = 1e-6
ROUNDING = {DType.F16: 2.0**-11, DType.BF16: 2.0**-8}
"""How far, relatively, a number lies from its nearest in the short element types."""
MANY = 4
"""Users that a message names."""

Bound = Union[Value, Node, None]
Reason = Callable[[], str]
Wanted = Union[Attribute, Sequence[int], Callable[[Any], bool]]
Producers = tuple[Union[str, None], ...]
"""The operators that make the operands of a node: '' for a constant, None where the operand is missing."""


class Match:
    """Bindings of one attempt, the nodes that operator patterns matched, and the reason of the mismatch that got
    furthest.

    `place` is the node and the number of its operand that is being matched (None at the root).
    """

    __slots__ = ("_failure", "_failure_place", "_failure_rank", "bound", "depth", "nodes", "place")

    def __init__(self) -> None:
        self.bound: dict[str, Bound] = {}
        self.nodes: list[Node] = []
        self.place: tuple[Node, int] | None = None
        self.depth = 0
        self._failure_rank = -1
        self._failure: Reason | None = None
        self._failure_place: tuple[Node, int] | None = None

    def fail(self, reason: Reason, further: bool = False) -> None:
        """Notes why an attempt ends here; `further` where the operator was the right one. Most reasons are never asked
        for, so they are put into words later.
        """
        rank = 2 * self.depth + further
        if rank > self._failure_rank:
            self._failure_rank, self._failure, self._failure_place = rank, reason, self.place

    @property
    def failure(self) -> str:
        """The reason of the mismatch that got furthest, '' where there was none."""
        if self._failure is None:
            return ""
        if self._failure_place is None:
            return self._failure()
        node, index = self._failure_place
        return f"operand {index} of {node.where}: {self._failure()}"


class Pattern(ABC):
    """Something that a value can match. Names bind what matched: values for variables, nodes for operators."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    @abstractmethod
    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        """Yields once per way to match; bindings are in `match` while the consumer runs and undone afterwards."""

    @abstractmethod
    def names(self) -> set[str]:
        """Every name that the pattern may bind."""

    def depth(self) -> int:
        """The number of operators on the longest path."""
        return 0

    def roots(self) -> list[str]:
        """Operators that the root may have; empty where it is none."""
        return []

    def producers(self) -> frozenset[str] | None:
        """The operators of which one makes every value that matches, '' for constants; None where any value may."""
        return None

    def __or__(self, other: Operand) -> Pattern:
        return Alternatives([self, operand(other)])

    def bind(self, bound: Bound, match: Match) -> Iterator[None]:
        """Binds the pattern's name, if it has one, to what matched; the same name must mean the same thing
        everywhere.
        """
        if not self.name:
            yield
        elif self.name in match.bound:
            if match.bound[self.name] is bound:
                yield
            else:
                other = match.bound[self.name]
                match.fail(lambda: f"{self.name!r} stands for {described(other)} already, found {described(bound)}")
        else:
            match.bound[self.name] = bound
            yield
            del match.bound[self.name]


Operand = Union[Pattern, float, int]


class Variable(Pattern):
    """Any value; a constant where `const`; a missing operand too where `optional`."""

    def __init__(self, name: str, *, const: bool = False, optional: bool = False) -> None:
        super().__init__(name)
        self.const, self.optional = const, optional

    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        if value is None:
            if self.optional:
                yield from self.bind(None, match)
            else:
                match.fail(lambda: f"{self.name!r} is missing")
        elif self.const and (value.const is None or isinstance(value.const, Placeholder)):
            match.fail(lambda: f"{self.name!r} must be a constant, found {described(value)}")
        else:
            yield from self.bind(value, match)

    def names(self) -> set[str]:
        return {self.name} - {""}

    def producers(self) -> frozenset[str] | None:
        return _CONSTANT if self.const and not self.optional else None


class Scalar(Pattern):
    """A constant of one element that is equal to a number, up to the rounding of its element type."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        if value is not None and is_scalar(value, self.number):
            yield
        else:
            match.fail(lambda: f"expected the number {self.number:g}, found {described(value)}")

    def names(self) -> set[str]:
        return set()

    def producers(self) -> frozenset[str] | None:
        return _CONSTANT


class Operator(Pattern):
    """An operator with operands and attributes. A missing trailing operand matches only optional patterns."""

    def __init__(
        self,
        op: str,
        operands: Sequence[Pattern],
        attrs: dict[str, Wanted],
        *,
        domain: str = "",
        name: str = "",
        shared: bool = False,
        index: int | None = None,
    ) -> None:
        super().__init__(name)
        self.op, self.operands, self.attrs, self.domain = op, tuple(operands), attrs, domain
        self.is_shared, self.index = shared, index
        wanted = [(i, p.producers()) for i, p in enumerate(self.operands)]
        self.wanted = [(i, ops) for i, ops in wanted if ops is not None]

    def _with(self, **changes: Any) -> Operator:
        now: dict[str, Any] = {"domain": self.domain, "name": self.name, "shared": self.is_shared, "index": self.index}
        return Operator(self.op, self.operands, self.attrs, **(now | changes))

    @property
    def full_name(self) -> str:
        """The operator as a person writes it, with a domain that is not the standard one."""
        return f"{self.domain}::{self.op}" if self.domain else self.op

    def named(self, name: str) -> Operator:
        """The same pattern, binding the matched node."""
        return self._with(name=name)

    @property
    def shared(self) -> Operator:
        """The same pattern, allowed to have other users (it then stays for them)."""
        return self._with(shared=True)

    def output(self, index: int) -> Operator:
        """The same pattern, matching only output `index` of the operator."""
        return self._with(index=index)

    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        node = None if value is None else value.node
        if value is None or node is None or node.op != self.op or node.domain != self.domain:
            match.fail(lambda: f"expected {self.full_name}, found {described(value)}")
            return
        if self.index is not None and value.index != self.index:
            match.fail(lambda: f"expected output {self.index} of {node.where}, found output {value.index}", True)
            return
        if not self.is_shared and sum(len(v.users) for v in node.outputs) != 1:
            place = match.place
            match.fail(lambda: f"{node.where} has other users: {_other_users(node, place)}", True)
            return
        yield from self.node_solutions(node, match)

    def fits(self, producers: Producers) -> bool:
        """False where what makes the operands of a node shows already that it cannot match."""
        if _all_from(self.wanted, producers):
            return True
        return self.op in COMMUTATIVE and len(producers) == 2 and _all_from(self.wanted, producers[::-1])

    def node_solutions(self, node: Node, match: Match) -> Iterator[None]:
        """As `solutions`, from a node, without asking who uses it: for the root."""
        for name, wanted in self.attrs.items():
            if not _attribute_fits(node.attr(name), wanted):
                match.fail(
                    lambda name=name, wanted=wanted: (
                        f"{node.where} has {name}={node.attr(name)!r}, {_expected(wanted)}"
                    ),
                    True,
                )
                return
        inputs = node.operands
        if len(inputs) > len(self.operands):
            match.fail(lambda: f"{node.where} has {len(inputs)} operands, expected at most {len(self.operands)}", True)
            return
        match.depth += 1
        match.nodes.append(node)
        orders = (False, True) if self.op in COMMUTATIVE and len(inputs) == 2 else (False,)
        for swapped in orders:
            for _ in self._operands(0, node, inputs[::-1] if swapped else inputs, swapped, match):
                yield from self.bind(node, match)
        match.nodes.pop()
        match.depth -= 1

    def _operands(
        self, index: int, node: Node, inputs: Sequence[Value | None], swapped: bool, match: Match
    ) -> Iterator[None]:
        if index == len(self.operands):
            yield
            return
        value = inputs[index] if index < len(inputs) else None
        match.place = (node, 1 - index if swapped else index)
        for _ in self.operands[index].solutions(value, match):
            yield from self._operands(index + 1, node, inputs, swapped, match)

    def names(self) -> set[str]:
        return ({self.name} - {""}).union(*(p.names() for p in self.operands))

    def depth(self) -> int:
        return 1 + max((p.depth() for p in self.operands), default=0)

    def roots(self) -> list[str]:
        return [self.op]

    def producers(self) -> frozenset[str] | None:
        return frozenset([self.op])


class Alternatives(Pattern):
    """The first of several patterns that matches; names that only others bind are bound to None."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        super().__init__()
        self.patterns = [q for p in patterns for q in (p.patterns if isinstance(p, Alternatives) else [p])]
        self.starts: dict[str, Operator] | None = None
        if all(isinstance(p, Operator) for p in self.patterns):
            self.starts = {p.full_name: p for p in self.patterns if isinstance(p, Operator)}
        self.ops = frozenset(self.roots())

    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        place = match.place
        if self.starts is not None and (value is None or value.node is None or value.node.op not in self.ops):
            match.fail(lambda: f"expected {' or '.join(self.starts or ())}, found {described(value)}")
            return
        for pattern in self.patterns:
            match.place = place
            yield from pattern.solutions(value, match)

    def names(self) -> set[str]:
        return set[str]().union(*(p.names() for p in self.patterns))

    def depth(self) -> int:
        return max(p.depth() for p in self.patterns)

    def roots(self) -> list[str]:
        return [op for p in self.patterns for op in p.roots()]

    def producers(self) -> frozenset[str] | None:
        each = [p.producers() for p in self.patterns]
        return None if None in each else frozenset[str]().union(*(ops for ops in each if ops is not None))


class PatternFactory:
    """`P`: variables by method, operators by name: `P.Conv(P.var("x"), P.const("w"), group=1)`."""

    def var(self, name: str) -> Variable:
        """Any value."""
        return Variable(name)

    def const(self, name: str) -> Variable:
        """A constant."""
        return Variable(name, const=True)

    def opt(self, name: str) -> Variable:
        """Any value, or a missing operand (bound to None)."""
        return Variable(name, optional=True)

    def opt_const(self, name: str) -> Variable:
        """A constant, or a missing operand (bound to None)."""
        return Variable(name, const=True, optional=True)

    def __getattr__(self, op: str) -> Callable[..., Operator]:
        if op.startswith("_"):
            raise AttributeError(op)

        def make(*operands: Operand, domain: str = "", **attrs: Wanted) -> Operator:
            return Operator(op, [operand(o) for o in operands], attrs, domain=domain)

        return make


P = PatternFactory()
_CONSTANT = frozenset([""])


def _all_from(wanted: Sequence[tuple[int, frozenset[str]]], producers: Producers) -> bool:
    for index, ops in wanted:  # noqa: SIM110 (what every attempt begins with)
        if index >= len(producers) or producers[index] not in ops:
            return False
    return True


def producers(node: Node) -> Producers:
    """What makes the operands of a node."""
    return tuple([None if v is None else "" if v.node is None else v.node.op for v in node.operands])


def operand(value: Operand) -> Pattern:
    """A pattern from what may stand as an operand: a pattern or a number."""
    return value if isinstance(value, Pattern) else Scalar(float(value))


def match_node(pattern: Pattern, node: Node) -> tuple[Match, bool]:
    """The first match with `node` as root, and whether there is one. Without one the match holds the deepest reason."""
    match = Match()
    candidates = pattern.patterns if isinstance(pattern, Alternatives) else [pattern]
    for candidate in candidates:
        if isinstance(candidate, Operator) and candidate.op == node.op and candidate.domain == node.domain:
            for _ in candidate.node_solutions(node, match):
                found = Match()
                found.bound, found.nodes = dict(match.bound), list(match.nodes)
                return found, True
    return match, False


def is_scalar(value: Value, number: float) -> bool:
    """True for a constant of one element that equals `number` up to the rounding of its element type."""
    tensor = value.const
    if tensor is None or tensor.count != 1 or isinstance(tensor, Placeholder) or tensor.dtype.numpy.kind in "OcV":
        return False
    found, tolerance = float(tensor.item()), ROUNDING.get(tensor.dtype, SCALAR_TOLERANCE)
    return found == number or abs(found - number) <= tolerance * abs(number) < math.inf


def _attribute_fits(found: Attribute | None, wanted: Wanted) -> bool:
    if callable(wanted):
        return bool(wanted(found))
    if found is None:
        return False
    return same(found, tuple(wanted) if isinstance(wanted, list) else wanted)  # pyright: ignore[reportArgumentType]


def _expected(wanted: Wanted) -> str:
    return "which the pattern does not take" if callable(wanted) else f"expected {wanted!r}"


def described(bound: Bound) -> str:
    """What stands somewhere in a graph, for a message: a node, an input, a constant, or nothing."""
    if bound is None:
        return "nothing"
    if isinstance(bound, Node):
        return bound.where
    if bound.const is not None:
        return f"the constant {bound!r}"
    return f"the input {bound!r}" if bound.is_input or bound.node is None else bound.node.where


def _other_users(node: Node, place: tuple[Node, int] | None) -> str:
    """Who uses a node's outputs besides the node from which the pattern came to it."""
    came_from = None if place is None else place[0]
    rows = list[str]()
    for value in node.outputs:
        for user in value.users:
            if user.op == EXIT and user.graph is not None and user.graph.parent is None:
                rows += [
                    f"output {n!r}" for n, v in zip(user.graph.output_names, user.inputs, strict=True) if v is value
                ]
            elif user.op == EXIT:
                rows.append("the result of its region")
            elif user is not came_from:
                rows.append(user.where)
    return ", ".join(rows[:MANY]) + (f" and {len(rows) - MANY} more" if len(rows) > MANY else "")
