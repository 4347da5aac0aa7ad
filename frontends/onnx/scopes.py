"""Names: what a list of nodes defines and uses, in which order it can be read, and what a subgraph takes from outside.

ONNX connects nodes by names that are assigned once. Order in a file should follow the dataflow but not every exporter
sees to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, TypeProto

from ...ir import Graph, InvalidModelError, Loc, Value
from .strings import text, texts
from .types import Sizes

Binding = tuple[AttributeProto, "Scope"]
"""An attribute that a function call gives, and the scope of the call: a subgraph among them sees the caller's names."""


@dataclass
class Scope:
    """Where nodes are read into, and what names, attribute references and operator versions mean there.

    A function body has a scope of its own in the caller's graph; a subgraph has a scope of its own in a region. `names`
    maps an optional function input that the caller left out to None.
    """

    graph: Graph
    imports: dict[str, int]
    names: dict[str, Value | None] = field(default_factory=dict[str, "Value | None"])
    declared: dict[str, TypeProto] = field(default_factory=dict[str, TypeProto])
    sizes: Sizes = field(default_factory=Sizes)
    bindings: dict[str, Binding] = field(default_factory=dict[str, Binding])
    call: Loc | None = None
    prefix: str = ""


class Entry(NamedTuple):
    """A node of a file with its names taken out of the proto once; `free` are the outer names that its subgraphs use.

    Printed, it says where the node is.
    """

    proto: NodeProto
    file: str
    op: str
    domain: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    free: Sequence[str]

    def __str__(self) -> str:
        return f"{self.file}, node {self.label()}"

    def label(self) -> str:
        """The node for messages: operator and name, or the name of its first output."""
        title = self.title
        return f"{self.op} {title!r}" if title else self.op

    @property
    def title(self) -> str:
        """The node's name, else that of its first output."""
        return self.name or next((o for o in self.outputs if o), "")


def entries(nodes: Iterable[NodeProto], file: str) -> list[Entry]:
    return [
        Entry(
            n,
            file,
            text(n.op_type),
            domain_of(n),
            text(n.name),
            texts(n.input),
            texts(n.output),
            _free_of_node(n) if n.attribute else (),
        )
        for n in nodes
    ]


def domain_of(proto: NodeProto | FunctionProto | OperatorSetIdProto) -> str:
    """The domain, with ONNX's own under one name."""
    domain = text(proto.domain)
    return "" if domain == "ai.onnx" else domain


def free_names(graph: GraphProto) -> list[str]:
    """The names that a subgraph uses and does not define, in order of first use."""
    defined = {text(v.name) for v in (*graph.input, *graph.initializer, *(t.values for t in graph.sparse_initializer))}
    used: dict[str, None] = {}
    for node in graph.node:
        used.update(dict.fromkeys(texts(node.input)))
        used.update(dict.fromkeys(_free_of_node(node)))
        defined.update(texts(node.output))
    used.update(dict.fromkeys(text(v.name) for v in graph.output))
    return [name for name in used if name and name not in defined]


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The subgraphs that stand in the node's own attributes."""
    found: list[GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def _free_of_node(node: NodeProto) -> Sequence[str]:
    names: dict[str, None] = {}
    for graph in subgraphs(node):
        names.update(dict.fromkeys(free_names(graph)))
    return list(names)


def in_order(nodes: list[Entry], known: Iterable[str]) -> list[Entry]:
    """The nodes with definitions before uses, unchanged when they are so already.

    Raises InvalidModelError for a name that is defined twice or never, and for a cycle.
    """
    known = set(known)
    defined, is_sorted = {"", *known}, True
    for entry in nodes:
        if is_sorted and not (defined.issuperset(entry.inputs) and defined.issuperset(entry.free)):
            is_sorted = False
        for name in entry.outputs:
            if name and name in defined:
                raise InvalidModelError(
                    f"the name {name!r} is defined twice",
                    where=entry,
                    why="every value of an ONNX graph has one definition",
                    do="export the model again",
                )
            defined.add(name)
    return nodes if is_sorted else _sorted(nodes, known, defined)


def _sorted(nodes: list[Entry], known: set[str], defined: set[str]) -> list[Entry]:
    """Depth-first over the names that a node needs, without recursion; keeps the file's order where it can."""
    maker = {name: entry for entry in nodes for name in entry.outputs if name}
    order: list[Entry] = []
    state: dict[int, int] = {}
    for root in nodes:
        stack = [root]
        while stack:
            entry = stack[-1]
            if id(entry) in state:
                stack.pop()
                if state[id(entry)] == 1:
                    state[id(entry)] = 2
                    order.append(entry)
                continue
            state[id(entry)] = 1
            for name in (*entry.inputs, *entry.free):
                if not name or name in known:
                    continue
                if name not in defined:
                    raise undefined(name, entry)
                before = maker[name]
                if state.get(id(before)) == 1:
                    raise InvalidModelError(
                        "the graph has a cycle",
                        where=entry,
                        why=f"it needs {name!r} from node {before.label()}, which depends on it",
                        do="export the model again",
                    )
                if id(before) not in state:
                    stack.append(before)
    return order


def undefined(name: str, where: object) -> InvalidModelError:
    return InvalidModelError(
        f"the value {name!r} is used and never defined",
        where=where,
        why="no input, initializer or node of the graph has this name",
        do="export the model again",
    )
