"""ONNX's TensorProto and SparseTensorProto as tensors of the IR; large ones stay where they are in the file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto

from ...ir import DType, InvalidModelError, Tensor
from ...ir.tensors import Array, Dense, Sparse, from_raw
from .external import Folder
from .files import Withheld
from .limits import Account
from .strings import text


@dataclass(frozen=True)
class _Field:
    """The field of TensorProto that keeps a dtype without raw data, and the integers that its bits are, if any."""

    name: str
    bits: Any = None


_FIELDS: dict[DType, _Field] = {
    **dict.fromkeys([DType.F32, DType.C64], _Field("float_data")),
    **dict.fromkeys([DType.F64, DType.C128], _Field("double_data")),
    **dict.fromkeys([DType.I64], _Field("int64_data")),
    **dict.fromkeys([DType.U64, DType.U32], _Field("uint64_data")),
    **dict.fromkeys([DType.I32, DType.I16, DType.I8, DType.U16, DType.U8, DType.BOOL], _Field("int32_data")),
    **dict.fromkeys([DType.F16, DType.BF16], _Field("int32_data", np.uint16)),
    **{d: _Field("int32_data", np.uint8) for d in DType if 0 < d.bits < 8 or d.label.startswith("f8")},
}  # fmt: skip
MAX_RANK = 64
"""What numpy can hold."""

_COMPLEX = (DType.C64, DType.C128)


class TensorReader:
    """Reads tensors of one model; `account` is charged before anything is allocated."""

    def __init__(self, payloads: Withheld | None, folder: Folder, account: Account) -> None:
        self.payloads, self.folder, self.account = payloads, folder, account

    def read(self, proto: TensorProto, where: object) -> Tensor:
        """The tensor. Raises InvalidModelError when its data do not fit its type, LimitError when it is too large."""
        dtype, shape = self.header(proto, where)
        if dtype is DType.STRING:
            return _strings(proto, shape, where)
        nbytes = dtype.file_bytes(math.prod(shape))
        self.account.tensor(nbytes, where)
        if proto.data_location == TensorProto.EXTERNAL:
            entries = {text(e.key): text(e.value) for e in proto.external_data}
            return self.folder.slice(entries, dtype, shape, where)
        if not proto.HasField("raw_data"):
            return Dense(_typed(proto, dtype, shape, where), dtype)
        raw = proto.raw_data
        found = self.payloads.find(raw) if self.payloads is not None else None
        _fits(found[1] if found else len(raw), nbytes, "bytes", proto, where)
        if found and self.payloads is not None:
            return self.payloads.tensor(*found, dtype, shape)
        return Dense(from_raw(raw, dtype, shape), dtype)

    def header(self, proto: TensorProto, where: object) -> tuple[DType, tuple[int, ...]]:
        try:
            dtype = DType.of_code(proto.data_type)
        except ValueError as error:
            raise InvalidModelError("a tensor has an unknown element type", where=where, why=str(error)) from error
        shape = tuple(proto.dims)
        if len(shape) > MAX_RANK:
            raise InvalidModelError(
                f"a tensor has {len(shape)} axes", where=where, why=f"more than {MAX_RANK} are not possible"
            )
        if any(d < 0 for d in shape):
            raise InvalidModelError("a tensor has a negative size", where=where, why=f"its shape is {shape}")
        if proto.HasField("segment"):
            raise InvalidModelError("a tensor is kept in segments, which no ONNX version reads", where=where)
        return dtype, shape

    def sparse(self, proto: SparseTensorProto, where: object) -> Tensor:
        """A sparse tensor: indices are flat positions, or one row of coordinates per value. It is written out where it
        does not give each position once and in order.
        """
        shape = tuple(proto.dims)
        values, indices = self.read(proto.values, where), self.read(proto.indices, where)
        if any(d < 0 for d in shape) or values.rank != 1 or indices.dtype is not DType.I64:
            raise InvalidModelError(
                "a sparse tensor is malformed", where=where, why=f"its shape is {shape}, values {values.type!r}"
            )
        self.account.expanded(max(values.dtype.bits, 8) // 8 * math.prod(shape), where)
        if indices.shape == (values.count,):
            flat: Array = indices.numpy()
        elif indices.shape == (values.count, len(shape)):
            inside = indices.numpy()
            if inside.size and not ((inside >= 0).all() and (inside < np.asarray(shape)).all()):
                raise InvalidModelError("a sparse tensor has an index outside its shape", where=where)
            flat = np.asarray(
                np.ravel_multi_index(tuple(inside.T), shape)
                if shape and inside.size
                else np.zeros(len(inside), np.int64)
            )
        else:
            raise InvalidModelError(
                "the indices of a sparse tensor do not fit its values", where=where, why=f"they are {indices.type!r}"
            )
        if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < math.prod(shape):
            raise InvalidModelError("a sparse tensor has an index outside its shape", where=where)
        if bool((flat[1:] > flat[:-1]).all()):
            return Sparse(values.numpy(), flat, values.dtype, shape)
        dense = np.zeros(math.prod(shape), values.dtype.numpy)
        dense[flat] = values.numpy()
        return Dense(dense.reshape(shape), values.dtype)


def _typed(proto: TensorProto, dtype: DType, shape: tuple[int, ...], where: object) -> Array:
    """Numbers from one of the typed fields (`float_data` and so on), as the comments in onnx.proto lay them out."""
    row = _FIELDS[dtype]
    stored, count = getattr(proto, row.name), math.prod(shape)
    if dtype.bits < 8:
        _fits(len(stored), dtype.file_bytes(count), "packed elements", proto, where)
        return from_raw(np.fromiter(stored, np.int64, len(stored)).astype(np.uint8).tobytes(), dtype, shape)
    _fits(len(stored), 2 * count if dtype in _COMPLEX else count, "elements", proto, where)
    if dtype in _COMPLEX:
        half = np.float32 if dtype is DType.C64 else np.float64
        return np.fromiter(stored, half, len(stored)).view(dtype.numpy).reshape(shape)
    if row.bits is not None:
        return np.fromiter(stored, np.int64, count).astype(row.bits).view(dtype.numpy).reshape(shape)
    wide = np.float64 if dtype.is_float else np.uint64 if row.name == "uint64_data" else np.int64
    return np.fromiter(stored, wide, count).astype(dtype.numpy).reshape(shape)


def _strings(proto: TensorProto, shape: tuple[int, ...], where: object) -> Tensor:
    _fits(len(proto.string_data), math.prod(shape), "strings", proto, where)
    array = np.empty(len(proto.string_data), object)
    array[:] = [s.decode("utf-8", "surrogateescape") for s in proto.string_data]
    return Dense(array.reshape(shape), DType.STRING)


def _fits(found: int, needed: int, unit: str, proto: TensorProto, where: object) -> None:
    if found != needed:
        raise InvalidModelError(
            "a tensor's data do not fit its shape",
            where=where,
            why=f"shape {tuple(proto.dims)} needs {needed} {unit}, the file has {found}",
            do="export or download the model again",
        )
