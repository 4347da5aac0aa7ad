"""Normalizations in terms of means: LayerNormalization, RMSNormalization, GroupNormalization."""

from __future__ import annotations

import math

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .operands import cast, dtype_of, known, number, shape_of

SMALL, ROUNDING = 1 << 20, 1e-7
"""A scale of more bytes is not read; a number in single precision is this near to what it stands for."""


def layer_normalization(node: Node, op: Builder) -> list[Value | None]:
    """(x - mean) / sqrt(var + epsilon) in `stash_type`, then scale and bias in x's type (LayerNormalization-17)."""
    x, scale, bias = node.operand(0), node.operand(1), node.input(2)
    own, stash, axes = dtype_of(x), DType.of_code(node.int("stash_type")), _axes(node)
    wide = cast(op, x, own, stash)
    mean = op.ReduceMean(wide, axes)
    centred = op.Sub(wide, mean)
    variance = op.ReduceMean(op.Pow(centred, number(2, stash)), axes)
    deviation = op.Sqrt(op.Add(variance, number(node.float("epsilon"), stash)))
    y = _scaled(op, cast(op, op.Div(centred, deviation), stash, own), scale)
    if bias is not None and not _is_filled(bias, 0):
        y = op.Add(y, bias)
    inverse = op.Reciprocal(deviation) if len(node.outputs) > 2 and node.outputs[2].users else None
    return [y, mean, inverse][: len(node.outputs)]


def rms_normalization(node: Node, op: Builder) -> list[Value | None]:
    """x / sqrt(mean(x^2) + epsilon) in the precision `stash_type`, then scale in that of `x` (RMSNormalization-23).

    With a scale it is what ONNX Runtime has one kernel for. Where the scale is 1 / sqrt(n) for means of n numbers, it
    is x / sqrt(sum(x^2) + n epsilon), and that is shorter.
    """
    x, scale, axes = node.operand(0), node.operand(1), _axes(node)
    own, stash, epsilon = dtype_of(x), DType.of_code(node.int("stash_type")), node.float("epsilon")
    wide = cast(op, x, own, stash)
    count = math.prod(d if isinstance(d, int) else 0 for d in shape_of(x)[axes[0] :])
    if count and own is stash and _is_filled(scale, 1 / math.sqrt(count)):
        root = op.Sqrt(op.Add(op.ReduceSumSquare(wide, axes), number(count * epsilon, stash)))
        return [op.Div(wide, root)]
    squares = op.ReduceMean(op.Pow(wide, number(2, stash)), axes)
    root = op.Sqrt(op.Add(squares, number(epsilon, stash)))
    return [_scaled(op, cast(op, op.Div(wide, root), stash, own), scale)]


def group_normalization(node: Node, op: Builder) -> list[Value | None]:
    """Groups as channels of an InstanceNormalization, then scale and bias for each channel (GroupNormalization-21)."""
    x, groups = node.operand(0), node.int("num_groups")
    own, stash, shape = dtype_of(x), DType.of_code(node.int("stash_type")), shape_of(x)
    known(shape[1], "the number of channels")
    grouped = op.Reshape(cast(op, x, own, stash), [0, groups, -1])
    ones, zeros = (constant(np.full(groups, v, stash.numpy)) for v in (1, 0))
    normal = cast(op, op.InstanceNormalization(grouped, ones, zeros, epsilon=node.float("epsilon")), stash, own)
    spatial = [d if isinstance(d, int) else -1 for d in shape[2:]]
    # A 0 copies the batch; more than one open size has to be asked for.
    exact = spatial.count(-1) <= 1 and 0 not in spatial
    y = op.Reshape(normal, [0, shape[1], *spatial] if exact else op.Shape(x))
    y.type = x.type
    return [_channelwise(op, y, node.operand(1), node.operand(2))]


def _channelwise(op: Builder, x: Value, scale: Value, bias: Value) -> Value:
    """x scale + bias for each channel: one BatchNormalization over statistics that change nothing takes half the time
    of a product and a sum.
    """
    if _is_filled(bias, 0) and _is_filled(scale, 1):
        return x
    if dtype_of(x) is DType.F32 and not _is_filled(bias, 0):
        count = known(shape_of(x)[1], "the number of channels")
        mean, variance = (constant(np.full(count, v, np.float32)) for v in (0, 1))
        return op.BatchNormalization(x, scale, bias, mean, variance, epsilon=0.0)
    along = [-1] + [1] * (len(shape_of(x)) - 2)
    y = x if _is_filled(scale, 1) else op.Mul(x, op.Reshape(scale, along))
    return y if _is_filled(bias, 0) else op.Add(y, op.Reshape(bias, along))


def _scaled(op: Builder, value: Value, scale: Value) -> Value:
    return value if _is_filled(scale, 1) else op.Mul(value, scale)


def _is_filled(value: Value, unit: float) -> bool:
    """True for a constant of which every element is `unit`, up to rounding."""
    tensor = value.const
    if tensor is None or tensor.nbytes > SMALL:
        return False
    return bool(np.allclose(tensor.numpy().astype(np.float64), unit, rtol=ROUNDING, atol=0))


def _axes(node: Node) -> list[int]:
    axis = node.int("axis")
    return list(range(axis, 0 if axis < 0 else len(shape_of(node.operand(0)))))
