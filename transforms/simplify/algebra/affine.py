"""Scales and summands that are constants, folded into the weights above them.

y = k (W x + b) + s is (k W) x + (k b + s): a BatchNormalization, or a product, quotient, sum or difference with a
constant, in any form that broadcasts. The arithmetic is lazy and in double precision, rounded once.
"""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, TensorType, Value, constant
from ....ir.rewrite import Result, decline, rule
from .absorb import NOTHING_ABOVE, PASSAGES, absorb, keeps_it
from .channels import Wide, aligned, numbers, shifted
from .linear import LINEAR, NO_SUMMAND, Affine


def batchnorm_numbers(bn: Node) -> Affine | str:
    """BatchNormalization(x) as k x + s per channel (BatchNormalization-15, inference), or why it is not that."""
    if bn.int("training_mode") or any(o.users for o in bn.outputs[1:]):
        return "it normalises with the batch's statistics"
    x = bn.operand(0)
    scale, shift, mean, variance = (numbers(bn.input(i)) for i in range(1, 5))
    if scale is None or shift is None or mean is None or variance is None:
        return "its parameters are not constants"
    if x.rank is None or not x.is_float:
        return "its rank is not known"
    k = scale / np.sqrt(variance + bn.float("epsilon"))
    if not bool(np.isfinite(k).all()):
        return "a variance is not positive"
    shape = (1, -1) + (1,) * (x.rank - 2)
    return Affine(aligned(k.reshape(shape), x.rank), aligned((shift - mean * k).reshape(shape), x.rank))


@rule("BatchNormalization")
def fold_batchnorm_into_linear(op: Builder, node: Node) -> Result:
    """A linear operator, then BatchNormalization, is the linear operator with other weights.

    A matrix product has no summand: an Add does what is left of the normalisation.
    """
    x = node.operand(0)
    why = hindrance(node, x)
    if why:
        return decline(why)
    by = batchnorm_numbers(node)
    if isinstance(by, str):
        return decline(by)
    found = absorb(x, node, by)
    if not isinstance(found, str):
        found.carry_out(op)
        return x
    if x.op == "MatMul" and by.shift is not None:
        plan = absorb(x, node, Affine(by.scale, None))
        if isinstance(plan, str):
            return decline(plan)
        plan.carry_out(op)
        assert isinstance(x.type, TensorType)
        summand = by.shift.reshape(-1) if x.rank == 2 else by.shift
        return op.Add(x, constant(shifted(None, summand, x.type.dtype), node.operand(2).name))
    return decline(found)


@rule("Mul", "Div", "Neg")
def fold_scale_into_linear(op: Builder, node: Node) -> Result:
    """A constant factor or divisor is part of the weights above it."""
    if node.op == "Neg":
        why = hindrance(node, node.operand(0))
        if why:
            return decline(why)
        return fold(op, node, node.operand(0), Affine(np.full((1,) * (node.output.rank or 0), -1.0), None))
    for index in (1, 0) if node.op == "Mul" else (1,):
        value = node.operand(1 - index)
        why = hindrance(node, value)
        if why and node.operand(index).is_const:
            return decline(why)
        number = operand_of(node, index)
        if number is not None:
            if node.op == "Div" and not number.all():
                return decline("it divides by zero")
            return fold(op, node, value, Affine(number if node.op == "Mul" else 1 / number, None))
    return decline("it has no constant operand")


@rule("Add", "Sub", above=("",))
def fold_shift_into_linear(op: Builder, node: Node) -> Result:
    """A constant summand is part of the biases above it."""
    for index in (1, 0):
        value = node.operand(1 - index)
        why = hindrance(node, value) or NO_SUMMAND.get(value.op, "")
        if why and node.operand(index).is_const:
            return decline(why)
        number = operand_of(node, index)
        if number is None:
            continue
        if node.op == "Add":
            return fold(op, node, value, Affine(None, number))
        minus = np.full((1,) * number.ndim, -1.0)
        return fold(op, node, value, Affine(None, -number) if index == 1 else Affine(minus, number))
    return decline("it has no constant operand")


def operand_of(node: Node, index: int) -> Wide | None:
    """A constant operand's numbers, aligned to the output's rank."""
    array, rank = numbers(node.operand(index)), node.output.rank
    return None if array is None or rank is None else aligned(array, rank)


def hindrance(node: Node, value: Value) -> str:
    """Why no weights above `value` can take what `node` does, as far as a glance tells; '' where they may."""
    if not value.is_float or value.shape is None or value.shape != node.output.shape:
        return "it broadcasts, or its shape is not known"
    above = value.node
    if above is None or value.is_input:
        return NOTHING_ABOVE
    return "" if above.op in LINEAR or above.op in PASSAGES else keeps_it(above)


def fold(op: Builder, node: Node, value: Value, by: Affine) -> Result:
    """`value` instead of `node`, where the weights above can take what the node does."""
    found = absorb(value, node, by)
    if isinstance(found, str):
        return decline(found)
    found.carry_out(op)
    return value


RULES = (fold_batchnorm_into_linear, fold_scale_into_linear, fold_shift_into_linear)
