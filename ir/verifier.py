"""The invariants of the IR, checked.

1. Each value has one definition: it is output `index` of its node, or a constant without a node. 2. `value.users[node]`
is how often `node.inputs` holds the value, for every user, and users are in the graph. 3. Definitions come before uses
(at pass boundaries). 4. A used value belongs to the user's own graph, or is a constant: regions are isolated, and the
last `captures` operands of a node
   match the last inputs of each of its regions in number; the branches of an If have no other inputs.
5. Types are set: a tensor type, a container, or ANY for what no rule could tell; constants have their tensor's type.
6. Arity and attributes fit the operator's schema, where it has one.
7. Names of a graph's outputs are unique and as many as the outputs; names of the outermost graph's inputs are unique.
"""

from __future__ import annotations

from collections import Counter

from .attributes import kind_of
from .errors import VerificationError
from .graph import ENTRY, EXIT, Graph, Node, Value
from .schemas import lookup
from .types import AnyType, MapType, OptionalType, SequenceType, SparseType, TensorType

CONTEXT = 10
MANY = 32
TYPES = (TensorType, SequenceType, OptionalType, SparseType, MapType, AnyType)


def verify(graph: Graph, *, after: str = "") -> None:
    """Checks every invariant. Raises VerificationError that shows the graph around the culprit and says what ran before
    (`after`).
    """
    _Verifier(after).graph(graph)


class _Verifier:
    def __init__(self, after: str) -> None:
        self.after = after
        self.counts: dict[Node, Counter[Value | None]] = {}

    def fail(self, invariant: int, node: Node, why: str) -> VerificationError:
        return VerificationError(
            f"the graph breaks invariant {invariant}{f' after {self.after}' if self.after else ''}",
            where=node.where,
            why=f"{why}\n{surroundings(node)}",
            do="this is a fault of the pass or frontend that made the graph: please report it",
        )

    def graph(self, graph: Graph) -> None:
        seen: set[Node] = {graph.entry}
        alive = {graph.entry, graph.exit, *graph}
        if len(alive) != graph.count + 2:
            raise self.fail(1, graph.exit, f"the list holds {len(alive) - 2} nodes, the count says {graph.count}")
        for node in (graph.entry, *graph, graph.exit):
            self.definitions(node, graph)
            self.operands(node, seen)
            self.users(node, alive)
            seen.add(node)
            if node.op not in (ENTRY, EXIT):
                self.schema(node)
                self.regions(node)
        self.interface(graph)

    def definitions(self, node: Node, graph: Graph) -> None:
        if node.graph is not graph or (node.next is not None and node.next.prev is not node):
            raise self.fail(1, node, "the list of nodes is broken here")
        for index, value in enumerate(node.outputs):
            if value.node is not node or value.index != index or value.const is not None:
                raise self.fail(1, node, f"output {index} does not say that this node defines it")
            if not isinstance(value.type, TYPES):  # pyright: ignore[reportUnnecessaryIsInstance]  # a pass may have set anything
                raise self.fail(5, node, f"output {index} has the type {value.type!r}")

    def operands(self, node: Node, seen: set[Node]) -> None:
        for value in node.inputs:
            if value is None:
                continue
            times = self.uses(node, value)
            if value.users.get(node) != times:
                raise self.fail(2, node, f"{value!r} is used {times} times here and counts {value.users.get(node, 0)}")
            if value.const is not None:
                if value.node is not None:
                    raise self.fail(1, node, f"{value!r} is a constant and has a node")
                if value.type != value.const.type:
                    raise self.fail(5, node, f"{value!r} is a constant of type {value.const.type!r}")
            elif value.node is None:
                raise self.fail(1, node, f"{value!r} is neither defined nor a constant")
            elif value.node.graph is not node.graph:
                raise self.fail(4, node, f"{value!r} belongs to another graph or to none")
            elif value.node not in seen:
                raise self.fail(3, node, f"{value!r} is used before it is defined")

    def uses(self, user: Node, value: Value) -> int:
        """How often a node's operands hold a value; counted once for nodes with many operands."""
        if len(user.inputs) <= MANY:
            return user.inputs.count(value)
        if user not in self.counts:
            self.counts[user] = Counter(user.inputs)
        return self.counts[user][value]

    def users(self, node: Node, alive: set[Node]) -> None:
        for value in node.outputs:
            for user, times in value.users.items():
                if user.graph is not node.graph and user.graph is not None:
                    raise self.fail(4, user, f"{value!r} belongs to another graph")
                if user not in alive or self.uses(user, value) != times:
                    raise self.fail(
                        2, node, f"{value!r} counts {times} uses by {user.where}, which has {user.inputs.count(value)}"
                    )

    def schema(self, node: Node) -> None:
        schema = lookup(node.op, node.domain)
        if schema is None:
            return
        operands = len(node.inputs) - node.captures
        if not schema.inputs[0] <= operands <= schema.inputs[1]:
            raise self.fail(6, node, f"{operands} operands, expected {schema.inputs[0]} to {schema.inputs[1]}")
        if len(node.outputs) > schema.outputs[1]:
            raise self.fail(6, node, f"{len(node.outputs)} outputs, expected at most {schema.outputs[1]}")
        if None in node.inputs:
            for index, value in enumerate(node.inputs[:operands]):
                if value is None and index < len(schema.optional_inputs) and not schema.optional_inputs[index]:
                    raise self.fail(6, node, f"operand {index} is missing and not optional")
        for name, value in node.attrs.items():
            wanted = schema.attributes.get(name)
            if wanted is None:
                raise self.fail(6, node, f"no attribute {name!r}; there are {', '.join(schema.attributes) or 'none'}")
            found = kind_of(value)
            if found != wanted and not (value == () and wanted.endswith("S")):
                raise self.fail(6, node, f"attribute {name!r} is {found}, expected {wanted}")
        for name in schema.required:
            if name not in node.attrs and name not in node.regions:
                raise self.fail(6, node, f"attribute {name!r} is missing")

    def regions(self, node: Node) -> None:
        for name, region in node.regions.items():
            if region.parent is not node:
                raise self.fail(4, node, f"region {name!r} belongs to another node")
            if len(region.inputs) < node.captures or len(node.inputs) < node.captures:
                raise self.fail(
                    4, node, f"{node.captures} captures, but region {name!r} has {len(region.inputs)} inputs"
                )
            if node.op == "If" and not node.domain and len(region.inputs) > node.captures:
                raise self.fail(
                    4, node, f"branch {name!r} has {len(region.inputs)} inputs and {node.captures} captures give them"
                )
            self.graph(region)

    def interface(self, graph: Graph) -> None:
        names = graph.output_names
        if len(names) != len(graph.exit.inputs) or len(set(names)) != len(names):
            raise self.fail(7, graph.exit, f"output names {names} for {len(graph.exit.inputs)} outputs")
        inputs = [v.name for v in graph.inputs]
        if graph.parent is None and len(set(inputs)) != len(inputs):
            raise self.fail(7, graph.entry, f"input names {inputs}")


def surroundings(node: Node) -> str:
    """Ten lines of the graph each way, with the node marked."""
    rows: list[str] = []
    start = node
    for _ in range(CONTEXT):
        if start.prev is None or start.prev.op == ENTRY:
            break
        start = start.prev
    current: Node | None = start
    for _ in range(2 * CONTEXT + 1):
        if current is None:
            break
        rows.append(f"       {'>' if current is node else ' '} {line(current)}")
        current = current.next
    return "\n".join(rows)


def line(node: Node) -> str:
    """A node on one line, safe on graphs that break invariants."""

    def show(value: Value | None) -> str:
        return "_" if value is None else f"{'@' if value.const is not None else '%'}{value.name or '?'}"

    outputs = ", ".join(f"{show(v)}: {v.type!r}" for v in node.outputs)
    return f"{outputs} = {node.op}({', '.join(show(v) for v in node.inputs)})"
