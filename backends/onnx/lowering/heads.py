"""Queries, keys and values by heads, in the fewest nodes.

A Reshape and a Transpose each, the one of the keys in the order that a product wants; one of both for all that are
parts of one projection, or that are rotated alike. Keys and values that several heads share get an axis for them.
"""

from __future__ import annotations

from ....ir import Builder, Node, Value
from .operands import dtype_of, known, shape_of
from .rotation import Rotation, rotation_of, same_rotation

Q, K, V, MASK, PAST_KEY, PAST_VALUE, VALID = range(7)


def transposed(op: Builder, value: Value, perm: list[int]) -> Value:
    """A value with its axes in another order; one Transpose where another one made it, none where that undoes it."""
    node = value.node
    if node is None or node.op != "Transpose" or node.domain:
        return op.Transpose(value, perm=perm)
    inner = node.ints("perm", tuple(reversed(range(len(perm)))))
    both = [inner[p] for p in perm]
    return node.operand(0) if both == sorted(both) else op.Transpose(node.operand(0), perm=both)


def unreshaped(value: Value) -> tuple[Value, list[int]]:
    """What a tensor [batch, length, channels] is a Reshape of and its first two sizes in a Reshape of that; itself
    where it is none.
    """
    node = value.node
    target = None if node is None or node.op != "Reshape" or node.domain else node.operand(1).const
    if node is None or target is None or (node.int("allowzero") and 0 in target.numpy()):
        return value, [0, 0]
    front = [int(n) for n in target.numpy()[:2]]
    return node.operand(0), front


class Heads:
    """The operands of an Attention and how many heads they have."""

    def __init__(self, node: Node, op: Builder) -> None:
        self.node, self.op = node, op
        query, key, value = (node.operand(i) for i in (Q, K, V))
        self.dtype = dtype_of(query)
        self.packed = len(shape_of(query)) == 3
        self.heads, self.kept = self._count(Q), self._count(K)
        self.size, self.value_size = self._size(query, self.heads), self._size(value, self.kept)
        self.grouped = 1 < self.kept < self.heads
        """Keys and values are shared by several heads, which then have an axis of their own behind the shared ones."""
        self.cached = node.input(PAST_KEY) is not None
        self.kept_for_later = self.cached or any(v.users for v in node.outputs[1:3])
        self.length, self.keys = (shape_of(v)[1 if self.packed else 2] for v in (query, key))

    def _count(self, index: int) -> int:
        if self.packed:
            return self.node.int("q_num_heads" if index == Q else "kv_num_heads")
        return known(shape_of(self.node.operand(index))[1], "the number of heads")

    def _size(self, value: Value, heads: int) -> int:
        size = known(shape_of(value)[-1], "the size of a head")
        return size // heads if self.packed else size

    def split(self) -> tuple[Value, Value, Value, tuple[Value | None, Value | None]]:
        """Q, K' and V by heads, and the caches after the step where somebody asks for them."""
        if self.kept_for_later:
            return self._cached()
        op, by_heads = self.op, self._together()
        query = self._grouped_query(by_heads[Q]) if Q in by_heads else self._query()
        swap = [0, 1, 2, 4, 3] if self.grouped else [0, 1, 3, 2]
        key = op.Transpose(by_heads[K], perm=swap) if K in by_heads else self._alone(K, turned=True)
        return query, key, by_heads[V] if V in by_heads else self._alone(V), (None, None)

    def _cached(self) -> tuple[Value, Value, Value, tuple[Value | None, Value | None]]:
        op, past, by_heads = self.op, (self.node.input(PAST_KEY), self.node.input(PAST_VALUE)), self._together()
        present = [by_heads.get(i) or self._first(i) for i in (K, V)]
        if self.cached:
            present = [op.Concat(old, new, axis=2) for old, new in zip(past, present, strict=True)]
        key, value = op.Transpose(present[0], perm=[0, 1, 3, 2]), present[1]
        if self.grouped:
            key, value = op.Unsqueeze(key, [2]), op.Unsqueeze(value, [2])
        query = self._grouped_query(by_heads[Q]) if Q in by_heads else self._query()
        return query, key, value, (present[0], present[1])

    # One operand by itself

    def _query(self) -> Value:
        """[batch, heads, length, size], or [batch, shared heads, heads, length, size] where keys are shared."""
        op, value = self.op, self.node.operand(Q)
        if not self.grouped:
            return self._first(Q)
        if self.packed:
            wide = [0, 0, self.kept, self.heads // self.kept, self.size]
            return op.Transpose(op.Reshape(value, wide), perm=[0, 2, 3, 1, 4])
        return self._grouped_query(value)

    def _grouped_query(self, value: Value) -> Value:
        if not self.grouped:
            return value
        return self.op.Reshape(value, [0, self.kept, self.heads // self.kept, -1, self.size])

    def _first(self, index: int) -> Value:
        """An operand as [batch, heads, length, size]."""
        value, heads = self.node.operand(index), self.heads if index == Q else self.kept
        if not self.packed:
            return value
        size = self.value_size if index == V else self.size
        return self.op.Transpose(self.op.Reshape(value, [0, 0, heads, size]), perm=[0, 2, 1, 3])

    def _alone(self, index: int, *, turned: bool = False) -> Value:
        """Keys (transposed where `turned`) or values by heads, with an axis for those that share them."""
        op, value = self.op, self.node.operand(index)
        size = self.value_size if index == V else self.size
        if not self.packed:
            made = transposed(op, value, [0, 1, 3, 2]) if turned else value
            return op.Unsqueeze(made, [2]) if self.grouped else made
        if self.grouped:
            return op.Transpose(
                op.Reshape(value, [0, 0, self.kept, 1, size]), perm=[0, 2, 3, 4, 1] if turned else [0, 2, 3, 1, 4]
            )
        return op.Transpose(op.Reshape(value, [0, 0, self.kept, size]), perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3])

    # Several at once

    def _together(self) -> dict[int, Value]:
        """Those operands by heads that come from one projection, or are rotated alike."""
        if not self.packed:
            return {}
        rotation = self._rotation()
        if rotation is not None:
            return self._rotated(rotation)
        projection = self._projection([self.node.operand(i) for i in (Q, K, V)])
        if projection is None:
            return {}
        order = [v.index for v in projection.outputs]
        users = {self.node.operand(i): i for i in (Q, K, V)}
        indices = [users[projection.outputs[i]] for i in order]
        counts = [self.heads if i == Q else self.kept for i in indices]
        whole = self._all_heads(projection.operand(0), sum(counts))
        return dict(zip(indices, self.op.Split(whole, counts, axis=1, outputs=len(counts)), strict=True))

    def _projection(self, operands: list[Value]) -> Node | None:
        """The Split all of whose parts are operands here and nowhere else: all three, or keys and values."""
        split = operands[V].node
        if self.size != self.value_size or split is None or split.op != "Split" or split.domain:
            return None
        if split.int("axis") not in (2, -1) or len(set(operands)) != 3:
            return None
        users = {v: v.only_user for v in split.outputs}
        parts = [v for v in split.outputs if v in operands]
        whole = len(parts) == len(split.outputs) and len(parts) > 1 and all(users[v] is not None for v in parts)
        return split if whole else None

    def _all_heads(self, source: Value, count: int) -> Value:
        """[batch, heads, length, size] of a projection that holds so many heads, with an axis for those that share."""
        source, front = unreshaped(source)
        wide, perm = [*front, count, self.size], [0, 2, 1, 3]
        if self.grouped and not self.kept_for_later:
            wide, perm = [*front, count, 1, self.size], [0, 2, 3, 1, 4]
        return self.op.Transpose(self.op.Reshape(source, wide), perm=perm)

    def _rotation(self) -> Rotation | None:
        """The rotation of queries and keys, where both turn alike and nobody else asks for them."""
        query, key = (self.node.operand(i).node for i in (Q, K))
        if query is None or key is None or query is key:
            return None
        for node in (query, key):
            if node.op != "RotaryEmbedding" or node.domain or node.output.only_user is not self.node:
                return None
        return rotation_of(query) if same_rotation(query, key) else None

    def _rotated(self, rotation: Rotation) -> dict[int, Value]:
        """Queries and keys rotated together, and the values where they come with them."""
        op = self.op
        sources = [self.node.operand(i).node for i in (Q, K)]
        query, key = (n.operand(0) for n in sources if n is not None)
        value, both = self.node.operand(V), self.heads + self.kept
        projection = self._projection([query, key, value])
        made: dict[int, Value] = {}
        if projection is not None and projection.outputs == (query, key, value):
            whole = self._all_heads(projection.operand(0), both + self.kept)
            joint, made[V] = op.Split(whole, [both, self.kept], axis=1, outputs=2)
        else:
            joint = self._all_heads(op.Concat(query, key, axis=-1), both)
        turned = rotation.apply(op, joint, 1)
        made[Q], made[K] = op.Split(turned, [self.heads, self.kept], axis=1, outputs=2)
        return made
