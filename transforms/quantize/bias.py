"""Bias correction: rounding a weight moves the mean of a layer's result, and its bias takes that back.

The mean error of a result is the error of the weight times the mean of the layer's input (Nagel et al., "Data-Free
Quantization through Weight Equalization and Bias Correction", 2019, section 4.2, with means from calibration data).
Fast: each layer is corrected by itself, for the inputs that it has in float; padding counts as the mean. In turn: the
means of results are measured in the quantized model, layer after layer, so that a bias also takes back what the layers
before it have left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...backends.runners import Samples
from ...ir import Array, Model, Node, Tensor, constant
from ..base import Progress
from ..samples import limited
from ..walk import Walk
from .layers import Layer
from .observers import Statistic, not_finite
from .prepare import row
from .scheme import Affine

Means = NDArray[np.float64]
"""One number per input channel."""


class ChannelMeans(Statistic):
    """The mean per entry of `axis`, from sums in double precision."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.sums: Means = np.zeros(1)
        self.count = 0

    def update(self, array: Array) -> None:
        if array.size:
            others = tuple(a for a in range(array.ndim) if a != self.axis % array.ndim)
            sums = array.sum(others, dtype=np.float64)
            if not np.isfinite(sums).all():
                raise not_finite(array)
            self.sums = self.sums + sums
            self.count += array.size // len(sums)

    def merge(self, other: Statistic) -> None:
        if not isinstance(other, ChannelMeans) or other.axis != self.axis:
            raise TypeError("only means over the same axis can be merged")
        self.sums, self.count = self.sums + other.sums, self.count + other.count

    def means(self) -> Means:
        """Zero where nothing was seen."""
        return self.sums / max(self.count, 1)


def means_of(layer: Layer) -> ChannelMeans:
    """What observes the channels that a layer reads, or those that it makes: they are on the same axis."""
    return ChannelMeans(1 if layer.node.op == "Conv" else -1)


def correct_in_turn(
    model: Model,
    layers: Mapping[Node, Layer],
    wanted: Mapping[Node, Means],
    samples: Samples,
    limit: int,
    progress: Progress,
) -> None:
    """Shifts the int32 biases of quantized layers, one after another, until each result has the mean that it has in
    float.

    `wanted` are those means. Every layer must have a bias. One walk through the model: what is alive between two layers
    waits on disk.
    """
    walk = Walk(model, lambda: limited(samples, limit))
    order = [node for node in model.graph if node in layers]
    for done, node in enumerate(order, 1):
        weights, bias = node.operand(1).node, node.operand(2).node
        assert weights is not None, "a quantized layer reads restored integers"
        assert bias is not None, "every layer has a bias by now"
        seen = means_of(layers[node])
        for found in walk.step([node.output], weights):
            seen.update(found[node.output])
        shift_bias(bias, seen.means() - wanted[node])
        progress("correcting biases", done, len(order))


def shift_bias(restored: Node, error: Means) -> None:
    """Takes `error` from the integers behind a DequantizeLinear, as far as int32 reaches."""
    integers, scale = restored.operand(0), restored.operand(1).tensor.numpy().astype(np.float64)
    moved = np.rint(integers.tensor.numpy() - error / scale)
    reach = np.iinfo(np.int32)
    made = constant(np.clip(moved, reach.min, reach.max).astype(np.int32), integers.name)
    restored.set_input(0, made)


def corrected(layer: Layer, weights: Affine, means: Means) -> Layer:
    """The layer with a bias, its own or a new one, that takes back the mean error of its rounded weight."""
    error = mean_error(layer, weights, means)
    before = np.zeros(layer.channels) if layer.bias is None else row(layer.bias.tensor, layer.channels).numpy()
    name = layer.bias.name if layer.bias is not None else f"{layer.weight.name}_bias"
    return replace(layer, bias=constant((before - error).astype(np.float32), name))


def mean_error(layer: Layer, weights: Affine, means: Means) -> Means:
    """Per output channel, how much larger the result is on average with the rounded weight."""
    difference = restored(weights, layer.weight.tensor) - layer.weight.tensor.numpy().astype(np.float64)
    if layer.node.op != "Conv":
        return means @ difference if layer.axis == 1 else difference @ means
    summed = difference.sum(tuple(range(2, difference.ndim)))
    groups = layer.node.int("group")
    inputs = np.broadcast_to(means, (summed.shape[1] * groups,)).reshape(groups, -1)
    return np.einsum("goi,gi->go", summed.reshape(groups, -1, summed.shape[1]), inputs).reshape(-1)


def restored(weights: Affine, tensor: Tensor) -> NDArray[np.float64]:
    """The weight as the integers stand for it."""
    scale = weights.scale.astype(np.float64)
    if scale.ndim:
        scale = scale.reshape([-1 if a == weights.axis else 1 for a in range(tensor.rank)])
    return weights.apply(tensor).numpy() * scale
