"""Every version change of every ai.onnx operator up to the canonical opset: a row for what has to be done, or a list of
what has not.

ROWS holds (operators, version, rule). WIDENED and EXTENDED hold the changes under which a node means the same as
before: the first allow more element types, negative axes, containers, or say the same in other words; the second add
attributes or operands that are optional and off by default. A test compares the three with the history in onnx.defs, so
that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....ir import Attribute
from . import inputs, meaning, resize
from .step import Rule, Step


def drop(*names: str) -> Rule:
    """Attributes that never had an effect on the results."""

    def rule(step: Step) -> None:
        for name in names:
            step.pop(name)

    return rule


def keep_default(**values: Attribute) -> Rule:
    """An old default spelled out where the attribute is not set, since the new one differs."""

    def rule(step: Step) -> None:
        for name, value in values.items():
            step.node.attrs.setdefault(name, value)

    return rule


def both(first: Rule, second: Rule) -> Rule:
    def rule(step: Step) -> None:
        first(step)
        second(step)

    return rule


def refused(why: str) -> Rule:
    def rule(step: Step) -> None:
        raise step.refuse(why)

    return rule


def rename(**names: str) -> Rule:
    def rule(step: Step) -> None:
        for old, new in names.items():
            value = step.pop(old)
            if value is not None:
                step.node.attrs[new] = value

    return rule


_REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"
_IN_PLACE = (
    "Abs Add BatchNormalization Ceil Clip Div Dropout Elu Exp Floor HardSigmoid InstanceNormalization LeakyRelu Log "
    "Max Mean Min Mul Neg PRelu Reciprocal Relu Sigmoid Sqrt Sub Sum Tanh"
)

ROWS: tuple[tuple[str, int, Rule], ...] = (
    # up to opset 7
    ("Split", 2, refused("Split-1 took its sizes from an operand or an attribute")),
    ("Pad", 2, rename(paddings="pads")),
    ("LpPool GlobalLpPool", 2, meaning.integer_p),
    ("GRU", 3, keep_default(direction="forward")),
    ("Concat", 4, keep_default(axis=1)),
    ("Reshape", 5, meaning.reshape_operand),
    (_IN_PLACE, 6, drop("consumed_inputs")),
    ("Selu", 6, both(drop("consumed_inputs"), keep_default(alpha=1.6732, gamma=1.0507))),
    ("Cast", 6, meaning.cast_code),
    ("Tile", 6, refused("Tile-1 repeats along one axis that is an operand")),
    ("Add And Div Equal Greater Less Mul Or Pow Sub Xor", 7, meaning.broadcast_from_axis),
    ("BatchNormalization Dropout", 7, meaning.inference_only),
    ("Gemm", 7, drop("broadcast")),
    ("GRU LSTM RNN", 7, drop("output_sequence")),
    ("PRelu", 7, meaning.slope_per_channel),
    ("Upsample", 7, meaning.upsample_sizes),
    # opsets 8 to 26
    ("BatchNormalization", 9, meaning.batch_normalization_spatial),
    ("Scan", 9, meaning.scan_batch),
    ("Upsample", 9, resize.upsample_scales),
    ("Upsample", 10, resize.upsample),
    ("Dropout", 10, inputs.dropout_mask),
    ("Slice", 10, inputs.slices),
    ("TopK", 10, inputs.top_k),
    ("Clip", 11, inputs.clip),
    ("Pad", 11, inputs.pad),
    ("Resize", 11, resize.coordinates),
    ("Scatter", 11, meaning.scatter),
    ("Dropout", 12, inputs.dropout_ratio),
    ("ReduceSum Squeeze", 13, inputs.axes_operand()),
    ("Resize", 13, resize.optional_operands),
    ("Softmax LogSoftmax Hardmax", 13, meaning.softmax_of_rows),
    ("Split", 13, inputs.split_sizes),
    ("Unsqueeze", 13, inputs.axes_operand(required=True)),
    ("BatchNormalization", 14, meaning.batch_normalization_mode),
    ("RoiAlign", 16, meaning.roi_align_pixels),
    (_REDUCTIONS, 18, inputs.axes_operand()),
    ("Split", 18, inputs.split_count),
    ("DFT", 20, inputs.dft_axis),
    ("GridSample", 20, meaning.grid_sample_modes),
    ("GroupNormalization", 21, meaning.group_normalization_per_channel),
)

EXTENDED = """
7 AveragePool
8 MaxPool
10 AveragePool MaxPool
11 Constant DepthToSpace Gemm TopK
12 ArgMax ArgMin Constant GatherND
13 DequantizeLinear QuantizeLinear
14 GRU LSTM RNN Reshape
15 Shape
16 ScatterElements ScatterND
18 LpPool OptionalHasElement Pad Resize
19 AveragePool Cast CastLike QuantizeLinear
21 DequantizeLinear QuantizeLinear
23 DequantizeLinear QuantizeLinear
24 Attention Cast CastLike
25 Attention
"""

WIDENED = """
6 Gemm
8 Max Mean Min Sum
9 Cast Constant Flatten Gemm Greater Less MatMul PRelu
11 ArgMax ArgMin AveragePool Compress Concat Conv ConvTranspose Equal Flatten Gather Hardmax If LogSoftmax Loop LpPool
11 MaxPool MaxUnpool NonMaxSuppression OneHot ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
11 ReduceMin ReduceProd ReduceSum ReduceSumSquare Scan Slice Softmax Split Squeeze Unsqueeze
12 Clip Max MaxPool Min Pow ReduceMax ReduceMin
13 Abs Add ArgMax ArgMin Cast Ceil Clip Concat Constant DepthToSpace Div Dropout Equal Erf Exp Expand Flatten Floor
13 Gather GatherElements GatherND Gemm Greater Identity If IsNaN LRN Less Log Loop MatMul Max Mean
13 MeanVarianceNormalization Min Mod Mul Neg NegativeLogLikelihoodLoss NonZero Pad Pow Reciprocal ReduceL1 ReduceL2
13 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare Relu Reshape ScatterElements
13 ScatterND Shape Sigmoid Sign Size Slice SoftmaxCrossEntropyLoss SpaceToDepth Sqrt Sub Sum Tanh Tile Transpose
14 Add CumSum Div Identity Mul Relu Sub
15 BatchNormalization Pow
16 GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan Where
18 OptionalGetElement ScatterElements ScatterND
19 Constant DequantizeLinear Equal Identity If Loop Pad Reshape Resize Scan Shape Size
20 ConstantOfShape IsInf IsNaN ReduceMax ReduceMin
21 Cast CastLike Constant ConstantOfShape Flatten Identity If Loop Pad QLinearMatMul Reshape Scan Shape Size Squeeze
21 Transpose Unsqueeze
22 Acos Acosh Asin Asinh Atan Atanh AveragePool Bernoulli Conv ConvTranspose Cos Cosh DeformConv Det Dropout Elu EyeLike
22 GRU GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish InstanceNormalization LSTM
22 LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool Mish Multinomial NegativeLogLikelihoodLoss RNN RandomNormal
22 RandomNormalLike RandomUniform RandomUniformLike RoiAlign Round Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu
23 Cast CastLike Constant ConstantOfShape Flatten Identity If Loop Pad Reshape Scan Shape Size Squeeze Transpose
23 Unsqueeze
24 Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear Reshape Scan Shape Size
24 SplitToSequence Squeeze TopK Transpose Unsqueeze
25 Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear Reshape Scan
25 Shape Size Squeeze Transpose Unsqueeze
"""

NEWER = """
28 Cast Celu Compress DepthToSpace DequantizeLinear Einsum OneHot Optional OptionalGetElement OptionalHasElement
28 QuantizeLinear ReduceLogSum ReduceLogSumExp ReverseSequence Unique
"""
"""Changes after the canonical opset that only allow more element types: such a node means the same before them."""

DEPRECATED = {"Scatter": 10, "Upsample": 9}
"""Operators that were renamed, with the last version of their own, which is what a later file with one means."""


def by_operator() -> dict[str, list[tuple[int, Rule]]]:
    """The rows of each operator, oldest first."""
    table: dict[str, list[tuple[int, Rule]]] = {}
    for operators, version, rule in ROWS:
        for op in operators.split():
            table.setdefault(op, []).append((version, rule))
    return {op: sorted(rows, key=lambda row: row[0]) for op, rows in table.items()}


def listed(text: str) -> Iterator[tuple[str, int]]:
    """The (operator, version) pairs of a list above: each line is a version and operators that changed with it."""
    for line in text.strip().splitlines():
        version, *operators = line.split()
        for op in operators:
            yield op, int(version)
