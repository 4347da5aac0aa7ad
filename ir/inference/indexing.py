"""Operators that pick elements or places: gathering, slicing, selecting, padding."""

from __future__ import annotations

from collections.abc import Sequence

from ..dims import Size, at_least, floordiv, maximum, minimum
from ..graph import Node
from ..types import Shape
from .contents import Contents
from .operands import (
    Answer,
    Mismatch,
    Rule,
    Unknown,
    ceildiv,
    normalized_axes,
    normalized_axis,
    shape_of,
    shape_or_none,
    volume,
)

UNBOUNDED = 2**31 - 1
"""Exporters write a number from here up for "to the end"."""


def gather(node: Node, contents: Contents) -> Answer:
    """The indices' shape in place of the axis (Gather-13)."""
    data, indices = shape_of(node, 0), shape_of(node, 1)
    axis = normalized_axis(node.int("axis"), len(data))
    return (*data[:axis], *indices, *data[axis + 1 :])


def gather_elements(node: Node, contents: Contents) -> Answer:
    """The indices' shape (GatherElements-13)."""
    return shape_of(node, 1)


def gather_nd(node: Node, contents: Contents) -> Answer:
    """The last axis of the indices addresses axes of the data from `batch_dims` on (GatherND-13)."""
    data, indices = shape_of(node, 0), shape_of(node, 1)
    if not indices or not isinstance(indices[-1], int):
        raise Unknown
    used = node.int("batch_dims") + indices[-1]
    if not 0 <= used <= len(data):
        raise Mismatch(f"indices of at most {len(data)} axes", str(used))
    return (*indices[:-1], *data[used:])


def slice_(node: Node, contents: Contents) -> Answer:
    """Python slices of the named axes (Slice-13)."""
    out: list[Size | None] = list(shape_of(node, 0))
    shape = shape_of(node, 0)
    starts, ends = contents.of(node.operand(1)), contents.of(node.operand(2))
    count = next((len(x) for x in (starts, ends) if x is not None), None)
    axes = (
        contents.integers(node.input(3)) if node.input(3) is not None else range(count) if count is not None else None
    )
    if axes is None:
        return (None,) * len(shape)
    missing = (None,) * len(axes)
    steps = (1,) * len(axes) if node.input(4) is None else contents.of(node.operand(4)) or missing
    rows = (starts or missing, ends or missing, steps)
    if any(len(r) != len(axes) for r in rows):
        raise Mismatch(f"{len(axes)} starts, ends and steps", ", ".join(str(len(r)) for r in rows))
    for axis, start, end, step in zip(normalized_axes(axes, len(shape)), *rows, strict=True):
        out[axis] = slice_length(shape[axis], start, end, step)
    return tuple(out)


def slice_length(size: Size, start: Size | None, end: Size | None, step: Size | None) -> Size | None:
    """The length of a slice [start:end:step] of an axis; None where its sign or bounds are open."""
    if start is None or end is None or not isinstance(step, int):
        return None
    if step == 0:
        raise Mismatch("steps other than 0", "0")
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return static_slice_length(size, start, end, step)
    if step < 0:
        whole = (
            isinstance(start, int)
            and (start == -1 or start >= UNBOUNDED)
            and isinstance(end, int)
            and end <= -UNBOUNDED
        )
        return ceildiv(size, -step) if whole else None
    length = span(size, start, end)
    return None if length is None else floordiv(length + (step - 1), step)


def static_slice_length(size: int, start: int, end: int, step: int) -> int | None:
    """The length where all numbers are known; a start before the first element of a reversed slice is left open."""
    if step > 0:
        return len(range(size)[start:end:step])
    if start < -size:
        return None
    last = max(end + size if end < 0 else end, -1)
    return len(range(size)[start : None if last < 0 else last : step])


def span(size: Size, start: Size, end: Size) -> Size | None:
    """The number of elements in [start:end] of an axis."""
    first, last = clamped(size, start), clamped(size, end)
    if first is None or last is None:
        return None
    if first == 0:
        return last
    if last is size:  # said without the bound's own clamping, which these forms contain
        return maximum(size - start, 0) if at_least(start, 0) else minimum(-start, size)
    return maximum(last - first, 0)


def clamped(size: Size, bound: Size) -> Size | None:
    """A slice's bound as a position in [0, size]; None where its sign is open."""
    if isinstance(bound, int) and bound >= UNBOUNDED:
        return size
    if at_least(bound, 0):
        return minimum(bound, size)
    return maximum(size + bound, 0) if at_least(-1, bound) else None


def compress(node: Node, contents: Contents) -> Answer:
    """As many elements as the condition holds for (Compress-11)."""
    axis = node.attr("axis")
    if not isinstance(axis, int):
        return (None,)
    shape = shape_of(node, 0)
    axis = normalized_axis(axis, len(shape))
    return (*shape[:axis], None, *shape[axis + 1 :])


def non_zero(node: Node, contents: Contents) -> Answer:
    """One row per axis, one column per element that is not zero (NonZero-13)."""
    rank = len(shape_of(node, 0))
    entries = contents.integers(node.operand(0))
    return (rank or None, None if entries is None or not rank else sum(x != 0 for x in entries))


def unique(node: Node, contents: Contents) -> list[Answer]:
    """Distinct elements or subtensors, and for each element which one it is (Unique-11)."""
    axis = node.attr("axis")
    shape = shape_or_none(node.operand(0))
    if not isinstance(axis, int):
        return [(None,), (None,), (None if shape is None else volume(shape),), (None,)]
    if shape is None:
        return [None, (None,), (None,), (None,)]
    axis = normalized_axis(axis, len(shape))
    return [(*shape[:axis], None, *shape[axis + 1 :]), (None,), (shape[axis],), (None,)]


def top_k(node: Node, contents: Contents) -> list[Answer]:
    """K elements along the axis, with their indices (TopK-24)."""
    shape = shape_of(node, 0)
    axis = normalized_axis(node.int("axis"), len(shape))
    if node.operand(1).rank not in (1, None):
        raise Mismatch("K with one axis", f"{node.operand(1).rank} of them")
    count, size = contents.scalar(node.operand(1)), shape[axis]
    if isinstance(count, int) and isinstance(size, int) and not 0 <= count <= size:
        raise Mismatch(f"at most {size} elements", str(count))
    out = (*shape[:axis], count, *shape[axis + 1 :])
    return [out, out]


def one_hot(node: Node, contents: Contents) -> Answer:
    """A new axis of size `depth` (OneHot-11)."""
    shape = shape_of(node, 0)
    axis = normalized_axis(node.int("axis"), len(shape) + 1)
    return (*shape[:axis], contents.scalar(node.operand(1)), *shape[axis:])


def pad(node: Node, contents: Contents) -> Answer:
    """Each named axis grows by its two pads, which may be negative (Pad-25)."""
    shape = shape_of(node, 0)
    out: list[Size | None] = list(shape)
    if node.input(3) is None:
        axes: Sequence[int] | None = range(len(shape))
    else:
        axes = contents.integers(node.input(3))
    if axes is None:
        return (None,) * len(shape)
    axes = normalized_axes(axes, len(shape))
    pads = contents.of(node.operand(1)) or (None,) * (2 * len(axes))
    if len(pads) != 2 * len(axes):
        raise Mismatch(f"{2 * len(axes)} pads", str(len(pads)))
    for i, axis in enumerate(axes):
        out[axis] = padded(shape, axis, pads[i], pads[i + len(axes)])
    return tuple(out)


def padded(shape: Shape, axis: int, before: Size | None, after: Size | None) -> Size | None:
    """A size with two pads. Raises Mismatch where nothing would be left."""
    if before is None or after is None:
        return None
    size = shape[axis] + before + after
    if isinstance(size, int) and size < 0:
        raise Mismatch(f"pads that leave axis {axis} of size {shape[axis]} something", f"{before} and {after}")
    return size


def non_max_suppression(node: Node, contents: Contents) -> Answer:
    """Rows of batch, class and box index (NonMaxSuppression-11)."""
    return (None, 3)


RULES: dict[str, Rule] = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonMaxSuppression": non_max_suppression,
    "NonZero": non_zero,
    "OneHot": one_hot,
    "Pad": pad,
    "Slice": slice_,
    "TopK": top_k,
    "Unique": unique,
}
