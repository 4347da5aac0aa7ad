"""Operations that change nothing, and pairs of operations that are one."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, Placeholder, Tensor, TensorType, Value
from ....ir.inference.elementwise import BROADCASTING
from ....ir.rewrite import P, Result, decline, rule
from .spans import integers

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


@rule(*NEUTRAL, above=("",))
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
    """True when every element of a tensor of numbers equals `number`; tensors over 64 kB are not read."""
    if tensor.dtype.numpy.kind in "Ocb" or isinstance(tensor, Placeholder):
        return False
    return tensor.filler is not None and bool(tensor.filler == number)


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


@rule(*BROADCASTING, above=("Unsqueeze",))
def drop_leading_ones(op: Builder, node: Node) -> Result:
    """Axes of size 1 in front of an operand are there by broadcasting where another operand has as many axes."""
    ranks = [0 if v is None or v.rank is None else v.rank for v in node.inputs]
    operands = list(node.inputs)
    for index, value in enumerate(node.inputs):
        made = None if value is None else value.node
        if made is None or made.op != "Unsqueeze" or made.domain:
            continue
        axes, others = integers(made.operand(1)), ranks[:index] + ranks[index + 1 :]
        leading = axes is not None and sorted(axes) == list(range(len(axes)))
        if leading and ranks[index] and max(others, default=0) >= ranks[index]:
            operands[index] = made.operand(0)
            break
    else:
        return decline("no operand has axes of size 1 in front that another one gives")
    remade = op.value(node.op, operands, node.attrs)
    return remade if remade.type == node.output.type else decline("the shape is not known")


@rule("Pad")
def drop_empty_pad(op: Builder, node: Node) -> Result:
    """A Pad by nothing is its operand."""
    pads = node.operand(1).const
    if pads is None:
        return decline("the amount is not a constant")
    return node.operand(0) if is_filled_with(pads, 0) else decline("it pads")


@rule("Concat", "Sum", "Max", "Min", "Mean")
def drop_single_operand(op: Builder, node: Node) -> Result:
    """A Concat, Sum, Max, Min or Mean of one tensor is that tensor."""
    if len(node.inputs) != 1:
        return decline("it has several operands")
    if node.op == "Max" and (node.operand(0).op == "DequantizeLinear" or _is_quantized(node)):
        return decline("it keeps a float operator apart from a quantization")
    return node.operand(0)


def _is_quantized(node: Node) -> bool:
    return any(user.op == "QuantizeLinear" for user in node.output.users)


@rule("AveragePool", "MaxPool", "LpPool")
def drop_single_element_window(op: Builder, node: Node) -> Result:
    """A pooling of single elements is its operand."""
    if any(n != 1 for n in node.ints("kernel_shape")):
        return decline("its window has several elements")
    if any(n != 1 for n in node.ints("strides", ())) or any(node.ints("pads", ())):
        return decline("it leaves elements out or adds some")
    if any(v.users for v in node.outputs[1:]):
        return decline("its indices are used")
    return [node.operand(0)] if node.op != "LpPool" else decline("it takes absolute values")


@rule("Resize")
def drop_resize_to_same_size(op: Builder, node: Node) -> Result:
    """A Resize that keeps all sizes is its operand, whichever way it would compute elements in between."""
    if node.str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return decline("it crops")
    scales = node.input(2)
    if scales is not None and (scales.const is None or not is_filled_with(scales.const, 1)):
        return decline("its scales are not all 1")
    return node.operand(0) if same_type(node, node.operand(0)) else decline("the shape changes or is not known")


REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")


@rule(*REDUCTIONS)
def drop_reduction_of_ones(op: Builder, node: Node) -> Result:
    """A reduction over axes of size 1, or over no axes, is its operand, or that without these axes."""
    source, shape = node.operand(0), node.operand(0).shape
    axes = None if node.input(1) is None else integers(node.operand(1))
    if axes is None and node.input(1) is not None:
        return decline("its axes are not known")
    if not axes:
        return source if node.int("noop_with_empty_axes") else decline("it reduces all axes")
    if shape is None or any(shape[axis] != 1 for axis in axes):
        return decline("an axis has or may have several elements")
    return source if node.int("keepdims") else op.Squeeze(source, sorted(axis % len(shape) for axis in axes))


@rule("Clip")
def drop_unbounded_clip(op: Builder, node: Node) -> Result:
    """A Clip without bounds is its operand."""
    if node.input(1) is None and node.input(2) is None:
        return node.operand(0)
    return decline("it has bounds")


@rule(P.Clip(P.Clip(x, P.const("low"), P.const("high")), P.const("least"), P.const("most")))
def merge_clips(op: Builder, x: Value, low: Value, high: Value, least: Value, most: Value) -> Result:
    """Two Clips are one to the bounds of the first, clipped to those of the second."""
    a, b, c, d = (float(v.tensor.item()) for v in (low, high, least, most))
    if not (a <= b and c <= d):
        return decline("a lower bound is above the upper one")
    return op.Clip(x, least if a <= c else most if a >= d else low, least if b <= c else most if b >= d else high)


NEVER_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Softplus")


@rule("Relu", "Abs")
def merge_relus(op: Builder, node: Node) -> Result:
    """Relu or Abs of a value that is never negative, such as a Relu, Sigmoid or Softmax, is that value."""
    source = node.operand(0)
    made = source.node
    if made is not None and source.op == "Clip":
        low, high = made.input(1), made.input(2)  # the upper bound wins where they cross
        if low is not None and all(v is None or (v.is_const and float(v.tensor.item()) >= 0) for v in (low, high)):
            return source
    return source if source.op in NEVER_NEGATIVE else decline("its operand may be negative")


@rule("Ceil", "Floor", "Round", "Sign")
def drop_repeated_rounding(op: Builder, node: Node) -> Result:
    """Rounding what is rounded already changes nothing; nor does the sign of a sign."""
    source = node.operand(0)
    rounded = ("Sign",) if node.op == "Sign" else ("Ceil", "Floor", "Round", "Sign")
    return source if source.op in rounded else decline("its operand is not rounded")


RULES = (
    drop_identity,
    drop_dropout,
    drop_neutral_operand,
    drop_cast_to_same_type,
    drop_identity_transpose,
    drop_shape_noop,
    merge_reshapes,
    drop_leading_ones,
    drop_empty_pad,
    drop_single_operand,
    drop_single_element_window,
    drop_resize_to_same_size,
    drop_reduction_of_ones,
    drop_unbounded_clip,
    merge_clips,
    merge_relus,
    drop_repeated_rounding,
)
