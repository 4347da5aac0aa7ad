"""Known contents of small tensors of integers: what Reshape, Slice, Range and their like compute shapes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

from ..dims import Dim, Size
from ..errors import UsageError
from ..graph import Value
from ..tensors import Placeholder
from ..types import DType, TensorType

Entries = tuple[Union[Size, None], ...]
"""The elements of a tensor of rank 0 or 1 in order; None for one that is not known."""

MAX_ENTRIES = 1024

EXACT_INTEGERS = {DType.F16: 2**11, DType.BF16: 2**8, DType.F32: 2**24, DType.F64: 2**53}
"""Up to here every integer has an exact floating-point value."""


class Contents:
    """What is known of the elements of values, by value.

    Integers and booleans (as 0 and 1) of rank 0 and 1 with up to MAX_ENTRIES elements, and floating-point tensors of that size as far
    as their elements are integers: old exports compute sizes in floating point. Constants are read when first asked for.
    """

    def __init__(self) -> None:
        self.entries: dict[Value, Entries] = {}
        self.known: dict[Value, tuple[Size, ...]] = {}
        """The integer and boolean tensors all of whose elements are known."""

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
        self.entries[value] = kept
        whole = complete(kept)
        if whole is not None and isinstance(value.type, TensorType) and not value.type.dtype.is_float:
            self.known[value] = whole
        else:
            self.known.pop(value, None)

    def forget(self, value: Value) -> None:
        """Drops what was known of a value."""
        self.entries.pop(value, None)
        self.known.pop(value, None)


def complete(entries: Entries | None) -> tuple[Size, ...] | None:
    """Entries none of which is missing, else None."""
    if entries is None:
        return None
    whole = tuple(x for x in entries if x is not None)
    return whole if len(whole) == len(entries) else None


def can_hold(value: Value) -> bool:
    """True for tensors whose elements are tracked at all."""
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.shape is None or len(type_.shape) > 1:
        return False
    return type_.dtype in EXACT_INTEGERS or type_.dtype.is_integer or type_.dtype is DType.BOOL


def _checked(value: Value, entries: Sequence[Size | None] | None) -> Entries | None:
    if entries is None or len(entries) > MAX_ENTRIES or not can_hold(value):
        return None
    assert isinstance(value.type, TensorType)
    low, high = value_range(value.type.dtype)
    kept = tuple(None if isinstance(x, int) and not low <= x <= high else x for x in entries)
    return kept if any(x is not None for x in kept) or not kept else None


def value_range(dtype: DType) -> tuple[int, int]:
    """The smallest and largest integer such that an element holds every integer between them exactly."""
    if dtype in EXACT_INTEGERS:
        return -EXACT_INTEGERS[dtype], EXACT_INTEGERS[dtype]
    if dtype is DType.BOOL:
        return 0, 1
    return (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1) if dtype.is_signed else (0, 2**dtype.bits - 1)


def _readable(value: Value) -> bool:
    tensor = value.const
    return tensor is not None and not isinstance(tensor, Placeholder) and tensor.count <= MAX_ENTRIES and can_hold(value)


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
