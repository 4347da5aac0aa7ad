"""Operators that rearrange elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ....ir import Node, Size, Value
from ..atoms import UNIT, Ids
from ..axes import AxisMap, Choice, Frozen, integers, need_integers, pinned, shape, static
from ..kept import Kept
from .row import Rule, set_integers, set_pinned

RUN_TIME = "which of its elements go where depends on sizes that are known at run time only"
COMPUTED_SIZES = "its sizes are computed at run time"
OTHER_FACTOR = "the channels of the merged axis are told apart along another of its factors"


def transpose(node: Node, axes: AxisMap) -> None:
    """Axes permuted, reversed without `perm` (Transpose-24)."""
    x = node.operand(0)
    ids = axes.of(x)
    axes.bind(node.output, [ids[p] for p in node.ints("perm", range(len(ids))[::-1])])
    axes.hush(node.output, x in axes.quiet)


def squeeze(node: Node, axes: AxisMap) -> None:
    """Axes of size 1 taken out (Squeeze-24)."""
    x = node.operand(0)
    rank = len(shape(x))
    if node.input(1) is None:
        gone = {a for a, size in enumerate(shape(x)) if size == 1}
        if len(shape(node.output)) != rank - len(gone):
            raise Frozen("which axes it takes out is not known")
    else:
        gone = {a % rank for a in need_integers(node.input(1), "axes")}
    axes.bind(node.output, [ids for a, ids in enumerate(axes.of(x)) if a not in gone])
    axes.hush(node.output, x in axes.quiet)


def unsqueeze(node: Node, axes: AxisMap) -> None:
    """Axes of size 1 put in (Unsqueeze-24)."""
    x = node.operand(0)
    added = need_integers(node.input(1), "axes")
    rank = len(shape(x)) + len(added)
    places, left = {a % rank for a in added}, iter(axes.of(x))
    axes.bind(node.output, [axes.atoms.frozen(UNIT) if a in places else next(left) for a in range(rank)])
    axes.hush(node.output, x in axes.quiet)


def expand(node: Node, axes: AxisMap) -> None:
    """Broadcasts to a shape: axes that keep their size pass, a repeated one is frozen (Expand-13). Indices that are
    repeated for each channel are as many as there are channels.
    """
    x = node.operand(0)
    repeat(node, axes, x)
    if is_index(node.output):
        free_copies(node, axes, x)
    if integers(node.input(1)) is not None:
        return
    known = pinned(node.input(1)) or []
    offset = len(shape(node.output)) - len(known)
    computed = [a for a in axes.active_axes(node.output) if a >= offset and known[a - offset] is None]
    axes.freeze_axes(node.output, computed if known else axes.active_axes(node.output), node, COMPUTED_SIZES)


def repeat(node: Node, axes: AxisMap, x: Value) -> None:
    offset = len(shape(node.output)) - len(shape(x))
    repeated = axes.frozen(node, "it is repeated along this axis")
    bound = [repeated] * offset
    for axis, size in enumerate(shape(x)):
        passes = size != 1 and size == shape(node.output)[axis + offset]
        bound.append(axes[x, axis] if passes else repeated)
        if not passes:
            axes.freeze_axes(x, [axis], node, "it is repeated along this axis")
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet)


BY_ELEMENT = ("GatherElements", "ScatterElements")


def is_index(value: Value) -> bool:
    """Whether a value does nothing but say where single elements are."""
    return bool(value.users) and all(
        user.op in BY_ELEMENT and [i for i, v in enumerate(user.inputs) if v is value] == [1] for user in value.users
    )


def free_copies(node: Node, axes: AxisMap, x: Value) -> None:
    """Gives the axes along which an Expand repeats something atoms of their own, where their sizes are stated."""
    sizes, offset = shape(node.output), len(shape(node.output)) - len(shape(x))
    stated = integers(node.input(1)) or pinned(node.input(1)) or []
    bound = list(axes.of(node.output))
    for axis, size in enumerate(sizes):
        place = axis - len(sizes) + len(stated)
        repeated = axis < offset or shape(x)[axis - offset] == 1
        if repeated and place >= 0 and stated[place] == size and isinstance(size, int):
            bound[axis] = axes.fresh(size)
    axes.bind(node.output, bound)


def expand_shape(node: Node, kept: Kept) -> None:
    """Sizes of the axes that pass and lose entries; a 1 stands for whatever the operand has."""
    old, changed = integers(node.input(1)), kept.changed(node.output)
    if not changed:
        return
    if old is None:
        stated = pinned(node.input(1)) or []
        offset = len(shape(node.output)) - len(stated)
        fewer = {a - offset: int(left.size) for a, left in changed.items() if a >= offset and stated[a - offset] != 1}
        set_pinned(node, 1, fewer)
        return
    offset = len(shape(node.output)) - len(old)
    new = [int(changed[a].size) if a in changed and size != 1 else size for a, size in enumerate(old, start=offset)]
    set_integers(node, 1, new)


def tile(node: Node, axes: AxisMap) -> None:
    """The atoms of an axis over and over (Tile-13). Indices that are repeated for each channel are as many as there are
    channels.
    """
    x = node.operand(0)
    free = is_index(node.output) and integers(node.input(1)) is not None
    bound: list[Ids] = []
    for axis, (ids, count) in enumerate(zip(axes.of(x), repetitions(node), strict=True)):
        if free and count and shape(x)[axis] == 1:
            bound.append(axes.fresh(count))
        elif not count:
            why = COMPUTED_SIZES if count is None else "nothing of it is left"
            axes.freeze_axes(x, [axis], node, why)
            bound.append(axes.frozen(node, why))
        else:
            bound.append(ids if count == 1 or ids.ndim == 0 else np.tile(ids, count))
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet)


def fewer_copies(node: Node, kept: Kept) -> None:
    """As many indices as there are channels left."""
    counts, sizes = integers(node.input(1)), shape(node.operand(0))
    changed = {axis: int(left.size) for axis, left in kept.changed(node.output).items() if sizes[axis] == 1}
    if counts is not None and changed:
        set_integers(node, 1, [changed.get(axis, count) for axis, count in enumerate(counts)])


def repetitions(node: Node) -> list[int | None]:
    """How often a Tile repeats each axis, also where that is computed and sizes tell."""
    given = integers(node.input(1))
    if given is not None:
        return [*given]
    sizes = zip(shape(node.operand(0)), shape(node.output), strict=True)
    return [b // a if isinstance(a, int) and isinstance(b, int) and a else None for a, b in sizes]


def depth_to_space(node: Node, axes: AxisMap) -> None:
    """C = (b * b, c) for DCR and (c, b * b) for CRD; the b * b channels of one output are tied (DepthToSpace-13)."""
    x, block = node.operand(0), node.int("blocksize") ** 2
    axes.freeze_axes(x, (2, 3), node, "it is interleaved with channels")
    channels = static(x, 1) // block
    first = node.str("mode") == "CRD"
    sizes = (channels, block) if first else (block, channels)
    out = split(node, axes, axes[x, 1], sizes, want=0 if first else 1)[0 if first else 1]
    space = axes.frozen(node, "it is interleaved with channels")
    axes.bind(node.output, [axes[x, 0], out, space, space])
    axes.hush(node.output, x in axes.quiet)


def space_to_depth(node: Node, axes: AxisMap) -> None:
    """The channels b * b times over (SpaceToDepth-13)."""
    x, block = node.operand(0), node.int("blocksize") ** 2
    axes.freeze_axes(x, (2, 3), node, "it becomes channels")
    ids, space = axes[x, 1], axes.frozen(node, "it becomes channels")
    axes.bind(node.output, [axes[x, 0], ids if ids.ndim == 0 else np.tile(ids, block), space, space])
    axes.hush(node.output, x in axes.quiet)


def flatten(node: Node, axes: AxisMap) -> None:
    """Reshape to two axes (Flatten-25)."""
    regroup_axes(node, axes)


def reshape(node: Node, axes: AxisMap) -> None:
    """The same elements in row-major order under other sizes (Reshape-25)."""
    if axes.active_axes(node.operand(0)) and pinned(node.input(1)) is None:
        shape_entries(node)
    regroup_axes(node, axes)


def shape_entries(node: Node) -> list[int]:
    """The shape operand rewritten so that every known size is a number. Raises Frozen where that is not possible."""
    given, copies = integers(node.input(1)), not node.int("allowzero")
    entries: list[int] = []
    for axis, size in enumerate(shape(node.output)):
        before = shape(node.operand(0))
        if isinstance(size, int):
            entries.append(size)
        elif given is not None and given[axis] in (0, -1):
            entries.append(given[axis])
        else:
            entries.append(0 if copies and axis < len(before) and before[axis] == size else -1)
    if entries.count(-1) > 1:
        raise Frozen("more than one of its sizes is known at run time only")
    return entries


def reshape_sizes(node: Node, kept: Kept) -> None:
    """The shape operand with the sizes that are left."""
    changed = kept.changed(node.output)
    if pinned(node.input(1)) is not None:
        set_pinned(node, 1, {axis: int(left.size) for axis, left in changed.items()})
    elif changed or kept.changed(node.operand(0)):
        entries = shape_entries(node)
        set_integers(node, 1, [int(changed[a].size) if a in changed else e for a, e in enumerate(entries)])


def regroup_axes(node: Node, axes: AxisMap) -> None:
    """Cuts both shapes where equally many elements lie in front, and maps each pair of blocks."""
    x = node.operand(0)
    before, after = shape(x), shape(node.output)
    if 0 in before or 0 in after:
        raise Frozen("it is empty")
    bound: list[Ids] = []
    for (i0, i1), (j0, j1) in blocks(before, after):
        parts = list(zip(axes.of(x)[i0:i1], before[i0:i1], strict=True))
        bound += regroup_block(node, axes, parts, after[j0:j1])
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet)


def blocks(before: Sequence[Size], after: Sequence[Size]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of half-open ranges of axes that hold the same elements, as small as can be told.

    The cuts are where prefix products agree; where symbolic sizes keep the totals from agreeing, also where products of
    what follows agree. Products are polynomials, so agreement holds for every size.
    """
    cuts = matches(products(before), products(after))
    if cuts[-1] != (len(before), len(after)):
        i, j = cuts[-1]
        tail = matches(products(before[i:][::-1]), products(after[j:][::-1]))
        cuts += [(len(before) - p, len(after) - q) for p, q in reversed(tail)]
    return [((i0, i1), (j0, j1)) for (i0, j0), (i1, j1) in pairwise(cuts)]


def products(sizes: Sequence[Size]) -> list[Size]:
    """The products of the first 0, 1, ... sizes."""
    found: list[Size] = [1]
    for size in sizes:
        found.append(found[-1] * size)
    return found


def matches(a: list[Size], b: list[Size]) -> list[tuple[int, int]]:
    """Where two lists of prefix products agree, from (0, 0) on; axes of size 1 at the end belong to the last match."""
    first = {p: j for j, p in reversed(list(enumerate(b)))}
    found = [(i, first[p]) for i, p in enumerate(a) if p in first and p not in a[:i]]
    if a[-1] == b[-1]:
        found[max(1, len(found) - 1) :] = [(len(a) - 1, len(b) - 1)]
    return found


def regroup_block(node: Node, axes: AxisMap, parts: Sequence[tuple[Ids, Size]], after: Sequence[Size]) -> list[Ids]:
    """The vectors of one block of output axes from those of the input axes with the same elements."""
    unit = axes.atoms.frozen(UNIT)
    wide = [(ids, size) for ids, size in parts if size != 1]
    if len(wide) == 1 and [size for size in after if size != 1] == [wide[0][1]]:
        return [unit if size == 1 else wide[0][0] for size in after]
    sizes = [size for size in after if isinstance(size, int)]
    known = [(ids, size) for ids, size in wide if isinstance(size, int)]
    if len(sizes) == len(after) and len(known) == len(wide) and np.prod(sizes) == np.prod([s for _, s in known]):
        return split(node, axes, merge(node, axes, known), sizes)
    last = innermost(node, axes, parts[-1], after[-1]) if parts and after else None
    for ids, _ in wide if last is None else wide[:-1]:
        axes.freeze(ids, node, RUN_TIME)
    frozen = [unit if size == 1 else axes.frozen(node, RUN_TIME) for size in after]
    return frozen if last is None else [*frozen[:-1], last]


def innermost(node: Node, axes: AxisMap, part: tuple[Ids, Size], size: Size) -> Ids | None:
    """The last axis of a block in which earlier sizes are symbolic, where its size before and after divide each other.

    (N, heads * d) becomes (N * heads, d), or the other way around: d is told apart, and what lies before is not.
    """
    ids, before = part
    if not isinstance(before, int) or not isinstance(size, int) or min(before, size) == 1:
        return None
    if before % size == 0:
        return split(node, axes, ids, (before // size, size), want=1)[1]
    return np.tile(ids, size // before) if size % before == 0 and ids.ndim else None


def merge(node: Node, axes: AxisMap, parts: Sequence[tuple[Ids, int]]) -> Ids:
    """(a, b, ...) into one axis of a * b * ...: one factor stays active, the one with most classes; its vector is
    repeated.
    """
    active = [i for i, (ids, _) in enumerate(parts) if axes.is_active(ids)]
    if not active:
        return parts[0][0].reshape(-1)[:1].reshape(()) if parts else axes.atoms.frozen(UNIT)
    best = max(active, key=lambda i: np.unique(axes.atoms.roots(parts[i][0])).size)
    for i in active:
        if i != best:
            axes.freeze(parts[i][0], node, OTHER_FACTOR)
    sizes = [size for _, size in parts]
    inner = np.repeat(parts[best][0], int(np.prod(sizes[best + 1 :])))
    return np.tile(inner, int(np.prod(sizes[:best])))


def split(node: Node, axes: AxisMap, ids: Ids, sizes: Sequence[int], want: int | None = None) -> list[Ids]:
    """One axis into factors: along one of them (`want`, else chosen) channels differ, along the others they are tied.

    A factor along which nothing new has to be tied is chosen first, then the largest. What a view as (3, heads,
    dimensions) keeps apart is decided here.
    """
    if not axes.is_active(ids):
        return [ids.reshape(-1)[:1].reshape(())] * len(sizes)
    table = ids.reshape(sizes)
    roots = axes.atoms.roots(ids).reshape(sizes)
    rows = [np.moveaxis(roots, axis, 0).reshape(size, -1) for axis, size in enumerate(sizes)]
    worth = [(size > 1, bool((r == r[:, :1]).all()), size) for size, r in zip(sizes, rows, strict=True)]
    order = sorted((a for a, size in enumerate(sizes) if size > 1), key=lambda axis: worth[axis], reverse=True)
    place = (node, sum(n is node for n, _ in axes.choices))
    chosen = want if want is not None else axes.wanted.get(place, order[0])
    chosen = chosen if want is not None or chosen in order else order[0]
    chosen_rows = np.moveaxis(table, chosen, 0).reshape(sizes[chosen], -1)
    axes.atoms.tie(chosen_rows, chosen_rows[:, :1])
    if want is None:
        axes.choices[place] = Choice(chosen_rows[:, 0], chosen, tuple(a for a in order if a != chosen))
    other = axes.frozen(node, OTHER_FACTOR)
    return [
        chosen_rows[:, 0].copy() if axis == chosen else axes.atoms.frozen(UNIT) if size == 1 else other
        for axis, size in enumerate(sizes)
    ]


ROWS: dict[str, Rule] = {
    "Transpose": Rule(transpose),
    "Squeeze": Rule(squeeze),
    "Unsqueeze": Rule(unsqueeze),
    "Expand": Rule(expand, expand_shape),
    "Tile": Rule(tile, fewer_copies),
    "DepthToSpace": Rule(depth_to_space),
    "SpaceToDepth": Rule(space_to_depth),
    "Flatten": Rule(flatten),
    "Reshape": Rule(reshape, reshape_sizes),
}
