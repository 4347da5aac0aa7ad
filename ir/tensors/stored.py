"""Tensors whose numbers exist already: arrays in memory, slices of mapped files, and placeholders known by their
hash.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InvalidModelError, UsageError
from ..types import DType
from .base import BLOCK_BYTES, Array, Tensor, from_raw, raw_bytes

RESIDENT_BYTES = 16 << 20
"""About how many bytes of mapped files may stay in memory because somebody looked at them once."""

AROUND = 2 << 20
"""Bytes around those looked at that the system may map in with them: a huge page."""


class Dense(Tensor):
    """An array in memory."""

    __slots__ = ("_array",)

    def __init__(self, array: Array, dtype: DType | None = None) -> None:
        array = np.asarray(array)
        dtype = dtype or DType.of_numpy(array.dtype)
        if dtype is DType.STRING and array.dtype != object:
            array = array.astype(object)
        elif dtype is not DType.STRING and array.dtype != dtype.numpy:
            array = array.astype(dtype.numpy)
        array = array.view()
        array.flags.writeable = False
        super().__init__(dtype, array.shape)
        self._array = array

    def numpy(self) -> Array:
        return self._array


class MappedFile:
    """A read-only map of a whole file that notices when the file changes under it.

    Touching a page of a file that was truncated after mapping kills the process (SIGBUS), so `check` compares size and
    time first.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        self._seen = (status.st_size, status.st_mtime_ns)
        self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) if status.st_size else b""
        self.size = status.st_size

    def fileno(self) -> int:
        """The descriptor of the mapped file, for copying from it without touching the map."""
        return self._descriptor

    def check(self) -> None:
        """Raises InvalidModelError if the mapped file was written to. One that was replaced or deleted lives on in the
        map.
        """
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != self._seen:
            raise InvalidModelError(
                f"{self.path} changed while it was in use",
                why=f"it had {self._seen[0]} bytes when it was loaded and has {status.st_size} now, "
                "or another time stamp",
                do="load the model again, or load with mmap=False when files are replaced in place",
            )

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes [offset, offset + length) without copying them.

        Now and then it lets go of the pages that were touched before; those still in use are read again.
        """
        _RESIDENT.count(self, length + AROUND)
        return memoryview(self._map)[offset : offset + length]

    def release(self) -> None:
        """Lets go of the pages that were touched; they are read again when somebody looks at them."""
        if isinstance(self._map, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def read(self, offset: int, length: int) -> bytes:
        """A copy of the bytes [offset, offset + length), or fewer at the end of the file, that leaves the map alone."""
        return os.pread(self._descriptor, length, offset)

    def __reduce__(self) -> tuple[type[MappedFile], tuple[Path]]:
        return MappedFile, (self.path,)

    def __deepcopy__(self, memo: object) -> MappedFile:
        return self


class _Resident:
    """How much of all mapped files was looked at since their pages were let go."""

    def __init__(self) -> None:
        self.bytes = 0
        self.files = weakref.WeakSet[MappedFile]()

    def count(self, file: MappedFile, touched: int) -> None:
        """Notes bytes of a file, after letting go of all others where they are too many."""
        self.bytes += touched
        if self.bytes > RESIDENT_BYTES:
            for each in self.files:
                each.release()
            self.files.clear()
            self.bytes = touched
        self.files.add(file)


_RESIDENT = _Resident()


class FileSlice(Tensor):
    """A tensor that stays in a mapped file: `length` bytes at `offset`, ONNX raw data of `dtype` and `shape`, any
    alignment.
    """

    __slots__ = ("file", "length", "offset")

    def __init__(self, file: MappedFile, offset: int, length: int, dtype: DType, shape: tuple[int, ...]) -> None:
        super().__init__(dtype, shape)
        if length != dtype.file_bytes(self.count) or offset < 0 or offset + length > file.size:
            raise InvalidModelError(
                "a tensor does not fit its data",
                where=str(file.path),
                why=f"{self.type!r} needs {dtype.file_bytes(self.count)} bytes; "
                f"bytes {offset} to {offset + length} of {file.size} were given",
            )
        self.file, self.offset, self.length = file, offset, length

    def numpy(self) -> Array:
        self.file.check()
        return from_raw(self.file.view(self.offset, self.length), self.dtype, self.shape)

    def rows(self, start: int, stop: int) -> Array:
        per_row = self.count // self.shape[0] * self.dtype.bits
        if per_row % 8:
            return self.numpy()[start:stop]
        self.file.check()
        data = self.file.view(self.offset + start * per_row // 8, (stop - start) * per_row // 8)
        return from_raw(data, self.dtype, (stop - start, *self.shape[1:]))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes | memoryview]:
        self.file.check()
        for start in range(0, self.length, block_bytes):
            yield self.file.view(self.offset + start, min(block_bytes, self.length - start))


def spilled(array: Array, dtype: DType) -> Tensor:
    """An array as a tensor that holds no memory while nobody looks at it: in a temporary file that goes with it.

    Strings stay in memory, and so does everything where no temporary file can be written.
    """
    if dtype is DType.STRING or not array.size:
        return Dense(array, dtype)
    try:
        descriptor, name = tempfile.mkstemp(prefix="tersor-")
    except OSError:
        return Dense(array, dtype)
    try:
        with open(descriptor, "wb") as file:
            file.write(raw_bytes(array, dtype))
        mapped = MappedFile(name)
    except OSError:  # a full disk: what was written goes
        Path(name).unlink(missing_ok=True)
        return Dense(array, dtype)
    try:
        os.unlink(name)  # the map keeps what is in it
    except OSError:  # where a mapped file cannot be removed
        weakref.finalize(mapped, Path(name).unlink, missing_ok=True)
    return FileSlice(mapped, 0, mapped.size, dtype, array.shape)


class Placeholder(Tensor):
    """A tensor of which only type and hash are known: what the text form keeps of a large constant.

    An empty hash stands for "any contents" and is what a test writes when it does not care.
    """

    __slots__ = ()

    def __init__(self, dtype: DType, shape: tuple[int, ...], digest: str = "") -> None:
        super().__init__(dtype, shape)
        self._digest = digest

    def numpy(self) -> Array:
        raise UsageError(
            "this constant has no numbers",
            why=f"it is a placeholder {self.type!r} that was read from the text form of a graph",
            do="give the numbers when parsing: parse(text, constants={name: array})",
        )
