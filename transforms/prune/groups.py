"""Coupled groups and their families: what can be removed, as units that can be compared with each other.

A class of tied atoms is a coupled group: its channels go together. Classes that touch the same axes of the same
constants form a family; choosing among them changes nothing but which of equal channels go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Node, Value
from .atoms import Ids
from .axes import AxisMap

Place = tuple[Node, int, int]
"""An axis of an operand: (node, index of the operand, axis)."""


@dataclass(frozen=True)
class Slot:
    """An axis of a constant with the class of each index; `active` are the indices that may be removed."""

    constant: Value
    axis: int
    roots: Ids
    active: Ids


@dataclass(frozen=True)
class Family:
    """Classes that touch the same slots, named by their roots in ascending order; `gone` more went before."""

    classes: Ids
    slots: tuple[Slot, ...]
    gone: int = 0

    @property
    def size(self) -> int:
        return int(self.classes.size)

    @property
    def places(self) -> frozenset[Place]:
        """What it touches, which stays the same while channels go."""
        return frozenset(
            (user, index, slot.axis)
            for slot in self.slots
            for user in slot.constant.users
            for index, value in enumerate(user.inputs)
            if value is slot.constant
        )


def slots(axes: AxisMap) -> list[Slot]:
    """Every axis of a constant along which something may be removed, in the order of the graph."""
    found: list[Slot] = []
    for value, vectors in axes.items():
        if not value.is_const:
            continue
        for axis, ids in enumerate(vectors):
            if axes.is_active(ids):
                found.append(Slot(value, axis, axes.atoms.roots(ids), np.flatnonzero(axes.atoms.active(ids))))
    return found


def families(found: Sequence[Slot]) -> list[Family]:
    """The classes that occur in the slots, by the set of slots that they occur in."""
    if not found:
        return []
    roots: list[Ids] = [np.unique(slot.roots[slot.active]) for slot in found]
    classes = np.concatenate(roots)
    numbers = np.repeat(np.arange(len(found)), [r.size for r in roots])
    order = np.lexsort((numbers, classes))
    classes, numbers = classes[order], numbers[order]
    starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])
    members: dict[bytes, list[int]] = {}
    touched: dict[bytes, list[int]] = {}
    for start, stop in zip(starts, np.r_[starts[1:], classes.size], strict=True):
        key = numbers[start:stop].tobytes()
        members.setdefault(key, []).append(int(classes[start]))
        touched.setdefault(key, [int(i) for i in numbers[start:stop]])
    return [Family(np.asarray(members[key], np.int64), tuple(found[i] for i in touched[key])) for key in members]
