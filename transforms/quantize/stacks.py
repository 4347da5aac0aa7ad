"""Quantized matrix products over stacks of rows, for runtimes that take them as they are.

Layers are quantized as two-dimensional Gemm (see `prepare`). OpenVINO has the same kernel for products over any number
of axes; there the Reshapes around a Gemm only keep what stands before it from giving u8 itself, and what stands behind
it from being computed on the way out.
"""

from __future__ import annotations

import numpy as np

from ...ir import Builder, Graph, Node, TensorType, Value, constant
from ..simplify.structure import erase_dead
from .insertion import pair_behind
from .scheme import Affine


def gemms_to_matmuls(graph: Graph) -> int:
    """Rewrites every quantized Gemm between two Reshapes, which make rows of stacks and stacks of rows, as a MatMul of
    the stacks and an Add of its bias in float; says how many there were."""
    pairs: dict[Value, Value] = {}
    found = [node for node in graph if node.op == "Gemm" and not node.domain]
    changed = 0
    for gemm in found:
        restored, back = gemm.operand(0).node, gemm.output.only_user
        quantized = _operand_maker(restored, "DequantizeLinear")
        flat = _operand_maker(quantized, "QuantizeLinear")
        if restored is None or quantized is None or flat is None or flat.op != "Reshape" or gemm.int("transB"):
            continue
        x = flat.operand(0)
        if back is None or back.op != "Reshape" or not _is_stack_of(back.output, x):
            continue
        if x not in pairs:
            scale, zero = quantized.operand(1), quantized.operand(2)
            affine = Affine(np.asarray(scale.tensor.numpy()), np.asarray(zero.tensor.numpy()))
            pairs[x] = pair_behind(graph, x, affine, (scale, zero), False)
        _rewrite(graph, gemm, pairs[x], back.output)
        changed += 1
    erase_dead(graph)
    return changed


def _operand_maker(node: Node | None, op: str) -> Node | None:
    """The node that gives the first operand of `node`, where that is an `op`."""
    return node.operand(0).node if node is not None and node.op == op and not node.domain else None


def _is_stack_of(y: Value, x: Value) -> bool:
    """True where both are known to differ in the last axis alone."""
    return x.shape is not None and y.shape is not None and len(x.shape) > 2 and x.shape[:-1] == y.shape[:-1]


def _rewrite(graph: Graph, gemm: Node, x: Value, old: Value) -> None:
    op = Builder(graph, gemm, loc=gemm.loc)
    y = op.MatMul(x, gemm.operand(1))
    y.type = old.type
    bias = gemm.input(2)
    if bias is not None:
        y = op.Add(y, _in_float(bias))
        y.type = old.type
    y.name = old.name
    old.replace_by(y)


def _in_float(bias: Value) -> Value:
    """The numbers that a bias of integers stands for, rounded once."""
    assert bias.node is not None, "the bias of a quantized Gemm is restored from integers"
    integers, scale = (bias.node.operand(i).tensor.numpy() for i in (0, 1))
    made = constant((integers.astype(np.float64) * scale).astype(np.float32), bias.name)
    assert isinstance(made.type, TensorType)
    return made
