"""The scale of attention scores, folded into the projection of the queries or of the keys."""

from __future__ import annotations

import math

import numpy as np

from ....ir import Builder, Node
from ....ir.rewrite import Result, decline, rule
from .absorb import Found, absorb
from .linear import Affine

PAST_KEY = 4


@rule("Attention")
def fold_attention_scale(op: Builder, node: Node) -> Result:
    """Attention of scaled queries is Attention without a scale (Attention-24): where the operator has to be written
    out, the product with the scale goes away.
    """
    scale = attention_scale(node)
    if scale is None or scale <= 0:
        return decline("its scale is not known")
    if scale == 1.0:
        return decline("its scale is 1")
    found: Found = ""
    # Keys of earlier calls are not scaled, nor are those that go to the next one.
    cached = node.input(PAST_KEY) is not None or any(v.users for v in node.outputs[1:])
    for operand in (node.operand(0),) if cached else (node.operand(0), node.operand(1)):
        if operand.rank is None or not operand.is_float:
            return decline("the rank of its queries is not known")
        found = absorb(operand, node, Affine(np.full((1,) * operand.rank, scale), None))
        if not isinstance(found, str):
            found.carry_out(op)
            made = op.node(node.op, node.inputs, node.attrs | {"scale": 1.0}, outputs=len(node.outputs))
            return made.outputs if isinstance(made, Node) else made
    assert isinstance(found, str)
    return decline(found)


def attention_scale(node: Node) -> float | None:
    """The factor of the scores: the attribute, or 1 / sqrt(head size)."""
    if node.attr("scale") is not None:
        return node.float("scale")
    shape = node.operand(0).shape
    if not shape or not isinstance(shape[-1], int) or (len(shape) != 4 and not node.attr("q_num_heads")):
        return None
    return 1 / math.sqrt(shape[-1] if len(shape) == 4 else shape[-1] // node.int("q_num_heads"))


RULES = (fold_attention_scale,)
