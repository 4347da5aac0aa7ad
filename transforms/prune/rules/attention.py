"""Scaled dot-product attention and rotary embeddings: heads, and the dimensions of a head.

A packed operand (batch, length, heads * dimensions) loses either whole heads or the same dimensions in every head: see
`whole_heads`.
"""

from __future__ import annotations

import math

import numpy as np

from ....ir import Node, Value
from ..atoms import Ids
from ..axes import AxisMap, Frozen, shape, spread, static
from ..kept import Kept
from .linear import COMPUTED
from .row import Rule

QUERY, KEY, VALUE, MASK, PAST_KEY, PAST_VALUE, LENGTHS = range(7)
POSITIONS = "positions attend to each other"
POLICY = {True: "whole heads are removed", False: "the same dimensions of every head are removed"}
"""Why the other axis stays, by whether whole heads go."""

ENOUGH_HEADS = 4
"""From so many heads (of keys and values) on whole ones are removed: a share of fewer is no share."""


def whole_heads(axes: AxisMap, heads: int) -> bool:
    """Whether packed operands lose whole heads, rather than the same dimensions in every head, where nobody says.

    Both are exact. Whole heads leave sizes that runtimes are fast with, and rotary tables alone.
    """
    return heads >= ENOUGH_HEADS if axes.heads == "auto" else axes.heads == "heads"


def attention(node: Node, axes: AxisMap) -> None:
    """softmax(scale Q K' + mask) V over the last two axes of (batch, heads, length, dimensions) (Attention-24).

    Dimensions of queries and keys are tied, those of values pass, and so do heads; a head of keys and values goes with
    the heads of queries that share it. Keys and values of earlier calls are put in front, at the same heads and
    dimensions.
    """
    query, key, value, mask = (node.input(i) for i in (QUERY, KEY, VALUE, MASK))
    if len(node.outputs) > 3 and node.outputs[3].users:
        raise Frozen("somebody reads how positions attend to each other")
    assert query is not None
    assert key is not None
    assert value is not None
    rank = len(shape(query))
    for operand in (query, key, value):
        axes.freeze_axes(operand, [rank - 2 if rank == 4 else 1], node, POSITIONS)
        axes.tie(axes[query, 0], axes[operand, 0])
    own, shared = head_count(node, query, "q_num_heads"), head_count(node, key, "kv_num_heads")
    of_query, of_key, of_value = (table(node, axes, v, n) for v, n in ((query, own), (key, shared), (value, shared)))
    axes.attention[node] = of_query[1 if axes.heads == "dims" else 0]
    keep_earlier(node, axes, of_key, of_value)
    share_heads(axes, of_query[0], of_key[0], of_value[0])
    contract_dimensions(node, axes, of_query[1], of_key[1])
    if mask is not None:
        tie_mask(node, axes, of_query[0], mask)
    if rank == 4:
        axes.bind(node.output, [axes[query, 0], of_query[0], axes[query, 2], of_value[1]])
    elif whole_heads(axes, shared):
        packed = np.repeat(spread(of_query[0], own), static(value, 2) // shared)
        axes.bind(node.output, [axes[query, 0], axes[query, 1], packed])
    else:
        packed = of_value[1] if of_value[1].ndim == 0 else np.tile(of_value[1], own)
        axes.bind(node.output, [axes[query, 0], axes[query, 1], packed])
    earlier = node.input(PAST_VALUE)
    axes.hush(node.output, value in axes.quiet and (earlier is None or earlier in axes.quiet))


def head_count(node: Node, value: Value, attribute: str) -> int:
    return static(value, 1) if len(shape(value)) == 4 else node.int(attribute)


def table(node: Node, axes: AxisMap, value: Value, heads: int) -> tuple[Ids, Ids]:
    """The vectors of heads and of dimensions; of a packed operand one of them is frozen, and where the user says which
    go the others are.
    """
    whole = whole_heads(axes, node.int("kv_num_heads", heads))
    if len(shape(value)) == 4:
        if axes.heads != "auto":
            axes.freeze_axes(value, [3 if whole else 1], node, POLICY[whole])
        return axes[value, 1], axes[value, 3]
    ids = packed_heads(axes, value, heads, whole)
    frozen = axes.frozen(node, POLICY[whole])
    return (ids, frozen) if whole else (frozen, ids)


def packed_heads(axes: AxisMap, value: Value, heads: int, whole: bool) -> Ids:
    """Ties the dimensions within each head, or over the heads; the vector of what is left to choose from."""
    rows = spread(axes[value, 2], static(value, 2)).reshape(heads, -1)
    axes.atoms.tie(rows, rows[:, :1] if whole else rows[:1])
    return (rows[:, 0] if whole else rows[0]).copy()


def keep_earlier(node: Node, axes: AxisMap, of_key: tuple[Ids, Ids], of_value: tuple[Ids, Ids]) -> None:
    """Ties what earlier calls kept, (batch, heads, length, dimensions), with what this call adds, and binds what it
    hands on.
    """
    for index, of_operand in ((PAST_KEY, of_key), (PAST_VALUE, of_value)):
        past = node.input(index)
        if past is not None:
            axes.freeze_axes(past, [2], node, POSITIONS)
            axes.tie(axes[node.operand(QUERY), 0], axes[past, 0])
            axes.tie(of_operand[0], axes[past, 1])
            axes.tie(of_operand[1], axes[past, 3])
    if (lengths := node.input(LENGTHS)) is not None:
        axes.freeze_axes(lengths, [0], node, POSITIONS)
    positions = axes.frozen(node, POSITIONS)
    for output, (heads, dimensions) in zip(node.outputs[1:3], (of_key, of_value), strict=False):
        axes.bind(output, [axes[node.operand(QUERY), 0], heads, positions, dimensions])


def contract_dimensions(node: Node, axes: AxisMap, of_query: Ids, of_key: Ids) -> None:
    """Ties the dimensions of queries and keys, whose products are summed."""
    axes.tie(of_query, of_key)
    if node.operand(QUERY) not in axes.quiet and node.operand(KEY) not in axes.quiet:
        axes.freeze(of_query, node, COMPUTED)
        axes.freeze(of_key, node, COMPUTED)


def share_heads(axes: AxisMap, query: Ids, key: Ids, value: Ids) -> None:
    """Ties each head of keys and values with the heads of queries that use it, next to each other."""
    axes.tie(key, value)
    shared = key if key.ndim else value
    if query.ndim and shared.ndim:
        axes.atoms.tie(query.reshape(shared.size, -1), shared[:, None])
    else:
        axes.atoms.tie(query, shared)


def tie_mask(node: Node, axes: AxisMap, heads: Ids, mask: Value) -> None:
    """The mask (..., heads, queries, keys) broadcasts."""
    sizes = shape(mask)
    axes.freeze_axes(mask, [a for a in (-2, -1) if -a <= len(sizes)], node, POSITIONS)
    if len(sizes) > 2 and sizes[-3] != 1:
        axes.tie(heads, axes[mask, -3])
    if len(sizes) > 3 and sizes[-4] != 1:
        axes.tie(axes[node.operand(QUERY), 0], axes[mask, -4])


def fewer_heads(node: Node, kept: Kept) -> None:
    """States the scale that the original number of dimensions implies, and the heads that are left."""
    query = node.operand(QUERY)
    left = kept.indices(query, len(shape(query)) - 1)
    if len(shape(query)) == 4:
        if left is not None:
            keep_scale(node, static(query, -1))
        return
    size = static(query, 2) // node.int("q_num_heads")
    shared = node.int("kv_num_heads")
    if not whole_heads(kept.axes, shared):
        if left is not None:
            keep_scale(node, size)
        return
    for operand, attribute in ((query, "q_num_heads"), (node.operand(KEY), "kv_num_heads")):
        node.attrs[attribute] = still(kept, operand, node.int(attribute))


def still(kept: Kept, packed: Value, heads: int) -> int:
    """How many whole heads are left of a packed operand."""
    left = kept.indices(packed, 2)
    return heads if left is None else int(left.size) * heads // static(packed, 2)


def keep_scale(node: Node, size: int) -> None:
    if "scale" not in node.attrs:
        node.attrs["scale"] = float(str(np.float32(1 / math.sqrt(size))))


def rotary(node: Node, axes: AxisMap) -> None:
    """Turns pairs of dimensions by the angles of a position (RotaryEmbedding-23): a pair goes as a whole, and its
    column of the tables with it. Of packed operands whole heads go, and the tables stay.
    """
    x, tables = node.operand(0), (node.operand(1), node.operand(2))
    packed = len(shape(x)) == 3
    heads = node.int("num_heads") if packed else static(x, 1)
    axes.freeze_axes(x, [1 if packed else 2], node, "its positions are those of the tables")
    if packed and whole_heads(axes, turned_heads(node, heads)):
        packed_heads(axes, x, heads, whole=True)
        for table in tables:
            axes.freeze_axes(table, [-1], node, POLICY[True])
    else:
        ids = packed_heads(axes, x, heads, whole=False) if packed else spread(axes[x, 3], static(x, 3))
        first, second = halves(node, ids)
        axes.atoms.tie(first, second)
        for table in tables:
            axes.atoms.tie(first, axes[table, -1])
    for table in tables:
        axes.freeze_axes(table, range(len(shape(table)) - 1), node, "its positions are those of the tables")
    axes.bind(node.output, axes.of(x))
    axes.hush(node.output, x in axes.quiet)


def turned_heads(node: Node, heads: int) -> int:
    """The heads of keys in the Attention that reads the result, so that both decide alike."""
    found = [user.int("kv_num_heads", heads) for user in node.output.users if user.op == "Attention"]
    return min(found, default=heads)


def halves(node: Node, ids: Ids) -> tuple[Ids, Ids]:
    """The two dimensions of each pair that is turned."""
    turned = ids[: node.int("rotary_embedding_dim") or ids.size]
    half = turned.size // 2
    return (turned[0::2], turned[1::2]) if node.int("interleaved") else (turned[:half], turned[half:])


def fewer_turned(node: Node, kept: Kept) -> None:
    """The heads and the turned dimensions that are left."""
    x = node.operand(0)
    packed, turned = len(shape(x)) == 3, node.int("rotary_embedding_dim")
    heads = node.int("num_heads", 0)
    if packed and whole_heads(kept.axes, turned_heads(node, heads)):
        node.attrs["num_heads"] = still(kept, x, heads)
        return
    left = kept.indices(x, len(shape(x)) - 1)
    if left is not None and turned:
        size = static(x, -1) // heads if packed else static(x, -1)
        node.attrs["rotary_embedding_dim"] = int((left[left < size] < turned).sum())


ROWS: dict[str, Rule] = {
    "Attention": Rule(attention, fewer_heads),
    "RotaryEmbedding": Rule(rotary, fewer_turned),
}
