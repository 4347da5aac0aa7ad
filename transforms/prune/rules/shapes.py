"""Operators that read sizes, and those that make tensors from sizes."""

from __future__ import annotations

from ....ir import Node
from ..axes import AxisMap, integers, shape
from .row import Rule


def shape_of(node: Node, axes: AxisMap) -> None:
    """The sizes that somebody reads have to stay; what is known of them was made constant before (Shape-25)."""
    x = node.operand(0)
    rank = len(shape(x))
    first, last, _ = slice(node.int("start", 0), node.attr("end")).indices(rank)  # pyright: ignore[reportArgumentType]
    read: set[int] = set()
    for user in node.output.users:
        chosen = integers(user.input(1)) if user.op == "Gather" and user.input(1) is not node.output else None
        read |= set(range(first, last)) if chosen is None else {range(first, last)[c] for c in chosen}
    axes.freeze_axes(x, read, node, "its size is read at run time")
    axes.bind_frozen(node.output, node, "it holds sizes")


def size_of(node: Node, axes: AxisMap) -> None:
    """The number of elements (Size-25)."""
    x = node.operand(0)
    axes.freeze_axes(x, range(len(shape(x))), node, "its size is read at run time")
    axes.bind_frozen(node.output, node, "it holds sizes")


def generated(node: Node, axes: AxisMap) -> None:
    """Made from numbers, not from channels."""
    for value in node.outputs:
        axes.bind_frozen(value, node, "it is generated")


GENERATORS = ("ConstantOfShape", "EyeLike", "RandomNormal", "RandomUniform", "Range")

ROWS: dict[str, Rule] = {
    "Shape": Rule(shape_of),
    "Size": Rule(size_of),
    **{op: Rule(generated) for op in GENERATORS},
}
