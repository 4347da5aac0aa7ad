"""Rows for attributes that became operands, and for values that became explicit."""

from __future__ import annotations

import numpy as np

from ....ir import constant
from .step import Rule, Step, ints


def axes_operand(*, required: bool = False) -> Rule:
    """`axes` becomes operand 1 (Squeeze-13, Unsqueeze-13, ReduceSum-13, Reduce*-18); an empty list meant none."""

    def rule(step: Step) -> None:
        axes = ints(step.pop("axes"))
        if axes or required:
            step.put(1, step.integers(axes))

    return rule


def split_sizes(step: Step) -> None:
    """Split-13: `split` becomes operand 1."""
    sizes = ints(step.pop("split"))
    if sizes:
        step.put(1, step.integers(sizes))


def split_count(step: Step) -> None:
    """Split-18: equal parts are asked for by `num_outputs`."""
    if step.node.input(1) is None:
        step.node.attrs["num_outputs"] = len(step.node.outputs)


def pad(step: Step) -> None:
    """Pad-11: `pads` and `value` become operands 1 and 2; without a value it is zero."""
    step.put(1, step.integers(ints(step.pop("pads"))))
    value = step.pop("value")
    if isinstance(value, float) and value and step.node.attrs.get("mode", "constant") == "constant":
        step.put(2, step.number_like(value, step.node.operand(0)))


def clip(step: Step) -> None:
    """Clip-11: `min` and `max` become operands 1 and 2; a missing bound is the element type's."""
    for index, name in enumerate(("min", "max"), 1):
        bound = step.pop(name)
        if isinstance(bound, float):
            step.put(index, step.number_like(bound, step.node.operand(0)))


def slices(step: Step) -> None:
    """Slice-10: `starts`, `ends` and `axes` become operands 1 to 3."""
    for index, name in enumerate(("starts", "ends"), 1):
        step.put(index, step.integers(ints(step.pop(name))))
    axes = ints(step.pop("axes"))
    if axes:
        step.put(3, step.integers(axes))


def top_k(step: Step) -> None:
    """TopK-10: `k` becomes operand 1."""
    k = step.pop("k")
    assert isinstance(k, int)
    step.put(1, step.integers([k]))


def dropout_ratio(step: Step) -> None:
    """Dropout-12: `ratio` becomes operand 1; the operator stays in inference mode, which was the only one."""
    ratio = step.pop("ratio")
    if isinstance(ratio, float):
        step.put(1, constant(np.asarray(ratio, np.float32)))


def dropout_mask(step: Step) -> None:
    """Dropout-10: the mask is boolean (all true, as nothing is dropped); it had the type of the data before."""
    if len(step.node.outputs) > 1 and step.used[1]:
        step.replace(1, step.after.CastLike(step.node.outputs[1], step.node.operand(0)))


def dft_axis(step: Step) -> None:
    """DFT-20: `axis` becomes operand 2; the default was 1 and is -2 now."""
    axis = step.pop("axis")
    step.put(2, constant(np.asarray(1 if axis is None else axis, np.int64)))
