"""Rows from Upsample and the first Resize to Resize-13 and later.

Upsample and Resize-10 leave the mapping of coordinates open. What runtimes do is x_in = x_out / scale (asymmetric) and,
for nearest, to round down where a size grows and up where it shrinks (ONNX Runtime's "simple" mode, which the node
tests of opset 10 agree with).
"""

from __future__ import annotations

import numpy as np

from ....ir import TensorType, Value, constant
from .step import Step

_SIMPLE = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
_HALF_PIXEL_FOR_NEAREST = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}
_CROP = "tf_crop_and_resize"


def upsample_scales(step: Step) -> None:
    """Upsample-9: `scales` becomes operand 1."""
    scales = step.pop("scales")
    assert isinstance(scales, tuple)
    step.put(1, constant(np.asarray(scales, np.float32)))


def upsample(step: Step) -> None:
    """Upsample gave way to Resize-10; it only enlarges, so nearest rounds down.

    A maximum of one and computed scales says so where they are not known.
    """
    step.node.op = "Resize"
    scales = step.node.operand(1)
    if scales.const is None and scales.op != "Max":
        step.node.set_input(1, step.before.Max(scales, np.asarray(1, np.float32)))
    if step.node.attrs.get("mode", "nearest") == "nearest":
        step.node.attrs["nearest_mode"] = "floor"


def coordinates(step: Step) -> None:
    """Resize-11: scales move to operand 2 and the mapping of coordinates is an attribute."""
    node = step.node
    scales = node.operand(1)
    node.attrs["coordinate_transformation_mode"] = "asymmetric"
    if node.attrs.get("mode", "nearest") == "nearest" and "nearest_mode" not in node.attrs:
        scales = _nearest(step, scales)
    node.set_inputs([node.operand(0), None, scales])


def _nearest(step: Step, scales: Value) -> Value:
    """Sets the rounding; where sizes may both grow and shrink, the growing part is done first by a node of its own."""
    known = scales.const.numpy() if scales.const is not None else None
    if known is not None and bool((known >= 1).all()):
        step.node.attrs["nearest_mode"] = "floor"
        return scales
    step.node.attrs["nearest_mode"] = "ceil"
    if known is not None and bool((known <= 1).all()):
        return scales
    one = np.asarray(1, np.float32)
    larger, smaller = step.before.Max(scales, one), step.before.Min(scales, one)
    step.node.set_input(0, step.before.Resize(step.node.operand(0), None, larger, nearest_mode="floor", **_SIMPLE))
    return smaller


def optional_operands(step: Step) -> None:
    """Resize-13: operands that were empty tensors are missing, and one coordinate mode is gone.

    tf_half_pixel_for_nn maps to (x + 0.5) / scale, half a pixel above half_pixel: rounding that down is rounding
    half_pixel's result half up, and rounding it to nearest, half down, is rounding half_pixel's up.
    """
    node = step.node
    mode = node.attrs.get("coordinate_transformation_mode")
    for index in range(1, len(node.inputs)):
        operand = node.input(index)
        if operand is not None and isinstance(operand.type, TensorType) and operand.type.count == 0:
            node.set_input(index, None)
    if mode != _CROP and len(node.inputs) > 1:
        node.set_input(1, None)
    while node.inputs and node.inputs[-1] is None:
        node.set_inputs(node.inputs[:-1])
    if mode == "tf_half_pixel_for_nn":
        rounding = _HALF_PIXEL_FOR_NEAREST.get(str(node.attrs.get("nearest_mode", "round_prefer_floor")))
        if rounding is None or node.attrs.get("mode", "nearest") != "nearest":
            raise step.refuse("tf_half_pixel_for_nn with this rounding is no longer part of ONNX")
        node.attrs |= {"coordinate_transformation_mode": "half_pixel", "nearest_mode": rounding}
