"""Arithmetic, comparisons, logic and functions of one number; torch's type promotion becomes explicit casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch

from ...ir import DType, Value
from .lowering import DTYPES, TORCH_DTYPES, Lowering, Row, Rows, dtype_of, rank_of

Number = Any
"""A Tensor or Scalar argument: a value, a Python number or a symbolic size."""


def promoted(*operands: Number) -> DType:
    """The element type in which torch computes with these operands.

    Tensors of rank above 0 decide, then tensors of rank 0, then Python numbers; a lower kind decides only when its
    category (bool, integer, float) is higher ("Tensor Attributes: type promotion" in the PyTorch documentation).
    """
    levels: list[list[torch.dtype]] = [[], [], []]
    for operand in operands:
        if isinstance(operand, Value):
            levels[0 if rank_of(operand) else 1].append(TORCH_DTYPES[dtype_of(operand)])
        else:
            levels[2].append(_of_number(operand))
    found: torch.dtype | None = None
    for level in levels:
        if level:
            here = reduce(torch.promote_types, level)
            if found is None or _category(here) > _category(found):
                found = here
    assert found is not None
    return DTYPES[found]


def _of_number(number: Number) -> torch.dtype:
    if isinstance(number, bool):
        return torch.bool
    return torch.get_default_dtype() if isinstance(number, float) else torch.int64


def _category(dtype: torch.dtype) -> int:
    return 3 if dtype.is_complex else 2 if dtype.is_floating_point else 1 if dtype is not torch.bool else 0


def arithmetic(name: str, on_bool: str = "") -> Row:
    """Both operands in the result's element type; `on_bool` is the operator's form between truth values."""

    def row(op: Lowering, a: Number, b: Number) -> Value:
        dtype = op.out.dtype
        if dtype is DType.BOOL and not on_bool:
            op.decline("it is not defined between truth values in ONNX")
        return op.call(on_bool if dtype is DType.BOOL else name, op.tensor(a, dtype), op.tensor(b, dtype))

    return row


def add(op: Lowering, a: Number, b: Number, alpha: Number = 1) -> Value:
    """a + alpha * b."""
    return arithmetic("Add", on_bool="Or")(op, a, scaled(op, b, alpha))


def sub(op: Lowering, a: Number, b: Number, alpha: Number = 1) -> Value:
    """a - alpha * b."""
    return arithmetic("Sub")(op, a, scaled(op, b, alpha))


def rsub(op: Lowering, a: Number, b: Number, alpha: Number = 1) -> Value:
    """b - alpha * a."""
    return arithmetic("Sub")(op, b, scaled(op, a, alpha))


def scaled(op: Lowering, x: Number, factor: Number) -> Number:
    """x * factor in the result's element type; x where the factor is 1."""
    if isinstance(factor, (int, float)) and factor == 1:
        return x
    return typed_like_out(op, op.Mul(op.tensor(x, op.out.dtype), op.number(factor, op.out.dtype)))


def typed_like_out(op: Lowering, made: Value) -> Value:
    """An intermediate result that has the element type of the final one."""
    if made.const is None:
        made.type = op.out.with_shape(None)
    return made


def divide(op: Lowering, a: Number, b: Number, rounding_mode: str | None = None) -> Value:
    """a / b, rounded towards zero ("trunc") or down ("floor") where asked."""
    dtype = op.out.dtype
    x, y = op.tensor(a, dtype), op.tensor(b, dtype)
    quotient = op.Div(x, y)
    if rounding_mode is None:
        return quotient
    if dtype.is_integer:  # ONNX divides integers towards zero; the remainder has the divisor's sign
        return quotient if rounding_mode == "trunc" else op.Div(op.Sub(x, op.Mod(x, y)), y)
    return op.Floor(quotient) if rounding_mode == "floor" else truncated(op, quotient, dtype)


def truncated(op: Lowering, x: Value, dtype: DType) -> Value:
    return op.Mul(op.Sign(x), op.Floor(op.Abs(x)))


def trunc(op: Lowering, x: Value) -> Value:
    return x if dtype_of(x).is_integer else truncated(op, x, op.out.dtype)


def frac(op: Lowering, x: Value) -> Value:
    return op.Sub(x, truncated(op, x, op.out.dtype))


def remainder(op: Lowering, a: Number, b: Number) -> Value:
    """a - b * floor(a / b): the remainder with the divisor's sign."""
    x, y = op.tensor(a, op.out.dtype), op.tensor(b, op.out.dtype)
    if op.out.dtype.is_integer:
        return op.Mod(x, y)
    return op.Sub(x, op.Mul(y, op.Floor(op.Div(x, y))))


def fmod(op: Lowering, a: Number, b: Number) -> Value:
    """The remainder with the dividend's sign."""
    return op.Mod(op.tensor(a, op.out.dtype), op.tensor(b, op.out.dtype), fmod=1)


def comparison(name: str, *, negated: bool = False) -> Row:
    """Operands in their common element type; truth values are ordered as 0 and 1."""

    def row(op: Lowering, a: Number, b: Number) -> Value:
        dtype = promoted(a, b)
        if dtype is DType.BOOL and name != "Equal":
            dtype = DType.I32
        made = op.call(name, op.tensor(a, dtype), op.tensor(b, dtype))
        return op.Not(made) if negated else made

    return row


def logical(name: str) -> Row:
    """A function of truth values; numbers other than 0 are true."""

    def row(op: Lowering, *operands: Number) -> Value:
        return op.call(name, *[op.tensor(x, DType.BOOL) for x in operands])

    return row


def bitwise(name: str, on_bool: str) -> Row:
    def row(op: Lowering, *operands: Number) -> Value:
        dtype = op.out.dtype
        return op.call(on_bool if dtype is DType.BOOL else name, *[op.tensor(x, dtype) for x in operands])

    return row


def unary(name: str) -> Row:
    """A function of one number, computed in the result's element type (integers become floats where torch makes them
    so)."""

    def row(op: Lowering, x: Value) -> Value:
        return op.call(name, op.cast(x, op.out.dtype))

    return row


def rounding(name: str) -> Row:
    """A rounding function, which leaves integers as they are."""

    def row(op: Lowering, x: Value) -> Value:
        return op.call(name, x) if dtype_of(x).is_float else x

    return row


def composed(compute: Callable[[Lowering, Value], Value]) -> Row:
    """A function of one number in the result's element type, spelled out with other operators."""

    def row(op: Lowering, x: Value) -> Value:
        return compute(op, op.cast(x, op.out.dtype))

    return row


def _constant(op: Lowering, number: float) -> Value:
    return op.scalar(number, op.out.dtype)


def test(name: str) -> Row:
    """IsNaN and IsInf, which integers never fulfil."""

    def row(op: Lowering, x: Value) -> Value:
        return op.call(name, x if dtype_of(x).is_float else op.cast(x, DType.F32))

    return row


def is_finite(op: Lowering, x: Value) -> Value:
    return op.Not(op.Or(test("IsNaN")(op, x), test("IsInf")(op, x)))


def where(op: Lowering, condition: Value, a: Number, b: Number) -> Value:
    dtype = op.out.dtype
    return op.Where(op.cast(condition, DType.BOOL), op.tensor(a, dtype), op.tensor(b, dtype))


def masked_fill(op: Lowering, x: Value, mask: Value, value: Number) -> Value:
    return where(op, mask, value, x)


def clamp(op: Lowering, x: Value, min: Number = None, max: Number = None) -> Value:
    """Clip, or Max and Min where a bound is a tensor."""
    dtype = op.out.dtype
    x = op.cast(x, dtype)
    low, high = (None if bound is None else op.tensor(bound, dtype) for bound in (min, max))
    if all(bound is None or rank_of(bound) == 0 for bound in (low, high)):
        return op.Clip(x, low, high) if high is not None else op.Clip(x, low)
    raised = x if low is None else op.Max(x, low)
    return raised if high is None else op.Min(raised, high)


def clamp_max(op: Lowering, x: Value, max: Number) -> Value:
    return clamp(op, x, None, max)


def lerp(op: Lowering, start: Value, end: Value, weight: Number) -> Value:
    return op.Add(start, op.Mul(op.tensor(weight, op.out.dtype), op.Sub(end, start)))


def add_product(name: str) -> Row:
    """x + value * (a ? b) with the operator `name`."""

    def row(op: Lowering, x: Value, a: Value, b: Value, value: Number = 1) -> Value:
        dtype = op.out.dtype
        made = typed_like_out(op, op.call(name, op.cast(a, dtype), op.cast(b, dtype)))
        return op.Add(op.cast(x, dtype), scaled(op, made, value))

    return row


def power(op: Lowering, a: Number, b: Number) -> Value:
    return op.Pow(op.tensor(a, op.out.dtype), op.tensor(b, op.out.dtype))


def hypot(op: Lowering, a: Value, b: Value) -> Value:
    """sqrt(a^2 + b^2)."""
    squares = [typed_like_out(op, op.Mul(v, v)) for v in (op.cast(a, op.out.dtype), op.cast(b, op.out.dtype))]
    return op.Sqrt(typed_like_out(op, op.Add(*squares)))


def arctangent(op: Lowering, y: Value, x: Value) -> Value:
    """The angle of the point (x, y): that of the slope y / x, turned by pi where x is negative."""
    dtype = op.out.dtype
    y, x, zero = op.cast(y, dtype), op.cast(x, dtype), op.scalar(0, dtype)
    turned = op.Where(op.Less(y, zero), op.scalar(-math.pi, dtype), op.scalar(math.pi, dtype))
    slope = typed_like_out(op, op.Atan(typed_like_out(op, op.Div(y, x))))
    angle = op.Add(slope, typed_like_out(op, op.Where(op.Less(x, zero), typed_like_out(op, turned), zero)))
    origin = op.And(op.Equal(x, zero), op.Equal(y, zero))  # 0 / 0 has no slope
    return op.Where(origin, zero, typed_like_out(op, angle))


def number_extreme(name: str) -> Row:
    """fmax and fmin: the larger or smaller one, where one is NaN the other."""

    def row(op: Lowering, a: Value, b: Value) -> Value:
        dtype = op.out.dtype
        x, y = op.cast(a, dtype), op.cast(b, dtype)
        made = typed_like_out(op, op.call(name, x, y))
        if not dtype.is_float:
            return made
        return op.Where(op.IsNaN(x), y, typed_like_out(op, op.Where(op.IsNaN(y), x, made)))

    return row


def is_negative(op: Lowering, x: Value) -> Value:
    """Whether a number has a minus sign, as -0.0 does, too."""
    if dtype_of(x) is DType.BOOL:
        op.decline("truth values have no sign")
    negative = op.Less(x, op.scalar(0, dtype_of(x)))
    if not dtype_of(x).is_float:
        return negative
    infinity = op.Equal(op.Reciprocal(x), op.scalar(-math.inf, dtype_of(x)))
    return op.Or(negative, infinity)


def copysign(op: Lowering, a: Value, b: Number) -> Value:
    """The size of a with the sign of b."""
    dtype = op.out.dtype
    size = typed_like_out(op, op.Abs(op.cast(a, dtype)))
    return op.Where(is_negative(op, op.tensor(b, dtype)), typed_like_out(op, op.Neg(size)), size)


def shift(left: bool) -> Row:
    """Shifts of signed integers: a product with a power of two, or a quotient that is rounded down."""

    def row(op: Lowering, a: Number, b: Number) -> Value:
        dtype = op.out.dtype
        if not dtype.is_integer:
            op.decline("only integers are shifted")
        x = op.tensor(a, dtype)
        factor = typed_like_out(op, op.Pow(op.scalar(2, dtype), op.tensor(b, dtype)))
        return op.Mul(x, factor) if left else op.Div(op.Sub(x, op.Mod(x, factor)), factor)

    return row


ARITHMETIC: Rows = {
    "aten.hypot.default": hypot, "aten.atan2.default": arctangent,
    "aten.fmax.default": number_extreme("Max"), "aten.fmin.default": number_extreme("Min"),
    "aten.signbit.default": is_negative, "aten.copysign.Tensor": copysign, "aten.copysign.Scalar": copysign,
    **{f"aten.{name}.{kind}": shift(left) for name, kind, left in (
        ("__lshift__", "Scalar", True), ("__lshift__", "Tensor", True), ("__rshift__", "Scalar", False),
        ("__rshift__", "Tensor", False), ("bitwise_left_shift", "Tensor", True),
        ("bitwise_left_shift", "Tensor_Scalar", True), ("bitwise_right_shift", "Tensor", False),
        ("bitwise_right_shift", "Tensor_Scalar", False),
    )},
    "aten.add.Tensor": add, "aten.add.Scalar": add,
    "aten.sub.Tensor": sub, "aten.sub.Scalar": sub,
    "aten.rsub.Tensor": rsub, "aten.rsub.Scalar": rsub,
    "aten.mul.Tensor": arithmetic("Mul", on_bool="And"), "aten.mul.Scalar": arithmetic("Mul", on_bool="And"),
    "aten.div.Tensor": divide, "aten.div.Scalar": divide, "aten.div.Tensor_mode": divide,
    "aten.div.Scalar_mode": divide,
    "aten.floor_divide.default": partial(divide, rounding_mode="floor"),
    "aten.floor_divide.Scalar": partial(divide, rounding_mode="floor"),
    "aten.remainder.Tensor": remainder, "aten.remainder.Scalar": remainder, "aten.remainder.Scalar_Tensor": remainder,
    "aten.fmod.Tensor": fmod, "aten.fmod.Scalar": fmod,
    "aten.pow.Tensor_Tensor": power, "aten.pow.Tensor_Scalar": power, "aten.pow.Scalar": power,
    "aten.maximum.default": arithmetic("Max", on_bool="Or"), "aten.max.other": arithmetic("Max", on_bool="Or"),
    "aten.minimum.default": arithmetic("Min", on_bool="And"), "aten.min.other": arithmetic("Min", on_bool="And"),
    "aten.lerp.Scalar": lerp, "aten.lerp.Tensor": lerp,
    "aten.addcmul.default": add_product("Mul"), "aten.addcdiv.default": add_product("Div"),
    "aten.clamp.default": clamp, "aten.clamp.Tensor": clamp,
    "aten.clamp_min.default": clamp, "aten.clamp_min.Tensor": clamp,
    "aten.clamp_max.default": clamp_max, "aten.clamp_max.Tensor": clamp_max,
}  # fmt: skip

LOGIC: Rows = {
    "aten.eq.Tensor": comparison("Equal"), "aten.eq.Scalar": comparison("Equal"),
    "aten.ne.Tensor": comparison("Equal", negated=True), "aten.ne.Scalar": comparison("Equal", negated=True),
    "aten.lt.Tensor": comparison("Less"), "aten.lt.Scalar": comparison("Less"),
    "aten.le.Tensor": comparison("LessOrEqual"), "aten.le.Scalar": comparison("LessOrEqual"),
    "aten.gt.Tensor": comparison("Greater"), "aten.gt.Scalar": comparison("Greater"),
    "aten.ge.Tensor": comparison("GreaterOrEqual"), "aten.ge.Scalar": comparison("GreaterOrEqual"),
    "aten.logical_and.default": logical("And"), "aten.logical_or.default": logical("Or"),
    "aten.logical_xor.default": logical("Xor"), "aten.logical_not.default": logical("Not"),
    "aten.bitwise_and.Tensor": bitwise("BitwiseAnd", "And"), "aten.bitwise_and.Scalar": bitwise("BitwiseAnd", "And"),
    "aten.bitwise_or.Tensor": bitwise("BitwiseOr", "Or"), "aten.bitwise_or.Scalar": bitwise("BitwiseOr", "Or"),
    "aten.bitwise_xor.Tensor": bitwise("BitwiseXor", "Xor"), "aten.bitwise_xor.Scalar": bitwise("BitwiseXor", "Xor"),
    "aten.bitwise_not.default": bitwise("BitwiseNot", "Not"),
    "aten.__and__.Tensor": bitwise("BitwiseAnd", "And"), "aten.__and__.Scalar": bitwise("BitwiseAnd", "And"),
    "aten.__or__.Tensor": bitwise("BitwiseOr", "Or"), "aten.__or__.Scalar": bitwise("BitwiseOr", "Or"),
    "aten.__xor__.Tensor": bitwise("BitwiseXor", "Xor"), "aten.__xor__.Scalar": bitwise("BitwiseXor", "Xor"),
    "aten.isnan.default": test("IsNaN"), "aten.isinf.default": test("IsInf"), "aten.isfinite.default": is_finite,
    "aten.where.self": where, "aten.where.ScalarSelf": where, "aten.where.ScalarOther": where,
    "aten.where.Scalar": where,
    "aten.masked_fill.Scalar": masked_fill, "aten.masked_fill.Tensor": masked_fill,
}  # fmt: skip

FUNCTIONS: Rows = {
    **{
        f"aten.{theirs}.default": unary(ours)
        for theirs, ours in {
            "abs": "Abs", "neg": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal",
            "erf": "Erf",
            "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh",
            "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "sign": "Sign", "sgn": "Sign",
            "sigmoid": "Sigmoid", "tanh": "Tanh",
        }.items()
    },
    "aten.floor.default": rounding("Floor"), "aten.ceil.default": rounding("Ceil"),
    "aten.round.default": rounding("Round"),
    "aten.trunc.default": trunc, "aten.fix.default": trunc, "aten.frac.default": frac,
    "aten.rsqrt.default": composed(lambda op, x: op.Reciprocal(op.Sqrt(x))),
    "aten.square.default": composed(lambda op, x: op.Mul(x, x)),
    "aten.exp2.default": composed(lambda op, x: op.Pow(_constant(op, 2.0), x)),
    "aten.expm1.default": composed(lambda op, x: op.Sub(op.Exp(x), _constant(op, 1.0))),
    "aten.log1p.default": composed(lambda op, x: op.Log(op.Add(x, _constant(op, 1.0)))),
    "aten.log2.default": composed(lambda op, x: op.Div(op.Log(x), _constant(op, math.log(2.0)))),
    "aten.log10.default": composed(lambda op, x: op.Div(op.Log(x), _constant(op, math.log(10.0)))),
    "aten.erfc.default": composed(lambda op, x: op.Sub(_constant(op, 1.0), op.Erf(x))),
}  # fmt: skip

ALIASES = {
    "absolute": "abs", "negative": "neg", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh",
    "arctan2": "atan2", "arctan": "atan", "arctanh": "atanh", "multiply": "mul", "subtract": "sub", "divide": "div",
    "true_divide": "div",
    "clip": "clamp", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne",
}  # fmt: skip
"""Second names of operators."""

ROWS: Rows = {**ARITHMETIC, **LOGIC, **FUNCTIONS}
for _alias, _name in ALIASES.items():
    _family = f"aten.{_name}."
    ROWS |= {f"aten.{_alias}.{key[len(_family) :]}": row for key, row in ROWS.items() if key.startswith(_family)}
