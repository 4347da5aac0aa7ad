"""Operators that take a scale or a summand of their output into their own constants: one row per operator.

A row gets the node and what its output is to be multiplied by and what is to be added then, and gives the node's new
operands, or the reason why it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

import numpy as np

from ....ir import Node, Tensor, Value, constant
from ....ir.attributes import Attribute
from ....ir.tensors import reshape
from .channels import Wide, along, is_shared, known, scaled, shifted


@dataclass(frozen=True)
class Affine:
    """k x + s, each an array of the rank of x (see `channels`) or None for 1 and 0."""

    scale: Wide | None
    shift: Wide | None


@dataclass(frozen=True)
class Change:
    """New operands of a node, and all its attributes where those change too."""

    inputs: tuple[Value | None, ...]
    attrs: dict[str, Attribute] | None = None


Outcome = Union[Change, str]
Row = Callable[[Node, Affine], Outcome]

NOT_PER_CHANNEL = "the constant is not one number per channel"
NOT_CONSTANT = "its weight is not a constant"
SHARED_WEIGHT = "its weight is used elsewhere too"


def named(tensor: Tensor, like: Value | None, fallback: str = "") -> Value:
    """A constant with the name of the one that it replaces."""
    return constant(tensor, like.name if like is not None and like.name else fallback)


def with_inputs(node: Node, changes: dict[int, Value], attrs: dict[str, Attribute] | None = None) -> Change:
    """The node's operands with some replaced; missing ones in between stay missing."""
    inputs = list(node.inputs) + [None] * (1 + max(changes) - len(node.inputs))
    for index, value in changes.items():
        inputs[index] = value
    return Change(tuple(inputs), attrs)


def bias_name(weight: Value) -> str:
    return f"{weight.name.removesuffix('.weight')}.bias" if weight.name else ""


def convolution(node: Node, by: Affine) -> Outcome:
    """Conv-22 and ConvTranspose-22: channels are axis 1 of the output; W is [M, C/group, ...] or [C, M/group, ...]."""
    weight, bias = node.operand(1), node.input(2)
    w = known(weight)
    if w is None or (bias is not None and known(bias) is None):
        return NOT_CONSTANT
    group = node.int("group", 1)
    channels = w.shape[0] if node.op == "Conv" else w.shape[1] * group
    vectors = per_channel(by, 1, channels)
    if vectors is None:
        return NOT_PER_CHANNEL
    k, s = vectors
    changes: dict[int, Value] = {}
    if k is not None:
        if is_shared(weight):
            return SHARED_WEIGHT
        changes[1] = named(scaled(w, output_factor(node.op, k, w.shape, group)), weight)
    new_bias = new_summand(None if bias is None else bias.tensor, k, s, w)
    if new_bias is not None:
        changes[2] = named(new_bias, bias, bias_name(weight))
    return with_inputs(node, changes)


def per_channel(by: Affine, axis: int, channels: int) -> tuple[Wide | None, Wide | None] | None:
    """Scale and summand as vectors over `axis`; None where one varies along another axis."""
    k = None if by.scale is None else along(by.scale, axis, channels)
    s = None if by.shift is None else along(by.shift, axis, channels)
    return None if (k is None) != (by.scale is None) or (s is None) != (by.shift is None) else (k, s)


def output_factor(op: str, k: Wide, shape: tuple[int, ...], group: int) -> Wide:
    """One number per output channel as a factor of a convolution's weight of `shape`."""
    ones = (1,) * (len(shape) - 2)
    if op == "Conv":
        return k.reshape(-1, 1, *ones)
    spread = np.broadcast_to(k.reshape(group, 1, shape[1]), (group, shape[0] // group, shape[1]))
    return spread.reshape(shape[0], shape[1], *ones)


def new_summand(bias: Tensor | None, k: Wide | None, s: Wide | None, like: Tensor) -> Tensor | None:
    """k b + s; None where there is neither."""
    out = None if bias is None else scaled(bias, k)
    return out if s is None else shifted(out, s, like.dtype)


def gemm(node: Node, by: Affine) -> Outcome:
    """Gemm-13: alpha A' B' + beta C, channels are axis 1."""
    weight, bias = node.operand(1), node.input(2)
    w = known(weight)
    if w is None or w.rank != 2:
        return NOT_CONSTANT
    axis = 0 if node.int("transB") else 1
    vectors = per_channel(by, 1, w.shape[axis])
    if vectors is None:
        return NOT_PER_CHANNEL
    k, s = vectors
    c = known(bias)
    if bias is not None and (c is None or (c.rank == 2 and c.shape[0] != 1)):
        return "its bias is not one constant per channel"
    changes: dict[int, Value] = {}
    if k is not None:
        if is_shared(weight):
            return SHARED_WEIGHT
        changes[1] = named(scaled(w, k.reshape(-1, 1) if axis == 0 else k), weight)
    beta = np.full(1, node.float("beta"))
    if c is not None or s is not None:
        summand = new_summand(None if c is None else scaled(c, beta), k, s, w)
        assert summand is not None
        changes[2] = named(summand, bias, bias_name(weight))
    return with_inputs(node, changes, {name: a for name, a in node.attrs.items() if name != "beta"})


NO_SUMMAND = {"MatMul": "a matrix product has no summand", "RMSNormalization": "this normalisation has no summand"}
"""Linear operators that take a scale alone."""


def matmul(node: Node, by: Affine) -> Outcome:
    """MatMul-13 with a constant: on the right its columns are the channels (last axis), on the left its rows."""
    for index, axis in ((1, -1), (0, -2)):
        weight = node.operand(index)
        w = known(weight)
        if w is None:
            continue
        if by.shift is not None:
            return NO_SUMMAND[node.op]
        assert by.scale is not None
        if by.scale.size == 1:
            k: Wide | None = by.scale.reshape(())
        else:
            k = along(by.scale, axis, w.shape[axis]) if w.rank >= 2 and node.operand(1 - index).rank != 1 else None
        if k is None:
            return NOT_PER_CHANNEL
        if is_shared(weight):
            return SHARED_WEIGHT
        return with_inputs(node, {index: named(scaled(w, k.reshape(-1, 1) if axis == -2 and k.ndim else k), weight)})
    return NOT_CONSTANT


def normalization(node: Node, by: Affine) -> Outcome:
    """BatchNormalization-15, InstanceNormalization-22 and GroupNormalization-21: scale and bias over axis 1."""
    scale, bias = node.operand(1), node.operand(2)
    k0, b0 = known(scale), known(bias)
    if k0 is None or b0 is None:
        return NOT_CONSTANT
    vectors = per_channel(by, 1, k0.shape[0])
    if vectors is None:
        return NOT_PER_CHANNEL
    if node.op == "BatchNormalization" and (node.int("training_mode") or any(o.users for o in node.outputs[1:])):
        return "it normalises with the batch's statistics"
    k, s = vectors
    summand = new_summand(b0, k, s, k0)
    assert summand is not None
    return with_inputs(node, {1: named(scaled(k0, k), scale), 2: named(summand, bias)})


def layer_normalization(node: Node, by: Affine) -> Outcome:
    """LayerNormalization-17 and RMSNormalization-23: scale (and bias) over the axes from `axis` on."""
    scale, bias = node.operand(1), node.input(2)
    k0, rank = known(scale), node.output.rank
    if k0 is None or rank is None or (bias is not None and known(bias) is None):
        return NOT_CONSTANT
    if by.shift is not None and node.op != "LayerNormalization":
        return NO_SUMMAND[node.op]
    axis = node.int("axis") % rank
    parts = [a for a in (by.scale, by.shift) if a is not None]
    if any(size != 1 for a in parts for size in a.shape[:axis]):
        return NOT_PER_CHANNEL
    k = None if by.scale is None else by.scale.reshape(by.scale.shape[axis:])
    s = None if by.shift is None else by.shift.reshape(by.shift.shape[axis:])
    made = scaled(k0, k)
    if made.shape != k0.shape:
        return NOT_PER_CHANNEL
    changes = {1: named(made, scale)}
    if bias is not None or s is not None:
        zeros = np.zeros(k0.shape)
        summand = new_summand(None if bias is None else bias.tensor, k, None if s is None else s + zeros, k0)
        assert summand is not None
        if summand.shape != k0.shape:
            return NOT_PER_CHANNEL
        changes[2] = named(summand, bias)
    return with_inputs(node, changes)


def product(node: Node, by: Affine) -> Outcome:
    """Mul and Div with a constant: the constant takes the factor."""
    if by.shift is not None:
        return "a product has no summand"
    assert by.scale is not None
    for index in (1, 0):
        factor = node.operand(index)
        c = known(factor)
        if c is None:
            continue
        invert = node.op == "Div" and index == 1
        if invert and not by.scale.all():
            return "the factor is zero"
        made = scaled(c, 1 / by.scale if invert else by.scale)
        if made.count > max(c.count, by.scale.size):
            return "the product of both constants is larger than either"
        if is_shared(factor):
            return SHARED_WEIGHT
        return with_inputs(node, {index: named(trimmed(made, node.operand(1 - index)), factor)})
    return NOT_CONSTANT


def trimmed(tensor: Tensor, other: Value) -> Tensor:
    """The tensor without leading axes of size 1, where broadcasting against `other` adds them by itself."""
    if other.rank is None or other.rank < tensor.rank:
        return tensor
    lead = next((i for i, size in enumerate(tensor.shape) if size != 1), tensor.rank)
    return reshape(tensor, tensor.shape[lead:])


def gather(node: Node, by: Affine) -> Outcome:
    """Gather-13 from rows of a constant table: the table takes what is the same for every row."""
    table, indices = node.operand(0), node.operand(1)
    w, lead = known(table), indices.rank
    if w is None or lead is None or node.int("axis") != 0:
        return NOT_CONSTANT
    parts = [a for a in (by.scale, by.shift) if a is not None]
    if any(size != 1 for a in parts for size in a.shape[:lead]):
        return NOT_PER_CHANNEL
    if is_shared(table):
        return SHARED_WEIGHT
    out = w if by.scale is None else scaled(w, by.scale.reshape(1, *by.scale.shape[lead:]))
    out = out if by.shift is None else shifted(out, by.shift.reshape(1, *by.shift.shape[lead:]), w.dtype)
    return with_inputs(node, {0: named(out, table)}) if out.shape == w.shape else NOT_PER_CHANNEL


LINEAR: dict[str, Row] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": normalization,
    "InstanceNormalization": normalization,
    "GroupNormalization": normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": layer_normalization,
    "Mul": product,
    "Div": product,
    "Gather": gather,
}
"""Operator -> how it takes a scale and a summand of its output into its constants."""
