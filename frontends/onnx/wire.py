"""Finding weights in a serialized ONNX model without reading them.

Protobuf messages are sequences of (tag, payload), and every payload that is not a number carries its length: a walk
over tags and lengths touches a few bytes per field and skips the rest. `strip` walks over a (mapped) ModelProto, notes
where large raw tensor data lies, and gives the same message with each of those payloads replaced by a short marker,
which onnx's own classes then parse. It only skips and records; whatever it does not understand makes it give up, and
the caller parses the whole message instead. Wire format: https://protobuf.dev/programming-guides/encoding/. Field
numbers: onnx.proto.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ...ir import MappedFile
from ...ir.varint import varint

THRESHOLD = 1024
"""Payloads below this many bytes stay in the message: a mapped slice costs more than they do."""

WINDOW = 4096
"""Bytes that are read from a file at a time."""

_RAW_DATA = "raw data"
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {9: _RAW_DATA},
}
_TOO_DEEP = "messages nest too deep"
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 99
"""Protobuf's own parsers stop at 100 messages inside each other."""


class NotWalkable(Exception):
    """The bytes are not a sequence of protobuf fields at this offset."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"{why} at byte {offset}")
        self.offset, self.why = offset, why


@dataclass(frozen=True)
class Stripped:
    """A model without its large payloads: `message` to parse, and (offset, length) in the original of each marker."""

    message: bytes
    token: bytes
    slices: list[tuple[int, int]]

    def find(self, raw_data: bytes) -> tuple[int, int] | None:
        """The (offset, length) that a tensor's raw data stand for; None when they are the numbers themselves."""
        if len(raw_data) != len(self.token) + 8 or not raw_data.startswith(self.token):
            return None
        return self.slices[int.from_bytes(raw_data[len(self.token) :], "little")]


class Window:
    """A file for a walk that skips most of it: only the neighbourhood of what is asked for is read.

    Through the map, each byte that is looked at would bring pages of the weights around it into this process's memory.
    """

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.start, self.held = 0, b""

    def __len__(self) -> int:
        return self.file.size

    def byte(self, position: int) -> int:
        """The byte at a position inside the file."""
        index = position - self.start
        if not 0 <= index < len(self.held):
            self.start, self.held, index = position, self.part(position, min(position + WINDOW, self.file.size)), 0
        return self.held[index]

    def part(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop)."""
        found = self.file.read(start, stop - start)
        if len(found) < stop - start:
            raise NotWalkable(start + len(found), "the file became shorter")
        return found


class Whole:
    """Bytes in memory with the face of a Window."""

    def __init__(self, data: memoryview) -> None:
        self.byte, self.data = data.__getitem__, data

    def __len__(self) -> int:
        return len(self.data)

    def part(self, start: int, stop: int) -> memoryview:
        return self.data[start:stop]


Source = Window | Whole


def strip(data: memoryview | MappedFile, threshold: int = THRESHOLD) -> Stripped | None:
    """The message without raw tensor data of `threshold` bytes and more, or None when the bytes do not walk."""
    source = Window(data) if isinstance(data, MappedFile) else Whole(data)
    walker = _Walker(source, threshold)
    try:
        pieces = walker.message("model", 0, len(source), 0)
        message = bytes(source.part(0, len(source))) if pieces is None else b"".join(pieces)
    except NotWalkable:
        return None
    return Stripped(message, walker.token, walker.slices)


def fault(data: memoryview) -> NotWalkable | None:
    """Where the outermost message stops being protobuf, or None when it does not."""
    try:
        for _ in _fields(data):
            pass
    except NotWalkable as error:
        return error
    return None


def holds_graph(data: memoryview) -> bool:
    """True when the outermost message, which must walk, has the field in which a ModelProto keeps its graph."""
    return any(field in _INSIDE["model"] and wire == _LENGTH for field, wire in _fields(data))


def nests_too_deep(data: memoryview) -> bool:
    """True when subgraphs nest deeper than protobuf's parsers follow them."""
    try:
        _Walker(Whole(data), threshold=0).message("model", 0, len(data), 0)
    except NotWalkable as error:
        return error.why == _TOO_DEEP
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int]]:
    source = Whole(data)
    position, end = 0, len(source)
    while position < end:
        field, wire, _, position = _field(source, position, end)
        yield field, wire


class _Walker:
    def __init__(self, data: Source, threshold: int) -> None:
        self.data, self.threshold = data, threshold
        # Random, so that no tensor in a file can pass for a marker.
        self.token = os.urandom(16)
        self.slices: list[tuple[int, int]] = []
        self.base = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> list[bytes | memoryview] | None:
        """The pieces of the stripped message, or None when nothing in it is stripped."""
        if depth > _DEEPEST:
            raise NotWalkable(start, _TOO_DEEP)
        inside, data, threshold = _INSIDE[kind], self.data, self.threshold
        pieces: list[bytes | memoryview] = []
        kept = position = start
        while position < end:
            field, wire, body, stop = _field(data, position, end)
            if wire == _LENGTH and stop - body >= threshold and field in inside:
                new = self.payload(inside[field], body, stop, depth)
                if new is not None:
                    size = sum(len(piece) for piece in new)
                    pieces += [data.part(kept, position), varint(field << 3 | wire), varint(size), *new]
                    kept = stop
            position = stop
        if not pieces:
            return None
        pieces.append(data.part(kept, end))
        return pieces

    def payload(self, kind: str, start: int, stop: int, depth: int) -> list[bytes | memoryview] | None:
        if kind != _RAW_DATA and isinstance(self.data, Window) and stop - start <= WINDOW:
            return self.short(kind, start, stop, depth)
        if kind != _RAW_DATA:
            return self.message(kind, start, stop, depth + 1)
        self.slices.append((self.base + start, stop - start))
        return [self.token + (len(self.slices) - 1).to_bytes(8, "little")]

    def short(self, kind: str, start: int, stop: int, depth: int) -> list[bytes | memoryview] | None:
        """As `message`, over a copy in memory: a byte of a window costs a call."""
        window, self.data, self.base = self.data, Whole(memoryview(self.data.part(start, stop))), start
        try:
            return self.message(kind, 0, stop - start, depth + 1)
        finally:
            self.data, self.base = window, 0


def _field(data: Source, position: int, end: int) -> tuple[int, int, int, int]:
    """(field number, wire type, start of the payload, end of the payload) of the field at `position`."""
    # Nearly every key is one byte, as most lengths are: those are read in place.
    byte_at = data.byte
    key, body = byte_at(position), position + 1
    if key > 0x7F:
        key, body = _varint(data, position, end)
    field, wire = key >> 3, key & 7
    if wire == _LENGTH:
        length = byte_at(body) if body < end else 0x80
        if length > 0x7F:
            length, body = _varint(data, body, end)
        else:
            body += 1
        stop = body + length
    elif wire == _VARINT:
        _, stop = _varint(data, body, end)
    elif wire in (_FIXED64, _FIXED32):
        stop = body + (8 if wire == _FIXED64 else 4)
    else:
        raise NotWalkable(position, f"there is no field of wire type {wire}")
    if field == 0:
        raise NotWalkable(position, "there is no field number 0")
    if stop > end:
        raise NotWalkable(position, f"the data end {stop - end} bytes too early for the field")
    return field, wire, body, stop


def _varint(data: Source, position: int, end: int) -> tuple[int, int]:
    byte_at = data.byte
    value = shift = 0
    while position < end:
        byte = byte_at(position)
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise NotWalkable(position, "a number is too long")
    raise NotWalkable(position, "the data end inside a number")
