"""Parts of one tensor that are reshaped and transposed alike: moved together first, and split afterwards.

This is how queries, keys and values leave a merged projection: as entries of a leading axis, or as parts of the last
one that are each taken apart into heads. Together they need one Reshape, one Transpose and one Split.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....ir import Builder, Node, Value
from ....ir.rewrite import Result, decline, rule
from ....ir.types import Shape
from .layout import build_reshape, reshaping
from .spans import integers


@rule("Gather")
def split_instead_of_entries(op: Builder, node: Node) -> Result:
    """All entries of the first axis of a Transpose, gathered one by one, are parts of a Split.

    The axis is joined to the one behind it in the Transpose's operand, and the joined axis is split where it ends up.
    """
    moved = node.operand(0).node
    if moved is None or moved.op != "Transpose" or moved.domain:
        return decline("its operand is no Transpose")
    if moved.operand(0).is_const:
        return decline("it is transposed when constants are folded")
    before, after = moved.operand(0).shape, moved.output.shape
    if before is None or after is None or not isinstance(after[0], int):
        return decline("the number of entries is not known")
    entries = {entry(user): user for user in moved.output.users}
    if sorted(e for e in entries if e is not None) != list(range(after[0])) or len(entries) != after[0]:
        return decline("its operand is used otherwise than for all entries of its first axis")
    perm = moved.ints("perm")
    first = perm[0]
    if first + 1 >= len(perm):
        return decline("no axis is behind the gathered one")
    size = before[first + 1]
    if not isinstance(size, int):
        return decline("the axis behind the gathered one is of unknown size")
    joined: Shape = (*before[:first], after[0] * size, *before[first + 2 :])
    target = reshaping(op, before, joined)
    if target is None:
        return decline("the joined shape cannot be written")
    order = [p - (p > first) for p in perm[1:]]
    op.behind(moved.operand(0))
    together = op.Transpose(build_reshape(op, moved.operand(0), target), perm=order)
    parts = op.Split(together, [size] * after[0], axis=order.index(first), outputs=after[0])
    for place, user in entries.items():
        if user is not node and place is not None:
            op.replace(user.output, parts[place])
    return parts[entry(node) or 0]


def entry(node: Node) -> int | None:
    """Which entry of the first axis a node takes; None for a node that does anything else."""
    index = integers(node.input(1)) if node.op == "Gather" and node.int("axis") == 0 else None
    shape = node.operand(0).shape if index is not None else None
    if index is None or shape is None or node.operand(1).rank != 0 or not isinstance(shape[0], int):
        return None
    return index[0] % shape[0]


@dataclass(frozen=True)
class Heads:
    """One part of a Split whose last axis is taken apart into heads, which are then moved."""

    part: Value
    count: int
    size: int
    perm: tuple[int, ...]
    moved: Value


@rule("Transpose")
def split_heads_together(op: Builder, node: Node) -> Result:
    """Parts of the last axis whose heads are split off and moved alike are moved together, then split."""
    own = heads_of(node)
    if own is None:
        return decline("it does not move heads of a part of the last axis")
    split = own.part.node
    assert split is not None
    found = [_only_heads(value) for value in split.outputs]
    all_heads = [h for h in found if h is not None]
    if len(all_heads) != len(found):
        return decline("another part is used otherwise")
    perm = max((h.perm for h in all_heads), key=[h.perm for h in all_heads].count)
    if {h.size for h in all_heads} != {own.size} or {len(h.perm) for h in all_heads} != {len(perm)}:
        return decline("heads are of different sizes")
    source = split.operand(0)
    if source.shape is None:
        return decline("its shape is not known")
    counts = [h.count for h in all_heads]
    target = reshaping(op, source.shape, (*source.shape[:-1], sum(counts), own.size))
    if target is None:
        return decline("the shape of all heads cannot be written")
    op.behind(source)
    together = op.Transpose(build_reshape(op, source, target), perm=perm)
    heads = len(perm) - 2
    parts = op.Split(together, counts, axis=perm.index(heads), outputs=len(counts))
    results = [
        part if h.perm == perm else op.Transpose(part, perm=[perm.index(p) for p in h.perm])
        for h, part in zip(all_heads, parts, strict=True)
    ]
    for h, value in zip(all_heads, results, strict=True):
        if h.moved is not node.output:
            op.replace(h.moved, value)
    return next(value for h, value in zip(all_heads, results, strict=True) if h.moved is node.output)


def heads_of(node: Node) -> Heads | None:
    """What a Transpose moves, where that are heads of a part of the last axis."""
    apart = node.operand(0).node if node.op == "Transpose" and not node.domain else None
    split = apart.operand(0).node if apart is not None and apart.op == "Reshape" else None
    if apart is None or split is None or split.op != "Split" or split.domain or apart.domain:
        return None
    part, shape = apart.operand(0), apart.output.shape
    if part.shape is None or shape is None or split.int("axis") % len(part.shape) != len(part.shape) - 1:
        return None
    if len(shape) != len(part.shape) + 1 or shape[:-2] != part.shape[:-1]:
        return None
    count, size = shape[-2:]
    if not isinstance(count, int) or not isinstance(size, int):
        return None
    return Heads(part, count, size, node.ints("perm", tuple(reversed(range(len(shape))))), node.output)


def _only_heads(part: Value) -> Heads | None:
    """What becomes of a part that has no other use than to be taken apart into heads that are moved."""
    apart = part.only_user
    moved = None if apart is None or not apart.outputs else apart.output.only_user
    return None if moved is None else heads_of(moved)


RULES = (split_instead_of_entries, split_heads_together)
"""Exact at every level."""
