"""Operands that hold one number everywhere, however they are computed: biases and initial states of zeros above all.

Exporters write a missing bias as Expand(CastLike(0, x), [channels]) and a missing initial state as zeros of a shape
that depends on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....ir import Builder, Node, TensorType, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import Dense, Lazy, Placeholder

MOVING = frozenset(
    ["Expand", "Slice", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Tile", "Flatten", "Identity", "Cast",
     "CastLike", "Gather", "GatherElements"]
)  # fmt: skip
"""Operators whose elements are their first operand's."""

LARGEST = 1 << 14
"""Elements of a computed operand up to which it is made a constant."""

DEPTH = 12


def uniform(value: Value | None, depth: int = DEPTH) -> float | None:
    """The one number that a floating-point value provably holds everywhere; None where it may hold several."""
    if value is None or not isinstance(value.type, TensorType) or not value.type.dtype.is_float or not depth:
        return None
    if value.const is not None:
        filler = None if isinstance(value.const, Placeholder) else value.const.filler
        return None if filler is None else float(filler)
    node = value.node
    if node is None or node.domain or value.is_input:
        return None
    if node.op == "ConstantOfShape":
        fill = node.attrs.get("value")
        return 0.0 if fill is None else float(fill.item()) if isinstance(fill, (Dense, Lazy)) else None
    if node.op in MOVING:
        return uniform(node.operand(0), depth - 1)
    if node.op == "Concat":
        parts = {uniform(v, depth - 1) for v in node.inputs}
        return parts.pop() if len(parts) == 1 else None
    return None


BIASES = {
    "Conv": 2, "ConvTranspose": 2, "Gemm": 2, "LayerNormalization": 2,
    "LSTM": 3, "GRU": 3, "RNN": 3,
}  # fmt: skip
"""Operator -> the optional operand that is added and that counts as zeros when it is missing."""

STATES: dict[str, tuple[int, ...]] = {"LSTM": (5, 6, 7), "GRU": (5,), "RNN": (5,)}
"""Operator -> initial states and peephole weights: zeros when they are missing (LSTM-22, GRU-22, RNN-22)."""


@rule(*BIASES)
def drop_zero_operand(op: Builder, node: Node) -> Result:
    """A bias, initial state or peephole weight of zeros is one that is missing."""
    wanted = (BIASES[node.op], *STATES.get(node.op, ()))
    zero = [index for index in wanted if node.input(index) is not None and uniform(node.input(index)) == 0.0]
    if not zero:
        return decline("no optional operand is zero everywhere")
    return with_inputs(op, node, dict.fromkeys(zero))


def with_inputs(op: Builder, node: Node, changes: Mapping[int, Value | None]) -> Result:
    """The node with some operands replaced; missing ones at the end are not written."""
    inputs = [changes.get(index, value) for index, value in enumerate(node.inputs)]
    while inputs[-1] is None:
        inputs.pop()
    made = op.node(node.op, inputs, node.attrs, outputs=len(node.outputs))
    return made.outputs if isinstance(made, Node) else made


@rule("Conv", "ConvTranspose", "Gemm", "BatchNormalization")
def make_parameter_constant(op: Builder, node: Node) -> Result:
    """A parameter that holds one number everywhere, but is computed, is a constant."""
    for index, value in enumerate(node.inputs):
        if not index or value is None or value.is_const or not isinstance(value.type, TensorType):
            continue
        shape, number = value.type.static_shape, uniform(value)
        if number is None or shape is None or int(np.prod(shape)) > LARGEST:
            continue
        array = np.broadcast_to(np.asarray(number).astype(value.type.dtype.numpy), shape)
        made = constant(Dense(np.ascontiguousarray(array), value.type.dtype), value.name)
        return with_inputs(op, node, {index: made})
    return decline("no parameter is computed and the same everywhere")


@rule("LSTM", "GRU", "RNN")
def drop_full_lengths(op: Builder, node: Node) -> Result:
    """Sequence lengths that are all the whole length are the default."""
    x, lengths = node.operand(0), node.input(4)
    if lengths is None or lengths.const is None or not isinstance(x.type, TensorType):
        return decline("it has no constant sequence lengths")
    shape = x.type.shape
    length = None if shape is None else shape[node.int("layout") and 1]
    if not isinstance(length, int) or not bool((lengths.const.numpy() == length).all()):
        return decline("some sequence is shorter")
    return with_inputs(op, node, {4: None})


RULES = (drop_zero_operand, make_parameter_constant, drop_full_lengths)
