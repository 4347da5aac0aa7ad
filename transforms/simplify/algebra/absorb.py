"""How a scale and a summand of a value climb to the weights that they can be folded into.

From the value upwards through whatever commutes with them (moved, split and selected axes, positively homogeneous
activations, pooling, products of activations) to an operator of `LINEAR`. Each value on the way may have no other user
that sees it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Union

import numpy as np

from ....ir import Builder, Node, Size, Value
from .channels import Wide, embedded, is_shared, known, reshaped, scaled, shifted, varies
from .linear import LINEAR, SHARED_WEIGHT, Affine, Change, named, trimmed

STEPS = 24
"""Nodes that a constant climbs at most."""


@dataclass
class Plan:
    """The changes that fold a constant away: new operands per node, and the values that hold something else then."""

    changes: list[tuple[Node, Change]] = field(default_factory=list[tuple[Node, Change]])
    changed: list[Value] = field(default_factory=list[Value])

    def carry_out(self, op: Builder) -> None:
        """Asks the driver for the changes."""
        for index, (node, change) in enumerate(self.changes):
            op.revise(node, change.inputs, change.attrs, self.changed if not index else ())


Found = Union[Plan, str]
Step = tuple[int, Affine, "Change | None"]
"""An operand that may take the constant instead, what it must take, and what changes at the node itself."""

Passage = Callable[[Value, Affine], "Sequence[Step]"]


NOTHING_ABOVE = "nothing above it has weights"


def keeps_it(node: Node) -> str:
    """Why nothing above a node is changed."""
    return f"{node.op} keeps it from the weights above"


def absorb(value: Value, user: Node, by: Affine, steps: int = STEPS) -> Found:
    """A plan by which `value`, whose use by `user` is to see k x + s, is computed as that; or the reason why not.

    Of several ways the first one is taken.
    """
    node = value.node
    if node is None or value.is_input:
        return NOTHING_ABOVE
    if not is_exclusive(value, user):
        return f"{node.where} has other users"
    if not steps:
        return "the weights are too far away"
    reason = keeps_it(node)
    if node.domain:
        return reason
    row = LINEAR.get(node.op)
    if row is not None and value.index == 0:
        outcome = row(node, by)
        if isinstance(outcome, Change):
            return Plan([(node, outcome)], [value])
        reason = outcome
    for index, each, change in PASSAGES[node.op](value, by) if node.op in PASSAGES else ():
        found = absorb(node.operand(index), node, each, steps - 1) if trivial(each) is False else Plan()
        if isinstance(found, Plan):
            found.changed.append(value)
            if change is not None:
                found.changes.append((node, change))
            return found
        reason = reason if reason == SHARED_WEIGHT else found
    return reason


def trivial(by: Affine) -> bool:
    """True for 1 x + 0."""
    return by.scale is None and by.shift is None


def is_exclusive(value: Value, user: Node) -> bool:
    """True when nobody else sees the part of the value that `user` sees: others ask only for its shape, or select
    other entries of the same axis.
    """
    if value.users.get(user) != 1:
        return False
    others = [n for n in value.users if n is not user and (n.domain or n.op not in ("Shape", "Size"))]
    if not others:
        return True
    axis, mine = selection(user)
    for other in others:
        there, theirs = selection(other)
        if axis is None or there != axis or mine & theirs or other.inputs.count(value) != 1:
            return False
    return True


def selection(node: Node) -> tuple[int | None, frozenset[int]]:
    """The one axis along which a Gather or Slice takes some entries, counted from the front, and which; None where
    it is no such node.
    """
    shape = node.operand(0).shape if node.op in ("Gather", "Slice") and not node.domain else None
    if shape is None:
        return None, frozenset()
    if node.op == "Gather":
        axis, index = node.int("axis") % len(shape), node.operand(1).const
        size = shape[axis]
        if index is None or index.rank > 1 or not isinstance(size, int):
            return None, frozenset()
        return axis, frozenset(int(i) % size for i in index.numpy().reshape(-1).tolist())
    taken = entries_of(node, shape)
    return (None, frozenset()) if taken is None else (taken[0], frozenset(taken[1]))


def entries_of(node: Node, shape: Sequence[Size]) -> tuple[int, range] | None:
    """The axis and the entries that a Slice of one axis takes; None where it takes several or they are not known."""
    tensors = [v.const if v is not None else None for v in node.inputs[1:]]
    if len(tensors) < 3 or any(t is None or t.count != 1 for t in tensors):
        return None
    start, stop, axis, step = [int(t.numpy().item()) for t in tensors if t is not None] + [1] * (4 - len(tensors))
    size = shape[axis]
    return (
        (axis % len(shape), range(*slice(start, stop, step).indices(size)))
        if isinstance(size, int) and step > 0
        else None
    )


def both(by: Affine, change: Callable[[Wide, float], Wide | None]) -> Affine | None:
    """`change` applied to scale and summand with their neutral element; None where it fails for one."""
    k = None if by.scale is None else change(by.scale, 1.0)
    s = None if by.shift is None else change(by.shift, 0.0)
    return None if (k is None) != (by.scale is None) or (s is None) != (by.shift is None) else Affine(k, s)


def moved(change: Callable[[Value, Wide, float], Wide | None]) -> Passage:
    """The passage of a node that only moves its first operand's elements."""

    def passage(value: Value, by: Affine) -> Sequence[Step]:
        out = both(by, lambda array, neutral: change(value, array, neutral))
        return [(0, out, None)] if out is not None else []

    return passage


def transposed(value: Value, array: Wide, _: float) -> Wide | None:
    assert value.node is not None
    perm = value.node.ints("perm", tuple(reversed(range(array.ndim))))
    return array.transpose(np.argsort(perm))


def regrouped(value: Value, array: Wide, _: float) -> Wide | None:
    assert value.node is not None
    shape, source = value.shape, value.node.operand(0).shape
    return None if shape is None or source is None or 0 in shape else reshaped(array, shape, source)


def expanded(value: Value, array: Wide, _: float) -> Wide | None:
    assert value.node is not None
    shape, source = value.shape, value.node.operand(0).shape
    if shape is None or source is None:
        return None
    lead = len(shape) - len(source)
    kept = all(array.shape[a] == 1 or (a >= lead and source[a - lead] == shape[a]) for a in range(len(shape)))
    return array.reshape(array.shape[lead:]) if kept else None


def split(value: Value, array: Wide, neutral: float) -> Wide | None:
    """The other outputs of a Split see the neutral element."""
    node = value.node
    assert node is not None
    axis = node.int("axis") % array.ndim
    sizes = [shape[axis] for v in node.outputs if (shape := v.shape) is not None]
    lengths = [s for s in sizes if isinstance(s, int)]
    if len(lengths) != len(node.outputs):
        return None
    start = sum(lengths[: value.index])
    return embedded(array, axis, sum(lengths), range(start, start + lengths[value.index]), neutral)


def selected(value: Value, array: Wide, neutral: float) -> Wide | None:
    """What a Gather or Slice does not take sees the neutral element."""
    node = value.node
    assert node is not None
    source = node.operand(0).shape
    axis, _ = selection(node)
    if axis is None or source is None:
        return None
    if node.op == "Gather":
        index = node.operand(1).tensor
        entries = [int(i) for i in index.numpy().reshape(-1).tolist()]
        array = np.expand_dims(array, axis) if index.rank == 0 else array
    else:
        taken = entries_of(node, source)
        assert taken is not None
        entries = list(taken[1])
    length = source[axis]
    if not isinstance(length, int) or not entries or len(set(entries)) != len(entries):
        return None
    return embedded(array, axis, length, entries, neutral)


def same(value: Value, array: Wide, _: float) -> Wide | None:
    return array if value.index == 0 else None


def negation(value: Value, by: Affine) -> Sequence[Step]:
    return [(0, Affine(by.scale, None if by.shift is None else -by.shift), None)]


def homogeneous(value: Value, by: Affine) -> Sequence[Step]:
    """f(k x) = k f(x) for k > 0, element by element."""
    return [(0, by, None)] if by.shift is None and by.scale is not None and bool((by.scale > 0).all()) else []


def pooling(value: Value, by: Affine) -> Sequence[Step]:
    """Largest and mean value per channel: f(k x + s) = k f(x) + s, k > 0, the same for all positions."""
    assert value.node is not None
    node, arrays = value.node, [a for a in (by.scale, by.shift) if a is not None]
    if value.index or any(axis > 1 for a in arrays for axis in varies(a)):
        return []
    if by.shift is not None and node.op == "AveragePool":
        return []
    if "Max" in node.op and (any(o.users for o in node.outputs[1:]) or not _positive(by)):
        return []
    return [(0, by, None)]


def _positive(by: Affine) -> bool:
    return by.scale is None or bool((by.scale > 0).all())


def reduction(value: Value, by: Affine) -> Sequence[Step]:
    """ReduceMean and ReduceSum over axes along which the constant does not vary."""
    node = value.node
    assert node is not None
    rank = node.operand(0).rank
    axes = node.input(1)
    if rank is None or axes is None or axes.const is None or not axes.const.count:
        return []
    over = sorted(int(a) % rank for a in axes.const.numpy().tolist())

    def back(array: Wide, _: float) -> Wide | None:
        if not node.int("keepdims"):
            return np.expand_dims(array, over)
        return array if all(array.shape[a] == 1 for a in over) else None

    out = both(by, back)
    return [] if out is None or (out.shift is not None and node.op == "ReduceSum") else [(0, out, None)]


def summand(value: Value, by: Affine) -> Sequence[Step]:
    """k (x + c) + s is k x + (k c + s), -x alike; of two activations either takes the summand."""
    node = value.node
    assert node is not None
    for index in (1, 0):
        c = known(node.operand(index))
        if c is None:
            continue
        made = scaled(c, by.scale)
        if by.shift is not None:
            made = shifted(made, -by.shift if node.op == "Sub" and index else by.shift, c.dtype)
        largest = max(c.count, *(a.size for a in (by.scale, by.shift) if a is not None))
        if is_shared(node.operand(index)) or made.count > largest:
            return []
        new = named(trimmed(made, node.operand(1 - index)), node.operand(index))
        inputs = [new if i == index else v for i, v in enumerate(node.inputs)]
        return [(1 - index, Affine(by.scale, None), Change(tuple(inputs)))]
    if by.scale is not None or by.shift is None:
        return []
    signs = (1.0, -1.0 if node.op == "Sub" else 1.0)
    return [
        (index, Affine(None, signs[index] * by.shift), None) for index in (0, 1) if has_shape_of(value, node, index)
    ]


def has_shape_of(value: Value, node: Node, index: int) -> bool:
    """True when operand `index` is not broadcast, so that a constant fits it as it fits the output."""
    shape = value.shape
    return shape is not None and node.operand(index).shape == shape


def factor(value: Value, by: Affine) -> Sequence[Step]:
    """Of a product of activations either factor takes the scale; of a quotient the dividend."""
    node = value.node
    assert node is not None
    if by.shift is not None or node.operand(0) is node.operand(1):
        return []
    return [(i, by, None) for i in ((0, 1) if node.op == "Mul" else (0,)) if has_shape_of(value, node, i)]


def contraction(value: Value, by: Affine) -> Sequence[Step]:
    """A factor of the rows of a product belongs to the left matrix, of its columns to the right one."""
    node = value.node
    assert node is not None
    a, b = node.operand(0), node.operand(1)
    rank = value.rank
    if by.shift is not None or by.scale is None or a is b or rank is None or rank < 2 or 1 in (a.rank, b.rank):
        return []
    axes = varies(by.scale)
    if any(axis < rank - 2 for axis in axes):
        return []
    steps: list[Step] = []
    for index, operand, free in ((0, a, rank - 1), (1, b, rank - 2)):
        if operand.rank is not None and free not in axes and not operand.is_const:
            steps.append((index, Affine(by.scale.reshape(by.scale.shape[rank - operand.rank :]), None), None))
    return steps


def rotation(value: Value, by: Affine) -> Sequence[Step]:
    """RotaryEmbedding-23 is linear in its first operand."""
    return [(0, by, None)] if by.shift is None and by.scale is not None and by.scale.size == 1 else []


PASSAGES: dict[str, Passage] = {
    "Transpose": moved(transposed),
    "Reshape": moved(regrouped),
    "Flatten": moved(regrouped),
    "Squeeze": moved(regrouped),
    "Unsqueeze": moved(regrouped),
    "Expand": moved(expanded),
    "Split": moved(split),
    "Slice": moved(selected),
    "Gather": moved(selected),
    "Identity": moved(same),
    "Dropout": moved(same),
    "Neg": negation,
    "Relu": homogeneous,
    "LeakyRelu": homogeneous,
    "MaxPool": pooling,
    "GlobalMaxPool": pooling,
    "AveragePool": pooling,
    "GlobalAveragePool": pooling,
    "ReduceMean": reduction,
    "ReduceSum": reduction,
    "Add": summand,
    "Sub": summand,
    "Mul": factor,
    "Div": factor,
    "MatMul": contraction,
    "RotaryEmbedding": rotation,
}
"""Operator -> the operands that can take a constant of its output, and what it is for them."""
