"""Recurrent operators: a hidden unit is one row of every gate, one column of what reads the state, and one entry of it.

The zeros of a masked unit stay zero from step to step, whatever its gates are: the candidate tanh(0) is zero, and so is
the state before.
"""

from __future__ import annotations

import numpy as np

from ....ir import Node, Value
from ..axes import AxisMap, Frozen, Layer
from ..kept import Kept
from .row import Rule

STEPS = "each step of it depends on the one before"
WEIGHT, RECURRENCE, BIAS, LENGTHS, STATE, CELL, PEEPHOLE = range(1, 8)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {
    "RNN": (("Tanh",), ("Relu",)), "GRU": (("Sigmoid", "Tanh"),), "LSTM": (("Sigmoid", "Tanh", "Tanh"),),
}  # fmt: skip
"""Activations of one direction with which zero stays zero."""


def recurrent(node: Node, axes: AxisMap) -> None:
    """X.2 = W.2; unit h ties rows {h + iH} of W, R and both biases, R.2, the states, the peepholes and the outputs
    (RNN-22, GRU-22, LSTM-22). Both directions lose the same units.
    """
    x, w = node.operand(0), node.operand(WEIGHT)
    require_usual(node)
    axes.atoms.tie(axes[x, 2], axes[w, 2])
    if x not in axes.quiet and w not in axes.quiet:
        raise Frozen("its weights are computed")
    first = node.int("layout")
    axes.freeze_axes(x, [first], node, STEPS)
    units = axes[node.operand(RECURRENCE), 2]
    for index, times in rows(node).items():
        value = node.input(index)
        if value is not None:
            axes.atoms.tie(np.tile(units, times), axes[value, 1])
            axes.freeze_axes(value, [0], node, "its directions have tensors in common")
    batch = axes[x, 1 - first]
    for index in (STATE, CELL):
        state = node.input(index)
        if state is not None:
            quiet_state(axes, node, state)
            axes.tie(units, axes[state, 2])
            axes.tie(batch, axes[state, 1 - first])
    if (lengths := node.input(LENGTHS)) is not None:
        axes.tie(batch, axes[lengths, 0])
    steps, directions = axes.frozen(node, STEPS), axes.frozen(node, "it is a direction")
    whole = [batch, steps, directions, units] if first else [steps, directions, batch, units]
    last = [batch, directions, units] if first else [directions, batch, units]
    for output, ids in zip(node.outputs, (whole, last, last), strict=False):
        axes.bind(output, ids)
        axes.quiet.add(output)
    axes.layers.append(Layer(node, 3))


def rows(node: Node) -> dict[int, int]:
    """How many times the units occur along axis 1 of each operand."""
    gates = GATES[node.op]
    return {WEIGHT: gates, RECURRENCE: gates, BIAS: 2 * gates, PEEPHOLE: 3}


def require_usual(node: Node) -> None:
    """Raises Frozen on activations that may make something of zero."""
    given = tuple(a for a in (node.attrs.get("activations") or ()) if isinstance(a, str))  # pyright: ignore
    count = 2 if node.str("direction", "forward") == "bidirectional" else 1
    if given and not any(given == each * count for each in USUAL[node.op]):
        raise Frozen(f"with {', '.join(given)} removed units may not stay zero")


def quiet_state(axes: AxisMap, node: Node, state: Value) -> None:
    """A state that units start from has to be zero where they are masked."""
    axes.of(state)
    if state not in axes.quiet:
        axes.freeze_axes(state, [2], node, "removed units do not start from zero")


def fewer_units(node: Node, kept: Kept) -> None:
    """The number of units that are left."""
    recurrence = node.operand(RECURRENCE)
    left = kept.indices(recurrence, 2)
    if left is not None:
        node.attrs["hidden_size"] = int(left.size)


ROWS: dict[str, Rule] = {op: Rule(recurrent, fewer_units) for op in GATES}
