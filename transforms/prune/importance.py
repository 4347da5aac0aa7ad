"""How much a coupled group matters: a table of scores by name.

A score takes in the whole group, as in DepGraph (Fang et al., CVPR 2023). Each tensor's part is divided by that
tensor's mean over its groups, so the mean score is about one everywhere and groups of different layers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Node, Value
from ..matrices import kernel, matrix
from .atoms import Ids
from .groups import Slot
from .obs import eliminate
from .readers import Reader
from .statistics import Moments

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What a criterion looks at: the slots, the number of atoms, and where it asks for that what the data said about
    the readers, and the mean squares of the constants' gradients.
    """

    slots: Sequence[Slot]
    count: int
    moments: Mapping[Reader, Moments] = field(default_factory=dict[Reader, Moments])
    seed: int = 0
    curvature: Mapping[Value, Array] = field(default_factory=dict[Value, Array])


Importance = Callable[[Evidence], Scores]
"""A score for each class, at the index of its root; the lowest go first."""


@dataclass(frozen=True)
class Criterion:
    """A row of the table: the score, and whether it asks for calibration data, and for gradients of it (by PyTorch)."""

    score: Importance
    needs_data: bool = False
    needs_gradients: bool = False


TINY = 1e-300
SCALES = ("BatchNormalization", "InstanceNormalization", "GroupNormalization")


def magnitude(element: Callable[[Array], Array], total: Callable[[Scores], Scores]) -> Importance:
    """total(sum of element(w)) over a class's weights in each slot, relative to the slot's mean, averaged over them."""

    def score(given: Evidence) -> Scores:
        sums, times = np.zeros(given.count), np.zeros(given.count)
        by_constant: dict[Value, list[Slot]] = {}
        for slot in given.slots:
            by_constant.setdefault(slot.constant, []).append(slot)
        for value, found in by_constant.items():
            if not counts(value):
                continue
            numbers = element(at_least_single(value.tensor.numpy()))
            for slot in found:
                others = tuple(a for a in range(numbers.ndim) if a != slot.axis)
                classes, parts = per_class(slot, numbers.sum(axis=others, dtype=np.float64))
                parts = total(parts)
                sums[classes] += parts / max(float(parts.mean()), TINY)
                times[classes] += 1
        return sums / np.maximum(times, 1)

    return score


def at_least_single(array: Array) -> Array:
    """Numbers whose squares do not overflow; larger ones stay as they are, since it is sums that need precision."""
    return array if array.dtype.kind == "f" and array.dtype.itemsize > 2 else array.astype(np.float64)


def per_class(slot: Slot, energy: Scores) -> tuple[Ids, Scores]:
    """The active classes of a slot and the sum of `energy` over the indices of each."""
    classes, place = np.unique(slot.roots[slot.active], return_inverse=True)
    parts = np.zeros(classes.size)
    np.add.at(parts, place, energy[slot.active])
    return classes, parts


def counts(value: Value) -> bool:
    """Whether a constant's numbers tell importance: weights and scales of normalisations do, biases do not."""
    wide = sum(size > 1 for size in value.tensor.shape)
    return wide > 1 or any(is_scale(user, value) for user in value.users)


def is_scale(node: Node, value: Value) -> bool:
    return node.op in SCALES and node.input(1) is value


def chance(given: Evidence) -> Scores:
    """The control: what a criterion that knows nothing achieves."""
    return np.random.default_rng(given.seed).random(given.count)


def read(column: Callable[[Array, Moments], Array]) -> Importance:
    """The readers' `column(matrix, moments)`, [groups, columns], summed over a class and relative to the mean of its
    reader. Classes that nothing reads through a weight get their L2 magnitude, which is relative as well.
    """

    def score(given: Evidence) -> Scores:
        sums, times = np.zeros(given.count), np.zeros(given.count)
        for reader, moments in given.moments.items():
            parts = column(matrix(reader.node), moments)
            energy = parts.reshape(parts.shape[0], -1, kernel(reader.node)).sum((0, 2))
            classes, totals = per_class(reader.slot, energy)
            sums[classes] += totals / max(float(totals.mean()), TINY)
            times[classes] += 1
        return np.where(times > 0, sums / np.maximum(times, 1), L2(given))

    return score


def weight_times_input(weight: Array, moments: Moments) -> Array:
    """|W| times the norm of the input (Wanda; Sun et al., ICLR 2024)."""
    norm = np.sqrt(np.diagonal(moments.gram(False), axis1=1, axis2=2))
    return np.abs(weight).sum(1) * norm


def fluctuation(weight: Array, moments: Moments) -> Array:
    """W^2 times the variance of the input: what a bias cannot make up for (FLAP; An et al., AAAI 2024)."""
    variance = np.diagonal(moments.gram(True), axis1=1, axis2=2)
    return np.square(weight).sum(1) * np.maximum(variance, 0)


def by_curvature(element: Callable[[Array, Array], Array]) -> Importance:
    """element(w, mean square of its gradient), summed over a class's weights. These are shares of one change of the
    outputs, so they are not made relative. Classes without a weight that has a gradient get their L2 magnitude.
    """

    def score(given: Evidence) -> Scores:
        sums, times = np.zeros(given.count), np.zeros(given.count)
        for slot in given.slots:
            squares = given.curvature.get(slot.constant)
            if squares is None:
                continue
            numbers = element(slot.constant.tensor.numpy().astype(np.float64), squares)
            others = tuple(a for a in range(numbers.ndim) if a != slot.axis)
            classes, parts = per_class(slot, numbers.sum(axis=others))
            sums[classes] += parts
            times[classes] += 1
        return np.where(times > 0, sums, L2(given))

    return score


def surgeon(given: Evidence) -> Scores:
    """Block Optimal Brain Surgeon: see `obs.eliminate`. Classes that nothing reads get their L2 magnitude."""
    scores = eliminate(given.moments, given.count)
    return np.where(np.isnan(scores), L2(given), scores)


L2 = magnitude(np.square, np.sqrt)
IMPORTANCE: dict[str, Criterion] = {
    "l1": Criterion(magnitude(np.abs, lambda s: s)),
    "l2": Criterion(L2),
    "random": Criterion(chance),
    "activation": Criterion(read(weight_times_input), needs_data=True),
    "flap": Criterion(read(fluctuation), needs_data=True),
    "obs": Criterion(surgeon, needs_data=True),
    # First-order Taylor expansion of the outputs (Molchanov et al., CVPR 2019), and the gradient alone.
    "taylor": Criterion(by_curvature(lambda w, squares: np.square(w) * squares), needs_data=True, needs_gradients=True),
    "gradient": Criterion(by_curvature(lambda w, squares: squares), needs_data=True, needs_gradients=True),
}
