"""Operators that summarise or search along axes, and pooling."""

from __future__ import annotations

from ....ir import Node
from ..atoms import UNIT, Ids
from ..axes import AxisMap, Frozen, integers, need_integers, shape
from ..kept import Kept
from .linear import SPATIAL, freeze_space
from .row import Rule, set_integers
from .semantic import restate_reduction, statistics

IGNORES_ZEROS = frozenset(["ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"])
"""Reductions to which zeros add nothing: what is left out is what the masked graph adds."""
KEEPS_ZERO = IGNORES_ZEROS | frozenset(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])


def reduce(node: Node, axes: AxisMap) -> None:
    """Axes in the second operand, all without it (ReduceSum-13, ReduceMean-18, ...); the others pass."""
    x, reduced = node.operand(0), reduced_axes(node)
    if not (node.op in IGNORES_ZEROS and x in axes.quiet):
        statistics(node, axes, x, reduced, "it reduces over this axis")
    axes.bind(node.output, drop(axes, axes.of(x), reduced, keep=bool(node.int("keepdims"))))
    axes.hush(node.output, node.op in KEEPS_ZERO and x in axes.quiet)


def reduced_axes(node: Node) -> set[int]:
    rank = len(shape(node.operand(0)))
    if node.input(1) is None or node.operand(1).shape == (0,):
        return set[int]() if node.int("noop_with_empty_axes") else set(range(rank))
    return {axis % rank for axis in need_integers(node.input(1), "axes")}


def restate(twin: Node, node: Node, kept: Kept) -> None:
    """Takes what stays alone into account."""
    restate_reduction(twin, node, kept, reduced_axes(node))


def drop(axes: AxisMap, ids: list[Ids], reduced: set[int], keep: bool) -> list[Ids]:
    """Vectors of a result in which some axes are gone or have size 1."""
    unit = axes.atoms.frozen(UNIT)
    return [unit if a in reduced else v for a, v in enumerate(ids) if keep or a not in reduced]


def arg(node: Node, axes: AxisMap) -> None:
    """ArgMax-13, ArgMin-13: the result counts positions along the axis."""
    x = node.operand(0)
    axis = node.int("axis") % len(shape(x))
    axes.freeze_axes(x, [axis], node, "it gives positions along this axis")
    axes.bind(node.output, drop(axes, axes.of(x), {axis}, keep=bool(node.int("keepdims"))))


def top(node: Node, axes: AxisMap) -> None:
    """TopK-24: sorted along the axis, other axes pass."""
    x = node.operand(0)
    axis = node.int("axis") % len(shape(x))
    axes.freeze_axes(x, [axis], node, "it sorts along this axis")
    bound = list(axes.of(x))
    bound[axis] = axes.frozen(node, "it sorts along this axis")
    for output in node.outputs:
        axes.bind(output, bound)


def pool(node: Node, axes: AxisMap) -> None:
    """N and C pass; the window moves over space."""
    x = node.operand(0)
    if len(node.outputs) > 1 and node.outputs[1].users:
        raise Frozen("the indices that it gives count through all channels")
    freeze_space(node, axes, x)
    space = axes.frozen(node, SPATIAL)
    axes.bind(node.output, [*axes.of(x)[:2], *[space] * (len(shape(x)) - 2)])
    axes.hush(node.output, x in axes.quiet)


def region_pool(node: Node, axes: AxisMap) -> None:
    """RoiAlign-22, MaxRoiPool-22, GridSample-22: channels pass, everything else is sampled."""
    x = node.operand(0)
    why = "it is sampled"
    axes.freeze_axes(x, [a for a in range(len(shape(x))) if a != 1], node, why)
    for value in node.inputs[1:]:
        if value is not None:
            axes.freeze_axes(value, range(len(shape(value))), node, why)
    sampled = axes.frozen(node, why)
    axes.bind(node.output, [axes[x, 1] if a == 1 else sampled for a in range(len(shape(node.output)))])
    axes.hush(node.output, x in axes.quiet)


def resize(node: Node, axes: AxisMap) -> None:
    """Axes of scale 1 pass (Resize-19)."""
    x = node.operand(0)
    if node.str("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Frozen("it crops")
    rank = len(shape(x))
    given = [a % rank for a in node.ints("axes", range(rank))]
    scales, sizes = node.input(2), node.input(3)
    if sizes is not None:
        old = integers(sizes)
        passing = {a for i, a in enumerate(given) if old is not None and old[i] == shape(x)[a]}
    else:
        factors = None if scales is None or scales.const is None else scales.const.numpy().reshape(-1)
        passing = {a for i, a in enumerate(given) if factors is not None and factors[i] == 1}
    scaled = set(given) - passing
    axes.freeze_axes(x, scaled, node, "it is resized along this axis")
    frozen = axes.frozen(node, "it is resized along this axis")
    axes.bind(node.output, [frozen if a in scaled else ids for a, ids in enumerate(axes.of(x))])
    axes.hush(node.output, x in axes.quiet)


def resize_sizes(node: Node, kept: Kept) -> None:
    """Sizes of the axes that pass and lose entries."""
    old = integers(node.input(3))
    changed = kept.changed(node.output)
    if old is None or not changed:
        return
    rank = len(shape(node.output))
    given = [a % rank for a in node.ints("axes", range(rank))]
    set_integers(node, 3, [int(changed[a].size) if a in changed else old[i] for i, a in enumerate(given)])


REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool")

ROWS: dict[str, Rule] = {
    **{op: Rule(reduce, restate=restate) for op in REDUCTIONS},
    **{op: Rule(pool) for op in POOLS},
    **{op: Rule(region_pool) for op in ("RoiAlign", "MaxRoiPool", "GridSample")},
    "ArgMax": Rule(arg),
    "ArgMin": Rule(arg),
    "TopK": Rule(top),
    "Resize": Rule(resize, resize_sizes),
}
