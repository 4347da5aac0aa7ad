"""Rotary positions in terms of products and sums, for opsets before 23."""

from __future__ import annotations

from ....ir import Builder, Node, Value
from .operands import known, shape_of


def rotary_embedding(node: Node, op: Builder) -> list[Value | None]:
    """Pairs of features rotated by an angle for each position (RotaryEmbedding-23)."""
    x, positions, shape = node.operand(0), node.input(3), shape_of(node.operand(0))
    packed, heads = len(shape) == 3, node.int("num_heads", 0)
    size = known(shape[-1], "the size of a head") // (heads if packed else 1)
    rotated = node.int("rotary_embedding_dim", 0) or size
    x4 = op.Reshape(x, [0, 0, heads, size]) if packed else x
    # The tables get the axis of the heads: the third one where heads are packed, else the second.
    tables = (v if positions is None else op.Gather(v, positions, axis=0) for v in (node.operand(1), node.operand(2)))
    cos, sin = (op.Unsqueeze(v, [2 if packed else 1]) for v in tables)
    moving = op.Slice(x4, [0], [rotated], [3]) if rotated < size else x4
    if node.int("interleaved", 0):
        a, b = (op.Slice(moving, [start], [rotated], [3], [2]) for start in (0, 1))
    else:
        a, b = op.Split(moving, [rotated // 2, rotated // 2], axis=3, outputs=2)
    real = op.Sub(op.Mul(cos, a), op.Mul(sin, b))
    imaginary = op.Add(op.Mul(sin, a), op.Mul(cos, b))
    if node.int("interleaved", 0):
        pairs = op.Concat(op.Unsqueeze(real, [4]), op.Unsqueeze(imaginary, [4]), axis=4)
        turned = op.Reshape(pairs, [0, 0, 0, rotated])
    else:
        turned = op.Concat(real, imaginary, axis=3)
    if rotated < size:
        turned = op.Concat(turned, op.Slice(x4, [rotated], [size], [3]), axis=3)
    return [op.Reshape(turned, [0, 0, heads * size]) if packed else turned]
