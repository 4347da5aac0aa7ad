"""A hash of what a graph computes and how it is spelled: operators, edges, attributes, constants, interface, but no
names of inner values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .attributes import Attribute, EmptyList
from .dims import Symbol
from .graph import Graph, Node, Value
from .schemas import lookup
from .tensors import Tensor
from .types import Type, type_text


class _Hasher:
    """Numbers fresh symbols in the order in which they are met, so that equal graphs hash equally in every process."""

    def __init__(self) -> None:
        self.fresh: dict[Symbol, str] = {}
        self.known: dict[Value, str] = {}
        self.depth = 0

    def symbol(self, symbol: Symbol) -> str:
        name = self.fresh.setdefault(symbol, f"?{len(self.fresh)}") if symbol.is_fresh else symbol.name
        return name if (symbol.lower, symbol.upper) == (0, None) else f"{name}[{symbol.lower},{symbol.upper}]"

    def type(self, type_: Type) -> str:
        return type_text(type_, self.symbol)

    def attribute(self, value: Attribute) -> str:
        if isinstance(value, EmptyList):
            return value.kind
        if isinstance(value, tuple):
            return "(" + ",".join(self.attribute(v) for v in value) + ")"
        if isinstance(value, Tensor):
            return value.digest
        if isinstance(value, (int, float, str, bytes)):
            return repr(value)
        return self.type(value)

    def value(self, value: Value | None) -> str:
        if value is None:
            return "_"
        found = self.known.get(value)
        if found is None:
            assert value.const is not None, f"{value!r} is used before it is defined"
            found = self.known[value] = value.const.digest
        return found

    def node(self, node: Node) -> str:
        rows = [node.domain, node.op, str(_present(node))]
        rows += [self.value(v) for v in _given(node)]
        rows += [f"{k}={self.attribute(v)}" for k, v in sorted(node.attrs.items())]
        outer = node.captured
        rows += [f"{k}={self.graph(r, outer)}" for k, r in sorted(node.regions.items())]
        return _digest(rows)

    def graph(self, graph: Graph, captured: Sequence[Value | None] = ()) -> str:
        """A region's captured values are what they are outside: in which order they are captured does not count."""
        rows: list[str] = []
        self.depth += 1
        own = len(graph.inputs) - len(captured)
        self.known |= {inner: self.value(v) for inner, v in zip(graph.inputs[own:], captured, strict=True)}
        for index, value in enumerate(graph.inputs[:own]):
            default = graph.defaults.get(value)
            rows.append(
                f"{value.name if self.depth == 1 else ''}:{self.type(value.type)}"
                f"={default.digest if default is not None else ''}"
            )
            self.known[value] = _digest(["input", str(self.depth), str(index), self.type(value.type)])
        for node in graph:
            if _only_yields(node):
                self.known[node.output] = self.value(node.operand(0))
                continue
            code = self.node(node)
            types = [self.type(v.type) for v in node.outputs]
            for value, text in zip(node.outputs, types, strict=True):
                self.known[value] = _digest([code, str(value.index), text])
            rows.append(code)
        rows += [
            f"{n if self.depth == 1 else ''}={self.value(v)}"
            for n, v in zip(graph.output_names, graph.exit.inputs, strict=True)
        ]
        self.depth -= 1
        return _digest(rows)


def _only_yields(node: Node) -> bool:
    """True for an Identity that nothing but the end of its graph reads: files have to have one where a graph yields
    one of its inputs, what a region captures, or one value twice.
    """
    if node.op != "Identity" or node.domain or not node.outputs[0].is_output or node.input(0) is None:
        return False
    return len(node.outputs[0].users) == 1


def _given(node: Node) -> tuple[Value | None, ...]:
    """The operands without captured ones, and without missing ones at the end, which mean the same as none."""
    count = len(node.inputs) - node.captures
    while count and node.inputs[count - 1] is None:
        count -= 1
    return node.inputs[:count]


def _present(node: Node) -> int:
    """The number of outputs without those at the end that nobody uses and that count as omitted."""
    schema, count = lookup(node.op, node.domain), len(node.outputs)
    while schema is not None and count > 1 and not node.outputs[count - 1].users:
        if not schema.may_omit(count - 1, node.attrs):
            break
        count -= 1
    return count


def _digest(rows: list[str]) -> str:
    return hashlib.blake2b("\x1f".join(rows).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def structural_hash(graph: Graph) -> str:
    """32 hexadecimal digits: equal for graphs with the same nodes in the same order, types, constants and interface
    names. The order of captures does not count, nor does an Identity that is there only to be yielded.
    """
    return _Hasher().graph(graph)
