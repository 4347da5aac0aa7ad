"""Rows for quantized graphs: the QDQ operators as functions of the emitted file, and the integer operators."""

from __future__ import annotations

from ...ir import DType, Node, Tensor, Value
from ...ir.tensors import integer_range
from .code import Code, Piece, Variable, call, infix, literal, method, raw
from .emitter import Emitter, Row, Unpacked
from .members import TORCH_TYPES
from .placement import WIDER
from .windows import conv_options, padded, spatial_padding


def axis_options(node: Node, e: Emitter, scale: Value) -> dict[str, Piece]:
    """axis for a vector scale where it is not 1, and the block size."""
    options: dict[str, Piece] = {}
    if e.rank(scale) != 0 and node.int("axis") != 1:
        options["axis"] = node.int("axis")
    if node.int("block_size"):
        options["block"] = node.int("block_size")
    return options


def target_type(node: Node, e: Emitter) -> DType:
    """The element type that QuantizeLinear gives: of its zero point, else as the attribute says, else uint8."""
    found = e.dtype(node.input(2))
    stated = node.int("output_dtype")
    return found or (DType.of_code(stated) if stated else DType.U8)


def number_or_tensor(value: Value | None, e: Emitter) -> Code:
    """A scale or zero point: a number where it is a constant scalar of a usual type, 0 where it is missing."""
    if value is None:
        return literal(0)
    tensor = e.const(value)
    number = (
        e.number(value)
        if tensor is not None and tensor.rank == 0 and tensor.dtype in (DType.F32, DType.I8, DType.U8, DType.I32)
        else None
    )
    return literal(number) if number is not None else e.tensor(value)


def quantize(node: Node, e: Emitter) -> Code:
    x, scale, zero = node.operand(0), node.operand(1), node.input(2)
    dtype = target_type(node, e)
    e.need(dtype.is_integer, node, f"quantization to {dtype.label} is not supported")
    e.need(not node.attr("precision"), node, "it states a precision")
    options = axis_options(node, e, scale)
    if dtype in WIDER:
        options["limits"] = integer_range(dtype)
    held = WIDER.get(dtype, dtype)
    e.need(held in TORCH_TYPES, node, f"PyTorch has no element type {dtype.label}")
    kind = raw(f"torch.{TORCH_TYPES[held]}")
    return call(
        e.helper("quantize"), e.tensor(x), number_or_tensor(scale, e), number_or_tensor(zero, e), kind, **options
    )


def dequantize(node: Node, e: Emitter) -> Code:
    """DequantizeLinear-25; int32 (biases) included."""
    x, scale, zero = node.operand(0), node.operand(1), node.input(2)
    dtype = e.dtype(x)
    e.need(dtype is not None and dtype.is_integer, node, "its operand's element type is not known to be an integer")
    tensor = e.const(zero)
    silent = zero is None or (tensor is not None and _is_zero(tensor))
    args = [e.tensor(x), number_or_tensor(scale, e)] + ([] if silent else [number_or_tensor(zero, e)])
    return call(e.helper("dequantize"), *args, **axis_options(node, e, scale))


def _is_zero(tensor: Tensor) -> bool:
    return tensor.count <= 1 << 16 and not tensor.numpy().any()


def dynamic_quantize(node: Node, e: Emitter) -> Unpacked:
    return Unpacked(call(e.helper("dynamic_quantize"), e.tensor(node.operand(0))))


def matmul_integer(node: Node, e: Emitter) -> Code:
    args = [e.tensor(v) for v in node.inputs[:2]] + [number_or_tensor(v, e) for v in node.inputs[2:]]
    return call(e.helper("integer_matmul"), *args)


def conv_integer(node: Node, e: Emitter) -> Code:
    """Padding is with the zero point, so it is applied first where there is one (ConvInteger-10)."""
    x, weight = node.operand(0), node.operand(1)
    spatial = e.need_rank(node, weight) - 2
    e.need(spatial in (1, 2, 3), node, f"there is no row for {spatial} spatial axes")
    shape = e.resolve(weight).shape or ()
    before, after = spatial_padding(node, e, spatial, [int(k) for k in shape[2:]])
    data = e.tensor(x)
    if before != after:
        e.need(node.input(2) is None, node, "it has a zero point and padding that differs by side")
        data, before = padded(data, before, after), [0] * spatial
    args = [data, e.tensor(weight), *[number_or_tensor(v, e) for v in node.inputs[2:]]]
    return call(e.helper("integer_conv"), *args, **conv_options(node, spatial, before))


def q_linear_matmul(node: Node, e: Emitter) -> Code:
    """dequantize, multiply, quantize (QLinearMatMul-21)."""
    a, b = e.tensor(node.operand(0)), e.tensor(node.operand(3))
    a_scale, a_zero, b_scale, b_zero, y_scale, y_zero = (
        number_or_tensor(node.operand(i), e) for i in (1, 2, 4, 5, 6, 7)
    )
    kind = e.torch_type(node.operand(7))
    single = all(e.resolve(node.operand(i)).shape in ((), (1,)) for i in (1, 4))
    e.need(single, node, "its scales are not scalars")
    left, right = call(e.helper("dequantize"), a, a_scale, a_zero), call("dequantize", b, b_scale, b_zero)
    return call(e.helper("quantize"), method(left, "matmul", right), y_scale, y_zero, kind)


def q_linear_conv(node: Node, e: Emitter) -> Code:
    """dequantize, convolve, quantize (QLinearConv-10); the bias is int32 at x_scale * w_scale."""
    x, w, weight = e.tensor(node.operand(0)), e.tensor(node.operand(3)), node.operand(3)
    x_scale, x_zero, w_scale, w_zero, y_scale, y_zero = (
        number_or_tensor(node.operand(i), e) for i in (1, 2, 4, 5, 6, 7)
    )
    spatial = e.need_rank(node, weight) - 2
    e.need(spatial in (1, 2, 3), node, f"there is no row for {spatial} spatial axes")
    before, after = spatial_padding(node, e, spatial, [int(k) for k in (e.resolve(weight).shape or ())[2:]])
    data = call(e.helper("dequantize"), x, x_scale, x_zero)
    if before != after:
        data, before = padded(data, before, after), [0] * spatial
    args = [data, call("dequantize", w, w_scale, w_zero, axis=0)]
    if node.input(8) is not None:
        scale = Variable("bias_scale")
        e.assign([scale], infix("*", x_scale, w_scale))
        args.append(call("dequantize", e.tensor(node.input(8)), scale, axis=0))
    made = call(f"F.conv{spatial}d", *args, **conv_options(node, spatial, before))
    return call(e.helper("quantize"), made, y_scale, y_zero, e.torch_type(node.operand(7)))


ROWS: dict[str, Row] = {
    "QuantizeLinear": quantize, "DequantizeLinear": dequantize, "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": matmul_integer, "ConvInteger": conv_integer, "QLinearMatMul": q_linear_matmul,
    "QLinearConv": q_linear_conv,
}  # fmt: skip
