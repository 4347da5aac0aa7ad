"""Dynamic int8 for GRU: what it does to its inputs is one product for all steps at once, which runs in int8; the rest
stays float, in a Scan.

ONNX Runtime has no int8 kernel for GRU. A step of the Scan takes some ten microseconds longer than one of the float
kernel, so that only products of many numbers pay.
"""

from __future__ import annotations

import numpy as np

from ...ir import Builder, DType, Graph, Node, TensorType, Value, constant, fuse
from ...ir.inference import infer
from ...ir.tensors.lazy import reshape, take, transpose
from ..base import Rounded
from ..cost import Sizes, static_shape
from . import dynamic, scheme
from .alone import scheme_text, weight_sqnr
from .layers import Layer, is_f32, layer_of
from .scheme import Affine

LEAST_PRODUCT = 200_000
"""Rows of a step times inputs times hidden values from which on the product pays: measured with ONNX Runtime 1.31 on
one core with AVX-512 VNNI, 0.64 of the speed with 65 thousand, 1.18 with 262, 1.28 with 524, 1.56 with 4.2 million."""

DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}
"""Direction -> for each of its passes, whether it goes from the last step to the first."""

PLAIN = ("Sigmoid", "Tanh")


def why_not(node: Node, sizes: Sizes) -> str:
    """Why a GRU is left as it is; '' where it is rewritten."""
    x, weights, bias = node.operand(0), (node.operand(1), node.operand(2)), node.input(3)
    activations = node.attr("activations")
    if node.int("layout", 0):
        return "its batch comes first: simplify first"
    if any(v.const is None for v in (*weights, *([bias] if bias is not None else []))):
        return "it has no constant weight"
    if not all(is_f32(v) for v in (x, *weights)):
        return "only f32 is quantized"
    if not all(np.isfinite(v.tensor.numpy()).all() for v in weights):
        return "its weight holds NaN or infinity"
    if not node.int("linear_before_reset", 0):
        return "it resets the state before the product with it, which takes two products in each step"
    if node.input(4) is not None:
        return "its sequences have lengths of their own"
    if node.attr("clip") is not None or (
        isinstance(activations, tuple) and activations != PLAIN * len(DIRECTIONS[node.str("direction")])
    ):
        return "it clips or has other activations than Sigmoid and Tanh"
    shape, hidden = static_shape(x, sizes), node.operand(2).tensor.shape[2]
    product = shape[1] * shape[2] * hidden if shape is not None and len(shape) == 3 else 0
    if product < LEAST_PRODUCT:
        return (
            f"int8 would not pay here: a step multiplies {product} numbers, and less than {LEAST_PRODUCT} take longer"
        )
    return ""


def insert(graph: Graph, node: Node, largest: int, per_channel: bool) -> tuple[list[Value], Rounded]:
    """Rewrites a GRU; gives its results, and how what goes into the product is rounded."""
    op = Builder(graph, node, loc=fuse(node.loc, [], "quantize"), infer=infer(graph).node)
    passes = DIRECTIONS[node.str("direction")]
    products = [op.MatMul(node.operand(0), _matrix(node.operand(1), place)) for place in range(len(passes))]
    ends = [_recurrence(op, node, place, products[place], backwards) for place, backwards in enumerate(passes)]
    found = [
        values[0] if len(values) == 1 else op.Concat(*values, axis=axis)
        for axis, values in ((1, [steps for steps, _ in ends]), (0, [last for _, last in ends]))
    ]
    for old, new in zip(node.outputs, found, strict=False):
        new.type, new.name = old.type, old.name
        old.replace_by(new)
    node.erase()
    made: dict[Node, Layer] = {}
    scales: dict[Node, Affine] = {}
    for product in products:
        assert product.node is not None, "its input is computed"
        layer = layer_of(product.node)
        assert isinstance(layer, Layer), layer
        size = layer.amplitude if per_channel else np.asarray(layer.amplitude.max())
        made[layer.node], scales[layer.node] = layer, scheme.weight(size, layer.axis, 1.0, None, largest)
    lost = [weight_sqnr(layer, scales[n]) for n, layer in made.items()]
    row = Rounded(
        scheme_text(None, next(iter(scales.values()))),
        weight_sqnr_db=min((s for s in lost if s is not None), default=None),
    )
    dynamic.insert(graph, made, scales)
    return found, row


def _recurrence(op: Builder, node: Node, place: int, product: Value, backwards: int) -> tuple[Value, Value]:
    """All states and the last one of a direction, with the axis of directions."""
    hidden = node.operand(2).tensor.shape[2]
    outside, inside = _biases(node.input(3), place, hidden)
    rows = op.Add(product, outside)
    start = _start(op, node, place, hidden)
    assert rows.shape is not None, "a GRU reads stacks of rows"
    batch = rows.shape[1]
    entry = [
        Value("state", TensorType(DType.F32, (batch, hidden))),
        Value("row", TensorType(DType.F32, (batch, 3 * hidden))),
    ]
    body = _step(Graph("step", entry), _matrix(node.operand(2), place), inside)
    attrs = {"num_scan_inputs": 1, "scan_input_directions": (backwards,), "scan_output_directions": (backwards,)}
    scan = op.node("Scan", [start, rows], attrs, outputs=2, regions={"body": body})
    assert isinstance(scan, Node), "its input is computed"
    return op.Unsqueeze(scan.outputs[1], [1]), op.Unsqueeze(scan.outputs[0], [0])


def _step(body: Graph, weight: Value, bias: Value | None) -> Graph:
    """One step: h' = n + z (h - n) with n = tanh(row_n + r (h R_n + bias)), as in ONNX GRU with linear_before_reset."""
    state, row = body.inputs
    op = Builder(body, infer=infer(body).node)
    update, reset, new = op.Split(row, axis=-1, num_outputs=3, outputs=3)
    own_update, own_reset, own_new = op.Split(op.MatMul(state, weight), axis=-1, num_outputs=3, outputs=3)
    gate = op.Sigmoid(op.Add(update, own_update))
    kept = op.Mul(op.Sigmoid(op.Add(reset, own_reset)), own_new if bias is None else op.Add(own_new, bias))
    made = op.Tanh(op.Add(new, kept))
    after = op.Add(made, op.Mul(gate, op.Sub(state, made)))
    body.set_outputs([after, op.Identity(after)], ["next", "step"])
    return body


def _start(op: Builder, node: Node, place: int, hidden: int) -> Value:
    """The first state of a direction."""
    given = node.input(5)
    if given is not None:
        return op.Squeeze(op.Slice(given, [place], [place + 1], [0]), [0])
    size = op.Concat(op.Shape(node.operand(0), start=1, end=2), np.array([hidden]), axis=0)
    return op.Expand(constant(np.zeros((), np.float32)), size)


def _biases(bias: Value | None, place: int, hidden: int) -> tuple[Value, Value | None]:
    """What is added to the product outside, and to that of the state inside before the reset."""
    if bias is None:
        return constant(np.zeros(3 * hidden, np.float32)), None
    own = bias.tensor.numpy()[place]
    outside = own[: 3 * hidden] + np.concatenate([own[3 * hidden : 5 * hidden], np.zeros(hidden, np.float32)])
    return constant(outside.astype(np.float32), bias.name), constant(own[5 * hidden :].copy(), bias.name)


def _matrix(weight: Value, place: int) -> Value:
    """[directions, 3 * hidden, inputs] as [inputs, 3 * hidden] of one direction."""
    rows = reshape(take(weight.tensor, [place], 0), weight.tensor.shape[1:])
    return constant(transpose(rows, [1, 0]), weight.name)
