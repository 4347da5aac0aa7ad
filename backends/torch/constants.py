"""Constants as the expressions that a person would write for them: ranges, fillings, triangles, a few numbers."""

from __future__ import annotations

import math

import numpy as np

from ...ir import Array, DType, Tensor
from .code import Code, Piece, call, literal, method, raw
from .members import TORCH_TYPES

FEW, MOST = 16, 1 << 22
FILLERS = {0: "torch.zeros", 1: "torch.ones"}


def formula(tensor: Tensor) -> Code | None:
    """An expression that gives a constant bit for bit; None for one that has to be stored."""
    if tensor.dtype not in TORCH_TYPES or tensor.count > MOST:
        return None
    array = tensor.numpy()
    if tensor.count <= FEW and not tensor.dtype.is_float:
        return call("torch.tensor", raw(repr(array.tolist())), **_dtype(tensor.dtype, (DType.I64, DType.BOOL), array))
    if tensor.dtype is DType.BOOL:
        return filling(tensor) or triangle(array)
    return filling(tensor) or counting(tensor, array)


def _dtype(dtype: DType, usual: tuple[DType, ...], array: Array) -> dict[str, Piece]:
    """The dtype argument where the function would not choose it."""
    return {} if dtype in usual and array.size else {"dtype": raw(f"torch.{TORCH_TYPES[dtype]}")}


def filling(tensor: Tensor) -> Code | None:
    """One number throughout."""
    if tensor.filler is None or not tensor.count:
        return None
    number = tensor.filler.reshape(()).astype(np.float64 if tensor.dtype.is_float else tensor.filler.dtype).item()
    if isinstance(number, float) and ((math.copysign(1.0, number) < 0 and number == 0) or not math.isfinite(number)):
        return None
    shape: list[Piece] = [*(tensor.shape or [()])]
    options = _dtype(tensor.dtype, (DType.F32,), np.ones(1))
    if number in FILLERS:
        return call(FILLERS[int(number)], *shape, **options)
    return call("torch.full", tensor.shape, literal(number), **options)


def counting(tensor: Tensor, array: Array) -> Code | None:
    """Integers, or whole floats, that count up or down from one to the next."""
    flat = array.reshape(-1).astype(np.float64)
    if (
        flat.size < 2
        or not np.isfinite(flat).all()
        or not (flat == np.round(flat)).all()
        or np.abs(flat).max() > 1 << 20
    ):
        return None
    step = int(flat[1] - flat[0])
    if not step or not (np.diff(flat) == step).all():
        return None
    start = int(flat[0])
    bounds = [start, start + step * flat.size, *([step] if step != 1 else [])]
    options = _dtype(tensor.dtype, (DType.I64,), array)
    made = call("torch.arange", *(bounds[1:] if bounds[0] == 0 and step == 1 else bounds), **options)
    return made if array.ndim == 1 else method(made, "reshape", *array.shape)


def triangle(array: Array) -> Code | None:
    """True on and below a diagonal, in the last two of its axes."""
    if array.ndim < 2 or array.shape[-1] < 2 or any(d != 1 for d in array.shape[:-2]):
        return None
    rows, columns = array.shape[-2:]
    diagonal = int(array.reshape(rows, columns)[0].sum()) - 1
    if not np.array_equal(array.reshape(rows, columns), np.tri(rows, columns, diagonal, dtype=bool)):
        return None
    made = call("torch.ones", *array.shape, dtype=raw("torch.bool"))
    return method(made, "tril", *([diagonal] if diagonal else []))
