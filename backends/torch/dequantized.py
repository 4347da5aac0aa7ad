"""A quantized graph as one of floats: weights are the numbers that the integers stand for, activations are not rounded.

What remains is the network that was quantized, with the rounding of its weights: what one trains further, or gives to a
tool that quantizes in its own way.
"""

from __future__ import annotations

import numpy as np

from ...ir import ANY, Model, Node, TensorType, Value, constant
from ...ir.inference import infer
from ..runners import evaluate_node

MOVES = frozenset(["Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Expand"])
"""Operators that give each element another place and nothing else."""


def dequantized(model: Model) -> Model:
    """A copy in which no value passes through integers and constants are floats.

    Operators that compute with integers (QLinearConv, MatMulInteger, ...) stay as they are.
    """
    copy = model.clone()
    infer(copy.graph)
    for graph in list(copy.graph.graphs()):
        for node in graph:
            if node.op != "DequantizeLinear" or node.domain:
                continue
            found = weights(node) or unrounded(node)
            if found is not None:
                node.output.replace_by(found)
        for node in reversed(graph):
            if not any(v.users for v in node.outputs):
                node.erase()
    return copy


def weights(node: Node) -> Value | None:
    """The floats that constant integers stand for."""
    if any(v is not None and v.const is None for v in node.inputs):
        return None
    (array,) = evaluate_node(node)
    return None if array is None else constant(array, node.operand(0).name.removesuffix("_quantized"))


def unrounded(node: Node) -> Value | None:
    """What was quantized in front of a DequantizeLinear, with the same scale and zero point; what only moves the
    integers in between moves the floats."""
    moves: list[Node] = []
    found = node.operand(0)
    while moves_only(found, node.input(2)) and found.node is not None:
        moves.append(found.node)
        found = found.node.operand(0)
    made = found.node
    if made is None or made.op != "QuantizeLinear" or made.domain:
        return None
    x = made.operand(0)
    same = same_constant(made.input(1), node.input(1)) and same_constant(made.input(2), node.input(2))
    if not same or found.is_input or x.type == found.type or (moves and per_axis(node)):
        return None
    for move in reversed(moves):
        move.set_input(0, x)
        if move.op == "Pad":
            assert isinstance(node.output.type, TensorType)
            move.set_input(2, constant(np.zeros((), node.output.type.dtype.numpy)))
        x = move.output
        assert isinstance(x.type, TensorType)
        x.type = TensorType(node.output.type.dtype, x.type.shape) if isinstance(node.output.type, TensorType) else ANY
    return x


def moves_only(value: Value, zero_point: Value | None) -> bool:
    """True for the result of an operator that only moves elements, or fills up with the zero point, for one user."""
    node = value.node
    if node is None or node.domain or value.only_user is None or not isinstance(value.type, TensorType):
        return False
    if node.op == "Pad":
        plain = node.str("mode") == "constant" and node.input(2) is not None
        return plain and same_constant(node.input(2), zero_point)
    return node.op in MOVES


def per_axis(node: Node) -> bool:
    scale = node.operand(1)
    return scale.const is None or scale.tensor.count != 1


def same_constant(a: Value | None, b: Value | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.const is not None and b.const is not None and a.const.digest == b.const.digest)
