"""How reshaping and transposing move the axes of a tensor, as a permutation of indivisible parts of them.

Every axis of a source is split into parts just finely enough for each step of a chain to be either a regrouping of
neighbouring parts (Reshape, Squeeze, Unsqueeze, Flatten) or a permutation of groups (Transpose). Sizes may be symbolic.
What a chain does is then known entirely, and the shortest chain that does the same can be written down.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ....ir import Node, Size
from ....ir.dims import exact_div, product
from ....ir.types import Shape

RESHAPING = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Flatten"])
LAYOUT = RESHAPING | {"Transpose"}


@dataclass(frozen=True)
class Step:
    """One node of a chain: a Transpose by `perm`, or a reshaping to `shape` where `perm` is None."""

    shape: Shape
    perm: tuple[int, ...] | None = None


class Axes:
    """The parts of each axis of a source, and of each axis of what became of it. Parts of size 1 are not kept."""

    def __init__(self, shape: Sequence[Size]) -> None:
        self.sizes: list[Size] = []
        self.source = [[self._part(size)] if size != 1 else [] for size in shape]
        self.current = [list(group) for group in self.source]

    def _part(self, size: Size) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def follow(self, node: Node) -> bool:
        """Applies a reshaping or a Transpose; False where it cannot be described, which leaves this useless."""
        shape = node.output.shape
        if node.domain or shape is None:
            return False
        if node.op == "Transpose":
            perm = node.ints("perm", tuple(reversed(range(len(shape)))))
            self.current = [self.current[p] for p in perm]
            return True
        return self.regroup(shape)

    def regroup(self, shape: Sequence[Size]) -> bool:
        """Joins and splits neighbouring parts so that they make up `shape`; False where none do."""
        rest = deque(part for group in self.current for part in group)
        current: list[list[int]] = []
        for size_of_axis in shape:
            group: list[int] = []
            wanted = size_of_axis
            while wanted != 1:
                if not rest or wanted == 0:
                    return False
                size = self.sizes[rest[0]]
                left = exact_div(wanted, size)
                if left is not None:
                    group.append(rest.popleft())
                    wanted = left
                    continue
                common = _common(size, wanted)
                if common is None:
                    return False
                rest.extendleft(reversed(self._split(rest.popleft(), common)))
            current.append(group)
        self.current = current
        return not rest

    def _split(self, part: int, head: Size) -> tuple[int, int]:
        tail = exact_div(self.sizes[part], head)
        assert tail is not None
        new = self._part(head), self._part(tail)
        for group in self.source:
            if part in group:
                index = group.index(part)
                group[index : index + 1] = new
        return new

    def plans(self, before: Shape, after: Shape) -> list[list[Step]]:
        """Chains that do the same, from the source's shape to the current one, shortest first.

        Of two that are equally long the one that reshapes first comes first: heads are split, then moved.
        """
        origin = [part for group in self.source for part in group]
        order = [part for group in self.current for part in group]
        if origin == order:
            return [[]] if before == after else [[Step(after)]]
        found = [self._transposed(before, after), self._transposed_last(origin, after)]
        found += [self._transposed_first(order, before, after), self._transposed_between(origin, order, after)]
        return sorted((plan for plan in found if plan is not None), key=len)

    def _transposed(self, before: Shape, after: Shape) -> list[Step] | None:
        """One Transpose, where every axis stays whole; axes of size 1 stand for each other in order."""
        if len(before) != len(after):
            return None
        ones = iter([i for i, group in enumerate(self.source) if not group])
        perm: list[int] = []
        for group in self.current:
            if group and group not in self.source:
                return None
            axis = self.source.index(group) if group else next(ones, None)
            if axis is None:
                return None
            perm.append(axis)
        return [Step(after, tuple(perm))] if len(set(perm)) == len(before) else None

    def _transposed_first(self, order: list[int], before: Shape, after: Shape) -> list[Step] | None:
        """A Transpose of the source's own axes, then a reshaping."""
        perm = _sorted_axes(self.source, order)
        if [part for axis in perm for part in self.source[axis]] != order:
            return None
        return [Step(tuple(before[p] for p in perm), tuple(perm)), Step(after)]

    def _transposed_last(self, origin: list[int], after: Shape) -> list[Step] | None:
        """A reshaping to the result's own axes, then a Transpose of them."""
        axes = _sorted_axes(self.current, origin)
        if [part for axis in axes for part in self.current[axis]] != origin:
            return None
        return [Step(tuple(after[a] for a in axes)), Step(after, tuple(axes.index(k) for k in range(len(axes))))]

    def _transposed_between(self, origin: list[int], order: list[int], after: Shape) -> list[Step]:
        """A reshaping to as few axes as the Transpose needs, the Transpose, and a reshaping."""
        runs: list[list[int]] = []
        for part in origin:
            last = runs[-1][-1] if runs else None
            if last is not None and order.index(last) + 1 == order.index(part):
                runs[-1].append(part)
            else:
                runs.append([part])
        sizes = tuple(product(self.sizes[part] for part in run) for run in runs)
        perm = sorted(range(len(runs)), key=lambda r: order.index(runs[r][0]))
        return [Step(sizes), Step(tuple(sizes[p] for p in perm), tuple(perm)), Step(after)]


def _sorted_axes(groups: Sequence[Sequence[int]], order: Sequence[int]) -> list[int]:
    """Axes in the order in which their first parts stand; an axis of size 1 follows the one before it."""
    place = {part: index for index, part in enumerate(order)}
    keys: list[int] = []
    for group in groups:
        keys.append(place[group[0]] if group else keys[-1] if keys else -1)
    return sorted(range(len(groups)), key=lambda axis: keys[axis])


def _common(size: Size, wanted: Size) -> Size | None:
    """What can be split off the front of an axis of `size` towards one of `wanted`; None for nothing."""
    if exact_div(size, wanted) is not None:
        return wanted
    if isinstance(size, int) and isinstance(wanted, int):
        shared = math.gcd(size, wanted)
        return shared if shared > 1 else None
    return None
