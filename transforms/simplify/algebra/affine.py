"""Per-channel affine operations folded into the weights of the linear operator before them.

y = k * (W x + b) + s is (k W) x + (k b + s). The arithmetic is lazy and in double precision, rounded once.
"""

from __future__ import annotations

from ....ir import Builder, Node, Tensor, Value, constant
from ....ir.rewrite import P, Result, decline, rule
from ....ir.tensors import Lazy, reshape

x, w, b = P.var("x"), P.const("w"), P.opt_const("b")
g, t, m, v = P.const("g"), P.const("t"), P.const("m"), P.const("v")


def scale_and_shift(bn: Node, g: Value, t: Value, m: Value, v: Value) -> tuple[Value, Value]:
    """k and s with BatchNormalization(x) = k x + s per channel (BatchNormalization-15, inference)."""
    k = g / constant(Lazy("sqrt", [(v + bn.float("epsilon")).tensor]))
    return k, t - m * k


def is_inference(bn: Node) -> bool:
    """True when the normalisation uses its stored statistics."""
    return not bn.int("training_mode") and not any(o.users for o in bn.outputs[1:])


def one_dtype(*values: Value | None) -> bool:
    """True when all constants have one element type."""
    return len({value.tensor.dtype for value in values if value is not None}) == 1


def affine(op: Builder, conv: Node, x: Value, w: Value, b: Value | None, k: Value | None, s: Value | None) -> Result:
    """The Conv, ConvTranspose or Gemm `conv` with k multiplied into its weight and bias, and s added to its bias."""
    if not one_dtype(w, b, k, s):
        return decline("element types differ")
    axis = output_axis(conv)
    if axis is None:
        return decline("its output channels are not one axis of its weight")
    if conv.op == "Gemm" and (conv.float("beta") != 1.0 or (b is not None and b.rank != 1)):
        return decline("its bias is scaled or not one per channel")
    if conv.op == "Gemm" and conv.float("alpha") != 1.0:
        return decline("its product is scaled")
    weight = w if k is None else w * op.channelwise(k, w.tensor.rank, axis)
    bias = b if k is None or b is None else b * k
    if s is not None:
        bias = s if bias is None else bias + s
    weight.name = w.name
    if bias is not None:
        bias.name = b.name if b is not None and b.name else f"{w.name.removesuffix('.weight')}.bias"
    made = op.node(conv.op, [x, weight] if bias is None else [x, weight, bias], conv.attrs)
    assert isinstance(made, Node)
    return made.output


def output_axis(node: Node) -> int | None:
    """The axis of the weight that is the output channel; None for a grouped ConvTranspose, which spreads it over
    two.
    """
    if node.op == "Conv":
        return 0
    if node.op == "Gemm":
        return 0 if node.int("transB") else 1
    return 1 if node.int("group", 1) == 1 else None


linear = P.Conv(x, w, b).named("conv") | P.ConvTranspose(x, w, b).named("conv") | P.Gemm(x, w, b).named("conv")


@rule(P.BatchNormalization(linear, g, t, m, v).named("bn"))
def fold_batchnorm_into_linear(
    op: Builder, x: Value, w: Value, b: Value | None, g: Value, t: Value, m: Value, v: Value, conv: Node, bn: Node
) -> Result:
    """Conv, ConvTranspose or Gemm, then BatchNormalization, is one Conv, ConvTranspose or Gemm."""
    if not is_inference(bn):
        return decline("it normalises with the batch's statistics")
    if not one_dtype(w, g, t, m, v):
        return decline("element types differ")
    k, s = scale_and_shift(bn, g, t, m, v)
    return affine(op, conv, x, w, b, k, s)


@rule(P.BatchNormalization(P.MatMul(x, w) | P.Add(P.MatMul(x, w), P.const("b")), g, t, m, v).named("bn"))
def fold_batchnorm_into_matmul(
    op: Builder, x: Value, w: Value, b: Value | None, g: Value, t: Value, m: Value, v: Value, bn: Node
) -> Result:
    """MatMul with a constant matrix, perhaps a bias, then BatchNormalization of a matrix, is MatMul and bias."""
    if not is_inference(bn):
        return decline("it normalises with the batch's statistics")
    if x.rank != 2 or w.rank != 2 or (b is not None and b.rank != 1):
        return decline("channels are not the last axis")
    if not one_dtype(w, b, g, t, m, v):
        return decline("element types differ")
    k, s = scale_and_shift(bn, g, t, m, v)
    return op.Add(op.MatMul(x, w * k), s if b is None else b * k + s)


def per_channel(value: Value, rank: int, channels: int) -> Tensor | None:
    """A constant as one number per channel (axis 1) of a tensor of `rank`; None when it varies along another axis."""
    tensor = value.tensor
    shape = (1,) * (rank - tensor.rank) + tensor.shape
    if (
        tensor.rank > rank
        or any(size != 1 for axis, size in enumerate(shape) if axis != 1)
        or shape[1] not in (1, channels)
    ):
        return None
    flat = reshape(tensor, (shape[1],))
    return flat if shape[1] == channels else Lazy("broadcast", [flat], shape=(channels,))


@rule(P.Mul(linear, P.const("c")))
def fold_scale_into_linear(op: Builder, x: Value, w: Value, b: Value | None, c: Value, conv: Node) -> Result:
    """A constant factor per channel is part of the weight and the bias before it."""
    return _fold_constant(op, conv, x, w, b, c, is_scale=True)


@rule(P.Add(linear, P.const("c")))
def fold_shift_into_linear(op: Builder, x: Value, w: Value, b: Value | None, c: Value, conv: Node) -> Result:
    """A constant summand per channel is part of the bias before it."""
    return _fold_constant(op, conv, x, w, b, c, is_scale=False)


def _fold_constant(op: Builder, conv: Node, x: Value, w: Value, b: Value | None, c: Value, *, is_scale: bool) -> Result:
    rank, axis = conv.output.rank, output_axis(conv)
    if rank is None or axis is None:
        return decline(
            "its rank is not known" if rank is None else "its output channels are not one axis of its weight"
        )
    flat = per_channel(c, rank, w.tensor.shape[axis])
    if flat is None:
        return decline("the constant is not one number per channel")
    number = constant(flat)
    return affine(op, conv, x, w, b, number, None) if is_scale else affine(op, conv, x, w, b, None, number)


RULES = (fold_batchnorm_into_linear, fold_batchnorm_into_matmul, fold_scale_into_linear, fold_shift_into_linear)
