"""A rotation of pairs of features in terms of products and sums.

x cos + swapped(x) sin, with the signs in the table of sines: five nodes, and tables as wide as the features that are
made once for a whole graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....ir import Attribute, Builder, Node, Value
from .masks import once, unexpanded
from .operands import known, shape_of

TABLES, POSITIONS = (1, 2), 3


@dataclass(frozen=True)
class Rotation:
    """How features are rotated: by which tables, how many features of a head, and which are pairs."""

    cos: Value
    sin: Value
    positions: Value | None
    width: int
    """The features of a head that are rotated."""

    size: int
    """All features of a head."""

    interleaved: bool

    def apply(self, op: Builder, x: Value, heads: int) -> Value:
        """x, with features last and the axis `heads` for the heads, rotated."""
        if self.width == self.size:
            return self.turned(op, x, heads)
        moving, rest = op.Split(x, [self.width, self.size - self.width], axis=-1, outputs=2)
        return op.Concat(self.turned(op, moving, heads), rest, axis=-1)

    def turned(self, op: Builder, x: Value, heads: int) -> Value:
        cos, sin = self.tables(op, heads, len(shape_of(x)))
        return op.Add(op.Mul(x, cos), op.Mul(self.swapped(op, x), sin))

    def swapped(self, op: Builder, x: Value) -> Value:
        """The features of every pair the other way round."""
        if not self.interleaved:
            half = self.width // 2
            first, second = op.Split(x, [half, half], axis=-1, outputs=2)
            return op.Concat(second, first, axis=-1)
        copied = [0] * (len(shape_of(x)) - 1)
        first, second = op.Split(op.Reshape(x, [*copied, -1, 2]), [1, 1], axis=-1, outputs=2)
        return op.Reshape(op.Concat(second, first, axis=-1), [*copied, self.width])

    def tables(self, op: Builder, heads: int, rank: int) -> tuple[Value, Value]:
        """Cosines, and sines with the sign of what they are added to, for every feature."""
        tables = [self.positioned(op, v) for v in (self.cos, self.sin)]
        pairs = [[tables[0], tables[0]], [once(op, "Neg", [tables[1]]), tables[1]]]
        cos, sin = (self.beside(op, *pair) for pair in pairs)
        axes = [heads] if rank == 4 else [heads, 2]
        return once(op, "Unsqueeze", [cos, axes]), once(op, "Unsqueeze", [sin, axes])

    def positioned(self, op: Builder, table: Value) -> Value:
        """[batch or 1, length, pairs]: the rows of a table at the positions, or the table before it was expanded."""
        if self.positions is not None:
            if table.const is not None:
                return once(op, "Gather", [table, self.positions], axis=0)
            return once(op, "Gather", [table, self.positions], axis=0, after=op.before)
        return unexpanded(table)

    def beside(self, op: Builder, first: Value, second: Value) -> Value:
        """What both features of a pair are multiplied by."""
        if not self.interleaved:
            return once(op, "Concat", [first, second], axis=-1, behind=first)
        wide = [once(op, "Unsqueeze", [v, [-1]]) for v in (second, first)][::-1]
        return once(op, "Reshape", [once(op, "Concat", wide, axis=-1, behind=wide[0]), [0, 0, -1]])


def rotation_of(node: Node) -> Rotation:
    """What a RotaryEmbedding does to each head."""
    shape, heads = shape_of(node.operand(0)), node.int("num_heads", 0)
    size = known(shape[-1], "the size of a head") // (heads if len(shape) == 3 else 1)
    width = node.int("rotary_embedding_dim", 0) or size
    return Rotation(
        node.operand(1), node.operand(2), node.input(POSITIONS), width, size, bool(node.int("interleaved", 0))
    )


def same_rotation(a: Node, b: Node) -> bool:
    """True for two nodes that rotate the heads of different values alike."""
    return a.inputs[1:] == b.inputs[1:] and _how(a) == _how(b) and rotation_of(a).size == rotation_of(b).size


def _how(node: Node) -> list[Attribute | None]:
    return [node.attr(name) for name in ("interleaved", "rotary_embedding_dim")]
