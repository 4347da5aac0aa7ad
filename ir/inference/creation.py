"""Operators that make tensors from numbers: constants, ranges, random numbers, windows and transforms of signals."""

from __future__ import annotations

from ..dims import Size, at_least, floordiv, maximum
from ..graph import Node
from ..tensors import Tensor
from .contents import Contents
from .operands import (
    Answer,
    Mismatch,
    Partial,
    Rule,
    ceildiv,
    normalized_axis,
    shape_of,
    shape_of_rank,
    shape_or_none,
    vector_entries,
)


def constant(node: Node, contents: Contents) -> Answer:
    """The type of the tensor in the attribute (Constant-25)."""
    value = node.attr("value")
    return value.type if isinstance(value, Tensor) else None


def constant_of_shape(node: Node, contents: Contents) -> Answer:
    """The sizes in the operand (ConstantOfShape-25)."""
    return sizes(vector_entries(node.operand(0), contents))


def sizes(entries: Partial) -> Partial:
    """Entries read as sizes. Raises Mismatch for a negative one."""
    if any(isinstance(x, int) and x < 0 for x in entries):
        raise Mismatch("sizes of at least 0", str(list(entries)))
    return tuple(x if x is not None and at_least(x, 0) else None for x in entries)


def random(node: Node, contents: Contents) -> Answer:
    """The sizes in the attribute `shape` (RandomNormal-22, RandomUniform-22)."""
    return node.ints("shape")


def multinomial(node: Node, contents: Contents) -> Answer:
    """`sample_size` samples per row (Multinomial-22)."""
    return shape_of_rank(node, 0, 2)[0], node.int("sample_size")


def range_(node: Node, contents: Contents) -> Answer:
    """max(ceil((limit - start) / delta), 0) numbers (Range-11)."""
    start, limit, delta = (contents.scalar(node.operand(i)) for i in range(3))
    return (range_length(start, limit, delta),)


def range_length(start: Size | None, limit: Size | None, delta: Size | None) -> Size | None:
    """The number of elements of a Range, None where it is open."""
    if start is None or limit is None or not isinstance(delta, int):
        return None
    if delta == 0:
        raise Mismatch("a step other than 0", "0")
    distance = limit - start if delta > 0 else start - limit
    return ceildiv(maximum(distance, 0), abs(delta))


def window(node: Node, contents: Contents) -> Answer:
    """As many weights as the operand says (HannWindow-17 and its kin)."""
    return (contents.scalar(node.operand(0)),)


def mel_weight_matrix(node: Node, contents: Contents) -> Answer:
    """Spectrogram bins by mel bins (MelWeightMatrix-17)."""
    mels, length = (contents.scalar(node.operand(i)) for i in range(2))
    return None if length is None else floordiv(length, 2) + 1, mels


def dft(node: Node, contents: Contents) -> Answer:
    """The transformed axis takes the length of the transform; the last axis is real and imaginary part (DFT-20)."""
    shape = shape_of(node, 0)
    axis_operand = node.input(2)
    axis = -2 if axis_operand is None else contents.scalar(axis_operand)
    if not isinstance(axis, int):
        return (*(None for _ in shape[:-1]), None)
    axis = normalized_axis(axis, len(shape))
    length = shape[axis] if node.input(1) is None else contents.scalar(node.operand(1))
    one_sided, inverse = bool(node.int("onesided")), bool(node.int("inverse"))
    out: list[Size | None] = [*shape[:-1], 2]
    out[axis] = length
    if one_sided and inverse:
        out[axis] = out[-1] = None
    elif one_sided and length is not None:
        out[axis] = floordiv(length, 2) + 1
    return tuple(out)


def stft(node: Node, contents: Contents) -> Answer:
    """[batch, frames, bins, 2] (STFT-17)."""
    signal, weights = shape_of(node, 0), shape_or_none(node.input(2))
    step = contents.scalar(node.operand(1))
    frame = contents.scalar(node.operand(3)) if node.input(3) is not None else weights[0] if weights else None
    frames = bins = None
    if frame is not None:
        bins = floordiv(frame, 2) + 1 if node.int("onesided") else frame
        if isinstance(step, int) and step > 0:
            frames = floordiv(signal[1] - frame, step) + 1
    return signal[0], frames, bins, 2


RULES: dict[str, Rule] = {
    "BlackmanWindow": window,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DFT": dft,
    "HammingWindow": window,
    "HannWindow": window,
    "MelWeightMatrix": mel_weight_matrix,
    "Multinomial": multinomial,
    "RandomNormal": random,
    "RandomUniform": random,
    "Range": range_,
    "STFT": stft,
}
