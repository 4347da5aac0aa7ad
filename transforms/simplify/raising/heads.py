"""The moving of heads around an Attention becomes its numbers of heads.

Keys and values that are repeated for several heads of queries are given once; heads that are split off a packed
projection in front of it, and joined again behind it, stay packed (the operator's form of rank 3).
"""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, Value
from ....ir.rewrite import Result, decline, rule
from .parts import integers

HEADS_FIRST, TURNED = (0, 2, 1, 3), (0, 2, 3, 1)
SWAPPED = (0, 1, 3, 2)
Q, K, V = range(3)


@rule("Attention")
def share_repeated_heads(op: Builder, node: Node) -> Result:
    """Keys and values that are repeated along their heads are shared by the heads of the queries."""
    query, key, value = (node.operand(i) for i in range(3))
    if any(v is not None for v in node.inputs[4:]) or any(o.users for o in node.outputs[1:]):
        return decline("it keeps keys and values of earlier calls")
    if query.rank != 4:
        return decline("its heads are packed")
    keys, values = repeated(op, key), repeated(op, value)
    if keys is None or values is None:
        return decline("its keys and values are not repeated")
    if keys.shape is None or values.shape is None or keys.shape[1] != values.shape[1]:
        return decline("keys and values are repeated differently")
    return op.node("Attention", [query, keys, values, *node.inputs[3:]], node.attrs).output  # pyright: ignore


def repeated(op: Builder, value: Value) -> Value | None:
    """x where `value` is x [batch, heads, length, size] with every head several times in a row."""
    node, shape = value.node, value.shape
    if node is None or node.domain or shape is None or len(shape) != 4:
        return None
    if node.op == "Gather":
        return gathered(node)
    if node.op == "Expand":
        x = node.operand(0)
        return x if x.shape is not None and x.shape == (shape[0], 1, *shape[2:]) else None
    if node.op != "Reshape":
        return None
    wide = node.operand(0)
    copies, sizes = wide.node, wide.shape
    if copies is None or copies.domain or sizes is None or len(sizes) != 5:
        return None
    repeats = copies.op == "Expand" or (
        copies.op == "Concat" and copies.int("axis") in (2, -3) and len(set(copies.inputs)) == 1
    )
    if not repeats:
        return None
    narrow = copies.operand(0)
    if sizes != (shape[0], sizes[1], sizes[2], *shape[2:]) or not isinstance(sizes[1], int):
        return None
    if narrow.shape != (shape[0], sizes[1], 1, *shape[2:]):
        return None
    return op.Squeeze(narrow, [2])


def gathered(node: Node) -> Value | None:
    """The operand of a Gather that takes every head several times in a row."""
    x, index = node.operand(0), integers(node.input(1))
    if node.int("axis") not in (1, -3) or index is None or x.shape is None or not isinstance(x.shape[1], int):
        return None
    heads = x.shape[1]
    return x if len(index) % heads == 0 and index == np.repeat(range(heads), len(index) // heads).tolist() else None


@rule("Reshape")
def pack_heads(op: Builder, node: Node) -> Result:
    """Heads that an Attention has on an axis of their own, between packed projections, stay packed."""
    back = node.operand(0).node
    attention = None if back is None or back.op != "Transpose" or back.domain else back.operand(0).node
    if attention is None or back is None or attention.op != "Attention" or attention.domain:
        return None
    if back.ints("perm", ()) != HEADS_FIRST or node.operand(0).only_user is not node:
        return decline("its heads do not come last behind it")
    if attention.output.only_user is not back or any(o.users for o in attention.outputs[1:]):
        return decline("the attention has other users")
    if any(v is not None for v in attention.inputs[4:]):
        return decline("it keeps keys and values of earlier calls")
    packing = Packing(op)
    operands = [packing.packed(attention.operand(i), attention) for i in range(3)]
    if any(v is None for v in operands):
        return decline("queries, keys or values are not packed before it")
    query, key = attention.operand(Q), attention.operand(K)
    assert query.shape is not None
    assert key.shape is not None
    attrs = {**attention.attrs, "q_num_heads": query.shape[1], "kv_num_heads": key.shape[1]}
    made = op.node("Attention", [*operands, *attention.inputs[3:4]], attrs)
    assert isinstance(made, Node)
    if made.output.shape is not None and made.output.shape == node.output.shape:
        return made.output
    shape = integers(node.operand(1))
    if shape is not None and 0 in shape[2:]:
        return decline("it copies sizes of heads")
    if node.output.rank == 3 and made.output.rank == 3:
        last = made.output.shape[2] if made.output.shape else None
        if node.output.shape is not None and node.output.shape[2] == last and shape == [0, 0, -1]:
            return made.output
    return op.Reshape(made.output, node.operand(1), **node.attrs)


class Packing:
    """Makes [batch, length, heads * size] of operands [batch, heads, length, size] where that takes nothing new."""

    def __init__(self, op: Builder) -> None:
        self.op = op
        self.pieces: dict[tuple[Value, int], tuple[Value, ...]] = {}

    def packed(self, value: Value, user: Node) -> Value | None:
        node, shape = value.node, value.shape
        if node is None or node.domain or shape is None or len(shape) != 4:
            return None
        if not isinstance(shape[1], int) or not isinstance(shape[3], int):
            return None
        if node.op == "Transpose" and node.ints("perm", ()) == HEADS_FIRST:
            return self.joined(node.operand(0), shape[1] * shape[3])
        if node.op == "Transpose" and node.ints("perm", ()) == SWAPPED:
            part = node.operand(0)
            of_heads = part.node is not None and part.op == "Split" and part.node.int("axis") in (1, -3)
            return self.part_of_heads(part, part.node, TURNED) if of_heads and part.node is not None else None
        if node.op == "RotaryEmbedding" and value.only_user is user:
            inner = self.packed(node.operand(0), node)
            attrs = {**node.attrs, "num_heads": shape[1]}
            return None if inner is None else self.op.node("RotaryEmbedding", [inner, *node.inputs[1:]], attrs).output  # pyright: ignore
        return self.piece(value, shape[1] * shape[3])

    def joined(self, value: Value, width: int) -> Value:
        """[batch, length, heads, size] without an axis for the heads."""
        node = value.node
        if node is not None and node.op == "Reshape" and not node.domain:
            source = node.operand(0).shape
            if source is not None and value.shape is not None and source == (*value.shape[:2], width):
                return node.operand(0)
        return self.op.Reshape(value, [0, 0, width])

    def piece(self, value: Value, width: int) -> Value | None:
        """One of several parts that are moved together: parts of the heads, or entries of an axis in front of all."""
        node = value.node
        assert node is not None
        if node.op == "Split" and node.int("axis") in (1, -3):
            return self.part_of_heads(value, node, HEADS_FIRST)
        entry = entry_of(value)
        if entry is None:
            return None
        whole, place = entry
        moved = whole.node
        if moved is None or moved.op != "Transpose" or moved.ints("perm", ()) != (2, 0, 3, 1, 4):
            return None
        wide = moved.operand(0)
        split = wide.node
        count = None if wide.shape is None else wide.shape[2]
        if split is None or split.op != "Reshape" or not isinstance(count, int) or wide.shape is None:
            return None
        source = split.operand(0)
        if source.shape != (*wide.shape[:2], count * width):
            return None
        return self.parts(source, [width] * count)[place]

    def part_of_heads(self, value: Value, node: Node, perm: tuple[int, ...]) -> Value | None:
        """One of the outputs of a Split of heads that were moved together, to where `perm` has them."""
        moved = node.operand(0).node
        if moved is None or moved.op != "Transpose" or moved.ints("perm", ()) != perm:
            return None
        wide, size = moved.operand(0), perm.index(3)
        widths = [v.shape[1] * v.shape[size] if v.shape is not None else None for v in node.outputs]
        if wide.shape is None or not all(isinstance(w, int) for w in widths):
            return None
        sizes = [int(w) for w in widths if w is not None]
        return self.parts(self.joined(wide, sum(sizes)), sizes)[value.index]

    def parts(self, source: Value, widths: list[int]) -> tuple[Value, ...]:
        """Consecutive parts of the last axis; the same ones for all who ask, in this firing and in earlier ones."""
        for user in source.users:
            same = user.op == "Split" and user.int("axis") in (2, -1) and integers(user.input(1)) == widths
            if same and user.graph is self.op.graph:
                return user.outputs
        key = (source, len(widths))
        if key not in self.pieces:
            self.pieces[key] = self.op.Split(source, widths, axis=2, outputs=len(widths))
        return self.pieces[key]


def entry_of(value: Value) -> tuple[Value, int] | None:
    """x and i where `value` is x[i]: a Gather, or a Squeeze (or Reshape) of a Slice or of a part of a Split."""
    node = value.node
    assert node is not None
    if node.op == "Gather":
        index = integers(node.input(1))
        size = node.operand(0).shape
        single = index is not None and node.operand(1).rank == 0 and node.int("axis") == 0
        if not single or index is None or size is None or not isinstance(size[0], int):
            return None
        return node.operand(0), index[0] % size[0]
    if node.op not in ("Squeeze", "Reshape"):
        return None
    part = node.operand(0)
    if part.shape is None or value.shape is None or part.shape != (1, *value.shape) or part.node is None:
        return None
    maker = part.node
    if maker.op == "Split" and maker.int("axis") == 0:
        return (maker.operand(0), part.index) if all(o.shape and o.shape[0] == 1 for o in maker.outputs) else None
    if maker.op == "Slice" and len(maker.inputs) > 3:
        start, axes, steps = (integers(maker.input(i)) for i in (1, 3, 4))
        rank_size = maker.operand(0).shape
        if start is None or axes != [0] or steps not in (None, [1]) or rank_size is None:
            return None
        return (maker.operand(0), start[0] % rank_size[0]) if isinstance(rank_size[0], int) else None
    return None


RULES = (share_repeated_heads, pack_heads)
