"""Normalisations and other operators that compute statistics along axes.

An axis that statistics run over is frozen, unless the analysis is semantic: without some of its channels the statistics
of the rest are others.
"""

from __future__ import annotations

import numpy as np

from ....ir import Node
from ....ir.tensors import Lazy, binary
from ..axes import AxisMap, Frozen, shape, spread, static
from ..kept import Kept
from .elementwise import same, spans
from .row import Rule
from .semantic import STATISTICS, Share, restate_groups, restate_norm, statistics


def batch_normalization(node: Node, axes: AxisMap) -> None:
    """X.1 = scale = bias = mean = var, with stored statistics (BatchNormalization-15)."""
    x, scale, bias, mean, variance = (node.operand(i) for i in range(5))
    if node.int("training_mode") or any(v.users for v in node.outputs[1:]):
        raise Frozen("it is in training mode")
    for vector in (scale, bias, mean, variance):
        axes.tie(axes[x, 1], axes[vector, 0])
    axes.unmasked.add(variance)
    same(x, node, axes)
    axes.hush(node.output, scale in axes.quiet and bias in axes.quiet)


def instance_normalization(node: Node, axes: AxisMap) -> None:
    """X.1 = scale = bias; each channel has statistics of its own, over space (InstanceNormalization-22)."""
    x, scale, bias = (node.operand(i) for i in range(3))
    axes.tie(axes[x, 1], axes[scale, 0])
    axes.tie(axes[x, 1], axes[bias, 0])
    axes.freeze_axes(x, range(2, len(shape(x))), node, STATISTICS)
    same(x, node, axes)
    axes.hush(node.output, scale in axes.quiet and bias in axes.quiet and not axes.is_active(axes[x, 0]))


def group_normalization(node: Node, axes: AxisMap) -> None:
    """X.1 = scale = bias, and whole groups at a time, so that no statistics change (GroupNormalization-21). Few groups
    lose the same positions in each where statistics may change.
    """
    x, scale, bias = (node.operand(i) for i in range(3))
    members = spread(axes[x, 1], static(x, 1)).reshape(node.int("num_groups"), -1)
    if axes.semantic and not many(node):
        axes.marked.add(node)
        axes.atoms.tie(members, members[:1])
    elif len(members) == 1:
        axes.freeze(axes[x, 1], node, STATISTICS)
    else:
        axes.atoms.tie(members, members[:, :1])
    axes.tie(axes[x, 1], axes[scale, 0])
    axes.tie(axes[x, 1], axes[bias, 0])
    axes.freeze_axes(x, range(2, len(shape(x))), node, STATISTICS)
    same(x, node, axes)
    axes.hush(node.output, scale in axes.quiet and bias in axes.quiet and not axes.is_active(axes[x, 0]))


def many(node: Node) -> bool:
    """Whether a normalisation has more groups than channels in each: then whole ones are enough to choose from."""
    groups = node.int("num_groups")
    return groups >= static(node.operand(0), 1) // groups


def fewer_groups(node: Node, kept: Kept) -> None:
    """The number of groups that are left."""
    x, groups = node.operand(0), node.int("num_groups")
    left = kept.indices(x, 1)
    if left is not None and node not in kept.axes.marked:
        node.attrs["num_groups"] = int(left.size) * groups // static(x, 1)


def trailing_statistics(node: Node, axes: AxisMap) -> None:
    """LayerNormalization-17, RMSNormalization-23: statistics over `axis` and all after it; scale and bias lie along
    these.
    """
    x = node.operand(0)
    rank, normalised = len(shape(x)), trailing(node)
    if not keeps_divisor(node, axes):
        statistics(node, axes, x, normalised)
    for value in node.inputs[1:]:
        offset = rank - len(shape(value)) if value is not None else rank
        for axis in range(offset, rank):
            if value is not None and shape(value)[axis - offset] != 1:
                axes.tie(axes[x, axis], axes[value, axis - offset])
    axes.bind(node.output, axes.of(x))
    active = axes.active_axes(node.output)
    scaled = (v for v in node.inputs[1:] if v is not None)
    axes.hush(node.output, all(v in axes.quiet and spans(v, node.output, a) for v in scaled for a in active))
    for statistic in node.outputs[1:]:
        frozen = axes.frozen(node, STATISTICS)
        axes.bind(statistic, [ids if a not in normalised else frozen for a, ids in enumerate(axes.of(x))])


def trailing(node: Node) -> range:
    rank = len(shape(node.operand(0)))
    return range(node.int("axis", -1) % rank, rank)


def keeps_divisor(node: Node, axes: AxisMap) -> bool:
    """Whether channels that are zero may go from a mean of squares: the scale takes in what that is divided by."""
    x, scale = node.operand(0), node.operand(1)
    squares = node.op == "RMSNormalization" and x in axes.quiet and scale.is_const and scale.tensor.count > 1
    return squares and not axes.semantic


def keep_divisor(node: Node, kept: Kept) -> None:
    """With a share s of the channels left, x / sqrt(v / s + e / s) = sqrt(s) x / sqrt(v + e)."""
    x, scale = node.operand(0), node.operand(1)
    changed = {axis: left for axis, left in kept.changed(x).items() if axis in trailing(node)}
    if changed and node not in kept.axes.marked:
        share = Share.along(x, changed)
        node.attrs["epsilon"] = node.float("epsilon") * share.whole / share.left
        root = Lazy("sqrt", [share.of(scale.tensor.dtype).tensor])
        scale.const = binary("div", scale.tensor, root)


def along_attribute(name: str) -> Rule:
    """A row for an operator that mixes what lies along the axis (or axes) in an attribute and keeps the shape."""

    def tie(node: Node, axes: AxisMap) -> None:
        x, where = node.operand(0), node.attr(name)
        mixed = [a for a in where if isinstance(a, int)] if isinstance(where, tuple) else [node.int(name, -1)]
        axes.freeze_axes(x, mixed, node, STATISTICS)
        same(x, node, axes)

    return Rule(tie)


def local_response(node: Node, axes: AxisMap) -> None:
    """LRN-13 sums over neighbouring channels."""
    x = node.operand(0)
    axes.freeze_axes(x, [1], node, "it sums over neighbouring channels")
    same(x, node, axes)


def cumulative(node: Node, axes: AxisMap) -> None:
    """CumSum-14 along the axis in its second operand."""
    x, axis = node.operand(0), node.operand(1)
    if axis.const is None:
        raise Frozen("its axis is computed at run time")
    axes.freeze_axes(x, [int(np.ravel(axis.const.numpy())[0])], node, "it sums along this axis")
    same(x, node, axes)


def fourier(node: Node, axes: AxisMap) -> None:
    """DFT-20 over the axis in its last operand, of numbers whose last axis is (real, imaginary); the others pass."""
    x, axis = node.operand(0), node.input(2)
    rank = len(shape(x))
    if axis is not None and axis.const is None:
        raise Frozen("its axis is computed at run time")
    over = int(axis.const.item()) % rank if axis is not None and axis.const is not None else rank - 2
    axes.freeze_axes(x, [over, rank - 1], node, "its frequencies are made of all of this axis")
    made = axes.frozen(node, "its frequencies are made of all of this axis")
    axes.bind(node.output, [made if a in (over, rank - 1) else ids for a, ids in enumerate(axes.of(x))])
    axes.hush(node.output, x in axes.quiet)


ROWS: dict[str, Rule] = {
    "BatchNormalization": Rule(batch_normalization),
    "InstanceNormalization": Rule(instance_normalization),
    "GroupNormalization": Rule(group_normalization, fewer_groups, restate_groups),
    "LayerNormalization": Rule(trailing_statistics, restate=restate_norm),
    "RMSNormalization": Rule(trailing_statistics, keep_divisor, restate_norm),
    "LpNormalization": along_attribute("axis"),
    "Softmax": along_attribute("axis"),
    "LogSoftmax": along_attribute("axis"),
    "Hardmax": along_attribute("axis"),
    "MeanVarianceNormalization": along_attribute("axes"),
    "LRN": Rule(local_response),
    "CumSum": Rule(cumulative),
    "DFT": Rule(fourier),
}
