"""Scaled dot-product attention, however an exporter wrote it, becomes one Attention (ai.onnx 24 and later).

The heart is a Softmax between two products. Factors on either side of the first product become its scale, what is added
to it or selected into it becomes the mask (masks.py), heads that share keys on an axis of their own come on one axis
(grouped.py). Then the repetition of shared keys and values, and the moving of heads on all sides, become the numbers of
heads (rules in heads.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ....ir import Builder, Node, TensorType, Value
from ....ir.rewrite import Declined, Result, decline, rule
from .causal import HIDES
from .grouped import Groups, squeezed
from .masks import FAR, GUARD, Hidden, any_shown, combined
from .parts import number, single


@dataclass(frozen=True)
class Probabilities:
    """A softmax over the last axis: of what, whether rows of NaN become zeros, and its element type where cast."""

    scores: Value
    guarded: bool
    precision: int | None
    bias: Value | None
    """What must be minus infinity all over a row to make it zeros, where that is the guard."""


@dataclass(frozen=True)
class Scores:
    """A product of queries and transposed keys, times a factor, between soft caps."""

    query: Value
    turned: Value
    product: Value
    scale: float
    cap: float


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
    bias = found.bias
    if bias is not None and not (len(hidden) == 1 and hidden[0].mask is bias and hidden[0].number is None):
        return decline("rows are cleared by something else than its mask")
    groups = groups_of(scores, value)
    why = misfit(scores, value) if groups is None else ""
    if why:
        return decline(why)
    guarded = found.guarded or promised
    floor = FAR if promised else HIDES
    mask = combined(op, hidden, scores.product, value, groups, guarded=guarded, floor=floor)
    if isinstance(mask, Declined):
        return mask
    attrs: dict[str, float | int] = {"scale": rounded(scores.scale, scores.query)}
    if scores.cap:
        attrs["softcap"] = single(scores.cap)
    if found.precision is not None:
        attrs["softmax_precision"] = found.precision
    query, key = scores.query, turned_back(op, scores.turned)
    if groups is not None:
        query, key, value = groups.together(op, query), squeezed(op, key, 2), squeezed(op, value, 2)
    y = op.Attention(query, key, value, *([] if mask is None else [mask]), **attrs)
    return y if groups is None else groups.apart(op, y)


def turned_back(op: Builder, value: Value) -> Value:
    """K where `value` is K': its last two axes the other way round."""
    node, axes = value.node, tuple(range(value.rank or 0))
    if node is None or node.op != "Transpose" or node.domain:
        return op.Transpose(value, perm=[*axes[:-2], axes[-1], axes[-2]])
    perm = node.ints("perm", axes[::-1])
    perm = (*perm[:-2], perm[-1], perm[-2])
    return node.operand(0) if perm == axes else op.Transpose(node.operand(0), perm=perm)


def probabilities(value: Value, user: Node) -> Probabilities | None:
    """The softmax that alone `user` uses as `value`, behind a guard and casts; None where it is no such thing."""
    guarded, node, bias = False, sole(value, user), None
    if node is not None and node.op == "Where":
        guarded, source = True, guard_of(node)
        if source is None:
            source, bias = bias_guard_of(node)
        if source is None:
            return None
        node = source
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
        return Probabilities(source, guarded, wide.dtype.code, bias)
    if node is None or node.op != "Softmax" or node.domain or not is_last_axis(node):
        return None
    scores = node.operand(0)
    return Probabilities(scores, guarded, precision, bias) if scores.only_user is node else None


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


def bias_guard_of(node: Node) -> tuple[Node | None, Value | None]:
    """The maker of p and the bias in Where(max(bias) > -inf, p, 0)."""
    bias, p = any_shown(node.operand(0)), node.operand(1)
    return (p.node, bias) if bias is not None and p.only_user is node and number(node.operand(2)) == 0 else (None, None)


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


def groups_of(scores: Scores, value: Value) -> Groups | None:
    """How heads share keys and values on an axis of their own; None where they do not."""
    query, turned, values = scores.query.shape, scores.turned.shape, value.shape
    if query is None or turned is None or values is None or not len(query) == len(turned) == len(values) == 5:
        return None
    known = query[0] == turned[0] == values[0] and isinstance(query[4], int) and isinstance(values[4], int)
    return Groups.of(query, turned, values) if known else None


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


RULES = (raise_attention,)
PROMISED = {GUARD: (raise_attention_as_promised,)}
"""Rules that are exact only where a promise holds, by its name."""
