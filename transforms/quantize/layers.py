"""Which nodes have int8 kernels, and why another one has none: the layers with weights, and the products of two
computed matrices, that quantization decides about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...ir import DType, Graph, Node, TensorType, Value
from .scheme import amplitude

QUANTIZED = "already quantized"
REPLACEABLE = "its weight is an input with a default, which callers may replace"


@dataclass(frozen=True)
class Layer:
    """A node that an int8 kernel can compute: `axis` is that of the output channels in the weight.

    `bias` is its constant bias operand; a MatMul's, where one node adds it, is the operand of `adder`. `amplitude` is
    max|w| per output channel.
    """

    node: Node
    input: Value
    weight: Value
    axis: int
    amplitude: NDArray[np.float64]
    bias: Value | None = None
    adder: Node | None = None

    @property
    def channels(self) -> int:
        return self.weight.tensor.shape[self.axis]

    @property
    def operands(self) -> tuple[Value, ...]:
        """What an int8 kernel takes in u8."""
        return (self.input,)

    def again(self) -> Layer:
        """The same with what the node reads now."""
        return replace(self, input=self.node.operand(0))

    def moved(self, nodes: Mapping[Node, Node], values: Mapping[Value, Value]) -> Layer:
        """The same in a copy of the graph, given what its nodes and values are there."""
        adder = nodes[self.adder] if self.adder else None
        return replace(self, node=nodes[self.node], input=values[self.input], adder=adder)


@dataclass(frozen=True)
class Product:
    """A MatMul of two computed matrices, or stacks of them, that an int8 kernel can compute; `adder` adds to the result
    what was taken from the right operand.
    """

    node: Node
    left: Value
    right: Value
    adder: Node | None = None

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.left, self.right)

    def again(self) -> Product:
        """The same with what the node reads now."""
        return replace(self, left=self.node.operand(0), right=self.node.operand(1))

    def moved(self, nodes: Mapping[Node, Node], values: Mapping[Value, Value]) -> Product:
        """The same in a copy of the graph, given what its nodes and values are there."""
        adder = nodes[self.adder] if self.adder else None
        return replace(self, node=nodes[self.node], left=values[self.left], right=values[self.right], adder=adder)


Integer = Layer | Product
"""What may be computed in int8."""


def weighted(found: Mapping[Node, Integer]) -> dict[Node, Layer]:
    """Those that have weights."""
    return {node: layer for node, layer in found.items() if isinstance(layer, Layer)}


def layers(graph: Graph) -> Iterator[tuple[Node, Layer | str]]:
    """Every node with weights in the graph and its regions, as a layer or with the reason why it cannot be one."""
    for node in graph.walk():
        if node.domain:
            continue
        if node.op in ALREADY_INTEGER:
            yield node, QUANTIZED
        elif node.op in LAYERS:
            yield node, layer_of(node) if node.graph is graph else "inside a control-flow region"


def in_copy(
    layers: Mapping[Node, Integer], nodes: Mapping[Node, Node], values: Mapping[Value, Value]
) -> dict[Node, Integer]:
    """These layers in a copy of their graph, given what its nodes and values are there."""
    return {nodes[n]: layer.moved(nodes, values) for n, layer in layers.items()}


def layer_of(node: Node) -> Layer | str:
    """The layer that a node is, or why it is none."""
    why = LAYERS[node.op](node) or _operands(node)
    if why:
        return why
    weight = node.operand(1)
    adder = bias_adder(node) if node.op == "MatMul" else None
    bias = node.input(2) if adder is None else next(v for v in adder.inputs if v is not None and v.const is not None)
    axis = 0 if node.op == "Conv" or (node.op == "Gemm" and node.int("transB")) else 1
    found = amplitude(weight.tensor, axis)
    if not np.isfinite(found).all() or (bias is not None and not np.isfinite(bias.tensor.numpy()).all()):
        return "its weight or bias holds NaN or infinity"
    return Layer(node, node.operand(0), weight, axis, found, bias, adder)


def product_of(node: Node) -> Product | str:
    """The product of two computed matrices that a node is, or why it is none."""
    if node.domain or node.op != "MatMul":
        return "it is no product of matrices"
    left, right = node.operand(0), node.operand(1)
    if left.const is not None or right.const is not None:
        return "one of its operands is a constant"
    if any(v.op == "DequantizeLinear" for v in (left, right)):
        return QUANTIZED
    for value in (left, right):
        if node.graph is not None and value in node.graph.defaults:
            return REPLACEABLE
        if not is_f32(value):
            what = value.type.dtype.label if isinstance(value.type, TensorType) else "a type that is not known"
            return f"it computes in {what}; only f32 is quantized"
        if value.rank is None or value.rank < 2:
            return "an operand is a vector or of unknown rank"
    return Product(node, left, right)


def _operands(node: Node) -> str:
    """What is wrong with the types of input, weight and bias; '' for nothing."""
    weight, bias = node.operand(1), node.input(2)
    if any(v is not None and v.op == "DequantizeLinear" for v in node.inputs):
        return QUANTIZED
    if node.graph is not None and weight in node.graph.defaults:
        return REPLACEABLE
    if weight.const is None:
        return "it has no constant weight"
    if bias is not None and bias.const is None:
        return "its bias is not a constant"
    for value in (node.operand(0), weight, bias):
        if value is not None and not is_f32(value):
            what = value.type.dtype.label if isinstance(value.type, TensorType) else "a type that is not known"
            return f"it computes in {what}; only f32 is quantized"
    if not weight.tensor.count:
        return "its weight is empty"
    return ""


def _convolution(node: Node) -> str:
    return "" if node.operand(0).rank == 4 else "only convolutions over two spatial axes have a fast int8 kernel"


def _gemm(node: Node) -> str:
    if node.int("transA"):
        return "its first operand is transposed"
    bias = node.input(2)
    if node.float("alpha") != 1.0 or (bias is not None and node.float("beta") != 1.0):
        return f"alpha={node.float('alpha')}, beta={node.float('beta')}; only 1 has an int8 kernel"
    if bias is not None and bias.const is not None and not _is_vector(bias, _columns(node)):
        return "its bias is not one number per column"
    return ""


def _matmul(node: Node) -> str:
    weight, rank = node.operand(1), node.operand(0).rank
    if weight.const is not None and weight.rank != 2:
        return "its weight is not a matrix"
    if rank is None or rank < 2:
        return "its input is a vector or of unknown rank"
    return ""


def _never(why: str) -> Callable[[Node], str]:
    return lambda _: why


LAYERS: dict[str, Callable[[Node], str]] = {
    "Conv": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "ConvTranspose": _never("ONNX Runtime has no int8 kernel for it on the CPU"),
    "LSTM": _never("recurrent layers are quantized at run time only: use mode='dynamic'"),
    "GRU": _never("recurrent layers are quantized at run time only: use mode='dynamic'"),
    "RNN": _never("ONNX Runtime has no int8 kernel for it on the CPU"),
}
"""Per operator with weights: what, apart from the operands' types, keeps a node from its int8 kernel ('' for
nothing)."""

ALREADY_INTEGER = frozenset(["QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"])


def bias_adder(node: Node) -> Node | None:
    """The Add that alone uses a MatMul and adds a constant of one number per column to it."""
    add = node.output.only_user
    if add is None or add.op != "Add" or add.domain:
        return None
    other = add.operand(1) if add.operand(0) is node.output else add.operand(0)
    fits = other.const is not None and is_f32(other) and _is_vector(other, _columns(node))
    return add if fits and (other.rank or 0) <= (node.operand(0).rank or 0) else None


def _columns(node: Node) -> int:
    weight = node.operand(1)
    if weight.shape is None or len(weight.shape) != 2:
        return -1
    return int(weight.shape[0 if node.op == "Gemm" and node.int("transB") else 1])


def _is_vector(value: Value, count: int) -> bool:
    """True for a constant of `count` elements that all lie along the last axis, or of a single one."""
    shape = value.tensor.shape
    return value.tensor.count == 1 or (bool(shape) and shape[-1] == count == value.tensor.count)


def is_f32(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype is DType.F32
