"""Recurrent operators over one sequence, one from each end: a single one in both directions."""

from __future__ import annotations

from dataclasses import dataclass

from ....ir import Builder, Node, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import Lazy
from .projections import joined

STEPS, WEIGHTS, LENGTHS, STATES = 0, (1, 2, 3, 7), 4, (5, 6)
"""Operands of LSTM, GRU and RNN (ONNX 14): those with weights have the direction first."""

ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
PARAMETERS = ("activation_alpha", "activation_beta")


@dataclass(frozen=True)
class End:
    """A result of a recurrent operator in one direction, with or without the axis for the direction."""

    layer: Node
    index: int
    apart: bool

    @property
    def axis(self) -> int:
        """Where the direction is in the result."""
        return 0 if self.index else 1


@rule("Concat")
def merge_directions(op: Builder, node: Node) -> Result:
    """Results of two recurrent operators that run over a sequence from both ends, joined, are those of one."""
    ends = [None if v is None else end_of(v, node) for v in node.inputs]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return decline("it does not join results of two recurrent operators that it alone uses")
    first, second = ends[0], ends[1]
    why = difference(first, second)
    if why:
        return decline(why)
    rank = node.output.rank
    if rank is None or node.int("axis") % rank != (first.axis if first.apart else rank - 1):
        return decline("it joins them along another axis than that of directions or features")
    one, other = first.layer, second.layer
    outputs = both_ways(op, one, other)
    for index, whole in enumerate(outputs):
        if index != first.index and any(index < len(n.outputs) and n.outputs[index].users for n in (one, other)):
            parts = op.Split(whole, [1, 1], axis=0 if index else 1, outputs=2)
            for layer, part in zip((one, other), parts, strict=True):
                if index < len(layer.outputs):
                    op.replace(layer.outputs[index], part)
    result = outputs[first.index]
    if first.apart:
        return result
    size = 2 * one.int("hidden_size")
    if first.index:
        return op.Reshape(op.Transpose(result, perm=[1, 0, 2]), [0, size])
    return op.Reshape(op.Transpose(result, perm=[0, 2, 1, 3]), [0, 0, size])


def both_ways(op: Builder, one: Node, other: Node) -> list[Value]:
    """The results of the operator that does what `one` does forward and `other` in reverse."""
    inputs: list[Value | None] = list(one.inputs) + [None] * (8 - len(one.inputs))
    for index in WEIGHTS:
        a, b = one.input(index), other.input(index)
        if a is not None and b is not None:
            inputs[index] = constant(Lazy("concat", [a.tensor, b.tensor], axis=0), joined([a, b]))
    for index in STATES:
        a, b = one.input(index), other.input(index)
        inputs[index] = None if a is None or b is None else op.Concat(a, b, axis=0)
    while inputs[-1] is None:
        inputs.pop()
    attrs = {**one.attrs, "direction": "bidirectional"}
    if any("activations" in n.attrs for n in (one, other)):
        attrs["activations"] = (*activations(one), *activations(other))
    made = op.node(one.op, inputs, attrs, outputs=max(len(one.outputs), len(other.outputs)))
    return [made] if isinstance(made, Value) else list(made.outputs)


def end_of(value: Value, user: Node) -> End | None:
    """What `value` is of a recurrent operator, where nobody but `user` needs it."""
    node, apart = value.node, True
    if node is None or value.only_user is not user:
        return None
    if node.op in ("Squeeze", "Reshape") and not node.domain:
        value, user, apart = node.operand(0), node, False
        inner = value.node
        if inner is None or value.only_user is not user or inner.op not in ACTIVATIONS or value.shape is None:
            return None
        axis = 0 if value.index else 1
        if node.output.shape != (*value.shape[:axis], *value.shape[axis + 1 :]):
            return None
        node = inner
    if node.op not in ACTIVATIONS or node.domain or node.graph is None:
        return None
    others = [v for v in node.outputs if v is not value]
    if any(set(v.users) - {node.graph.exit} for v in others):
        return None
    return End(node, value.index, apart)


def difference(first: End, second: End) -> str:
    """Why two operators cannot be the directions of one; '' where they can."""
    one, other = first.layer, second.layer
    if one.op != other.op or first.index != second.index or first.apart is not second.apart:
        return "it joins results of different kinds"
    if (one.str("direction"), other.str("direction")) != ("forward", "reverse"):
        return "they do not run forward and in reverse"
    if one.input(STEPS) is not other.input(STEPS) or one.input(LENGTHS) is not other.input(LENGTHS):
        return "they run over different sequences"
    plain = [
        {k: v for k, v in n.attrs.items() if k not in ("direction", "activations")} | {"layout": n.int("layout", 0)}
        for n in (one, other)
    ]
    if plain[0] != plain[1] or any(name in n.attrs for n in (one, other) for name in PARAMETERS):
        return "their attributes differ, or give parameters to activations"
    if one.int("layout", 0):
        return "their batch comes first"
    if not one.int("hidden_size", 0):
        return "their size is not known"
    for index in WEIGHTS:
        weights = [n.input(index) for n in (one, other)]
        if (weights[0] is None) is not (weights[1] is None):
            return "one of them has weights that the other has not"
        if any(w is not None and (w.const is None or w.only_user is None) for w in weights):
            return "their weights are computed or needed elsewhere"
    if any((one.input(i) is None) is not (other.input(i) is None) for i in STATES):
        return "one of them begins with a state that the other has not"
    return ""


def activations(node: Node) -> tuple[str, ...]:
    """The activations of one direction."""
    given = node.attrs.get("activations")
    return tuple(str(a) for a in given) if isinstance(given, tuple) else ACTIVATIONS[node.op]


RULES = (merge_directions,)
