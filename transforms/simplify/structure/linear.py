"""Reshapings around products with a matrix of weights, which leave every axis but the last alone."""

from __future__ import annotations

from dataclasses import dataclass

from ....ir import Builder, Node, Value
from ....ir.rewrite import Result, decline, rule
from .layout import Target, build_reshape, reshaping


@rule("Reshape")
def unflatten_gemm(op: Builder, node: Node) -> Result:
    """A Gemm of a tensor flattened to a matrix, reshaped back, is a MatMul of the tensor and an Add."""
    gemm = node.operand(0).node
    if gemm is None or gemm.op != "Gemm" or gemm.domain or gemm.output.only_user is not node:
        return decline("its operand is no Gemm that only it uses")
    flat = gemm.operand(0).node
    if flat is None or gemm.operand(0).op not in ("Reshape", "Flatten"):
        return decline("the Gemm's operand is not flattened")
    source, shape, weight, bias = flat.operand(0), node.output.shape, gemm.operand(1), gemm.input(2)
    if any(gemm.int(name) for name in ("transA", "transB")) or gemm.float("alpha") != 1 or weight.shape is None:
        return decline("the Gemm transposes or scales")
    if bias is not None and (gemm.float("beta") != 1 or bias.shape is None or len(bias.shape) > 1):
        return decline("its bias is scaled or not one per channel")
    if source.shape is None or shape is None or len(source.shape) < 3:
        return decline("shapes are not known, or no axes are flattened")
    if source.shape[-1] != weight.shape[0] or (*source.shape[:-1], weight.shape[1]) != shape:
        return decline("more is reshaped than the axes that were flattened")
    product = op.MatMul(source, weight)
    return product if bias is None else op.Add(product, bias)


@rule("Reshape", above=["MatMul"])
def unflatten_product(op: Builder, node: Node) -> Result:
    """A product of matrices whose batch axes were joined, and are taken apart behind it, is one with the axes apart."""
    value = node.operand(0)
    product, after = value.node, node.output.shape
    if product is None or value.op != "MatMul" or value.only_user is None or after is None or len(after) < 4:
        return decline("its operand is no product that it alone uses")
    flat = [v.node if v is not None and v.op == "Reshape" else None for v in product.inputs]
    sources = [n.operand(0) for n in flat if n is not None]
    if len(sources) != 2:
        return decline("a factor is not reshaped")
    for source, reshaped in zip(sources, product.inputs, strict=True):
        shape, joined = source.shape, None if reshaped is None else reshaped.shape
        if shape is None or joined is None or len(joined) != 3 or shape[-2:] != joined[1:]:
            return decline("more than batch axes are joined")
        if shape[:-2] != after[:-2]:
            return decline("they are not the axes of the result")
    left, right = (source.shape for source in sources)
    if left is None or right is None or after[-2:] != (left[-2], right[-1]):
        return decline("more than batch axes are taken apart")
    return op.MatMul(*sources)


@dataclass(frozen=True)
class Linear:
    """A product with a matrix of weights and a sum with one constant per column, each used only by the next."""

    operand: Value
    product: Node
    sum: Node | None

    @property
    def columns(self) -> tuple[int, int]:
        """The sizes of the last axis before and behind it."""
        rows, columns = self.product.operand(1).tensor.shape
        return rows, columns

    def of(self, op: Builder, value: Value) -> Value:
        """The same of another operand."""
        made = op.MatMul(value, self.product.operand(1))
        if self.sum is None:
            return made
        return op.Add(*(made if v is self.product.output else v for v in self.sum.inputs))


def linear(value: Value) -> Linear | None:
    """What makes a value with one user, where that is linear with constant weights."""
    node, total = value.node, None
    if node is not None and value.op == "Add" and value.only_user is not None:
        main = next((v for v in node.inputs if v is not None and v.op == "MatMul"), None)
        bias = next((v for v in node.inputs if v is not None and v.const is not None), None)
        if main is None or bias is None or bias.tensor.rank > 1:
            return None
        total, value, node = node, main, main.node
    if node is None or node.op != "MatMul" or node.domain or value.only_user is None:
        return None
    weight, rank = node.operand(1).const, node.operand(0).rank
    if weight is None or weight.rank != 2 or rank is None or rank < 2:
        return None
    if total is not None and total.output.shape != value.shape:
        return None
    return Linear(node.operand(0), node, total)


@rule("Reshape")
def meet_across_linear(op: Builder, node: Node) -> Result:
    """Reshapings on both sides of a linear operator are one, on the side where the last axis changes."""
    found, after = linear(node.operand(0)), node.output.shape
    upper = None if found is None else found.operand.node
    if found is None or upper is None or upper.op not in ("Reshape", "Attention") or upper.domain:
        return decline("no linear operator is between two reshapings")
    if found.operand.only_user is not found.product or after is None or len(after) < 2:
        return decline("the reshaped tensor has other users, or a shape is not known")
    rows, columns = found.columns
    source = upper.operand(0) if upper.op == "Reshape" else found.operand
    if source.shape is None:
        return decline("the reshaped tensor has other users, or a shape is not known")
    if upper.op == "Reshape" and len(source.shape) > 1 and source.shape[-1] == rows:
        target = reshaping(op, (*source.shape[:-1], columns), after, [node])
        if target is not None:
            return build_reshape(op, found.of(op, source), target)
    if after[-1] != columns:
        return decline("the last axis changes on both sides")
    user = node.output.only_user
    if user is not None and user.op == "Transpose":
        return decline("it is part of a larger region")
    target = reshaping(op, source.shape, (*after[:-1], rows))
    return (
        decline("its target cannot be written") if target is None else found.of(op, build_reshape(op, source, target))
    )


@rule("Split")
def flatten_projection(op: Builder, node: Node) -> Result:
    """What an attention's packed heads are projected from is flattened behind the projection, where heads are split."""
    found = linear(node.operand(0))
    upper = None if found is None else found.operand.node
    if found is None or upper is None or upper.op != "Reshape" or upper.domain:
        return decline("it is not of a projection of what was reshaped")
    users = [user for v in node.outputs for user in v.users]
    if not users or any(user.op != "Attention" or user.attr("q_num_heads") is None for user in users):
        return decline("its parts are not packed heads")
    source, shape = upper.operand(0), node.operand(0).shape
    rows, columns = found.columns
    if found.operand.only_user is not found.product or source.shape is None or shape is None:
        return decline("the reshaped tensor has other users, or a shape is not known")
    if len(source.shape) < 2 or source.shape[-1] != rows or source.op in ("Reshape", "Attention"):
        return decline("the last axis is reshaped too")
    target: Target | None = reshaping(op, (*source.shape[:-1], columns), shape)
    if target is None:
        return decline("its target cannot be written")
    return again(op, node, build_reshape(op, found.of(op, source), target))


def again(op: Builder, split: Node, whole: Value) -> list[Value]:
    """A Split of something else."""
    made = op.node("Split", [whole, *split.inputs[1:]], split.attrs, outputs=len(split.outputs))
    assert isinstance(made, Node)
    return list(made.outputs)


RULES = (unflatten_gemm, unflatten_product, meet_across_linear, flatten_projection)
