"""What a row of the axis-rule table is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Node, constant
from ..axes import AxisMap
from ..kept import Kept

Tie = Callable[[Node, AxisMap], None]
Rewrite = Callable[[Node, Kept], None]
Restate = Callable[[Node, Node, Kept], None]


@dataclass(frozen=True)
class Rule:
    """How one operator treats channels.

    `tie` says which indices of its operands and outputs live and die together, and binds the outputs; it raises
    `Frozen` on a form that it does not cover. `rewrite` adapts attributes and integer operands (groups, sizes, offsets)
    to what is kept; the types of the graph are still the old ones while it runs. `restate` changes the node's twin in
    the masked graph (its first argument) so that it takes statistics over what is kept.
    """

    tie: Tie
    rewrite: Rewrite | None = None
    restate: Restate | None = None


def set_pinned(node: Node, index: int, numbers: Mapping[int, int]) -> None:
    """Other numbers for some of the stated ones among computed sizes (`pinned`)."""
    made = node.operand(index).node
    assert made is not None
    stated = made.operand(1)
    old = stated.tensor.numpy().copy()
    for place, number in numbers.items():
        old[place] = number
    made.set_input(1, constant(old, stated.name))


def set_integers(node: Node, index: int, numbers: Sequence[int] | int) -> None:
    """Makes operand `index` an int64 constant of its own, adding empty operands before it as needed."""
    missing = [None] * (index + 1 - len(node.inputs))
    if missing:
        node.set_inputs([*node.inputs, *missing])
    old = node.inputs[index]
    node.set_input(index, constant(np.asarray(numbers, np.int64), old.name if old is not None else ""))
