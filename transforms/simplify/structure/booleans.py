"""Choices: Where on what is known, negated or asked twice."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, DType, Node, TensorType, Value
from ....ir.rewrite import P, Result, decline, rule
from .identities import same_type
from .spans import is_readable

c, a, b, d = P.var("c"), P.var("a"), P.var("b"), P.var("d")


@rule("Where")
def drop_decided_where(op: Builder, node: Node) -> Result:
    """Where on a constant that is the same everywhere, or between equal values, is the value that it takes."""
    condition, yes, no = (node.operand(i) for i in range(3))
    if yes is no:
        taken = yes
    elif condition.const is not None and is_readable(condition.const) and condition.const.count:
        truths = condition.const.numpy()
        if truths.all() != truths.any():
            return decline("the condition is true in places")
        taken = yes if truths.all() else no
    else:
        return decline("the condition is not known")
    return taken if same_type(node, taken) else decline("it broadcasts or its shape is not known")


@rule("Where")
def drop_where_between_truths(op: Builder, node: Node) -> Result:
    """Where between true and false is the condition, and between false and true its negation."""
    yes, no = truth(node.operand(1)), truth(node.operand(2))
    if yes is None or no is None or yes == no:
        return decline("it does not choose between true and false")
    if not same_type(node, node.operand(0)):
        return decline("it broadcasts or its shape is not known")
    return node.operand(0) if yes else op.Not(node.operand(0))


def truth(value: Value) -> bool | None:
    """The truth value that a boolean constant holds everywhere; None where there is no such one."""
    tensor = value.const
    if tensor is None or tensor.dtype is not DType.BOOL or not tensor.count or not is_readable(tensor):
        return None
    truths = np.asarray(tensor.numpy())
    return bool(truths.flat[0]) if truths.all() == truths.any() else None


@rule(P.Where(P.Not(c), a, b))
def swap_choices_of_negation(op: Builder, c: Value, a: Value, b: Value) -> Result:
    """Where not c then a else b is where c then b else a."""
    return op.Where(c, b, a)


@rule(P.Where(c, P.Where(c, a, b), d).named("outer") | P.Where(c, a, P.Where(c, b, d)).named("outer"))
def merge_choices(op: Builder, c: Value, a: Value, d: Value, outer: Node) -> Result:
    """Of two choices on one condition the inner one is decided."""
    made = op.Where(c, a, d)
    return made if same_type(outer, made) else decline("it broadcasts or its shape is not known")


LOGICAL = {"And": True, "Or": False, "Xor": False}
"""Operator -> its neutral operand."""


@rule(*LOGICAL)
def drop_neutral_truth(op: Builder, node: Node) -> Result:
    """c and true, c or false are c."""
    for kept, dropped in ((0, 1), (1, 0)):
        if truth(node.operand(dropped)) is LOGICAL[node.op]:
            value = node.operand(kept)
            return value if same_type(node, value) else decline("it broadcasts or its shape is not known")
    return decline("no neutral operand")


@rule("And", "Or", "Max", "Min")
def drop_equal_operands(op: Builder, node: Node) -> Result:
    """The larger, smaller, conjunction or disjunction of a value and itself is the value."""
    values = set(node.inputs)
    if len(values) != 1 or not isinstance(node.output.type, TensorType):
        return decline("its operands differ")
    return node.operand(0)


RULES = (
    drop_decided_where,
    drop_where_between_truths,
    swap_choices_of_negation,
    merge_choices,
    drop_neutral_truth,
    drop_equal_operands,
)
