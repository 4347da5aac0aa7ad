"""Entries of a table in an order that is known: what is done to them next is done to the order or to the table."""

from __future__ import annotations

import math

import numpy as np

from ....ir import Builder, Dense, Node, Tensor, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import reshape, transpose
from .spans import is_readable

LARGEST = 1 << 20
"""Bytes of indices that are read to be written in another shape."""


def indices_of(value: Value) -> Tensor | None:
    """The tensor of constant indices; None for others and for very many."""
    tensor = value.const
    return tensor if tensor is not None and is_readable(tensor, LARGEST) else None


def gather(op: Builder, source: Value, indices: Tensor, axis: int) -> Value:
    """A Gather as a node even where its operands are constants: whether they are folded is a matter of their size."""
    node = Node("Gather", [source, constant(indices)], {"axis": axis}, loc=op.loc)
    op.graph.insert(node, op.before)
    op.new.append(node)
    if op.infer is not None:
        op.infer(node)
    return node.output


@rule("GatherND")
def gather_instead_of_gather_nd(op: Builder, node: Node) -> Result:
    """A GatherND by constant indices of one number each is a Gather along the first axis."""
    indices = indices_of(node.operand(1))
    if indices is None or node.int("batch_dims"):
        return decline("its indices are not constant, or there are some per batch entry")
    if indices.shape[-1] != 1:
        return decline("its indices are of several numbers")
    return gather(op, node.operand(0), reshape(indices, indices.shape[:-1]), 0)


@rule("Reshape", "Unsqueeze", "Squeeze")
def reshape_indices_instead(op: Builder, node: Node) -> Result:
    """A reshaping that only regroups the axes of a Gather's constant indices regroups the indices."""
    made = node.operand(0).node
    if made is None or made.op != "Gather" or made.domain or made.output.only_user is not node:
        return decline("its operand is no Gather that only it uses")
    indices, source, shape = indices_of(made.operand(1)), made.operand(0).shape, node.output.shape
    if indices is None or source is None or shape is None:
        return decline("the indices are not constant or a shape is not known")
    axis = made.int("axis") % len(source)
    tail = source[axis + 1 :]
    stop = len(shape) - len(tail)
    inner = tuple(size for size in shape[axis:stop] if isinstance(size, int))
    if stop < axis or shape[:axis] != source[:axis] or shape[stop:] != tail or len(inner) != stop - axis:
        return decline("it reshapes more than the axes of the indices")
    if math.prod(inner) != indices.count:
        return decline("it reshapes more than the axes of the indices")
    return gather(op, made.operand(0), reshape(indices, inner), axis)


@rule("Transpose")
def transpose_table_instead(op: Builder, node: Node) -> Result:
    """A Transpose that moves the columns of a table in front of gathered rows is a Gather from the table transposed."""
    made = node.operand(0).node
    if made is None or made.op != "Gather" or made.domain or made.output.only_user is not node:
        return decline("its operand is no Gather that only it uses")
    table, indices = made.operand(0), indices_of(made.operand(1))
    if table.const is None or table.const.rank != 2 or made.int("axis") not in (0, -2):
        return decline("it does not gather rows of a constant table")
    if indices is None or not indices.rank:
        return decline("the indices are not constant")
    perm = node.ints("perm", tuple(reversed(range(indices.rank + 1))))
    place = perm.index(indices.rank)
    moved = [p for p in perm if p != indices.rank]
    if moved != sorted(moved) or any(indices.shape[p] != 1 for p in perm[:place]):
        return decline("it moves axes of the indices")
    turned = transpose(table.const, (1, 0))
    wide = constant(reshape(turned, (*(1,) * place, *turned.shape)), table.name)
    return gather(op, wide, reshape(indices, indices.shape[place:]), place + 1)


@rule("Gather")
def merge_gathers(op: Builder, node: Node) -> Result:
    """A Gather by constant indices of what a Gather by constant indices gave is one Gather."""
    inner = node.operand(0).node
    outer_indices = indices_of(node.operand(1))
    if inner is None or node.operand(0).op != "Gather" or outer_indices is None:
        return decline("its operand is no Gather, or its indices are not constant")
    indices, source = indices_of(inner.operand(1)), inner.operand(0).shape
    if indices is None or source is None or indices.rank != 1:
        return decline("the first indices are not a constant vector")
    axis = inner.int("axis") % len(source)
    if node.int("axis") % len(source) != axis:
        return decline("they gather along different axes")
    both = np.take(indices.numpy(), outer_indices.numpy(), 0)
    return gather(op, inner.operand(0), Dense(both), axis)


RULES = (gather_instead_of_gather_nd, reshape_indices_instead, merge_gathers)

DEPLOY_RULES = (transpose_table_instead,)
"""Rules that change tables, which may be parameters."""
