"""Union-find over channel atoms, vectorised: which channels live and die together, and which may not die at all.

An atom is an integer that stands for one channel somewhere. Tied atoms form a class, a coupled group. A class is active
or frozen; a frozen one keeps the first reason it was given and nothing can thaw it. Atom 0 is frozen from the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Atom ids, one per index of an axis. A 0-d array stands for an axis of any length whose every index is that one frozen
atom.
"""

ACTIVE = -1


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a channel may not be removed: the operator that forbids it, where that is in the user's model, and why."""

    op: str
    where: str
    why: str

    def __str__(self) -> str:
        place = self.where or self.op
        return f"{self.why} [{place}]" if place else self.why


UNIT = Reason("", "", "an axis of size one")


class Atoms:
    """The atoms and their classes.

    Invariants: a root is its own parent; a child's parent comes before it in the order (frozen first, then smaller id),
    so there are no cycles; two frozen classes are never joined, so that each keeps its own reason.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(1024, np.int64)
        self._why = np.full(1024, ACTIVE, np.int32)
        self._reasons: dict[Reason, int] = {UNIT: 0}
        self._frozen_atoms: dict[Reason, Ids] = {UNIT: np.zeros((), np.int64)}
        self._why[0] = 0
        self.count = 1

    def fresh(self, size: int) -> Ids:
        """`size` new active atoms, each a class of its own."""
        start, self.count = self.count, self.count + size
        if self.count > self._parent.size:
            capacity = max(self.count, 2 * self._parent.size)
            self._parent = np.resize(self._parent, capacity)
            self._why = np.resize(self._why, capacity)
        self._parent[start : self.count] = np.arange(start, self.count)
        self._why[start : self.count] = ACTIVE
        return np.arange(start, self.count)

    def frozen(self, reason: Reason) -> Ids:
        """A 0-d array: the one atom that is frozen for this reason."""
        found = self._frozen_atoms.get(reason)
        if found is None:
            made = self.fresh(1)
            self.freeze(made, reason)
            found = self._frozen_atoms[reason] = made.reshape(())
        return found

    def roots(self, ids: Ids) -> Ids:
        """The class of each atom, named by its root; same shape as `ids`."""
        found = self._parent[ids]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[ids] = found
        return found

    def active(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the atoms may still be removed."""
        return self._why[self.roots(ids)] == ACTIVE

    def any_active(self, ids: Ids) -> bool:
        return bool(np.any(self.active(ids)))

    def tie(self, a: Ids, b: Ids) -> None:
        """Joins the classes of a[i] and b[i] for every i; a 0-d operand ties with each. A frozen class freezes the
        other one.
        """
        left, right = (x.ravel() for x in np.broadcast_arrays(a, b))
        while True:
            left, right = self.roots(left), self.roots(right)
            left_frozen, right_frozen = self._why[left] != ACTIVE, self._why[right] != ACTIVE
            apart = (left != right) & ~(left_frozen & right_frozen)
            if not apart.any():
                return
            left, right = left[apart], right[apart]
            right_first = right_frozen[apart] | (~left_frozen[apart] & (right < left))
            # One child may get several parents here and keeps the last; the next round joins what was lost.
            self._parent[np.where(right_first, left, right)] = np.where(right_first, right, left)

    def freeze(self, ids: Ids, reason: Reason) -> None:
        """Freezes the classes of these atoms; those that are frozen already keep their reason."""
        roots = np.unique(self.roots(ids))
        number = self._reasons.setdefault(reason, len(self._reasons))
        self._why[roots[self._why[roots] == ACTIVE]] = number

    def reasons(self, ids: Ids) -> list[Reason]:
        """The distinct reasons for which some of these atoms are frozen, in the order in which they were given
        first.
        """
        known = list(self._reasons)
        return [known[i] for i in np.unique(self._why[self.roots(ids)]).tolist() if i != ACTIVE]
