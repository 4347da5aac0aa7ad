"""Whole numbers in groups of seven bits, as protobuf writes them: what reading and writing ONNX files share."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """A number >= 0, its lowest seven bits first; every byte but the last has its highest bit set."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
