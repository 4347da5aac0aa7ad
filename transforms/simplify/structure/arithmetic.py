"""Elementwise arithmetic with constants and signs: what two operations do, done by one.

Numbers written in the program are combined at every level. A constant that is a parameter of the model changes only at
level "deploy": see DEPLOY_RULES.
"""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, Tensor, Value, constant
from ....ir.rewrite import P, Result, decline, rule
from ....ir.tensors import Lazy
from .spans import is_readable

x, y, c, d = P.var("x"), P.var("y"), P.const("c"), P.const("d")


def is_number(value: Value) -> bool:
    """True for a constant of one element that is written in the program rather than learned.

    Parameters are called by the path of their module ("block.0.scale"), numbers by what an exporter makes up.
    """
    tensor = value.const
    if tensor is None or tensor.count != 1 or not is_readable(tensor):
        return False
    return "." not in value.name or value.name.startswith("/")


def lazily(function: str, a: Value, b: Value) -> Value:
    """A constant from two constants of one element type."""
    return constant(Lazy(function, [a.tensor, b.tensor]), a.name or b.name)


CHAINS: dict[tuple[str, str], tuple[str, str]] = {
    ("Add", "Add"): ("Add", "add"),
    ("Add", "Sub"): ("Add", "sub"),
    ("Sub", "Sub"): ("Sub", "add"),
    ("Sub", "Add"): ("Sub", "sub"),
    ("Mul", "Mul"): ("Mul", "mul"),
    ("Mul", "Div"): ("Mul", "div"),
    ("Div", "Div"): ("Div", "mul"),
    ("Div", "Mul"): ("Div", "div"),
}
"""(x inner c) outer d is x op (c function d); where the inner one is Sub or Div this holds for x - c and x / c only."""

INTEGER_CHAINS = frozenset([("Add", "Add"), ("Add", "Sub"), ("Sub", "Sub"), ("Sub", "Add"), ("Mul", "Mul")])
"""What holds for integers as well, which wrap around; a division rounds."""

first = P.Add(x, c) | P.Sub(x, c) | P.Mul(x, c) | P.Div(x, c)


@rule(
    P.Add(first, d).named("outer") | P.Sub(first, d).named("outer") | P.Mul(first, d).named("outer")
    | P.Div(first, d).named("outer")
)  # fmt: skip
def merge_numbers(op: Builder, x: Value, c: Value, d: Value, outer: Node) -> Result:
    """Two numbers added or multiplied one after the other are one number."""
    if not is_number(c) or not is_number(d):
        return decline("one of the constants is not a number of the program")
    return _merged(op, x, c, d, outer)


@rule(
    P.Add(first, d).named("outer") | P.Sub(first, d).named("outer") | P.Mul(first, d).named("outer")
    | P.Div(first, d).named("outer")
)  # fmt: skip
def merge_constants(op: Builder, x: Value, c: Value, d: Value, outer: Node) -> Result:
    """Two constants added or multiplied one after the other are one, where that is no larger than both."""
    shape = np.broadcast_shapes(c.tensor.shape, d.tensor.shape)
    if int(np.prod(shape)) > max(c.tensor.count, d.tensor.count):
        return decline("together they are larger")
    return _merged(op, x, c, d, outer)


def _merged(op: Builder, x: Value, c: Value, d: Value, outer: Node) -> Result:
    inner = next(v.node for v in outer.inputs if v is not None and v.node is not None)
    found = CHAINS.get((inner.op, outer.op))
    if found is None:
        return decline("one adds and the other multiplies")
    if not x.is_float and (inner.op, outer.op) not in INTEGER_CHAINS:
        return decline("integers are rounded in between")
    if c.tensor.dtype is not d.tensor.dtype:
        return decline("element types differ")
    kind, function = found
    together = lazily(function, c, d)
    if not _is_finite(together.tensor):
        return decline("together they are not a finite number")
    return getattr(op, kind)(x, together)


def _is_finite(tensor: Tensor) -> bool:
    if not is_readable(tensor):
        return True
    with np.errstate(all="ignore"):
        return bool(np.all(np.isfinite(tensor.numpy().astype(np.float64))))


# Signs


@rule(P.Neg(P.Neg(x).shared))
def drop_double_negation(op: Builder, x: Value) -> Result:
    """--x is x."""
    return x


@rule(P.Not(P.Not(x).shared))
def drop_double_not(op: Builder, x: Value) -> Result:
    """not not x is x."""
    return x


@rule(P.Reciprocal(P.Reciprocal(x)))
def drop_double_reciprocal(op: Builder, x: Value) -> Result:
    """1 / (1 / x) is x."""
    return x


@rule(P.Add(x, P.Neg(y)))
def subtract_instead_of_adding_negation(op: Builder, x: Value, y: Value) -> Result:
    """x + -y is x - y."""
    return op.Sub(x, y)


@rule(P.Sub(x, P.Neg(y)))
def add_instead_of_subtracting_negation(op: Builder, x: Value, y: Value) -> Result:
    """x - -y is x + y."""
    return op.Add(x, y)


@rule(P.Neg(P.Sub(x, y)))
def swap_negated_difference(op: Builder, x: Value, y: Value) -> Result:
    """-(x - y) is y - x."""
    return op.Sub(y, x)


@rule(P.Mul(P.Neg(x), P.Neg(y)).named("outer") | P.Div(P.Neg(x), P.Neg(y)).named("outer"))
def drop_negations_of_factors(op: Builder, x: Value, y: Value, outer: Node) -> Result:
    """-x * -y is x * y, and so is their quotient."""
    return op.Mul(x, y) if outer.op == "Mul" else op.Div(x, y)


@rule(P.Neg(P.Mul(x, c).named("inner") | P.Div(x, c).named("inner")))
def negate_number(op: Builder, x: Value, c: Value, inner: Node) -> Result:
    """-(x * c) is x * -c."""
    return _with_sign(op, inner.op, x, c)


@rule(P.Mul(P.Neg(x), c).named("outer") | P.Div(P.Neg(x), c).named("outer"))
def negate_number_of_negation(op: Builder, x: Value, c: Value, outer: Node) -> Result:
    """-x * c is x * -c."""
    return _with_sign(op, outer.op, x, c)


def _with_sign(op: Builder, kind: str, x: Value, c: Value) -> Result:
    if not is_number(c) or not c.tensor.dtype.is_signed:
        return decline("the constant is not a number of the program")
    return getattr(op, kind)(x, constant(Lazy("neg", [c.tensor]), c.name))


# Quotients


@rule(P.Mul(x, P.Reciprocal(y)))
def divide_instead_of_multiplying_reciprocal(op: Builder, x: Value, y: Value) -> Result:
    """x * (1 / y) is x / y."""
    return op.Div(x, y)


@rule(P.Div(x, P.Reciprocal(y)))
def multiply_instead_of_dividing_reciprocal(op: Builder, x: Value, y: Value) -> Result:
    """x / (1 / y) is x * y."""
    return op.Mul(x, y)


@rule(P.Mul(x, P.Div(1.0, y).named("inner")))
def divide_instead_of_multiplying_quotient(op: Builder, x: Value, y: Value, inner: Node) -> Result:
    """x * (1 / y) is x / y."""
    if not y.is_float or (inner.operand(0).rank or 0) > (y.rank or 0):
        return decline("integers, or a shape that the quotient gives")
    return op.Div(x, y)


@rule(P.Reciprocal(P.Div(x, y)))
def swap_reciprocal_of_quotient(op: Builder, x: Value, y: Value) -> Result:
    """1 / (x / y) is y / x."""
    return op.Div(y, x)


@rule("Pow")
def root_instead_of_power(op: Builder, node: Node) -> Result:
    """x to the power of 0.5 is a square root, to the power of -1 a reciprocal."""
    exponent, base = node.operand(1), node.operand(0)
    if not is_number(exponent) or exponent.rank != 0 or not base.is_float:
        return decline("the exponent is not a number of the program")
    number = float(exponent.tensor.item())
    if number == 0.5:
        return op.Sqrt(base)
    return op.Reciprocal(base) if number == -1.0 else decline("the exponent has no operator of its own")


# Scales around a product of matrices


@rule(P.MatMul(P.Mul(x, c), P.Mul(y, d)))
def scale_one_factor_of_a_product(op: Builder, x: Value, y: Value, c: Value, d: Value) -> Result:
    """(c x) (d y) is (c d x) y for numbers c and d."""
    if not is_number(c) or not is_number(d) or c.tensor.dtype is not d.tensor.dtype:
        return decline("one of the scales is not a number of the program")
    if (c.rank or 0) > 1 or (d.rank or 0) > 1:
        return decline("a scale may add axes")
    together = lazily("mul", c, d)
    return op.MatMul(op.Mul(x, together), y) if _is_finite(together.tensor) else decline("the scale overflows")


RULES = (
    merge_numbers,
    drop_double_negation,
    drop_double_not,
    drop_double_reciprocal,
    subtract_instead_of_adding_negation,
    add_instead_of_subtracting_negation,
    swap_negated_difference,
    drop_negations_of_factors,
    negate_number,
    negate_number_of_negation,
    divide_instead_of_multiplying_reciprocal,
    multiply_instead_of_dividing_reciprocal,
    divide_instead_of_multiplying_quotient,
    swap_reciprocal_of_quotient,
    root_instead_of_power,
    scale_one_factor_of_a_product,
)

DEPLOY_RULES = (merge_constants,)
