"""Slice, Split, Gather and Concat of each other: pieces taken of pieces, of joined tensors, and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ....ir import Builder, Node, Size, Value
from ....ir.rewrite import Result, decline, rule
from ....ir.types import Shape
from .spans import END, Piece, Span, compose, integers, is_readable, piece, slice_spans, take

CONCATENATED = 64
"""Operands that a Concat may get from the ones inside it."""


@rule("Slice")
def merge_slices(op: Builder, node: Node) -> Result:
    """A Slice of a Slice is one Slice."""
    above = node.operand(0).node
    if above is None or above.op != "Slice" or above.domain:
        return decline("its operand is no Slice")
    outer, inner = slice_spans(node), slice_spans(above)
    shape = above.operand(0).shape
    if outer is None or inner is None or shape is None:
        return decline("what they take is not known")
    merged = {span.axis: span for span in inner}
    for span in outer:
        both: Span | None = span
        if span.axis in merged:
            both = compose(span, merged[span.axis], isinstance(shape[span.axis], int))
        if both is None:
            return decline("a size that is not known decides what they take together")
        merged[span.axis] = both
    return take(op, above.operand(0), list(merged.values()))


@rule("Slice")
def slice_operands_of_concat(op: Builder, node: Node) -> Result:
    """A Slice of a Concat along its axis is one of its operands, a Slice of one, or a Concat of some of them."""
    above = node.operand(0).node
    if above is None or above.op != "Concat" or above.domain:
        return decline("its operand is no Concat")
    spans = slice_spans(node)
    if spans is None or len(spans) != 1 or spans[0].step != 1:
        return decline("it does not take one run along one axis")
    span, rank = spans[0], node.operand(0).rank or 0
    if span.axis != above.int("axis") % rank:
        return decline("the Concat joins another axis")
    start = 0
    taken: list[Value] = []
    for index in range(len(above.inputs)):
        value = above.operand(index)
        size = None if value.shape is None else value.shape[span.axis]
        if not isinstance(size, int):
            return decline("sizes of the operands are not known")
        if start <= span.start and span.stop <= start + size and span.stop != start:
            if (start, start + size) == (span.start, span.stop):
                return value
            return take(op, value, [Span(span.axis, span.start - start, span.stop - start)])
        if span.start <= start < span.stop:
            if start + size > span.stop:
                return decline("it takes parts of several operands")
            taken.append(value)
        elif start < span.start < start + size:
            return decline("it takes parts of several operands")
        start += size
        if start >= span.stop:
            break
    return op.Concat(*taken, axis=span.axis) if len(taken) > 1 else decline("it takes nothing")


@rule("Concat")
def merge_concats(op: Builder, node: Node) -> Result:
    """A Concat among the operands of a Concat along the same axis brings its own operands."""
    rank = node.output.rank
    if rank is None:
        return decline("its rank is not known")
    axis = node.int("axis") % rank
    operands: list[Value] = []
    for index in range(len(node.inputs)):
        value = node.operand(index)
        inner = value.node
        if inner is not None and value.op == "Concat" and value.only_user is node and inner.int("axis") % rank == axis:
            operands += [inner.operand(i) for i in range(len(inner.inputs))]
        else:
            operands.append(value)
    if len(operands) == len(node.inputs):
        return decline("no operand is a Concat along its axis that only it uses")
    return op.Concat(*operands, axis=axis) if len(operands) <= CONCATENATED else decline("it would have many operands")


@rule("Concat")
def join_adjacent_pieces(op: Builder, node: Node) -> Result:
    """Operands that are adjacent pieces of one tensor, in order, are one piece of it, or the tensor itself."""
    rank = node.output.rank
    if rank is None:
        return decline("its rank is not known")
    axis = node.int("axis") % rank
    operands = [node.operand(i) for i in range(len(node.inputs))]
    runs: list[tuple[Piece, list[Value]]] = []
    for value in operands:
        found = piece(value)
        if found.span is not None and (found.span.axis != axis or found.span.step != 1):
            found = Piece(value, None)
        last = runs[-1] if runs else None
        joined = None if last is None else _joined(last[0], found)
        if last is None or joined is None:
            runs.append((found, [value]))
        else:
            runs[-1] = joined, [*last[1], value]
    if len(runs) == len(operands):
        return decline("no two of its operands are adjacent pieces")
    if not all(_saves(found, values, node) for found, values in runs):
        return decline("its pieces have other users")
    joined_operands = [_as_one(op, found, values) for found, values in runs]
    return joined_operands[0] if len(joined_operands) == 1 else op.Concat(*joined_operands, axis=axis)


def _as_one(op: Builder, found: Piece, values: Sequence[Value]) -> Value:
    if len(values) == 1 or found.span is None:
        return values[0]
    return _whole(found) or take(op, found.source, [found.span])


def _joined(first: Piece, second: Piece) -> Piece | None:
    a, b = first.span, second.span
    if first.source is not second.source or a is None or b is None or a.stop != b.start or a.stop == END:
        return None
    return Piece(first.source, Span(a.axis, a.start, b.stop))


def _whole(found: Piece) -> Value | None:
    """The source of a piece that is all of it."""
    span, shape = found.span, found.source.shape
    if span is None or shape is None or span.start:
        return None
    return found.source if span.stop in (END, shape[span.axis]) else None


def _saves(found: Piece, values: Sequence[Value], user: Node) -> bool:
    """True where joining does not leave more nodes than there were: a run that needs a Slice frees two at least."""
    if len(values) == 1 or _whole(found) is not None:
        return True
    return sum(v.op == "Slice" and set(v.users) == {user} for v in values) > 1


@rule("Slice")
def split_instead_of_slices(op: Builder, node: Node) -> Result:
    """Slices that cover an axis of a tensor between them are the outputs of one Split.

    Each Slice becomes an output of its own Split; equal Splits are merged as common subexpressions.
    """
    found = piece(node.output)
    span, source = found.span, found.source
    if span is None or span.step != 1 or source.shape is None or not isinstance(source.shape[span.axis], int):
        return decline("it does not take one run of known size")
    if _is_selected(node.output, span.axis):
        return decline("it selects a single entry")
    bounds = _cover(source, span)
    if bounds is None:
        return decline("it does not cover the axis together with other Slices")
    sizes = [b - a for a, b in pairwise(bounds)]
    outputs = op.Split(source, sizes, axis=span.axis, outputs=len(sizes))
    return outputs[bounds.index(span.start)]


def _cover(source: Value, span: Span) -> list[int] | None:
    """The bounds of pieces, this one among them, that users of `source` take and that cover the axis; None where none
    do.
    """
    assert source.shape is not None
    stops: dict[int, int] = {}
    for user in source.users:
        for value in (
            user.outputs if user.op in ("Slice", "Split") and not user.domain and user.operand(0) is source else ()
        ):
            other = piece(value).span
            if other is None or other.axis != span.axis or other.step != 1 or not value.users:
                continue
            if user.op == "Slice" and _is_selected(value, span.axis):
                continue
            if other.stop > other.start and stops.setdefault(other.start, other.stop) != other.stop:
                return None
    bounds = [0]
    while bounds[-1] in stops and bounds[-1] != source.shape[span.axis]:
        bounds.append(stops[bounds[-1]])
    complete = bounds[-1] == source.shape[span.axis] and len(bounds) > 2 and len(bounds) - 1 == len(stops)
    return bounds if complete and span.start in bounds[:-1] else None


def _is_selected(value: Value, axis: int) -> bool:
    """True where the only use of a value is a Squeeze of this axis: both together are a Gather of one entry."""
    user = value.only_user
    return user is not None and _squeezed_axis(user) == axis


def _squeezed_axis(node: Node) -> int | None:
    rank = node.operand(0).rank if node.op == "Squeeze" and not node.domain else None
    if rank is None:
        return None
    axes = integers(node.input(1))
    return axes[0] % rank if axes is not None and len(axes) == 1 else None


@rule("Squeeze")
def gather_single_entry(op: Builder, node: Node) -> Result:
    """A Squeeze of an axis of which a single entry was taken is a Gather of that entry."""
    axis, value = _squeezed_axis(node), node.operand(0)
    if axis is None:
        return decline("it does not remove one known axis")
    span = piece(value).span
    if span is None or span.axis != axis or value.node is None:
        return decline("its operand is not a piece along that axis")
    if value.op == "Slice" and (value.only_user is None or span.stop == END):
        return decline("its operand has other users or an unknown size")
    if value.op == "Split" and not all(_is_selected(v, axis) for v in value.node.outputs if v.users):
        return decline("its operand's other pieces are needed")
    return op.Gather(value.node.operand(0), np.asarray(span.start, np.int64), axis=axis)


@rule("Gather")
def slice_instead_of_gather(op: Builder, node: Node) -> Result:
    """A Gather of neighbouring entries in order is a Slice."""
    shape, indices = node.operand(0).shape, node.operand(1)
    wanted = integers(indices)
    if wanted is None or indices.rank != 1 or shape is None or not wanted:
        return decline("its indices are not a constant vector")
    axis = node.int("axis") % len(shape)
    size = shape[axis]
    if min(wanted) < 0:
        if not isinstance(size, int):
            return decline("it counts from the end of an unknown size")
        wanted = tuple(i + size if i < 0 else i for i in wanted)
    if any(b - a != 1 for a, b in pairwise(wanted)):
        return decline("its entries are not neighbours")
    return take(op, node.operand(0), [Span(axis, wanted[0], wanted[-1] + 1)])


@rule("Split", above=["Concat"])
def split_operands_of_concat(op: Builder, node: Node) -> Result:
    """Pieces of a Concat along its axis that end where its operands end are these operands, or Concats of some."""
    above, rank = node.operand(0).node, node.operand(0).rank
    if above is None or node.operand(0).op != "Concat" or rank is None:
        return decline("its operand is no Concat")
    axis = node.int("axis") % rank
    if axis != above.int("axis") % rank:
        return decline("the Concat joins another axis")
    rest = [above.operand(i) for i in range(len(above.inputs))]
    groups: list[list[Value]] = []
    for made in node.outputs:
        wanted, taken = None if made.shape is None else made.shape[axis], list[Value]()
        total: Size = 0
        while rest and (shape := rest[0].shape) is not None and (not taken or total != wanted):
            taken.append(rest.pop(0))
            total = total + _size(shape, axis)
        if not taken or total != wanted:
            return decline("a piece does not end where an operand ends, or a size is not known")
        groups.append(taken)
    if rest:
        return decline("a piece does not end where an operand ends, or a size is not known")
    joined = sum(len(taken) > 1 and bool(v.users) for taken, v in zip(groups, node.outputs, strict=True))
    if joined and joined >= 1 + (node.operand(0).only_user is node):
        return decline("it would take more nodes")
    return [
        None if not made.users else taken[0] if len(taken) == 1 else op.Concat(*taken, axis=axis)
        for taken, made in zip(groups, node.outputs, strict=True)
    ]


def _size(shape: Shape, axis: int) -> Size:
    return shape[axis]


@rule("Gather", above=["Concat"])
def gather_from_operand_of_concat(op: Builder, node: Node) -> Result:
    """A Gather of entries that all come from one operand of a Concat is a Gather from it."""
    source, indices = node.operand(0), node.operand(1).const
    above, shape = source.node, source.shape
    if above is None or source.op != "Concat" or shape is None:
        return decline("its operand is no Concat")
    axis = node.int("axis") % len(shape)
    if axis != above.int("axis") % len(shape):
        return decline("the Concat joins another axis")
    if indices is None or not indices.count or not is_readable(indices):
        return decline("its indices are not constant")
    wanted = indices.numpy().astype(np.int64)
    if wanted.min() < 0:
        if not isinstance(shape[axis], int):
            return decline("it counts from the end of an unknown size")
        wanted = np.where(wanted < 0, wanted + shape[axis], wanted)
    start = 0
    for index in range(len(above.inputs)):
        value = above.operand(index)
        size = None if value.shape is None else value.shape[axis]
        if not isinstance(size, int):
            return decline("sizes of the operands are not known")
        if start <= wanted.min() and wanted.max() < start + size:
            return op.Gather(value, wanted - start, axis=axis)
        start += size
    return decline("its entries come from several operands")


@rule("Tile", "Expand", above=["Tile", "Expand"])
def merge_repetitions(op: Builder, node: Node) -> Result:
    """A Tile of a Tile, or an Expand of an Expand, is one."""
    source = node.operand(0)
    if source.node is None or source.op != node.op:
        return decline("its operand is not repeated in the same way")
    outer, inner = integers(node.operand(1)), integers(source.node.operand(1))
    if outer is None or inner is None:
        return decline("how often is not known")
    both = np.multiply(outer, inner) if node.op == "Tile" else np.broadcast_shapes(outer, inner)
    made = op.node(node.op, [source.node.operand(0), np.asarray(both, np.int64)])
    return made.output if isinstance(made, Node) else made


@rule("Split")
def drop_split_into_one(op: Builder, node: Node) -> Result:
    """A Split into one piece is its operand."""
    return [node.operand(0)] if len(node.outputs) == 1 else decline("it has several outputs")


RULES = (
    merge_slices,
    slice_operands_of_concat,
    merge_concats,
    join_adjacent_pieces,
    split_instead_of_slices,
    gather_single_entry,
    slice_instead_of_gather,
    split_operands_of_concat,
    gather_from_operand_of_concat,
    merge_repetitions,
    drop_split_into_one,
)
