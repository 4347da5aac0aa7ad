"""Products of matrices whose operands are flattened for them."""

from __future__ import annotations

from ....ir import Builder, Node
from ....ir.rewrite import Result, decline, rule


@rule("Reshape")
def unflatten_gemm(op: Builder, node: Node) -> Result:
    """A Gemm of a tensor flattened to a matrix, reshaped back, is a MatMul of the tensor and an Add."""
    gemm = node.operand(0).node
    if gemm is None or gemm.op != "Gemm" or gemm.output.only_user is not node:
        return decline("its operand is no Gemm that only it uses")
    flat = gemm.operand(0).node
    if flat is None or flat.op not in ("Reshape", "Flatten"):
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


RULES = (unflatten_gemm,)
