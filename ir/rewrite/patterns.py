"""Patterns over the producers of a value: `P.BatchNormalization(P.Conv(x, w, b), ...)`.

A pattern is matched from its root upwards. Interior values must have no user outside the pattern's own edge, unless
marked `.shared`. Commutative operators match both ways, alternatives are tried in order, and matching backtracks
through all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

import numpy as np

from ..attributes import Attribute, same
from ..graph import Node, Value
from ..tensors import Placeholder

COMMUTATIVE = frozenset(
    ["Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]
)
SCALAR_TOLERANCE = 1e-6

Bound = Union[Value, Node, None]
Wanted = Union[Attribute, Sequence[int], Callable[[Any], bool]]


class Match:
    """Bindings of one attempt, the nodes that operator patterns matched, and the reason of the deepest mismatch."""

    __slots__ = ("bound", "depth", "failure", "failure_depth", "nodes")

    def __init__(self) -> None:
        self.bound: dict[str, Bound] = {}
        self.nodes: list[Node] = []
        self.depth, self.failure_depth, self.failure = 0, -1, ""

    def fail(self, reason: Callable[[], str]) -> None:
        if self.depth > self.failure_depth:
            self.failure_depth, self.failure = self.depth, reason()


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
                match.fail(lambda: f"{self.name!r} stands for two different values")
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
                match.fail(lambda: f"operand {self.name!r} is missing")
        elif self.const and (value.const is None or isinstance(value.const, Placeholder)):
            match.fail(lambda: f"{self.name!r} must be a constant, found {value!r}")
        else:
            yield from self.bind(value, match)

    def names(self) -> set[str]:
        return {self.name} - {""}


class Scalar(Pattern):
    """A constant of one element that is equal to a number, up to the rounding of its element type."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        if value is not None and is_scalar(value, self.number):
            yield
        else:
            match.fail(lambda: f"expected the number {self.number}, found {value!r}")

    def names(self) -> set[str]:
        return set()


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

    def _with(self, **changes: Any) -> Operator:
        now: dict[str, Any] = {"domain": self.domain, "name": self.name, "shared": self.is_shared, "index": self.index}
        return Operator(self.op, self.operands, self.attrs, **(now | changes))

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
            match.fail(lambda: f"expected {self.op}, found {value.op or 'a constant' if value else 'nothing'}")
            return
        if self.index is not None and value.index != self.index:
            match.fail(lambda: f"expected output {self.index} of {node.where}")
            return
        if not self.is_shared and sum(len(v.users) for v in node.outputs) != 1:
            match.fail(lambda: f"{node.where} has other users")
            return
        yield from self.node_solutions(node, match)

    def node_solutions(self, node: Node, match: Match) -> Iterator[None]:
        """As `solutions`, from a node, without asking who uses it: for the root."""
        for name, wanted in self.attrs.items():
            if not _attribute_fits(node.attr(name), wanted):
                match.fail(lambda name=name: f"{node.where} has {name}={node.attr(name)!r}")
                return
        inputs = node.inputs[: len(node.inputs) - node.captures]
        if len(inputs) > len(self.operands):
            match.fail(lambda: f"{node.where} has {len(inputs)} operands, expected at most {len(self.operands)}")
            return
        match.depth += 1
        match.nodes.append(node)
        orders = [inputs, inputs[::-1]] if self.op in COMMUTATIVE and len(inputs) == 2 else [inputs]
        for order in orders:
            for _ in self._operands(0, order, match):
                yield from self.bind(node, match)
        match.nodes.pop()
        match.depth -= 1

    def _operands(self, index: int, inputs: Sequence[Value | None], match: Match) -> Iterator[None]:
        if index == len(self.operands):
            yield
            return
        value = inputs[index] if index < len(inputs) else None
        for _ in self.operands[index].solutions(value, match):
            yield from self._operands(index + 1, inputs, match)

    def names(self) -> set[str]:
        return ({self.name} - {""}).union(*(p.names() for p in self.operands))

    def depth(self) -> int:
        return 1 + max((p.depth() for p in self.operands), default=0)

    def roots(self) -> list[str]:
        return [self.op]


class Alternatives(Pattern):
    """The first of several patterns that matches; names that only others bind are bound to None."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        super().__init__()
        self.patterns = [q for p in patterns for q in (p.patterns if isinstance(p, Alternatives) else [p])]

    def solutions(self, value: Value | None, match: Match) -> Iterator[None]:
        for pattern in self.patterns:
            yield from pattern.solutions(value, match)

    def names(self) -> set[str]:
        return set[str]().union(*(p.names() for p in self.patterns))

    def depth(self) -> int:
        return max(p.depth() for p in self.patterns)

    def roots(self) -> list[str]:
        return [op for p in self.patterns for op in p.roots()]


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
    return bool(np.isclose(float(tensor.item()), number, rtol=SCALAR_TOLERANCE, atol=0.0))


def _attribute_fits(found: Attribute | None, wanted: Wanted) -> bool:
    if callable(wanted):
        return bool(wanted(found))
    if found is None:
        return False
    return same(found, tuple(wanted) if isinstance(wanted, list) else wanted)  # pyright: ignore[reportArgumentType]
