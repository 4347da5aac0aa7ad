"""Operators that move, repeat, join or cut elements without computing with them.

The result's shape is known from the export, so a reshape is lowered from the shape that results and not from the
arguments; where the two contradict each other, it is not lowered.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ...ir import DType, Size, Value
from ...ir.dims import product
from .lowering import MOST, Lowering, Refused, Row, Rows, axis_of, dtype_of, rank_of, shape_of, typed


def reshape(op: Lowering, x: Value, *_: object, **__: object) -> Value:
    """Every operator that keeps the elements and their order."""
    return op.reshape(x, op.out_shape)


def reshape_to(op: Lowering, x: Value, wanted: Sequence[Size]) -> Value:
    """A reshape to sizes that are given. torch mistakes equal examples for equal sizes at times: what it says of a
    result with a symbolic size in place of a given number is not true."""
    for given, size in zip(wanted, op.out_shape, strict=True):
        if isinstance(given, int) and given not in (-1, size):
            raise Refused(f"torch mistakes its sizes {wanted} for {list(op.out_shape)}; export it with other examples")
    return reshape(op, x)


def view_dtype(op: Lowering, x: Value, dtype: object = None) -> Value:
    if op.out.dtype is not dtype_of(x):
        op.decline("it reads the bytes of a tensor as another element type")
    return x


def permute(op: Lowering, x: Value, dims: Sequence[int]) -> Value:
    perm = [axis_of(x, d) for d in dims]
    return x if perm == sorted(perm) else op.Transpose(x, perm=perm)


def transpose(op: Lowering, x: Value, dim0: int, dim1: int) -> Value:
    perm = list(range(rank_of(x)))
    if perm:
        a, b = axis_of(x, dim0), axis_of(x, dim1)
        perm[a], perm[b] = b, a
    return permute(op, x, perm)


def reverse_axes(op: Lowering, x: Value) -> Value:
    return permute(op, x, list(reversed(range(rank_of(x)))))


def transpose_matrix(op: Lowering, x: Value) -> Value:
    return transpose(op, x, -2, -1)


def movedim(op: Lowering, x: Value, source: int | Sequence[int], destination: int | Sequence[int]) -> Value:
    old = [axis_of(x, d) for d in ([source] if isinstance(source, int) else source)]
    new = [axis_of(x, d) for d in ([destination] if isinstance(destination, int) else destination)]
    rest = iter(d for d in range(rank_of(x)) if d not in old)
    return permute(op, x, [old[new.index(d)] if d in new else next(rest) for d in range(rank_of(x))])


def squeeze(op: Lowering, x: Value, dim: int | Sequence[int] | None = None) -> Value:
    """Drops the axes of size 1 among those named; torch leaves the others, and symbolic sizes, alone."""
    named = range(rank_of(x)) if dim is None else [axis_of(x, d) for d in ([dim] if isinstance(dim, int) else dim)]
    axes = [a for a in sorted(named) if rank_of(x) and shape_of(x)[a] == 1]
    if rank_of(x) - len(axes) != len(op.out_shape):
        op.decline("the axes that it drops cannot be told")
    return op.squeeze(x, axes) if axes else x


def unsqueeze(op: Lowering, x: Value, dim: int) -> Value:
    return op.unsqueeze(x, [dim % (rank_of(x) + 1)])


def expand(op: Lowering, x: Value, *_: object, **__: object) -> Value:
    return op.expand(x, op.out_shape)


def broadcast_tensors(op: Lowering, tensors: Sequence[Value]) -> list[Value]:
    return [op.expand(x, op.out_shape) for x in tensors]


def repeat(op: Lowering, x: Value, repeats: Sequence[Size]) -> Value:
    """Tiles x; missing leading axes of x have size 1, missing leading repeats are 1."""
    missing = len(repeats) - rank_of(x)
    x = op.unsqueeze(x, range(missing)) if missing > 0 else x
    return op.Tile(x, op.dims([*[1] * -missing, *repeats]))


def repeat_interleave(
    op: Lowering, x: Value, repeats: Size, dim: int | None = None, output_size: Size | None = None
) -> Value:
    """Each entry along `dim` (of the flattened tensor without one) `repeats` times in a row."""
    if isinstance(repeats, Value):
        op.decline("the number of repeats differs between entries")
    if dim is None:
        x, dim = op.reshape(x, [product(shape_of(x))]), 0
    axis, shape = axis_of(x, dim), shape_of(x)
    wide = op.expand(op.unsqueeze(x, [axis + 1]), [*shape[: axis + 1], repeats, *shape[axis + 1 :]])
    return op.reshape(wide, op.out_shape)


def cat(op: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Joins tensors; an empty vector among tensors of higher rank is allowed and adds nothing."""
    rank = len(op.out_shape)
    parts = [
        op.cast(x, op.out.dtype) for x in tensors if rank_of(x) == rank and not (rank == 1 and shape_of(x) == (0,))
    ]
    if not parts:
        return tensors[0]
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=dim % rank)


def stack(op: Lowering, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = dim % len(op.out_shape)
    return op.Concat(*[op.unsqueeze(op.cast(x, op.out.dtype), [axis]) for x in tensors], axis=axis)


def split(op: Lowering, x: Value, _: object = None, dim: int = 0) -> list[Value]:
    """Pieces along `dim` whose sizes are those of the exported results."""
    axis = axis_of(x, dim)
    sizes: list[Size] = [(t.shape or ())[axis] for t in op.outs]
    if len(sizes) == 1:
        return [x]
    if all(isinstance(s, int) for s in sizes):
        return list(op.Split(x, op.dims(sizes), axis=axis, outputs=len(sizes)))
    ends: list[Size] = [0]
    for s in sizes:
        ends.append(ends[-1] + s)
    return [cut(op, x, axis, a, b) for a, b in pairwise(ends)]


def unbind(op: Lowering, x: Value, dim: int = 0) -> list[Value]:
    return [select(op, x, dim, index) for index in range(len(op.outs))]


def select(op: Lowering, x: Value, dim: int, index: Size) -> Value:
    return op.Gather(x, op.size(index), axis=axis_of(x, dim))


def cut(op: Lowering, x: Value, axis: int, start: Size, end: Size, step: int = 1) -> Value:
    """x[start:end:step] along one axis."""
    made = op.Slice(x, op.dims([start]), op.dims([end]), op.dims([axis]), *([] if step == 1 else [op.dims([step])]))
    return typed(made, dtype_of(x), None)


def slice_(
    op: Lowering, x: Value, dim: int = 0, start: Size | None = None, end: Size | None = None, step: int = 1
) -> Value:
    axis = axis_of(x, dim)
    first, last = start if start is not None else 0, end if end is not None else MOST
    (step,) = op.ints(step)
    if first == 0 and step == 1 and reaches_end(last, shape_of(x)[axis]):
        return x
    return cut(op, x, axis, first, last, step)


def reaches_end(end: Size, size: Size) -> bool:
    """Whether a slice up to `end` takes in the last of `size` entries."""
    return end == size or (isinstance(end, int) and (end == MOST or (isinstance(size, int) and end >= size)))


def narrow(op: Lowering, x: Value, dim: int, start: Size, length: Size) -> Value:
    if isinstance(start, Value):
        op.decline("the start is a tensor")
    stop = start + length
    return slice_(op, x, dim, start, MOST if isinstance(start, int) and start < 0 and stop == 0 else stop)


def slice_scatter(
    op: Lowering, x: Value, src: Value, dim: int = 0, start: Size | None = None, end: Size | None = None, step: int = 1
) -> Value:
    """x with x[start:end:step] along `dim` replaced by src."""
    axis = axis_of(x, dim)
    size = shape_of(x)[axis]
    first, last = bound(op, start, size, 0), bound(op, end, size, size)
    if step != 1:
        index = op.reshape(
            typed(op.Range(op.size(first), op.size(last), op.size(step)), DType.I64, shape_of(src)[axis : axis + 1]),
            [shape_of(src)[axis] if i == axis else 1 for i in range(rank_of(x))],
        )
        return op.ScatterElements(x, op.expand(index, shape_of(src)), src, axis=axis)
    parts = [src]
    if first != 0:
        parts.insert(0, cut(op, x, axis, 0, first))
    if last != size:
        parts.append(cut(op, x, axis, last, MOST))
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=axis)


def bound(op: Lowering, index: Size | None, size: Size, default: Size) -> Size:
    """A slice bound counted from the front and clipped to the size."""
    if index is None:
        return default
    if isinstance(index, int) and isinstance(size, int):
        return max(0, min(size, index + size if index < 0 else index))
    if isinstance(index, int) and index == MOST:
        return size
    return size + index if isinstance(index, int) and index < 0 else index


def select_scatter(op: Lowering, x: Value, src: Value, dim: int, index: Size) -> Value:
    """x with the entry `index` along `dim` replaced by src."""
    axis = axis_of(x, dim)
    first = bound(op, index, shape_of(x)[axis], 0)
    return slice_scatter(op, x, op.unsqueeze(src, [axis]), axis, first, first + 1)


def roll(op: Lowering, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Moves entries along the axes (of the flattened tensor without any); what falls off the end comes in at the
    front."""
    if not dims:
        flat = roll(op, op.reshape(x, [product(shape_of(x))]), shifts, [0])
        return op.reshape(typed(flat, dtype_of(x), [product(shape_of(x))]), shape_of(x))
    for shift, dim in zip(op.ints(shifts), dims, strict=True):
        axis = axis_of(x, dim)
        size = shape_of(x)[axis]
        places = shift % max(1, size) if isinstance(size, int) else shift
        if places:
            parts = cut(op, x, axis, -places, MOST), cut(op, x, axis, 0, -places)
            x = typed(op.Concat(*parts, axis=axis), dtype_of(x), shape_of(x))
    return x


def flip(op: Lowering, x: Value, dims: Sequence[int]) -> Value:
    axes = [axis_of(x, d) for d in dims]
    count = len(axes)
    return op.Slice(x, [-1] * count, [-MOST] * count, axes, [-1] * count) if axes else x


def pixel_shuffle(op: Lowering, x: Value, upscale_factor: int) -> Value:
    """[..., C*r*r, H, W] to [..., C, H*r, W*r]: DepthToSpace in column-row order."""
    if rank_of(x) != 4:
        op.decline("ONNX's DepthToSpace takes tensors of rank 4")
    return op.DepthToSpace(x, blocksize=upscale_factor, mode="CRD")


def pixel_unshuffle(op: Lowering, x: Value, downscale_factor: int) -> Value:
    """The inverse of pixel_shuffle; SpaceToDepth orders channels otherwise, so this is a transposition of blocks."""
    *lead, c, h, w = shape_of(x)
    r, n = downscale_factor, len(lead)
    blocks = op.reshape(x, [*lead, c, h // r, r, w // r, r])
    return op.reshape(
        typed(
            op.Transpose(blocks, perm=[*range(n), n, n + 2, n + 4, n + 1, n + 3]),
            dtype_of(x),
            [*lead, c, r, r, h // r, w // r],
        ),
        op.out_shape,
    )


def channel_shuffle(op: Lowering, x: Value, groups: int) -> Value:
    """Channels in `groups` rows are read column by column (Zhang et al. 2018, figure 1)."""
    n, c, *rest = shape_of(x)
    rows = op.reshape(x, [n, groups, c // groups, *rest])
    columns = op.Transpose(rows, perm=[0, 2, 1, *range(3, 3 + len(rest))])
    return op.reshape(typed(columns, dtype_of(x), [n, c // groups, groups, *rest]), op.out_shape)


def triangle(upper: int) -> Row:
    def row(op: Lowering, x: Value, diagonal: int = 0) -> Value:
        return op.Trilu(x, *([] if diagonal == 0 else [op.scalar(diagonal, DType.I64)]), upper=upper)

    return row


def diagonal(op: Lowering, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The entries (i, i + offset) of two axes, as the last axis."""
    axes = [axis_of(x, dim1), axis_of(x, dim2)]
    perm = [*(a for a in range(rank_of(x)) if a not in axes), *axes]
    *lead, rows, columns = (shape_of(x)[a] for a in perm)
    last = typed(permute(op, x, perm), dtype_of(x), [*lead, rows, columns])
    flat = op.reshape(last, [*lead, product([rows, columns])])
    step, start = columns + 1, offset if offset >= 0 else -offset * columns
    places = op.Add(op.Mul(op.places(op.out_shape[-1]), op.size(step)), op.size(start))
    return op.Gather(flat, typed(places, DType.I64, op.out_shape[-1:]), axis=len(lead))


def to(op: Lowering, x: Value, *_: object, **__: object) -> Value:
    """Conversion to the result's element type; device and memory layout mean nothing here."""
    return op.cast(x, op.out.dtype)


def same(op: Lowering, x: Value, *_: object, **__: object) -> Value:
    return x


def copy(op: Lowering, x: Value, src: Value, non_blocking: bool = False) -> Value:
    """What `x.copy_(src)` leaves in x."""
    return op.expand(op.cast(src, op.out.dtype), op.out_shape)


ROWS: Rows = {
    **dict.fromkeys(["aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"], reshape_to),
    **dict.fromkeys(
        [
            "aten.flatten.using_ints", "aten.unflatten.int", "aten.view_as.default", "aten.reshape_as.default",
            "aten._reshape_alias.default",
            "aten.ravel.default",
        ],
        reshape,
    ),
    "aten.view.dtype": view_dtype,
    "aten.permute.default": permute, "aten.transpose.int": transpose, "aten.swapaxes.default": transpose,
    "aten.swapdims.default": transpose, "aten.t.default": reverse_axes, "aten.numpy_T.default": reverse_axes,
    "aten.mT.default": transpose_matrix, "aten.adjoint.default": transpose_matrix,
    "aten.movedim.int": movedim, "aten.movedim.intlist": movedim, "aten.moveaxis.int": movedim,
    "aten.squeeze.default": squeeze, "aten.squeeze.dim": squeeze, "aten.squeeze.dims": squeeze,
    "aten.unsqueeze.default": unsqueeze,
    "aten.expand.default": expand, "aten.expand_as.default": expand, "aten.broadcast_to.default": expand,
    "aten.broadcast_tensors.default": broadcast_tensors,
    "aten.repeat.default": repeat, "aten.tile.default": repeat, "aten.repeat_interleave.self_int": repeat_interleave,
    "aten.cat.default": cat, "aten.concat.default": cat, "aten.concatenate.default": cat, "aten.stack.default": stack,
    "aten.split.Tensor": split, "aten.split.sizes": split, "aten.split_with_sizes.default": split,
    "aten.chunk.default": split,
    "aten.tensor_split.sections": split, "aten.tensor_split.indices": split, "aten.unsafe_chunk.default": split,
    "aten.unsafe_split.Tensor": split, "aten.split_with_sizes_copy.default": split,
    "aten.unbind.int": unbind, "aten.select.int": select, "aten.slice.Tensor": slice_, "aten.narrow.default": narrow,
    "aten.slice_scatter.default": slice_scatter, "aten.select_scatter.default": select_scatter,
    "aten.diagonal.default": diagonal, "aten.roll.default": roll, "aten.flip.default": flip,
    "aten.pixel_shuffle.default": pixel_shuffle, "aten.pixel_unshuffle.default": pixel_unshuffle,
    "aten.channel_shuffle.default": channel_shuffle, "aten.native_channel_shuffle.default": channel_shuffle,
    "aten.tril.default": triangle(0), "aten.triu.default": triangle(1),
    **dict.fromkeys(
        [
            "aten.to.dtype", "aten.to.device", "aten.to.dtype_layout", "aten.to.other", "aten._to_copy.default",
            "aten.type_as.default",
        ],
        to,
    ),
    **dict.fromkeys(
        [
            "aten.contiguous.default", "aten.clone.default", "aten.detach.default", "aten.detach_.default",
            "aten.alias.default", "aten.resolve_conj.default", "aten.resolve_neg.default",
            "aten.lift_fresh_copy.default", "aten.lift_fresh.default", "aten.lift.default", "aten.positive.default",
        ],
        same,
    ),
    "aten.copy.default": copy,
}  # fmt: skip
