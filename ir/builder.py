"""Building nodes: `op.Conv(x, w, strides=[2, 2])` inserts a node, or makes a lazy constant where all operands are
constants.

Used by rewrite rules (nodes go in front of the matched one) and by frontends (nodes go to the end of a graph). A rule
may also ask for changes to nodes that stay (`revise`) and for other values to be replaced along with its root's outputs
(`replace`): the driver makes them when the rule fires, so a rule that declines or is only asked to explain itself
leaves the graph as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from .attributes import Attribute
from .dims import Size
from .graph import Graph, Node, Value, constant
from .locations import NOWHERE, Loc
from .tensors import Array, Placeholder, Tensor, as_tensor, cast, channelwise, comes_from, reshape, take, transpose
from .tensors.lazy import Lazy
from .types import DType, TensorType

Operand = Union[Value, Tensor, Array, float, int, bool, Sequence[int], None]
Sizes = Callable[[Value], Union[tuple[Size, ...], None]]
AttributeArgument = Union[Attribute, Sequence[int], Sequence[float], Sequence[str]]

LAZY_ELEMENTWISE = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Sqrt": "sqrt", "Neg": "neg", "Abs": "abs",
    "Exp": "exp", "Reciprocal": "reciprocal", "MatMul": "matmul",
}  # fmt: skip

VIEWS = frozenset(["Transpose", "Reshape"])
"""Operators whose result on a parameter is the parameter, seen in another way."""


@dataclass(frozen=True)
class Revision:
    """Other operands and attributes for a node that stays; `changed` are values that hold something else from then
    on.
    """

    node: Node
    inputs: tuple[Value | None, ...]
    attrs: dict[str, Attribute]
    changed: tuple[Value, ...]


class Builder:
    """Makes nodes in front of `before` (a graph's end when None) and remembers them in `new`.

    Each new node is given to `infer`, which sets the types of its outputs. Operands may be values, tensors, arrays,
    Python numbers (which take the element type of the first tensor operand) and lists of integers (int64 vectors).
    Tensors whose identities are in `keep`, parameters, and views of them are seen, never computed with.
    """

    def __init__(
        self,
        graph: Graph,
        before: Node | None = None,
        *,
        infer: Callable[[Node], None] | None = None,
        sizes: Sizes | None = None,
        loc: Loc = NOWHERE,
        keep: Set[int] = frozenset(),
    ) -> None:
        self.graph, self.before, self.infer, self.loc, self.keep = graph, before, infer, loc, keep
        self.known_sizes = sizes
        self.new: list[Node] = []
        self.revisions: list[Revision] = []
        self.replacements: list[tuple[Value, Value]] = []

    def revise(
        self,
        node: Node,
        inputs: Sequence[Operand],
        attrs: Mapping[str, AttributeArgument] | None = None,
        changed: Sequence[Value] = (),
    ) -> None:
        """Gives `node` other operands (and all its attributes anew, where given) when the rule fires.

        `changed` names the values whose contents are then others; they lose their names, which would no longer say
        what they hold.
        """
        attributes = node.attrs if attrs is None else {k: attribute(v) for k, v in attrs.items()}
        self.revisions.append(Revision(node, tuple(self.operands(inputs)), attributes, tuple(changed)))

    def replace(self, old: Value, new: Value) -> None:
        """Gives the users of `old` the value `new` when the rule fires."""
        self.replacements.append((old, new))

    def behind(self, value: Value) -> None:
        """Puts further new nodes right behind the definition of `value`, so that every user of it can use them."""
        assert value.node is not None
        if self.before is not None and value.node.graph is self.graph:
            self.before = value.node.next

    def sizes(self, value: Value | None) -> tuple[Size, ...] | None:
        """The elements of an integer tensor of rank 0 or 1, symbolic ones included; None where one is not known."""
        if value is None:
            return None
        if self.known_sizes is not None:
            return self.known_sizes(value)
        tensor = value.const
        if tensor is None or not tensor.dtype.is_integer or tensor.rank > 1 or isinstance(tensor, Placeholder):
            return None
        return tuple(int(n) for n in tensor.numpy().reshape(-1))

    def __getattr__(self, op: str) -> Callable[..., Any]:
        """`op.Name(*operands, outputs=1, domain="", **attributes)`: a Value, or a tuple of them where outputs is
        not 1.
        """
        if op.startswith("_"):
            raise AttributeError(op)

        def make(*operands: Operand, outputs: int = 1, domain: str = "", **attrs: AttributeArgument) -> Any:
            made = self.node(op, operands, attrs, outputs=outputs, domain=domain)
            if isinstance(made, Value):
                return made
            return made.outputs if outputs != 1 else made.output

        return make

    def node(
        self,
        op: str,
        operands: Sequence[Operand],
        attrs: Mapping[str, AttributeArgument] | None = None,
        *,
        outputs: int = 1,
        domain: str = "",
        regions: dict[str, Graph] | None = None,
        captures: int = 0,
        name: str = "",
    ) -> Node | Value:
        """The general form; gives a constant Value instead of a node where weight algebra covers the operator."""
        values = self.operands(operands)
        attributes = {k: attribute(v) for k, v in (attrs or {}).items()}
        constants = [v.const for v in values if v is not None and v.const is not None]
        if not domain and len(constants) == len(values) and not self.keeps(op, constants):
            folded = fold(op, constants, attributes)
            if folded is not None:
                return constant(folded, name or next((v.name for v in values if v is not None and v.name), ""))
        node = Node(op, values, attributes, outputs, domain=domain, regions=regions, captures=captures, loc=self.loc)
        if name:
            node.output.name = name
        self.graph.insert(node, self.before)
        self.new.append(node)
        if self.infer is not None:
            self.infer(node)
        return node

    def keeps(self, op: str, constants: Sequence[Tensor]) -> bool:
        """True where one of the tensors is a parameter or comes from one, and the operator does more than view it."""
        if not self.keep or (op in VIEWS and constants[0].count > 1):
            return False
        return any(comes_from(t, self.keep) for t in constants)

    def value(
        self, op: str, operands: Sequence[Operand], attrs: Mapping[str, AttributeArgument] | None = None
    ) -> Value:
        """The first output of such a node, or the constant that stands for it."""
        made = self.node(op, operands, attrs)
        return made if isinstance(made, Value) else made.output

    def operands(self, operands: Sequence[Operand]) -> list[Value | None]:
        """Operands as values; Python numbers become constants of the element type of their siblings."""
        types = [v.type for v in operands if isinstance(v, (Value, Tensor))]
        like = next((t.dtype for t in types if isinstance(t, TensorType)), None)
        return [self.operand(v, like) for v in operands]

    def operand(self, value: Operand, like: DType | None = None) -> Value | None:
        if value is None or isinstance(value, Value):
            return value
        if isinstance(value, (Tensor, np.ndarray)):
            return constant(value)
        if isinstance(value, (bool, int, float)):
            return constant(as_tensor(value, like or (DType.I64 if isinstance(value, int) else DType.F32)))
        return constant(np.asarray(value, np.int64))

    def channelwise(self, vector: Value, rank: int, axis: int = 0) -> Value:
        """A constant vector shaped so that it broadcasts along `axis` of a tensor of `rank`."""
        return constant(channelwise(vector.tensor, rank, axis), vector.name)


def attribute(value: AttributeArgument) -> Attribute:
    """An attribute value from what a person writes: lists become tuples."""
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportReturnType]


def fold(op: str, operands: Sequence[Tensor], attrs: Mapping[str, Attribute]) -> Tensor | None:
    """The operator over constants as a lazy tensor, or None where the small set of weight arithmetic does not cover
    it.
    """
    if op in LAZY_ELEMENTWISE and not attrs and len({t.dtype for t in operands}) == 1:
        return Lazy(LAZY_ELEMENTWISE[op], operands)
    match op, operands:
        case "Transpose", [x]:
            perm = attrs.get("perm", tuple(reversed(range(x.rank))))
            return transpose(x, [int(p) for p in perm]) if isinstance(perm, tuple) else None  # pyright: ignore
        case "Reshape", [x, shape]:
            wanted = [int(d) for d in shape.numpy().tolist()]
            known = [x.shape[i] if d == 0 and not attrs.get("allowzero") else d for i, d in enumerate(wanted)]
            if -1 in known:
                rest = int(np.prod([d for d in known if d != -1]))
                known[known.index(-1)] = x.count // rest if rest else 0
            return reshape(x, known)
        case "Cast", [x]:
            to = attrs.get("to")
            return cast(x, DType.of_code(to)) if isinstance(to, int) and not x.dtype.is_float else None
        case "Gather", [x, indices]:
            axis = attrs.get("axis", 0)
            assert isinstance(axis, int)
            axis %= x.rank
            index = indices.numpy()
            return take(x, np.where(index < 0, index + x.shape[axis], index), axis)
        case "Concat", [*parts]:
            axis = attrs.get("axis", 0)
            assert isinstance(axis, int)
            return Lazy("concat", parts, axis=axis % parts[0].rank)
        case _:
            return None
