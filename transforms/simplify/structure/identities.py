"""Operations that change nothing, and pairs of operations that are one."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, Tensor, TensorType, Value
from ....ir.rewrite import P, Result, decline, rule

x, y = P.var("x"), P.var("y")


def same_type(node: Node, value: Value) -> bool:
    """True when the node's output has the operand's element type and provably its shape."""
    a, b = node.output.type, value.type
    return isinstance(a, TensorType) and a.shape is not None and a == b


@rule(P.Identity(x))
def drop_identity(op: Builder, x: Value) -> Result:
    """Identity(x) is x."""
    return x


@rule("Dropout")
def drop_dropout(op: Builder, node: Node) -> Result:
    """Dropout outside training is its operand (Dropout-13: training_mode false or missing)."""
    mode = node.input(2)
    if mode is not None and (mode.const is None or bool(mode.const.item())):
        return decline("training_mode may be true")
    if len(node.outputs) > 1 and node.outputs[1].users:
        return decline("its mask is used")
    return [node.operand(0)]


NEUTRAL = {"Add": (0.0, True), "Sub": (0.0, False), "Mul": (1.0, True), "Div": (1.0, False), "Pow": (1.0, False)}
"""Operator -> its neutral second operand, and whether that may stand first too."""


@rule(*NEUTRAL)
def drop_neutral_operand(op: Builder, node: Node) -> Result:
    """x + 0, x - 0, x * 1, x / 1 and x ** 1 are x where broadcasting adds nothing."""
    number, commutes = NEUTRAL[node.op]
    pairs = [(0, 1), (1, 0)] if commutes else [(0, 1)]
    for kept, dropped in pairs:
        tensor = node.operand(dropped).const
        if tensor is not None and is_filled_with(tensor, number):
            return (
                node.operand(kept)
                if same_type(node, node.operand(kept))
                else decline("it broadcasts or its shape is not known")
            )
    return decline("no neutral operand")


def is_filled_with(tensor: Tensor, number: float) -> bool:
    """True when every element equals `number`; tensors over 64 kB are not read."""
    if (
        tensor.nbytes > 1 << 16
        or tensor.dtype.numpy.kind in "Ocb"
        or not tensor.count
        or type(tensor).__name__ == "Placeholder"
    ):
        return False
    return bool(np.all(tensor.numpy() == number))


@rule("Cast")
def drop_cast_to_same_type(op: Builder, node: Node) -> Result:
    """A Cast to the type that its operand has is its operand."""
    source, target = node.operand(0), node.output
    if (
        isinstance(source.type, TensorType)
        and isinstance(target.type, TensorType)
        and source.type.dtype is target.type.dtype
    ):
        return source
    return decline("it changes the element type")


@rule("Transpose")
def drop_identity_transpose(op: Builder, node: Node) -> Result:
    """A Transpose that keeps the order of the axes is its operand."""
    perm = node.attr("perm")
    if isinstance(perm, tuple) and list(perm) == list(range(len(perm))):
        return node.operand(0)
    return node.operand(0) if node.output.rank in (0, 1) else decline("it reorders axes")


RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Slice", "Tile")


@rule(*RESHAPES)
def drop_shape_noop(op: Builder, node: Node) -> Result:
    """A reshaping, expanding, tiling or forward slicing node whose output provably has its operand's shape is its
    operand.
    """
    source = node.operand(0)
    if not same_type(node, source):
        return decline("the shape changes or is not known")
    if node.op == "Slice" and not takes_forward_steps(node):
        return decline("it may run backwards")
    return source


def takes_forward_steps(node: Node) -> bool:
    """True for a Slice whose steps are all 1: with an unchanged size it then takes everything in order."""
    steps = node.input(4)
    return steps is None or (steps.const is not None and bool(np.all(steps.const.numpy() == 1)))


@rule(P.Reshape(P.Reshape(x, y), P.const("shape")).named("outer"))
def merge_reshapes(op: Builder, x: Value, shape: Value, outer: Node) -> Result:
    """Of two Reshapes the second one alone counts, unless it copies sizes from its operand."""
    if bool(np.any(shape.tensor.numpy() == 0)):
        return decline("the second copies a size from its operand")
    return op.Reshape(x, shape, **outer.attrs)


@rule("Pad")
def drop_empty_pad(op: Builder, node: Node) -> Result:
    """A Pad by nothing is its operand."""
    pads = node.operand(1).const
    if pads is None:
        return decline("the amount is not a constant")
    return node.operand(0) if is_filled_with(pads, 0) else decline("it pads")


@rule("Concat")
def drop_single_concat(op: Builder, node: Node) -> Result:
    """A Concat of one tensor is that tensor."""
    return node.operand(0) if len(node.inputs) == 1 else decline("it has several operands")


@rule("Relu")
def merge_relus(op: Builder, node: Node) -> Result:
    """Relu of a value that Relu, Sigmoid, Softmax or HardSigmoid made is that value: it is never negative."""
    source = node.operand(0)
    return (
        source if source.op in ("Relu", "Sigmoid", "Softmax", "HardSigmoid") else decline("its operand may be negative")
    )


RULES = (
    drop_identity,
    drop_dropout,
    drop_neutral_operand,
    drop_cast_to_same_type,
    drop_identity_transpose,
    drop_shape_noop,
    merge_reshapes,
    drop_empty_pad,
    drop_single_concat,
    merge_relus,
)
