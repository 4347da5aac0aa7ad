"""Attribute values of nodes: plain immutable Python values."""

from __future__ import annotations

from functools import lru_cache
from typing import Union

import numpy as np

from .tensors import Tensor
from .types import MapType, OptionalType, SequenceType, SparseType, TensorType

KINDS = frozenset(
    ["INT", "FLOAT", "STRING", "TENSOR", "TYPE_PROTO", "INTS", "FLOATS", "STRINGS", "TENSORS", "TYPE_PROTOS"]
)


class EmptyList(tuple[()]):
    """An empty list attribute that remembers its kind ("INTS", ...), which no element could tell."""

    kind: str

    def __new__(cls, kind: str) -> EmptyList:
        made = super().__new__(cls)
        made.kind = kind
        return made

    def __reduce__(self) -> tuple[type[EmptyList], tuple[str]]:
        return EmptyList, (self.kind,)


TypeAttribute = Union[TensorType, SequenceType, OptionalType, SparseType, MapType]
Scalar = Union[int, float, str, bytes, Tensor, TypeAttribute]
Attribute = Union[
    Scalar,
    tuple[int, ...],
    tuple[float, ...],
    tuple[str, ...],
    tuple[bytes, ...],
    tuple[Tensor, ...],
    tuple[TypeAttribute, ...],
]
"""str is an ONNX string that is valid UTF-8, bytes one that is not."""


def kind_of(value: Attribute) -> str:
    """The ONNX attribute type of a value: INT, FLOAT, STRING, TENSOR, TYPE_PROTO or the plural of one."""
    if isinstance(value, EmptyList):
        return value.kind
    if isinstance(value, tuple):
        return kind_of(value[0]) + "S" if value else "INTS"
    if isinstance(value, int):
        return "INT"
    if isinstance(value, float):
        return "FLOAT"
    if isinstance(value, (str, bytes)):
        return "STRING"
    return "TENSOR" if isinstance(value, Tensor) else "TYPE_PROTO"


def same(a: Attribute, b: Attribute) -> bool:
    """Equality that compares tensors by content and tells 1 from 1.0."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and kind_of(a) == kind_of(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.same_as(b)
    return type(a) is type(b) and a == b


@lru_cache(maxsize=1 << 14)
def shortest(number: float) -> float:
    """The float32 `number` as the decimal with the fewest digits that rounds to it: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(number)))
