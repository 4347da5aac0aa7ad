"""Heads of queries that share keys and values, on an axis of their own behind the shared heads.

Products of [batch, shared, each, length, size] with [batch, shared, 1, ...] are how grouped heads are written without
repeating keys and values. Attention has all heads of queries on one axis, those that share in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ....ir import Builder, Size, Value
from .parts import number

Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Groups:
    """How many heads keys and values have, and how many heads of queries share each of them."""

    kept: int
    each: int

    @staticmethod
    def of(query: Shape, turned: Shape, value: Shape) -> Groups | None:
        """The groups of queries, transposed keys and values of rank 5; None where they are no such thing."""
        kept, each = query[1], query[2]
        if turned[2] != 1 or value[2] != 1 or not turned[1] == value[1] == kept:
            return None
        return Groups(kept, each) if isinstance(kept, int) and isinstance(each, int) else None

    @staticmethod
    def between(joined: Value, apart: Value) -> Groups | None:
        """The groups of one axis of heads in `joined` that is two axes in `apart`."""
        if joined.shape is None or apart.shape is None or len(joined.shape) != 4 or len(apart.shape) != 5:
            return None
        kept, each = apart.shape[1:3]
        if not isinstance(kept, int) or not isinstance(each, int):
            return None
        return Groups(kept, each) if joined.shape == Groups(kept, each).one_axis(apart.shape) else None

    def one_axis(self, shape: Shape) -> Shape:
        return (shape[0], self.kept * self.each, *shape[3:])

    def together(self, op: Builder, query: Value) -> Value:
        """Queries with all heads on one axis."""
        shape = query.shape
        assert shape is not None
        length = shape[3] if isinstance(shape[3], int) else -1
        sizes = [0, self.kept * self.each, length, shape[4]]
        return relaid(op, query, self.one_axis(shape), lambda v: op.Reshape(v, sizes))

    def apart(self, op: Builder, y: Value) -> Value:
        """The result with its heads on two axes again."""
        shape = y.shape
        assert shape is not None
        length = shape[2] if isinstance(shape[2], int) else -1
        return op.Reshape(y, [0, self.kept, self.each, length, shape[3]])

    def mask(self, op: Builder, mask: Value) -> Value | None:
        """A mask for heads on one axis; None where those that share are masked differently, in a way that has none."""
        shape = mask.shape
        assert shape is not None
        if len(shape) < 3:
            return mask
        lead, kept, each = shape[:-4], shape[-4] if len(shape) > 3 else 1, shape[-3]
        if (kept, each) == (1, 1):
            return mask if len(shape) == 3 else squeezed(op, mask, len(shape) - 3)
        if (kept, each) != (self.kept, self.each):
            return None
        wanted = (*lead, kept * each, *shape[-2:])
        length, keys = (n if isinstance(n, int) else -1 for n in shape[-2:])
        sizes = [0] * len(lead) + [self.kept * self.each, length, keys]
        made = relaid(op, mask, wanted, lambda v: v if sizes.count(-1) > 1 else op.Reshape(v, sizes))
        return made if made.rank == len(wanted) else None


def squeezed(op: Builder, value: Value, axis: int) -> Value:
    """A value without an axis of size 1."""
    shape = value.shape
    assert shape is not None
    return relaid(op, value, (*shape[:axis], *shape[axis + 1 :]), lambda v: op.Squeeze(v, [axis]))


def relaid(op: Builder, value: Value, wanted: Shape, make: Callable[[Value], Value]) -> Value:
    """A value in another shape: what it was before a reshaping, also one that a choice between numbers is made by;
    `make` where there is no such thing.
    """
    node = value.node
    if node is None or node.domain:
        return make(value)
    if node.op in ("Unsqueeze", "Squeeze", "Reshape") and node.operand(0).shape == wanted:
        return node.operand(0)
    if node.op == "Where" and node.operand(0).shape == value.shape:
        yes, no = number(node.operand(1)), number(node.operand(2))
        if yes is not None and no is not None and node.operand(1).rank == node.operand(2).rank == 0:
            return op.Where(relaid(op, node.operand(0), wanted, make), node.operand(1), node.operand(2))
    if node.op == "Max" and len(node.inputs) == 2 and node.operand(0).shape == value.shape and not node.operand(1).rank:
        return op.Max(relaid(op, node.operand(0), wanted, make), node.operand(1))
    return make(value)
