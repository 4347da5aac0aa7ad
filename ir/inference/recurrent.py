"""Recurrent layers and attention."""

from __future__ import annotations

from ..dims import Size, floordiv
from ..graph import Node
from ..types import Shape
from .contents import Contents
from .operands import Answer, Mismatch, Rule, Unknown, agree, shape_of, shape_of_rank, shape_or_none, volume


def recurrent(node: Node, contents: Contents) -> list[Answer]:
    """All hidden states, the last hidden state, and for LSTM the last cell state (LSTM-22, GRU-22, RNN-22).

    With layout 0 [length, directions, batch, hidden] and [directions, batch, hidden]; with 1 the batch comes first.
    """
    x = shape_or_none(node.operand(0))
    if x is not None and len(x) != 3:
        raise Mismatch("an input of rank 3", f"rank {len(x)}")
    weight = shape_or_none(node.operand(2))
    hidden: Size | None = node.int("hidden_size", 0) or (weight[-1] if weight else None)
    directions = 2 if node.str("direction", "forward") == "bidirectional" else 1
    if node.int("layout", 0):
        batch, length = (None, None) if x is None else (x[0], x[1])
        last = (batch, directions, hidden)
        return [(batch, length, directions, hidden), last, last]
    length, batch = (None, None) if x is None else (x[0], x[1])
    last = (directions, batch, hidden)
    return [(length, directions, batch, hidden), last, last]


def attention(node: Node, contents: Contents) -> list[Answer]:
    """Output, the key and value caches after the step, and the scores (Attention-25).

    Operands are [batch, heads, length, head] or [batch, length, heads * head]; caches are always of rank 4.
    """
    query, key, value = (shape_of(node, i) for i in range(3))
    if not len(query) == len(key) == len(value) or len(query) not in (3, 4):
        raise Mismatch("query, key and value of rank 3 or 4", ", ".join(str(len(s)) for s in (query, key, value)))
    flat = len(query) == 3
    query_heads, length, _ = _heads(node, query, "q_num_heads")
    key_heads, new, key_head = _heads(node, key, "kv_num_heads")
    _, _, value_head = _heads(node, value, "kv_num_heads")
    past = _cached(node, 4)
    total = None if past is None else new + past
    batch = query[0]
    agree([key[0], value[0], batch], "batches of")
    width = value[-1] if query_heads == key_heads else volume([query_heads, value_head])
    return [
        (batch, length, width) if flat else (batch, query_heads, length, value_head),
        (batch, key_heads, total, key_head),
        (batch, key_heads, total, value_head),
        (batch, query_heads, length, total),
    ]


def _heads(node: Node, shape: Shape, attribute: str) -> tuple[Size, Size, Size]:
    """Number of heads, sequence length and head dimension."""
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    heads = node.int(attribute, 0)
    if heads < 1:
        raise Unknown
    if isinstance(shape[2], int) and shape[2] % heads:
        raise Mismatch(f"a width that {heads} heads divide", str(shape[2]))
    return heads, shape[1], floordiv(shape[2], heads)


def _cached(node: Node, index: int) -> Size | None:
    """The length of a cache that is given; 0 without one."""
    if node.input(index) is None:
        return 0
    return None if shape_or_none(node.input(index)) is None else shape_of_rank(node, index, 4)[2]


RULES: dict[str, Rule] = {"Attention": attention, "GRU": recurrent, "LSTM": recurrent, "RNN": recurrent}
