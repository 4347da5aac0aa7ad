"""The greatest and the smallest of several values, sums of several, and comparisons the other way round."""

from __future__ import annotations

from functools import reduce

import numpy as np

from ....ir import Builder, Dense, Node, Value, constant
from ....ir.rewrite import P, Result, decline, rule
from .arithmetic import is_number

VARIADIC = ("Max", "Min", "Sum")
TOGETHER = 32
"""Operands that one operator may get from those inside it."""


@rule(*VARIADIC, above=VARIADIC)
def flatten_variadic(op: Builder, node: Node) -> Result:
    """The greatest, the smallest or the sum of values of which one is such a thing of others is that of all."""
    operands: list[Value | None] = []
    for value in node.inputs:
        inner = value.node if value is not None and value.op == node.op and value.only_user is node else None
        operands += [value] if inner is None else inner.inputs
    if len(operands) == len(node.inputs):
        return decline("no operand is of its kind and used by it alone")
    if len(operands) > TOGETHER:
        return decline("it would have many operands")
    made = op.node(node.op, operands, node.attrs)
    return made.output if isinstance(made, Node) else made


@rule("Sum")
def add_two(op: Builder, node: Node) -> Result:
    """A Sum of two is an Add, which more rules and runtimes know."""
    return op.Add(*node.inputs) if len(node.inputs) == 2 else decline("it is of more than two, or of one")


@rule("Max", "Min")
def merge_bounds(op: Builder, node: Node) -> Result:
    """Of several numbers among the operands of Max or Min one is enough."""
    numbers = [v for v in node.inputs if v is not None and is_number(v)]
    if len(numbers) < 2 or len(numbers) == len(node.inputs):
        return decline("no two of its operands are numbers of the program")
    arrays = [v.tensor.numpy().reshape(-1) for v in numbers]
    if any(np.isnan(a.astype(np.float64)).any() for a in arrays if a.dtype.kind == "f"):
        return decline("one is not a number")
    rank = max(v.tensor.rank for v in numbers)
    best = reduce(np.maximum if node.op == "Max" else np.minimum, arrays)
    one = constant(Dense(best.reshape((1,) * rank), numbers[0].tensor.dtype), numbers[0].name)
    made = op.node(node.op, [*(v for v in node.inputs if v not in numbers), one], node.attrs)
    return made.output if isinstance(made, Node) else made


OPPOSITE = {"Less": "GreaterOrEqual", "GreaterOrEqual": "Less", "Greater": "LessOrEqual", "LessOrEqual": "Greater"}
a, b = P.var("a"), P.var("b")


@rule(
    P.Not(
        P.Less(a, b).named("inner")
        | P.GreaterOrEqual(a, b).named("inner")
        | P.Greater(a, b).named("inner")
        | P.LessOrEqual(a, b).named("inner")
    )
)
def compare_the_other_way(op: Builder, a: Value, b: Value, inner: Node) -> Result:
    """not a < b is a >= b, of integers: what is not a number is neither less nor greater."""
    if a.dtype is None or not a.dtype.is_integer:
        return decline("they may be no numbers")
    made = op.node(OPPOSITE[inner.op], [a, b])
    return made.output if isinstance(made, Node) else made


RULES = (flatten_variadic, add_two, merge_bounds, compare_the_other_way)
