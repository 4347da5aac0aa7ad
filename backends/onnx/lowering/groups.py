"""GroupNormalization with a scale for each group, as versions 18 to 20 had it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, Node, Value, constant
from .form import Form
from .norms import group_normalization
from .operands import known, shape_of


def is_per_channel(node: Node) -> bool:
    """True where there are more scales than groups, which no version before 21 had."""
    return node.operand(1).shape != (node.int("num_groups"),)


def per_group(node: Node, op: Builder) -> Sequence[Value | None]:
    """With the scales of the groups, where those of the channels are gathered from them (GroupNormalization-21)."""
    groups = node.int("num_groups")
    channels = known(shape_of(node.operand(0))[1], "the number of channels")
    group_of = np.repeat(np.arange(groups), channels // groups)
    vectors = [_before_gather(node.operand(i), group_of) for i in (1, 2)]
    if any(v is None for v in vectors):
        return group_normalization(node, op)
    return [op.GroupNormalization(node.operand(0), *vectors, **node.attrs)]


def _before_gather(vector: Value, index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Value | None:
    """What a vector is gathered from with just this index."""
    gather = vector.node
    if gather is None or gather.op != "Gather" or gather.domain or gather.int("axis", 0):
        return None
    found = gather.operand(1).const
    return gather.operand(0) if found is not None and np.array_equal(found.numpy(), index) else None


def from_groups(node: Node, op: Builder) -> Sequence[Value | None]:
    """The scales of groups repeated for their channels, where there is no such operator (GroupNormalization-18)."""
    groups, channels = node.int("num_groups"), known(shape_of(node.operand(0))[1], "the number of channels")
    wide = constant(np.array([groups, channels // groups]))
    vectors = [op.Reshape(op.Expand(op.Unsqueeze(node.operand(i), [1]), wide), [-1]) for i in (1, 2)]
    return [op.GroupNormalization(node.operand(0), *vectors, **node.attrs)]


def without_precision(form: Form) -> None:
    """It was computed in the type of its operands (GroupNormalization-21)."""
    form.attrs.pop("stash_type", None)
