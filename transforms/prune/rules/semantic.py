"""Statistics over the channels that stay, in the masked graph: what normalisations and means of the pruned one compute.

Nothing replaces a node: what it reads and its attributes change, so that every node of the masked graph has its
counterpart in the pruned one. What is put in front of it says so in its location.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ....ir import Builder, Dense, DType, Node, Tensor, TensorType, Value, constant
from ....ir.tensors import binary
from ..atoms import Ids
from ..axes import AxisMap, shape, static
from ..kept import Kept

MASKED_STATISTICS = "masked statistics"
"""The `rule` in the location of what is put into the masked graph."""

STATISTICS = "its statistics run over this axis"


@dataclass(frozen=True)
class Share:
    """How many of how many entries stay. Both are numbers that floats hold, so that what is computed from them is exact
    where the oracle computes in double precision."""

    left: int
    whole: int

    @staticmethod
    def along(x: Value, changed: Mapping[int, Ids]) -> Share:
        """Of the entries along some axes of a value, those that stay."""
        return Share(math.prod(ids.size for ids in changed.values()), math.prod(static(x, axis) for axis in changed))

    def of(self, dtype: DType) -> Value:
        """The share as a constant expression."""
        left, whole = (Dense(np.asarray(n, dtype.numpy), dtype) for n in (self.left, self.whole))
        return constant(binary("div", left, whole))


def statistics(node: Node, axes: AxisMap, x: Value, over: Iterable[int], why: str = STATISTICS) -> None:
    """Says that the node takes statistics over some axes: they are frozen, or the node is marked."""
    if axes.semantic:
        axes.marked.add(node)
    else:
        axes.freeze_axes(x, over, node, why)


def builder(twin: Node) -> Builder:
    """Puts nodes in front of a node of the masked graph."""
    assert twin.graph is not None
    return Builder(twin.graph, twin, loc=twin.loc._replace(rule=MASKED_STATISTICS))


def hidden(node: Node, kept: Kept, over: Iterable[int]) -> tuple[Tensor, Share] | None:
    """Of the first operand: ones at what stays and zeros at what goes along the axes `over`, aligned at the right, and
    the share that stays. None where everything stays.
    """
    x = node.operand(0)
    sizes, which = shape(x), set(over)
    changed = {axis: left for axis, left in kept.changed(x).items() if axis in which}
    if not changed:
        return None
    assert isinstance(x.type, TensorType)
    stays = np.ones([static(x, a) if a in changed else 1 for a in range(min(changed), len(sizes))], np.bool_)
    for axis, left in changed.items():
        along = np.zeros(static(x, axis), np.bool_)
        along[left] = True
        stays = stays & along.reshape([-1 if a == axis else 1 for a in range(min(changed), len(sizes))])
    return Dense(stays.astype(x.type.dtype.numpy), x.type.dtype), Share.along(x, changed)


def restate_mean(twin: Node, over: Iterable[int], node: Node, kept: Kept, centred: bool) -> Share | None:
    """Gives the twin an input with zeros at what goes, or the mean of what stays where it is `centred`.

    Its mean square (its variance) then is the share that stays times that of what stays: that share is returned, or
    None where nothing goes.
    """
    axes = list(over)
    found = hidden(node, kept, axes)
    if found is None:
        return None
    ones, share = found
    op = builder(twin)
    masked = op.Mul(twin.operand(0), constant(ones))
    if centred:
        masked = op.Add(masked, op.Mul(op.ReduceMean(masked, axes, keepdims=1), rest(ones, share)))
    twin.set_input(0, masked)
    return share


def rest(ones: Tensor, share: Share) -> Value:
    """What spreads the mean of an input with zeros over the places that go."""
    gone = Dense((1 - ones.numpy()).astype(ones.dtype.numpy), ones.dtype)
    return constant(binary("div", gone, share.of(ones.dtype).tensor))


def restate_scale(twin: Node, node: Node, share: Share) -> None:
    """With a share s of what stays, x / sqrt(s v + s e) = x / sqrt(v + e) / sqrt(s): the scale is multiplied by sqrt(s)
    and epsilon by s.
    """
    twin.attrs["epsilon"] = node.float("epsilon") * share.left / share.whole
    op, scale = builder(twin), twin.operand(1)
    assert isinstance(scale.type, TensorType)
    twin.set_input(1, op.Mul(scale, op.Sqrt(share.of(scale.type.dtype))))


def restate_norm(twin: Node, node: Node, kept: Kept) -> None:
    """LayerNormalization and RMSNormalization."""
    rank = len(shape(node.operand(0)))
    over = range(node.int("axis") % rank, rank)
    share = restate_mean(twin, over, node, kept, node.op == "LayerNormalization")
    if share is not None:
        restate_scale(twin, node, share)


def restate_groups(twin: Node, node: Node, kept: Kept) -> None:
    """GroupNormalization that loses the same positions in every group."""
    found = hidden(node, kept, [1])
    if found is None:
        return
    ones, share = found
    op, x = builder(twin), node.operand(0)
    groups, channels = node.int("num_groups"), static(x, 1)
    masked = op.Mul(twin.operand(0), constant(ones))
    means = op.ReduceMean(op.Reshape(masked, [0, groups, -1]), [2], keepdims=1)
    spread = op.Reshape(op.Tile(means, [1, 1, channels // groups]), [0, channels, *[1] * (len(shape(x)) - 2)])
    twin.set_input(0, op.Add(masked, op.Mul(spread, rest(ones, share))))
    restate_scale(twin, node, share)


NEUTRAL = {"ReduceMax": -math.inf, "ReduceLogSumExp": -math.inf, "ReduceMin": math.inf, "ReduceProd": 1.0}
"""What an entry that goes counts as; as zero in other reductions."""


def restate_reduction(twin: Node, node: Node, kept: Kept, over: Iterable[int]) -> None:
    """A reduction over what stays."""
    found = hidden(node, kept, over)
    if found is None:
        return
    ones, share = found
    op, x = builder(twin), twin.operand(0)
    if node.op in NEUTRAL:
        neutral = Dense(np.asarray(NEUTRAL[node.op], ones.dtype.numpy), ones.dtype)
        twin.set_input(0, op.Where(constant(ones.numpy() != 0), x, neutral))
        return
    factor = constant(ones)
    twin.set_input(0, op.Mul(x, op.Div(factor, share.of(ones.dtype)) if node.op == "ReduceMean" else factor))
