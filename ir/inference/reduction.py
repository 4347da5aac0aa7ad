"""Operators that reduce axes, and those that normalise along axes and report statistics of them."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Node
from ..types import Shape
from .contents import Contents
from .operands import (
    Answer,
    Mismatch,
    Partial,
    Rule,
    Unknown,
    normalized_axes,
    normalized_axis,
    shape_of,
    shape_or_none,
    vector_length,
)

REDUCTIONS = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
]  # fmt: skip


def reduced(shape: Shape, axes: Iterable[int], keep: bool) -> Partial:
    """A shape with `axes` (from the front) replaced by 1, or without them."""
    gone = set(axes)
    if keep:
        return tuple(1 if i in gone else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in gone)


def reduce(node: Node, contents: Contents) -> Answer:
    """The axes in the second operand; all where there are none, unless `noop_with_empty_axes` is set (ReduceSum-13)."""
    keep = bool(node.int("keepdims"))
    shape = shape_or_none(node.operand(0))
    axes = () if node.input(1) is None else contents.integers(node.input(1))
    if axes == () and shape is None and not keep and not node.int("noop_with_empty_axes"):
        return ()
    shape = shape_of(node, 0)
    if axes is None:
        return _unknown_axes(node, len(shape), keep)
    if not axes:
        return shape if node.int("noop_with_empty_axes") else reduced(shape, range(len(shape)), keep)
    return reduced(shape, normalized_axes(axes, len(shape)), keep)


def _unknown_axes(node: Node, rank: int, keep: bool) -> Partial:
    if keep:
        return (None,) * rank
    count = vector_length(node.input(1))
    if not count or count > rank:
        raise Unknown
    return (None,) * (rank - count)


def arg_reduce(node: Node, contents: Contents) -> Answer:
    """One axis is reduced to the index of an element (ArgMax-13, ArgMin-13)."""
    shape = shape_of(node, 0)
    return reduced(shape, [normalized_axis(node.int("axis"), len(shape))], bool(node.int("keepdims")))


def layer_normalization(node: Node, contents: Contents) -> list[Answer]:
    """Statistics have size 1 from `axis` on (LayerNormalization-17)."""
    shape = shape_of(node, 0)
    axis = normalized_axis(node.int("axis"), len(shape))
    statistics = (*shape[:axis], *(1,) * (len(shape) - axis))
    return [shape, statistics, statistics]


def batch_normalization(node: Node, contents: Contents) -> list[Answer]:
    """The output is shaped as the input, running statistics as the given ones (BatchNormalization-15)."""
    return [shape_or_none(node.operand(0)), shape_or_none(node.input(3)), shape_or_none(node.input(4))]


def negative_log_likelihood_loss(node: Node, contents: Contents) -> Answer:
    """The targets' shape, or a scalar (NegativeLogLikelihoodLoss-22)."""
    return shape_of(node, 1) if node.str("reduction") == "none" else ()


def softmax_cross_entropy_loss(node: Node, contents: Contents) -> list[Answer]:
    """The labels' shape or a scalar, and the scores' logarithms (SoftmaxCrossEntropyLoss-13)."""
    loss = shape_or_none(node.operand(1)) if node.str("reduction") == "none" else ()
    return [loss, shape_or_none(node.operand(0))]


def determinant(node: Node, contents: Contents) -> Answer:
    """One number per square matrix (Det-22)."""
    shape = shape_of(node, 0)
    if len(shape) < 2:
        raise Mismatch("matrices", f"rank {len(shape)}")
    return shape[:-2]


RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, reduce),
    "ArgMax": arg_reduce,
    "ArgMin": arg_reduce,
    "BatchNormalization": batch_normalization,
    "Det": determinant,
    "LayerNormalization": layer_normalization,
    "NegativeLogLikelihoodLoss": negative_log_likelihood_loss,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy_loss,
}
