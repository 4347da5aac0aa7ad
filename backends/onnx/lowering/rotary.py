"""Rotary positions for opsets before 23; queries and keys of one attention that turn alike are rotated together."""

from __future__ import annotations

from ....ir import Builder, Node, Value
from .attention import attention
from .heads import MASK, K, Q
from .operands import drop_unused, shape_of
from .rotation import rotation_of, same_rotation


def rotary_embedding(node: Node, op: Builder) -> list[Value | None]:
    """Pairs of features rotated by an angle for each position (RotaryEmbedding-23)."""
    x, rotation = node.operand(0), rotation_of(node)
    if len(shape_of(x)) == 4:
        return [rotation.apply(op, x, 1)]
    user = shared_attention(node)
    if user is not None:
        write_attention(op, user, node)
        return [None]
    heads = node.int("num_heads")
    turned = rotation.apply(op, op.Reshape(x, [0, 0, heads, rotation.size]), 2)
    return [op.Reshape(turned, [0, 0, heads * rotation.size])]


def shared_attention(node: Node) -> Node | None:
    """The attention whose packed queries and keys `node` and another one rotate alike, and nobody else asks for."""
    user = node.output.only_user
    if user is None or user.op != "Attention" or user.domain:
        return None
    both = [user.operand(i).node for i in (Q, K)]
    if node not in both or any(n is None or n.op != "RotaryEmbedding" or n.domain for n in both):
        return None
    query, key = both
    assert query is not None
    assert key is not None
    if query is key or not all(n.output.only_user is user and n.operand(0).rank == 3 for n in (query, key)):
        return None
    return user if same_rotation(query, key) else None


def write_attention(op: Builder, node: Node, rotation: Node) -> None:
    """Writes out an attention that stands further on, and takes it and its other rotation than `rotation` away."""
    builder = Builder(op.graph, node, infer=op.infer, loc=node.loc)
    for old, new in zip(node.outputs, attention(node, builder), strict=True):
        if new is not None and old.users:
            new.name = new.name or old.name
            old.replace_by(new)
    both, masks = [node.operand(i).node for i in (Q, K)], node.inputs[MASK:]
    node.erase()
    drop_unused(masks)
    for other in both:
        if other is not None and other is not rotation:
            other.erase()
    op.new += builder.new
