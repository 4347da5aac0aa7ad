"""How the spelling of operators changed: a row for a version of an operator says how it is written one version earlier.

A form is what will be written of a node: operands and attributes. A row edits a form of its version into one of the
version before, or raises Inexpressible. What a row cannot do by respelling one node is a matter of `decompositions`.
"""

from __future__ import annotations

import math

import numpy as np

from ....ir import DType, TensorType, constant
from ....ir.dims import mod
from .early import EARLY_FORMS, EARLY_UNCHANGED
from .form import (
    Form,
    FormRule,
    Inexpressible,
    all_of,
    all_ones,
    axes_attribute,
    equal_to,
    only,
    with_operand,
    without,
    without_operand,
)
from .groups import without_precision


def split(form: Form) -> None:
    """Without sizes the parts had to be equal (Split-18)."""
    parts = form.attrs.pop("num_outputs", None)
    if not isinstance(parts, int):
        return
    axis, shape = form.node.int("axis", 0), form.node.operand(0).shape
    size = shape[axis] if shape is not None else None
    if isinstance(size, int) and size % parts:
        part = math.ceil(size / parts)
        sizes = [max(0, min(part, size - i * part)) for i in range(parts)]
        form.operands = [form.operands[0], constant(np.array(sizes, np.int64))]
    elif size is None or mod(size, parts) != 0:
        raise Inexpressible(f"the size of axis {axis} is not known to be a multiple of num_outputs={parts}")


def pad(form: Form) -> None:
    """All axes were padded (Pad-18)."""
    axes = form.integers(3, "axes")
    del form.operands[3:]
    if axes is None:
        return
    pads, rank = form.integers(1, "pads"), form.rank()
    assert pads is not None
    full = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        full[axis % rank], full[rank + axis % rank] = pads[i], pads[len(axes) + i]
    form.operands[1] = constant(np.array(full, np.int64))


def resize(form: Form) -> None:
    """All axes were resized (Resize-18)."""
    without("keep_aspect_ratio_policy", unless=equal_to("stretch"))(form)
    without("antialias", unless=equal_to(0))(form)
    axes = form.attrs.pop("axes", None)
    if axes is None:
        return
    assert isinstance(axes, tuple)
    rank = form.rank()
    places = [int(a) % rank for a in axes]  # pyright: ignore[reportArgumentType]
    if form.operand(1) is not None and form.node.str("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Inexpressible("a region of interest of some axes alone does not exist there")
    if sizes := form.integers(3, "sizes"):
        shape = form.node.operand(0).shape
        assert shape is not None
        full = [sizes[places.index(i)] if i in places else d for i, d in enumerate(shape)]
        if not all(isinstance(d, int) for d in full):
            raise Inexpressible("sizes of some axes alone do not exist there")
        form.operands[3] = constant(np.array(full, np.int64))
    scales = form.operand(2)
    if scales is not None and not sizes:
        if scales.const is None:
            raise Inexpressible("its scales are computed")
        numbers = np.ones(rank, np.float32)
        numbers[places] = scales.const.numpy()
        form.operands[2] = constant(numbers)


def reshape(form: Form) -> None:
    """A 0 in the shape always meant to copy the size (Reshape-14)."""
    form.attrs.pop("allowzero", None)  # what it may mean has a decomposition


def dft(form: Form) -> None:
    """The axis was an attribute and 1 by default (DFT-20)."""
    axis = form.integers(2, "axis")
    form.attrs["axis"] = (axis[0] if axis else -2) % form.rank()
    del form.operands[2:]


def grid_sample(form: Form) -> None:
    """Modes were named after their planar case, and only planar grids were known (GridSample-20)."""
    if form.rank() != 4:
        raise Inexpressible("only tensors of rank 4 can be sampled there")
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    form.attrs["mode"] = names[form.node.str("mode")]


def quantize_linear(form: Form) -> None:
    """The output's type was that of the zero point, which stands for it where it is missing (QuantizeLinear-21)."""
    without("block_size", unless=equal_to(0))(form)
    code = form.attrs.pop("output_dtype", 0)
    if not code or form.operand(2) is not None:
        return
    assert isinstance(code, int)
    scale = form.operands[1]
    shape = scale.type.static_shape if scale is not None and isinstance(scale.type, TensorType) else None
    if shape is None:
        raise Inexpressible("it has no zero point, and the shape of its scale is not known")
    dtype = DType.of_code(code)
    form.operands = [*form.operands[:2], constant(np.zeros(shape, dtype.numpy))]


def dequantize_linear(form: Form) -> None:
    """The output's type was that of the scale (DequantizeLinear-23)."""
    code, scale = form.attrs.pop("output_dtype", 0), form.node.operand(1).type
    if code and (not isinstance(scale, TensorType) or scale.dtype.code != code):
        raise Inexpressible("an output type other than the scale's does not exist there")


def quantize_precision(form: Form) -> None:
    """Division had the precision of the scale (QuantizeLinear-23)."""
    code, scale = form.attrs.pop("precision", 0), form.node.operand(1).type
    if code and (not isinstance(scale, TensorType) or scale.dtype.code != code):
        raise Inexpressible("a precision other than the scale's does not exist there")


REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip

FORMS: dict[tuple[str, int], FormRule] = {
    **EARLY_FORMS,
    ("Attention", 24): without_operand(6, "nonpad_kv_seqlen"),
    ("Attention", 25): without("left_window_size", "right_window_size", unless=equal_to(-1)),
    ("AveragePool", 19): without("dilations", unless=all_ones),
    ("BatchNormalization", 14): without("training_mode", unless=equal_to(0)),
    # Both attributes matter for 8-bit floats alone, which the versions without them do not have.
    ("Cast", 19): without("saturate"),
    ("Cast", 24): without("round_mode"),
    ("CastLike", 19): without("saturate"),
    ("CastLike", 24): without("round_mode"),
    ("DFT", 20): dft,
    ("DequantizeLinear", 21): without("block_size", unless=equal_to(0)),
    ("DequantizeLinear", 23): dequantize_linear,
    ("GRU", 14): without("layout", unless=equal_to(0)),
    ("GridSample", 20): grid_sample,
    ("GroupNormalization", 21): without_precision,
    ("LSTM", 14): without("layout", unless=equal_to(0)),
    ("LpPool", 18): all_of(without("dilations", unless=all_ones), without("ceil_mode", unless=equal_to(0))),
    ("OptionalHasElement", 18): with_operand(0, "its operand"),
    ("Pad", 18): pad,
    ("Pad", 19): only("mode", "constant", "reflect", "edge"),
    ("QuantizeLinear", 19): without("saturate"),
    ("QuantizeLinear", 21): quantize_linear,
    ("QuantizeLinear", 23): quantize_precision,
    ("RNN", 14): without("layout", unless=equal_to(0)),
    ("Reshape", 14): reshape,
    ("Resize", 18): resize,
    ("Resize", 19): only(
        "coordinate_transformation_mode",
        "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
    ),
    ("RoiAlign", 16): without("coordinate_transformation_mode", unless=equal_to("output_half_pixel")),
    ("ScatterElements", 16): without("reduction", unless=equal_to("none")),
    ("ScatterElements", 18): only("reduction", "none", "add", "mul"),
    ("ScatterND", 16): without("reduction", unless=equal_to("none")),
    ("ScatterND", 18): only("reduction", "none", "add", "mul"),
    ("Shape", 15): all_of(without("start", unless=equal_to(0)), without("end", unless=lambda _: False)),
    ("Split", 18): split,
    **{(op, 18): axes_attribute for op in REDUCTIONS},
}  # fmt: skip
"""By operator and version: how a form of that version is written in the version before."""

_LAYOUT = "Constant ConstantOfShape Flatten Identity If Loop Pad Reshape Scan Shape Size Squeeze Transpose Unsqueeze"
_UNCHANGED = {
    14: "Add CumSum Div Identity Mul Relu Sub",
    15: "BatchNormalization Pow",
    16: "GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan Where",
    18: "OptionalGetElement",
    19: "Constant DequantizeLinear Equal Identity If Loop Reshape Scan Shape Size",
    20: "ConstantOfShape IsInf IsNaN ReduceMax ReduceMin",
    21: f"{_LAYOUT} Cast CastLike QLinearMatMul",
    22: "Acos Acosh Asin Asinh Atan Atanh AveragePool Bernoulli Conv ConvTranspose Cos Cosh DeformConv Det "
        "Dropout Elu EyeLike GRU GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish "
        "InstanceNormalization LSTM LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool Mish Multinomial "
        "NegativeLogLikelihoodLoss RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike RoiAlign "
        "Round Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu",
    23: f"{_LAYOUT} Cast CastLike",
    24: f"{_LAYOUT} DequantizeLinear QuantizeLinear SplitToSequence TopK",
    25: f"{_LAYOUT} Cast CastLike DequantizeLinear QuantizeLinear",
}  # fmt: skip
UNCHANGED = EARLY_UNCHANGED | {version: frozenset(operators.split()) for version, operators in _UNCHANGED.items()}
"""By version: the operators of which only the element types, or the wording, changed there."""

NOTHING_OLDER = {
    "ImageDecoder": "nothing older reads the formats of images",
    "Optional": "optionals came with it",
    "OptionalGetElement": "optionals came with it",
    "OptionalHasElement": "optionals came with it",
    "RegexFullMatch": "nothing older looks into strings",
    "StringConcat": "nothing older joins strings",
    "StringSplit": "nothing older looks into strings",
}
"""New operators that nothing older stands for."""
