"""Tensors that are mostly zeros, kept as their other numbers and where these are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import DType
from .base import Array, Tensor

INDEX_BYTES = 8
"""What ONNX spends on the place of a number: an int64."""

UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Sparse(Tensor):
    """`values` at `indices` and zeros elsewhere; ONNX files hold it so, too (SparseTensorProto).

    `indices` are places in the row-major order of `shape`, ascending and each once, int64. The dense array is made anew
    each time that somebody asks for it.
    """

    __slots__ = ("indices", "values")

    def __init__(self, values: Array, indices: NDArray[np.int64], dtype: DType, shape: tuple[int, ...]) -> None:
        super().__init__(dtype, shape)
        if len(values) != len(indices) or (len(indices) and not 0 <= indices[0] <= indices[-1] < self.count):
            raise ValueError(f"{len(indices)} places do not fit {len(values)} values of {self.type!r}")
        self.values, self.indices = values, indices

    @property
    def stored_bytes(self) -> int:
        """Bytes of values and places in an ONNX file."""
        return len(self.indices) * (self.dtype.bits // 8 + INDEX_BYTES)

    def numpy(self) -> Array:
        return self.filled(0, self.count).reshape(self.shape)

    def rows(self, start: int, stop: int) -> Array:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        per_row = math.prod(self.shape[1:])
        return self.filled(start * per_row, max(start, stop) * per_row).reshape(-1, *self.shape[1:])

    def filled(self, start: int, stop: int) -> Array:
        """The elements [start:stop] in row-major order."""
        array = np.zeros(stop - start, self.dtype.numpy)
        first, last = np.searchsorted(self.indices, (start, stop))
        array[self.indices[first:last] - start] = self.values[first:last]
        return array


def sparse(tensor: Tensor) -> Sparse | None:
    """The same numbers, bit for bit, where they take fewer bytes of an ONNX file so: in single precision from two
    thirds of zeros on. None elsewhere, and for strings and numbers narrower than a byte.
    """
    width = tensor.dtype.bits // 8
    if tensor.dtype is DType.STRING or tensor.dtype.bits % 8 or width not in UNSIGNED:
        return None
    flat = np.ascontiguousarray(tensor.numpy()).reshape(-1)
    indices = np.flatnonzero(flat.view(UNSIGNED[width]))
    if len(indices) * (width + INDEX_BYTES) >= tensor.nbytes:
        return None
    return Sparse(flat[indices], indices.astype(np.int64), tensor.dtype, tensor.shape)
