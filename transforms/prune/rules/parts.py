"""Operators that put parts together or take parts out: vectors are joined and cut like the axes themselves."""

from __future__ import annotations

import numpy as np

from ....ir import Node
from ..atoms import Ids
from ..axes import AxisMap, Layer, integers, need_integers, pick, shape, static
from ..kept import Kept
from .row import Rule, set_integers


def concat(node: Node, axes: AxisMap) -> None:
    """The output's atoms along `axis` are the operands', one after the other; other axes are tied (Concat-13)."""
    operands = [v for v in node.inputs if v is not None]
    axis = node.int("axis") % len(shape(node.output))
    bound = list(axes.of(operands[0]))
    for value in operands[1:]:
        bound = [ids if a == axis else axes.tie(ids, axes[value, a]) for a, ids in enumerate(bound)]
    bound[axis] = axes.join([(axes[v, axis], shape(v)[axis]) for v in operands], node)
    axes.bind(node.output, bound)
    axes.hush(node.output, all(v in axes.quiet for v in operands))


def split(node: Node, axes: AxisMap) -> None:
    """Each output has its part of the vector (Split-18)."""
    x = node.operand(0)
    axis = node.int("axis") % len(shape(x))
    bound, start = list(axes.of(x)), 0
    cut = axes.is_active(axes[x, axis])
    for output in node.outputs:
        if cut:
            size = static(output, axis)
            bound[axis] = axes[x, axis][start : start + size]
            start += size
        elif axes[x, axis].ndim:
            bound[axis] = axes.frozen(node, "none of what it splits may go")
        axes.bind(output, bound)
        axes.hush(output, x in axes.quiet)


def split_sizes(node: Node, kept: Kept) -> None:
    """The sizes that are left of each part."""
    x = node.operand(0)
    axis = node.int("axis") % len(shape(x))
    if kept.indices(x, axis) is not None:
        node.attrs.pop("num_outputs", None)
        set_integers(node, 1, [size for v in node.outputs if isinstance(size := kept.count(v, axis), int)])


def slice_(node: Node, axes: AxisMap) -> None:
    """A part of the vector, forwards or backwards. With a larger step one of every so many entries is taken: these go
    together, so that the step stays; other larger steps freeze (Slice-13).
    """
    x = node.operand(0)
    bound = list(axes.of(x))
    for axis, part in windows(node, axes).items():
        if not axes.is_active(axes[x, axis]):
            bound[axis] = pick(axes[x, axis], slice(0, 1)).reshape(())
        elif part is None:
            axes.freeze_axes(x, [axis], node, "where it cuts is known at run time only")
            bound[axis] = axes.frozen(node, "where it cuts is known at run time only")
        elif interleaved(part, static(x, axis)):
            together = axes[x, axis].reshape(-1, part.step)
            axes.atoms.tie(together, together[:, :1])
            bound[axis] = axes[x, axis][part]
        elif abs(part.step) != 1:
            why = f"it takes entries of this axis at distances of {abs(part.step)}"
            axes.freeze_axes(x, [axis], node, why)
            bound[axis] = axes.frozen(node, why)
        else:
            bound[axis] = axes[x, axis][part]
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet)


def interleaved(part: slice, size: int) -> bool:
    """Whether a slice takes one entry of every `step` that lie next to each other, from the first to the last."""
    start, _, step = part.indices(size)
    return step > 1 and size % step == 0 and start < step and len(range(size)[part]) == size // step


def windows(node: Node, axes: AxisMap) -> dict[int, slice | None]:
    """The Python slice along each axis that the node cuts; None where the bounds are computed."""
    x = node.operand(0)
    rank = len(shape(x))
    starts, ends = integers(node.input(1)), integers(node.input(2))
    where = list(range(rank)) if node.input(3) is None else need_integers(node.input(3), "axes")
    steps = integers(node.input(4))
    if node.input(4) is None:
        steps = [1] * len(where)
    if starts is None or ends is None or steps is None:
        return {axis % rank: None for axis in where}
    parts = zip(where, starts, ends, steps, strict=False)
    return {axis % rank: bounds(start, end, step) for axis, start, end, step in parts}


def bounds(start: int, end: int, step: int) -> slice:
    """ONNX bounds as a Python slice: a backward slice that runs past the start has no end."""
    past = step < 0 and end < -(2**30)
    return slice(start, None if past else end, step)


def slice_bounds(node: Node, kept: Kept) -> None:
    """Bounds counted in what is left."""
    x = node.operand(0)
    parts = windows(node, kept.axes)
    if not any(kept.indices(x, axis) is not None for axis in parts):
        return
    starts, ends, steps = integers(node.input(1)), integers(node.input(2)), integers(node.input(4))
    assert starts is not None
    assert ends is not None
    for position, (axis, part) in enumerate(parts.items()):
        left = kept.indices(x, axis)
        if left is None or part is None:
            continue
        size = static(x, axis)
        start, end, step = part.indices(size)
        if step > 1:
            starts[position], ends[position] = start, int(left.size)
            continue
        low, high = (start, end) if step > 0 else (end + 1, start + 1)
        low, high = int((left < low).sum()), int((left < high).sum())
        starts[position], ends[position] = (low, high) if step > 0 else (high - 1, low - 1 if low else -(2**31))
    set_integers(node, 1, starts)
    set_integers(node, 2, ends)
    if node.input(3) is not None:
        set_integers(node, 3, list(parts))
    if steps is not None:
        set_integers(node, 4, steps)


def gather(node: Node, axes: AxisMap) -> None:
    """Constant indices map the vector; indexed at run time the axis is frozen (a vocabulary). Other axes pass
    (Gather-13).
    """
    x, index = node.operand(0), node.operand(1)
    axis = node.int("axis") % len(shape(x))
    before, ids, after = axes.of(x)[:axis], axes[x, axis], axes.of(x)[axis + 1 :]
    chosen = integers(index)
    taken: list[Ids] = [axes.frozen(node, "it is indexed")] * len(shape(index))
    if not axes.is_active(ids):
        pass
    elif chosen is not None and len(shape(index)) == 1:
        taken = [ids[np.asarray(chosen, np.int64)]]
    elif chosen is not None and not shape(index):
        axes.freeze(ids[np.asarray(chosen, np.int64)], node, "it takes this one out")
    else:
        axes.freeze(ids, node, "it is indexed")
    axes.bind(node.output, [*before, *taken, *after])
    axes.hush(node.output, x in axes.quiet)
    if x.is_const and chosen is None and after:
        axes.layers.append(Layer(node, len(shape(node.output)) - 1))


def gather_indices(node: Node, kept: Kept) -> None:
    """The indices that are left, counted in what is left."""
    x, index = node.operand(0), node.operand(1)
    axis = node.int("axis") % len(shape(x))
    left, chosen = kept.indices(x, axis), integers(index)
    if left is None or chosen is None:
        return
    place = np.searchsorted(left, np.asarray(chosen, np.int64) % static(x, axis))
    if not shape(index):
        set_integers(node, 1, int(place[0]))
        return
    stay = kept.indices(node.output, axis)
    set_integers(node, 1, (place if stay is None else place[stay]).tolist())


def pad(node: Node, axes: AxisMap) -> None:
    """Constant padding of an axis puts new channels around it, which may go like any other; other modes copy
    (Pad-25).
    """
    x = node.operand(0)
    amounts = padding(node)
    bound = list(axes.of(x))
    for axis, (begin, end) in amounts.items():
        ids = axes[x, axis]
        if begin == 0 and end == 0:
            continue
        if axes.is_active(ids) and node.str("mode") == "constant" and begin >= 0 and end >= 0:
            bound[axis] = np.concatenate([axes.atoms.fresh(begin), ids, axes.atoms.fresh(end)])
        else:
            axes.freeze(ids, node, "it is padded along this axis")
            bound[axis] = axes.frozen(node, "it is padded along this axis")
    axes.bind(node.output, bound)
    value = node.input(2)
    zero = value is None or (value.const is not None and float(value.const.item()) == 0)
    axes.hush(node.output, x in axes.quiet and zero)


def padding(node: Node) -> dict[int, tuple[int, int]]:
    """How much is added before and after each axis."""
    rank = len(shape(node.operand(0)))
    where = list(range(rank)) if node.input(3) is None else [a % rank for a in need_integers(node.input(3), "axes")]
    amounts = need_integers(node.input(1), "pads")
    return {axis: (amounts[i], amounts[i + len(where)]) for i, axis in enumerate(where)}


def pad_amounts(node: Node, kept: Kept) -> None:
    """How many of the padded entries are left on each side."""
    if not kept.changed(node.output):
        return
    begins: list[int] = []
    ends: list[int] = []
    for axis, (begin, end) in padding(node).items():
        left = kept.indices(node.output, axis)
        last = kept.axes[node.output, axis].size - end
        begins.append(begin if left is None else int((left < begin).sum()))
        ends.append(end if left is None else int((left >= last).sum()))
    set_integers(node, 1, begins + ends)


ROWS: dict[str, Rule] = {
    "Concat": Rule(concat),
    "Split": Rule(split, split_sizes),
    "Slice": Rule(slice_, slice_bounds),
    "Gather": Rule(gather, gather_indices),
    "Pad": Rule(pad, pad_amounts),
}
