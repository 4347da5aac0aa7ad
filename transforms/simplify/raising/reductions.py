"""Reductions: those written out by their formulas, several in a row, axes of size 1 dropped or kept behind one, and
softmaxes from exponentials and sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ....ir import Builder, DType, Node, Value
from ....ir.dims import Size
from ....ir.rewrite import P, Pattern, Result, Rule, decline, rule
from .parts import axes_of, number, rooted

x, axes = P.var("x"), P.opt_const("axes")
FLOATS = frozenset([DType.F16, DType.F32, DType.F64])

COMPOSES = frozenset(
    ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"]
)
"""Reductions that give over two sets of axes, one after the other, what they give over both at once."""
REDUCTIONS = sorted(COMPOSES | {"ReduceLogSum", "ReduceSumSquare"})
POOLS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


def reduction(op: Builder, name: str, x: Value, over: Sequence[int], like: Node) -> Value:
    """A reduction over `over` with the other attributes of `like`."""
    return op.node(name, [x, list(over)], {"keepdims": like.int("keepdims", 1)}).output  # pyright: ignore


@rule("Squeeze", "Unsqueeze", "Reshape", "Flatten")
def reshape_reduction(op: Builder, node: Node) -> Result:
    """A reduction whose result only loses, or gets back, the axes that it ran over does that itself; so do global
    pools, as means and maxima over the axes of space.
    """
    inner = node.operand(0).node
    if inner is None or inner.domain or (inner.op not in REDUCTIONS and inner.op not in POOLS):
        return decline("its operand is no reduction")
    if node.operand(0).only_user is not node:
        return decline("the reduction has other users")
    source, wanted = inner.operand(0), node.output.shape
    over = _space(source) if inner.op in POOLS else axes_of(inner)
    if not over or source.shape is None or wanted is None:
        return decline("the shapes or axes are not known")
    kept = bool(inner.int("keepdims", 1))
    if tuple(wanted) != _reduced(source.shape, over, not kept):
        return decline("it changes more than the axes of the reduction")
    made = op.node(POOLS.get(inner.op, inner.op), [source, over], {"keepdims": int(not kept)})
    return made.output  # pyright: ignore


def _space(value: Value) -> list[int]:
    """The axes that a global pool runs over."""
    return list(range(2, value.rank or 0))


def _reduced(shape: Sequence[Size], over: Sequence[int], kept: bool) -> tuple[Size, ...]:
    """The shape of a reduction's result."""
    if kept:
        return tuple(1 if axis in over else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in over)


@rule(*sorted(COMPOSES))
def merge_reductions(op: Builder, node: Node) -> Result:
    """A reduction of one of the same kind is one over both their axes."""
    inner, rank = node.operand(0).node, node.operand(0).rank
    if inner is None or inner.domain or inner.op != node.op or rank is None:
        return decline("its operand is no reduction of its kind")
    if node.operand(0).only_user is not node:
        return decline("the reduction before it has other users")
    first, second = axes_of(inner), axes_of(node)
    source_rank = inner.operand(0).rank
    if first is None or second is None or source_rank is None:
        return decline("their axes are not known")
    if inner.int("keepdims", 1):
        if not node.int("keepdims", 1) and not set(first) <= set(second):
            return decline("the first keeps axes that the second does not drop")
        over = sorted({*first, *second})
    else:
        if node.int("keepdims", 1):
            return decline("the first drops axes and the second keeps them")
        left = [axis for axis in range(source_rank) if axis not in first]
        over = sorted([*first, *(left[axis] for axis in second)])
    return reduction(op, node.op, inner.operand(0), over, node)


# By their formulas.


@rule(
    rooted(
        P.Div(P.ReduceSum(x, axes).named("sum"), P.const("count"))
        | P.Mul(P.ReduceSum(x, axes).named("sum"), P.const("share"))
    )
)
def raise_mean(op: Builder, x: Value, sum: Node, count: Value | None, share: Value | None, root: Node) -> Result:
    """A sum divided by the number of its terms is ReduceMean."""
    over, terms = _terms(sum)
    given = number(count if count is not None else share)
    if over is None or terms is None:
        return decline("the number of terms is not known")
    if given is None or not x.is_float or root.output.type != sum.output.type:
        return decline("it is not divided by one number in floating point")
    if abs(given / terms - 1 if count is not None else given * terms - 1) > 1e-6:
        return decline("it is not divided by the number of terms")
    return reduction(op, "ReduceMean", x, over, sum)


@rule(P.Mul(P.ReduceMean(x, axes).named("mean"), P.const("count")).named("root"))
def raise_sum(op: Builder, x: Value, mean: Node, count: Value, root: Node) -> Result:
    """A mean times the number of its terms is ReduceSum."""
    over, terms = _terms(mean)
    given = number(count)
    if over is None or terms is None:
        return decline("the number of terms is not known")
    if given is None or not x.is_float or root.output.type != mean.output.type or abs(given / terms - 1) > 1e-6:
        return decline("it is not multiplied by the number of terms")
    return reduction(op, "ReduceSum", x, over, mean)


def _terms(node: Node) -> tuple[list[int] | None, int | None]:
    """The axes of a reduction, and how many numbers go into each result; None where they are not known."""
    over, shape = axes_of(node), node.operand(0).shape
    if not over or shape is None:
        return over, None
    sizes = [d for axis in over if isinstance(d := shape[axis], int)]
    count = math.prod(sizes)
    return over, count if len(sizes) == len(over) and count else None


def formula(name: str, result: str, pattern: Pattern, doc: str) -> Rule:
    """A rule for a reduction that is another one with elementwise operators around it."""

    @rule(rooted(pattern))
    def made(op: Builder, x: Value, root: Node) -> Result:
        inner = root if root.op in REDUCTIONS else root.operand(0).node
        assert inner is not None
        if not x.is_float:
            return decline("it is not in floating point")
        if inner.operand(0).rank != x.rank:
            return decline("an exponent adds axes")
        over = axes_of(inner)
        if over is None:
            return decline("its axes are not known")
        if not over:
            return decline("it runs over no axis")
        return reduction(op, result, x, over, inner)

    return Rule(name, made.ops, made.pattern, made.function, made.names, doc)


def total(pattern: Pattern) -> Pattern:
    return P.ReduceSum(pattern, axes)


squares = total(P.Mul(x, x) | P.Pow(x, 2)) | P.ReduceSumSquare(x, axes)
FORMULAS = (
    formula("raise_l2", "ReduceL2", P.Sqrt(squares) | P.Pow(squares, 0.5), "The root of a sum of squares is ReduceL2."),
    formula(
        "raise_sum_of_squares",
        "ReduceSumSquare",
        total(P.Mul(x, x) | P.Pow(x, 2)),
        "A sum of squares is ReduceSumSquare.",
    ),
    formula("raise_l1", "ReduceL1", total(P.Abs(x)), "A sum of magnitudes is ReduceL1."),
    formula(
        "raise_log_sum_exp",
        "ReduceLogSumExp",
        P.Log(total(P.Exp(x))),
        "The logarithm of a sum of exponentials is ReduceLogSumExp.",
    ),
)

# Softmax.

power = P.Exp(x).named("power").shared


@rule(P.Div(power, P.ReduceSum(power, P.const("over"), keepdims=1).named("sum")).named("root"))
def raise_softmax(op: Builder, x: Value, power: Node, sum: Node, root: Node) -> Result:
    """exp(x) / sum(exp(x)) along an axis is Softmax."""
    over = axes_of(sum)
    if over is None or len(over) != 1 or not x.is_float or x.rank is None:
        return decline("it does not run over one axis of floats")
    if any(user not in (root, sum) for user in power.output.users):
        return decline("the exponential has other users")
    return op.Softmax(x, axis=over[0] - x.rank)


@rule(P.Sub(x, P.ReduceLogSumExp(x, P.const("over"), keepdims=1).named("sum")))
def raise_log_softmax(op: Builder, x: Value, sum: Node) -> Result:
    """x - log(sum(exp(x))) along an axis is LogSoftmax."""
    over = axes_of(sum)
    if over is None or len(over) != 1 or not x.is_float or x.rank is None:
        return decline("it does not run over one axis of floats")
    return op.LogSoftmax(x, axis=over[0] - x.rank)


shifted = P.Sub(x, P.ReduceMax(x, P.const("over"), keepdims=1).named("largest"))


@rule(P.Softmax(shifted).named("root") | P.LogSoftmax(shifted).named("root"))
def drop_softmax_shift(op: Builder, x: Value, largest: Node, root: Node) -> Result:
    """Softmax and LogSoftmax of what the greatest along their axis is subtracted from are those of the operand."""
    over = axes_of(largest)
    if x.rank is None or over != [root.int("axis", -1) % x.rank]:
        return decline("the greatest is that of other axes")
    return op.node(root.op, [x], root.attrs).output  # pyright: ignore


RULES: tuple[Rule, ...] = (
    reshape_reduction,
    merge_reductions,
    raise_mean,
    raise_sum,
    *FORMULAS,
    raise_softmax,
    raise_log_softmax,
    drop_softmax_shift,
)
