"""The graph: values, nodes in an intrusive doubly linked list between an entry and an exit sentinel, and regions.

* The entry's outputs are the graph's inputs, the exit's inputs are its outputs, so every use of a value is a use by a
  node.
* A constant is a value with `.const` and no node. Constants belong to no graph: any graph and region may use one.
* A region (a branch, a loop body) is a graph of its own that sees only its inputs and constants. What it captures from
  outside is an explicit operand: the last `captures` operands of the node, and the last `captures` inputs of each
  region.
* `value.users` maps each using node to how often it uses the value; it is kept exact by every operation here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Union

from .attributes import Attribute
from .collection import no_collection
from .errors import VerificationError
from .locations import NOWHERE, Loc
from .schemas import lookup
from .tensors import Tensor, as_tensor, binary
from .tensors.lazy import TensorLike
from .types import ANY, DType, TensorType, Type

if TYPE_CHECKING:
    import networkx


class Value:
    """What flows along an edge: a node's output, a graph's input (the entry's output), or a constant."""

    __slots__ = ("const", "index", "name", "node", "type", "users")

    def __init__(
        self, name: str = "", type: Type = ANY, node: Node | None = None, index: int = 0, const: Tensor | None = None
    ) -> None:
        self.name, self.type = name, type
        self.node, self.index, self.const = node, index, const
        self.users: dict[Node, int] = {}

    @property
    def is_const(self) -> bool:
        return self.const is not None

    @property
    def is_input(self) -> bool:
        """True for an input of its graph or region."""
        return self.node is not None and self.node.op == ENTRY

    @property
    def is_output(self) -> bool:
        """True when its graph or region yields it."""
        return any(user.op == EXIT for user in self.users)

    @property
    def op(self) -> str:
        """The operator that computes it, after its domain where that is another one than ONNX's; '' for constants."""
        node = self.node
        if node is None:
            return ""
        return f"{node.domain}::{node.op}" if node.domain else node.op

    @property
    def shape(self) -> tuple[Any, ...] | None:
        """The shape of a tensor (ints and Dims); None where the rank is unknown or it is no tensor."""
        return self.type.shape if isinstance(self.type, TensorType) else None

    @property
    def dtype(self) -> DType | None:
        """The element type of a tensor; None for anything else, or where it is unknown."""
        return self.type.dtype if isinstance(self.type, TensorType) else None

    @property
    def is_float(self) -> bool:
        """True for a tensor of floating-point numbers."""
        return isinstance(self.type, TensorType) and self.type.dtype.is_float

    @property
    def rank(self) -> int | None:
        return self.type.rank if isinstance(self.type, TensorType) else None

    @property
    def tensor(self) -> Tensor:
        """The constant's tensor. Raises ValueError when the value is not a constant."""
        if self.const is None:
            raise ValueError(f"%{self.name} is not a constant")
        return self.const

    @property
    def only_user(self) -> Node | None:
        """The node that uses it, when one node does so once; else None."""
        if len(self.users) != 1:
            return None
        ((node, times),) = self.users.items()
        return node if times == 1 else None

    def replace_by(self, new: Value) -> None:
        """Makes every user of this value use `new` instead."""
        if new is self:
            return
        users, self.users = self.users, {}
        known = new.users
        for node, times in users.items():
            node.inputs = tuple([new if v is self else v for v in node.inputs])
            known[node] = known.get(node, 0) + times

    def __repr__(self) -> str:
        return f"{'@' if self.is_const else '%'}{self.name or '?'}: {self.type!r}"

    # Weight algebra: arithmetic between constants makes a lazy constant, so that rules read like the mathematics.
    def __add__(self, other: Operand) -> Value:
        return _algebra("add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return _algebra("add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return _algebra("sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return _algebra("sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return _algebra("mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return _algebra("mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return _algebra("div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return _algebra("div", other, self)


Operand = Union[Value, TensorLike]


def constant(tensor: TensorLike, name: str = "") -> Value:
    """A constant value from a tensor, an array or a Python number."""
    held = as_tensor(tensor)
    return Value(name, held.type, const=held)


def _algebra(function: str, a: Operand, b: Operand) -> Value:
    left, right = (x.tensor if isinstance(x, Value) else x for x in (a, b))
    name = next((x.name for x in (a, b) if isinstance(x, Value) and x.name), "")
    return constant(binary(function, left, right), name)


ENTRY, EXIT = "<entry>", "<exit>"


class Node:
    """One operation. `inputs` holds None for a missing optional operand; `outputs` are all values that it defines.

    An output that nobody uses counts as omitted wherever the operator allows that. Operator attributes are read with
    `attr`, `int`, `ints` and so on: a `__getattr__` here would make every access to a node several times slower.
    """

    __slots__ = ("attrs", "captures", "domain", "graph", "inputs", "loc", "next", "op", "outputs", "prev", "regions")

    def __init__(
        self,
        op: str,
        inputs: Sequence[Value | None] = (),
        attrs: dict[str, Attribute] | None = None,
        outputs: int | Sequence[Value] = 1,
        *,
        domain: str = "",
        regions: dict[str, Graph] | None = None,
        captures: int = 0,
        loc: Loc = NOWHERE,
    ) -> None:
        self.op, self.domain = op, domain
        self.loc, self.captures = loc, captures
        self.attrs: dict[str, Attribute] = {} if attrs is None else attrs
        self.regions: dict[str, Graph] = {} if regions is None else regions
        self.inputs: tuple[Value | None, ...] = tuple(inputs)
        for value in inputs:
            if value is not None:
                users = value.users
                users[self] = users[self] + 1 if self in users else 1
        made = [Value() for _ in range(outputs)] if isinstance(outputs, int) else outputs
        self.outputs: tuple[Value, ...] = tuple(made)
        for index, value in enumerate(made):
            value.node, value.index = self, index
        if regions:
            for region in regions.values():
                region.parent = self
        self.graph: Graph | None = None
        self.prev: Node | None = None
        self.next: Node | None = None

    @property
    def operands(self) -> tuple[Value | None, ...]:
        """The operator's own inputs, without what its regions capture."""
        return self.inputs[: len(self.inputs) - self.captures] if self.captures else self.inputs

    @property
    def captured(self) -> tuple[Value | None, ...]:
        """What its regions capture: the last inputs."""
        return self.inputs[len(self.inputs) - self.captures :]

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    @property
    def where(self) -> str:
        """The node for an error message: operator, output name and place in the user's model."""
        name = f" %{self.outputs[0].name}" if self.outputs and self.outputs[0].name else ""
        place = str(self.loc)
        return f"{self.domain + '::' if self.domain else ''}{self.op}{name}{f' ({place})' if place else ''}"

    def input(self, index: int) -> Value | None:
        """Operand `index`, or None when it is missing or beyond the end."""
        return self.inputs[index] if index < len(self.inputs) else None

    def operand(self, index: int) -> Value:
        """Operand `index`, which must be there. Raises ValueError otherwise."""
        value = self.input(index)
        if value is None:
            raise ValueError(f"{self.where} has no operand {index}")
        return value

    def attr(self, name: str) -> Attribute | None:
        """The attribute, else the schema's default, else None."""
        found = self.attrs.get(name)
        if found is not None:
            return found
        schema = lookup(self.op, self.domain)
        return None if schema is None else schema.defaults.get(name)

    def int(self, name: str, default: int | None = None) -> int:
        """An integer attribute. Raises ValueError when it is neither set nor has a default."""
        return _typed(self, name, int, default)

    def float(self, name: str, default: float | None = None) -> float:
        """A float attribute. Raises ValueError when it is neither set nor has a default."""
        return float(_typed(self, name, (float, int), default))

    def str(self, name: str, default: str | None = None) -> str:
        """A string attribute. Raises ValueError when it is neither set nor has a default."""
        return _typed(self, name, str, default)

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A list of integers. Raises ValueError when it is neither set nor has a default."""
        return _typed(self, name, tuple, None if default is None else tuple(default))

    def set_input(self, index: int, new: Value | None) -> None:
        """Replaces one operand."""
        old = self.inputs[index]
        if old is new:
            return
        if old is not None:
            _forget(old, self, 1)
        if new is not None:
            new.users[self] = new.users.get(self, 0) + 1
        self.inputs = (*self.inputs[:index], new, *self.inputs[index + 1 :])

    def set_inputs(self, inputs: Sequence[Value | None]) -> None:
        """Replaces all operands."""
        for value in self.inputs:
            if value is not None:
                value.users.pop(self, None)
        self.inputs = tuple(inputs)
        for value in self.inputs:
            if value is not None:
                value.users[self] = value.users.get(self, 0) + 1

    def add_input(self, new: Value) -> None:
        """Appends an operand; not for a node that captures."""
        new.users[self] = new.users.get(self, 0) + 1
        self.inputs = (*self.inputs, new)

    def add_output(self, type: Type = ANY, name: str = "") -> Value:
        """Appends an output."""
        value = Value(name, type, self, len(self.outputs))
        self.outputs = (*self.outputs, value)
        return value

    def erase(self) -> None:
        """Takes the node out of its graph. Raises VerificationError when an output still has users.

        `prev` and `next` are kept, so erasing the current node during iteration is safe.
        """
        for value in self.outputs:
            if value.users:
                users = ", ".join(u.where for u in value.users)
                raise VerificationError(
                    "a node cannot be erased", where=self.where, why=f"its output %{value.name} is used by {users}"
                )
        for value in self.inputs:
            if value is not None:
                value.users.pop(self, None)
        self.inputs = ()
        if self.regions:
            for region in self.regions.values():
                region.drop()
        self.unlink()

    def unlink(self) -> None:
        """Takes the node out of the list only; operands and users stay. For moving: unlink, then insert."""
        assert self.graph is not None
        assert self.prev is not None
        assert self.next is not None
        self.prev.next, self.next.prev = self.next, self.prev
        self.graph.count -= 1
        self.graph = None

    def __repr__(self) -> str:
        return f"<{self.where}>"


def _forget(value: Value, node: Node, times: int) -> None:
    left = value.users[node] - times
    if left:
        value.users[node] = left
    else:
        del value.users[node]


def _typed(node: Node, name: str, kind: Any, default: Any) -> Any:
    found = node.attr(name)
    if found is None:
        found = default
    if not isinstance(found, kind):
        raise ValueError(f"{node.where}: attribute {name!r} is {found!r}, expected {kind}")
    return found


class _Twins(dict["Value | None", "Value | None"]):
    """What stands for each value in a copy of its graph; constants get a copy when they are first met."""

    def __init__(self) -> None:
        super().__init__({None: None})

    def __missing__(self, value: Value | None) -> Value:
        if value is None or value.const is None:
            raise KeyError(value)
        twin = self[value] = Value(value.name, value.type, const=value.const)
        return twin


class Graph:
    """A list of nodes in which, at pass boundaries, definitions come before uses.

    `output_names` are the exact interface names of the outputs; the inputs' are their values' names. `defaults` holds
    the tensors of inputs that the caller may leave out (ONNX initializers that are also inputs): such an input is never
    a constant.
    """

    __slots__ = ("count", "defaults", "doc", "entry", "exit", "name", "output_names", "parent")

    def __init__(self, name: str = "", inputs: Sequence[Value] = ()) -> None:
        self.name, self.doc, self.count = name, "", 0
        self.parent: Node | None = None
        self.output_names: list[str] = []
        self.defaults: dict[Value, Tensor] = {}
        self.entry = Node(ENTRY, outputs=inputs)
        self.exit = Node(EXIT, outputs=0)
        self.entry.next, self.exit.prev = self.exit, self.entry
        self.entry.graph = self.exit.graph = self

    @property
    def inputs(self) -> tuple[Value, ...]:
        return self.entry.outputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(v for v in self.exit.inputs if v is not None)

    @outputs.setter
    def outputs(self, values: Sequence[Value]) -> None:
        self.exit.set_inputs(values)

    def set_outputs(self, values: Sequence[Value], names: Sequence[str] | None = None) -> None:
        """Sets what the graph yields and under which names."""
        self.outputs = values
        self.output_names = list(names) if names is not None else [v.name for v in values]

    def add_input(self, name: str, type: Type, default: Tensor | None = None) -> Value:
        value = self.entry.add_output(type, name)
        if default is not None:
            self.defaults[value] = default
        return value

    def freeze_defaults(self) -> int:
        """Makes constants of the inputs that have a default; gives how many. They can no longer be overridden."""
        frozen = self.defaults
        for value, tensor in frozen.items():
            value.replace_by(constant(tensor, value.name))
        self.entry.outputs = tuple([v for v in self.inputs if v not in frozen])
        for index, value in enumerate(self.entry.outputs):
            value.index = index
        self.defaults = {}
        return len(frozen)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Node]:
        """The nodes in order, without the sentinels. Erasing the current node and inserting anywhere are safe."""
        node, end = self.entry.next, self.exit
        while node is not end:
            assert node is not None
            if node.graph is not None:
                yield node
            node = node.next

    def __reversed__(self) -> Iterator[Node]:
        node, end = self.exit.prev, self.entry
        while node is not None and node is not end:
            if node.graph is not None:
                yield node
            node = node.prev

    def insert(self, node: Node, before: Node | None = None) -> Node:
        """Puts a node in front of another one; at the end without one."""
        after = before if before is not None else self.exit
        previous = after.prev
        assert previous is not None
        node.prev, node.next = previous, after
        previous.next = after.prev = node
        node.graph = self
        self.count += 1
        return node

    def add(
        self,
        op: str,
        inputs: Sequence[Value | None] = (),
        attrs: dict[str, Attribute] | None = None,
        types: Sequence[Type] = (ANY,),
        *,
        names: Sequence[str] = (),
        domain: str = "",
        regions: dict[str, Graph] | None = None,
        captures: int = 0,
        loc: Loc = NOWHERE,
    ) -> Node:
        """Appends a node with one output per type."""
        if len(types) == 1:
            outputs = [Value(names[0] if names else "", types[0])]
        else:
            outputs = [Value(names[i] if i < len(names) else "", t) for i, t in enumerate(types)]
        return self.insert(Node(op, inputs, attrs, outputs, domain=domain, regions=regions, captures=captures, loc=loc))

    def walk(self) -> Iterator[Node]:
        """The nodes of the graph and, before each node that has them, of its regions."""
        for node in self:
            for region in node.regions.values():
                yield from region.walk()
            yield node

    def graphs(self) -> Iterator[Graph]:
        """The graph itself and every region in it."""
        yield self
        for node in self:
            for region in node.regions.values():
                yield from region.graphs()

    def constants(self) -> list[Value]:
        """Every constant that the graph and its regions use, each once, in order of first use."""
        found: dict[Value, None] = {}
        for graph in self.graphs():
            for node in (*graph, graph.exit):
                for value in node.inputs:
                    if value is not None and value.const is not None:
                        found[value] = None
        return list(found)

    def drop(self) -> None:
        """Lets go of every use inside, so that constants forget a region that goes away."""
        for node in (*self, self.exit):
            for value in set(node.inputs):
                if value is not None:
                    del value.users[node]
            node.inputs = ()
            for region in node.regions.values():
                region.drop()
            node.graph = None

    def is_sorted(self) -> bool:
        """True when every operand is defined before its use."""
        seen = {self.entry}
        for node in (*self, self.exit):
            if any(v is not None and v.node is not None and v.node not in seen for v in node.inputs):
                return False
            seen.add(node)
        return True

    def sort(self) -> None:
        """Puts definitions before uses, changing the order as little as a depth-first walk does.

        Raises VerificationError on a cycle.
        """
        order: list[Node] = []
        state: dict[Node, int] = {self.entry: 2}
        for root in list(self):
            stack = [root]
            while stack:
                node = stack[-1]
                if state.get(node) is None:
                    state[node] = 1
                    for value in node.inputs:
                        if value is None or value.node is None:
                            continue
                        if state.get(value.node) == 1:
                            raise VerificationError(
                                "the graph has a cycle",
                                where=node.where,
                                why=f"it depends on {value.node.where}, which depends on it",
                            )
                        if value.node not in state:
                            stack.append(value.node)
                else:
                    stack.pop()
                    if state[node] == 1:
                        state[node] = 2
                        order.append(node)
        last = self.entry
        for node in order:
            last.next, node.prev = node, last
            last = node
        last.next, self.exit.prev = self.exit, last

    def clone(self) -> Graph:
        """A copy that shares tensors, types, locations and attribute values."""
        with no_collection():
            return self._clone(_Twins())

    def _clone(self, twins: _Twins) -> Graph:
        inputs = [Value(v.name, v.type) for v in self.inputs]
        twins.update(zip(self.inputs, inputs, strict=True))
        copy = Graph(self.name, inputs)
        copy.doc = self.doc
        for node in self:
            outputs = [Value(v.name, v.type) for v in node.outputs]
            twin = Node(
                node.op,
                [twins[v] for v in node.inputs],
                node.attrs.copy(),
                outputs,
                domain=node.domain,
                regions={k: r._clone(twins) for k, r in node.regions.items()} if node.regions else None,
                captures=node.captures,
                loc=node.loc,
            )
            copy.insert(twin)
            for old, new in zip(node.outputs, outputs, strict=True):
                twins[old] = new
        copy.exit.set_inputs([twins[v] for v in self.exit.inputs])
        copy.output_names = list(self.output_names)
        copy.defaults = {
            new: self.defaults[old] for old, new in zip(self.inputs, inputs, strict=True) if old in self.defaults
        }
        return copy

    def to_networkx(self) -> networkx.DiGraph[Node]:
        """The dataflow between nodes, sentinels included, as a networkx graph; regions are left out."""
        import networkx as nx

        out: networkx.DiGraph[Node] = nx.DiGraph()
        out.add_nodes_from((self.entry, *self, self.exit))
        for node in (*self, self.exit):
            out.add_edges_from((v.node, node) for v in node.inputs if v is not None and v.node is not None)
        return out

    def __str__(self) -> str:
        from .text import to_text

        return to_text(self)
