"""Block Optimal Brain Surgeon: the order in which channels go when their readers' weights are solved again each time.

Removing the columns j of a layer Y = W X raises its squared error, after the best correction of all other columns, by
tr(W_j (H^-1_jj)^-1 W_j^T) with H = X X^T (Hassibi and Stork, NIPS 1992). The correction W -= W_j (H^-1_jj)^-1 H^-1_j
and the same elimination in H^-1 give the cost of the next removal, so a class that another one could stand in for
becomes dear once that one is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ...ir import Array
from ..matrices import kernel, matrix
from .atoms import Ids
from .readers import Reader
from .statistics import Moments

DAMPING = 1e-3
"""Added to the diagonal of H, as a share of its mean."""
ROUNDS = 128
"""Classes that meet in the same readers are eliminated in about this many rounds, several at once where more meet."""
WIDE = 768
"""Beyond so many classes the rounds become fewer as these become more: a round costs the square of their number."""
TINY = 1e-30


def damped(gram: Array, share: float = DAMPING) -> Array:
    """The Gram matrices with `share` of each one's mean diagonal added to its diagonal."""
    size = gram.shape[-1]
    mean = np.trace(gram, axis1=1, axis2=2) / size
    return gram + np.maximum(share * mean, TINY)[:, None, None] * np.eye(size)


class Reading:
    """One reader while its channels go: its weight and the inverse of its damped, centred Gram matrix, by group."""

    def __init__(self, reader: Reader, moments: Moments) -> None:
        self.weight = matrix(reader.node)
        self.inverse = np.linalg.inv(damped(moments.gram(True)))
        self.energy = max(float(moments.variance().sum()), TINY)
        taps = kernel(reader.node)
        roots, active = reader.slot.roots, reader.slot.active
        channels = {int(c): active[roots[active] == c] for c in np.unique(roots[active])}
        self.columns = {c: (found[:, None] * taps + np.arange(taps)).reshape(-1) for c, found in channels.items()}

    def costs(self) -> dict[int, float]:
        """What removing each class alone adds to the squared error, as a share of the variance of the output."""
        by_size: dict[int, list[int]] = {}
        for each, j in self.columns.items():
            by_size.setdefault(j.size, []).append(each)
        found: dict[int, float] = {}
        for classes in by_size.values():
            j = np.stack([self.columns[c] for c in classes])
            total = (self.single(j[:, 0]) if j.shape[1] == 1 else self.several(j)) / self.energy
            found.update(zip(classes, total.tolist(), strict=True))
        return found

    def single(self, j: Ids) -> Array:
        """tr(W_j (H^-1_jj)^-1 W_j^T) of every column of j for itself."""
        return (np.square(self.weight[:, :, j]).sum(1) / self.inverse[:, j, j]).sum(0)

    def several(self, j: Ids) -> Array:
        """tr(W_j (H^-1_jj)^-1 W_j^T) of every row of j."""
        part = np.moveaxis(self.weight[:, :, j], 1, -1)
        inner = self.inverse[:, j[:, :, None], j[:, None, :]]
        return np.einsum("gcjo,gcjo->c", np.linalg.solve(inner, part), part)

    def without(self, j: Ids) -> Array:
        """The weight once some columns are zero and the others are corrected for it; the layer stays as it is."""
        step = np.linalg.solve(self.inverse[:, j[:, None], j[None, :]], self.inverse[:, j, :])
        weight = self.weight - self.weight[:, :, j] @ step
        weight[:, :, j] = 0
        return weight

    def remove(self, classes: Iterable[int]) -> None:
        """Takes classes away together, with their rows and columns: the matrices shrink."""
        gone = [self.columns.pop(each) for each in classes if each in self.columns]
        if not gone:
            return
        j, size = np.concatenate(gone), self.inverse.shape[-1]
        left: Ids = np.setdiff1d(np.arange(size, dtype=np.int64), j)
        step = np.linalg.solve(self.inverse[:, j[:, None], j[None, :]], self.inverse[:, j[:, None], left])
        self.weight = self.weight[:, :, left] - self.weight[:, :, j] @ step
        beside = self.inverse[:, left[:, None], j]
        self.inverse = self.inverse[:, left[:, None], left]
        self.inverse -= beside @ step
        place = np.zeros(size, np.int64)
        place[left] = np.arange(left.size)
        self.columns = {each: place[found] for each, found in self.columns.items()}


def eliminate(moments: Mapping[Reader, Moments], count: int) -> NDArray[np.float64]:
    """The cost of each class at its turn, at the index of its root, never less than that of an earlier one; NaN for
    classes that no reader reads. Costs are shares of the readers' output variances, added up over the readers.
    """
    scores = np.full(count, np.nan)
    for together in components(list(moments)):
        layers = [Reading(reader, moments[reader]) for reader in together]
        left: list[int] = sorted({c for layer in layers for c in layer.columns})
        at_once, floor = max(1, len(left) * max(len(left), WIDE) // (ROUNDS * WIDE)), 0.0
        while left:
            costs = dict.fromkeys(left, 0.0)
            for layer in layers:
                for each, cost in layer.costs().items():
                    costs[each] += cost
            left.sort(key=lambda c: costs[c])
            for each in left[:at_once]:
                floor = scores[each] = max(floor * (1 + 1e-9), costs[each])
            for layer in layers:
                layer.remove(left[:at_once])
            left = sorted(left[at_once:])
    return scores


def components(found: list[Reader]) -> list[list[Reader]]:
    """Readers that share a class, directly or through others."""
    parts: list[tuple[set[int], list[Reader]]] = []
    for reader in found:
        classes = set(reader.slot.roots[reader.slot.active].tolist())
        meeting = [p for p in parts if p[0] & classes]
        parts = [p for p in parts if not p[0] & classes]
        parts.append((classes.union(*(p[0] for p in meeting)), [r for p in meeting for r in p[1]] + [reader]))
    return [readers for _, readers in parts]
