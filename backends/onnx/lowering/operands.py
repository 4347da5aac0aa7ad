"""Helpers that decompositions share: typed numbers, known types and sizes."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, DType, TensorType, Value, constant
from ....ir.dims import Size
from .form import Inexpressible


def dtype_of(value: Value) -> DType:
    """The element type of a value. Raises Inexpressible where it is not known."""
    if not isinstance(value.type, TensorType):
        raise Inexpressible(f"the element type of its operand %{value.name} is not known")
    return value.type.dtype


def number(value: float, like: Value | DType) -> Value:
    """A scalar constant of the element type of `like`."""
    dtype = like if isinstance(like, DType) else dtype_of(like)
    return constant(np.asarray(value, dtype.numpy))


def shape_of(value: Value) -> tuple[Size, ...]:
    """The shape of a value. Raises Inexpressible where its rank is not known."""
    if value.shape is None:
        raise Inexpressible(f"the rank of its operand %{value.name} is not known")
    return value.shape


def known(size: Size, what: str) -> int:
    """A size that must be a number. Raises Inexpressible where it is not."""
    if not isinstance(size, int):
        raise Inexpressible(f"{what} is not known")
    return size


def cast(op: Builder, value: Value, source: DType, target: DType) -> Value:
    """`value`, which has the element type `source`, as `target`."""
    return value if source is target else op.Cast(value, to=target.code)
