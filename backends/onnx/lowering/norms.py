"""Normalizations in terms of means: LayerNormalization, RMSNormalization, GroupNormalization."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from .operands import cast, dtype_of, known, number, shape_of


def layer_normalization(node: Node, op: Builder) -> list[Value | None]:
    """(x - mean) / sqrt(var + epsilon) in `stash_type`, then scale and bias in x's type (LayerNormalization-17)."""
    x, scale, bias = node.operand(0), node.operand(1), node.input(2)
    own, stash, axes = dtype_of(x), DType.of_code(node.int("stash_type")), _axes(node)
    wide = cast(op, x, own, stash)
    mean = op.ReduceMean(wide, axes)
    centred = op.Sub(wide, mean)
    variance = op.ReduceMean(op.Pow(centred, number(2, stash)), axes)
    deviation = op.Sqrt(op.Add(variance, number(node.float("epsilon"), stash)))
    y = op.Mul(cast(op, op.Div(centred, deviation), stash, own), scale)
    if bias is not None:
        y = op.Add(y, bias)
    inverse = op.Reciprocal(deviation) if len(node.outputs) > 2 and node.outputs[2].users else None
    return [y, mean, inverse][: len(node.outputs)]


def rms_normalization(node: Node, op: Builder) -> list[Value | None]:
    """x / sqrt(mean(x^2) + epsilon) in the precision `stash_type`, then scale in that of `x` (RMSNormalization-23)."""
    x, scale = node.operand(0), node.operand(1)
    own, stash = dtype_of(x), DType.of_code(node.int("stash_type"))
    wide = cast(op, x, own, stash)
    squares = op.ReduceMean(op.Pow(wide, number(2, stash)), _axes(node))
    root = op.Sqrt(op.Add(squares, number(node.float("epsilon"), stash)))
    return [op.Mul(cast(op, op.Div(wide, root), stash, own), scale)]


def group_normalization(node: Node, op: Builder) -> list[Value | None]:
    """Groups as channels of an InstanceNormalization, then scale and bias for each channel (GroupNormalization-21)."""
    x, groups = node.operand(0), node.int("num_groups")
    own, stash, rank = dtype_of(x), DType.of_code(node.int("stash_type")), len(shape_of(x))
    known(shape_of(x)[1], "the number of channels")
    grouped = op.Reshape(cast(op, x, own, stash), [0, groups, -1])
    ones, zeros = (constant(np.full(groups, v, stash.numpy)) for v in (1, 0))
    normal = op.InstanceNormalization(grouped, ones, zeros, epsilon=node.float("epsilon"))
    restored = op.Reshape(cast(op, normal, stash, own), op.Shape(x))
    scale, bias = (op.Reshape(node.operand(i), [-1] + [1] * (rank - 2)) for i in (1, 2))
    return [op.Add(op.Mul(restored, scale), bias)]


def _axes(node: Node) -> list[int]:
    axis = node.int("axis")
    return list(range(axis, 0 if axis < 0 else len(shape_of(node.operand(0)))))
