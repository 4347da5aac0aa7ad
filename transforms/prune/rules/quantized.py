"""Quantize and dequantize: a scale per channel follows its axis."""

from __future__ import annotations

import numpy as np

from ....ir import Node, Value
from ..axes import AxisMap, Frozen, shape
from .elementwise import same
from .row import Rule


def scaled(node: Node, axes: AxisMap) -> None:
    """Ties the scale and the zero point of each channel to the axis (QuantizeLinear-25, DequantizeLinear-25)."""
    x = node.operand(0)
    if node.int("block_size", 0):
        raise Frozen("it has a scale for each block of entries")
    for value in node.inputs:
        if value is not None and value.is_const:
            axes.adopt(value)
    for vector in (node.operand(1), node.input(2)):
        if vector is not None and len(shape(vector)) == 1 and shape(vector)[0] != 1:
            axes.tie(axes[x, node.int("axis")], axes[vector, 0])
    same(x, node, axes)


def quantize(node: Node, axes: AxisMap) -> None:
    """A zero scale would divide, so scales keep their numbers in the masked graph."""
    scaled(node, axes)
    axes.unmasked.add(node.operand(1))


def dequantize(node: Node, axes: AxisMap) -> None:
    """(x - zero point) * scale: a stored weight is masked with zeros, which have to mean zero."""
    x = node.operand(0)
    if x.is_const and not symmetric(node.input(2)):
        raise Frozen("its zero point is not zero, so that zeros of the stored numbers would not mean zero")
    scaled(node, axes)
    axes.hush(node.output, x.is_const)


def symmetric(zero_point: Value | None) -> bool:
    return zero_point is None or (zero_point.const is not None and not np.any(zero_point.const.numpy()))


ROWS: dict[str, Rule] = {"QuantizeLinear": Rule(quantize), "DequantizeLinear": Rule(dequantize)}
