"""What recurrent operators give besides all steps: the last step of one direction is its final state."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir import Builder, Node, Value
from ....ir.rewrite import Result, Rule, decline, rule
from .parts import integers

RECURRENT = ("GRU", "LSTM", "RNN")
LENGTHS = 4
BATCH, UNITS = 2, 3


@rule("Gather")
def raise_final_state(op: Builder, node: Node) -> Result:
    """The step that a forward LSTM, GRU or RNN computes last is its final state, which needs no taking apart of all
    steps; so is the first one of a reverse one.
    """
    index, rank = node.operand(1), node.operand(0).rank
    steps = integers(index) if index.rank == 0 else None
    if steps is None or rank is None:
        return decline("it does not take one step")
    found = _steps(node.operand(0))
    if found is None:
        return decline("it does not take from all steps of a recurrent operator with one direction")
    source, axes = found
    layer = source.node
    assert layer is not None
    taken = axes[node.int("axis", 0) % rank]
    rest = [axis for axis in axes if axis != taken]
    if taken != 0 or rest != [BATCH, UNITS]:
        return decline("it takes something else than a step")
    if layer.int("layout", 0) or layer.input(LENGTHS) is not None:
        return decline("its sequences have lengths of their own, or their batch comes first")
    length = source.shape[0] if source.shape is not None else None
    last = {"forward": (-1, length - 1 if isinstance(length, int) else -1), "reverse": (0,)}
    if steps[0] not in last.get(layer.str("direction"), ()):
        return decline("it is not the step that is computed last")
    return op.Squeeze(_final_state(op, layer), [0])


def _steps(value: Value) -> tuple[Value, Sequence[int]] | None:
    """All steps of a recurrent operator with one direction that `value` holds, and which of their axes its own axes
    are; None where it does not just leave out the direction and reorder the rest.
    """
    node = value.node
    if node is None or node.domain:
        return None
    if node.op in RECURRENT:
        if value.index != 0 or node.str("direction") == "bidirectional":
            return None
        return value, (0, 1, BATCH, UNITS)
    if node.op not in ("Squeeze", "Transpose"):
        return None
    inner = _steps(node.operand(0))
    if inner is None:
        return None
    source, axes = inner
    if node.op == "Transpose":
        perm = node.ints("perm", tuple(reversed(range(len(axes)))))
        return source, [axes[p] for p in perm]
    dropped = integers(node.input(1))
    if dropped is None or [axes[d % len(axes)] for d in dropped] != [1]:
        return None
    return source, [axis for axis in axes if axis != 1]


def _final_state(op: Builder, layer: Node) -> Value:
    """The output that is the final state, of the node itself or of one in its place that has this output."""
    if len(layer.outputs) > 1:
        return layer.outputs[1]
    before = op.before
    op.behind(layer.output)
    made = op.node(layer.op, layer.inputs, layer.attrs, outputs=2)
    assert isinstance(made, Node)
    op.replace(layer.output, made.output)
    op.before = before
    return made.outputs[1]


RULES: tuple[Rule, ...] = (raise_final_state,)
