"""What a Slice, a Gather of neighbouring entries or one output of a Split takes: a run of entries along one axis."""

from __future__ import annotations

from dataclasses import dataclass

from ....ir import Builder, Node, Tensor, Value
from ....ir.tensors import Placeholder

END = (1 << 63) - 1
"""The stop of a Slice that goes to the end whatever the size is."""


@dataclass(frozen=True)
class Span:
    """Entries start, start + step, ... below stop of one axis.

    Where the size of the axis is known the three are as in Python's range over it; else start and stop are not
    negative, step is positive and `stop` may be END.
    """

    axis: int
    start: int
    stop: int
    step: int = 1

    @property
    def count(self) -> int:
        """The number of entries, of a Span over an axis of known size."""
        return len(range(self.start, self.stop, self.step))


@dataclass(frozen=True)
class Piece:
    """A value as the entries `span` of `source`; all of it where `span` is None."""

    source: Value
    span: Span | None


def integers(value: Value | None) -> tuple[int, ...] | None:
    """The elements of a constant vector or scalar of integers; None for anything else."""
    tensor = None if value is None else value.const
    if tensor is None or not is_readable(tensor) or not tensor.dtype.is_integer or tensor.rank > 1:
        return None
    return tuple(int(n) for n in tensor.numpy().reshape(-1))


def is_readable(tensor: Tensor, limit: int = 1 << 16) -> bool:
    """True for a tensor of at most `limit` bytes whose numbers are there."""
    return tensor.nbytes <= limit and not isinstance(tensor, Placeholder)


def slice_spans(node: Node) -> list[Span] | None:
    """What a Slice with constant operands takes of each axis that it names; None where that is not known."""
    source = node.operand(0)
    starts, stops = integers(node.input(1)), integers(node.input(2))
    if starts is None or stops is None or source.shape is None:
        return None
    axes = tuple(range(len(starts))) if node.input(3) is None else integers(node.input(3))
    steps = (1,) * len(starts) if node.input(4) is None else integers(node.input(4))
    if axes is None or steps is None:
        return None
    spans: list[Span] = []
    for start, stop, named, step in zip(starts, stops, axes, steps, strict=True):
        axis = named % len(source.shape)
        size = source.shape[axis]
        if isinstance(size, int):
            run = range(size)[start:stop:step]
            spans.append(Span(axis, run.start, run.stop, run.step))
        elif start < 0 or stop < 0 or step < 0:
            return None
        else:
            spans.append(Span(axis, start, stop, step))
    return spans


def piece(value: Value) -> Piece:
    """A value as a run along one axis of a source: what a Slice, a Split or a Gather made, else all of itself."""
    node = value.node
    spans: list[Span] | None = None
    if node is not None and value.op == "Slice":
        spans = slice_spans(node)
    elif node is not None and value.op == "Split":
        span = split_span(value)
        spans = None if span is None else [span]
    if node is None or spans is None or len(spans) != 1:
        return Piece(value, None)
    return Piece(node.operand(0), spans[0])


def split_sizes(node: Node) -> list[int] | None:
    """The sizes of the outputs of a Split; None where one is not a number."""
    axis, out = node.int("axis"), list[int]()
    for value in node.outputs:
        size = None if value.shape is None else value.shape[axis]
        if not isinstance(size, int):
            return None
        out.append(size)
    return out


def split_span(value: Value) -> Span | None:
    """What one output of a Split takes."""
    assert value.node is not None
    sizes, rank = split_sizes(value.node), value.rank
    if sizes is None or rank is None:
        return None
    start = sum(sizes[: value.index])
    return Span(value.node.int("axis") % rank, start, start + sizes[value.index])


def compose(outer: Span, inner: Span, is_static: bool) -> Span | None:
    """A Span of a Span, along one axis; None where sizes that are not known would decide."""
    if is_static:
        run = range(inner.start, inner.stop, inner.step)[outer.start : stop_of(outer) : outer.step]
        return Span(inner.axis, run.start, run.stop, run.step)
    if inner.step != 1:
        return None
    stop = inner.stop if outer.stop >= END - inner.start else min(inner.stop, inner.start + outer.stop)
    return Span(inner.axis, inner.start + outer.start, stop, outer.step)


def stop_of(span: Span) -> int | None:
    """The stop as Python's slices want it: a backward one that goes to the front has none."""
    return None if span.step < 0 and span.stop < 0 else span.stop


def take(op: Builder, source: Value, spans: list[Span]) -> Value:
    """A Slice of these runs."""
    spans = sorted(spans, key=lambda s: s.axis)
    stops = [-END if stop_of(s) is None else s.stop for s in spans]
    steps = [s.step for s in spans]
    operands = [[s.start for s in spans], stops, [s.axis for s in spans]]
    return op.Slice(source, *operands, *([] if all(s == 1 for s in steps) else [steps]))
