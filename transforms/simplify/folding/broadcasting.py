"""Expand and its kin under operators that broadcast by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import (
    Attribute,
    Builder,
    Dense,
    InvalidModelError,
    Node,
    Placeholder,
    Tensor,
    TensorType,
    Value,
    constant,
)
from ....ir.builder import Sizes
from ....ir.inference.elementwise import BROADCASTING
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import Lazy, reshape
from .indices import COMPARISONS, decided

UNARY = (
    "Abs", "Cast", "Ceil", "Cos", "Erf", "Exp", "Floor", "IsInf", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Tanh",
)  # fmt: skip


ARRANGING = (
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Gather",
    "GatherElements",
    "Expand",
    "Tile",
)
"""Operators whose results are elements of their first operand."""

UNIFORM = (*ARRANGING, *COMPARISONS, "ConstantOfShape")
"""Operators whose results may be one number throughout."""


def uniform(value: Value | None, sizes: Sizes) -> Value | None:
    """The number that fills a value, as a constant scalar; None where it may have different elements."""
    node = value.node if value is not None else None
    if value is None or (node is None and value.const is None):
        return None
    if value.const is not None:
        return filling(value.const, value.name)
    if node is None or node.domain:
        return None
    if node.op == "ConstantOfShape":
        filler = node.attr("value")
        return constant(
            filler.numpy().reshape(()) if isinstance(filler, Tensor) else np.zeros((), np.float32), value.name
        )
    if node.op in COMPARISONS:
        answer = decided(node, sizes)
        return None if answer is None else constant(np.array(answer), value.name)
    return uniform(node.operand(0), sizes) if node.op in ARRANGING else None


def filling(tensor: Tensor, name: str) -> Value | None:
    """The number that fills a constant."""
    filler = None if isinstance(tensor, Placeholder) else tensor.filler
    return None if filler is None else constant(Dense(filler, tensor.dtype), name)


def unexpanded(value: Value | None, sizes: Sizes) -> Value | None:
    """What a value repeats along axes that are 1 or missing there; None where it is no such repetition."""
    node = value.node if value is not None else None
    if node is None or value is None or node.domain:
        return None
    number = uniform(value, sizes)
    if number is not None:
        return number
    if node.op == "Expand":
        return node.operand(0)
    return row_taken(node, sizes) if node.op == "Gather" else None


def row_taken(node: Node, sizes: Sizes) -> Value | None:
    """The one row of a constant table that a Gather takes throughout."""
    table, index = node.operand(0).const, uniform(node.operand(1), sizes)
    if table is None or index is None or node.int("axis", 0) or node.operand(1).is_const:
        return None
    row = int(index.tensor.item())
    if not -table.shape[0] <= row < table.shape[0]:
        return None
    first = row % table.shape[0]
    chosen = Lazy("slice", [table], axis=0, start=first, stop=first + 1)
    return constant(reshape(chosen, table.shape[1:]), node.operand(0).name)


def remade(op: Builder, node: Node, operands: Sequence[Value | None]) -> Value | None:
    """The node with other operands; None where these contradict each other."""
    attrs: dict[str, Attribute] = node.attrs
    try:
        made = op.node(node.op, operands, attrs)
    except InvalidModelError:
        return None
    return made if isinstance(made, Value) else made.output


@rule(*BROADCASTING, "MatMul", above=UNIFORM)
def drop_expand_under_broadcast(op: Builder, node: Node) -> Result:
    """An operand that is expanded to what the other operands' shapes give anyway is not expanded first."""
    operands: list[Value | None] = list(node.inputs)
    small = [unexpanded(v, op.sizes) for v in operands]
    if not any(small):
        return decline("no operand is expanded")
    result: Value | None = None
    for index, value in enumerate(small):
        if value is None or (node.op == "MatMul" and not value.rank):
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


@rule(*BROADCASTING, *UNARY, above=("Expand",))
def expand_later(op: Builder, node: Node) -> Result:
    """An elementwise function of an expanded operand is computed first and expanded then: on fewer elements, and where
    a consumer broadcasts the Expand goes away.
    """
    for index, value in enumerate(node.inputs):
        expand = value.node if value is not None else None
        if expand is None or value is None or value.op != "Expand" or value.only_user is not node:
            continue
        operands: list[Value | None] = list(node.inputs)
        operands[index] = expand.operand(0)
        made = remade(op, node, operands)
        if made is None or not proven(made):
            return decline("the shape without it is not known")
        if made.type == node.output.type:
            return decline("the other operands have the expanded shape")
        later = op.Expand(made, expand.operand(1))
        return later if later.type == node.output.type else decline("the shape is not that of the expanded operand")
    return decline("no operand is expanded for it alone")


NEUTRAL: dict[str, tuple[float, tuple[int, ...]]] = {
    "Add": (0, (0, 1)), "And": (1, (0, 1)), "Div": (1, (1,)), "Mul": (1, (0, 1)), "Or": (0, (0, 1)), "Sub": (0, (1,)),
}  # fmt: skip
"""Operator -> its neutral operand, and where that may stand."""


@rule(*NEUTRAL, above=UNIFORM)
def drop_computed_neutral_operand(op: Builder, node: Node) -> Result:
    """An operator on a computed operand that is neutral throughout is the other operand, expanded: And with what is
    always true, Or with what never is, sums with zeros, products with ones.
    """
    neutral, places = NEUTRAL[node.op]
    for index in places:
        if node.operand(index).is_const:
            continue
        number, other = uniform(node.operand(index), op.sizes), node.operand(1 - index)
        if number is None or number.tensor.item() != neutral:
            continue
        if proven(other) and other.type == node.output.type:
            return other
        if node.operand(index).only_user is not node:
            return decline("its shape is wider than the other operand's, and others use it")
        return op.Expand(other, op.Shape(node.operand(index)))
    return decline("no operand is the same throughout")


MASK = 3


@rule("Attention")
def drop_expand_of_mask(op: Builder, node: Node) -> Result:
    """A mask that is expanded along batch and heads only is broadcast by the Attention (Attention-24)."""
    mask = node.input(MASK)
    if mask is None or mask.op != "Expand" or mask.node is None:
        return decline("it has no mask that is expanded")
    small = mask.node.operand(0)
    if small.shape is None or mask.shape is None or len(small.shape) < 2 or small.shape[-2:] != mask.shape[-2:]:
        return decline("the mask is expanded along queries or keys")
    operands = [*node.inputs[:MASK], small, *node.inputs[MASK + 1 :]]
    made = op.node(node.op, operands, node.attrs, outputs=len(node.outputs))
    return list(made.outputs) if isinstance(made, Node) else None


RULES = (drop_expand_under_broadcast, expand_later, drop_computed_neutral_operand, drop_expand_of_mask)
