"""What every constant tensor offers, wherever its numbers are: in memory, in a mapped file, or in an expression."""

from __future__ import annotations

import hashlib
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import DType, TensorType

Array = NDArray[Any]
"""A numpy array of any element type; which one is said by the tensor's dtype."""

BLOCK_BYTES = 1 << 18

FILLER_BYTES = 1 << 16
"""Tensors up to this size are looked at for being filled with one number."""


class Unread(Enum):
    """Stands for what was not looked for yet, where None means that there is none."""

    YET = 0


class Tensor(ABC):
    """An immutable array with a dtype and a shape; numbers are produced only on demand.

    `numpy()` gives the whole array, `rows(a, b)` the part [a:b] of the first axis, `blocks()` the bytes of ONNX's raw
    data one block at a time. Arrays that come back are read-only or must be treated so.
    """

    __slots__ = ("_digest", "_filler", "dtype", "shape")

    def __init__(self, dtype: DType, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        self._digest: str | None = None
        self._filler: Array | Unread | None = Unread.YET

    @abstractmethod
    def numpy(self) -> Array:
        """The whole tensor as an array of `shape` and `dtype.numpy`."""

    def rows(self, start: int, stop: int) -> Array:
        """The slice [start:stop] along the first axis."""
        return self.numpy()[start:stop]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in an ONNX file (packed); strings count as what their objects point to, roughly."""
        return self.dtype.file_bytes(self.count) if self.dtype is not DType.STRING else 16 * self.count

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes | memoryview]:
        """The raw data, little-endian and packed, in pieces of about `block_bytes`. Not for strings."""
        rows = self.shape[0] if self.shape else 1
        per_row = max(1, self.count // max(1, rows))
        step = max(1, block_bytes * 8 // max(1, per_row * self.dtype.bits))
        if self.rank == 0 or step >= rows or (per_row * self.dtype.bits) % 8:
            yield raw_bytes(self.numpy(), self.dtype)
            return
        for start in range(0, rows, step):
            yield raw_bytes(self.rows(start, min(rows, start + step)), self.dtype)

    @property
    def digest(self) -> str:
        """A hash of dtype, shape and contents: 32 hexadecimal digits, the same in every process."""
        if self._digest is None:
            state = hashlib.blake2b(repr((self.dtype.label, self.shape)).encode(), digest_size=16)
            if self.dtype is DType.STRING:
                state.update(repr([str(s) for s in self.numpy().reshape(-1).tolist()]).encode("utf-8", "surrogatepass"))
            else:
                for block in self.blocks():
                    state.update(block)
            self._digest = state.hexdigest()
        return self._digest

    @property
    def filler(self) -> Array | None:
        """The one element that fills the tensor, of shape (); None where elements differ, there are none, or the tensor
        has over 64 kB, which are not looked at. It is found once: rules ask for it at every visit.
        """
        if self._filler is Unread.YET:
            self._filler = self._find_filler()
        return self._filler

    def _find_filler(self) -> Array | None:
        if self.nbytes > FILLER_BYTES or self.dtype is DType.STRING or not self.count:
            return None
        elements = np.ascontiguousarray(self.numpy()).reshape(-1)
        same = elements.view(np.uint8).reshape(len(elements), -1)
        return elements[:1].reshape(()).copy() if (same == same[0]).all() else None

    def unrounded(self) -> Array:
        """A float's value in double precision; what is computed from others is not rounded to the element type."""
        return self.numpy().astype(np.float64)

    def same_as(self, other: Tensor) -> bool:
        """True when dtype, shape and contents are equal."""
        if self is other:
            return True
        return self.dtype is other.dtype and self.shape == other.shape and self.digest == other.digest

    def item(self) -> Any:
        """The only element as a Python scalar. Raises ValueError for any other count."""
        return self.numpy().item()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.type!r})"


def pack(array: Array, bits: int) -> NDArray[np.uint8]:
    """Elements narrower than a byte packed low bits first, as ONNX stores them; the last byte is padded with zeros."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    per_byte = 8 // bits
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = flat
    lanes = padded.reshape(-1, per_byte)
    out = np.zeros(len(lanes), np.uint8)
    for lane in range(per_byte):
        out |= lanes[:, lane] << (bits * lane)
    return out


def unpack(data: NDArray[np.uint8], dtype: DType, count: int) -> Array:
    """The inverse of `pack`: one element per byte, of `dtype.numpy`."""
    per_byte, mask = 8 // dtype.bits, (1 << dtype.bits) - 1
    lanes = np.stack([(data >> (dtype.bits * lane)) & mask for lane in range(per_byte)], axis=1).reshape(-1)[:count]
    if dtype in (DType.I4, DType.I2):
        sign = 1 << (dtype.bits - 1)
        return ((lanes.astype(np.int8) ^ sign) - sign).astype(dtype.numpy)
    return lanes.astype(np.uint8).view(dtype.numpy) if dtype is DType.F4E2M1 else lanes.astype(dtype.numpy)


def raw_bytes(array: Array, dtype: DType) -> bytes | memoryview:
    """An array as ONNX raw data: C order, little-endian, packed."""
    if dtype.bits < 8:
        return pack(array, dtype.bits).data
    contiguous = np.ascontiguousarray(array, dtype=dtype.numpy)
    if sys.byteorder == "big":
        contiguous = contiguous.byteswap()
    return contiguous.reshape(-1).view(np.uint8).data


def from_raw(data: memoryview | bytes, dtype: DType, shape: tuple[int, ...]) -> Array:
    """ONNX raw data as an array; a view where alignment and width allow, else a copy."""
    if dtype.bits < 8:
        return unpack(np.frombuffer(data, np.uint8), dtype, math.prod(shape)).reshape(shape)
    array = np.frombuffer(data, dtype.numpy).reshape(shape)
    if sys.byteorder == "big":
        array = array.byteswap()
    return array if array.flags.aligned else array.copy()
