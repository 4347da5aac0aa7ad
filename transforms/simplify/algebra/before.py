"""Scales and summands that are constants, folded into the weights below them.

W (k x + s) + b is (W k) x + (W s + b). Every user must be able to take them, or the operation stays. A summand does not
pass a padding of zeros: at the borders W meets zeros that the summand was never added to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

import numpy as np

from ....ir import Builder, Node, Tensor, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import Dense, Lazy, binary, reshape
from .affine import batchnorm_numbers, operand_of
from .channels import Wide, aligned, along, is_shared, known, numbers, scaled, varies
from .linear import NOT_CONSTANT, NOT_PER_CHANNEL, SHARED_WEIGHT, Affine, Change, bias_name, named
from .projections import bias_of

Changes = list[tuple[Node, Change]]
Row = Callable[[Node, Value, Value, Affine], Union[Changes, str]]
"""What changes where a linear node gets k x + s: the node, x, k x + s and the constants."""

NO_SUMMAND = "nothing below it takes a summand"


def vectors(by: Affine, axis: int, channels: int) -> tuple[Wide | None, Wide | None] | str:
    """Scale and summand as vectors over `axis` of the input."""
    k = None if by.scale is None else along(by.scale, axis, channels)
    s = None if by.shift is None else along(by.shift, axis, channels)
    if (k is None) != (by.scale is None) or (s is None) != (by.shift is None):
        return NOT_PER_CHANNEL
    return k, s


def convolution(node: Node, x: Value, old: Value, by: Affine) -> Changes | str:
    """Conv-22 and ConvTranspose-22: input channels are axis 1; W is [M, C/group, ...] or [C, M/group, ...]."""
    weight, bias = node.operand(1), node.input(2)
    w = known(weight)
    if w is None or node.operand(0) is not old or (bias is not None and known(bias) is None):
        return NOT_CONSTANT
    if is_shared(weight):
        return SHARED_WEIGHT
    group, per_group = node.int("group", 1), w.shape[1]
    channels = per_group * group if node.op == "Conv" else w.shape[0]
    found = vectors(by, 1, channels)
    if isinstance(found, str):
        return found
    k, s = found
    changes: list[Value | None] = [x, weight if k is None else named(scaled(w, spread(node, k, w.shape)), weight), bias]
    if s is not None:
        if node.op != "Conv" or any(node.ints("pads", ())) or node.str("auto_pad") not in ("NOTSET", "VALID"):
            return "it is added before a padding of zeros"
        axes = tuple(range(1, w.rank))
        total = reshape(Lazy("sum", [scaled(w, spread(node, s, w.shape))], axes=axes), (w.shape[0],))
        changes[2] = named(total if bias is None else binary("add", bias.tensor, total), bias, bias_name(weight))
    return [(node, Change(tuple(changes if changes[2] is not None else changes[:2])))]


def spread(node: Node, vector: Wide, shape: tuple[int, ...]) -> Wide:
    """One number per input channel as a factor of a convolution's weight of `shape`."""
    ones = (1,) * (len(shape) - 2)
    if node.op == "ConvTranspose":
        return vector.reshape(-1, 1, *ones)
    group = node.int("group", 1)
    if group == 1:
        return vector.reshape(1, -1, *ones)
    rows = np.broadcast_to(vector.reshape(group, 1, shape[1]), (group, shape[0] // group, shape[1]))
    return rows.reshape(shape[0], shape[1], *ones)


def gemm(node: Node, x: Value, old: Value, by: Affine) -> Changes | str:
    """Gemm-13: alpha A' B' + beta C with A' = k A' + s along its columns."""
    weight, bias = node.operand(1), node.input(2)
    w = known(weight)
    if w is None or node.operand(0) is not old or w.rank != 2 or (bias is not None and known(bias) is None):
        return NOT_CONSTANT
    if is_shared(weight):
        return SHARED_WEIGHT
    rows = 1 if node.int("transB") else 0
    found = vectors(by, 0 if node.int("transA") else 1, w.shape[rows])
    if isinstance(found, str):
        return found
    k, s = found
    as_column = (1, -1) if rows else (-1, 1)
    inputs: list[Value | None] = [x, weight if k is None else named(scaled(w, k.reshape(as_column)), weight), bias]
    attrs = dict(node.attrs)
    if s is not None:
        product = summed(scaled(w, s.reshape(as_column) * node.float("alpha")), rows)
        beta = np.full((), node.float("beta"))
        total = product if bias is None else binary("add", scaled(bias.tensor, beta), product)
        inputs[2] = named(total, bias, bias_name(weight))
        attrs.pop("beta", None)
    return [(node, Change(tuple(inputs if inputs[2] is not None else inputs[:2]), attrs))]


def summed(w: Tensor, axis: int) -> Tensor:
    """A matrix summed along an axis, as a vector."""
    return reshape(Lazy("sum", [w], axes=(axis,)), (w.shape[1 - axis],))


def matmul(node: Node, x: Value, old: Value, by: Affine) -> Changes | str:
    """MatMul-13 with a constant matrix: its rows (on the right) or columns (on the left) meet the input's channels."""
    index = 1 if node.operand(0) is old else 0
    weight = node.operand(index)
    w = known(weight)
    if w is None or w.rank < 2 or (old.rank or 0) < 2:
        return NOT_CONSTANT
    if is_shared(weight):
        return SHARED_WEIGHT
    found = vectors(by, -1 if index else -2, w.shape[-2 if index else -1])
    if isinstance(found, str):
        return found
    k, s = found
    made = weight if k is None else named(scaled(w, k.reshape(-1, 1) if index else k), weight)
    changes: Changes = [(node, Change((x, made) if index else (made, x)))]
    if s is not None:
        last, bias = bias_of(node)
        if not index or bias is None or is_shared(bias):
            return NO_SUMMAND
        total = named(binary("add", bias.tensor, summed(scaled(w, s.reshape(-1, 1)), 0)), bias)
        changes.append((last, Change(tuple(total if v is bias else v for v in last.inputs))))
    return changes


def pooling(node: Node, x: Value, old: Value, by: Affine) -> Changes | str:
    """f(k x) = k f(x) for k > 0 (with pools the same for all positions): the scale goes on to who uses the result."""
    if by.shift is not None or by.scale is None or any(v.users for v in node.outputs[1:]):
        return "a user has no weights"
    by_position = node.op not in ELEMENTWISE and any(axis > 1 for axis in varies(by.scale))
    if by_position or not bool((by.scale > 0).all()):
        return NOT_PER_CHANNEL
    below = changes_below(node.output, node.output, by)
    return below if isinstance(below, str) else [(node, Change((x,))), *below]


BELOW: dict[str, Row] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "Relu": pooling,
    "LeakyRelu": pooling,
    "MaxPool": pooling,
    "AveragePool": pooling,
    "GlobalAveragePool": pooling,
}
"""Operator -> how it takes a scale and a summand of its input into its constants, or into those of its users."""


def hindrance(value: Value) -> str:
    """Why the users of a value cannot take a scale or summand of it, as far as a glance tells; '' where they may."""
    if not value.users:
        return "nobody uses it"
    fits = all(user.op in BELOW and not user.domain and times == 1 for user, times in value.users.items())
    return "" if fits else "a user has no weights"


def changes_below(value: Value, x: Value, by: Affine) -> Changes | str:
    """What changes where every user of `value`, which is k x + s, gets `x` instead; or why one of them cannot."""
    changes: Changes = []
    for user, times in value.users.items():
        row = BELOW.get(user.op)
        if row is None or user.domain or times != 1:
            return "a user has no weights"
        found = row(user, x, value, by)
        if isinstance(found, str):
            return found
        changes += found
    return changes or "nobody uses it"


def fold(op: Builder, node: Node, x: Value, by: Affine) -> Result:
    """`x` instead of `node`, where every user can take what the node does."""
    value = node.output
    if not x.is_float or x.shape is None or x.shape != value.shape:
        return decline("it broadcasts, or its shape is not known")
    changes = changes_below(value, x, by)
    if isinstance(changes, str):
        return decline(changes)
    carry_out(op, changes)
    return x


def carry_out(op: Builder, changes: Changes) -> None:
    """Asks the driver for the changes; what activations and pooling give is not what it was."""
    for user, change in changes:
        op.revise(user, change.inputs, change.attrs, () if user.op in LINEAR_BELOW else (user.output,))


ELEMENTWISE = ("Relu", "LeakyRelu")

LINEAR_BELOW = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add")


@rule("BatchNormalization", "Mul", "Div", "Add", "Sub")
def fold_affine_into_next(op: Builder, node: Node) -> Result:
    """A constant scale and summand per channel in front of linear operators is part of their weights."""
    if node.op == "BatchNormalization":
        numbers = batchnorm_numbers(node)
        return decline(numbers) if isinstance(numbers, str) else fold(op, node, node.operand(0), numbers)
    why = hindrance(node.output)
    if why:
        return decline(why)
    commutes = node.op in ("Mul", "Add")
    for index in (1, 0) if commutes else (1,):
        number = operand_of(node, index)
        if number is not None:
            if node.op == "Div" and not number.all():
                return decline("it divides by zero")
            return fold(op, node, node.operand(1 - index), AFFINE[node.op](number))
    return decline("it has no constant operand")


@rule("RMSNormalization")
def fold_norm_scale_into_next(op: Builder, node: Node) -> Result:
    """The scale of a root-mean-square normalisation is part of the weights below it.

    What stays is 1 / sqrt(n) for n channels: without a scale of its own x / sqrt(mean(x^2) + e) is
    x / sqrt(sum(x^2) + n e) times sqrt(n), which takes fewer operations where the operator has to be written out.
    """
    x, scale = node.operand(0), node.operand(1)
    array, rank = numbers(scale), x.rank
    if array is None or rank is None or array.ndim != 1 or node.int("axis") % rank != rank - 1:
        return decline("its scale is not one constant per entry of the last axis")
    root = np.sqrt(array.size)
    if bool(np.isclose(array * root, 1.0, rtol=1e-6).all()):
        return decline("its scale is folded already")
    plain = constant(Dense(np.full(array.shape, 1 / root), scale.tensor.dtype), scale.name)
    made = op.node(node.op, [x, plain], node.attrs)
    assert isinstance(made, Node)
    by = aligned(array * root, rank)
    changes = changes_below(node.output, made.output, Affine(by, None))
    if isinstance(changes, str):
        return decline(changes)
    carry_out(op, changes)
    return made.output


AFFINE: dict[str, Callable[[Wide], Affine]] = {
    "Mul": lambda c: Affine(c, None),
    "Div": lambda c: Affine(1 / c, None),
    "Add": lambda c: Affine(None, c),
    "Sub": lambda c: Affine(None, -c),
}
"""Operator -> what x op c is as k x + s."""

RULES = (fold_affine_into_next, fold_norm_scale_into_next)
