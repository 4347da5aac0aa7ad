"""What is left of each axis once the dead classes are gone: the only thing that surgery and the oracle ask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir import Size, Value
from .atoms import Ids
from .axes import AxisMap


class Kept:
    """The atoms that stay, given the roots of the classes that are removed."""

    def __init__(self, axes: AxisMap, dead: Ids) -> None:
        self.axes = axes
        self._dead = np.zeros(axes.atoms.count, np.bool_)
        self._dead[dead] = True

    def alive(self, ids: Ids) -> NDArray[np.bool_]:
        """Which atoms of a vector stay."""
        return ~self._dead[self.axes.atoms.roots(ids)]

    def indices(self, value: Value, axis: int) -> Ids | None:
        """The indices along an axis that stay, in order; None where all of them do."""
        if value not in self.axes:
            return None
        ids = self.axes[value, axis]
        if ids.ndim == 0:
            return None
        alive = self.alive(ids)
        return None if alive.all() else np.flatnonzero(alive)

    def count(self, value: Value, axis: int) -> Size:
        """The size of an axis afterwards."""
        left = self.indices(value, axis)
        sizes = value.shape
        assert sizes is not None
        return sizes[axis] if left is None else int(left.size)

    def changed(self, value: Value) -> dict[int, Ids]:
        """The indices that stay along each axis that loses some."""
        if value not in self.axes:
            return {}
        found = {axis: self.indices(value, axis) for axis in range(len(self.axes.of(value)))}
        return {axis: left for axis, left in found.items() if left is not None}
