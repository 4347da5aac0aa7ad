"""Python numbers computed from tensors and sizes: `.item()` and arithmetic that leaves the integers."""

from __future__ import annotations

from typing import Any

from ...ir import DType, Value
from .lowering import Lowering, Row, Rows, typed


def item(op: Lowering, x: Value) -> Value:
    """The only element of a tensor, as a scalar."""
    return op.reshape(x, [])


def real(name: str) -> Row:
    """A function of real numbers, computed in double precision as Python does."""

    def row(op: Lowering, *operands: Any) -> Value:
        return typed(op.call(name, *[op.number(x, DType.F64) for x in operands]), DType.F64, ())

    return row


def to_real(op: Lowering, x: Any) -> Value:
    return op.number(x, DType.F64)


ROWS: Rows = {
    "aten.item.default": item, "aten._local_scalar_dense.default": item,
    "sym_float": to_real, "truediv": real("Div"), "add": real("Add"), "sub": real("Sub"), "mul": real("Mul"),
    "pow": real("Pow"),
    "neg": real("Neg"), "_sym_sqrt": real("Sqrt"), "sym_sqrt": real("Sqrt"),
}  # fmt: skip
