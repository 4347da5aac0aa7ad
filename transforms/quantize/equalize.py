"""Cross-layer equalization: what two layers with a positively homogeneous activation between them share out anew.

f(k x) = k f(x) for k > 0, so the output channels of a layer may be divided by k where all layers that use the result
multiply their weights by it. Channel by channel k = sqrt(r1 / r2) gives both sides the same largest weight, which makes
one scale per tensor fit all channels (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
Correction", 2019, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Builder, Node, Value
from ...ir.rewrite import Result, Rule, decline, rule
from ..rule_pass import RulePass
from ..simplify.algebra.before import BELOW, carry_out, changes_below
from ..simplify.algebra.channels import known, scaled
from ..simplify.algebra.linear import LINEAR, Affine, Change, named
from .layers import Layer, bias_adder, layer_of
from .prepare import row

BALANCED = 1.1
"""Factors nearer to 1 than this change nothing that matters; it also ends the back and forth along a chain."""

LARGEST = 2.0**20
"""A channel that needs more is as good as dead and left alone: its bias would grow with it, and with that the range of
the activations."""

Numbers = NDArray[np.float64]


@rule("Conv", "Gemm", "MatMul", "Add")
def equalize_channels(op: Builder, node: Node) -> Result:
    """The largest weights of a layer's output channels and of the input channels below it become equal."""
    product = product_of(node)
    layer = layer_of(product) if product is not None else "it adds no bias to a product"
    if isinstance(layer, str):
        return decline(layer)
    if (layer.adder or layer.node) is not node:
        return decline("the Add of its bias comes first")
    below = list(consumers(node.output))
    if not below:
        return decline("nothing below it has weights")
    k = factors(layer, below)
    if isinstance(k, str):
        return decline(k)
    value = node.output
    assert value.rank is not None, "a layer's rank is known"
    channels = 1 if layer.node.op == "Conv" else value.rank - 1
    k = k.reshape([-1 if axis == channels else 1 for axis in range(value.rank)])
    change = LINEAR[layer.node.op](layer.node, Affine(1 / k, None))
    if isinstance(change, str):
        return decline(change)
    made = remade(op, layer, change, 1 / k)
    changes = changes_below(value, made, Affine(k, None))
    if isinstance(changes, str):
        return decline(changes)
    carry_out(op, changes)
    return made


def product_of(node: Node) -> Node | None:
    """The MatMul whose bias an Add adds, or None where it adds something else; another node is its own."""
    if node.op != "Add":
        return node
    makers = [v.node for v in node.inputs if v is not None and v.op == "MatMul"]
    return next((m for m in makers if m is not None and bias_adder(m) is node), None)


def remade(op: Builder, layer: Layer, change: Change, by: Numbers) -> Value:
    """The layer with changed operands, and the Add of its bias times `by`."""
    made = op.node(layer.node.op, change.inputs, change.attrs or layer.node.attrs)
    assert isinstance(made, Node)
    if layer.adder is None or layer.bias is None:
        return made.output
    return op.Add(made.output, named(scaled(row(layer.bias.tensor, layer.channels), by.reshape(-1)), layer.bias))


def consumers(value: Value) -> Iterator[Node]:
    """The nodes with weights that use a value, directly or behind activations and pooling."""
    for user in value.users:
        if user.op in WEIGHTED:
            yield user
        elif user.op in BELOW and not user.domain:
            yield from consumers(user.output)


def factors(layer: Layer, below: Sequence[Node]) -> Numbers | str:
    """By what each channel is divided above and multiplied below; or why nothing is to be done."""
    largest = np.zeros(layer.channels)
    for node in below:
        weight = known(node.operand(1))
        found = None if weight is None else input_amplitude(node, weight.numpy())
        if found is None or found.shape not in ((1,), largest.shape):
            return "a layer below has no weight per channel"
        largest = np.maximum(largest, found)
    alive = (layer.amplitude > 0) & (largest > 0) & np.isfinite(largest)
    k = np.sqrt(np.where(alive, layer.amplitude, 1.0) / np.where(alive, largest, 1.0))
    uneven = np.maximum(k, 1 / k)
    k[uneven > LARGEST] = 1.0
    return k if (uneven[uneven <= LARGEST] > BALANCED).any() else "its channels are balanced"


def input_amplitude(node: Node, weight: Array) -> Numbers | None:
    """max|w| per input channel; None for a form that it is not known for."""
    size = np.abs(weight.astype(np.float64))
    if node.op == "Conv":
        groups = node.int("group")
        size = size.reshape(groups, size.shape[0] // groups, size.shape[1], -1)
        return size.max((1, 3)).reshape(-1)
    if node.op == "ConvTranspose":
        return size.reshape(size.shape[0], -1).max(1)
    if size.ndim != 2 or (node.op == "Gemm" and node.int("transA")):
        return None
    return size.max(0 if node.op == "Gemm" and node.int("transB") else 1)


WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Equalize(RulePass):
    """Cross-layer equalization: the same function in float, with weights that lose less in int8.

    For per-tensor scales (`quantize(per_channel=False)`) and depthwise networks. Relu, LeakyRelu and pooling may stand
    between the layers; a Clip is not positively homogeneous.
    """

    name: ClassVar[str] = "equalize"
    rules: ClassVar[tuple[Rule, ...]] = (equalize_channels,)
