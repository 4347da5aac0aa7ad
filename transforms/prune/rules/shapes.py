"""Operators that read sizes, and those that make tensors from sizes."""

from __future__ import annotations

import numpy as np

from ....ir import Node, Tensor
from ..axes import AxisMap, integers, pinned, shape
from ..kept import Kept
from .row import Rule, set_integers, set_pinned

COMPUTED = "its size is computed at run time"


def shape_of(node: Node, axes: AxisMap) -> None:
    """The sizes that somebody reads have to stay; what is known of them was made constant before (Shape-25)."""
    x = node.operand(0)
    rank = len(shape(x))
    first, last, _ = slice(node.int("start", 0), node.attr("end")).indices(rank)  # pyright: ignore[reportArgumentType]
    read: set[int] = set()
    for user in node.output.users:
        stated = pinned(user.output) if user.input(2) is node.output else None
        if stated is not None:
            chosen = [place for place, size in enumerate(stated) if size is None]
        else:
            chosen = integers(user.input(1)) if user.op == "Gather" and user.input(1) is not node.output else None
        read |= set(range(first, last)) if chosen is None else {range(first, last)[c] for c in chosen}
    axes.freeze_axes(x, read, node, "its size is read at run time")
    axes.bind_frozen(node.output, node, "it holds sizes")


def size_of(node: Node, axes: AxisMap) -> None:
    """The number of elements (Size-25)."""
    x = node.operand(0)
    axes.freeze_axes(x, range(len(shape(x))), node, "its size is read at run time")
    axes.bind_frozen(node.output, node, "it holds sizes")


def filled(node: Node, axes: AxisMap) -> None:
    """One number everywhere: entries may go wherever sizes are stated (ConstantOfShape-25)."""
    known = integers(node.operand(0)) or pinned(node.operand(0)) or []
    free = [axes.fresh(size) if size is not None else axes.frozen(node, COMPUTED) for size in known]
    value = node.attr("value")
    whole = [axes.frozen(node, COMPUTED)] * len(shape(node.output))
    axes.bind(node.output, free if len(free) == len(whole) else whole)
    axes.freeze_axes(node.operand(0), [0], node, "it holds sizes")
    axes.hush(node.output, not isinstance(value, Tensor) or not np.any(value.numpy()))


def fewer_entries(node: Node, kept: Kept) -> None:
    """The sizes that are left."""
    changed = {axis: int(left.size) for axis, left in kept.changed(node.output).items()}
    sizes = integers(node.operand(0))
    if sizes is None:
        set_pinned(node, 0, changed)
    else:
        set_integers(node, 0, [changed.get(axis, size) for axis, size in enumerate(sizes)])


def generated(node: Node, axes: AxisMap) -> None:
    """Made from numbers, not from channels."""
    for value in node.outputs:
        axes.bind_frozen(value, node, "it is generated")


GENERATORS = ("EyeLike", "RandomNormal", "RandomUniform", "Range")

ROWS: dict[str, Rule] = {
    "Shape": Rule(shape_of),
    "Size": Rule(size_of),
    "ConstantOfShape": Rule(filled, fewer_entries),
    **{op: Rule(generated) for op in GENERATORS},
}
