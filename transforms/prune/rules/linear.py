"""Operators that multiply by a weight and sum over channels.

A sum over an axis may lose terms when these are zero in the masked graph, which one masked operand is enough for.
"""

from __future__ import annotations

import numpy as np

from ....ir import Node, Value
from ..atoms import UNIT, Ids
from ..axes import AxisMap, Layer, shape, spread, static
from ..kept import Kept
from .row import Rule

SPATIAL = "positions in space are neighbours of each other"
COMPUTED = "both of its operands are computed, and removed channels of neither are zero"


def contract(node: Node, axes: AxisMap, a: tuple[Value, int], b: tuple[Value, int]) -> None:
    """Ties the axes that are summed over; frozen where the removed terms of the sum would not be zero."""
    axes.atoms.tie(axes[a], axes[b])
    if a[0] not in axes.quiet and b[0] not in axes.quiet:
        axes.freeze(axes[a], node, COMPUTED)
        axes.freeze(axes[b], node, COMPUTED)


def freeze_space(node: Node, axes: AxisMap, *values: Value) -> None:
    for value in values:
        axes.freeze_axes(value, range(2, len(shape(value))), node, SPATIAL)


ENOUGH_POSITIONS = 4
"""From so many channels in a group on the same ones of every group are removed: a share of fewer is no share."""


def whole_groups(channels: int, groups: int) -> bool:
    """Whether a grouped convolution loses whole groups, rather than the same positions in every group.

    Both are exact, and as many channels go. Positions take their share of each group's inputs along. A depthwise
    convolution has one channel a group.
    """
    return channels // groups < min(groups, ENOUGH_POSITIONS)


def conv(node: Node, axes: AxisMap) -> None:
    """X.1 = W.1, Y.1 = W.0 = B.0 (Conv-22). Grouped: see `grouped`."""
    x, w, b = node.operand(0), node.operand(1), node.input(2)
    groups = node.int("group", 1)
    freeze_space(node, axes, x, w)
    if groups == 1:
        contract(node, axes, (x, 1), (w, 1))
    else:
        grouped(node, axes, x, w, groups)
    finish(node, axes, axes[w, 0])
    axes.hush(node.output, w in axes.quiet and (b is None or b in axes.quiet) and not axes.is_active(axes[x, 0]))


def grouped(node: Node, axes: AxisMap, x: Value, w: Value, groups: int) -> None:
    """X.1 as (group, i) and W.0 as (group, o): whole groups are tied, or equal positions across the groups, where W.1 =
    i.
    """
    channels, outgoing = static(x, 1), static(w, 0)
    incoming = spread(axes[x, 1], channels).reshape(groups, -1)
    outputs = spread(axes[w, 0], outgoing).reshape(groups, -1)
    if whole_groups(channels, groups):
        axes.atoms.tie(incoming, incoming[:, :1])
        axes.atoms.tie(outputs, incoming[:, :1])
        axes.freeze(axes[w, 1], node, "whole groups of the convolution are removed")
    else:
        axes.atoms.tie(incoming, axes[w, 1])
        axes.atoms.tie(outputs, outputs[:1])
        if x not in axes.quiet and w not in axes.quiet:
            axes.freeze(axes[w, 1], node, COMPUTED)


def conv_transpose(node: Node, axes: AxisMap) -> None:
    """X.1 = W.0, Y.1 = W.1 = B.0 (ConvTranspose-22); with groups W.1 holds the outputs of one group."""
    x, w, b = node.operand(0), node.operand(1), node.input(2)
    groups = node.int("group", 1)
    freeze_space(node, axes, x, w)
    contract(node, axes, (x, 1), (w, 0))
    outputs = axes[w, 1]
    if groups > 1:
        channels, per_group = static(x, 1), static(w, 1)
        incoming = spread(axes[x, 1], channels).reshape(groups, -1)
        if whole_groups(channels, groups):
            axes.atoms.tie(incoming, incoming[:, :1])
            axes.freeze(outputs, node, "whole groups of the convolution are removed")
            outputs = np.repeat(incoming[:, 0], per_group)
        else:
            axes.atoms.tie(incoming, incoming[:1])
            outputs = np.tile(spread(outputs, per_group), groups)
    finish(node, axes, outputs)
    axes.hush(node.output, w in axes.quiet and (b is None or b in axes.quiet) and not axes.is_active(axes[x, 0]))


def finish(node: Node, axes: AxisMap, outputs: Ids) -> None:
    """Ties the bias and binds the result of a convolution."""
    x, b = node.operand(0), node.input(2)
    if b is not None:
        outputs = axes.tie(outputs, axes[b, 0])
    space = axes.frozen(node, SPATIAL)
    axes.bind(node.output, [axes[x, 0], outputs, *[space] * (len(shape(x)) - 2)])
    axes.layers.append(Layer(node, 1, follows=follows(node)))


def follows(node: Node) -> bool:
    """True for a convolution whose groups go as a whole."""
    groups = node.int("group", 1)
    return groups > 1 and whole_groups(static(node.operand(0), 1), groups)


def is_weight(value: Value) -> bool:
    """True for a constant, stored plainly or dequantized."""
    node = value.node
    return value.is_const or (
        node is not None and bool(node.inputs) and all(v is None or v.is_const for v in node.inputs)
    )


def regroup(node: Node, kept: Kept) -> None:
    """The number of groups, where whole ones went away."""
    x, groups = node.operand(0), node.int("group", 1)
    left = kept.indices(x, 1)
    if groups > 1 and left is not None:
        channels = static(x, 1)
        if whole_groups(channels, groups):
            node.attrs["group"] = int(left.size) // (channels // groups)


def gemm(node: Node, axes: AxisMap) -> None:
    """A' B' + C with A' = (M, K), B' = (K, N) after the optional transpositions; C broadcasts to (M, N) (Gemm-13)."""
    a, b, c = node.operand(0), node.operand(1), node.input(2)
    m, k = (1, 0) if node.int("transA") else (0, 1)
    k_b, n = (1, 0) if node.int("transB") else (0, 1)
    contract(node, axes, (a, k), (b, k_b))
    bound = [axes[a, m], axes[b, n]]
    if c is not None:
        for axis in range(-len(shape(c)), 0):
            if shape(c)[axis] != 1:
                bound[axis] = axes.tie(bound[axis], axes[c, axis])
    axes.bind(node.output, bound)
    axes.layers.append(Layer(node, 1))
    biased = c is None or (c in axes.quiet and len(shape(c)) > 0 and shape(c)[-1] != 1)
    axes.hush(node.output, b in axes.quiet and biased and not axes.is_active(axes[a, m]))


def matmul(node: Node, axes: AxisMap) -> None:
    """(..., M, K) (..., K, N): the contraction is tied, M and N pass, leading axes broadcast (MatMul-13,
    numpy.matmul).
    """
    a, b = node.operand(0), node.operand(1)
    rank_a, rank_b = len(shape(a)), len(shape(b))
    contract(node, axes, (a, -1), (b, max(-2, -rank_b)))
    rows = [axes[a, -2]] if rank_a > 1 else []
    columns = [axes[b, -1]] if rank_b > 1 else []
    leading: list[Ids] = []
    for axis in range(-max(rank_a, rank_b), -2):
        spanning = [axes[v, axis] for v, r in ((a, rank_a), (b, rank_b)) if -axis <= r and shape(v)[axis] != 1]
        leading.append(spanning[0] if spanning else axes.atoms.frozen(UNIT))
        if len(spanning) == 2:
            leading[-1] = axes.tie(*spanning)
    axes.bind(node.output, [*leading, *rows, *columns])
    if columns and is_weight(b):
        axes.layers.append(Layer(node, len(shape(node.output)) - 1))
    needed = [(rows, a), (columns, b), (leading, a), (leading, b)]
    axes.hush(node.output, all(v in axes.quiet or not any(map(axes.is_active, ids)) for ids, v in needed))


ROWS: dict[str, Rule] = {
    "Conv": Rule(conv, regroup),
    "ConvTranspose": Rule(conv_transpose, regroup),
    "Gemm": Rule(gemm),
    "MatMul": Rule(matmul),
}
