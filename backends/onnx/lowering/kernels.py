"""The kernels of linear and cubic interpolation, as weights of distances."""

from __future__ import annotations

from ....ir import Builder, DType, Value
from .operands import dtype_of, number


def triangle(op: Builder, distance: Value) -> Value:
    """1 - |distance|, at least 0."""
    return op.Max(op.Sub(number(1, distance), op.Abs(distance)), number(0, distance))


def cubic(op: Builder, distance: Value, a: float) -> Value:
    """The cubic convolution kernel with the parameter `a` (Keys 1981): 1 at 0, and 0 at the other integers."""
    dtype: DType = dtype_of(distance)

    def polynomial(t: Value, *coefficients: float) -> Value:
        total = number(coefficients[0], dtype)
        for c in coefficients[1:]:
            total = op.Add(op.Mul(total, t), number(c, dtype))
        return total

    t = op.Abs(distance)
    near = polynomial(t, a + 2, -(a + 3), 0, 1)
    far = op.Where(op.Less(t, number(2, dtype)), polynomial(t, a, -5 * a, 8 * a, -4 * a), number(0, dtype))
    return op.Where(op.LessOrEqual(t, number(1, dtype)), near, far)
