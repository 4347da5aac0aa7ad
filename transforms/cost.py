"""What a graph costs: parameters, bytes and floating-point operations, per node and in total.

A multiply-add counts as two operations. Integer arithmetic of quantized layers counts like the arithmetic that it
stands for, so FLOPs say how much is computed, and latency says how fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ..ir import Graph, Node, TensorType, Value, symbol
from ..ir.dims import Size, Symbol, free_symbols, substitute

Sizes = Mapping[Symbol, int]
Shape = tuple[int, ...]


def bind_sizes(graph: Graph, feeds: Mapping[str, tuple[int, ...]] | None = None) -> dict[Symbol, int]:
    """Integers for the symbols of the graph's inputs: from the shapes of `feeds` where they say, else the smallest size
    from 1 on.
    """
    sizes: dict[Symbol, int] = {}
    for value in graph.inputs:
        given = (feeds or {}).get(value.name)
        for axis, size in enumerate(value.shape or ()):
            if given is not None and axis < len(given):
                bare = next((s for s in free_symbols(size) if size == symbol(s.name, s.lower, s.upper)), None)
                if bare is not None:
                    sizes[bare] = given[axis]
    return sizes


def static_shape(value: Value | None, sizes: Sizes) -> Shape | None:
    """A value's shape with symbols replaced (1 or their lower bound where `sizes` has none); None for an unknown
    rank.
    """
    if value is None or not isinstance(value.type, TensorType) or value.type.shape is None:
        return None
    return tuple(_integer(size, sizes) for size in value.type.shape)


def _integer(size: Size, sizes: Sizes) -> int:
    if isinstance(size, int):
        return size
    bound = substitute(size, {s: sizes.get(s, max(1, s.lower)) for s in free_symbols(size)})
    assert isinstance(bound, int)
    return max(0, bound)


def _per_output(node: Node, sizes: Sizes) -> int | None:
    shape = static_shape(node.output, sizes)
    return None if shape is None else math.prod(shape)


def _convolution(weight: int) -> Callable[[Node, Sizes], int | None]:
    def flops(node: Node, sizes: Sizes) -> int | None:
        w, y = static_shape(node.input(weight), sizes), static_shape(node.output, sizes)
        return None if w is None or y is None else 2 * math.prod(y) * math.prod(w[1:])

    return flops


def _transposed_convolution(node: Node, sizes: Sizes) -> int | None:
    x, w = static_shape(node.input(0), sizes), static_shape(node.input(1), sizes)
    return None if w is None or x is None else 2 * math.prod(x) * math.prod(w[1:])


def _matmul(left: int) -> Callable[[Node, Sizes], int | None]:
    def flops(node: Node, sizes: Sizes) -> int | None:
        a, y = static_shape(node.input(left), sizes), static_shape(node.output, sizes)
        return None if not a or y is None else 2 * math.prod(y) * a[-1]

    return flops


def _gemm(node: Node, sizes: Sizes) -> int | None:
    a, y = static_shape(node.input(0), sizes), static_shape(node.output, sizes)
    return None if not a or y is None else 2 * math.prod(y) * (a[0] if node.int("transA", 0) else a[1])


def _elements(times: int) -> Callable[[Node, Sizes], int | None]:
    def flops(node: Node, sizes: Sizes) -> int | None:
        count = _per_output(node, sizes)
        return None if count is None else times * count

    return flops


def _operand_elements(node: Node, sizes: Sizes) -> int | None:
    shape = static_shape(node.input(0), sizes)
    return None if shape is None else math.prod(shape)


def _recurrent(gates: int, hidden: int = -1) -> Callable[[Node, Sizes], int | None]:
    """`hidden` is the axis of the states' weight that is as long as the state."""

    def flops(node: Node, sizes: Sizes) -> int | None:
        x, w, r = (static_shape(node.input(i), sizes) for i in range(3))
        if x is None or w is None or r is None:
            return None
        return 2 * x[0] * x[1] * (math.prod(w) + math.prod(r)) + 5 * gates * x[0] * x[1] * r[hidden]

    return flops


REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
)  # fmt: skip
CURVES = (
    "Celu", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish",
    "Tanh",
)  # fmt: skip
FLOPS: dict[str, Callable[[Node, Sizes], int | None]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matmul(0),
    "MatMulInteger": _matmul(0),
    "QLinearMatMul": _matmul(0),
    "Gemm": _gemm,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "BatchNormalization": _elements(2),
    **dict.fromkeys(["GroupNormalization", "InstanceNormalization", "LayerNormalization"], _elements(7)),
    **dict.fromkeys(["LogSoftmax", "LpNormalization", "RMSNormalization", "Softmax"], _elements(5)),
    "Gelu": _elements(8),
    "GlobalAveragePool": _operand_elements,
    "GlobalMaxPool": _operand_elements,
    "AveragePool": _operand_elements,
    "MaxPool": _operand_elements,
    **dict.fromkeys(REDUCTIONS, _operand_elements),
    **dict.fromkeys(
        ["Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Relu", "LeakyRelu", "PRelu", "Clip", "Min", "Max"], _elements(1)
    ),
    **dict.fromkeys(CURVES, _elements(4)),
    "com.microsoft::QGemm": _gemm,
    "com.microsoft::MatMulIntegerToFloat": _matmul(0),
    "com.microsoft::DynamicQuantizeLSTM": _recurrent(4, hidden=-2),
    "com.microsoft::QLinearAdd": _elements(1),
    "com.microsoft::QLinearMul": _elements(1),
    "com.microsoft::QLinearSigmoid": _elements(4),
    "com.microsoft::QLinearLeakyRelu": _elements(1),
    "com.microsoft::QLinearAveragePool": _operand_elements,
    "com.microsoft::QLinearGlobalAveragePool": _operand_elements,
}
"""Operators that compute, of other domains with these; an operator without a row counts as moving data only."""


def node_flops(node: Node, sizes: Sizes) -> int:
    """Floating-point operations of one node; 0 where the operator has no row or a rank is unknown."""
    row = FLOPS.get(f"{node.domain}::{node.op}" if node.domain else node.op)
    return (row(node, sizes) or 0) if row is not None else 0


def graph_flops(graph: Graph, sizes: Sizes | None = None) -> int:
    """Floating-point operations of one run of the graph; regions count once."""
    bound = sizes if sizes is not None else bind_sizes(graph)
    return sum(node_flops(node, bound) for node in graph.walk())


def is_parameter(value: Value) -> bool:
    """True for a constant that is a weight: of more than one element, and a float, an integer of at most 8 bits, or a
    bias.

    A bias of a quantized layer is an int32 that a DequantizeLinear reads. Scales and zero points describe weights and
    are none.
    """
    tensor = value.const
    if tensor is None or tensor.count <= 1:
        return False
    quantized = [user for user in value.users if user.op in ("QuantizeLinear", "DequantizeLinear")]
    if any(user.input(0) is value for user in quantized):
        return True
    return len(quantized) < len(value.users) and (tensor.dtype.is_float or tensor.dtype.bits <= 8)


def parameter_count(graph: Graph) -> int:
    """Elements of all weights, each constant once."""
    return sum(v.tensor.count for v in graph.constants() if is_parameter(v))


def stored(value: Value | None) -> Value | None:
    """The constant that a value is read from: itself, or what a DequantizeLinear or Cast in front of it reads."""
    while value is not None and value.op in ("DequantizeLinear", "Cast") and value.node is not None:
        value = value.node.input(0)
    return value if value is not None and value.is_const else None


def weights(node: Node) -> list[Value]:
    """The constants that a node reads, also in quantized form."""
    return [v for v in map(stored, node.inputs) if v is not None]


def node_parameters(node: Node) -> int:
    """Elements of the weights that a node reads."""
    return sum(v.tensor.count for v in weights(node) if is_parameter(v))
