"""Patterns and checks that the raising rules share: products in any association, rounded numbers, result types."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, DType, Node, Placeholder, Size, TensorType, Value
from ....ir.rewrite import P, Pattern
from ....ir.rewrite.patterns import Alternatives, Operator

SINGLE = frozenset([DType.F32, DType.F16])
"""Element types in which runtimes have the activations."""


def scaled(pattern: Pattern, factor: float) -> Pattern:
    """`pattern` times a number, or divided by its inverse."""
    return P.Mul(pattern, factor) | P.Div(pattern, 1 / factor)


def product(a: Pattern, b: Pattern, factor: float) -> Pattern:
    """a * b * factor, in every order of multiplication. What `b` is decides fastest, so it is looked at first."""
    return P.Mul(b, scaled(a, factor)) | P.Mul(scaled(b, factor), a) | scaled(P.Mul(b, a), factor)


def rooted(pattern: Pattern) -> Pattern:
    """The pattern, or each of its alternatives, binding the node at its root as `root`."""
    patterns = pattern.patterns if isinstance(pattern, Alternatives) else [pattern]
    return Alternatives([p.named("root") for p in patterns if isinstance(p, Operator)])


def refusal(root: Node, x: Value, dtypes: frozenset[DType] = SINGLE) -> str:
    """Why an operator on `x` cannot stand for `root`, in a few words; '' where it can.

    The result must have the type of `x`: an operand of a higher rank in between may have broadcast it.
    """
    if not isinstance(x.type, TensorType) or x.type.shape is None:
        return "the type of its operand is not known"
    if x.type.dtype not in dtypes:
        return f"runtimes do not have it in {x.type.dtype!r}"
    if root.output.type != x.type:
        return "its operands broadcast"
    return ""


def number(value: Value | None) -> float | None:
    """The value of a constant of one element that is a number; else None."""
    tensor = None if value is None else value.const
    if tensor is None or tensor.count != 1 or isinstance(tensor, Placeholder) or tensor.dtype.numpy.kind in "OcVb":
        return None
    return float(tensor.item())


def single(value: float) -> float:
    """A number as attributes hold it: the shortest decimal of its nearest single-precision float."""
    return float(str(np.float32(value)))


def integers(value: Value | None) -> list[int] | None:
    """The elements of a constant vector of integers; None where it is none."""
    tensor = None if value is None else value.const
    if tensor is None or not tensor.dtype.is_integer or isinstance(tensor, Placeholder):
        return None
    return [int(i) for i in tensor.numpy().reshape(-1)]


def size_of(op: Builder, value: Value, size: Size) -> Value:
    """A size of `value` as a vector of one, from an input of the graph where one has it, so that all can share it."""
    known = [v for v in (*op.graph.inputs, value) if v.shape is not None and size in v.shape]
    assert known
    assert known[0].shape is not None
    axis = known[0].shape.index(size)
    return op.Shape(known[0], start=axis, end=axis + 1)


def axes_of(node: Node) -> list[int] | None:
    """The axes of a reduction, sorted and not negative; None where they are not known."""
    rank = node.operand(0).rank
    if rank is None:
        return None
    given = integers(node.input(1))
    if node.input(1) is not None and given is None:
        return None
    if not given:
        return [] if node.int("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({a % rank for a in given})


def unshaped(value: Value) -> Value:
    """What `value` is only another shape of."""
    while (node := value.node) is not None and node.op in ("Unsqueeze", "Squeeze", "Reshape") and not node.domain:
        value = node.operand(0)
    return value
