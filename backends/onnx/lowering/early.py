"""Rows for the spelling of operators before opset 13: operands that were attributes, axes that were never negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import DType, TensorType, Value, constant
from .form import Form, FormRule, Inexpressible, all_of, all_ones, axes_attribute, equal_to, with_operand, without


def split_sizes(form: Form) -> None:
    """`split` was an attribute (Split-13)."""
    sizes = form.integers(1, "sizes")
    del form.operands[1:]
    if sizes:
        form.attrs["split"] = tuple(sizes)


def softmax_axis(form: Form) -> None:
    """All axes from `axis` on were one (Softmax-13); the decomposition has made it the last one."""
    axis, shape = form.node.int("axis", -1) % form.rank(), form.node.operand(0).shape
    assert shape is not None
    if any(size != 1 for size in shape[axis + 1 :]):
        raise Inexpressible(f"axis {axis} is not the last one")
    form.attrs["axis"] = axis


def per_tensor(form: Form) -> None:
    """There was one scale for a tensor (QuantizeLinear-13, DequantizeLinear-13)."""
    scale = form.operand(1)
    if scale is None or scale.shape != ():
        raise Inexpressible("a scale for each channel does not exist there")
    form.attrs.pop("axis", None)


def resize_operands(form: Form) -> None:
    """`roi` and `scales` could not be left out (Resize-13)."""
    nothing = constant(np.zeros(0, np.float32))
    form.operands += [None] * (3 - len(form.operands))
    for index in (1, 2):
        form.operands[index] = form.operands[index] or nothing


def resize_asymmetric(form: Form) -> None:
    """There was one mapping of coordinates and a mode, and scales were operand 1 (Resize-11)."""
    node, scales = form.node, form.node.input(2)
    mode, nearest = node.str("mode"), node.str("nearest_mode")
    if node.input(3) is not None or scales is None or mode not in ("nearest", "linear"):
        raise Inexpressible("sizes and cubic interpolation do not exist there")
    if node.str("coordinate_transformation_mode") != "asymmetric":
        raise Inexpressible("another mapping of coordinates than asymmetric does not exist there")
    if mode == "nearest":
        grows, shrinks = enlarges(scales), scales.const is not None and bool((scales.const.numpy() <= 1).all())
        if scales.const is None and not grows:
            raise Inexpressible("its scales are computed, and how it rounds depends on them")
        if not (grows and nearest == "floor") and not (shrinks and nearest == "ceil"):
            raise Inexpressible("nearest rounds down where it enlarges there, up where it shrinks")
    form.operands = [form.operands[0], scales]
    form.attrs = {"mode": mode}


def enlarges(scales: Value) -> bool:
    """True where no scale is below one: constants, and what is the maximum of one and something."""
    if scales.const is not None:
        return bool((scales.const.numpy() >= 1).all())
    return scales.op == "Max" and any(v is not None and v.const is not None and enlarges(v) for v in _operands(scales))


def _operands(value: Value) -> Sequence[Value | None]:
    return value.node.inputs if value.node is not None else ()


def upsample(form: Form) -> None:
    """It was called Upsample and could only enlarge (Resize-10)."""
    scales = form.operand(1)
    if scales is None or not enlarges(scales):
        raise Inexpressible("it is not known to enlarge")
    form.op = "Upsample"


def upsample_scales(form: Form) -> None:
    """`scales` was an attribute (Upsample-9)."""
    scales = form.operand(1)
    assert scales is not None
    form.attrs["scales"] = tuple(float(str(np.float32(s))) for s in scales.tensor.numpy())
    del form.operands[1:]


def scatter(form: Form) -> None:
    """It was called Scatter (ScatterElements-11)."""
    form.op = "Scatter"
    positive("axis")(form)


def dropout(form: Form) -> None:
    """`ratio` was an attribute, and nothing was ever dropped (Dropout-12)."""
    ratio, training = form.operand(1), form.operand(2)
    if training is not None and (training.const is None or bool(training.const.numpy().any())):
        raise Inexpressible("training_mode does not exist there")
    if ratio is not None and ratio.const is not None:
        form.attrs["ratio"] = float(str(np.float32(ratio.const.item())))
    form.attrs.pop("seed", None)
    del form.operands[1:]


def outputs_at_most(count: int, what: str) -> FormRule:
    """Further outputs did not exist, or had another type."""

    def rule(form: Form) -> None:
        if any(v.users for v in form.node.outputs[count:]):
            raise Inexpressible(f"{what} does not exist there")

    return rule


def clip(form: Form) -> None:
    """The bounds were attributes and the data floats (Clip-11)."""
    for index, name in ((1, "min"), (2, "max")):
        bound = form.operand(index)
        if bound is not None and bound.const is None:
            raise Inexpressible(f"its {name} is computed")
        if bound is not None and bound.const is not None:
            form.attrs[name] = _number(form, bound.const.item())
    del form.operands[1:]


def pad(form: Form) -> None:
    """`pads` and `value` were attributes (Pad-11)."""
    pads, value = form.integers(1, "pads"), form.operand(2)
    assert pads is not None
    if value is not None:
        if value.const is None:
            raise Inexpressible("its value is computed")
        form.attrs["value"] = _number(form, value.const.item())
    form.attrs["pads"] = tuple(pads)
    del form.operands[1:]


def _number(form: Form, value: float | int | bool) -> float:
    """A number as a 32-bit attribute; in a wider type it must not lose digits."""
    exact, short = float(value), np.float32(value)
    type_ = form.node.operand(0).type
    if isinstance(type_, TensorType) and type_.dtype is DType.F64 and float(short) != exact and not np.isnan(short):
        raise Inexpressible(f"{exact} is no 32-bit float")
    return float(str(short))


def slices(form: Form) -> None:
    """`starts`, `ends` and `axes` were attributes, and there were no steps (Slice-10)."""
    starts, ends, axes, steps = (form.integers(i, n) for i, n in enumerate(("starts", "ends", "axes", "steps"), 1))
    assert starts is not None
    assert ends is not None
    if any(s != 1 for s in steps or ()):
        raise Inexpressible("steps do not exist there")
    form.attrs |= {"starts": tuple(starts), "ends": tuple(ends)}
    if axes is not None:
        form.attrs["axes"] = tuple(a % form.rank() if a < 0 else a for a in axes)
    del form.operands[1:]


def positive_axes_operand(form: Form) -> None:
    """Operand 3 had no negative axes (Slice-11)."""
    axes = form.integers(3, "axes") if form.operand(3) is not None else []
    if axes and min(axes) < 0:
        form.operands[3] = constant(np.array([a % form.rank() for a in axes], np.int64))


def only_positive(*names: str) -> FormRule:
    """Attributes that count axes of something else than the first operand; they could not be negative."""

    def rule(form: Form) -> None:
        for name in names:
            value = form.attrs.get(name)
            if isinstance(value, tuple) and any(isinstance(v, int) and v < 0 for v in value):
                raise Inexpressible(f"negative {name} do not exist there")

    return rule


def one_type(form: Form) -> None:
    """The operands had one element type (Pow-12)."""
    types = {v.dtype for v in form.operands if v is not None}
    if len(types) != 1 or None in types:
        raise Inexpressible("its operands are not known to have one element type")


def top_k(form: Form) -> None:
    """`k` was an attribute (TopK-10)."""
    k = form.integers(1, "k")
    assert k is not None
    form.attrs["k"] = k[0]
    del form.operands[1:]


def same_shapes(form: Form) -> None:
    """Operands were not broadcast (Max-8, Min-8, Sum-8, Mean-8)."""
    shapes = [v.shape for v in form.operands if v is not None]
    if any(s is None or s != shapes[0] for s in shapes):
        raise Inexpressible("its operands are not known to have one shape")


def positive(*names: str, result: int = 0) -> FormRule:
    """Axes could not be negative; they count from the end of the operand, which has `result` axes fewer than meant."""

    def rule(form: Form) -> None:
        for name in names:
            value = form.attrs.get(name, form.node.attr(name))
            if isinstance(value, int) and value < 0:
                form.attrs[name] = value + form.rank() + result
            elif isinstance(value, tuple) and any(isinstance(v, int) and v < 0 for v in value):
                rank = form.rank() + (len(value) if form.op == "Unsqueeze" else 0)
                form.attrs[name] = tuple(int(v) % rank for v in value)  # pyright: ignore[reportArgumentType]

    return rule


REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

EARLY_FORMS: dict[tuple[str, int], FormRule] = {
    # Opset 13
    ("DequantizeLinear", 13): per_tensor,
    ("Hardmax", 13): softmax_axis,
    ("LogSoftmax", 13): softmax_axis,
    ("QuantizeLinear", 13): per_tensor,
    ("ReduceSum", 13): axes_attribute,
    ("Resize", 13): resize_operands,
    ("Softmax", 13): softmax_axis,
    ("Split", 13): split_sizes,
    ("Squeeze", 13): axes_attribute,
    ("Unsqueeze", 13): axes_attribute,
    # Opset 12
    ("ArgMax", 12): without("select_last_index", unless=equal_to(0)),
    ("ArgMin", 12): without("select_last_index", unless=equal_to(0)),
    ("Dropout", 12): dropout,
    ("GatherND", 12): without("batch_dims", unless=equal_to(0)),
    ("Constant", 12): without(
        "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"
    ),
    ("Pow", 12): one_type,
    # Opset 11
    ("Constant", 11): without("sparse_value"),
    ("Scan", 11): only_positive("scan_input_axes", "scan_output_axes"),
    ("Slice", 11): positive_axes_operand,
    **{(f"Reduce{r}", 11): positive("axes") for r in REDUCTIONS.split()},
    **{(op, 11): positive("axis") for op in ["ArgMax", "ArgMin", "Compress", "Concat", "Flatten", "Gather", "Split"]},
    ("Clip", 11): clip,
    ("DepthToSpace", 11): without("mode", unless=equal_to("DCR")),
    ("Gemm", 11): with_operand(2, "its bias"),
    ("OneHot", 11): positive("axis", result=1),
    ("Pad", 11): pad,
    ("Resize", 11): resize_asymmetric,
    ("ScatterElements", 11): scatter,
    ("Squeeze", 11): positive("axes"),
    ("TopK", 11): all_of(without("largest", "sorted", unless=equal_to(1)), positive("axis")),
    ("Unsqueeze", 11): positive("axes"),
    # Opset 10
    ("AveragePool", 10): without("ceil_mode", unless=equal_to(0)),
    ("Dropout", 10): outputs_at_most(1, "a boolean mask"),
    ("MaxPool", 10): all_of(without("ceil_mode", unless=equal_to(0)), without("dilations", unless=all_ones)),
    ("Resize", 10): upsample,
    ("Slice", 10): slices,
    ("TopK", 10): top_k,
    # Opsets 9 and 8
    ("BatchNormalization", 9): all_of(),  # statistics per channel were the default of what was an attribute
    ("Upsample", 9): upsample_scales,
    ("MaxPool", 8): all_of(without("storage_order", unless=equal_to(0)), outputs_at_most(1, "the output of indices")),
    **{(op, 8): same_shapes for op in ("Max", "Mean", "Min", "Sum")},
}
"""By operator and version, as in `forms`."""

_UNCHANGED = {
    9: "Cast Constant Flatten Gemm Greater Less MatMul PRelu",
    11: "AveragePool Conv ConvTranspose Equal Hardmax If LogSoftmax Loop LpPool MaxPool MaxUnpool "
        "NonMaxSuppression Softmax",
    12: "Clip Max MaxPool Min ReduceMax ReduceMin",
    13: "Abs Add ArgMax ArgMin Cast Ceil Clip Concat Constant DepthToSpace Div Dropout Equal Erf Exp Expand Flatten "
        "Floor Gather GatherElements GatherND Gemm Greater Identity If IsNaN LRN Less Log Loop MatMul Max Mean "
        "MeanVarianceNormalization Min Mod Mul Neg NegativeLogLikelihoodLoss NonZero Pad Pow Reciprocal ReduceL1 "
        "ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare Relu Reshape "
        "ScatterElements ScatterND Shape Sigmoid Sign Size Slice SoftmaxCrossEntropyLoss SpaceToDepth Sqrt Sub Sum "
        "Tanh Tile Transpose",
}  # fmt: skip
EARLY_UNCHANGED = {version: frozenset(operators.split()) for version, operators in _UNCHANGED.items()}
