"""Operators whose outputs have the shape of an operand, or the common shape of operands that broadcast."""

from __future__ import annotations

from ..graph import Node
from ..types import AnyType, TensorType
from .contents import Contents
from .operands import Answer, Rule, Unknown, broadcast, same_shape, shape_of

SAME_SHAPE = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Bernoulli", "BitCast", "BitwiseNot", "Cast",
    "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumProd", "CumSum", "DequantizeLinear", "Elu", "Erf", "Exp",
    "EyeLike", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Hardmax", "IsInf", "IsNaN", "LeakyRelu", "Log",
    "LogSoftmax", "Mish", "Neg", "Not", "PRelu", "QuantizeLinear", "RandomNormalLike", "RandomUniformLike",
    "Reciprocal", "RegexFullMatch", "Relu", "ReverseSequence", "Round", "Scatter", "ScatterElements", "ScatterND",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan",
    "Tanh", "TensorScatter", "ThresholdedRelu", "Trilu", "GroupNormalization", "InstanceNormalization", "LRN",
    "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "RotaryEmbedding",
]  # fmt: skip

BROADCASTING = [
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "StringConcat", "Sub", "Sum", "Where",
    "Xor",
]  # fmt: skip


def broadcasting(node: Node, contents: Contents) -> Answer:
    """Multidirectional broadcasting of all operands."""
    return broadcast([shape_of(node, i) for i in range(len(node.inputs))])


def identity(node: Node, contents: Contents) -> Answer:
    """Everything about the operand, also where it is no tensor."""
    type_ = node.operand(0).type
    if isinstance(type_, AnyType):
        raise Unknown
    return type_.shape if isinstance(type_, TensorType) else type_


def dropout(node: Node, contents: Contents) -> list[Answer]:
    """Output and mask have the data's shape (Dropout-22)."""
    return [shape_of(node, 0), shape_of(node, 0)]


def dynamic_quantize_linear(node: Node, contents: Contents) -> list[Answer]:
    """One scale and one zero point for the whole tensor (DynamicQuantizeLinear-11)."""
    return [shape_of(node, 0), (), ()]


RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME_SHAPE, same_shape),
    **dict.fromkeys(BROADCASTING, broadcasting),
    "Dropout": dropout,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "Identity": identity,
}
