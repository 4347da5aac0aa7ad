"""Attention masks: what hides keys becomes one mask, and what clears rows without keys becomes part of it.

A query all of whose keys are hidden has a row of zeros in Attention, and NaN in a plain softmax over minus infinities;
exporters guard against that with IsNaN and Where, which is then the same. Without the guard, a mask that may hide all
keys of a query needs the promise that it never does. Where hidden is a finite number, rows without keys are averages on
both sides, and the guard is for what is no number before the softmax already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ....backends.onnx.lowering.masks import HIDING, LARGEST, WIDE, magnitude, may_hide_rows
from ....ir import Builder, DType, Node, Size, TensorType, Value, constant
from ....ir.rewrite import Declined, Result, decline, rule
from .causal import HIDES, shows_first_key
from .grouped import Groups
from .parts import axes_of, number, size_of, unshaped

FAR = -1e8
"""A finite number below which no score of a model lies: what it is put in place of has no part in a row of others."""

GUARD = "no-fully-masked-rows"


@dataclass(frozen=True)
class Hidden:
    """What decides which keys a query sees: numbers that are added, or booleans with the number for the hidden ones."""

    mask: Value
    number: float | None = None
    hides: bool = False
    """With a number: the booleans tell what is hidden, not what is seen."""


def combined(
    op: Builder, hidden: list[Hidden], product: Value, values: Value, groups: Groups | None, *, guarded: bool,
    floor: float,
) -> Value | Declined | None:  # fmt: skip
    """One mask of several: numbers are added, hidden keys stay hidden; a score is hidden by a number up to `floor`."""
    masks: list[Value] = []
    shape = product.shape
    assert shape is not None
    if not all(fits(each.mask, shape, values) for each in hidden):
        return decline("its mask is not known to fit scores and values")
    flat = hidden if groups is None else on_one_axis(op, groups, hidden)
    if flat is None:
        return decline("heads that share keys are masked differently")
    for each in flat:
        made = as_mask(op, each, product, floor)
        if isinstance(made, Declined):
            return made
        masks.append(made)
    if not masks:
        return None
    if not guarded and any(may_hide_rows(m) and not shows_first_key(op, m) for m in masks):
        return decline(f"a row of its mask may hide everything, which is not a number there ({GUARD})")
    mask = masks[0]
    for more in masks[1:]:
        if is_boolean(mask) and is_boolean(more):
            mask = op.And(mask, more)
        else:
            mask = op.Add(as_numbers(op, more, product), as_numbers(op, mask, product))
    if len(masks) > 1 and not is_boolean(mask) and not guarded and may_hide_rows(mask):
        return decline("the sum of its masks may be minus infinity")
    assert mask.shape is not None
    return mask if mask.shape[-1] == shape[-1] else as_long_as(op, mask, values)


def fits(mask: Value, scores: tuple[Size, ...], values: Value) -> bool:
    """True for a mask that is broadcast to the scores.

    Its last size may be another symbol than that of the keys where that must be as many as there are values: whatever
    the product with the values takes is then the number of keys, or 1.
    """
    shape, keys = mask.shape, scores[-1]
    if shape is None or not 0 < len(shape) <= len(scores):
        return False
    if shape[-1] != keys and (values.shape is None or values.shape[-2] != keys or is_other(shape[-1], keys)):
        return False
    return all(m in (1, s) for m, s in zip(shape[:-1], scores[len(scores) - len(shape) : -1], strict=True))


def is_other(size: Size, keys: Size) -> bool:
    """True for a size that cannot be broadcast to the number of keys."""
    return isinstance(size, int) and isinstance(keys, int) and size not in (1, keys)


def as_long_as(op: Builder, mask: Value, values: Value) -> Value:
    """A mask with an entry for each key: Attention would fill it up with minus infinity, not broadcast it."""
    assert isinstance(mask.type, TensorType)
    assert mask.shape is not None
    assert values.shape is not None
    keys = values.shape[-2]
    if reaches(op, mask, keys):
        return mask
    lead = [1] * (len(mask.shape) - 1)
    sizes = (
        [*lead, keys]
        if isinstance(keys, int)
        else op.Concat(*([lead] if lead else []), size_of(op, values, keys), axis=0)
    )
    made = op.Expand(mask, sizes)
    made.type = TensorType(mask.type.dtype, (*mask.shape[:-1], keys))
    return made


ENTRYWISE = frozenset(["Add", "And", "Max", "Min", "Mul", "Not", "Or", "Unsqueeze", "Where"])


def reaches(op: Builder, mask: Value, keys: Size, depth: int = 6) -> bool:
    """True for a mask that was expanded to as many entries as there are keys, before entries were combined."""
    node = mask.node
    if node is None or node.domain or not depth:
        return False
    if node.op == "Expand":
        sizes = op.sizes(node.operand(1))
        return bool(sizes) and sizes[-1] == keys
    if node.op not in ENTRYWISE or (node.op == "Unsqueeze" and mask.shape is not None and mask.shape[-1] == 1):
        return False
    return any(v is not None and reaches(op, v, keys, depth - 1) for v in node.inputs)


def on_one_axis(op: Builder, groups: Groups, hidden: list[Hidden]) -> list[Hidden] | None:
    """The same for heads on one axis."""
    made: list[Hidden] = []
    for each in hidden:
        mask = groups.mask(op, each.mask)
        if mask is None:
            return None
        made.append(replace(each, mask=mask))
    return made


def as_mask(op: Builder, each: Hidden, product: Value, floor: float) -> Value | Declined:
    """Booleans where hidden is minus infinity, else numbers to add."""
    if each.number is None:
        return selected(op, each.mask)
    if each.number == -math.inf:
        return op.Not(each.mask) if each.hides else each.mask
    if each.number > floor or not is_wide(product):
        return decline("hidden scores are not far enough below the others")
    low, zero = (like(product, n) for n in (max(each.number, HIDING) if each.number <= HIDES else HIDING, 0))
    return op.Where(each.mask, low, zero) if each.hides else op.Where(each.mask, zero, low)


def selected(op: Builder, mask: Value) -> Value:
    """Where(seen, 0, -inf) is `seen`; a hidden score that is the lowest number is one that runtimes take for finite."""
    node = mask.node
    if node is None or node.op != "Where" or node.domain:
        return mask
    seen, yes, no = (node.operand(i) for i in range(3))
    a, b = number(yes), number(no)
    if (a, b) == (0.0, -math.inf) and seen.shape == mask.shape:
        return seen
    if (a, b) == (-math.inf, 0.0) and seen.shape == mask.shape:
        return op.Not(seen)
    if not is_wide(mask):
        return mask
    assert isinstance(mask.type, TensorType)
    lowest, floor = -LARGEST[mask.type.dtype], like(mask, HIDING)
    if b is not None and lowest >= b > -math.inf and magnitude(yes) < -HIDES:
        return op.Where(seen, yes, floor)
    if a is not None and lowest >= a > -math.inf and magnitude(no) < -HIDES:
        return op.Where(seen, floor, no)
    return mask


def as_numbers(op: Builder, mask: Value, product: Value) -> Value:
    if not is_boolean(mask):
        return mask
    return op.Where(mask, like(product, 0), like(product, -math.inf))


def like(value: Value, number: float) -> Value:
    """A number of the element type of `value`."""
    assert isinstance(value.type, TensorType)
    return constant(np.asarray(number, value.type.dtype.numpy))


def is_boolean(value: Value) -> bool:
    return value.dtype is DType.BOOL


def is_wide(value: Value) -> bool:
    return value.dtype in WIDE


@rule("Mul")
def hide_rows_in_mask(op: Builder, node: Node) -> Result:
    """An Attention times 1 for the queries that see some key and 0 for the others hides those rows itself, with its
    mask. This is how it is written where there is no such operator.
    """
    for index in (0, 1):
        y, factor = node.operand(index), node.operand(1 - index)
        attention, groups = groups_behind(y)
        if attention is not None:
            break
    else:
        return decline("it is no factor of an Attention that only it uses")
    if y.only_user is not node or any(v.users for v in attention.outputs[1:]):
        return decline("the Attention has other users")
    query, mask = attention.operand(0), attention.input(3)
    if query.rank != 4 or mask is None or mask.rank is None or attention.input(6) is not None:
        return decline("the Attention has no heads or no mask, or more than that")
    tested = tested_for_keys(factor)
    if tested is None or not covers(factor, mask, groups) or not is_wide(query):
        return decline("the factor is not whether its mask shows a key")
    seen = shown_by(tested, mask)
    if seen is None:
        return decline("its mask is not chosen by booleans, or hides too little")
    inputs = list(attention.inputs)
    inputs[3] = seen if mask.op != "Expand" else op.Expand(seen, mask.node.operand(1))  # pyright: ignore
    made = again(op, attention, inputs)[0]
    return made if groups is None else groups.apart(op, made)


def groups_behind(y: Value) -> tuple[Node | None, Groups | None]:
    """The Attention that makes `y`, and how its heads were put apart behind it."""
    node, groups = y.node, None
    if node is not None and node.op == "Reshape" and not node.domain and y.rank == 5:
        inner = node.operand(0)
        groups = None if inner.only_user is not node else Groups.between(inner, y)
        node = None if groups is None else inner.node
    return (None, None) if node is None or node.op != "Attention" or node.domain else (node, groups)


@dataclass(frozen=True)
class Shown:
    """A number for each query: 1 where an entry of `bias` is above minus infinity, or above a finite stand-in."""

    bias: Value
    is_finite: bool


def tested_for_keys(factor: Value) -> Shown | None:
    """What `factor` tests: exp(max(bias)), or whether max(bias) is more than minus infinity."""
    node = factor.node
    if node is None or node.domain:
        return None
    if node.op == "Exp":
        bias = largest(node.operand(0))
        return None if bias is None else Shown(bias, True)
    above = node.operand(0) if node.op == "Cast" else factor
    bias = any_shown(above)
    return None if bias is None else Shown(bias, False)


def any_shown(value: Value) -> Value | None:
    """The bias of max(bias) > -inf."""
    node = value.node
    if node is None or node.op != "Greater" or node.domain or number(node.operand(1)) != -math.inf:
        return None
    return largest(node.operand(0))


def largest(value: Value) -> Value | None:
    """What `value` is the greatest of along the last axis, which is kept."""
    node = value.node
    if node is None or node.op != "ReduceMax" or node.domain or not node.int("keepdims", 1):
        return None
    bias = node.operand(0)
    return bias if axes_of(node) == [(bias.rank or 0) - 1] else None


def covers(factor: Value, mask: Value, groups: Groups | None) -> bool:
    """True where a factor of the result has one number for each row of the mask."""
    bias = mask.node.operand(0) if mask.node is not None and mask.op == "Expand" else mask
    if factor.shape is None or bias.shape is None or factor.rank is None:
        return False
    rows: list[Size] = [*(1,) * (4 - len(bias.shape)), *bias.shape[:-1], 1]
    if groups is not None:
        rows[1:2] = [1, 1] if rows[1] == 1 else [groups.kept, groups.each]
    return list(factor.shape) == rows[len(rows) - factor.rank :] and all(
        r == 1 for r in rows[: len(rows) - factor.rank]
    )


def shown_by(test: Shown, mask: Value) -> Value | None:
    """The mask that hides rows as `test` tells, where `mask` is the same one that hides none."""
    bias = mask.node.operand(0) if mask.node is not None and mask.op == "Expand" else mask
    if test.is_finite:
        return seen_in(bias) if alike(bias, test.bias) else None
    node = bias.node
    if node is None or node.op != "Max" or node.domain or len(node.inputs) != 2:
        return None
    for index in (0, 1):
        floor, source = number(node.operand(index)), node.operand(1 - index)
        dtype = source.dtype
        if floor is not None and dtype in WIDE and -math.inf < floor <= -LARGEST[dtype] and alike(source, test.bias):
            return source
    return None


def alike(a: Value, b: Value) -> bool:
    """True for two values with the same numbers in the same order, up to axes of size 1 and how they are split."""
    a, b = unshaped(a), unshaped(b)
    if a is b:
        return True
    first, second = a.node, b.node
    if first is None or second is None or first.op != second.op or first.op not in ("Where", "Max") or first.domain:
        return False
    return len(first.inputs) == len(second.inputs) and all(
        alike(x, y) or (number(x) is not None and number(x) == number(y))
        for x, y in zip(first.operands, second.operands, strict=True)
        if x is not None and y is not None
    )


def seen_in(bias: Value) -> Value | None:
    """The booleans of Where(seen, 0, a large penalty)."""
    node = bias.node
    if node is None or node.op != "Where" or node.domain or node.operand(0).shape != bias.shape or not is_wide(bias):
        return None
    penalty = number(node.operand(2))
    return node.operand(0) if number(node.operand(1)) == 0 and penalty is not None and penalty <= HIDES else None


@rule("Attention")
def widen_mask(op: Builder, node: Node) -> Result:
    """A mask that is the same for all queries is given for each of them: ONNX Runtime does not broadcast it."""
    mask, query = node.input(3), node.operand(0)
    if mask is None or mask.shape is None or query.shape is None or not mask.shape:
        return decline("it has no mask, or a shape is not known")
    length, rank = query.shape[1 if len(query.shape) == 3 else 2], len(mask.shape)
    if length == 1 or (rank > 1 and mask.shape[-2] != 1):
        return decline("its mask has a row for each query")
    lead = [1] * max(0, rank - 2)
    if isinstance(length, int):
        sizes: Value | list[int] = [*lead, length, 1]
    else:
        sizes = op.Concat(*([lead] if lead else []), size_of(op, query, length), [1], axis=0)
    inputs = [op.Expand(mask, sizes) if i == 3 else v for i, v in enumerate(node.inputs)]
    return again(op, node, inputs)


def again(op: Builder, node: Node, inputs: list[Value | None]) -> list[Value]:
    """A node with other operands."""
    made = op.node(node.op, inputs, node.attrs, outputs=len(node.outputs))
    assert isinstance(made, Node)
    return list(made.outputs)


@rule("Attention")
def soften_mask(op: Builder, node: Node) -> Result:
    """A mask that hides no row entirely may hide with a finite number, which needs no care for such rows."""
    mask, query = node.input(3), node.operand(0)
    if mask is None or not may_hide_rows(mask) or node.input(6) is not None:
        return decline("its mask hides no row entirely")
    if not is_wide(query):
        return decline("its numbers are not wide enough")
    zero, floor = like(query, 0), like(query, HIDING)
    made = op.Where(mask, zero, floor) if is_boolean(mask) else op.Max(mask, floor)
    inputs = [made if i == 3 else v for i, v in enumerate(node.inputs)]
    return again(op, node, inputs)


RULES = (hide_rows_in_mask, widen_mask)
PROMISED = {GUARD: (soften_mask,)}
"""Rules that are exact only where a promise holds, by its name."""
