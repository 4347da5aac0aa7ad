"""Operators that move data about without looking at it: reshaping, transposing, joining and taking apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..dims import Dim, Size, at_least, exact_div, floordiv
from ..graph import Node
from .contents import Contents
from .operands import (
    Answer,
    Mismatch,
    Partial,
    Rule,
    Unknown,
    agree,
    broadcast,
    normalized_axes,
    normalized_axis,
    shape_of,
    shape_of_rank,
    shape_or_none,
    vector_entries,
    vector_length,
    volume,
)


def transpose(node: Node, contents: Contents) -> Answer:
    """Axes in the order of `perm`, reversed without it (Transpose-25)."""
    shape = shape_of(node, 0)
    perm = node.ints("perm", tuple(reversed(range(len(shape)))))
    if sorted(perm) != list(range(len(shape))):
        raise Mismatch(f"a permutation of {len(shape)} axes", str(list(perm)))
    return tuple(shape[p] for p in perm)


def reshape(node: Node, contents: Contents) -> Answer:
    """The sizes in the second operand; 0 copies one (unless `allowzero`), -1 takes what is left (Reshape-25).

    A symbolic entry counts as a size of at least 1: a tensor without elements would make 0 mean "copy" at run time.
    """
    wanted = vector_entries(node.operand(1), contents)
    source = shape_or_none(node.operand(0))
    keep_zero = bool(node.int("allowzero"))
    out = [_reshaped(i, size, source, keep_zero) for i, size in enumerate(wanted)]
    if wanted.count(-1) > 1:
        raise Mismatch("one -1 in the target shape", str(list(wanted)))
    if source is None:
        return tuple(out)
    if -1 in wanted:
        index = wanted.index(-1)
        others = [d for i, d in enumerate(out) if i != index]
        out[index] = None if _may_be_negative(wanted, index) else remaining(source, others)
    elif None in out:
        if out.count(None) == 1 and wanted[out.index(None)] is None:
            out[out.index(None)] = remaining(source, [d for d in out if d is not None], certain=False)
    else:
        _check_count(source, out)
    return tuple(out)


def _reshaped(index: int, size: Size | None, source: Sequence[Size] | None, keep_zero: bool) -> Size | None:
    if isinstance(size, int):
        if size == 0 and not keep_zero:
            if source is not None and index >= len(source):
                raise Mismatch(f"a size at position {index}", f"0, which copies from {len(source)} axes")
            return None if source is None else source[index]
        if size < -1:
            raise Mismatch("sizes of at least -1", str(size))
        return None if size == -1 else size
    return size if size is not None and at_least(size, 0) else None


def _may_be_negative(wanted: Sequence[Size | None], index: int) -> bool:
    return any(d is None or not at_least(d, 0) for i, d in enumerate(wanted) if i != index)


def remaining(source: Sequence[Size], others: Sequence[Size | None], certain: bool = True) -> Size | None:
    """What divides the number of elements of `source` by that of `others`.

    Sizes on both sides are cancelled first. Raises Mismatch where integers do not divide and `certain` is set.
    """
    left = list(source)
    below: list[Size] = []
    for size in others:
        if size is None:
            return None
        if size in left and size != 0:
            left.remove(size)
        else:
            below.append(size)
    total, part = volume(left), volume(below)
    if total is None or part is None or part == 0:
        return None
    exact = exact_div(total, part)
    if exact is not None or not isinstance(part, int):
        return exact
    if isinstance(total, int):
        if certain:
            raise Mismatch(f"a number of elements that {part} divides", str(total))
        return None
    return floordiv(total, part)


def _check_count(source: Sequence[Size], target: Sequence[Size | None]) -> None:
    """Raises Mismatch where the numbers of elements differ, whatever the symbols on both sides are."""
    left, right = list(source), list[Size]()
    for size in target:
        if size in left and size != 0:
            left.remove(size)
        elif size is not None:
            right.append(size)
    before, after = ([d for d in sizes if isinstance(d, int)] for sizes in (left, right))
    if len(before) == len(left) and len(after) == len(right) and math.prod(before) != math.prod(after):
        raise Mismatch(f"a shape with as many elements as {list(source)}", str(list(target)))


def flatten(node: Node, contents: Contents) -> Answer:
    """A matrix: the axes before `axis` by those from it on (Flatten-25)."""
    shape = shape_of(node, 0)
    axis = node.int("axis")
    axis = axis if axis == len(shape) else normalized_axis(axis, len(shape)) if shape else 0
    return volume(shape[:axis]), volume(shape[axis:])


def squeeze(node: Node, contents: Contents) -> Answer:
    """Without the named axes, or without all axes of size 1 (Squeeze-25)."""
    shape = shape_of(node, 0)
    if node.input(1) is None:
        if any(isinstance(d, Dim) and not at_least(d, 2) for d in shape):
            raise Unknown
        return tuple(d for d in shape if d != 1)
    axes = contents.integers(node.input(1))
    if axes is None:
        count = vector_length(node.input(1))
        if count is None or count > len(shape):
            raise Unknown
        return (None,) * (len(shape) - count)
    gone = set(normalized_axes(axes, len(shape)))
    for axis in gone:
        if isinstance(shape[axis], int) and shape[axis] != 1:
            raise Mismatch(f"axis {axis} of size 1", str(shape[axis]))
    return tuple(d for i, d in enumerate(shape) if i not in gone)


def unsqueeze(node: Node, contents: Contents) -> Answer:
    """With axes of size 1 at the named places of the result (Unsqueeze-25)."""
    shape = shape_of(node, 0)
    axes = contents.integers(node.input(1))
    if axes is None:
        count = vector_length(node.input(1))
        if count is None:
            raise Unknown
        return (None,) * (len(shape) + count)
    rank = len(shape) + len(axes)
    new = set(normalized_axes(axes, rank))
    old = iter(shape)
    return tuple(1 if i in new else next(old) for i in range(rank))


def concat(node: Node, contents: Contents) -> Answer:
    """Operands one after the other along `axis`; they agree on the other axes (Concat-13)."""
    shapes = [shape_or_none(v) for v in node.inputs]
    known = [s for s in shapes if s is not None]
    if not known:
        raise Unknown
    rank = len(known[0])
    if any(len(s) != rank for s in known):
        raise Mismatch("operands of one rank", ", ".join(str(len(s)) for s in known))
    return joined(shapes, known, normalized_axis(node.int("axis"), rank))


def joined(shapes: Sequence[Sequence[Size] | None], known: Sequence[Sequence[Size]], axis: int) -> Partial:
    """The shape of tensors of one rank put one after the other; None for a shape that is not known."""
    out: list[Size | None] = [
        None if i == axis else agree((s[i] for s in known), f"axis {i} of every operand to have size")
        for i in range(len(known[0]))
    ]
    if len(known) == len(shapes):
        total: Size = 0
        for shape in known:
            total = total + shape[axis]
        out[axis] = total
    return tuple(out)


def split(node: Node, contents: Contents) -> list[Answer]:
    """Pieces along `axis`: of the given sizes, or equal ones of which the last may be smaller (Split-18)."""
    shape = shape_of(node, 0)
    axis = normalized_axis(node.int("axis"), len(shape))
    count = len(node.outputs)
    if node.input(1) is not None:
        sizes = list(contents.of(node.input(1)) or (None,) * count)
        if len(sizes) < count:
            raise Mismatch(f"{count} sizes", str(sizes))
        total: Size | None = 0
        for size in sizes:
            total = None if size is None or total is None else total + size
        whole = shape[axis]
        if isinstance(total, int) and isinstance(whole, int) and total != whole:
            raise Mismatch(f"sizes that add up to {whole}", str(sizes))
    else:
        sizes = equal_parts(shape[axis], node.int("num_outputs", count))
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes[:count]]


def equal_parts(size: Size, count: int) -> list[Size | None]:
    """Sizes of `count` equal pieces, the last smaller where the division leaves a rest."""
    if count < 1:
        raise Mismatch("at least one piece", str(count))
    exact = exact_div(size, count)
    if exact is not None:
        return [exact] * count
    piece = floordiv(size + (count - 1), count)
    last = size - piece * (count - 1)
    if count > 2 and not at_least(last, 0):
        return [None] * count
    return [*[piece] * (count - 1), last]


def expand(node: Node, contents: Contents) -> Answer:
    """The data's shape broadcast against the sizes in the second operand (Expand-13)."""
    return broadcast([shape_of(node, 0), vector_entries(node.operand(1), contents)])


def tile(node: Node, contents: Contents) -> Answer:
    """Each size times its repeats (Tile-13)."""
    shape = shape_of(node, 0)
    repeats = contents.of(node.operand(1)) or (None,) * len(shape)
    if len(repeats) != len(shape):
        raise Mismatch(f"{len(shape)} repeats", str(len(repeats)))
    return tuple(None if r is None else volume([d, r]) for d, r in zip(shape, repeats, strict=True))


def depth_to_space(node: Node, contents: Contents) -> Answer:
    """[N, C, H, W] to [N, C/b/b, H*b, W*b] (DepthToSpace-13)."""
    n, c, h, w = shape_of_rank(node, 0, 4)
    b = _block(node)
    return n, divided(c, b * b), h * b, w * b


def space_to_depth(node: Node, contents: Contents) -> Answer:
    """[N, C, H, W] to [N, C*b*b, H/b, W/b] (SpaceToDepth-13)."""
    n, c, h, w = shape_of_rank(node, 0, 4)
    b = _block(node)
    return n, c * (b * b), divided(h, b), divided(w, b)


def _block(node: Node) -> int:
    size = node.int("blocksize")
    if size < 1:
        raise Mismatch("a block size of at least 1", str(size))
    return size


def divided(size: Size, by: int) -> Size:
    """A size that `by` must divide. Raises Mismatch where it does not."""
    if isinstance(size, int) and size % by:
        raise Mismatch(f"a size that {by} divides", str(size))
    return floordiv(size, by)


def shape(node: Node, contents: Contents) -> Answer:
    """One entry per axis, or per axis of the slice [start:end] of them (Shape-25)."""
    found = shape_or_none(node.operand(0))
    return (None,) if found is None else (len(found[shape_slice(node)]),)


def shape_slice(node: Node) -> slice:
    """The axes that a Shape node asks for."""
    end = node.attr("end")
    return slice(node.int("start", 0), end if isinstance(end, int) else None)


def size(node: Node, contents: Contents) -> Answer:
    return ()


def col2im(node: Node, contents: Contents) -> Answer:
    """[N, C * block volume, L] to [N, C, *image] (Col2Im-18)."""
    n, columns, _ = shape_of_rank(node, 0, 3)
    image = vector_entries(node.operand(1), contents)
    block = contents.integers(node.operand(2))
    channels = None if block is None else divided(columns, max(1, math.prod(block)))
    return n, channels, *image


def center_crop_pad(node: Node, contents: Contents) -> Answer:
    """The sizes in the second operand at `axes`, all axes without it (CenterCropPad-18)."""
    out: list[Size | None] = list(shape_of(node, 0))
    axes = normalized_axes(node.ints("axes", range(len(out))), len(out))
    wanted = contents.of(node.operand(1)) or (None,) * len(axes)
    if len(wanted) != len(axes):
        raise Mismatch(f"{len(axes)} sizes", str(len(wanted)))
    for axis, size_ in zip(axes, wanted, strict=True):
        out[axis] = size_
    return tuple(out)


RULES: dict[str, Rule] = {
    "CenterCropPad": center_crop_pad,
    "Col2Im": col2im,
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
