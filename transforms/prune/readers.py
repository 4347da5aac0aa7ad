"""Layers that read pruned channels through a weight: those whose weight can make up for what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import Node, Value
from ..matrices import input_axis
from .groups import Slot


@dataclass(frozen=True, eq=False)
class Reader:
    """A node that reads `slot.constant` along `slot.axis`, the axis of its input channels.

    The matrix has the shape [groups, outputs of a group, channels of a group * kernel], channels before positions in
    the kernel.
    """

    node: Node
    slot: Slot

    @property
    def weight(self) -> Value:
        return self.slot.constant


def readers(found: Sequence[Slot]) -> list[Reader]:
    """The readers among the slots' users, in the order of the slots."""
    made = [Reader(node, slot) for slot in found for node in slot.constant.users if input_axis(node) == slot.axis]
    return [r for r in made if len(r.weight.users) == 1 and r.node.input(1) is r.weight]
