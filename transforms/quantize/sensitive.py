"""Which operators compute in 16 bits, and which stay in 32 because of what 16 bits do to them: a table.

An operator without a row stays in 32 bits, as all that is unknown does.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir import DType, Node

Rule = Callable[[Node], str]
"""Why a node stays in 32 bits; '' where it need not."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention")
"""Operators for which 16 bits are wanted: sums of products, which kernels add up in 32 bits."""

NORMS = ("LayerNormalization", "RMSNormalization", "GroupNormalization")

EITHER = """
    Abs Add AveragePool Clip Concat DepthToSpace Dropout Elu Erf Expand Flatten Gather GatherElements GatherND Gelu
    HardSigmoid HardSwish Identity LeakyRelu Max MaxPool Min Mish Neg PRelu Pad Relu Reshape Resize Selu Sigmoid
    Slice Softsign SpaceToDepth Split Squeeze Sub Sum Swish Tanh ThresholdedRelu Tile Transpose Trilu Unsqueeze Where
"""
"""Operators that lose nothing or one rounding, and so follow their neighbours."""


def _always(why: str, *ops: str) -> dict[str, Rule]:
    return dict.fromkeys(ops, lambda _: why)


def _product(node: Node) -> str:
    return "squares leave the range of 16 bits" if node.operand(0) is node.operand(1) else ""


def _quotient(node: Node) -> str:
    return "" if node.operand(1).const is not None else "quotients by small numbers leave the range of 16 bits"


def _norm(node: Node) -> str:
    """Statistics in 32 bits are part of the operator where `stash_type` says so (LayerNormalization-17)."""
    return "" if node.int("stash_type", DType.F32.code) == DType.F32.code else SUMS


def _attention(node: Node) -> str:
    wanted = node.attr("softmax_precision")
    return "" if wanted in (None, 0, DType.F32.code) else "it states the precision of its Softmax"


def _transpose(node: Node) -> str:
    """ONNX Runtime (1.31) moves the first axis of a stack of matrices into a product of them, and dies of the Cast that
    it has put in between where it finds that in float16.
    """
    perm = node.ints("perm", ())
    stack = len(perm) - 2
    moves_first = stack > 0 and tuple(perm[:stack]) == tuple(range(1, stack + 1))
    read = any(user.op in PRODUCTS for v in node.outputs for user in v.users)
    return "ONNX Runtime crashes on it in float16 in front of a product of matrices" if moves_first and read else ""


PRODUCTS = ("MatMul", "Einsum", "Attention")
"""What is, or is written out as, products of stacks of matrices."""

SUMS = "sums of many numbers lose digits in 16 bits"
EXPONENTIALS = "exponentials leave the range of 16 bits, and their sums lose digits"
DECISIONS = "one rounding changes what it decides"
PLACES = "positions and angles need more digits than 16 bits have"

RULES: dict[str, Rule] = {
    **{op: (lambda _: "") for op in (*LAYERS, *EITHER.split())},
    "Attention": _attention,
    "Mul": _product,
    "Div": _quotient,
    "Transpose": _transpose,
    **dict.fromkeys(NORMS, _norm),
    **_always(
        SUMS, "GlobalAveragePool", "ReduceMean", "ReduceSum", "ReduceL1", "CumSum", "BatchNormalization",
        "InstanceNormalization", "MeanVarianceNormalization",
    ),
    **_always(
        "squares and products leave the range of 16 bits", "ReduceL2", "ReduceSumSquare", "ReduceProd", "CumProd",
        "Pow", "LpNormalization", "LpPool", "GlobalLpPool", "LRN", "Det",
    ),
    **_always(EXPONENTIALS, "Exp", "Softmax", "LogSoftmax", "Softplus", "ReduceLogSum", "ReduceLogSumExp"),
    **_always(
        "small arguments leave the range of 16 bits or lose their digits", "Reciprocal", "Sqrt", "Log"
    ),
    **_always(PLACES, "Sin", "Cos", "Tan", "Range", "GridSample", "AffineGrid", "RotaryEmbedding", "RoiAlign"),
    **_always("it converts numbers that 16 bits may not hold", "Cast"),
    **_always(
        DECISIONS, "ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf",
        "IsNaN", "Less", "LessOrEqual", "Mod", "NonMaxSuppression", "NonZero", "Round", "Sign", "TopK", "Unique",
    ),
    **_always("errors add up over the steps", "LSTM", "GRU", "RNN", "LinearAttention", "CausalConvWithState"),
    **_always("it holds graphs of its own", "If", "Loop", "Scan"),
    **_always(
        "already quantized", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger",
        "MatMulInteger", "QLinearConv", "QLinearMatMul",
    ),
}  # fmt: skip
"""Operator -> why a node of it stays in 32 bits, for float16."""


def _sum(node: Node) -> str:
    """In front of a norm: what the blocks of a transformer hand on and add to."""
    computed = sum(v is not None and v.const is None for v in node.inputs)
    normed = any(user.op in NORMS for v in node.outputs for user in v.users)
    return STREAM if computed > 1 and normed else ""


STREAM = "every sum of a residual stream would round what all blocks before it have added"
FACTORS = "the errors of all factors add up"

BFLOAT16: dict[str, Rule] = {
    **RULES,
    **{op: (lambda _: "") for op in ("Mul", "Div", "Reciprocal", "Sqrt", "Transpose")},
    **dict.fromkeys(("Add", "Sum"), _sum),
    **_always("what is subtracted from the mean has lost its last digits already", *NORMS),
    **_always(SUMS, "ReduceL2", "ReduceSumSquare", "LpNormalization", "LpPool", "GlobalLpPool", "LRN", "Det"),
    **_always(FACTORS, "ReduceProd", "CumProd", "Pow"),
    **_always(
        "what is rounded in front of an exponential is multiplied by it, and sums of many lose digits",
        "Exp", "Softmax", "LogSoftmax", "Softplus", "ReduceLogSum", "ReduceLogSumExp",
    ),
    **_always("near one a logarithm has no digit that its rounded argument had not lost", "Log"),
}  # fmt: skip
"""The same for bfloat16, which has the range of 32 bits and 8 binary digits, 3 less than float16: no reason is a range,
and sums that run through a whole network stay in 32 bits. On MiniLM that is 43.6 dB instead of 38.5."""

TABLES = {DType.F16: RULES, DType.BF16: BFLOAT16}


def why_not(node: Node, dtype: DType) -> str:
    """Why a node stays in 32 bits; '' where it may compute in the 16 of `dtype`."""
    rule = None if node.domain else TABLES[dtype].get(node.op)
    return "no row says that it may compute in 16 bits" if rule is None else rule(node)
