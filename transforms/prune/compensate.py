"""Making up for removed channels from calibration data alone: no gradients, no labels.

Layer after layer, in the order of the graph, what a layer reads in the pruned model is measured beside what the
original layer gave, so that each one also corrects what the ones before it left over. Nothing here decides what is
removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ...ir import Array, Dense, Model, Node, Value
from ..matrices import input_axis, matrix, set_matrix
from .atoms import Ids
from .kept import Kept
from .obs import TINY, damped
from .statistics import Calibration, Moments, Watch


@dataclass(frozen=True)
class Affected:
    """What compensation may change, in the order of the graph: layers that read fewer channels or come after one that
    does, and normalisations behind one, each watched beside the value that it should give (a layer) or read (a
    normalisation).
    """

    layers: list[Watch]
    norms: list[Watch]


def affected(pruned: Model, reference: Model, kept: Kept) -> Affected:
    """What reads fewer channels, or values that have moved because of that. Found before surgery on `pruned`, whose
    nodes are those of `reference` in the same order.
    """
    return following(zip(pruned.graph, reference.graph, strict=True), set(), kept)


def following(nodes: Iterable[tuple[Node, Node]], behind: set[Value], kept: Kept | None = None) -> Affected:
    """What reads fewer channels (`kept`), or is computed from values that move (`behind`), among nodes in the order of
    the graph, each with its twin in the reference.
    """
    found = Affected([], [])

    def left(value: Value) -> dict[int, Ids]:
        return kept.changed(value) if kept is not None else {}

    for node, twin in nodes:
        axis = input_axis(node)
        reads_fewer = axis is not None and axis in left(node.operand(1))
        reads_other = axis is not None and node.operand(0) in behind and len(node.operand(1).users) == 1
        if reads_fewer or reads_other:
            found.layers.append(Watch(node, twin.output, left(node.output)))
        if reads_fewer or any(v in behind for v in node.inputs):
            behind.update(node.outputs)
            if (
                node.op == "BatchNormalization"
                and not node.int("training_mode")
                and all(map(is_constant, node.inputs[3:]))
            ):
                found.norms.append(Watch(node, twin.operand(0), left(node.operand(0))))
    return found


def is_constant(value: Value | None) -> bool:
    return value is not None and value.is_const


def least_squares(found: Affected, pruned: Model, reference: Model, data: Calibration, ridge: float) -> int:
    """W' = argmin |y - W' x - b|^2 + ridge |W' - W|^2 with the ridge as a share of the mean square of x, as in channel
    pruning (He et al., ICCV 2017). Where there is no place for a bias b the means take part in the fit.
    """
    return each_layer(found, pruned, reference, data, lambda node, moments: solve(node, moments, ridge))


def correct_biases(found: Affected, pruned: Model, reference: Model, data: Calibration, ridge: float) -> int:
    """Moves the mean of each output to where it was (bias correction; Nagel et al., ICCV 2019). Layers without a place
    for a bias stay as they are.
    """
    return each_layer(found, pruned, reference, data, correct_bias)


def estimate_norms(found: Affected, pruned: Model, reference: Model, data: Calibration, ridge: float) -> int:
    """The means and variances of BatchNormalization follow what it reads: moved by as much, stretched by as much. So
    nothing changes where nothing was removed, also on data unlike that of the training.
    """
    now, before = data.walk(pruned), data.walk(reference)
    for watch in found.norms:
        (mean, variance), (old_mean, old_variance) = (
            data.channels(now, watch.node.operand(0)),
            data.channels(before, watch.target),
        )
        node, left = watch.node, watch.left.get(1, slice(None))
        moved = node.operand(3).tensor.numpy() + mean - old_mean[left]
        stretch = variance / np.maximum(old_variance[left], TINY)
        stretched = node.operand(4).tensor.numpy() * np.where(old_variance[left] > TINY, stretch, 1)
        node.set_input(3, rounded(moved, node.operand(3)))
        node.set_input(4, rounded(stretched, node.operand(4)))
    return len(found.norms)


def each_layer(
    found: Affected, pruned: Model, reference: Model, data: Calibration, apply: Callable[[Node, Moments], None]
) -> int:
    now, before = data.walk(pruned), data.walk(reference)
    for watch in found.layers:
        apply(watch.node, data.between(now, before, watch))
    return len(found.layers)


Method = Callable[[Affected, Model, Model, Calibration, float], int]
"""(what may change, pruned model, original, data, ridge) -> how many nodes were changed."""

COMPENSATION: dict[str, Method] = {
    "least-squares": least_squares,
    "bias": correct_biases,
    "batch-norm": estimate_norms,
}


def solve(node: Node, moments: Moments, ridge: float) -> None:
    centred = Offset.of(node) is not None
    gram, weight = moments.gram(centred), matrix(node)
    heavy = damped(gram, ridge)
    cross = moments.cross(centred) + weight @ (heavy - gram)
    set_matrix(node, np.linalg.solve(heavy, cross.swapaxes(1, 2)).swapaxes(1, 2))
    correct_bias(node, moments)


def correct_bias(node: Node, moments: Moments) -> None:
    place = Offset.of(node)
    if place is not None:
        mean_x, mean_y = moments.x / moments.count, moments.y / moments.count
        place.add((mean_y - np.einsum("goc,gc->go", matrix(node), mean_x)).reshape(-1))


@dataclass(frozen=True)
class Offset:
    """Where a constant can be added to a layer's outputs: an operand of `node`, `sign` times what it does there.

    `replaces` where the operand already is part of the layer's own output.
    """

    node: Node
    index: int
    sign: int = 1
    replaces: bool = False

    @staticmethod
    def of(layer: Node) -> Offset | None:
        """The layer's own bias, the mean of a BatchNormalization behind it, a constant added to it, or a new bias."""
        user = next(iter(layer.output.users)) if len(layer.output.users) == 1 else None
        own = layer.input(2) if layer.op != "MatMul" else None
        if own is not None:
            return Offset(layer, 2, replaces=True) if own.is_const and own.tensor.shape == outputs(layer) else None
        if user is not None and user.op == "BatchNormalization" and user.operand(3).is_const:
            return Offset(user, 3, sign=-1)
        if layer.op != "MatMul":
            return Offset(layer, 2, replaces=True)
        if user is not None and user.op == "Add":
            index = 1 if user.operand(0) is layer.output else 0
            if user.operand(index).is_const and user.operand(index).tensor.shape == outputs(layer):
                return Offset(user, index)
        return None

    def add(self, numbers: Array) -> None:
        old = self.node.input(self.index)
        if old is None:
            weight = self.node.operand(1)
            made = rounded(numbers, weight, f"{weight.name.removesuffix('weight')}bias")
            self.node.set_inputs([*self.node.inputs[:2], made])
        elif self.replaces:
            self.node.set_input(self.index, rounded(numbers, old))
        else:
            self.node.set_input(self.index, rounded(old.tensor.numpy() + self.sign * numbers, old))


def outputs(layer: Node) -> tuple[int, ...]:
    """The shape of a bias."""
    groups, out, _ = matrix(layer).shape
    return (groups * out,)


def rounded(numbers: Array, like: Value, name: str = "") -> Value:
    """A constant of the element type and, without another, the name of `like`."""
    dtype = like.tensor.dtype
    made = Dense(np.ascontiguousarray(numbers.astype(dtype.numpy)), dtype)
    return Value(name or like.name, made.type, const=made)
