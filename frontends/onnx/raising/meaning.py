"""Rows where the meaning of an operator changed and the old one has to be spelled out."""

from __future__ import annotations

import math

import numpy as np

from ....ir import ANY, Attribute, DType, Graph, Node, TensorType, Type, Value, constant
from .step import Step

_GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def softmax_of_rows(step: Step) -> None:
    """Softmax-13, LogSoftmax-13, Hardmax-13: along one axis; before, over all axes from `axis` (default 1) on,
    flattened.

    The two are the same when at most one of those axes is longer than 1; else the operand is flattened to two axes
    around the node.
    """
    node = step.node
    axis, x = node.int("axis", 1) if "axis" in node.attrs else 1, node.operand(0)
    if x.shape is not None and -len(x.shape) <= axis < len(x.shape):
        axis %= len(x.shape)
        long = [i for i in range(axis, len(x.shape)) if x.shape[i] != 1]
        if len(long) <= 1:
            node.attrs["axis"] = long[0] if long else len(x.shape) - 1
            return
    elif axis == -1:
        node.attrs["axis"] = -1
        return
    static = x.type.static_shape if isinstance(x.type, TensorType) else None
    if static is not None and all(static):
        back = {"shape": step.integers(static), "allowzero": 0}
    else:
        back = {"shape": step.before.Shape(x), "allowzero": 1}
    node.set_input(0, step.before.Flatten(x, axis=axis))
    node.attrs["axis"] = -1
    shape = back.pop("shape")
    step.replace(0, step.after.Reshape(node.output, shape, **{k: v for k, v in back.items() if v}))


def batch_normalization_spatial(step: Step) -> None:
    """BatchNormalization-9: `spatial` is gone; statistics are per channel."""
    if step.pop("spatial") == 0:
        raise step.refuse("spatial=0 keeps statistics per element, which no later opset can express")


def batch_normalization_mode(step: Step) -> None:
    """BatchNormalization-14: training is an attribute; before, having more outputs than one meant training."""
    node = step.node
    if len(node.outputs) == 1:
        return
    if any(step.used[3:]):
        raise step.refuse("the saved statistics of training are used, and later opsets do not give them")
    node.attrs["training_mode"] = 1
    node.outputs = node.outputs[:3]


def grid_sample_modes(step: Step) -> None:
    """GridSample-20: the modes are named for any number of axes."""
    mode = step.node.attrs.get("mode")
    if isinstance(mode, str):
        step.node.attrs["mode"] = _GRID_MODES.get(mode, mode)


def roi_align_pixels(step: Step) -> None:
    """RoiAlign-16: half_pixel is the default; before, pixels were not shifted."""
    step.node.attrs.setdefault("coordinate_transformation_mode", "output_half_pixel")


def group_normalization_per_channel(step: Step) -> None:
    """GroupNormalization-21: scale and bias are per channel; before, per group."""
    node = step.node
    x, groups = node.operand(0), node.int("num_groups")
    channels = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise step.refuse(f"the number of channels ({channels}) is not known to be a multiple of num_groups ({groups})")
    group_of = np.repeat(np.arange(groups, dtype=np.int64), channels // groups)
    for index in (1, 2):
        node.set_input(index, step.before.Gather(node.operand(index), constant(group_of), axis=0))
    if isinstance(x.type, TensorType) and x.type.dtype is DType.F64:
        node.attrs["stash_type"] = DType.F64.code


def scan_batch(step: Step) -> None:
    """Scan-9 has no batch axis: a scan over the batch whose body scans the sequence of one element."""
    node = step.node
    if node.input(0) is not None:
        raise step.refuse("Scan-8 with sequence_lens has no later form")
    operands = node.inputs[1 : len(node.inputs) - node.captures]
    element = [Value(v.name, _without_first_axis(v.type)) for v in operands if v is not None]
    captured = [Value(v.name, v.type) for v in node.captured if v is not None]
    if len(element) != len(operands):
        raise step.refuse("one of its operands is missing")
    directions = step.pop("directions")
    attrs: dict[str, Attribute] = {"num_scan_inputs": node.int("num_scan_inputs")}
    outer = Graph(f"{node.regions['body'].name}/batch", [*element, *captured])
    inner = Node(
        "Scan",
        outer.inputs,
        attrs if directions is None else attrs | {"scan_input_directions": directions},
        len(node.outputs),
        regions=node.regions,
        captures=node.captures,
        loc=node.loc,
    )
    outer.insert(inner)
    outer.set_outputs(inner.outputs, [f"{v.name}/element" for v in node.outputs])
    outer.parent = node
    node.regions = {"body": outer}
    node.attrs["num_scan_inputs"] = len(operands)
    node.set_inputs(node.inputs[1:])


def _without_first_axis(type_: Type) -> Type:
    if isinstance(type_, TensorType) and type_.shape:
        return type_.with_shape(type_.shape[1:])
    return ANY


def scatter(step: Step) -> None:
    """Scatter was renamed to ScatterElements-11."""
    step.node.op = "ScatterElements"


def broadcast_from_axis(step: Step) -> None:
    """Add-7 and the like: numpy's broadcasting; before, the second operand's axes started at `axis` of the first."""
    node = step.node
    broadcast, axis = step.pop("broadcast"), step.pop("axis")
    if not broadcast or not isinstance(axis, int):
        return
    a, b = node.operand(0), node.operand(1)
    if a.rank is None or b.rank is None:
        raise step.refuse("its operands are aligned by `axis`, and their ranks are not known")
    trailing = a.rank - axis % a.rank - b.rank
    if trailing > 0:
        node.set_input(1, step.before.Unsqueeze(b, list(range(b.rank, b.rank + trailing))))


def slope_per_channel(step: Step) -> None:
    """PRelu-7: numpy's broadcasting; before, a vector of slopes was per channel (axis 1)."""
    x, slope = step.node.operand(0), step.node.operand(1)
    if slope.shape == (1,):
        return
    if x.rank is None or slope.rank != 1:
        raise step.refuse("its slopes are per channel, and the rank of the data is not known")
    if x.rank > 2:
        step.node.set_input(1, step.before.Unsqueeze(slope, list(range(1, x.rank - 1))))


def inference_only(step: Step) -> None:
    """BatchNormalization-7 and Dropout-7: `is_test` is gone. Not being set meant training."""
    if not step.pop("is_test") and (step.node.op == "Dropout" or len(step.node.outputs) > 1):
        raise step.refuse("is_test=0 makes it a training operator")


def cast_code(step: Step) -> None:
    """Cast-6: the element type is a number; before, its name."""
    name = step.node.attrs.get("to")
    codes = {"FLOAT": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "STRING": 8, "BOOL": 9,
             "FLOAT16": 10, "DOUBLE": 11, "UINT32": 12, "UINT64": 13}  # fmt: skip
    if not isinstance(name, str) or name.upper() not in codes:
        raise step.refuse(f"the element type is {name!r}")
    step.node.attrs["to"] = codes[name.upper()]


def reshape_operand(step: Step) -> None:
    """Reshape-5: `shape` becomes operand 1."""
    shape = step.pop("shape")
    step.pop("consumed_inputs")
    step.put(1, step.integers([int(d) for d in shape] if isinstance(shape, tuple) else []))  # pyright: ignore


def upsample_sizes(step: Step) -> None:
    """Upsample-7: one scale per axis; before, one for height and one for width."""
    height, width = step.pop("height_scale"), step.pop("width_scale")
    assert isinstance(height, float)
    assert isinstance(width, float)
    step.node.attrs["scales"] = (1.0, 1.0, height, width)
    if step.node.attrs.get("mode") == "bilinear":
        step.node.attrs["mode"] = "linear"


def integer_p(step: Step) -> None:
    """LpPool-2 and GlobalLpPool-2: the norm's order is an integer."""
    p = step.node.attrs.get("p", 2.0)
    if not isinstance(p, float) or not math.isclose(p, round(p)):
        raise step.refuse(f"its order {p} is not an integer")
    step.node.attrs["p"] = round(p)
