"""Scaled dot-product attention."""

from __future__ import annotations

import math

import numpy as np

from ....ir import Node, Value
from ..atoms import Ids
from ..axes import AxisMap, Frozen, shape, spread, static
from ..kept import Kept
from .layout import split
from .linear import COMPUTED
from .row import Rule

QUERY, KEY, VALUE, MASK = range(4)
POSITIONS = "positions attend to each other"


def attention(node: Node, axes: AxisMap) -> None:
    """softmax(scale Q K' + mask) V over the last two axes of (batch, heads, length, dimensions) (Attention-24).

    Dimensions of queries and keys are tied, those of values pass, and so do heads; a head of keys and values goes with
    the heads of queries that share it. Of the packed form (batch, length, heads * dimensions) dimensions alone go, at
    the same places in every head.
    """
    query, key, value, mask = (node.input(i) for i in (QUERY, KEY, VALUE, MASK))
    if any(v is not None for v in node.inputs[MASK + 1 :]) or any(v.users for v in node.outputs[1:]):
        raise Frozen("it keeps keys and values of earlier calls")
    assert query is not None
    assert key is not None
    assert value is not None
    rank = len(shape(query))
    for operand in (query, key, value):
        axes.freeze_axes(operand, [rank - 2 if rank == 4 else 1], node, POSITIONS)
    axes.tie(axes[query, 0], axes[key, 0])
    axes.tie(axes[query, 0], axes[value, 0])
    contracted(node, axes, query, key)
    if rank == 4:
        heads = share_heads(node, axes, query, (key, value), mask)
        axes.bind(node.output, [axes[query, 0], heads, axes[query, 2], axes[value, 3]])
    else:
        of_value = dimensions(node, axes, value, node.int("kv_num_heads"))
        packed = of_value if of_value.ndim == 0 else np.tile(of_value, node.int("q_num_heads"))
        axes.bind(node.output, [axes[query, 0], axes[query, 1], packed])
    if mask is not None:
        axes.freeze_axes(mask, [a for a in (-2, -1) if -a <= len(shape(mask))], node, POSITIONS)
    axes.hush(node.output, value in axes.quiet)


def contracted(node: Node, axes: AxisMap, query: Value, key: Value) -> None:
    """Ties the dimensions of queries and keys, whose products are summed."""
    a = dimensions(node, axes, query, node.int("q_num_heads", 0))
    b = dimensions(node, axes, key, node.int("kv_num_heads", 0))
    axes.tie(a, b)
    if query not in axes.quiet and key not in axes.quiet:
        axes.freeze(a, node, COMPUTED)
        axes.freeze(b, node, COMPUTED)


def dimensions(node: Node, axes: AxisMap, value: Value, heads: int) -> Ids:
    """The dimensions of one head; those of a packed operand are tied over its heads."""
    if len(shape(value)) == 4:
        return axes[value, 3]
    return split(node, axes, axes[value, 2], (heads, static(value, 2) // heads), want=1)[1]


def share_heads(node: Node, axes: AxisMap, query: Value, others: tuple[Value, Value], mask: Value | None) -> Ids:
    """Ties each head of keys and values with the heads of queries that use it, next to each other."""
    heads, shared = static(query, 1), static(others[0], 1)
    table = spread(axes[query, 1], heads).reshape(shared, -1)
    for other in others:
        axes.atoms.tie(table, spread(axes[other, 1], shared)[:, None])
    if mask is not None:
        for axis in range(-len(shape(mask)), -2):
            if shape(mask)[axis] != 1:
                axes.tie(axes[query, axis], axes[mask, axis])
    return axes[query, 1]


def keep_scale(node: Node, kept: Kept) -> None:
    """States the scale that the original number of dimensions implies, and the heads that are left."""
    query = node.operand(QUERY)
    packed = len(shape(query)) == 3
    size = static(query, -1) // (node.int("q_num_heads") if packed else 1)
    if "scale" not in node.attrs and kept.indices(query, len(shape(query)) - 1) is not None:
        node.attrs["scale"] = float(str(np.float32(1 / math.sqrt(size))))


ROWS: dict[str, Rule] = {"Attention": Rule(attention, keep_scale)}
