"""Linear operators that share their input and their form, merged into one and a Split: Q, K and V above all.

Three products with biases become a product, a sum and a Split. Only where that makes fewer nodes: a runtime is about as
fast with either. The weights are put side by side lazily, so that no byte is added. Convolutions of one input stay
apart although one and a Split would be fewer nodes: the Split makes a runtime leave its blocked layout and come back,
which costs more than the merging gains.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Builder, DType, Node, Tensor, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import Dense, Lazy
from .channels import is_shared, known
from .linear import bias_name


@dataclass(frozen=True)
class Projection:
    """A linear operator with constant weights: `last` is the node whose output counts, the operator itself or the Add
    of its bias.
    """

    node: Node
    last: Node
    weight: Value
    bias: Value | None
    axis: int
    """The axis of the weight that is the output channel."""

    @property
    def channels(self) -> int:
        return self.weight.tensor.shape[self.axis]


def projection(node: Node) -> Projection | str:
    """The node as a projection of its first operand, or why it is none."""
    weight = node.input(1)
    w = known(weight)
    if w is None or weight is None or node.domain:
        return "its weight is not a constant"
    if is_shared(weight):
        return "its weight is used elsewhere too"
    if node.op == "MatMul":
        if w.rank != 2:
            return "its weight is not a matrix"
        last, bias = bias_of(node)
        return Projection(node, last, weight, bias, 1)
    bias = node.input(2)
    b = known(bias)
    if bias is not None and (b is None or b.rank != 1):
        return "its bias is not one constant per channel"
    return Projection(node, node, weight, bias, 0 if node.int("transB") else 1)


def bias_of(matmul: Node) -> tuple[Node, Value | None]:
    """The Add of a constant per channel that alone uses a product, and the constant; else the product itself."""
    user = matmul.output.only_user
    if user is None or user.op != "Add" or user.domain:
        return matmul, None
    bias = user.operand(1) if user.operand(0) is matmul.output else user.operand(0)
    b, w = known(bias), known(matmul.operand(1))
    return (user, bias) if b is not None and w is not None and b.shape == w.shape[1:] else (matmul, None)


def form(p: Projection) -> Hashable:
    """What must be equal for two projections of one value to be one."""
    w = p.weight.tensor
    rest = tuple(size for axis, size in enumerate(w.shape) if axis != p.axis)
    attrs = tuple(sorted((name, repr(value)) for name, value in p.node.attrs.items()))
    return p.node.op, attrs, w.dtype, rest, p.axis, p.node is p.last


@rule("Add", "MatMul", "Gemm")
def merge_projections(op: Builder, node: Node) -> Result:
    """Linear operators with the same input and the same form are one operator and a Split of its output."""
    linear = node
    if node.op == "Add":
        linear = next((v.node for v in node.inputs if v is not None and v.node is not None and v.op == "MatMul"), None)
        if linear is None:
            return decline("it is not the bias of a product")
    x = linear.operand(0)
    if sum(user.op == linear.op for user in x.users) < 2:
        return decline("no other projection has its input")
    mine = projection(linear)
    if isinstance(mine, str):
        return decline(mine)
    if mine.last is not node:
        return decline("its bias is a part of it")
    if x.is_const or linear.output.rank is None:
        return decline("its rank is not known")
    twins = [p for user in x.users if user.op == linear.op and isinstance(p := projection_of(user, x), Projection)]
    group = [p for p in twins if form(p) == form(mine)]
    per_branch = 1 if mine.node is mine.last else 2
    if len(group) * per_branch <= per_branch + 1:
        return decline("merging does not make fewer nodes")
    op.behind(x)
    parts = merged(op, x, mine, group)
    for p, part in zip(group, parts, strict=True):
        if p.last is not node:
            op.replace(p.last.output, part)
    return parts[next(i for i, p in enumerate(group) if p.last is node)]


def projection_of(user: Node, x: Value) -> Projection | str:
    """The user as a projection of `x`, and of nothing else."""
    return projection(user) if user.operand(0) is x and user.inputs.count(x) == 1 else "it is another operand"


def merged(op: Builder, x: Value, like: Projection, group: Sequence[Projection]) -> Sequence[Value]:
    """The outputs of the projections, from one operator."""
    weight = constant(
        Lazy("concat", [p.weight.tensor for p in group], axis=like.axis), joined([p.weight for p in group])
    )
    bias: Value | None = None
    if any(p.bias is not None for p in group):
        dtype = like.weight.tensor.dtype
        vectors = [zeros(p.channels, dtype) if p.bias is None else p.bias.tensor for p in group]
        name = joined([p.bias for p in group if p.bias is not None]) or bias_name(weight)
        bias = constant(Lazy("concat", vectors, axis=0), name)
    is_matmul = like.node.op == "MatMul"
    operands = [x, weight] if bias is None or is_matmul else [x, weight, bias]
    made = op.node(like.node.op, operands, like.node.attrs)
    assert isinstance(made, Node)
    value = op.Add(made.output, bias) if is_matmul and bias is not None else made.output
    return op.Split(value, [p.channels for p in group], axis=-1, outputs=len(group))


def zeros(count: int, dtype: DType) -> Tensor:
    return Dense(np.zeros(count), dtype)


def joined(values: Sequence[Value]) -> str:
    """A name that says what was put side by side: 'a.query.weight' and 'a.key.weight' are 'a.query+key.weight'."""
    names = [v.name.split(".") for v in values]
    if not all(v.name for v in values) or len({len(n) for n in names}) != 1:
        return ""
    columns = [list(dict.fromkeys(column)) for column in zip(*names, strict=True)]
    return ".".join("+".join(column) for column in columns)


RULES = (merge_projections,)
