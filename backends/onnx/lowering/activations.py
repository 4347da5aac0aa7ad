"""Activations in terms of older operators, each in the fastest form with the fewest nodes.

Fewer nodes are not always faster: ONNX Runtime has one kernel for the five nodes of a Gelu with Erf, but none for the
shorter form with HardSigmoid, which takes twice as long. For the approximation by tanh it has none, and six nodes take
two thirds of the time of the usual eight.
"""

from __future__ import annotations

import math

from ....ir import Builder, Node, Value
from .operands import number

Results = list[Value | None]


def gelu(node: Node, op: Builder) -> Results:
    """x / 2 (1 + erf(x / sqrt(2))), or x sigmoid(2 u), which is x / 2 (1 + tanh(u)), for its cubic u (Gelu-20)."""
    x = node.operand(0)
    if node.str("approximate") == "tanh":
        outer = 2 * math.sqrt(2 / math.pi)
        inner = op.Add(op.Mul(op.Mul(x, x), number(0.044715 * outer, x)), number(outer, x))
        return [op.Mul(x, op.Sigmoid(op.Mul(x, inner)))]
    squashed = op.Erf(op.Div(x, number(math.sqrt(2), x)))
    return [op.Mul(op.Mul(x, op.Add(squashed, number(1, x))), number(0.5, x))]


def celu(node: Node, op: Builder) -> Results:
    """alpha Elu(x / alpha) (Celu-12)."""
    x, alpha = node.operand(0), node.float("alpha")
    if alpha == 1:
        return [op.Elu(x)]
    return [op.Mul(op.Elu(op.Div(x, number(alpha, x))), number(alpha, x))]


def hard_swish(node: Node, op: Builder) -> Results:
    """x HardSigmoid(x, 1/6, 1/2) (HardSwish-14)."""
    x = node.operand(0)
    return [op.Mul(x, op.HardSigmoid(x, alpha=1 / 6, beta=0.5))]


def mish(node: Node, op: Builder) -> Results:
    """x tanh(softplus(x)) (Mish-18)."""
    x = node.operand(0)
    return [op.Mul(x, op.Tanh(op.Softplus(x)))]


def swish(node: Node, op: Builder) -> Results:
    """x sigmoid(alpha x) (Swish-24)."""
    x, alpha = node.operand(0), node.float("alpha")
    return [op.Mul(x, op.Sigmoid(x if alpha == 1 else op.Mul(x, number(alpha, x))))]
