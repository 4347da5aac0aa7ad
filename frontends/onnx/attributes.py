"""ONNX's AttributeProto as plain values."""

from __future__ import annotations

from collections.abc import Callable

from onnx import AttributeProto, TypeProto

from ...ir import Attribute, EmptyList, InvalidModelError, UnsupportedError
from ...ir.attributes import TypeAttribute, shortest
from ...ir.types import AnyType
from .strings import text
from .tensors import TensorReader
from .types import Sizes, type_of

_Read = Callable[[AttributeProto, TensorReader, object], Attribute]


def string(data: bytes) -> str | bytes:
    """A string attribute: str where it is UTF-8, else its bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _tensors(proto: AttributeProto, tensors: TensorReader, where: object) -> Attribute:
    return tuple([tensors.read(t, where) for t in proto.tensors]) or EmptyList("TENSORS")


def _types(proto: AttributeProto, where: object) -> Attribute:
    return tuple([_type(t, where) for t in proto.type_protos]) or EmptyList("TYPE_PROTOS")


def _type(proto: TypeProto, where: object) -> TypeAttribute:
    found = type_of(proto, Sizes(), where)
    if isinstance(found, AnyType):
        raise InvalidModelError("a type attribute names no type", where=where)
    return found


def _strings(proto: AttributeProto) -> Attribute:
    if not proto.strings:
        return EmptyList("STRINGS")
    decoded = [string(s) for s in proto.strings]
    every = [s for s in decoded if isinstance(s, str)]
    return tuple(every) if len(every) == len(decoded) else tuple(proto.strings)


_READ: dict[int, _Read] = {
    AttributeProto.INT: lambda a, _, __: a.i,
    AttributeProto.FLOAT: lambda a, _, __: shortest(a.f),
    AttributeProto.STRING: lambda a, _, __: string(a.s),
    AttributeProto.TENSOR: lambda a, tensors, where: tensors.read(a.t, where),
    AttributeProto.TYPE_PROTO: lambda a, _, where: _type(a.tp, where),
    AttributeProto.INTS: lambda a, _, __: tuple(a.ints) or EmptyList("INTS"),
    AttributeProto.FLOATS: lambda a, _, __: tuple([shortest(f) for f in a.floats]) or EmptyList("FLOATS"),
    AttributeProto.STRINGS: lambda a, _, __: _strings(a),
    AttributeProto.TENSORS: _tensors,
    AttributeProto.TYPE_PROTOS: lambda a, _, where: _types(a, where),
}  # fmt: skip

_FIELDS = (
    ("f", AttributeProto.FLOAT), ("i", AttributeProto.INT), ("s", AttributeProto.STRING), ("t", AttributeProto.TENSOR),
    ("g", AttributeProto.GRAPH), ("tp", AttributeProto.TYPE_PROTO),
)  # fmt: skip
_LISTS = (
    ("floats", AttributeProto.FLOATS), ("ints", AttributeProto.INTS), ("strings", AttributeProto.STRINGS),
    ("tensors", AttributeProto.TENSORS), ("graphs", AttributeProto.GRAPHS), ("type_protos", AttributeProto.TYPE_PROTOS),
)  # fmt: skip


def kind_of(proto: AttributeProto, where: object) -> int:
    """The attribute's type code; files of the first ONNX versions have none, and there the field that is set tells."""
    if proto.type:
        return proto.type
    for name, kind in _FIELDS:
        if proto.HasField(name):
            return kind
    for name, kind in _LISTS:
        if len(getattr(proto, name)):
            return kind
    raise InvalidModelError(f"attribute {text(proto.name)!r} has no value", where=where)


def read(proto: AttributeProto, tensors: TensorReader, where: object) -> Attribute:
    """The value of any attribute but a subgraph.

    Raises UnsupportedError for kinds that the IR does not hold (sparse tensors).
    """
    kind = kind_of(proto, where)
    if kind not in _READ:
        known = kind in AttributeProto.AttributeType.values()
        label = AttributeProto.AttributeType.Name(kind) if known else str(kind)  # pyright: ignore[reportArgumentType]
        raise UnsupportedError(f"attribute {text(proto.name)!r} is of the kind {label}", where=where)
    return _READ[kind](proto, tensors, where)
