"""Which atoms lie along each axis of each value: the state that the axis rules read and write.

Every value has one id vector per axis. A vector is 1-d with one atom per index, or 0-d for an axis that is frozen as a
whole, which costs nothing and needs no known size: that is what symbolic and unknown sizes get. Constants get fresh
atoms when a rule first asks for an axis, so operands that no rule looks at (shapes, ratios) never take part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...ir import Node, Size, Value
from .atoms import UNIT, Atoms, Ids, Reason

Heads = Literal["auto", "heads", "dims"]
"""What attention loses: whole heads, the same dimensions of every head, or what leaves more to choose from."""

INTEGERS = Reason("", "", "integers are sizes, indices or flags")


class Frozen(Exception):
    """Raised by a rule on a form that it does not cover; everything that the node touches is frozen with this
    reason.
    """


@dataclass(frozen=True)
class Layer:
    """A node that makes channels from a weight, and the axis of its output that they lie on.

    One that `follows` makes as many of each input channel, as a depthwise convolution does, and none of its own.
    """

    node: Node
    axis: int
    follows: bool = False


@dataclass(frozen=True)
class Choice:
    """Which factor of an axis that a node splits lets its entries go, the others in order of preference, and the ids
    along it.
    """

    ids: Ids
    factor: int
    others: tuple[int, ...]


class AxisMap:
    """Id vectors by (value, axis), and what else the rules find out on their way through the graph.

    `quiet` holds the values whose removed entries are zero once the constants are masked; `unmasked` the constants that
    keep their numbers in the masked graph because a zero there would divide something; `layers` the weighted nodes in
    order; `looked_at` the values whose ids were asked for since it was last cleared; `marked` the nodes that take
    statistics over channels that may go, which only a `semantic` map allows; `choices` the factors that were chosen
    where an axis is split (the node, and how many it had split before), other than `wanted` ones by preference; `heads`
    says what attention loses, and `attention` has the heads of each, or the dimensions where these are to go.
    """

    def __init__(
        self,
        semantic: bool = False,
        wanted: Mapping[tuple[Node, int], int] | None = None,
        heads: Heads = "auto",
    ) -> None:
        self.atoms = Atoms()
        self.semantic, self.heads = semantic, heads
        self.attention: dict[Node, Ids] = {}
        self.marked: set[Node] = set()
        self.wanted = wanted or {}
        self.choices: dict[tuple[Node, int], Choice] = {}
        self.layers: list[Layer] = []
        self.quiet: set[Value] = set()
        self.unmasked: set[Value] = set()
        self.looked_at: set[Value] = set()
        self._axes: dict[Value, list[Ids]] = {}

    def __contains__(self, value: Value) -> bool:
        return value in self._axes

    def __getitem__(self, key: tuple[Value, int]) -> Ids:
        """The ids along one axis; a negative axis counts from the end."""
        value, axis = key
        return self.of(value)[axis]

    def items(self) -> Iterable[tuple[Value, list[Ids]]]:
        return self._axes.items()

    def of(self, value: Value) -> list[Ids]:
        """The ids along every axis. Constants get them when asked for: floats fresh ones, others frozen ones."""
        self.looked_at.add(value)
        found = self._axes.get(value)
        if found is None and value.tensor.dtype.is_float:
            return self.adopt(value)
        if found is None:
            found = self._axes[value] = [self.atoms.frozen(INTEGERS)] * value.tensor.rank
        return found

    def adopt(self, value: Value) -> list[Ids]:
        """Gives a constant fresh atoms, whatever its type: it is a weight."""
        found = self._axes.get(value)
        if found is None:
            found = self._axes[value] = [self.fresh(size) for size in value.tensor.shape]
            self.quiet.add(value)
        return found

    def fresh(self, size: int) -> Ids:
        """New atoms for an axis; one of size 1 is frozen, since an axis is never emptied."""
        return self.atoms.fresh(size) if size > 1 else self.atoms.frozen(UNIT)

    def frozen(self, node: Node, why: str) -> Ids:
        """The ids of an axis that is frozen as a whole."""
        return self.atoms.frozen(reason(node, why))

    def bind(self, value: Value, ids: Sequence[Ids]) -> None:
        """Says what lies along the axes of an output."""
        held = list(ids)
        for vector in held:
            if vector.ndim and vector.size == 1:
                self.atoms.freeze(vector, UNIT)
        self._axes[value] = held

    def bind_frozen(self, value: Value, node: Node, why: str) -> None:
        """Binds an output whose every axis is frozen."""
        self.bind(value, [self.frozen(node, why)] * (value.rank or 0))

    def tie(self, a: Ids, b: Ids) -> Ids:
        """Ties two vectors of equal length and gives one of them, the longer-lived one where either is 0-d."""
        self.atoms.tie(a, b)
        return b if a.ndim == 0 else a

    def freeze(self, ids: Ids, node: Node, why: str) -> None:
        self.atoms.freeze(ids, reason(node, why))

    def freeze_axes(self, value: Value, axes: Iterable[int], node: Node, why: str) -> None:
        """Freezes some axes of a value, so that what lies along them stays as it is."""
        ids = self.of(value)
        for axis in axes:
            self.freeze(ids[axis], node, why)

    def is_active(self, ids: Ids) -> bool:
        """True when some index may be removed."""
        return ids.ndim > 0 and self.atoms.any_active(ids)

    def active_axes(self, value: Value) -> list[int]:
        return [axis for axis, ids in enumerate(self.of(value)) if self.is_active(ids)]

    def join(self, parts: Sequence[tuple[Ids, Size]], node: Node) -> Ids:
        """Vectors one after the other, each with its size. With a part of unknown size all of them are frozen."""
        if any(not isinstance(size, int) for _, size in parts):
            why = "its place after a part of unknown size is not known"
            for ids, _ in parts:
                self.freeze(ids, node, why)
            return self.frozen(node, why)
        if all(ids.ndim == 0 for ids, _ in parts):
            return (
                parts[0][0] if len({int(ids) for ids, _ in parts}) == 1 else self.frozen(node, "all of its parts are")
            )
        return np.concatenate([spread(ids, size) for ids, size in parts])

    def hush(self, value: Value, silent: bool) -> None:
        """Notes that removed entries of `value` are zero in the masked graph, where that is so."""
        if silent:
            self.quiet.add(value)

    def kill(self, node: Node, why: str) -> None:
        """Freezes everything that a node touches: the conservative end of every unknown form."""
        for value in node.inputs:
            if value is not None:
                self.freeze_axes(value, range(len(self.of(value))), node, why)
        for value in node.outputs:
            self.bind_frozen(value, node, why)


def reason(node: Node, why: str) -> Reason:
    """A reason that says which node forbids and where it is in the user's model."""
    return Reason(node.op, node.where, why)


def shape(value: Value) -> tuple[Size, ...]:
    """The sizes of a tensor. Raises Frozen where even the rank is unknown."""
    sizes = value.shape
    if sizes is None:
        raise Frozen(f"the rank of %{value.name} is not known")
    return sizes


def static(value: Value, axis: int) -> int:
    """The size of an axis. Raises Frozen where it is symbolic."""
    size = shape(value)[axis]
    if not isinstance(size, int):
        raise Frozen(f"axis {axis} of %{value.name} has no known size")
    return size


def integers(value: Value | None) -> list[int] | None:
    """The contents of a constant integer operand as a flat list; None when it is missing or computed."""
    if value is None or value.const is None:
        return None
    return [int(i) for i in value.const.numpy().reshape(-1)]


SIZES = {"Expand": 1, "Reshape": 1, "ConstantOfShape": 0}
"""The operand that holds the sizes of the result, by operator."""


def pinned(value: Value | None) -> list[int | None] | None:
    """The known ones among computed sizes where they are stated, as in Where(known, sizes, computed) of `prepare`."""
    node = value.node if value is not None else None
    if node is None or node.op != "Where" or node.domain:
        return None
    which, stated = node.operand(0), node.operand(1)
    if which.const is None or stated.const is None or stated.const.rank != 1 or which.shape != stated.shape:
        return None
    numbers = zip(stated.const.numpy().tolist(), which.const.numpy().tolist(), strict=True)
    return [int(number) if known else None for number, known in numbers]


def need_integers(value: Value | None, what: str) -> list[int]:
    """As `integers`. Raises Frozen when the operand is computed."""
    found = integers(value)
    if found is None:
        raise Frozen(f"its {what} are computed at run time")
    return found


def spread(ids: Ids, size: Size) -> Ids:
    """A vector of the axis' full length, without allocating where it is frozen as a whole."""
    assert isinstance(size, int)
    return np.broadcast_to(ids, (size,)) if ids.ndim == 0 else ids


def pick(ids: Ids, index: slice | Ids) -> Ids:
    """Part of a vector; a 0-d one has the same atom everywhere."""
    return ids if ids.ndim == 0 else ids[index]
