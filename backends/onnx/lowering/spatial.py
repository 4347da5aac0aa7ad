"""Pixels and channels in terms of older operators."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, Value, constant
from .operands import known, shape_of


def depth_to_space(node: Node, op: Builder) -> list[Value | None]:
    """Blocks of channels as pixels, where the block is the faster part of the channel (DepthToSpace-11, mode CRD).

    With at most one open size of the image a Transpose between two Reshapes copies once; otherwise the channels are put
    in the order of the older mode.
    """
    x, block = node.operand(0), node.int("blocksize")
    _, channels, height, width = shape_of(x)
    count = known(channels, "the number of channels") // block**2
    size = [d if isinstance(d, int) else -1 for d in (height, width)]
    if size.count(-1) < 2 and 0 not in size:
        parts = op.Reshape(x, [0, count, block, block, *size])
        grown = [d * block if d > 0 else -1 for d in size]
        return [op.Reshape(op.Transpose(parts, perm=[0, 1, 4, 2, 5, 3]), [0, count, *grown])]
    order = np.arange(count * block**2, dtype=np.int64).reshape(count, block**2).T.reshape(-1)
    return [op.DepthToSpace(op.Gather(x, constant(order), axis=1), blocksize=block)]


def is_channel_first(node: Node) -> bool:
    return node.str("mode") == "CRD"
