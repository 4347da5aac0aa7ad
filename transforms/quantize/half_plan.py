"""Which nodes compute in 16 bits: those that bear it, with as few Casts as there can be, by a minimum cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import networkx as nx
from onnx import defs

from ...backends.onnx.lowering.element_types import TENSOR_NAMES, takes
from ...ir import CANONICAL_OPSET, Builder, DType, Graph, Node, TensorType, Value, constant, fuse
from ...ir.tensors import cast
from . import cut, sensitive
from .layers import is_f32
from .narrow import SMALLEST, fits

FIRST_BFLOAT16 = 13
"""The opset from which on what moves numbers, adds and multiplies them takes bfloat16."""

WEIGHT = 1.5
"""What it is worth, in Casts, that a weight is stored in 16 bits."""

LEANING = 0.01
"""What 16 bits are worth to a node that may have either, in Casts."""


@dataclass
class Plan:
    """Which nodes of a graph compute in `dtype`: `reasons` are those that cannot, `halves` those that will."""

    graph: Graph
    dtype: DType
    reasons: dict[Node, str] = field(default_factory=dict[Node, str])
    halves: set[Node] = field(default_factory=set[Node])

    def why_not(self, node: Node) -> str:
        """Why a node cannot compute in 16 bits; '' where it can."""
        why = sensitive.why_not(node, self.dtype)
        if why:
            return why
        if not list(self.values(node)):
            return "it has no float operand that may have 16 bits"
        for value in self.operands(node):
            if value.const is not None:
                why = fits(value.tensor, self.dtype)
                if why:
                    return why
        return ""

    def takes(self, node: Node, side: str, index: int) -> bool:
        """Whether an operand or output may have 16 bits; what the opset lacks is written out by the backend."""
        if node in (self.graph.entry, self.graph.exit):
            return True
        return takes(node.op, CANONICAL_OPSET, side, index, TENSOR_NAMES[self.dtype])

    def operands(self, node: Node) -> Iterator[Value]:
        """The float operands that may have 16 bits."""
        for i, value in enumerate(node.inputs):
            if value is not None and is_f32(value) and self.takes(node, "inputs", i):
                yield value

    def values(self, node: Node) -> Iterator[Value]:
        """Those, and the results."""
        yield from self.operands(node)
        yield from (v for i, v in enumerate(node.outputs) if is_f32(v) and self.takes(node, "outputs", i))

    def reason(self, node: Node) -> str:
        return self.reasons.get(node, "it stands alone: the Casts around it would cost more")

    def choose(self, convert: bool) -> None:
        """The cheapest assignment; with `convert` the graph's inputs and outputs are in 16 bits."""
        able = [node for node in self.graph if node not in self.reasons]
        ends = [self.graph.entry, self.graph.exit] if convert else []
        network: nx.DiGraph[object] = nx.DiGraph()
        network.add_nodes_from((cut.FAST, cut.FLOAT))
        for node in able:
            network.add_edge(cut.FAST, node, capacity=self.worth(node))
        for node in ends:
            network.add_edge(cut.FAST, node, capacity=math.inf)
        members = {*able, *ends}
        for value, maker in self.made():
            takers = [user for user in value.users if user in members and value in self.operands(user)]
            source = maker if maker in members and self.gives(maker, value) else cut.FLOAT
            if takers or source != cut.FLOAT:
                cut.connect(network, value, source, takers, 1.0)
        fast = cut.cheapest(network)[1]
        self.halves = {node for node in members if node in fast}

    def worth(self, node: Node) -> float:
        """What 16 bits are worth to a node, in Casts."""
        if node.op in sensitive.LAYERS:
            return math.inf
        return (
            WEIGHT if any(v.const is not None and v.tensor.count >= SMALLEST for v in self.operands(node)) else LEANING
        )

    def made(self) -> Iterator[tuple[Value, Node]]:
        for node in (self.graph.entry, *self.graph):
            yield from ((v, node) for v in node.outputs if is_f32(v))

    def gives(self, node: Node, value: Value) -> bool:
        return self.takes(node, "outputs", value.index)

    def write(self) -> int:
        """Changes the graph; gives the number of Casts."""
        casts = 0
        narrowed: dict[Value, Value] = {}
        for value, maker in list(self.made()):
            half = maker in self.halves and self.gives(maker, value)
            others = [(u, i) for u, i in uses(value) if half != (u in self.halves and self.takes(u, "inputs", i))]
            if half:
                self.retype(value)
            if others:
                casts += 1
                other = self.converted(value, DType.F32 if half else self.dtype)
                for user, i in others:
                    user.set_input(i, other)
        for node in self.halves:
            for i, value in enumerate(node.inputs):
                if value is not None and value.const is not None and is_f32(value) and self.takes(node, "inputs", i):
                    if value not in narrowed:
                        narrowed[value] = constant(cast(value.tensor, self.dtype), value.name)
                    node.set_input(i, narrowed[value])
            if node.op == "Attention":
                node.attrs["softmax_precision"] = DType.F32.code
        return casts

    def opset(self) -> int:
        """The oldest opset at which every operator that was put into 16 bits takes them, or is decomposed."""
        needed = FIRST_BFLOAT16
        for node in self.halves - {self.graph.entry, self.graph.exit}:
            needed = next((o for o in range(needed, CANONICAL_OPSET) if self.has_form(node, o)), CANONICAL_OPSET)
        return needed

    def has_form(self, node: Node, opset: int) -> bool:
        """Whether a node takes the 16 bits that it was given, at this opset."""
        name = TENSOR_NAMES[self.dtype]
        return not defs.has(node.op, opset) or all(
            takes(node.op, opset, side, i, name)
            for side, values in (("inputs", node.inputs), ("outputs", node.outputs))
            for i, v in enumerate(values)
            if v is not None and v.dtype is self.dtype
        )

    def retype(self, value: Value) -> None:
        assert isinstance(value.type, TensorType), "only floats are chosen"
        value.type = value.type.with_dtype(self.dtype)
        if value in self.graph.defaults:
            self.graph.defaults[value] = cast(self.graph.defaults[value], self.dtype)

    def converted(self, value: Value, dtype: DType) -> Value:
        """The value in another precision, right behind the node that gives it."""
        maker = value.node
        assert maker is not None, "a computed value"
        assert isinstance(value.type, TensorType), "only floats are converted"
        other = Builder(self.graph, maker.next, loc=fuse(maker.loc, [], "half")).Cast(value, to=dtype.code)
        other.type, other.name = value.type.with_dtype(dtype), f"{value.name}_{dtype.label}" if value.name else ""
        return other


def uses(value: Value) -> list[tuple[Node, int]]:
    """Every place where a value is read."""
    return [(user, i) for user in value.users for i, v in enumerate(user.inputs) if v is value]
