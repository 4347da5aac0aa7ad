"""Graphs, nodes and values in protobuf's wire format (https://protobuf.dev/programming-guides/encoding).

A message object per node is what makes the serialisation of large graphs slow, so the messages that are many and simple
are put together from their fields here. What is inside of them (types, attributes, tensors) is encoded by onnx's own
classes, each different one once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from ...ir import Attribute, Type
from ...ir.attributes import kind_of
from ...ir.types import AnyType
from ...ir.varint import varint
from .protos import set_attribute, set_type, text

LENGTH_DELIMITED = 2


def tag(field: int, length: int) -> bytes:
    """The key of a field of `length` bytes, and the length."""
    return varint(field << 3 | LENGTH_DELIMITED) + varint(length)


def embedded(field: int, content: bytes) -> bytes:
    """A field that holds a message, a string or bytes."""
    return tag(field, len(content)) + content


def _key(message: type, field: str) -> bytes:
    """The key of a length-delimited field of a message."""
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | LENGTH_DELIMITED)  # pyright: ignore


_INPUT, _OUTPUT, _NAME, _OP, _DOMAIN, _ATTRIBUTE, _METADATA = (
    _key(onnx.NodeProto, f) for f in ("input", "output", "name", "op_type", "domain", "attribute", "metadata_props")
)
_INFO_NAME, _INFO_TYPE = (_key(onnx.ValueInfoProto, f) for f in ("name", "type"))
_GRAPH = {
    f: onnx.GraphProto.DESCRIPTOR.fields_by_name[f].number
    for f in ("node", "name", "doc_string", "input", "output", "value_info")
}
_ATTRIBUTE_GRAPH = onnx.AttributeProto.DESCRIPTOR.fields_by_name["g"].number
_ATTRIBUTE_KIND = onnx.AttributeProto(type=onnx.AttributeProto.GRAPH).SerializeToString()


class _Framed(dict[str, bytes]):
    """Strings in UTF-8 with their length in front: a name is written where it is defined and where it is used."""

    def __missing__(self, name: str) -> bytes:
        content = name.encode()
        size = len(content)
        framed = self[name] = (bytes((size,)) if size < 0x80 else varint(size)) + content
        return framed


class Encoder:
    """Messages as bytes. Equal strings, types and plain attributes are encoded once."""

    def __init__(self) -> None:
        self.framed = _Framed()
        self._types: dict[Type, bytes] = {}
        self._attributes: dict[tuple[str, str, object], bytes] = {}

    def node(
        self,
        op: str,
        name: str,
        inputs: Iterable[str],
        outputs: Iterable[str],
        attributes: Sequence[bytes] = (),
        *,
        domain: str = "",
        metadata: dict[str, str] | None = None,
    ) -> bytes:
        """A NodeProto; `attributes` are what `attribute` and `subgraph` give."""
        framed = self.framed
        parts = [_INPUT + framed[n] for n in inputs]
        parts += [_OUTPUT + framed[n] for n in outputs]
        parts += (_NAME, framed[name], _OP, framed[op])
        parts += attributes
        if domain:
            parts += (_DOMAIN, framed[domain])
        for key, value in (metadata or {}).items():
            entry = onnx.StringStringEntryProto(key=text(key), value=text(value)).SerializeToString()
            parts += (_METADATA, varint(len(entry)), entry)
        return b"".join(parts)

    def attribute(self, name: str, value: Attribute, kind: str = "") -> bytes:
        """The attribute as a field of its node; `kind` is what the schema says, see `protos.set_attribute`."""
        found = kind_of(value) if value != () else f"{kind} {value!r}"
        plain = found[:3] in ("INT", "FLO", "STR")
        # Numbers that are equal need not have the same bits: 0.0 and -0.0.
        key = (name, found, repr(value) if found[:3] == "FLO" else value)
        if plain and key in self._attributes:
            return self._attributes[key]
        proto = onnx.AttributeProto()
        set_attribute(proto, name, value, kind)
        content = proto.SerializeToString(deterministic=True)
        field = _ATTRIBUTE + varint(len(content)) + content
        if plain:
            self._attributes[key] = field
        return field

    def subgraph(self, name: str, graph: bytes) -> bytes:
        """An attribute that holds a graph, as a field of its node."""
        content = onnx.AttributeProto(name=text(name)).SerializeToString()
        content += embedded(_ATTRIBUTE_GRAPH, graph) + _ATTRIBUTE_KIND
        return _ATTRIBUTE + varint(len(content)) + content

    def value_info(self, name: str, type_: Type) -> bytes:
        """A ValueInfoProto; the type stays unset where it is not known."""
        content = _INFO_NAME + self.framed[name]
        if isinstance(type_, AnyType):
            return content
        known = self._types.get(type_)
        if known is None:
            proto = onnx.TypeProto()
            set_type(proto, type_)
            encoded = proto.SerializeToString(deterministic=True)
            known = self._types[type_] = _INFO_TYPE + varint(len(encoded)) + encoded
        return content + known


class GraphFields:
    """The repeated fields of a GraphProto as they come, and the message in the end: without initializers."""

    def __init__(self, name: str, doc: str) -> None:
        self.name, self.doc = name, doc
        self.nodes: list[bytes] = []
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []
        self.value_infos: list[bytes] = []

    def encoded(self) -> bytes:
        """The GraphProto's bytes, fields in the order of their numbers."""
        parts: list[bytes] = []
        for field, contents in (
            ("node", self.nodes),
            ("name", [self.name.encode()]),
            ("doc_string", [self.doc.encode()] if self.doc else []),
            ("input", self.inputs),
            ("output", self.outputs),
            ("value_info", self.value_infos),
        ):
            key = varint(_GRAPH[field] << 3 | LENGTH_DELIMITED)
            for content in contents:
                parts += (key, varint(len(content)), content)
        return b"".join(parts)
