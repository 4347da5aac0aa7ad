"""Element types and value types. Types are immutable and compared by content."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Union

import ml_dtypes
import numpy as np

from .dims import Dim, Size, Symbol, is_known, known_product, to_text


class DType(Enum):
    """An ONNX element type: its name in text, its code in `TensorProto.DataType`, its numpy dtype, its bits in a file.

    Types that are narrower than a byte are one element per byte in memory (ml_dtypes) and packed in files, low bits
    first. Strings are numpy objects (str, undecodable bytes kept by surrogateescape) and have no bits.
    """

    F32 = ("f32", 1, np.dtype(np.float32), 32)
    U8 = ("u8", 2, np.dtype(np.uint8), 8)
    I8 = ("i8", 3, np.dtype(np.int8), 8)
    U16 = ("u16", 4, np.dtype(np.uint16), 16)
    I16 = ("i16", 5, np.dtype(np.int16), 16)
    I32 = ("i32", 6, np.dtype(np.int32), 32)
    I64 = ("i64", 7, np.dtype(np.int64), 64)
    STRING = ("str", 8, np.dtype(object), 0)
    BOOL = ("bool", 9, np.dtype(np.bool_), 8)
    F16 = ("f16", 10, np.dtype(np.float16), 16)
    F64 = ("f64", 11, np.dtype(np.float64), 64)
    U32 = ("u32", 12, np.dtype(np.uint32), 32)
    U64 = ("u64", 13, np.dtype(np.uint64), 64)
    C64 = ("c64", 14, np.dtype(np.complex64), 64)
    C128 = ("c128", 15, np.dtype(np.complex128), 128)
    BF16 = ("bf16", 16, np.dtype(ml_dtypes.bfloat16), 16)
    F8E4M3FN = ("f8e4m3fn", 17, np.dtype(ml_dtypes.float8_e4m3fn), 8)
    F8E4M3FNUZ = ("f8e4m3fnuz", 18, np.dtype(ml_dtypes.float8_e4m3fnuz), 8)
    F8E5M2 = ("f8e5m2", 19, np.dtype(ml_dtypes.float8_e5m2), 8)
    F8E5M2FNUZ = ("f8e5m2fnuz", 20, np.dtype(ml_dtypes.float8_e5m2fnuz), 8)
    U4 = ("u4", 21, np.dtype(ml_dtypes.uint4), 4)
    I4 = ("i4", 22, np.dtype(ml_dtypes.int4), 4)
    F4E2M1 = ("f4e2m1", 23, np.dtype(ml_dtypes.float4_e2m1fn), 4)
    F8E8M0 = ("f8e8m0", 24, np.dtype(ml_dtypes.float8_e8m0fnu), 8)
    U2 = ("u2", 25, np.dtype(ml_dtypes.uint2), 2)
    I2 = ("i2", 26, np.dtype(ml_dtypes.int2), 2)

    def __init__(self, label: str, code: int, numpy: np.dtype[np.generic], bits: int) -> None:
        self.label, self.code, self.numpy, self.bits = label, code, numpy, bits

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a slow Python function

    def __repr__(self) -> str:
        return self.label

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return self in _INTEGERS

    @property
    def is_signed(self) -> bool:
        """True for signed integers and for floats."""
        return self in _FLOATS or self.label.startswith("i")

    def file_bytes(self, count: int) -> int:
        """Bytes that `count` elements take in an ONNX file's raw data."""
        return (count * self.bits + 7) // 8

    @staticmethod
    def of_numpy(dtype: np.dtype[np.generic]) -> DType:
        """The element type of a numpy array. Raises ValueError for one that ONNX does not have."""
        found = _BY_NUMPY.get(dtype.newbyteorder("="))
        if found is None and dtype.kind in "US":
            return DType.STRING
        if found is None:
            raise ValueError(f"ONNX has no element type for numpy {dtype}")
        return found

    @staticmethod
    def of_code(code: int) -> DType:
        """The element type with this number in `TensorProto.DataType`. Raises ValueError for an unknown one."""
        if code not in _BY_CODE:
            raise ValueError(f"no element type has the code {code}")
        return _BY_CODE[code]

    @staticmethod
    def of_label(label: str) -> DType:
        """The element type called `label` in the text form. Raises ValueError for an unknown one."""
        if label not in _BY_LABEL:
            raise ValueError(f"no element type is called {label!r}")
        return _BY_LABEL[label]


_BY_NUMPY = {d.numpy: d for d in DType}
_BY_CODE = {d.code: d for d in DType}
_BY_LABEL = {d.label: d for d in DType}
_FLOATS = frozenset(d for d in DType if d.label.startswith(("f", "bf")))
_INTEGERS = frozenset(d for d in DType if d.label[0] in "iu")

Shape = tuple[Size, ...]


class TensorType:
    """A tensor of `dtype`; `shape` is a tuple of sizes, or None when even the rank is unknown."""

    __slots__ = ("_hash", "dtype", "shape")

    def __init__(self, dtype: DType, shape: Shape | None) -> None:
        self.dtype, self.shape = dtype, shape
        self._hash = hash((dtype, shape))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, TensorType)
            and self._hash == other._hash
            and self.dtype is other.dtype
            and self.shape == other.shape
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return type_text(self)

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape as ints, or None where the rank or a size is not known."""
        if self.shape is None:
            return None
        sizes = tuple(d for d in self.shape if isinstance(d, int))
        return sizes if len(sizes) == len(self.shape) else None

    @property
    def count(self) -> int | None:
        """The number of elements, or None when it is not known."""
        return known_product(self.shape) if self.shape is not None and is_known(self.shape) else None

    def with_shape(self, shape: Shape | None) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)


class _Container:
    __slots__ = ("element",)
    label = ""

    def __init__(self, element: Type) -> None:
        self.element = element

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Container) and self.label == other.label and self.element == other.element

    def __hash__(self) -> int:
        return hash((self.label, self.element))

    def __repr__(self) -> str:
        return type_text(self)  # pyright: ignore[reportArgumentType]  # only the three subclasses are made


class SequenceType(_Container):
    """A list of values of one type."""

    __slots__ = ()
    label = "seq"


class OptionalType(_Container):
    """A value or nothing."""

    __slots__ = ()
    label = "optional"


class SparseType(_Container):
    """A sparse tensor whose dense form has the element type and shape of `element`."""

    __slots__ = ()
    label = "sparse"


class MapType:
    """A dictionary from a scalar `key` type to `value`."""

    __slots__ = ("key", "value")

    def __init__(self, key: DType, value: Type) -> None:
        self.key, self.value = key, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapType) and self.key is other.key and self.value == other.value

    def __hash__(self) -> int:
        return hash(("map", self.key, self.value))

    def __repr__(self) -> str:
        return type_text(self)


class AnyType:
    """Nothing is known: the output of an operator that has no type rule."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyType)

    def __hash__(self) -> int:
        return hash("any")

    def __repr__(self) -> str:
        return type_text(self)


ANY = AnyType()
Type = Union[TensorType, SequenceType, OptionalType, SparseType, MapType, AnyType]


def type_text(type_: Type, name: Callable[[Symbol], str] | None = None) -> str:
    """A type in the text form; `name` may rename symbols, as in `dims.to_text`."""
    if isinstance(type_, TensorType):
        shape = "*" if type_.shape is None else ",".join(to_text(d, name) for d in type_.shape)
        return f"{type_.dtype.label}[{shape}]"
    if isinstance(type_, MapType):
        return f"map<{type_.key.label},{type_text(type_.value, name)}>"
    return "?" if isinstance(type_, AnyType) else f"{type_.label}<{type_text(type_.element, name)}>"


def tensor(dtype: DType | str, *shape: Size | str) -> TensorType:
    """Shorthand: `tensor("f32", "N", 3)`; strings among the sizes are symbols."""
    from .dims import symbol

    sizes = tuple(symbol(d) if isinstance(d, str) else d for d in shape)
    return TensorType(DType.of_label(dtype) if isinstance(dtype, str) else dtype, sizes)


def sizes_in(type_: Type) -> tuple[Dim, ...]:
    """The symbolic sizes that a type mentions, in order."""
    if isinstance(type_, TensorType):
        return tuple(d for d in type_.shape or () if isinstance(d, Dim))
    if isinstance(type_, MapType):
        return sizes_in(type_.value)
    return () if isinstance(type_, AnyType) else sizes_in(type_.element)
