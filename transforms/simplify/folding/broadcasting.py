"""Expand and its kin under operators that broadcast by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Attribute, Builder, InvalidModelError, Node, Tensor, TensorType, Value, constant
from ....ir.inference.elementwise import BROADCASTING
from ....ir.rewrite import Result, decline, rule

UNARY = (
    "Abs", "Cast", "Ceil", "Cos", "Erf", "Exp", "Floor", "IsInf", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Tanh",
)  # fmt: skip


def unexpanded(value: Value | None) -> Value | None:
    """What a value repeats along axes that are 1 or missing there; None where it is no such repetition."""
    node = value.node if value is not None else None
    if node is None or node.domain:
        return None
    if node.op == "Expand":
        return node.operand(0)
    if node.op == "ConstantOfShape":
        filler = node.attr("value")
        number = filler.numpy().reshape(()) if isinstance(filler, Tensor) else np.zeros((), np.float32)
        return constant(number, node.output.name)
    return None


def remade(op: Builder, node: Node, operands: Sequence[Value | None]) -> Value | None:
    """The node with other operands; None where these contradict each other."""
    attrs: dict[str, Attribute] = node.attrs
    try:
        made = op.node(node.op, operands, attrs)
    except InvalidModelError:
        return None
    return made if isinstance(made, Value) else made.output


@rule(*BROADCASTING, "MatMul")
def drop_expand_under_broadcast(op: Builder, node: Node) -> Result:
    """An operand that is expanded to what the other operands' shapes give anyway is not expanded first."""
    operands: list[Value | None] = list(node.inputs)
    small = [unexpanded(v) for v in operands]
    if not any(small):
        return decline("no operand is expanded")
    result: Value | None = None
    for index, value in enumerate(small):
        if value is None:
            continue
        kept, operands[index] = operands[index], value
        made = remade(op, node, operands)
        if made is not None and proven(made) and made.type == node.output.type:
            result = made
        else:
            operands[index] = kept
    return result if result is not None else decline("the expanded shape is that of no other operand")


def proven(value: Value) -> bool:
    """True where a value's shape is known, which makes it comparable."""
    return isinstance(value.type, TensorType) and value.type.shape is not None


@rule(*BROADCASTING, *UNARY)
def expand_later(op: Builder, node: Node) -> Result:
    """An elementwise function of an expanded operand and scalars is computed first and expanded then: on fewer
    elements, and where a consumer broadcasts the Expand goes away.
    """
    for index, value in enumerate(node.inputs):
        expand = value.node if value is not None else None
        if expand is None or expand.op != "Expand" or value is None or value.only_user is not node:
            continue
        others = [v for i, v in enumerate(node.inputs) if i != index]
        if not all(v is not None and v.is_const and v.tensor.count == 1 for v in others):
            return decline("another operand is no scalar")
        if expand.operand(1).node is not None and expand.operand(1).node is node:
            return decline("its shape is computed from it")
        operands: list[Value | None] = list(node.inputs)
        operands[index] = expand.operand(0)
        made = remade(op, node, operands)
        if made is None:
            return decline("the operands do not fit")
        made.name = ""
        return op.Expand(made, expand.operand(1))
    return decline("no operand is expanded for it alone")


RULES = (drop_expand_under_broadcast, expand_later)
