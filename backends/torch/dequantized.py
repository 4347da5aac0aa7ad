"""A quantized graph as one of floats: weights are the numbers that the integers stand for, activations are not rounded.

What remains is the network that was quantized, with the rounding of its weights: what one trains further, or gives to a
tool that quantizes in its own way.
"""

from __future__ import annotations

from ...ir import Model, Node, Value, constant
from ...ir.inference import infer
from ..runners import evaluate_node


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
    return None if array is None else constant(array, node.operand(0).name)


def unrounded(node: Node) -> Value | None:
    """What was quantized just in front of a DequantizeLinear, with the same scale and zero point."""
    made = node.operand(0).node
    if made is None or made.op != "QuantizeLinear" or made.domain:
        return None
    x, found = made.operand(0), node.operand(0)
    same = same_constant(made.input(1), node.input(1)) and same_constant(made.input(2), node.input(2))
    return x if same and not found.is_input and x.type != found.type else None


def same_constant(a: Value | None, b: Value | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.const is not None and b.const is not None and a.const.digest == b.const.digest)
