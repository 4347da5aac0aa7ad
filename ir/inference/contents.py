"""Known contents of small tensors of integers: what Reshape, Slice, Range and their like compute shapes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from ..dims import Dim, Size
from ..errors import UsageError
from ..graph import Value
from ..tensors import Placeholder
from ..types import DType, TensorType, Type

Entries = tuple[Union[Size, None], ...]
"""The elements of a tensor in C order; None for one that is not known."""

Grid = NDArray[Any]
"""An object array of entries in the tensor's shape."""

MAX_ENTRIES = 1024

EXACT_INTEGERS = {DType.F16: 2**11, DType.BF16: 2**8, DType.F32: 2**24, DType.F64: 2**53}
"""Up to here every integer has an exact floating-point value."""


class Contents:
    """What is known of the elements of values, by value.

    Tensors of integers and booleans (as 0 and 1) with up to MAX_ENTRIES elements, and floating-point vectors and
    scalars as far as their elements are integers: old exports compute sizes in floating point. Constants are read
    when first asked for.
    """

    def __init__(self) -> None:
        self.entries: dict[Value, Entries] = {}
        self.known: dict[Value, tuple[Size, ...]] = {}
        """The integer and boolean tensors of rank 0 and 1 all of whose elements are known."""
        self.changes = 0
        """How often something was found, corrected or dropped."""

    def of(self, value: Value | None) -> Entries | None:
        """The elements, or None where none is known."""
        if value is None:
            return None
        found = self.entries.get(value)
        if found is None and value.const is not None:
            found = _read(value)
            if found is not None:
                self.set(value, found)
        return found

    def grid(self, value: Value | None) -> Grid | None:
        """The elements in the tensor's shape."""
        found = self.of(value)
        return None if found is None or value is None else as_grid(found, value.type)

    def whole(self, value: Value | None) -> tuple[Size, ...] | None:
        """The elements where all of them are known."""
        return complete(self.of(value))

    def integers(self, value: Value | None) -> tuple[int, ...] | None:
        """The elements where all of them are known numbers."""
        found = self.of(value)
        if found is None:
            return None
        numbers = tuple(x for x in found if isinstance(x, int))
        return numbers if len(numbers) == len(found) else None

    def scalar(self, value: Value | None) -> Size | None:
        """The only element, where it is known."""
        found = self.of(value)
        return found[0] if found is not None and len(found) == 1 else None

    def floats(self, value: Value | None) -> tuple[float | Dim | None, ...] | None:
        """The elements of a floating-point tensor: any numbers of a constant, else the integers that are known."""
        if value is not None and value.const is not None and _readable(value):
            try:
                return tuple(float(x) for x in value.const.numpy().reshape(-1).tolist())
            except UsageError:
                return None
        found = self.of(value)
        return None if found is None else tuple(float(x) if isinstance(x, int) else x for x in found)

    def set(self, value: Value, entries: Sequence[Size | None] | None) -> None:
        """Records the elements of a value; what does not fit its element type, or says nothing, is left out."""
        kept = _checked(value, entries)
        if kept is None:
            self.forget(value)
            return
        self.changes += self.entries.get(value) != kept
        self.entries[value] = kept
        whole, type_ = complete(kept), value.type
        if (
            whole is not None
            and isinstance(type_, TensorType)
            and not type_.dtype.is_float
            and len(type_.shape or ()) < 2
        ):
            self.known[value] = whole
        else:
            self.known.pop(value, None)

    def forget(self, value: Value) -> None:
        """Drops what was known of a value."""
        if self.entries.pop(value, None) is not None:
            self.changes += 1
        self.known.pop(value, None)


def complete(entries: Entries | None) -> tuple[Size, ...] | None:
    """Entries none of which is missing, else None."""
    if entries is None:
        return None
    whole = tuple(x for x in entries if x is not None)
    return whole if len(whole) == len(entries) else None


def as_grid(entries: Sequence[Size | None], type_: Type) -> Grid | None:
    """Entries in the shape of a tensor type; None where it has another number of elements."""
    shape = type_.static_shape if isinstance(type_, TensorType) else None
    if shape is None or math.prod(shape) != len(entries):
        return None
    grid = np.empty(len(entries), object)
    for index, entry in enumerate(entries):
        grid[index] = entry
    return grid.reshape(shape)


def tracked_count(value: Value) -> int | None:
    """The number of elements of a tensor whose elements are tracked; None for others."""
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.shape is None:
        return None
    if type_.dtype.is_float:
        if type_.dtype not in EXACT_INTEGERS or len(type_.shape) > 1:
            return None
    elif not type_.dtype.is_integer and type_.dtype is not DType.BOOL:
        return None
    count = 1
    for size in type_.shape:
        if not isinstance(size, int):
            return None
        count *= size
    return count if count <= MAX_ENTRIES else None


def _checked(value: Value, entries: Sequence[Size | None] | None) -> Entries | None:
    if entries is None or len(entries) != tracked_count(value):
        return None
    assert isinstance(value.type, TensorType)
    low, high = value_range(value.type.dtype)
    kept = tuple(None if isinstance(x, int) and not low <= x <= high else x for x in entries)
    return kept if any(x is not None for x in kept) or not kept else None


@cache
def value_range(dtype: DType) -> tuple[int, int]:
    """The smallest and largest integer such that an element holds every integer between them exactly."""
    if dtype in EXACT_INTEGERS:
        return -EXACT_INTEGERS[dtype], EXACT_INTEGERS[dtype]
    if dtype is DType.BOOL:
        return 0, 1
    return (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1) if dtype.is_signed else (0, 2**dtype.bits - 1)


def _readable(value: Value) -> bool:
    tensor = value.const
    return tensor is not None and not isinstance(tensor, Placeholder) and tracked_count(value) is not None


def _read(value: Value) -> Entries | None:
    if not _readable(value) or value.const is None:
        return None
    try:
        numbers = value.const.numpy().reshape(-1).tolist()
    except UsageError:  # a lazy tensor over placeholders
        return None
    return tuple(_integral(x) for x in numbers)


def _integral(number: float | bool | int) -> int | None:
    return int(number) if math.isfinite(number) and number == math.floor(number) else None
