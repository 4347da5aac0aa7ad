"""Operators that work on each element by itself, with broadcasting.

Each row also says when a removed entry, whose operands are zero or arbitrary in the masked graph, comes out as zero
(`AxisMap.quiet`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ....ir import Node, Value
from ..atoms import UNIT
from ..axes import AxisMap, Frozen, shape
from .row import Rule

Silent = Callable[[Node, AxisMap, Sequence[Value]], bool]
"""Whether the removed entries of the output are zero, given the operands that broadcast."""


def broadcast(node: Node, axes: AxisMap, operands: Iterable[Value]) -> None:
    """Axes are aligned at the right; equal sizes are tied, size 1 is ignored (multidirectional broadcasting)."""
    output = node.output
    sizes = shape(output)
    bound = [axes.atoms.frozen(UNIT)] * len(sizes)
    spanned = [False] * len(sizes)
    for value in operands:
        offset = len(sizes) - len(shape(value))
        for axis, size in enumerate(shape(value), start=offset):
            if size == 1:
                continue
            ids = axes[value, axis - offset]
            if ids.ndim and not isinstance(sizes[axis], int):
                raise Frozen(f"axis {axis} of its result has no known size")
            bound[axis] = axes.tie(bound[axis], ids) if spanned[axis] else ids
            spanned[axis] = True
    axes.bind(output, bound)


def spans(value: Value, output: Value, axis: int) -> bool:
    """True when the operand has its own entry for every index of the output's axis."""
    offset = len(shape(output)) - len(shape(value))
    return axis >= offset and shape(value)[axis - offset] != 1


def all_silent(node: Node, axes: AxisMap, operands: Sequence[Value]) -> bool:
    """f(0, 0) = 0: every operand has to be zero at the removed entries."""
    active = axes.active_axes(node.output)
    return all(v in axes.quiet and all(spans(v, node.output, a) for a in active) for v in operands)


def any_silent(node: Node, axes: AxisMap, operands: Sequence[Value]) -> bool:
    """0 * x = 0: for every axis one operand is enough."""
    active = axes.active_axes(node.output)
    return all(any(v in axes.quiet and spans(v, node.output, a) for v in operands) for a in active)


def first_silent(node: Node, axes: AxisMap, operands: Sequence[Value]) -> bool:
    """f(0, x) = 0."""
    return all_silent(node, axes, operands[:1])


def branches_silent(node: Node, axes: AxisMap, operands: Sequence[Value]) -> bool:
    """Where: both branches have to be zero; the condition does not matter."""
    return all_silent(node, axes, operands[1:])


def never_silent(_: Node, __: AxisMap, ___: Sequence[Value]) -> bool:
    return False


def elementwise(silent: Silent) -> Rule:
    """A row for an operator whose operands all broadcast with each other."""

    def tie(node: Node, axes: AxisMap) -> None:
        operands = [v for v in node.inputs if v is not None]
        broadcast(node, axes, operands)
        axes.hush(node.output, silent(node, axes, operands))

    return Rule(tie)


def divide(node: Node, axes: AxisMap) -> None:
    """As elementwise. A zero of the masked graph must not divide: a constant divisor keeps its numbers, a computed one
    is frozen.
    """
    dividend, divisor = node.operand(0), node.operand(1)
    if divisor.is_const:
        axes.of(divisor)
        axes.unmasked.add(divisor)
        axes.quiet.discard(divisor)
    elif divisor in axes.quiet:
        axes.freeze_axes(divisor, axes.active_axes(divisor), node, "removed channels of its divisor would be zero")
    broadcast(node, axes, [dividend, divisor])
    axes.hush(node.output, first_silent(node, axes, [dividend, divisor]))


def power(node: Node, axes: AxisMap) -> None:
    """As elementwise; 0 ** y is zero for a positive constant y, and infinite for a negative one."""
    base, exponent = node.operand(0), node.operand(1)
    positive = exponent.const is not None and bool(np.all(exponent.const.numpy() > 0))
    if base in axes.quiet and not positive:
        axes.freeze_axes(
            base, axes.active_axes(base), node, "removed channels would be zero to a power that may be negative"
        )
    broadcast(node, axes, [base, exponent])
    axes.hush(node.output, positive and first_silent(node, axes, [base, exponent]))


def same(value: Value, node: Node, axes: AxisMap) -> None:
    """Every output has the atoms of `value`."""
    for output in node.outputs:
        axes.bind(output, axes.of(value))


def unary(preserves_zero: bool) -> Rule:
    """A row for f(x); further operands (limits, ratios) are scalars."""

    def tie(node: Node, axes: AxisMap) -> None:
        x = node.operand(0)
        same(x, node, axes)
        axes.hush(node.output, preserves_zero and x in axes.quiet)

    return Rule(tie)


def singular(node: Node, axes: AxisMap) -> None:
    """Log and Reciprocal: infinite at the zeros of the masked graph."""
    x = node.operand(0)
    if x in axes.quiet:
        axes.freeze_axes(x, axes.active_axes(x), node, f"{node.op} of removed channels, which are zero, is not finite")
    same(x, node, axes)


def clip(node: Node, axes: AxisMap) -> None:
    """The limits are scalars (Clip-13); zero stays zero where they are constants around it."""
    x, low, high = node.operand(0), node.input(1), node.input(2)
    same(x, node, axes)
    below = low is None or (low.const is not None and float(low.const.item()) <= 0)
    above = high is None or (high.const is not None and float(high.const.item()) >= 0)
    axes.hush(node.output, below and above and x in axes.quiet)


ZERO_TO_ZERO = (
    "Abs", "Asin", "Asinh", "Atan", "Atanh", "Cast", "CastLike", "Ceil", "Celu", "Elu", "Erf", "Floor", "Gelu",
    "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Sign", "Sin", "Sinh", "Softsign",
    "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
ZERO_TO_OTHER = (
    "Acos", "Acosh", "BitwiseNot", "Cos", "Cosh", "Exp", "HardSigmoid", "IsInf", "IsNaN", "Not", "Shrink", "Sigmoid",
    "Softplus",
)  # fmt: skip
COMPARISONS = (
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "Or", "Xor",
)  # fmt: skip

ROWS: dict[str, Rule] = {
    **{op: unary(True) for op in ZERO_TO_ZERO},
    **{op: unary(False) for op in ZERO_TO_OTHER},
    **{op: elementwise(never_silent) for op in COMPARISONS},
    **{op: elementwise(all_silent) for op in ("Add", "Sub", "Sum", "Max", "Min", "Mean")},
    "Mul": elementwise(any_silent),
    "And": elementwise(any_silent),
    "PRelu": elementwise(first_silent),
    "Where": elementwise(branches_silent),
    "Div": Rule(divide),
    "Mod": Rule(divide),
    "Pow": Rule(power),
    "Log": Rule(singular),
    "Reciprocal": Rule(singular),
    "Clip": Rule(clip),
    "Dropout": unary(True),
}
