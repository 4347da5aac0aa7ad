"""Masks that hide later keys from every query become Attention's is_causal.

A query at place i sees the keys at the places j <= i, behind all of those of earlier calls: comparisons of counted
places, lower triangles by Trilu or as constants, alone or combined with another mask. The first key is seen by all
queries, so that no row is hidden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....backends.onnx.lowering.masks import READ, magnitude, may_hide_rows
from ....ir import Array, Builder, DType, Node, Placeholder, Size, Tensor, Value
from ....ir.rewrite import Result, decline, rule
from .parts import number, unshaped

HIDES = -1e30
"""A finite number up to which a score next to it means nothing."""

MASK, PAST_KEY, VALID = 3, 4, 6
COMPARISONS = {
    "LessOrEqual": (-1, -2, True),
    "GreaterOrEqual": (-2, -1, True),
    "Greater": (-1, -2, False),
    "Less": (-2, -1, False),
}
"""Along which axes its operands count places, keys -1 and queries -2, and whether it tells what is seen or hidden."""

COMBINE = frozenset(["Add", "And", "Cast", "Expand", "Not", "Or", "Reshape", "Squeeze", "Unsqueeze", "Where"])


@rule("Attention")
def raise_causal(op: Builder, node: Node) -> Result:
    """A mask that hides later keys, by itself or with another one, is is_causal."""
    mask, query, past = node.input(MASK), node.operand(0), node.input(PAST_KEY)
    if mask is None or node.int("is_causal") or node.input(VALID) is not None:
        return decline("it has no mask, or more than that")
    if query.shape is None or node.operand(1).shape is None or not mask.shape or (past is not None and not past.shape):
        return decline("a shape is not known")
    before = 0 if past is None or past.shape is None else past.shape[2]
    found = Later(op, before).split(mask)
    if found is None:
        return decline("its mask is not known to hide later keys")
    causal, rest = found
    axis = 1 if query.rank == 3 else 2
    lengths = [v.shape[axis] if v.shape is not None else 0 for v in (query, node.operand(1))]
    if mask.shape[-2:] != (lengths[0], before + lengths[1]):
        return decline("its mask is not known to be for all queries and keys")
    if rest is not None and (not rest.shape or rest.shape[-1] != mask.shape[-1]):
        return decline("what is masked besides is not known to be as long as the keys")
    if not serves_masks(causal):
        return decline("what hides later keys is needed elsewhere")
    inputs = [*node.inputs[:MASK], rest, *node.inputs[MASK + 1 :]]
    while inputs[-1] is None:
        inputs.pop()
    made = op.node(node.op, inputs, {**node.attrs, "is_causal": 1}, outputs=len(node.outputs))
    assert isinstance(made, Node)
    return list(made.outputs)


def shows_first_key(op: Builder, mask: Value) -> bool:
    """True for a mask that hides later keys, and no others entirely."""
    found = Later(op).split(mask)
    return found is not None and (found[1] is None or not may_hide_rows(found[1]))


@dataclass(frozen=True)
class Later:
    """Recognizes what hides later keys, where there are so many keys of earlier calls."""

    op: Builder
    before: Size = 0

    def split(self, mask: Value) -> tuple[Value, Value | None] | None:
        """What hides later keys in a mask, and what is left of it (None: nothing); None where there is no such part."""
        if self.tells(mask) or self.low_of(mask) is not None:
            return mask, None
        node = mask.node
        if node is None or node.domain:
            return None
        if node.op in ("And", "Add"):
            for index in (0, 1):
                part, rest = node.operand(index), node.operand(1 - index)
                low = self.low_of(part)
                if self.tells(part) or (low is not None and outweighs(low, rest)):
                    return part, rest
        if node.op == "Where":
            seen, yes, no = (node.operand(i) for i in range(3))
            for later, chosen, other in ((False, yes, no), (True, no, yes)):
                low = number(other)
                if low is not None and outweighs(low, chosen) and self.tells(seen, later=later):
                    return seen, chosen
        return None

    def low_of(self, mask: Value) -> float | None:
        """The number for later keys in a mask of numbers that has 0 for the others; None where it is no such mask."""
        mask = unframed(mask)
        if mask.const is not None:
            array = None if self.before != 0 else triangle(mask)
            if array is None or array.dtype.kind != "f":
                return None
            later = array[np.triu_indices(len(array), 1)]
            low = float(later.max()) if len(later) else -math.inf
            return low if low <= HIDES and not np.tril(array).any() else None
        node = mask.node
        if node is None or node.domain or mask.dtype is None or not mask.dtype.is_float:
            return None
        if node.op == "Where":
            seen, yes, no = node.operand(0), number(node.operand(1)), number(node.operand(2))
            low = no if yes == 0 and self.tells(seen) else yes if no == 0 and self.tells(seen, later=True) else None
        elif node.op == "Trilu" and node.int("upper") and diagonal(node) == 1 and self.before == 0:
            low = filling(node.operand(0))
        else:
            return None
        return low if low is not None and low <= HIDES else None

    def tells(self, mask: Value, *, later: bool = False) -> bool:
        """True for booleans that are true for keys up to the place of the query, or for those behind it (`later`)."""
        mask = unframed(mask)
        if mask.dtype is not DType.BOOL or mask.rank is None:
            return False
        if mask.const is not None:
            array = None if self.before != 0 else triangle(mask)
            return array is not None and np.array_equal(array != later, np.tril(np.ones_like(array)))
        node = mask.node
        if node is None or node.domain:
            return False
        if node.op == "Not":
            return self.tells(node.operand(0), later=not later)
        if node.op in COMPARISONS:
            first, second, seen = COMPARISONS[node.op]
            return seen is not later and self.counts(node.operand(0), first) and self.counts(node.operand(1), second)
        source = node.operand(0) if node.op == "Cast" else mask
        made = source.node
        if made is None or made.op != "Trilu" or made.domain or self.before != 0 or filling(made.operand(0)) != 1:
            return False
        return bool(made.int("upper")) is later and diagonal(made) == (1 if later else 0)

    def counts(self, value: Value, axis: int) -> bool:
        """True for the places of the keys (axis -1) or the queries (axis -2) along this axis, counted from the end."""
        shape = value.shape
        if shape is None or len(shape) < -axis or any(s != 1 for i, s in enumerate(shape) if i != len(shape) + axis):
            return False
        value, start = unshaped(value), self.before if axis == -2 else 0
        node = value.node
        if node is not None and node.op == "Add" and not node.domain and start != 0:
            for index in (0, 1):
                if self.op.sizes(unshaped(node.operand(1 - index))) == (start,):
                    return self.is_range(unshaped(node.operand(index)), 0)
            return False
        return self.is_range(value, start)

    def is_range(self, value: Value, start: Size) -> bool:
        """True for start, start + 1, ..."""
        if value.const is not None:
            tensor = value.const
            if isinstance(tensor, Placeholder) or tensor.nbytes > READ or not tensor.dtype.is_integer or start != 0:
                return False
            return np.array_equal(tensor.numpy().reshape(-1), np.arange(tensor.count))
        node = value.node
        if node is None or node.op != "Range" or node.domain or value.dtype not in (DType.I64, DType.I32):
            return False
        first = number(node.operand(0))
        begins = first == start if first is not None else self.op.sizes(node.operand(0)) == (start,)
        return begins and number(node.operand(2)) == 1


def outweighs(low: float, other: Value) -> bool:
    """True where a number hides scores beside any of another mask."""
    return low == -math.inf or (low <= HIDES and magnitude(other) < -HIDES)


def triangle(mask: Value) -> Array | None:
    """The last two axes of a constant that is square and has no others."""
    tensor = mask.tensor
    if isinstance(tensor, Placeholder) or tensor.nbytes > READ or tensor.dtype.numpy.kind not in "fb":
        return None
    shape = tensor.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or any(size != 1 for size in shape[:-2]):
        return None
    return tensor.numpy().reshape(shape[-2:])


def diagonal(trilu: Node) -> float | None:
    """The diagonal from which on a Trilu keeps entries."""
    return 0 if trilu.input(1) is None else number(trilu.input(1))


def filling(value: Value) -> float | None:
    """The number that all entries of a tensor are."""
    node = value.node
    if value.const is not None:
        if (
            isinstance(value.const, Placeholder)
            or value.const.nbytes > READ
            or value.const.dtype.numpy.kind not in "fbiu"
        ):
            return None
        array = value.const.numpy()
        return float(array.flat[0]) if array.size and (array == array.flat[0]).all() else None
    if node is None or node.domain:
        return None
    if node.op == "Expand":
        return filling(node.operand(0))
    if node.op == "ConstantOfShape":
        fill = node.attr("value")
        return 0.0 if fill is None else float(fill.item()) if isinstance(fill, Tensor) else None
    return None


def unframed(mask: Value) -> Value:
    """What a mask is without axes of size 1 in front of queries and keys."""
    while (
        (node := mask.node) is not None and node.op in ("Unsqueeze", "Reshape", "Squeeze", "Expand") and not node.domain
    ):
        inner, shape = node.operand(0), mask.shape
        if inner.shape is None or shape is None or len(inner.shape) < 2 or inner.shape[-2:] != shape[-2:]:
            break
        if any(size != 1 for size in (*shape[:-2], *inner.shape[:-2])):
            break
        mask = inner
    return mask


def serves_masks(value: Value, depth: int = 6) -> bool:
    """True where a value only goes into masks of attentions."""
    for user in value.users:
        if user.op == "Attention" and not user.domain and user.input(MASK) is value:
            continue
        if not depth or user.op not in COMBINE or user.domain or len(user.outputs) != 1:
            return False
        if not serves_masks(user.output, depth - 1):
            return False
    return True


RULES = (raise_causal,)
