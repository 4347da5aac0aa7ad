"""Data movement seen as what it does to each element: Slices, Splits, Gathers and Concats among reshapings.

Where every element of a value comes from one source, and from where does not depend on the batch, the whole region is
one array of indices. It is computed by running the region on the numbers 0, 1, 2, ..., and then written as the shortest
of: reshapings around a Transpose, or around one Gather of blocks. A cyclic shift and a window partition, patches merged
by strided Slices, and a channel shuffle are all of this kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Union

import numpy as np
from numpy.typing import NDArray

from ....ir import Builder, Dim, Node, Size, Value
from ....ir.dims import exact_div, is_known, known_product
from ....ir.rewrite import Result, decline, rule
from ....ir.types import Shape
from .axes import LAYOUT, RESHAPING, Axes
from .layout import Target, build, build_reshape, reshaping, weight, written
from .spans import slice_spans, split_sizes

Indices = NDArray[np.int64]

MOVES = LAYOUT | {"Slice", "Split", "Gather", "Concat"}
NODES = 48
"""Nodes that a region may have."""

ELEMENTS = 1 << 20
"""Elements of one batch entry that are followed."""

ENTRIES = 1 << 13
"""Indices that a new Gather may have."""

BLOCK = 16
"""Elements that a Gather must copy at once: of fewer a Transpose makes less work."""


@dataclass(frozen=True)
class Frame:
    """What all shapes of a region have in common: a first axis of a symbolic batch size or a multiple of it, and
    `trailing` last axes that nothing touches. What is between has known sizes.
    """

    batch: Size | None
    trailing: Shape

    @staticmethod
    def of(source: Value, nodes: Iterable[Node]) -> Frame | None:
        """The frame of a region; None where a size in between is symbolic."""
        shape = source.shape
        if shape is None:
            return None
        batch = _unit(shape[0]) if shape and not isinstance(shape[0], int) else None
        trailing = min((untouched(node) for node in nodes), default=0)
        trailing = min(trailing, len(shape) - (0 if batch is None else 1))
        inner = shape[0 if batch is None else 1 : len(shape) - trailing]
        return Frame(batch, shape[len(shape) - trailing :]) if is_known(inner) else None

    @property
    def leading(self) -> int:
        return 0 if self.batch is None else 1

    def concrete(self, shape: Shape | None) -> tuple[int, ...] | None:
        """A shape of the region for a batch of 1, with each element of the trailing axes standing for all; None for a
        shape that does not fit in.
        """
        if shape is None or len(shape) < self.leading + len(self.trailing):
            return None
        inner: Sequence[Size] = shape[: len(shape) - len(self.trailing)]
        if shape[len(inner) :] != self.trailing:
            return None
        if self.batch is not None:
            count = exact_div(inner[0], self.batch)
            inner = (count, *inner[1:]) if count is not None else ()
        sizes = tuple(size for size in inner if isinstance(size, int))
        return (*sizes, *(1 for _ in self.trailing)) if inner and len(sizes) == len(inner) else None

    def allows(self, axis: int, rank: int) -> bool:
        """True for an axis between the batch and the trailing axes."""
        return self.leading <= axis < rank - len(self.trailing)


def _unit(size: Size) -> Size:
    """A symbolic size without the integer that all its terms are multiples of."""
    common = math.gcd(*(factor for _, factor in size.terms)) if isinstance(size, Dim) else 1
    return exact_div(size, common) or size


def untouched(node: Node) -> int:
    """How many last axes a node that moves data leaves as they are."""
    before, after = node.operand(0).shape, node.output.shape
    if before is None or after is None:
        return 0
    if node.op in RESHAPING:
        return _common_end(before, after)
    if node.op == "Transpose":
        rank = len(before)
        return _common_end(range(rank), node.ints("perm", tuple(reversed(range(rank)))))
    if node.op == "Slice":
        spans = slice_spans(node)
        return 0 if spans is None else len(before) - 1 - max((span.axis for span in spans), default=-1)
    return len(before) - 1 - node.int("axis") % len(before)


def _common_end(a: Sequence[Size], b: Sequence[Size]) -> int:
    same = 0
    while same < min(len(a), len(b)) and a[-1 - same] == b[-1 - same]:
        same += 1
    return same


class Region:
    """The nodes that only move data between `source` and a root; `source` is None where there are several."""

    def __init__(self, root: Node) -> None:
        self.root = root
        origins: dict[Value, Value] = {}
        order = upstream(root)
        for node in order:
            found = {origins.get(v, v) for v in moved(node)}
            origins.update((v, found.copy().pop() if len(found) == 1 else v) for v in node.outputs)
        source = origins[root.output]
        self.source = None if source is root.output or len(order) > NODES else source
        self.nodes = {root: None}
        for node in reversed(order):
            if node in self.nodes:
                self.nodes.update((v.node, None) for v in moved(node) if v is not source and v.node is not None)

    def vanishing(self) -> list[Node]:
        """The nodes that nothing needs any more once the root is replaced."""
        gone = {self.root: None}
        grown = True
        while grown:
            grown = False
            for node in self.nodes:
                if node not in gone and all(user in gone for v in node.outputs for user in v.users):
                    gone[node] = None
                    grown = True
        return list(gone)


def upstream(root: Node) -> list[Node]:
    """The nodes that move data from which a root's elements come, operands first; as many as a region may have."""
    order: dict[Node, None] = {}
    pending = [(root, False)]
    while pending and len(order) <= NODES:
        node, done = pending.pop()
        if done:
            order[node] = None
        elif node not in order:
            pending.append((node, True))
            above = [v.node for v in moved(node) if v.node is not None and v.op in MOVES and not v.node.domain]
            pending += [(n, False) for n in above if n not in order]
    return list(order)


def moved(node: Node) -> list[Value]:
    """The operands whose elements a node moves."""
    if node.op == "Concat":
        return [v for v in node.inputs if v is not None]
    return [node.operand(0)]


@rule("Concat", "Gather", "Reshape", "Transpose")
def compose_movement(op: Builder, node: Node) -> Result:
    """A region that only moves the elements of one tensor is a Transpose or a Gather between reshapings."""
    user = node.output.only_user
    if user is not None and user.op in MOVES and user.op != "Split" and not user.domain:
        return decline("it is part of a larger region")
    region = Region(node)
    vanishing = region.vanishing()
    cost = sum(weight(n.op) for n in vanishing)
    source = region.source
    if source is None:
        return decline("it moves the elements of several tensors")
    if len(vanishing) < (3 if all(n.op in LAYOUT for n in vanishing) else 2):
        return decline("a single node, or a chain that is as short as can be")
    if source.shape is None or node.output.shape is None or source.const is not None:
        return decline("its shape is not known")
    frame = Frame.of(source, region.nodes)
    start = None if frame is None else frame.concrete(source.shape)
    if frame is None or start is None or not 0 < math.prod(start) <= ELEMENTS:
        return decline("sizes are not known, or too large")
    known: dict[Value, Indices] = {source: np.arange(math.prod(start)).reshape(start)}
    indices = follow(node, frame, known)
    if indices is None:
        return decline("where an element comes from depends on a size that is not known")
    plans = [
        as_transpose(op, source, node, frame, indices, region),
        as_gather(op, source, node, frame, indices, start),
    ]
    best = min((plan for plan in plans if plan is not None), key=lambda plan: plan[0], default=None)
    if best is None or best[0] >= cost:
        return decline("no fewer nodes do the same")
    return best[1]()


def follow(node: Node, frame: Frame, known: dict[Value, Indices]) -> Indices | None:
    """The indices of the source's elements that a node's first output holds; None where they are not known.

    `known` holds what was found before.
    """
    pending = [node]
    while pending:
        top = pending[-1]
        missing = [v.node for v in moved(top) if v not in known]
        if missing:
            pending += [n for n in missing if n is not None]
            continue
        pending.pop()
        found = MOVING[top.op](top, frame, [known[v] for v in moved(top)])
        if found is None or any(indices.size > ELEMENTS for indices in found):
            return None
        for value, indices in zip(top.outputs, found, strict=False):
            known[value] = indices
    return known[node.output]


Moved = Union[Sequence[Indices], None]


def _reshaped(node: Node, frame: Frame, operands: Sequence[Indices]) -> Moved:
    shape = frame.concrete(node.output.shape)
    return None if shape is None or math.prod(shape) != operands[0].size else [operands[0].reshape(shape)]


def _transposed(node: Node, frame: Frame, operands: Sequence[Indices]) -> Moved:
    rank = operands[0].ndim
    perm = node.ints("perm", tuple(reversed(range(rank))))
    kept = [*range(frame.leading), *range(rank - len(frame.trailing), rank)]
    return [operands[0].transpose(perm)] if all(perm[axis] == axis for axis in kept) else None


def _sliced(node: Node, frame: Frame, operands: Sequence[Indices]) -> Moved:
    spans = slice_spans(node)
    if spans is None or not all(frame.allows(span.axis, operands[0].ndim) for span in spans):
        return None
    out = operands[0]
    for span in spans:
        out = np.take(out, range(span.start, span.stop, span.step), span.axis)
    return [out]


def _split(node: Node, frame: Frame, operands: Sequence[Indices]) -> Moved:
    sizes, axis = split_sizes(node), node.int("axis") % operands[0].ndim
    if sizes is None or not frame.allows(axis, operands[0].ndim):
        return None
    return np.split(operands[0], np.cumsum(sizes)[:-1], axis)


def _gathered(node: Node, frame: Frame, operands: Sequence[Indices]) -> Moved:
    wanted, axis = node.operand(1).const, node.int("axis") % operands[0].ndim
    if wanted is None or wanted.count > ENTRIES or not frame.allows(axis, operands[0].ndim):
        return None
    return [np.take(operands[0], wanted.numpy().astype(np.int64), axis)]


def _joined(node: Node, frame: Frame, operands: Sequence[Indices]) -> Moved:
    axis = node.int("axis") % operands[0].ndim
    return [np.concatenate(operands, axis)] if frame.allows(axis, operands[0].ndim) else None


MOVING: dict[str, Callable[[Node, Frame, Sequence[Indices]], Moved]] = {
    **dict.fromkeys(RESHAPING, _reshaped),
    "Transpose": _transposed,
    "Slice": _sliced,
    "Split": _split,
    "Gather": _gathered,
    "Concat": _joined,
}

Plan = tuple[int, Callable[[], Value]]
"""What the nodes weigh, and how they are made."""


def as_transpose(op: Builder, source: Value, root: Node, frame: Frame, indices: Indices, region: Region) -> Plan | None:
    """The region as reshapings around a Transpose, where each index is a sum of digits times strides."""
    before, after = source.shape, root.output.shape
    found = digits(indices)
    if before is None or after is None or found is None or not is_coarse(found, frame):
        return None
    order = sorted(range(len(found)), key=lambda d: -found[d][1])
    size = 1
    for place in reversed(order):
        if found[place][1] != size:
            return None
        size *= found[place][0]
    if size != indices.size:
        return None
    axes = Axes(before)
    lead = () if frame.batch is None else (frame.batch,)
    if not axes.regroup((*lead, *(found[d][0] for d in order), *frame.trailing)):
        return None
    first = len(lead)
    middle = [axes.current[first + order.index(d)] for d in range(len(found))]
    axes.current = [*axes.current[:first], *middle, *axes.current[first + len(found) :]]
    if not axes.regroup(after):
        return None
    for plan in axes.plans(before, after):
        steps = written(op, plan, before, region.nodes)
        if steps is not None:
            cost = sum(weight("Transpose" if target is None else "Reshape") for _, target in steps)
            return cost, partial(build, op, source, steps)
    return None


def is_coarse(found: Sequence[tuple[int, int]], frame: Frame) -> bool:
    """True where a Transpose moves blocks, not single elements: strided Slices are faster at that."""
    block = found[-1][0] if found and found[-1][1] == 1 else 1
    return block * (known_product(frame.trailing) if is_known(frame.trailing) else BLOCK) >= BLOCK


def digits(indices: Indices) -> list[tuple[int, int]] | None:
    """Sizes and strides, outermost first, such that the flattened indices count through them from 0; None where they do
    not.
    """
    flat = indices.reshape(-1)
    found: list[tuple[int, int]] = []
    if not flat.size or flat[0]:
        return None
    while flat.size > 1:
        steps = np.diff(flat)
        stride = int(steps[0])
        other = np.flatnonzero(steps != stride)
        run = int(other[0]) + 1 if other.size else flat.size
        if stride <= 0 or flat.size % run:
            return None
        rows = flat.reshape(-1, run)
        if not np.array_equal(rows - rows[:, :1], np.broadcast_to(np.arange(run) * stride, rows.shape)):
            return None
        found.insert(0, (run, stride))
        flat = rows[:, 0]
    return found


def as_gather(
    op: Builder, source: Value, root: Node, frame: Frame, indices: Indices, start: tuple[int, ...]
) -> Plan | None:
    """The region as a Gather of blocks along one axis, or along some that are joined for it."""
    before, after = source.shape, root.output.shape
    if before is None or after is None:
        return None
    static = list(start[: len(start) - len(frame.trailing)])
    lead: Shape = () if frame.batch is None else (frame.batch,)
    if lead and static[0] == 1:
        static = static[1:]
    plans: list[tuple[int, int, Callable[[], Value]]] = []
    for outer in range(len(static)):
        for inner in range(outer + 1, len(static) + 1):
            block = math.prod(static[inner:])
            if block * (known_product(frame.trailing) if is_known(frame.trailing) else BLOCK) < BLOCK:
                continue
            middle = math.prod(static[outer:inner])
            taken = blocks(indices, math.prod(static[:outer]), middle, block)
            if taken is None or taken.size > ENTRIES:
                continue
            joined = (*lead, *static[:outer], middle, *static[inner:], *frame.trailing)
            made = _gather(op, source, len(lead) + outer, joined, taken, after)
            if made is not None:
                plans.append((made[0], -block, made[1]))
    cost, _, make = min(plans, key=lambda p: p[:2], default=(0, 0, None))
    return None if make is None else (cost, make)


def blocks(indices: Indices, outer: int, middle: int, block: int) -> Indices | None:
    """Which blocks the indices take along the middle of [outer, middle, block], the same for each outer entry; None
    where they take no whole blocks or the outer entries differ.
    """
    if indices.size % (outer * block):
        return None
    grid = indices.reshape(outer, -1, block)
    first = grid[0, :, 0]
    taken = first // block
    if (first % block).any() or (taken >= middle).any():
        return None
    wanted = np.arange(outer)[:, None, None] * (middle * block) + first[None, :, None] + np.arange(block)
    return taken if np.array_equal(grid, wanted) else None


def _gather(
    op: Builder, source: Value, axis: int, joined: Shape, taken: Indices, after: Shape
) -> tuple[int, Callable[[], Value]] | None:
    before = source.shape
    assert before is not None
    tail = joined[axis + 1 :]
    stop = len(after) - len(tail)
    inner = after[axis:stop] if stop >= axis else ()
    fits = after[:axis] == joined[:axis] and after[stop:] == tail and stop >= axis
    shape = tuple(s for s in inner if isinstance(s, int)) if fits else (taken.size,)
    result: Shape = (*joined[:axis], *shape, *tail)
    first, last = _reshaping(op, before, joined), _reshaping(op, result, after)
    if first is None or last is None:
        return None

    def make() -> Value:
        value = source if not first else build_reshape(op, source, first[0])
        value = op.Gather(value, taken.reshape(shape), axis=axis)
        return value if not last else build_reshape(op, value, last[0])

    return weight("Gather") + weight("Reshape") * (len(first) + len(last)), make


def _reshaping(op: Builder, before: Shape, after: Shape) -> list[Target] | None:
    if before == after:
        return []
    target = reshaping(op, before, after)
    return None if target is None else [target]


RULES = (compose_movement,)
