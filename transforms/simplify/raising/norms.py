"""Normalizations written out as means, roots and products become the operators that they are.

It goes in steps, each a rule of its own: the statistics become a normalization whose scale is 1; a product and a sum
behind it become its scale and bias; a Cast on either side becomes part of it. So every mixture of them is covered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir import Builder, DType, Node, Placeholder, TensorType, Value, constant
from ....ir.dims import Size
from ....ir.rewrite import P, Pattern, Result, Rule, decline, rule
from ....ir.tensors import Lazy, reshape
from .parts import axes_of, number, rooted, single

x = P.var("x")
FLOATS = frozenset([DType.F16, DType.BF16, DType.F32, DType.F64])


def mean_square(value: Pattern) -> Pattern:
    """The mean of squares plus a small number."""
    squares = P.Pow(value, 2) | P.Mul(value, value)
    mean = P.ReduceMean(squares, P.opt_const("axes"), keepdims=1).named("power")
    total = P.ReduceSumSquare(value, P.opt_const("axes"), keepdims=1).named("power")
    return P.Add(mean | P.Div(total, P.const("count")) | P.Mul(total, P.const("share")), P.const("epsilon"))


def divided(value: Pattern, square: Pattern) -> Pattern:
    """`value` divided by the root of `square`."""
    root = P.Sqrt(square) | P.Pow(square, 0.5)
    inverse = P.Reciprocal(root) | P.Div(1, root) | P.Pow(square, -0.5)
    return P.Div(value, root) | P.Mul(value, inverse)


mean = P.ReduceMean(x, P.opt_const("about"), keepdims=1).named("mean")
centred = P.Sub(x, mean).named("centred").shared


@rule(rooted(divided(centred, mean_square(centred))))
def raise_centred_normalization(
    op: Builder, x: Value, mean: Node, centred: Node, power: Node, epsilon: Value, root: Node,
    count: Value | None, share: Value | None,
) -> Result:  # fmt: skip
    """(x - mean) / sqrt(variance + epsilon) is LayerNormalization over the last axes, InstanceNormalization over the
    spatial ones of images, with a scale of 1.
    """
    axes, about, squares = axes_of(power), axes_of(mean), power
    if axes is None or axes != about:
        return decline("mean and variance run over different axes")
    if power.op == "ReduceMean":
        squares = power.operand(0).node
    elif not _counts(power, count, share):
        return decline("the sum of squares is not divided by their number")
    if any(user not in (root, squares) for user in centred.output.users):
        return decline("the centred value has other users")
    shape = x.shape
    if shape is not None and len(shape) >= 4 and axes == list(range(2, len(shape))) and isinstance(shape[1], int):
        why = _refusal(x, epsilon, root)
        units = (constant(np.full(shape[1], unit, np.float32)) for unit in (1, 0))
        return decline(why) if why else op.InstanceNormalization(x, *units, epsilon=single(number(epsilon) or 0.0))
    return _normalization(op, "LayerNormalization", x, axes, epsilon, root)


total = P.ReduceSumSquare(x, P.opt_const("axes"), keepdims=1).named("total")


@rule(rooted(divided(x, mean_square(x)) | divided(x, P.Add(total, P.const("epsilon")))))
def raise_rms_normalization(
    op: Builder, x: Value, power: Node | None, total: Node | None, epsilon: Value, root: Node,
    count: Value | None, share: Value | None,
) -> Result:  # fmt: skip
    """x / sqrt(mean(x^2) + epsilon) over the last axes is RMSNormalization with a scale of 1; with the sum instead of
    the mean of n squares its scale is 1 / sqrt(n).
    """
    reduction = power or total
    assert reduction is not None
    axes = axes_of(reduction)
    if axes is None:
        return decline("its axes are not known")
    if power is not None and power.op != "ReduceMean" and not _counts(power, count, share):
        return decline("the sum of squares is not divided by their number")
    return _normalization(op, "RMSNormalization", x, axes, epsilon, root, is_sum=power is None)


def _counts(total: Node, count: Value | None, share: Value | None) -> bool:
    """True where a sum is divided by the number of its terms, or multiplied by its inverse."""
    axes, shape = axes_of(total), total.operand(0).shape
    sizes = None if axes is None or shape is None else static([shape[axis] for axis in axes])
    given = number(count if count is not None else share)
    if sizes is None or not given:
        return False
    return math.isclose(given if count is not None else 1 / given, math.prod(sizes), rel_tol=1e-6)


def _refusal(x: Value, epsilon: Value, root: Node) -> str:
    """Why the root is no normalization of `x`; '' where it may be one."""
    small = number(epsilon)
    if small is None or small < 0:
        return "epsilon is not one number"
    if x.shape is None or not isinstance(x.type, TensorType):
        return "the shape of its operand is not known"
    if x.type.dtype is not DType.F32:
        return f"it is computed in {x.type.dtype!r}, not in single precision"
    return "" if root.output.type == x.type else "its operands broadcast"


def _normalization(
    op: Builder, name: str, x: Value, axes: Sequence[int], epsilon: Value, root: Node, *, is_sum: bool = False
) -> Result:
    """The operator over the last axes of `x` with a scale that stands for 1, or why not."""
    why, shape, small = _refusal(x, epsilon, root), x.shape, number(epsilon)
    if why or shape is None or small is None:
        return decline(why)
    if not axes or list(axes) != list(range(len(shape) - len(axes), len(shape))):
        return decline("its statistics do not run over the last axes")
    sizes = static(shape[len(shape) - len(axes) :])
    if sizes is None:
        return decline("the sizes of the axes that it normalises are not known")
    count = math.prod(sizes) if is_sum else 1
    scale = constant(np.full(sizes, 1 / math.sqrt(count), np.float32))
    return op.node(name, [x, scale], {"axis": -len(axes), "epsilon": single(small / count)}).output  # pyright: ignore


def static(sizes: Sequence[Size]) -> tuple[int, ...] | None:
    """The sizes where they are all numbers."""
    known = tuple(d for d in sizes if isinstance(d, int))
    return known if len(known) == len(sizes) else None


def is_filled(value: Value | None, unit: float) -> bool:
    """True for a small constant of which every element is `unit`."""
    tensor = None if value is None else value.const
    return (
        tensor is not None
        and tensor.nbytes <= 1 << 20
        and tensor.dtype.is_float
        and not isinstance(tensor, Placeholder)
        and bool(np.all(tensor.numpy() == unit))
    )


# Forms in which the scale is multiplied in before the root divides.

moment = P.ReduceMean(x, P.opt_const("about"), keepdims=1).named("mean").shared


@rule(
    P.Add(P.Mul(x, P.var("k")), P.Sub(P.var("b"), P.Mul(moment, P.var("k"))))
    | P.Add(P.Sub(P.Mul(x, P.var("k")), P.Mul(moment, P.var("k"))), P.var("b"))
)
def centre_before_scaling(op: Builder, x: Value, mean: Node, k: Value, b: Value) -> Result:
    """x k + (b - mean k) is (x - mean) k + b."""
    return op.Add(op.Mul(op.Sub(x, mean.output), k), b)


d, w = P.var("d"), P.const("w")
deviation = P.Sqrt(mean_square(d)).named("length") | P.Sqrt(
    P.Add(P.ReduceSumSquare(d, P.opt_const("axes"), keepdims=1), P.const("epsilon"))
).named("length")


@rule(
    rooted(
        P.Mul(d, P.Div(w, deviation) | P.Mul(P.Reciprocal(deviation), w))
        | P.Div(P.Mul(d, w), deviation)
        | P.Mul(P.Mul(d, w), P.Reciprocal(deviation))
    )
)
def scale_after_root(op: Builder, d: Value, w: Value, length: Node, root: Node) -> Result:
    """What is scaled before it is divided by its deviation is scaled behind it."""
    if root.output.type != d.type:
        return decline("its operands broadcast")
    return op.Mul(op.Div(d, length.output), w)


# Scale, bias and element type.

LAST, CHANNELS = ("LayerNormalization", "RMSNormalization"), ("GroupNormalization", "InstanceNormalization")
norm = (
    P.LayerNormalization(x, P.var("scale"), P.opt("bias")).named("norm")
    | P.RMSNormalization(x, P.var("scale")).named("norm")
    | P.GroupNormalization(x, P.var("scale"), P.var("bias")).named("norm")
    | P.InstanceNormalization(x, P.var("scale"), P.var("bias")).named("norm")
)


@rule(P.Mul(norm, P.var("factor")).named("root"))
def scale_normalization(
    op: Builder, x: Value, scale: Value, bias: Value | None, norm: Node, factor: Value, root: Node
) -> Result:
    """A product behind a normalization whose scale is 1 is its scale."""
    if not is_filled(scale, 1) or not (bias is None or is_filled(bias, 0)):
        return decline("the normalization has a scale of its own")
    fitted = _fitted(factor, norm, root)
    if fitted is None:
        return decline("the factor is not shaped like its scale")
    return op.node(norm.op, [x, fitted, *([bias] if bias is not None else [])], norm.attrs).output  # pyright: ignore


@rule(P.Add(norm, P.var("summand")).named("root"))
def shift_normalization(
    op: Builder, x: Value, scale: Value, bias: Value | None, norm: Node, summand: Value, root: Node
) -> Result:
    """A sum behind a normalization without a bias is its bias."""
    if norm.op == "RMSNormalization":
        return decline("it has no bias")
    if not (bias is None or is_filled(bias, 0)):
        return decline("the normalization has a bias of its own")
    fitted = _fitted(summand, norm, root)
    if fitted is None:
        return decline("the summand is not shaped like its bias")
    return op.node(norm.op, [x, scale, fitted], norm.attrs).output  # pyright: ignore


statistics = [P.const(name) for name in ("k", "s", "m", "v")]


@rule(P.BatchNormalization(norm, *statistics).named("root"))
def affine_normalization(
    op: Builder,
    x: Value,
    scale: Value,
    bias: Value | None,
    norm: Node,
    k: Value,
    s: Value,
    m: Value,
    v: Value,
    root: Node,
) -> Result:
    """A BatchNormalization that only scales and shifts, behind a normalization of channels, is its scale and bias."""
    if norm.op not in CHANNELS or not is_filled(scale, 1) or not is_filled(bias, 0):
        return decline("the normalization is not one of channels, or has a scale of its own")
    if root.int("training_mode") or any(o.users for o in root.outputs[1:]):
        return decline("it normalises with the batch's statistics")
    if not is_filled(m, 0) or not is_filled(v, 1) or root.float("epsilon") != 0 or k.type != s.type:
        return decline("its statistics change something")
    return op.node(norm.op, [x, k, s], norm.attrs).output  # pyright: ignore


def _fitted(value: Value, norm: Node, root: Node) -> Value | None:
    """A factor or summand of a normalization's result in the shape of its scale; None where it varies along more."""
    shape, scale, own = value.shape, norm.operand(1), root.output.shape
    sizes = None if scale.shape is None else static(scale.shape)
    if root.output.type != norm.output.type or shape is None or sizes is None or own is None:
        return None
    if value.type != TensorType(norm.output.type.dtype, shape) or len(shape) > len(own):  # pyright: ignore
        return None
    full = (1,) * (len(own) - len(shape)) + tuple(shape)
    first = len(own) - len(sizes) if norm.op in LAST else 1
    inner, outer = full[first : first + len(sizes)], full[:first] + full[first + len(sizes) :]
    if any(size != 1 for size in outer) or any(a not in (1, b) for a, b in zip(inner, sizes, strict=True)):
        return None
    if value.const is None:
        return value if tuple(shape) == sizes and norm.op in LAST else None
    if tuple(shape) == sizes and norm.op in LAST:
        return value
    tensor = reshape(value.tensor, tuple(int(size) for size in inner))
    return constant(tensor if inner == sizes else Lazy("broadcast", [tensor], shape=sizes), value.name)


@rule(
    P.Cast(
        P.LayerNormalization(P.Cast(x).shared, P.const("scale")).named("norm")
        | P.RMSNormalization(P.Cast(x).shared, P.const("scale")).named("norm")
    ).named("root")
)
def narrow_normalization(op: Builder, x: Value, scale: Value, norm: Node, root: Node) -> Result:
    """A normalization between a Cast to single precision and one back is one that computes in single precision."""
    if not isinstance(x.type, TensorType) or x.type.dtype not in (DType.F16, DType.BF16):
        return decline("its operand is not in half precision")
    if root.output.type != x.type:
        return decline("it is cast to another type than it came from")
    if norm.int("stash_type") != DType.F32.code or not is_filled(scale, 1):
        return decline("it has a scale in single precision")
    narrow = constant(np.ones(scale.tensor.shape, x.type.dtype.numpy))
    return op.node(norm.op, [x, narrow], norm.attrs).output  # pyright: ignore


# Groups.

grouped = P.Reshape(x, P.var("groups")).named("inner")


@rule(
    P.Reshape(
        P.InstanceNormalization(grouped, P.const("scale"), P.const("bias")).named("norm")
        | P.LayerNormalization(grouped, P.const("scale")).named("norm"),
        P.var("shape"),
    ).named("root")
)
def raise_group_normalization(
    op: Builder, x: Value, scale: Value, bias: Value | None, inner: Node, norm: Node, root: Node
) -> Result:
    """An InstanceNormalization, or a LayerNormalization without scale, of groups of channels is GroupNormalization."""
    shape, groups = x.shape, inner.output.shape
    if shape is None or groups is None or len(shape) < 3 or len(groups) < 3:
        return decline("its shapes are not known, or not those of images")
    if root.output.type != x.type or not isinstance(x.type, TensorType) or x.type.dtype is not DType.F32:
        return decline("it does not give back the shape of its operand, or not in single precision")
    channels, count = shape[1], groups[1]
    if groups[0] != shape[0] or not isinstance(channels, int) or not isinstance(count, int) or channels % count:
        return decline("its second axis does not split the channels into groups")
    if norm.op == "LayerNormalization":
        if norm.int("axis") % len(groups) != 2 or not is_filled(scale, 1) or norm.int("stash_type") != 1:
            return decline("it is not normalised for each group alone")
        scale, bias = (constant(np.full(count, unit, np.float32)) for unit in (1, 0))
    assert bias is not None
    return op.GroupNormalization(
        x, _spread(scale, channels), _spread(bias, channels), num_groups=count, epsilon=norm.float("epsilon")
    )


def _spread(value: Value, channels: int) -> Value:
    """A number for each group as one for each channel."""
    count = value.tensor.count
    each = Lazy("broadcast", [reshape(value.tensor, (count, 1))], shape=(count, channels // count))
    return constant(reshape(each, (channels,)), value.name)


# What is the same unless some vector is zero.

length = P.ReduceL2(x, P.const("axes"), keepdims=1).named("length")
bounded = P.Max(length, P.const("low")) | P.Clip(length, P.const("low"), P.opt("high"))


@rule(rooted(P.Div(x, length) | P.Div(x, bounded) | P.Div(x, P.Expand(bounded, P.var("shape")))))
def raise_lp_normalization(
    op: Builder, x: Value, length: Node, low: Value | None, high: Value | None, root: Node
) -> Result:
    """x divided by its length along an axis is LpNormalization (22), where no length is zero or near it."""
    axes = axes_of(length)
    if axes is None or len(axes) != 1:
        return decline("it runs over more than one axis")
    if high is not None or (low is not None and not 0 <= (number(low) or 0.0) <= NEARLY_ZERO):
        return decline("the length is bounded by more than nearly zero")
    if not isinstance(x.type, TensorType) or x.type.dtype is not DType.F32 or root.output.type != x.type:
        return decline("its operands broadcast, or are not in single precision")
    return op.LpNormalization(x, axis=axes[0], p=2)


NEARLY_ZERO = 1e-6

RULES: tuple[Rule, ...] = (
    raise_centred_normalization,
    raise_rms_normalization,
    centre_before_scaling,
    scale_after_root,
    scale_normalization,
    shift_normalization,
    affine_normalization,
    narrow_normalization,
    raise_group_normalization,
)

PROMISED: dict[str, tuple[Rule, ...]] = {"no-zero-vectors": (raise_lp_normalization,)}
"""Rules that need a promise, by its name: a vector of zeros has a length of 0, and what is divided by it differs."""
