"""Removing the dead channels: constants, integer operands and attributes, types. No node is added or taken away."""

from __future__ import annotations

import numpy as np

from ...ir import Array, Graph, Model, Node, Tensor, TensorType, Value
from ...ir.tensors import take
from .atoms import Ids
from .kept import Kept
from .rules import RULES


def operate(graph: Graph, kept: Kept) -> None:
    """Rewrites the graph in place; afterwards every type states the new sizes."""
    for node in graph:
        rule = RULES.get(node.op)
        if rule is not None and rule.rewrite is not None and not node.domain and touched(node, kept):
            rule.rewrite(node, kept)
    slice_constants(graph, kept)
    for node in graph:
        for value in node.outputs:
            changed = kept.changed(value)
            if changed and isinstance(value.type, TensorType):
                value.type = value.type.with_shape(tuple(kept.count(value, a) for a in range(value.type.rank or 0)))


def touched(node: Node, kept: Kept) -> bool:
    return any(kept.changed(v) for v in (*node.inputs, *node.outputs) if v is not None)


def slice_constants(graph: Graph, kept: Kept) -> None:
    """Lazily sliced constants in place of the old ones; operands that keep the same of the same tensor share one
    again.
    """
    made: dict[tuple[Tensor, tuple[tuple[int, bytes], ...]], Value] = {}
    for part in graph.graphs():
        for node in (*part, part.exit):
            for index, value in enumerate(node.inputs):
                if value is None or value.const is None:
                    continue
                changed = kept.changed(value)
                key = (value.const, tuple((axis, left.tobytes()) for axis, left in changed.items()))
                if key not in made:
                    made[key] = sliced(value, changed) if changed else value
                node.set_input(index, made[key])


def sliced(value: Value, changed: dict[int, Ids]) -> Value:
    tensor = value.tensor
    for axis, left in changed.items():
        tensor = take(tensor, left, axis)
    return Value(value.name, tensor.type, const=tensor)


def masked(model: Model, kept: Kept) -> Model:
    """A copy of the model before surgery in which every constant is zero wherever a dead channel meets it.

    That silences a channel where it is made and where it is read, so that whatever a function makes of the zeros in
    between does not matter. Divisors keep their numbers. Nodes that take statistics over channels of which some go take
    them over those that stay.
    """
    copy = model.clone()
    done: set[Value] = set()
    for node, twin in zip((*model.graph, model.graph.exit), (*copy.graph, copy.graph.exit), strict=True):
        for value, other in zip(node.inputs, twin.inputs, strict=True):
            if value is None or other is None or value.const is None or value in done or value in kept.axes.unmasked:
                continue
            done.add(value)
            changed = kept.changed(value)
            if changed:
                other.const = Masked(value.const, changed)
        rule = RULES.get(node.op)
        if node in kept.axes.marked and rule is not None and rule.restate is not None:
            rule.restate(twin, node, kept)
    return copy


class Masked(Tensor):
    """A tensor with zeros, also instead of infinite entries, at what does not stay; they are put in when it is read."""

    __slots__ = ("dead", "tensor")

    def __init__(self, tensor: Tensor, changed: dict[int, Ids]) -> None:
        super().__init__(tensor.dtype, tensor.shape)
        self.tensor = tensor
        self.dead = {axis: np.setdiff1d(np.arange(tensor.shape[axis]), left) for axis, left in changed.items()}

    def numpy(self) -> Array:
        return self.cleared(self.tensor.numpy(), 0)

    def rows(self, start: int, stop: int) -> Array:
        return self.cleared(self.tensor.rows(start, stop), start)

    def unrounded(self) -> Array:
        return self.cleared(self.tensor.unrounded(), 0)

    def cleared(self, rows: Array, start: int) -> Array:
        """A copy of the tensor's rows from `start` on, with the zeros."""
        array = np.array(rows)
        stop = start + len(array)
        for axis, dead in self.dead.items():
            clear(array, axis, dead[(start <= dead) & (dead < stop)] - start if axis == 0 else dead)
        return array


def clear(array: Array, axis: int, dead: Ids) -> None:
    """Puts zeros at indices of an axis, in place. Away from the first axis products are far faster than assignments."""
    if axis == 0:
        array[dead] = 0
        return
    stays = np.ones(array.shape[axis], array.dtype)
    stays[dead] = 0
    stays = stays.reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            np.multiply(array, stays, out=array)
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        np.copyto(array, 0, where=stays == 0)
