"""Activations written out by their formulas become the operators that they are.

Numbers are compared up to the rounding of their element type, products are matched in every association. What an
operator stands for is its function in the ONNX specification; papers are named where they fix the numbers.
"""

from __future__ import annotations

import math

from ....ir import Builder, DType, Node, Value
from ....ir.rewrite import P, Pattern, Result, Rule, decline, rule
from .parts import SINGLE, number, product, refusal, rooted, scaled, single

x, y = P.var("x"), P.var("y")
FLOATS = frozenset([DType.F16, DType.F32, DType.F64])


def unary(root: Node, x: Value, result: Value, dtypes: frozenset[DType] = SINGLE) -> Result:
    """`result`, where it may stand for `root`; what the builder made is dropped otherwise."""
    why = refusal(root, x, dtypes)
    return decline(why) if why else result


# Gelu (Hendrycks and Gimpel, 2016): x times the normal distribution function, or its approximation by tanh.

SQRT_2_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715


def cubic(factor: float) -> Pattern:
    """factor * sqrt(2 / pi) * (x + 0.044715 x^3), as people write it."""
    outer = factor * SQRT_2_PI
    square = P.Mul(x, x) | P.Pow(x, 2)
    cube = P.Pow(x, 3) | P.Mul(square, x)
    bent = P.Mul(square, CUBIC) | P.Mul(P.Mul(x, CUBIC), x)
    return (
        scaled(P.Add(x, P.Mul(cube, CUBIC) | P.Mul(bent, x)), outer)
        | product(x, P.Add(bent, 1), outer)
        | P.Mul(x, P.Add(P.Mul(square, CUBIC * outer), outer))
    )


def halves(squashed: Pattern) -> Pattern:
    """x * 0.5 * (1 + squashed)."""
    return product(x, P.Add(squashed, 1), 0.5) | P.Mul(x, P.Add(scaled(squashed, 0.5), 0.5))


mirrored = P.Sub(1, P.Erf(scaled(x, -math.sqrt(0.5))))
"""1 + erf(x / sqrt(2)) as the complement of the other end."""


@rule(rooted(halves(P.Erf(scaled(x, math.sqrt(0.5)))) | product(x, mirrored, 0.5)))
def raise_gelu(op: Builder, x: Value, root: Node) -> Result:
    """x * 0.5 * (1 + erf(x / sqrt(2))) is Gelu."""
    return unary(root, x, op.Gelu(x))


@rule(rooted(halves(P.Tanh(cubic(1))) | P.Mul(x, P.Sigmoid(cubic(2)))))
def raise_tanh_gelu(op: Builder, x: Value, root: Node) -> Result:
    """x * 0.5 * (1 + tanh(u)), which is x * sigmoid(2 u), is Gelu with the approximation by tanh for its cubic u."""
    return unary(root, x, op.Gelu(x, approximate="tanh"))


# The sigmoid and what is a product with it.


half_tanh = P.Tanh(scaled(x, 0.5))


@rule(
    rooted(
        P.Reciprocal(P.Add(P.Exp(P.Neg(x)), 1))
        | P.Div(1, P.Add(P.Exp(P.Neg(x)), 1))
        | P.Add(scaled(half_tanh, 0.5), 0.5)
        | scaled(P.Add(half_tanh, 1), 0.5)
    )
)
def raise_sigmoid(op: Builder, x: Value, root: Node) -> Result:
    """1 / (1 + exp(-x)), which is (1 + tanh(x / 2)) / 2, is Sigmoid."""
    return unary(root, x, op.Sigmoid(x), FLOATS)


@rule(rooted(P.Mul(x, P.Sigmoid(x)) | P.Div(x, P.Add(P.Exp(P.Neg(x)), 1))))
def raise_swish(op: Builder, x: Value, root: Node) -> Result:
    """x * sigmoid(x) is Swish (Swish-24)."""
    return unary(root, x, op.Swish(x))


@rule(rooted(P.Mul(x, P.Sigmoid(P.Mul(x, P.const("k")) | P.Div(x, P.const("d"))))))
def raise_scaled_swish(op: Builder, x: Value, root: Node, k: Value | None, d: Value | None) -> Result:
    """x * sigmoid(k x) is Swish with alpha k, as in the Gelu that is approximated by 1.702."""
    given = number(k if k is not None else d)
    if given is None or given == 0:
        return decline("the factor is not one number")
    return unary(root, x, op.Swish(x, alpha=single(given if k is not None else 1 / given)))


# Piecewise linear ones.


@rule(
    rooted(
        P.Mul(P.Clip(y, 0, P.const("top")).named("clip"), P.const("k"))
        | P.Div(P.Clip(y, 0, P.const("top")).named("clip"), P.const("d"))
        | P.Clip(y, 0, 1)
    )
)
def raise_hard_sigmoid(
    op: Builder, y: Value, root: Node, top: Value | None, k: Value | None, d: Value | None
) -> Result:
    """Clip(a x + b, 0, c) / c is HardSigmoid with a / c and b / c, for a positive c."""
    high = 1.0 if top is None else number(top)
    given = 1.0 if top is None else number(k if k is not None else d)
    if high is None or given is None or high <= 0 or given == 0:
        return decline("its bounds are not two numbers")
    if abs(high * (given if k is not None or top is None else 1 / given) - 1) > 1e-6:
        return decline("its values do not end at 1")
    line = _line(y)
    if line is None:
        return decline("what it bounds is not a x + b with two numbers")
    source, slope, shift = line
    return unary(root, source, op.HardSigmoid(source, alpha=single(slope / high), beta=single(shift / high)))


def _line(y: Value) -> tuple[Value, float, float] | None:
    """x, a and b of y = a x + b, as far as only y's own nodes tell; None where y is no sum with a number."""
    node = y.node
    if node is None or node.domain or node.op != "Add" or y.only_user is None:
        return None
    for index in (0, 1):
        shift = number(node.operand(index))
        if shift is None:
            continue
        source = node.operand(1 - index)
        inner = source.node
        if inner is not None and not inner.domain and inner.op in ("Mul", "Div") and source.only_user is node:
            factors = [number(v) for v in inner.inputs]
            if factors[1] is not None and factors[1] != 0:
                return inner.operand(0), factors[1] if inner.op == "Mul" else 1 / factors[1], shift
            if factors[0] is not None and inner.op == "Mul":
                return inner.operand(1), factors[0], shift
        return source, 1.0, shift
    return None


def is_sixth(alpha: object) -> bool:
    return isinstance(alpha, float) and abs(alpha * 6 - 1) < 1e-6


@rule(
    rooted(
        P.Mul(x, P.HardSigmoid(x, alpha=is_sixth, beta=0.5))
        | scaled(P.Mul(x, P.Clip(P.Add(x, 3), 0, 6)), 1 / 6)
        | P.Mul(scaled(x, 1 / 6), P.Clip(P.Add(x, 3), 0, 6))
    )
)
def raise_hard_swish(op: Builder, x: Value, root: Node) -> Result:
    """x * HardSigmoid(x, 1/6, 1/2) is HardSwish (HardSwish-22), and so is x * Clip(x + 3, 0, 6) / 6."""
    return unary(root, x, op.HardSwish(x))


# Those with a logarithm of a sum.


@rule(
    rooted(
        P.Log(P.Add(P.Exp(x), 1))
        | P.Add(P.Relu(x) | P.Max(x, 0), P.Log(P.Add(P.Exp(P.Neg(P.Abs(x))), 1)) | P.Softplus(P.Neg(P.Abs(x))))
    )
)
def raise_softplus(op: Builder, x: Value, root: Node) -> Result:
    """log(1 + exp(x)), also split into max(x, 0) + log(1 + exp(-|x|)), is Softplus."""
    return unary(root, x, op.Softplus(x))


THRESHOLD = 20.0
"""Above this, log(1 + exp(x)) is x in single precision: exp(-20) is 2e-9."""


@rule(rooted(P.Where(P.Greater(x, P.const("limit")), x, P.Softplus(x))))
def drop_softplus_threshold(op: Builder, x: Value, limit: Value, root: Node) -> Result:
    """Softplus that is the identity above a threshold of at least 20 is Softplus."""
    given = number(limit)
    if given is None or given < THRESHOLD:
        return decline("the threshold is below 20")
    return unary(root, x, op.Softplus(x))


@rule(rooted(P.Mul(x, P.Tanh(P.Softplus(x)))))
def raise_mish(op: Builder, x: Value, root: Node) -> Result:
    """x * tanh(softplus(x)) is Mish (Misra, 2019)."""
    return unary(root, x, op.Mish(x))


@rule(rooted(P.Div(x, P.Add(P.Abs(x), 1))))
def raise_softsign(op: Builder, x: Value, root: Node) -> Result:
    """x / (1 + |x|) is Softsign."""
    return unary(root, x, op.Softsign(x))


# Rectifiers. What is not greater than 0 is below or 0, where both branches agree.

above = P.Greater(x, 0) | P.GreaterOrEqual(x, 0) | P.Less(0, x) | P.LessOrEqual(0, x)
below = P.Less(x, 0) | P.LessOrEqual(x, 0) | P.Greater(0, x) | P.GreaterOrEqual(0, x)


def split_at_zero(negative: Pattern) -> Pattern:
    """x where it is positive, else `negative`."""
    return P.Where(above, x, negative) | P.Where(below, negative, x)


@rule(P.Max(x, 0).named("root"))
def raise_relu(op: Builder, x: Value, root: Node) -> Result:
    """max(x, 0) is Relu."""
    return unary(root, x, op.Relu(x), FLOATS)


@rule(rooted(split_at_zero(P.Mul(x, P.const("k"))) | P.Max(x, P.Mul(x, P.const("m")))))
def raise_leaky_relu(op: Builder, x: Value, root: Node, k: Value | None, m: Value | None) -> Result:
    """x where it is positive, else k x, is LeakyRelu where k is one number, PRelu where it is a tensor of them."""
    slope = k if k is not None else m
    assert slope is not None
    given = number(slope)
    if m is not None and (given is None or not 0 <= given <= 1):
        return decline("the greater one of x and k x is not x where it is positive")
    if given is not None:
        return unary(root, x, op.LeakyRelu(x, alpha=single(given)), FLOATS)
    return unary(root, x, op.PRelu(x, slope))


@rule(
    rooted(
        P.Add(P.Relu(x), P.Mul(P.Min(x, 0) | P.Neg(P.Relu(P.Neg(x))), P.const("k")))
        | P.Sub(P.Relu(x), P.Mul(P.Relu(P.Neg(x)), P.const("k")))
        | P.Add(P.Relu(x), P.Mul(P.Relu(P.Neg(x)), P.const("minus")))
    )
)
def raise_prelu(op: Builder, x: Value, root: Node, k: Value | None, minus: Value | None) -> Result:
    """max(x, 0) + k min(x, 0) is PRelu."""
    if k is not None:
        return unary(root, x, op.PRelu(x, k))
    assert minus is not None
    return unary(root, x, op.PRelu(x, -1 * minus))


exponential = P.Sub(P.Exp(x), 1) | P.Add(P.Exp(x), -1)


@rule(rooted(split_at_zero(exponential | P.Mul(exponential, P.const("k")))))
def raise_elu(op: Builder, x: Value, root: Node, k: Value | None) -> Result:
    """x where it is positive, else k (exp(x) - 1), is Elu."""
    given = 1.0 if k is None else number(k)
    if given is None:
        return decline("the factor is not one number")
    return unary(root, x, op.Elu(x, alpha=single(given)))


@rule(rooted(P.Mul(P.Elu(x).named("elu"), P.const("gamma"))))
def raise_selu(op: Builder, x: Value, elu: Node, gamma: Value, root: Node) -> Result:
    """A number times Elu is Selu (Selu-22)."""
    given = number(gamma)
    if given is None or given <= 0:
        return decline("the factor is not one positive number")
    return unary(root, x, op.Selu(x, alpha=elu.float("alpha"), gamma=single(given)))


narrowed = P.Mul(x, P.const("inverse")) | P.Div(x, P.const("d"))


@rule(
    rooted(
        P.Add(P.Relu(x) | P.Max(x, 0), P.Min(P.Mul(P.Sub(P.Exp(narrowed), 1), P.const("k")), 0))
        | P.Mul(P.Elu(narrowed, alpha=1.0), P.const("k"))
    )
)
def raise_celu(op: Builder, x: Value, root: Node, inverse: Value | None, d: Value | None, k: Value) -> Result:
    """max(x, 0) + min(0, k (exp(x / k) - 1)), which is k times Elu of x / k, is Celu."""
    alpha, given = number(k), number(inverse if inverse is not None else d)
    if alpha is None or given is None or given == 0 or alpha <= 0:
        return decline("its factors are not two numbers")
    if abs(alpha * (given if inverse is not None else 1 / given) - 1) > 1e-6:
        return decline("the factors inside and outside are not inverse to each other")
    return unary(root, x, op.Celu(x, alpha=single(alpha)), frozenset([DType.F32]))


# Clip.


@rule("Max", "Min")
def raise_clip(op: Builder, node: Node) -> Result:
    """min(max(x, a), b), and max(min(x, b), a) where a <= b, are Clip."""
    other = {"Max": "Min", "Min": "Max"}[node.op]
    outer, x = _bound(node)
    inner = None if x is None or x.node is None or x.node.domain else x.node
    if x is None or outer is None or inner is None:
        return decline("it has not one operand and one number")
    if inner.op == "Relu" and node.op == "Min":
        source, low = inner.operand(0), 0.0
    elif inner.op == other:
        low, source = _bound(inner)
    else:
        return decline(f"its operand is no {other}")
    if low is None or source is None:
        return decline(f"the {other} before it has not one operand and one number")
    if x.only_user is not node:
        return decline(f"the {inner.op} before it has other users")
    bottom, top = (outer, low) if node.op == "Max" else (low, outer)
    if bottom > top and node.op == "Max":
        return decline("its bounds cross")
    return unary(node, source, op.Clip(source, bottom, top), FLOATS)


def _bound(node: Node) -> tuple[float | None, Value | None]:
    """The number and the other operand of a Max or Min of two."""
    if len(node.inputs) != 2:
        return None, None
    for index in (1, 0):
        found = number(node.operand(index))
        if found is not None and node.operand(1 - index).const is None:
            return found, node.operand(1 - index)
    return None, None


@rule(P.Clip(P.Relu(x), P.opt("low"), P.opt("high")).named("root"))
def merge_relu_into_clip(op: Builder, x: Value, low: Value | None, high: Value | None, root: Node) -> Result:
    """Clip of Relu is Clip from 0, or from where it began where that is above 0."""
    bottom = 0.0 if low is None else number(low)
    top = math.inf if high is None else number(high)
    if bottom is None or top is None:
        return decline("its bounds are computed")
    if top < max(bottom, 0):
        return decline("its bounds cross")
    bounds = [max(bottom, 0.0)] if high is None else [max(bottom, 0.0), top]
    return unary(root, x, op.Clip(x, *bounds), FLOATS)


@rule(P.Clip(x, 0, P.opt("high")).named("root"))
def clip_to_relu(op: Builder, x: Value, high: Value | None, root: Node) -> Result:
    """Clip from 0 without an end is Relu."""
    if high is not None and number(high) != math.inf:
        return decline("it has an upper bound")
    return unary(root, x, op.Relu(x), FLOATS)


RULES: tuple[Rule, ...] = (
    raise_gelu,
    raise_tanh_gelu,
    raise_sigmoid,
    raise_swish,
    raise_scaled_swish,
    raise_hard_sigmoid,
    raise_hard_swish,
    raise_softplus,
    drop_softplus_threshold,
    raise_mish,
    raise_softsign,
    raise_relu,
    raise_leaky_relu,
    raise_prelu,
    raise_elu,
    raise_celu,
    raise_selu,
    raise_clip,
    merge_relu_into_clip,
    clip_to_relu,
)
