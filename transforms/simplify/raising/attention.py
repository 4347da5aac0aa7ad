"""Scaled dot-product attention, however an exporter wrote it, becomes one Attention (ai.onnx 24 and later).

The heart is a Softmax between two products. Factors on either side of the first product become its scale, what is added
to it or selected into it becomes the mask. Then the repetition of shared keys and values, and the moving of heads on
all sides, become the numbers of heads (rules in heads.py).

A query all of whose keys are hidden has a row of zeros in Attention, and NaN in a plain softmax over minus infinities;
exporters guard against that with IsNaN and Where, which is then the same. Without the guard, a mask that may hide all
keys of a query needs the promise that it never does. Where hidden is a finite number, rows without keys are averages on
both sides, and the guard is for what is no number before the softmax already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....backends.onnx.lowering.masks import HIDING, LARGEST, WIDE, magnitude, may_hide_rows
from ....ir import Builder, DType, Node, Size, TensorType, Value, constant
from ....ir.rewrite import Declined, Result, decline, rule
from .parts import axes_of, number, single, size_of

HIDES = -1e30
"""A finite number up to which a score next to it means nothing."""

FAR = -1e8
"""A finite number below which no score of a model lies: what it is put in place of has no part in a row of others."""

GUARD = "no-fully-masked-rows"


@dataclass(frozen=True)
class Probabilities:
    """A softmax over the last axis: of what, whether rows of NaN become zeros, and its element type where cast."""

    scores: Value
    guarded: bool
    precision: int | None


@dataclass(frozen=True)
class Scores:
    """A product of queries and transposed keys, times a factor, between soft caps."""

    query: Value
    turned: Value
    product: Value
    scale: float
    cap: float


@dataclass(frozen=True)
class Hidden:
    """What decides which keys a query sees: numbers that are added, or booleans with the number for the hidden ones."""

    mask: Value
    number: float | None = None
    hides: bool = False
    """With a number: the booleans tell what is hidden, not what is seen."""


@rule("MatMul")
def raise_attention(op: Builder, node: Node) -> Result:
    """softmax(Q K' scale + mask) V is Attention."""
    return _raised(op, node, promised=False)


@rule("MatMul")
def raise_attention_as_promised(op: Builder, node: Node) -> Result:
    """softmax(Q K' scale + mask) V is Attention, also where a row without keys would be NaN."""
    return _raised(op, node, promised=True)


def _raised(op: Builder, node: Node, *, promised: bool) -> Result:
    value = node.operand(1)
    found = probabilities(node.operand(0), node)
    if found is None:
        of_softmax = node.operand(0).op in ("Softmax", "Where", "Cast")
        return decline("its first operand is no softmax that it alone uses") if of_softmax else None
    parts = parts_of(found.scores)
    if isinstance(parts, str):
        return decline(parts)
    scores, hidden = parts
    why = misfit(scores, value)
    if why:
        return decline(why)
    mask = combined(op, hidden, scores.product, guarded=found.guarded or promised, floor=FAR if promised else HIDES)
    if isinstance(mask, Declined):
        return mask
    attrs: dict[str, float | int] = {"scale": rounded(scores.scale, scores.query)}
    if scores.cap:
        attrs["softcap"] = single(scores.cap)
    if found.precision is not None:
        attrs["softmax_precision"] = found.precision
    key = turned_back(op, scores.turned)
    return op.Attention(scores.query, key, value, *([] if mask is None else [mask]), **attrs)


def turned_back(op: Builder, value: Value) -> Value:
    """K where `value` is K': its last two axes the other way round."""
    node = value.node
    if node is None or node.op != "Transpose" or node.domain:
        return op.Transpose(value, perm=[0, 1, 3, 2])
    perm = node.ints("perm", (3, 2, 1, 0))
    perm = (*perm[:2], perm[3], perm[2])
    return node.operand(0) if perm == (0, 1, 2, 3) else op.Transpose(node.operand(0), perm=perm)


def probabilities(value: Value, user: Node) -> Probabilities | None:
    """The softmax that alone `user` uses as `value`, behind a guard and casts; None where it is no such thing."""
    guarded, node = False, sole(value, user)
    if node is not None and node.op == "Where":
        source = guard_of(node)
        if source is None:
            return None
        guarded, node = True, source
    precision, target = None, value.type
    if node is not None and node.op == "Cast":
        inner = sole(node.operand(0), node)
        wide = None if inner is None else inner.output.type
        if inner is None or not isinstance(wide, TensorType) or inner.op != "Softmax":
            return None
        before = sole(inner.operand(0), inner)
        source = None if before is None or before.op != "Cast" else before.operand(0)
        if source is None or not isinstance(source.type, TensorType) or not isinstance(target, TensorType):
            return None
        if source.type.dtype is not target.dtype or not is_last_axis(inner):
            return None
        return Probabilities(source, guarded, wide.dtype.code)
    if node is None or node.op != "Softmax" or node.domain or not is_last_axis(node):
        return None
    scores = node.operand(0)
    return Probabilities(scores, guarded, precision) if scores.only_user is node else None


def sole(value: Value, user: Node) -> Node | None:
    """What makes a value that alone `user` uses."""
    return value.node if value.only_user is user and value.node is not None and not value.node.domain else None


def guard_of(node: Node) -> Node | None:
    """The maker of p in Where(IsNaN(p), 0, p)."""
    test, zero, p = node.operand(0), node.operand(1), node.operand(2)
    is_nan = sole(test, node)
    if is_nan is None or is_nan.op != "IsNaN" or is_nan.operand(0) is not p or number(zero) != 0.0:
        return None
    return p.node if set(p.users) == {node, is_nan} else None


def is_last_axis(softmax: Node) -> bool:
    axis, rank = softmax.int("axis"), softmax.output.rank
    return axis == -1 or (rank is not None and axis == rank - 1)


def parts_of(value: Value) -> tuple[Scores, list[Hidden]] | str:
    """The product that a softmax is taken of, and its masks from the outermost to the innermost."""
    hidden: list[Hidden] = []
    while (node := value.node) is not None and not node.domain:
        if value.only_user is None:
            return f"{node.where} has other users"
        if node.op == "Add":
            inner = next((i for i in (0, 1) if leads_to_product(node.operand(i))), None)
            if inner is None:
                return "nothing that is added comes from a product"
            hidden.append(Hidden(node.operand(1 - inner)))
            value = node.operand(inner)
        elif node.op == "Where":
            inner = next((i for i in (1, 2) if leads_to_product(node.operand(i))), None)
            floor = None if inner is None else number(node.operand(3 - inner))
            if inner is None or floor is None:
                return "it selects between other things than scores and a number"
            hidden.append(Hidden(node.operand(0), floor, hides=inner == 2))
            value = node.operand(inner)
        else:
            scores = scores_of(value)
            return scores if isinstance(scores, str) else (scores, hidden)
    return "its scores are no product"


ON_THE_WAY = frozenset(["Add", "Where", "Mul", "Div", "Tanh"])


def leads_to_product(value: Value) -> bool:
    """True where a product of two activations lies behind sums, selections and factors alone."""
    pending = [value]
    for _ in range(16):
        if not pending:
            return False
        node = pending.pop().node
        if node is None or node.domain:
            continue
        if node.op == "MatMul":
            return not any(v is not None and v.is_const for v in node.inputs)
        if node.op in ON_THE_WAY:
            pending += [v for v in node.inputs if v is not None and v.const is None]
    return False


def scores_of(value: Value) -> Scores | str:
    """Factors, soft cap and product, from the outside to the inside."""
    outer, value = factors(value)
    cap, scale, node = 0.0, outer, value.node
    if node is not None and node.op == "Tanh" and value.only_user is not None:
        cap, (scale, value) = outer, factors(node.operand(0))
        scale, node = scale * cap, value.node
    if node is None or node.op != "MatMul" or node.domain:
        return "its scores are no product"
    if value.only_user is None:
        return f"{node.where} has other users"
    if cap < 0:
        return "its soft cap is negative"
    left, query = factors(node.operand(0), any_user=True)
    right, turned = factors(node.operand(1), any_user=True)
    scale *= left * right
    return Scores(query, turned, value, scale, cap) if scale > 0 else "its scale is not positive"


def factors(value: Value, *, any_user: bool = False) -> tuple[float, Value]:
    """The product of the numbers by which a value is multiplied or divided, and the value without them."""
    product = 1.0
    while (node := value.node) is not None and node.op in ("Mul", "Div") and not node.domain:
        if not any_user and value.only_user is None:
            break
        a, b = node.operand(0), node.operand(1)
        if (by := number(b)) is not None and a.type == value.type:
            inner = a
        elif node.op == "Mul" and (by := number(a)) is not None and b.type == value.type:
            inner = b
        else:
            break
        if not by:
            break
        product, value = product * (by if node.op == "Mul" else 1 / by), inner
    return product, value


def misfit(scores: Scores, value: Value) -> str:
    """Why queries, keys and values are not those of an Attention; '' where they are."""
    query, turned = scores.query.shape, scores.turned.shape
    values = value.shape
    if query is None or turned is None or values is None:
        return "a shape is not known"
    if not len(query) == len(turned) == len(values) == 4:
        return "its heads are not on an axis of their own"
    if not query[0] == turned[0] == values[0]:
        return "its batch sizes are not known to be equal"
    heads, kept = query[1], turned[1]
    if kept != values[1] or kept not in (1, heads):
        return "its numbers of heads are not known to fit"
    if not isinstance(heads, int) or not isinstance(kept, int) or not isinstance(query[3], int):
        return "its numbers of heads or their size are not known"
    return "" if isinstance(values[3], int) else "its numbers of heads or their size are not known"


def rounded(scale: float, query: Value) -> float:
    """The scale; 1 / sqrt(size) where it is that up to the rounding of its factors."""
    size = None if query.shape is None else query.shape[-1]
    usual = 1 / math.sqrt(size) if isinstance(size, int) and size else scale
    return single(usual if math.isclose(scale, usual, rel_tol=1e-6) else scale)


# Masks


def combined(
    op: Builder, hidden: list[Hidden], product: Value, *, guarded: bool, floor: float
) -> Value | Declined | None:
    """One mask of several: numbers are added, hidden keys stay hidden; a score is hidden by a number up to `floor`."""
    masks: list[Value] = []
    shape = product.shape
    assert shape is not None
    for each in hidden:
        if not fits(each.mask, shape):
            return decline("its mask is not known to be as long as the keys")
        made = as_mask(op, each, product, floor)
        if isinstance(made, Declined):
            return made
        masks.append(made)
    if not masks:
        return None
    if not guarded and any(may_hide_rows(m) for m in masks):
        return decline(f"a row of its mask may hide everything, which is not a number there ({GUARD})")
    mask = masks[0]
    for more in masks[1:]:
        if is_boolean(mask) and is_boolean(more):
            mask = op.And(mask, more)
        else:
            mask = op.Add(as_numbers(op, more, product), as_numbers(op, mask, product))
    if len(masks) > 1 and not is_boolean(mask) and not guarded and may_hide_rows(mask):
        return decline("the sum of its masks may be minus infinity")
    return mask


def fits(mask: Value, scores: tuple[Size, ...]) -> bool:
    """True for a mask that is as long as the keys and is broadcast along the other axes alone.

    One of length 1 would be filled up with minus infinity by Attention instead of being broadcast.
    """
    shape = mask.shape
    if shape is None or not 0 < len(shape) <= 4 or shape[-1] != scores[-1]:
        return False
    return all(m in (1, s) for m, s in zip(shape[:-1], scores[4 - len(shape) : -1], strict=True))


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
    return dtype_of(value) is DType.BOOL


def is_wide(value: Value) -> bool:
    return dtype_of(value) in WIDE


def dtype_of(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None


@rule("Mul")
def hide_rows_in_mask(op: Builder, node: Node) -> Result:
    """An Attention times the exponential of its mask's best entry, which clears rows without keys, hides them itself:
    with booleans as its mask. This is how it is written where there is no such operator.
    """
    found = next((v.node for v in node.inputs if v is not None and v.op == "Attention"), None)
    if found is None or found.output.only_user is not node or any(v.users for v in found.outputs[1:]):
        return decline("it is no factor of an Attention that only it uses")
    query, mask = found.operand(0), found.input(3)
    if query.rank != 4 or mask is None or found.float("softcap") or any(v is not None for v in found.inputs[4:]):
        return decline("the Attention has no heads or no mask, or more than that")
    factor = node.operand(1) if node.operand(0) is found.output else node.operand(0)
    wide = mask.node if mask.op == "Expand" else None
    bias = mask if wide is None else wide.operand(0)
    if not is_best_of(factor, bias):
        return decline("the factor is not whether its mask shows a key")
    seen = seen_in(bias)
    if seen is None:
        return decline("its mask is not chosen by booleans, or hides too little")
    inputs = list(found.inputs)
    inputs[3] = seen if wide is None else op.Expand(seen, wide.operand(1))
    return again(op, found, inputs)[0]


def is_best_of(factor: Value, bias: Value) -> bool:
    """True for exp(max(bias)) over the keys."""
    best = factor.node.operand(0).node if factor.node is not None and factor.op == "Exp" else None
    if best is None or best.op != "ReduceMax" or not best.int("keepdims") or best.operand(0) is not bias:
        return False
    return axes_of(best) == [(bias.rank or 0) - 1]


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


RULES = (raise_attention, hide_rows_in_mask, widen_mask)
PROMISED = {GUARD: (raise_attention_as_promised, soften_mask)}
"""Rules that are exact only where a promise holds, by its name."""
