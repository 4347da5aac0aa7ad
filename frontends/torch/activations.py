"""Activation functions, softmax and dropout."""

from __future__ import annotations

from ...ir import DType, Value
from ...ir.attributes import shortest
from .lowering import Lowering, Row, Rows, axis_of, rank_of, shape_of


def relu(op: Lowering, x: Value) -> Value:
    return op.Relu(x)


def hardtanh(op: Lowering, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return op.Clip(x, op.scalar(min_val, op.out.dtype), op.scalar(max_val, op.out.dtype))


def relu6(op: Lowering, x: Value) -> Value:
    return hardtanh(op, x, 0.0, 6.0)


def leaky_relu(op: Lowering, x: Value, negative_slope: float = 0.01) -> Value:
    return op.LeakyRelu(x, alpha=shortest(negative_slope))


def prelu(op: Lowering, x: Value, weight: Value) -> Value:
    """One slope, or one per entry of axis 1."""
    rank = rank_of(x)
    slopes = (
        weight if rank <= 1 else op.reshape(weight, [shape_of(weight)[0] if rank_of(weight) else 1, *[1] * (rank - 2)])
    )
    return op.PRelu(x, slopes)


def elu(op: Lowering, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    if input_scale != 1:
        op.decline(f"ONNX's Elu has no input scale, and this one is {input_scale}")
    made = op.Elu(x, alpha=shortest(alpha))
    return made if scale == 1 else op.Mul(made, op.scalar(scale, op.out.dtype))


def celu(op: Lowering, x: Value, alpha: float = 1.0) -> Value:
    return op.Celu(x, alpha=shortest(alpha))


def selu(op: Lowering, x: Value) -> Value:
    return op.Selu(x)


def gelu(op: Lowering, x: Value, approximate: str = "none") -> Value:
    return op.Gelu(x, approximate=approximate)


def silu(op: Lowering, x: Value) -> Value:
    """x * sigmoid(x), spelled out: ONNX Runtime has no kernel for Swish."""
    return op.Mul(x, op.Sigmoid(x))


def mish(op: Lowering, x: Value) -> Value:
    return op.Mish(x)


def hardswish(op: Lowering, x: Value) -> Value:
    return op.HardSwish(x)


def hardsigmoid(op: Lowering, x: Value) -> Value:
    """clip(x / 6 + 1 / 2, 0, 1)."""
    return op.HardSigmoid(x, alpha=shortest(1 / 6), beta=0.5)


def softplus(op: Lowering, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """log(1 + exp(beta * x)) / beta; the linear part above the threshold differs from it by less than
    exp(-threshold)."""
    if threshold < 15:
        op.decline(f"the threshold {threshold} is so low that the switch to the linear part shows")
    if beta == 1:
        return op.Softplus(x)
    factor = op.scalar(beta, op.out.dtype)
    return op.Div(op.Softplus(op.Mul(x, factor)), factor)


def log_sigmoid(op: Lowering, x: Value) -> Value:
    return op.Neg(op.Softplus(op.Neg(x)))


def softsign(op: Lowering, x: Value) -> Value:
    return op.Softsign(x)


def hardshrink(op: Lowering, x: Value, lambd: float = 0.5) -> Value:
    return op.Shrink(x, lambd=shortest(lambd), bias=0.0)


def softshrink(op: Lowering, x: Value, lambd: float = 0.5) -> Value:
    return op.Shrink(x, lambd=shortest(lambd), bias=shortest(lambd))


def threshold(op: Lowering, x: Value, threshold: float, value: float) -> Value:
    dtype = op.out.dtype
    return op.Where(op.Greater(x, op.scalar(threshold, dtype)), x, op.scalar(value, dtype))


def glu(op: Lowering, x: Value, dim: int = -1) -> Value:
    """The first half along `dim` times the sigmoid of the second."""
    value, gate = op.Split(x, axis=axis_of(x, dim), num_outputs=2, outputs=2)
    return op.Mul(value, op.Sigmoid(gate))


def softmax(name: str) -> Row:
    def row(op: Lowering, x: Value, dim: int, half_to_float: object = None) -> Value:
        if rank_of(x) == 0:
            op.decline("ONNX has no softmax of a scalar")
        return op.call(name, op.cast(x, op.out.dtype), axis=axis_of(x, dim))

    return row


def dropout(op: Lowering, x: Value, p: float = 0.5, train: bool = False) -> Value:
    """Nothing happens outside training."""
    if train:
        op.refuse_training()
    return x


def native_dropout(op: Lowering, x: Value, p: float, train: bool | None) -> tuple[Value, Value]:
    kept = op.full(shape_of(x), True, DType.BOOL)
    return dropout(op, x, p, bool(train)), kept


def rrelu(
    op: Lowering, x: Value, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: object = None
) -> Value:
    """The mean slope outside training."""
    return op.LeakyRelu(dropout(op, x, 0.0, training), alpha=shortest((lower + upper) / 2))


def tanhshrink(op: Lowering, x: Value) -> Value:
    return op.Sub(x, op.Tanh(x))


ROWS: Rows = {
    "aten.relu.default": relu, "aten.relu6.default": relu6, "aten.hardtanh.default": hardtanh,
    "aten.leaky_relu.default": leaky_relu, "aten.prelu.default": prelu, "aten._prelu_kernel.default": prelu,
    "aten.elu.default": elu, "aten.celu.default": celu, "aten.selu.default": selu, "aten.rrelu.default": rrelu,
    "aten.gelu.default": gelu, "aten.silu.default": silu, "aten.mish.default": mish,
    "aten.hardswish.default": hardswish, "aten.hardsigmoid.default": hardsigmoid,
    "aten.softplus.default": softplus, "aten.log_sigmoid.default": log_sigmoid, "aten.softsign.default": softsign,
    "aten.hardshrink.default": hardshrink, "aten.softshrink.default": softshrink, "aten.tanhshrink.default": tanhshrink,
    "aten.threshold.default": threshold, "aten.glu.default": glu,
    "aten.softmax.int": softmax("Softmax"), "aten._softmax.default": softmax("Softmax"),
    "aten.log_softmax.int": softmax("LogSoftmax"), "aten._log_softmax.default": softmax("LogSoftmax"),
    "aten.dropout.default": dropout, "aten.feature_dropout.default": dropout, "aten.alpha_dropout.default": dropout,
    "aten.feature_alpha_dropout.default": dropout, "aten.native_dropout.default": native_dropout,
}  # fmt: skip
