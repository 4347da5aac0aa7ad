"""How much a coupled group matters: a table of scores by name.

A score takes in the whole group, as in DepGraph (Fang et al., CVPR 2023). Each tensor's part is divided by that
tensor's mean over its groups, so the mean score is about one everywhere and groups of different layers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Node, Value
from .atoms import Ids
from .groups import Slot

Scores = NDArray[np.float64]
Importance = Callable[[Sequence[Slot], int], Scores]
"""(slots, number of atoms) -> a score for each class, at the index of its root; the lowest go first."""

TINY = 1e-300
SCALES = ("BatchNormalization", "InstanceNormalization", "GroupNormalization")


def magnitude(element: Callable[[Array], Array], total: Callable[[Scores], Scores]) -> Importance:
    """total(sum of element(w)) over a class's weights in each slot, relative to the slot's mean, averaged over them."""

    def score(slots: Sequence[Slot], count: int) -> Scores:
        sums, times = np.zeros(count), np.zeros(count)
        by_constant: dict[Value, list[Slot]] = {}
        for slot in slots:
            by_constant.setdefault(slot.constant, []).append(slot)
        for value, found in by_constant.items():
            if not counts(value):
                continue
            numbers = element(value.tensor.numpy().astype(np.float64))
            for slot in found:
                others = tuple(a for a in range(numbers.ndim) if a != slot.axis)
                classes, parts = per_class(slot, numbers.sum(axis=others))
                parts = total(parts)
                sums[classes] += parts / max(float(parts.mean()), TINY)
                times[classes] += 1
        return sums / np.maximum(times, 1)

    return score


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


IMPORTANCE: dict[str, Importance] = {
    "l1": magnitude(np.abs, lambda s: s),
    "l2": magnitude(np.square, np.sqrt),
}
