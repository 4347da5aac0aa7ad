"""Dynamic int8 for LSTM: weights i8 per channel in the file, inputs and states quantized at run time.

The operator is DynamicQuantizeLSTM of ONNX Runtime (domain com.microsoft), whose weights lie as [directions, inputs,
4 * hidden]. There is none for GRU (see `gru`) and RNN.
"""

from __future__ import annotations

import math

import numpy as np

from ...ir import Builder, Graph, Node, Tensor, Value, constant, fuse
from ...ir.tensors.lazy import reshape, transpose
from ..base import Rounded
from . import scheme
from .layers import is_f32
from .qoperator import MICROSOFT
from .scheme import Affine

WEIGHTS = (1, 2)
"""The operands for inputs and for states."""

ATTRIBUTES = ("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget")


def why_not(node: Node) -> str:
    """Why a recurrent layer cannot be quantized at run time; '' where it can."""
    if node.op != "LSTM":
        return "ONNX Runtime has no int8 kernel for it on the CPU"
    if node.int("layout", 0):
        return "its batch comes first, which the int8 kernel does not take: simplify first"
    for index in WEIGHTS:
        weight = node.operand(index)
        if weight.const is None:
            return "it has no constant weight"
        if not is_f32(weight) or not is_f32(node.operand(0)):
            return "only f32 is quantized"
        if not np.isfinite(scheme.amplitude(flat(weight.tensor), 0)).all():
            return "its weight holds NaN or infinity"
    return ""


def flat(weight: Tensor) -> Tensor:
    """[directions, 4 * hidden, inputs] as rows."""
    return reshape(weight, [weight.shape[0] * weight.shape[1], weight.shape[2]])


def insert(graph: Graph, node: Node, largest: int, per_channel: bool) -> tuple[list[Value], Rounded]:
    """Rewrites an LSTM; gives its results, and how its weights are rounded."""
    operands = [*node.inputs, *[None] * (8 - len(node.inputs))]
    signal = noise = 0.0
    for index in WEIGHTS:
        weight = node.operand(index)
        affine, parts = quantized(weight, largest, per_channel)
        operands[index] = parts[0]
        operands += parts[1:]
        rows = flat(weight.tensor)
        own = rows.numpy().astype(np.float64)
        signal += float(np.square(own).sum())
        noise += float(np.square(own - affine.apply(rows).numpy() * affine.scale.reshape(-1, 1).astype(float)).sum())
    attrs = {name: value for name, value in node.attrs.items() if name in ATTRIBUTES}
    op = Builder(graph, node, loc=fuse(node.loc, [], "quantize"))
    made = op.node("DynamicQuantizeLSTM", operands, attrs, outputs=len(node.outputs), domain=MICROSOFT)
    assert isinstance(made, Node), "its input is computed"
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.type, new.name = old.type, old.name
        old.replace_by(new)
    node.erase()
    scheme_text = f"u8 at run time x i8 per {'channel' if per_channel else 'direction'}"
    lost = 10 * math.log10(signal / noise) if signal and noise else None
    return list(made.outputs), Rounded(scheme_text, weight_sqnr_db=lost)


def quantized(weight: Value, largest: int, per_channel: bool) -> tuple[Affine, tuple[Value, Value, Value]]:
    """How a weight's rows are quantized, and its integers as the kernel has them, their scales and zero points."""
    directions, channels, inputs = weight.tensor.shape
    size = scheme.amplitude(flat(weight.tensor), 0)
    if not per_channel:
        size = np.repeat(size.reshape(directions, channels).max(1), channels)
    affine = scheme.weight(size, 0, 1.0, None, largest)
    integers = reshape(affine.apply(flat(weight.tensor)), [directions, channels, inputs])
    shape = (directions, channels) if per_channel else (directions,)
    scale = affine.scale.reshape(directions, channels)
    parts = (
        constant(transpose(integers, [0, 2, 1]), f"{weight.name}_quantized"),
        constant(scale if per_channel else scale[:, 0].copy(), f"{weight.name}_scale"),
        constant(np.zeros(shape, np.int8), f"{weight.name}_zero_point"),
    )
    return affine, parts
