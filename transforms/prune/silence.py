"""What is zero once a router never chooses an expert: facts that are followed through the graph.

Three facts are known of values: its integers are numbers of experts, and never that one's; it is zero at the expert's
place along an axis; it is zero. An operator without a row ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...ir import Graph, Node, Tensor, Value
from .axes import integers
from .blocks import joins

KEEPS_NUMBERS = frozenset(["Cast", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"])
KEEPS_ZERO = frozenset(
    ["Cast", "Expand", "Gather", "Identity", "Neg", "ReduceSum", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Tile",
     "Transpose", "Unsqueeze"]
)  # fmt: skip
"""Operators whose outputs are zero where their first operand is."""
PRODUCTS = frozenset(["And", "MatMul", "Mul"])
POINTWISE = frozenset(["Cast", "Identity", "Neg", "Relu"])


@dataclass
class Silence:
    """The facts about one expert. `tables` are the Gathers by numbers of experts from constants."""

    expert: int
    never: set[Value] = field(default_factory=set[Value])
    along: dict[Value, int] = field(default_factory=dict[Value, int])
    zero: set[Value] = field(default_factory=set[Value])
    tables: list[Node] = field(default_factory=list[Node])

    def terms(self, graph: Graph) -> list[Value]:
        """The terms of sums that are zero, so that the sum may do without them."""
        found: list[Value] = []
        for node in graph:
            if node.domain or node.regions or not any(self.knows(v) for v in node.inputs):
                continue
            if joins(node):
                quiet = [v for v in (node.operand(0), node.operand(1)) if v in self.zero]
                if len(quiet) == 2:
                    self.zero.add(node.output)
                elif quiet and quiet[0].only_user is node:
                    found.append(quiet[0])
                continue
            self.visit(node)
        return found

    def knows(self, value: Value | None) -> bool:
        return value is not None and (value in self.zero or value in self.along or value in self.never)

    def visit(self, node: Node) -> None:
        first = node.input(0)
        silent = node.op in PRODUCTS and any(v in self.zero for v in node.inputs)
        if silent or (first in self.zero and node.op in (*KEEPS_ZERO, "Div")):
            self.zero.update(node.outputs)
        elif first in self.never and node.op in KEEPS_NUMBERS:
            self.never.update(node.outputs)
        elif node.op in ROWS:
            ROWS[node.op](node, self)


def equal(node: Node, facts: Silence) -> None:
    """Equal-19: numbers that are never the expert's, beside constants."""
    a, b = node.operand(0), node.operand(1)
    numbers, other = (a, b) if a in facts.never else (b, a)
    if numbers not in facts.never or other.const is None:
        return
    table, rank = other.const.numpy(), node.output.rank or 0
    if table.size == 1 and float(table.reshape(())) == facts.expert:
        facts.zero.add(node.output)
    wide = [axis for axis, size in enumerate(table.shape) if size > 1]
    if len(wide) == 1 and table.size > facts.expert and table.reshape(-1)[facts.expert] == facts.expert:
        axis = rank - table.ndim + wide[0]
        if other.shape is not None and spans_alone(numbers, axis, rank):
            facts.along[node.output] = axis


def spans_alone(value: Value, axis: int, rank: int) -> bool:
    """Whether a value has size 1 along an axis of what it broadcasts to, so that the other operand fills it."""
    offset = rank - (value.rank or 0)
    return axis < offset or (value.shape or ())[axis - offset] == 1


def one_hot(node: Node, facts: Silence) -> None:
    """OneHot-11: a new axis for the numbers; what is off has to be zero."""
    depth, values = integers(node.operand(1)), node.operand(2).const
    if node.operand(0) in facts.never and depth is not None and depth[0] > facts.expert and off_is_zero(values):
        facts.along[node.output] = node.int("axis", -1) % (node.output.rank or 1)


def off_is_zero(values: Tensor | None) -> bool:
    return values is not None and float(values.numpy().reshape(-1)[0]) == 0


def scatter_elements(node: Node, facts: Silence) -> None:
    """ScatterElements-18 into zeros: the expert's place stays zero."""
    data, index = node.operand(0), node.operand(1)
    if index in facts.never and is_zero(data):
        facts.along[node.output] = node.int("axis", 0) % (node.output.rank or 1)


def is_zero(value: Value) -> bool:
    if value.const is not None:
        return not np.any(value.const.numpy())
    node = value.node
    if node is None:
        return False
    if node.op in ("Expand", "Reshape", "Unsqueeze"):
        return is_zero(node.operand(0))
    filled = node.attr("value")
    return node.op == "ConstantOfShape" and not (isinstance(filled, Tensor) and np.any(filled.numpy()))


def pointwise(node: Node, facts: Silence) -> None:
    """f(x) with f(0) = 0."""
    if node.operand(0) in facts.along:
        facts.along[node.output] = facts.along[node.operand(0)]


def product(node: Node, facts: Silence) -> None:
    """A factor that is zero along an axis."""
    rank = node.output.rank or 0
    for value in node.inputs:
        if value in facts.along:
            facts.along[node.output] = rank - (value.rank or 0) + facts.along[value]


def sorted_(node: Node, facts: Silence) -> None:
    """TopK-24 of numbers of experts: the first output has such numbers, too."""
    if node.operand(0) in facts.never:
        facts.never.add(node.output)


def quotient(node: Node, facts: Silence) -> None:
    """A dividend that is zero along an axis; divisors are sums of what was chosen."""
    value, rank = node.operand(0), node.output.rank or 0
    if value in facts.along:
        facts.along[node.output] = rank - (value.rank or 0) + facts.along[value]


def transpose(node: Node, facts: Silence) -> None:
    """Axes permuted."""
    x = node.operand(0)
    if x in facts.along:
        order = node.ints("perm", range(x.rank or 0)[::-1])
        facts.along[node.output] = list(order).index(facts.along[x])


def unsqueeze(node: Node, facts: Silence) -> None:
    """Axes of size 1 put in."""
    x, added = node.operand(0), integers(node.input(1))
    if x in facts.along and added is not None:
        rank = (x.rank or 0) + len(added)
        places = {a % rank for a in added}
        facts.along[node.output] = [a for a in range(rank) if a not in places][facts.along[x]]


def squeeze(node: Node, facts: Silence) -> None:
    """Axes of size 1 taken out."""
    x, gone = node.operand(0), integers(node.input(1))
    if x in facts.along and gone is not None:
        rank = x.rank or 0
        left = [a for a in range(rank) if a not in {g % rank for g in gone}]
        if facts.along[x] in left:
            facts.along[node.output] = left.index(facts.along[x])


def total(node: Node, facts: Silence) -> None:
    """A sum along other axes."""
    x, over = node.operand(0), integers(node.input(1))
    if x not in facts.along or over is None:
        return
    rank, axis = x.rank or 0, facts.along[x]
    reduced = {a % rank for a in over}
    if axis not in reduced:
        facts.along[node.output] = axis if node.int("keepdims", 1) else axis - sum(a < axis for a in reduced)


def gather(node: Node, facts: Silence) -> None:
    """The expert's place alone is zero; other axes pass (Gather-13)."""
    x, chosen = node.operand(0), integers(node.input(1))
    if x.is_const and node.operand(1) in facts.never:
        facts.tables.append(node)
    if x not in facts.along or chosen is None:
        return
    axis, rank = node.int("axis") % (x.rank or 1), node.operand(1).rank or 0
    place = facts.along[x]
    if axis == place:
        sizes = x.shape or ()
        if {c % size if isinstance(size := sizes[axis], int) else c for c in chosen} == {facts.expert}:
            facts.zero.add(node.output)
    else:
        facts.along[node.output] = place if place < axis else place + rank - 1


def slice_(node: Node, facts: Silence) -> None:
    """The expert's place alone is zero; other axes pass (Slice-13)."""
    x = node.operand(0)
    starts, ends, steps = integers(node.input(1)), integers(node.input(2)), integers(node.input(4))
    if x not in facts.along or starts is None or ends is None:
        return
    rank = x.rank or 0
    axes = integers(node.input(3)) or list(range(len(starts)))
    where = [a % rank for a in axes]
    if facts.along[x] not in where:
        facts.along[node.output] = facts.along[x]
        return
    i = where.index(facts.along[x])
    size = (x.shape or ())[facts.along[x]]
    if isinstance(size, int) and (steps is None or steps[i] == 1):
        window = range(size)[slice(starts[i], ends[i])]
        if list(window) == [facts.expert]:
            facts.zero.add(node.output)


def split(node: Node, facts: Silence) -> None:
    """The output with the expert's place alone is zero; other axes pass."""
    x = node.operand(0)
    if x not in facts.along:
        return
    axis = node.int("axis") % (x.rank or 1)
    if axis != facts.along[x]:
        facts.along.update(dict.fromkeys(node.outputs, facts.along[x]))
        return
    start = 0
    for output in node.outputs:
        size = (output.shape or ())[axis]
        if not isinstance(size, int):
            return
        if start == facts.expert and size == 1:
            facts.zero.add(output)
        start += size


def where(node: Node, facts: Silence) -> None:
    """Where-16 with a condition that never holds, or zero on both sides."""
    condition, yes, no = (node.operand(i) for i in range(3))
    silent = no in facts.zero or is_zero(no)
    if silent and (condition in facts.zero or yes in facts.zero):
        facts.zero.add(node.output)
    elif silent and condition in facts.along:
        facts.along[node.output] = (node.output.rank or 0) - (condition.rank or 0) + facts.along[condition]


Row = Callable[[Node, Silence], None]


def rows(operators: Iterable[str], row: Row) -> Mapping[str, Row]:
    return dict.fromkeys(operators, row)


ROWS: dict[str, Row] = {
    **rows(POINTWISE, pointwise),
    **rows(("Mul", "And"), product),
    "Div": quotient,
    "Equal": equal,
    "Gather": gather,
    "OneHot": one_hot,
    "ReduceSum": total,
    "ScatterElements": scatter_elements,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "TopK": sorted_,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}
