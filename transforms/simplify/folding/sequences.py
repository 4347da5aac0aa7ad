"""Sequences whose elements are known, and optional values that are known to be there."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, TensorType, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.types import SequenceType
from .targets import reshape_target

STATIC = ("SequenceAt", "SequenceLength", "ConcatFromSequence", "SequenceErase", "SequenceInsert")


def elements(value: Value) -> list[Value] | None:
    """The elements of a sequence that is built in one node; None for others."""
    node = value.node
    if node is None or node.domain or node.op not in ("SequenceConstruct", "SequenceEmpty"):
        return None
    return [v for v in node.inputs if v is not None]


def position(op: Builder, value: Value | None, count: int, default: int) -> int | None:
    """A place in a sequence of `count` elements, counted from its end where it is negative; None where it is open."""
    if value is None:
        return default
    known = op.sizes(value)
    if known is None or not isinstance(known[0], int) or not -count <= known[0] <= count:
        return None
    return known[0] + count if known[0] < 0 else known[0]


@rule("SequenceAt")
def take_known_element(op: Builder, node: Node) -> Result:
    """An element of a sequence that is built in one node is that operand."""
    found = elements(node.operand(0))
    if found is None:
        return decline("the elements are not known")
    place = position(op, node.operand(1), len(found), 0)
    return found[place] if place is not None and place < len(found) else decline("the position is not known")


@rule("SequenceInsert")
def construct_with_inserted(op: Builder, node: Node) -> Result:
    """A sequence with an element inserted is one built with it."""
    found = elements(node.operand(0))
    if found is None:
        return decline("the elements are not known")
    place = position(op, node.input(2), len(found), len(found))
    if place is None:
        return decline("the position is not known")
    return op.SequenceConstruct(*found[:place], node.operand(1), *found[place:])


@rule("SequenceErase")
def construct_without_erased(op: Builder, node: Node) -> Result:
    """A sequence with an element erased is one built without it."""
    found = elements(node.operand(0))
    if found is None:
        return decline("the elements are not known")
    place = position(op, node.input(1), len(found), len(found) - 1)
    if place is None or place >= len(found) or len(found) == 1:
        return decline("the position is not known, or nothing is left")
    return op.SequenceConstruct(*found[:place], *found[place + 1 :])


@rule("SequenceLength")
def count_known_elements(op: Builder, node: Node) -> Result:
    """The length of a sequence that is built in one node is a constant."""
    found = elements(node.operand(0))
    return decline("the elements are not known") if found is None else constant(np.asarray(len(found), np.int64))


@rule("ConcatFromSequence")
def concat_known_elements(op: Builder, node: Node) -> Result:
    """The elements of a sequence that is built in one node are joined by a Concat; along a new axis by a Concat along
    the axis that follows, which is then taken apart.
    """
    found, axis = elements(node.operand(0)), node.int("axis")
    if not found:
        return decline("the elements are not known")
    if not node.int("new_axis", 0):
        return found[0] if len(found) == 1 else op.Concat(*found, axis=axis)
    shape = found[0].shape
    if shape is None:
        return decline("the rank of the elements is not known")
    axis %= len(shape) + 1
    if len(found) == 1:
        return op.Unsqueeze(found[0], [axis])
    if axis == len(shape) or any(v.shape != shape for v in found):
        return decline("the new axis is the last one, or the elements' shapes differ")
    joined = op.Concat(*found, axis=axis)
    target = reshape_target(joined.shape, (*shape[:axis], len(found), *shape[axis:]))
    return decline("several sizes are not known") if target is None else op.Reshape(joined, list(target))


@rule("SplitToSequence")
def split_to_known_elements(op: Builder, node: Node) -> Result:
    """A SplitToSequence whose pieces are counted, and used one by one, is a Split (SplitToSequence-24)."""
    x, sizes = node.operand(0), node.input(1)
    if x.shape is None or not all(user.op in STATIC for user in node.output.users):
        return decline("its sequence is used as a whole")
    axis = node.int("axis", 0) % len(x.shape)
    size = x.shape[axis]
    pieces = op.sizes(sizes) if sizes is not None else (1,)
    if pieces is None or not all(isinstance(p, int) and p > 0 for p in pieces):
        return decline("the sizes of its pieces are not known")
    if sizes is None or sizes.rank == 0:
        step = pieces[0]
        if not isinstance(size, int) or not isinstance(step, int):
            return decline("the number of its pieces is not known")
        pieces = tuple(min(step, size - start) for start in range(0, size, step))
    parts: list[Value] = [x] if len(pieces) == 1 else list(op.Split(x, list(pieces), axis=axis, outputs=len(pieces)))  # pyright: ignore
    if sizes is None and not node.int("keepdims", 1):
        parts = [op.Squeeze(p, [axis]) for p in parts]
    return op.SequenceConstruct(*parts)


@rule("OptionalGetElement")
def take_optional_element(op: Builder, node: Node) -> Result:
    """What an Optional was made from, or a value that is not optional at all, is the element."""
    value = node.operand(0)
    if value.op == "Optional" and value.node is not None and value.node.input(0) is not None:
        return value.node.operand(0)
    return value if isinstance(value.type, (TensorType, SequenceType)) else decline("it may hold nothing")


@rule("OptionalHasElement")
def decide_optional(op: Builder, node: Node) -> Result:
    """An Optional made from a value has it, as has a value that is not optional; one made from nothing has not."""
    value = node.input(0)
    if value is None:
        return constant(np.asarray(False))
    if value.op == "Optional" and value.node is not None:
        return constant(np.asarray(value.node.input(0) is not None))
    return (
        constant(np.asarray(True))
        if isinstance(value.type, (TensorType, SequenceType))
        else decline("it may hold nothing")
    )


RULES = (
    take_known_element,
    construct_with_inserted,
    construct_without_erased,
    count_known_elements,
    concat_known_elements,
    split_to_known_elements,
    take_optional_element,
    decide_optional,
)
