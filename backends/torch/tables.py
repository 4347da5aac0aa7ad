"""Index tables that only move entries, as the reshapes, transpositions, slices and rolls that they stand for.

Simplification turns chains of data movement into one Gather by a constant table: fewer nodes, but nothing that a person
would write, and a buffer that the original has not. A table is read as digits: numbers that count up with a stride,
one inside the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from ...ir import Array, Builder, Graph, Node, Size, Value
from ...ir.tensors import comes_from

MOST_DIGITS, MOST_ENTRIES = 6, 1 << 20
BROADCASTING = frozenset(["Add", "Sub", "Mul", "Div"])


@dataclass(frozen=True)
class Movement:
    """x[table]: x is seen as `grid` and rolled by `before` along its axes, then seen as `digits`, of which `parts`
    are taken, transposed by `perm`, and in the table's shape rolled by `after`."""

    digits: tuple[int, ...]
    parts: tuple[tuple[int, int], ...]
    perm: tuple[int, ...]
    grid: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


# Reading tables


def movement(table: Array, size: int) -> Movement | None:
    """What a table of indices into `size` entries does; None where it is no such movement."""
    found = direct(table, size)
    if found is not None or table.size != size or not np.array_equal(np.sort(table, axis=None), np.arange(size)):
        return found
    shift = tuple(int(i[0]) for i in np.nonzero(table == 0))
    found = direct(np.roll(table, [-s for s in shift], tuple(range(table.ndim))), size)
    if found is not None:
        return replace(found, after=nearest(shift, table.shape))
    for width in sorted((w for w in range(2, size + 1) if size % w == 0), key=lambda w: abs(w * w - size)):
        rows, columns = np.divmod(table, width)
        height = size // width
        first, second = int(rows.flat[0]), int(columns.flat[0])
        straight = (rows - first) % height * width + (columns - second) % width
        found = direct(straight, size) if first or second else None
        if found is not None:
            return replace(found, grid=(height, width), before=nearest((-first, -second), (height, width)))
    return None


def nearest(shifts: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """The same shifts, each in the direction in which it is shorter."""
    return tuple((s + n // 2) % n - n // 2 for s, n in zip(shifts, sizes, strict=True))


def direct(table: Array, size: int) -> Movement | None:
    """The same without rolls."""
    found = counted(table)
    if found is None or any(stride < 1 for _, stride in found):
        return None
    order = sorted(range(len(found)), key=lambda i: -found[i][1])
    inner = [found[i] for i in order]
    if not inner or inner[-1][1] > 1:
        inner.append((1, 1))
        order.append(len(order))
    above, start = size, int(table.flat[0])
    digits: list[int] = []
    parts: list[tuple[int, int]] = []
    for count, stride in inner:
        if above % stride:
            return None
        digits.append(above // stride)
        first = start // stride % digits[-1]
        parts.append((first, first + count))
        above = stride
        if first + count > digits[-1]:
            return None
    perm = tuple(order.index(i) for i in range(len(order)))
    return Movement(tuple(digits), tuple(parts), perm) if len(digits) <= MOST_DIGITS else None


def counted(table: Array) -> list[tuple[int, int]] | None:
    """Counts and strides of the digits of a table, the outermost one first."""
    rest, found = table.reshape(-1), list[tuple[int, int]]()
    while rest.size > 1:
        steps = np.diff(rest)
        other = np.flatnonzero(steps != steps[0])
        count = int(other[0]) + 1 if other.size else rest.size
        if rest.size % count:
            return None
        rows = rest.reshape(-1, count)
        if not (rows - rows[:, :1] == np.arange(count) * steps[0]).all():
            return None
        found.append((count, int(steps[0])))
        rest = rows[:, 0]
    return found[::-1]


# Rewriting


def moved(graph: Graph, infer: Callable[[Node], None], held: Set[int]) -> None:
    """Puts movements in place of Gather and GatherND by constant tables, in one graph; tensors whose identities are in
    `held`, parameters and buffers, stay what they are."""
    for node in graph:
        rewrite = REWRITES.get(node.op) if not node.domain else None
        own = [v for v in node.inputs[INDICES.get(node.op, 0) :] if v is not None and v.const is not None]
        if rewrite is None or any(comes_from(v.tensor, held) for v in own):
            continue
        made = rewrite(node, Builder(graph, before=node, infer=infer, loc=node.loc, keep=held))
        if made is not None:
            node.output.replace_by(made)
            node.erase()
    joined = dict[tuple[int, tuple[Value | None, ...]], Value]()
    for node in graph:
        merge(node)
        if node.op == "Concat" and not node.domain:
            extend(node, joined)


def extend(node: Node, joined: dict[tuple[int, tuple[Value | None, ...]], Value]) -> None:
    """A Concat whose first operands were joined before goes on from there: features that grow."""
    axis, operands = node.int("axis"), node.inputs
    joined.setdefault((axis, operands), node.output)
    for count in range(len(operands) - 1, 1, -1):
        before = joined.get((axis, operands[:count]))
        if before is not None:
            node.set_inputs([before, *operands[count:]])
            return


def gather(node: Node, op: Builder) -> Value | None:
    data, indices = node.operand(0), node.operand(1)
    shape, table = data.shape, numbers(indices)
    if shape is None or table is None or table.ndim == 0:
        return None
    axis = node.int("axis") % len(shape)
    size = shape[axis]
    if not isinstance(size, int) or not size or not (-size <= table.min() and table.max() < size):
        return None
    return placed(node, op, data, axis, table % size)


def gather_nd(node: Node, op: Builder) -> Value | None:
    """With whole index tuples, a Gather from the flat operand."""
    data, table = node.operand(0), numbers(node.operand(1))
    shape = data.shape
    if shape is None or table is None or node.int("batch_dims") or table.shape[-1:] != (len(shape),):
        return None
    sizes = [d for d in shape if isinstance(d, int)]
    if len(sizes) != len(shape) or not all(sizes) or not ((table >= -np.array(sizes)) & (table < sizes)).all():
        return None
    flat = np.ravel_multi_index(tuple(np.moveaxis(table % sizes, -1, 0)), sizes)
    return placed(node, op, op.Reshape(data, [-1]), 0, np.asarray(flat))


def placed(node: Node, op: Builder, data: Value, axis: int, table: Array) -> Value | None:
    """The movement as nodes; axes along which the table is constant are filled by broadcasting."""
    assert data.shape is not None
    size = int(data.shape[axis])
    filled = [i for i in range(table.ndim) if table.shape[i] > 1 and bool((table == table.take([0], i)).all())]
    for i in filled:
        table = table.take([0], i)
    before, after = data.shape[:axis], data.shape[axis + 1 :]
    wanted = node.output.shape
    loose = broadcasts(node.output)
    if wanted is None or (filled and not loose and not all(isinstance(d, int) for d in wanted)):
        return None
    if table.size == 1:
        made = op.Slice(data, [int(table.flat[0])], [int(table.flat[0]) + 1], [axis])
        if not (loose and axis == 0):
            made = shaped(op, made, before, table.shape, after)
    else:
        found = movement(table, size)
        made = None if found is None else built(op, data, axis, found, table.shape, loose)
    if made is None or loose or not filled:
        return made
    return op.Expand(made, [int(d) for d in wanted])


def built(op: Builder, data: Value, axis: int, found: Movement, shape: Sequence[int], loose: bool) -> Value | None:
    assert data.shape is not None
    before, after = data.shape[:axis], data.shape[axis + 1 :]
    x: Value | None = data
    if any(found.before):
        x = rolled(op, shaped(op, data, before, found.grid, after), axis, found.before)
    if x is not None and (len(found.digits) > 1 or any(found.before)):
        x = shaped(op, x, before, found.digits, after)
    if x is None:
        return None
    cuts = [i for i, (part, n) in enumerate(zip(found.parts, found.digits, strict=True)) if part != (0, n)]
    if cuts:
        starts, stops = zip(*(found.parts[i] for i in cuts), strict=True)
        x = op.Slice(x, list(starts), list(stops), [axis + i for i in cuts])
    if found.perm != tuple(range(len(found.perm))):
        perm = [*range(axis), *(axis + p for p in found.perm)]
        x = op.Transpose(x, perm=[*perm, *range(len(perm), len(perm) + len(after))])
    plain = len(found.digits) == 1 and axis == 0 and loose and all(d == 1 for d in shape[:-1])
    if not plain and (len(found.digits) > 1 or len(shape) > 1):
        x = shaped(op, x, before, shape, after)
    return None if x is None else rolled(op, x, axis, found.after)


def shaped(
    op: Builder, x: Value | None, before: Sequence[Size], middle: Sequence[int], after: Sequence[Size]
) -> Value | None:
    """A Reshape to sizes of which one is not known, or several in front; None for others."""
    if x is None:
        return None
    sizes: list[Size] = [*before, *middle, *after]
    unknown = [i for i, d in enumerate(sizes) if not isinstance(d, int)]
    target = [d if isinstance(d, int) else -1 for d in sizes]
    if len(unknown) > 1:
        if any(i >= len(before) for i in unknown[:-1]):
            return None
        target = [0 if i in unknown[:-1] else d for i, d in enumerate(target)]
    return op.Reshape(x, target)


def rolled(op: Builder, x: Value | None, axis: int, shifts: Sequence[int]) -> Value | None:
    """Each roll as the two parts of an axis in the other order, which a row knows."""
    for i, shift in enumerate(shifts):
        if shift and x is not None and x.shape is not None:
            size = x.shape[axis + i]
            assert isinstance(size, int)
            first, second = op.Split(x, [-shift % size, shift % size], axis=axis + i, outputs=2)
            x = op.Concat(second, first, axis=axis + i)
    return x


def logical(neutral: bool) -> Callable[[Node, Builder], Value | None]:
    """And with nothing but True, Or with nothing but False: the other operand, in the result's shape."""

    def rewrite(node: Node, op: Builder) -> Value | None:
        for value, other in ((node.operand(0), node.operand(1)), (node.operand(1), node.operand(0))):
            if value.const is None or value.tensor.filler is None or bool(value.tensor.filler) is not neutral:
                continue
            if other.shape is not None and other.shape == node.output.shape:
                return other
            shape = node.output.shape
            if shape is not None and all(isinstance(d, int) for d in shape) and other.shape is not None:
                return op.Expand(other, list(shape))
        return None

    return rewrite


REWRITES = {"Gather": gather, "GatherND": gather_nd, "And": logical(True), "Or": logical(False)}


INDICES = {"Gather": 1, "GatherND": 1}
"""From which operand on the constants are indices."""


def merge(node: Node) -> None:
    """One Reshape for two in a row."""
    if node.op != "Reshape" or node.domain or node.input(1) is None:
        return
    inner, target = node.operand(0).node, numbers(node.operand(1))
    alone = (
        inner is not None and inner.op == "Reshape" and inner.output.only_user is node and not inner.output.is_output
    )
    if alone and inner is not None and target is not None and (node.int("allowzero") or not (target == 0).any()):
        node.set_input(0, inner.operand(0))
        inner.erase()


def numbers(value: Value) -> Array | None:
    """The elements of a constant of integers."""
    if value.const is None or value.tensor.count > MOST_ENTRIES or not value.tensor.count:
        return None
    return value.tensor.numpy().astype(np.int64) if value.tensor.dtype.is_integer else None


def broadcasts(value: Value) -> bool:
    """True where every user puts the value beside another one that has its whole shape."""
    users = list(value.users)
    return (
        bool(users)
        and not value.is_output
        and all(
            user.op in BROADCASTING
            and not user.domain
            and sum(v is value for v in user.inputs) == 1
            and any(v is not None and v is not value and v.shape == value.shape is not None for v in user.inputs)
            for user in users
        )
    )
