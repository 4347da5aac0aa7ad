"""The moving of heads around an Attention becomes its numbers of heads.

Keys and values that are repeated for several heads of queries are given once; heads that are split off a packed
projection in front of it, and joined again behind it, stay packed (the operator's form of rank 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise, permutations

import numpy as np

from ....ir import Builder, Node, Size, Value
from ....ir.rewrite import Result, decline, rule
from .grouped import Groups, Shape
from .parts import integers

HEADS_FIRST, GROUPS_FIRST = (0, 2, 1, 3), (0, 3, 1, 2, 4)
Q, K, V = range(3)
VALID = 6
FAR = 12
"""Nodes between an Attention and a projection."""


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
    if back is None or back.op != "Transpose" or back.domain:
        return None
    attention = attended_by(back)
    if attention is None or node.operand(0).only_user is not node:
        return decline("its heads do not come last behind it") if back.operand(0).op == "Attention" else None
    others = [o for o in attention.outputs[1:] if o.users]
    if attention.output.only_user is None or any(set(o.users) != {op.graph.exit} or o.index > V for o in others):
        return decline("the attention has other users")
    if attention.input(VALID) is not None:
        return decline("it is told how many of its keys are valid")
    packing = Packing(op, attention)
    operands = packing.packed()
    if operands is None:
        return decline("queries, keys or values are not packed before it")
    query, key = attention.operand(Q), attention.operand(K)
    assert query.shape is not None
    assert key.shape is not None
    attrs = {**attention.attrs, "q_num_heads": query.shape[1], "kv_num_heads": key.shape[1]}
    made = op.node("Attention", [*operands, *attention.inputs[3:]], attrs, outputs=len(attention.outputs))
    assert isinstance(made, Node)
    for present in others:
        op.replace(present, made.outputs[present.index])
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


def attended_by(back: Node) -> Node | None:
    """The Attention whose heads a Transpose puts last, those that share keys on one axis or on two."""
    inner = back.operand(0).node
    if back.ints("perm", ()) == GROUPS_FIRST and inner is not None and inner.op == "Reshape":
        if inner.output.only_user is not back or Groups.between(inner.operand(0), inner.output) is None:
            return None
        inner = inner.operand(0).node
    elif back.ints("perm", ()) != HEADS_FIRST:
        return None
    return inner if inner is not None and inner.op == "Attention" and not inner.domain else None


@dataclass
class Origin:
    """Where heads [batch, heads, length, size] come from: some of those that are last in `source`.

    `labels` are the axes of `source`. `bounds` are all places where heads are cut apart on the way, `turns` the
    rotations, the last one first.
    """

    source: Value
    labels: str = "BHSD"
    start: int = 0
    stop: int = 0
    bounds: set[int] = field(default_factory=set[int])
    turns: list[Node] = field(default_factory=list[Node])

    @property
    def total(self) -> Size:
        assert self.source.shape is not None
        return self.source.shape[self.labels.index("H")]

    def climb(self) -> bool:
        """One node further up; False where there is no way."""
        value, node = self.source, self.source.node
        if node is None or node.domain or value.shape is None:
            return False
        if node.op == "Transpose":
            perm = node.ints("perm", ())
            if len(perm) != len(self.labels):
                return False
            self.labels = "".join(self.labels[perm.index(axis)] for axis in range(len(perm)))
        elif node.op == "Split":
            if node.int("axis") % len(self.labels) != self.labels.index("H"):
                return False
            sizes = [v.shape[self.labels.index("H")] if v.shape is not None else None for v in node.outputs]
            ends = list(accumulate(size if isinstance(size, int) else 0 for size in sizes))
            if not all(isinstance(size, int) for size in sizes) or not ends[-1]:
                return False
            before = [0, *ends][value.index]
            self.start, self.stop = self.start + before, self.stop + before
            self.bounds = {bound + before for bound in self.bounds} | {0, *ends}
        elif node.op == "RotaryEmbedding":
            if value.only_user is None or self.labels != "BHSD":
                return False
            self.turns.append(node)
        elif node.op in ("Squeeze", "Unsqueeze", "Reshape"):
            labels = relabelled(self.labels, value.shape, node.operand(0).shape)
            if labels is None:
                return False
            self.labels = labels
        else:
            return False
        self.source = node.operand(0)
        return True


def relabelled(labels: str, shape: Shape, before: Shape | None) -> str | None:
    """The names of the axes before one of size 1 (named 1) came or went; None where something else happened."""
    if before is None:
        return None
    if len(before) == len(shape) + 1:
        place = next(
            (i for i in range(len(before)) if before[i] == 1 and (*before[:i], *before[i + 1 :]) == shape), None
        )
        return None if place is None else labels[:place] + "1" + labels[place:]
    place = labels.find("1")
    if place < 0 or (*shape[:place], *shape[place + 1 :]) != before:
        return None
    return labels[:place] + labels[place + 1 :]


class Packing:
    """Makes [batch, length, heads * size] of operands [batch, heads, length, size] where that takes nothing new."""

    def __init__(self, op: Builder, attention: Node) -> None:
        self.op, self.attention = op, attention
        self.made: dict[tuple[Value, tuple[int, ...]], tuple[Value, ...]] = {}

    def packed(self) -> list[Value] | None:
        """Queries, keys and values; None where one of them does not come from packed ones."""
        found = [each for i in (Q, K, V) if (each := self.origin(self.attention.operand(i))) is not None]
        if len(found) < 3 or not self.turn_together(found):
            return None
        for one, other in permutations(found, 2):
            if one.source is other.source:
                one.bounds |= other.bounds
        made = [v for each in found if (v := self.joined(each)) is not None]
        return made if len(made) == len(found) else None

    def origin(self, value: Value) -> Origin | None:
        """The packed projection that an operand comes from."""
        shape = value.shape
        if shape is None or len(shape) != 4 or not isinstance(shape[1], int) or not isinstance(shape[3], int):
            return None
        found = Origin(value, stop=shape[1], bounds={0, shape[1]})
        for _ in range(FAR):
            if found.labels.replace("1", "") == "BSHD" and found.labels.startswith("BS"):
                return found
            entry = entry_of(found.source) if found.labels == "BHSD" and len(found.bounds) == 2 else None
            if entry is not None:
                return self.entry(found, *entry)
            if not found.climb():
                return None
        return None

    def entry(self, found: Origin, whole: Value, place: int) -> Origin | None:
        """The heads as those of one of several equal parts of a projection, which were on an axis in front of all."""
        moved = whole.node
        if moved is None or moved.op != "Transpose" or moved.ints("perm", ()) != (2, 0, 3, 1, 4):
            return None
        wide = moved.operand(0)
        split = wide.node
        if wide.shape is None or split is None or split.op != "Reshape":
            return None
        count, heads, size = wide.shape[2:]
        if not isinstance(count, int) or not isinstance(heads, int) or not isinstance(size, int):
            return None
        if split.operand(0).shape != (*wide.shape[:2], count * heads * size):
            return None
        found.source, found.labels = wide, "BS3HD"
        found.bounds, found.start, found.stop = (
            {i * heads for i in range(count + 1)},
            place * heads,
            (place + 1) * heads,
        )
        return found

    def turn_together(self, origins: list[Origin]) -> bool:
        """True where nobody but the operands needs what is rotated."""
        for turn in {turn for origin in origins for turn in origin.turns}:
            parts = [v for v in ends_of(turn.output) if v is not None]
            users = [v for v in parts if v.only_user is not self.attention]
            if users or len(parts) != len(ends_of(turn.output)):
                return False
        return True

    def joined(self, origin: Origin) -> Value | None:
        """The heads of an origin side by side in the last axis."""
        source, shape = origin.source, origin.source.shape
        if shape is None or not isinstance(shape[-1], int):
            return None
        total, size = 1, shape[-1]
        for length in shape[2:-1]:
            if not isinstance(length, int):
                return None
            total *= length
        whole, node = None, source.node
        if node is not None and node.op == "Reshape" and not node.domain:
            before = node.operand(0)
            whole = before if before.shape == (*shape[:2], total * size) else None
        if whole is None:
            whole = self.op.Reshape(source, [0, 0, total * size])
        bounds = sorted(origin.bounds)
        part = (origin.start, origin.stop)
        if part == (0, total):
            made = whole
        elif part in pairwise(bounds):
            widths = [(b - a) * size for a, b in pairwise(bounds)]
            made = self.parts(whole, widths)[bounds.index(origin.start)]
        else:
            return None
        for turn in reversed(origin.turns):
            attrs = {**turn.attrs, "num_heads": origin.stop - origin.start}
            turned = self.op.node("RotaryEmbedding", [made, *turn.inputs[1:]], attrs)
            assert isinstance(turned, Node)
            made = turned.output
        return made

    def parts(self, source: Value, widths: list[int]) -> tuple[Value, ...]:
        """Consecutive parts of the last axis; the same ones for all who ask, in this firing and in earlier ones."""
        beside = source.node
        if beside is not None and beside.op == "Concat" and not beside.domain and beside.int("axis") in (2, -1):
            parts = [v for v in beside.inputs if v is not None]
            if [None if v.shape is None else v.shape[-1] for v in parts] == widths:
                return tuple(parts)
        for user in source.users:
            same = user.op == "Split" and user.int("axis") in (2, -1) and integers(user.input(1)) == widths
            if same and user.graph is self.op.graph:
                hoist(user, source)
                return user.outputs
        key = (source, tuple(widths))
        if key not in self.made:
            self.made[key] = self.op.Split(source, widths, axis=2, outputs=len(widths))
        return self.made[key]


def hoist(node: Node, source: Value) -> None:
    """Moves a node that needs nothing else to right behind what it reads, so that whoever comes later may use it."""
    graph, made = node.graph, source.node
    if graph is not None and made is not None and made.next is not node:
        node.unlink()
        graph.insert(node, made.next)


def ends_of(value: Value) -> list[Value | None]:
    """The values that a rotated one goes to an Attention as, whole or in parts; None for one with other users."""
    user = value.only_user
    if user is None:
        return [None]
    if user.op in ("Split", "Squeeze", "Unsqueeze", "Reshape") and not user.domain:
        return [end for part in user.outputs for end in ends_of(part)]
    if user.op == "Transpose" and not user.domain:
        return ends_of(user.output)
    return [value]


def entry_of(value: Value) -> tuple[Value, int] | None:
    """x and i where `value` is x[i]: a Gather, or a Squeeze (or Reshape) of a Slice or of a part of a Split."""
    node = value.node
    if node is None or node.domain:
        return None
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
