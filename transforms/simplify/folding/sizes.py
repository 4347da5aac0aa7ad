"""The sizes that a graph needs at run time, computed by as few nodes as possible.

What is left of a graph's arithmetic on sizes once operands have become constants is a set of wanted values (limits of a
Range, shapes of an Expand, outputs) whose elements are known expressions over symbols. They are written anew, from the
first value that has a size as an axis, and share what they can; the new form is taken where it has fewer nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from ....ir import Builder, Dim, DType, Graph, Node, Size, TensorType, Value, constant, lookup
from ....ir.dims import Call, Symbol, at_least, of_atom
from ....ir.graph import ENTRY
from ....ir.inference import Inference
from ....ir.rewrite import Allow, always
from ....ir.types import Shape


@dataclass(frozen=True)
class Expression:
    """An operator over expressions; a Shape is over a value, and "numbers" stands for a constant.

    `numbers` are the axes [begin, end) of a Shape, the type's code of a Cast and the elements of a constant: a scalar
    where it is one integer.
    """

    op: str
    operands: tuple[Expression, ...] = ()
    numbers: tuple[int, ...] | int = ()
    value: Value | None = None


PLACES = 4
"""How many values are remembered that have a size as an axis."""

MAX_TERMS = 8
FUNCTIONS = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}


def rebuild_sizes(graph: Graph, inference: Inference, *, parts: bool = True, allow: Allow = always) -> int:
    """Writes the arithmetic on sizes of the graph and its regions anew where this takes fewer nodes; gives how many
    nodes fewer. `parts`: a Shape may give a part of the axes (opset 15). `allow` is asked before each graph.
    """
    saved = 0
    for node in graph:
        for region in node.regions.values():
            saved += rebuild_sizes(region, inference, parts=parts, allow=allow)
    sizes = SizeNodes.of(graph, inference)
    if not sizes.wanted:
        return saved
    plan = Plan(sizes, inference, parts)
    plan.make(graph)
    if plan.cost >= sizes.cost or not allow(None):
        return saved
    plan.apply(graph, inference)
    return saved + sizes.cost - plan.cost


@dataclass
class SizeNodes:
    """The nodes that only compute sizes, the values of theirs that others use, and the nodes that are needed anyway."""

    nodes: set[Node] = field(default_factory=set[Node])
    wanted: dict[Value, tuple[Size, ...]] = field(default_factory=dict[Value, "tuple[Size, ...]"])
    live: set[Node] = field(default_factory=set[Node])
    cost: int = 0

    @staticmethod
    def of(graph: Graph, inference: Inference) -> SizeNodes:
        found = SizeNodes()
        for node in graph:
            if is_size_node(node, inference):
                found.nodes.add(node)
        for node in graph:
            for value in node.outputs if node in found.nodes else ():
                known = inference.contents_of(value)
                if known is not None and any(user not in found.nodes for user in value.users):
                    found.wanted[value] = known
        effects = [n for n in graph if lookup(n.op, n.domain) is None]
        found.live = closure([graph.exit, *effects], found.nodes)
        needed = closure([v.node for v in found.wanted if v.node is not None], found.live)
        found.cost = len(needed - found.live)
        return found


def is_size_node(node: Node, inference: Inference) -> bool:
    """True where every output in use is a vector or scalar of known sizes."""
    used = [v for v in node.outputs if v.users]
    schema = lookup(node.op, node.domain)
    if not used or node.regions or schema is None or not schema.deterministic:
        return False
    return all(inference.contents_of(v) is not None for v in used)


def closure(roots: Iterable[Node], stop: set[Node]) -> set[Node]:
    """The nodes that `roots` need, themselves included, without going into those of `stop`."""
    found: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        stack += [v.node for v in node.inputs if v is not None and v.node is not None and v.node not in stop]
    return {n for n in found if n.op != ENTRY}


class Plan:
    """Expressions for the wanted values of a graph, and what they cost."""

    def __init__(self, sizes: SizeNodes, inference: Inference, parts: bool) -> None:
        self.sizes, self.parts = sizes, parts
        self.inference = inference
        self.places: dict[Dim, list[tuple[Value, int]]] = {}
        self.expressions: dict[Value, Expression | None] = {}
        self.kept: set[Node] = set()

    @property
    def cost(self) -> int:
        """Nodes in all expressions, each once, and those that stay because their value has no expression."""
        found: set[Expression] = set()
        stack = [e for e in self.expressions.values() if e is not None]
        while stack:
            expression = stack.pop()
            if expression not in found and expression.op != "numbers":
                found.add(expression)
                stack += expression.operands
        return len(found) + len(self.kept)

    def make(self, graph: Graph) -> None:
        """Finds an expression for every wanted value, from what is there before its node."""
        for value in graph.inputs:
            self.remember(value)
        for node in graph:
            for value in node.outputs:
                known = self.sizes.wanted.get(value)
                if known is not None:
                    self.expressions[value] = found = self.expression(value, known)
                    if found is None:
                        self.kept |= closure([node], self.sizes.live) - self.sizes.live
                elif node in self.sizes.live:
                    self.remember(value)

    def remember(self, value: Value) -> None:
        """Notes where a value has symbolic sizes."""
        for axis, size in enumerate(shape_of(value)):
            if isinstance(size, Dim):
                places = self.places.setdefault(size, [])
                if len(places) < PLACES:
                    places.append((value, axis))

    # Expressions

    def expression(self, value: Value, known: tuple[Size, ...]) -> Expression | None:
        """A value's elements, in its element type and rank."""
        type_ = value.type
        if not isinstance(type_, TensorType) or type_.shape is None:
            return None
        made = self.vector(known) if type_.shape else self.scalar(known[0])
        if made is None or type_.dtype is DType.I64:
            return made
        return Expression("Cast", (made,), type_.dtype.code) if type_.dtype is not DType.BOOL else None

    def vector(self, known: tuple[Size, ...]) -> Expression | None:
        """Parts of shapes, and single entries, one after the other."""
        pieces: list[Expression] = []
        index = 0
        while index < len(known):
            made, index = self.run(known, index) or self.numbers(known, index)
            if made is None:
                return None
            pieces.append(made)
        return pieces[0] if len(pieces) == 1 else Expression("Concat", tuple(pieces))

    def numbers(self, known: tuple[Size, ...], start: int) -> tuple[Expression | None, int]:
        """The integers from `start` on as a constant, or the one symbolic entry there, and where it ends."""
        found: list[int] = []
        for size in known[start:]:
            if not isinstance(size, int):
                break
            found.append(size)
        if not found:
            return self.single(known[start]), start + 1
        return Expression("numbers", numbers=tuple(found)), start + len(found)

    def run(self, known: tuple[Size, ...], start: int) -> tuple[Expression, int] | None:
        """The longest run of entries from `start` on that are consecutive axes of one value, and where it ends."""
        first = next((i for i in range(start, len(known)) if isinstance(known[i], Dim)), None)
        if first is None:
            return None
        best: tuple[Value, int, int] | None = None
        for value, axis in self.places_of(known[first]):
            shape, begin = shape_of(value), axis - (first - start)
            if begin < 0 or shape[begin:axis] != known[start:first]:
                continue
            pairs = zip(shape[begin:], known[start:], strict=False)
            count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if best is None or count > best[2]:
                best = value, begin, count
        if best is None:
            return None
        value, begin, count = best
        return self.part(value, begin, begin + count), start + count

    def places_of(self, size: Size) -> list[tuple[Value, int]]:
        """The first values that have a symbolic size as an axis."""
        return self.places.get(size, []) if isinstance(size, Dim) else []

    def part(self, value: Value, begin: int, end: int) -> Expression:
        """Sizes [begin:end] of a value as a vector."""
        if begin == 0 and end == len(shape_of(value)):
            return Expression("Shape", value=value)
        if self.parts:
            return Expression("Shape", numbers=(begin, end), value=value)
        picked = Expression("numbers", numbers=tuple(range(begin, end)))
        return Expression("Gather", (Expression("Shape", value=value), picked))

    def scalar(self, size: Size) -> Expression | None:
        """One entry as a scalar."""
        if isinstance(size, int):
            return Expression("numbers", numbers=size)
        for value, axis in self.places_of(size)[:1]:
            if not self.parts or self.scalars_of(value) > 1 or len(shape_of(value)) == 1:
                return Expression("Gather", (Expression("Shape", value=value), Expression("numbers", numbers=axis)))
        made = self.single(size)
        return None if made is None else Expression("Squeeze", (made,))

    def scalars_of(self, value: Value) -> int:
        """How many sizes of a value are wanted as scalars."""
        shape = set(shape_of(value))
        found = {known[0] for v, known in self.sizes.wanted.items() if v.rank == 0}
        return sum(isinstance(s, Dim) and s in shape for s in found)

    def single(self, size: Size) -> Expression | None:
        """One entry as a vector of one element, by arithmetic where no value has it as an axis."""
        if isinstance(size, int):
            return Expression("numbers", numbers=(size,))
        for value, axis in self.places_of(size)[:1]:
            return self.part(value, axis, axis + 1)
        if len(size.terms) > MAX_TERMS:
            return None
        total: Expression | None = None
        for atoms, factor in sorted(size.terms, key=lambda term: term[1] < 0):
            term = self.product(atoms, abs(factor))
            if term is None:
                return None
            if total is None:
                total = term if factor > 0 else Expression("Neg", (term,))
            else:
                total = Expression("Add" if factor > 0 else "Sub", (total, term))
        return total

    def product(self, atoms: Iterable[Symbol | Call], factor: int) -> Expression | None:
        """A factor times atoms as a vector of one element."""
        out: Expression | None = None
        for atom in atoms:
            made = self.atom(atom)
            if made is None:
                return None
            out = made if out is None else Expression("Mul", (out, made))
        number = Expression("numbers", numbers=(factor,))
        if out is None:
            return number
        return out if factor == 1 else Expression("Mul", (out, number))

    def atom(self, atom: Symbol | Call) -> Expression | None:
        """A symbol that a value has as an axis, or a function of two sizes; ONNX divides like Python from 0 on."""
        for value, axis in self.places_of(of_atom(atom))[:1]:
            return self.part(value, axis, axis + 1)
        if isinstance(atom, Symbol):
            return None
        a, b = atom.args
        if atom.function in ("floordiv", "mod") and not (at_least(a, 0) and at_least(b, 0)):
            return None
        left, right = self.single(a), self.single(b)
        return None if left is None or right is None else Expression(FUNCTIONS[atom.function], (left, right))

    # Nodes

    def apply(self, graph: Graph, inference: Inference) -> None:
        """Makes the nodes of the expressions, each in front of the first value that needs it."""
        made: dict[Expression, Value] = {}
        for node in list(graph):
            for value in node.outputs:
                expression = self.expressions.get(value)
                if expression is None:
                    continue
                builder = Builder(graph, node, infer=inference.node, loc=node.loc)
                new = emit(expression, builder, made)
                new.name = new.name or value.name
                value.replace_by(new)


def emit(expression: Expression, op: Builder, made: dict[Expression, Value]) -> Value:
    """The value of an expression, with nodes for what is not there yet."""
    found = made.get(expression)
    if found is not None:
        return found
    numbers = expression.numbers
    if expression.op == "numbers":
        value = constant(np.asarray(numbers, np.int64))
    else:
        operands = [emit(x, op, made) for x in expression.operands]
        if expression.op == "Shape":
            operands = [expression.value]
        attrs: dict[str, int] = {}
        if expression.op == "Cast" and isinstance(numbers, int):
            attrs["to"] = numbers
        elif expression.op == "Concat":
            attrs["axis"] = 0
        elif isinstance(numbers, tuple) and numbers:
            attrs["start"], attrs["end"] = numbers
        node = op.node(expression.op, operands, attrs)
        value = node if isinstance(node, Value) else node.output
    made[expression] = value
    return value


def shape_of(value: Value) -> Shape:
    """A tensor's shape; () where it is not known."""
    return value.shape or ()
