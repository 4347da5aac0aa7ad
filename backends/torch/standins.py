"""What is emitted in place of a node that has no row, or whose form its row refuses: other nodes that mean the same.

These are the decompositions that write such an operator for older opsets, Resize by weighted sums along each axis, and
arithmetic of wide unsigned integers in signed ones, since PyTorch has hardly any of the former.
"""

from __future__ import annotations

from ...ir import Builder, DType, Node, TensorType, Value
from ...ir.inference import Inference
from ..onnx.lowering import resampled, stand_in

UNSIGNED = frozenset([DType.U16, DType.U32, DType.U64])

MODULAR = frozenset(["Add", "Sub", "Mul", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Equal", "Where"])
"""Operators whose result is right modulo a power of two where the operands are."""

ORDERED = frozenset(["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Max", "Min"])
"""Operators that only compare."""

EXACT = frozenset(["Div", "Mod", "Pow", "BitShift", "TopK", "ReduceMax", "ReduceMin", "ReduceSum", "CumSum", "Clip"])
"""Operators that are right where int64 holds every operand."""

LOWEST = -(2**63)


def standing_in(node: Node) -> list[Node]:
    """Puts other nodes in the place of `node` and gives them, in order; [] where nothing stands for it, and where an
    operand is empty, which torch reduces to nothing."""
    if any(v is not None and 0 in (v.shape or ()) for v in node.inputs[:1]):
        return []
    if any(_dtype(v) in UNSIGNED for v in node.inputs):
        return in_signed_integers(node)
    return stand_in(node) or (stand_in(node, resampled) if node.op == "Resize" else [])


def in_signed_integers(node: Node) -> list[Node]:
    """The operator on int64. Numbers past what that holds wrap around, as sums and products do modulo 2**64; where
    their order matters, all are shifted by 2**63, which wraps into the same order."""
    wide = any(_dtype(v) is DType.U64 for v in node.inputs)
    known = MODULAR | ORDERED if wide else MODULAR | ORDERED | EXACT
    if node.domain or node.op not in known or node.graph is None:
        return []
    shifted = wide and node.op in ORDERED
    op = Builder(node.graph, node, infer=Inference(node.graph).node, loc=node.loc)

    def signed(value: Value | None) -> Value | None:
        if value is None or _dtype(value) not in UNSIGNED:
            return value
        made = op.Cast(value, to=DType.I64.code)
        return op.BitwiseXor(made, op.operand(LOWEST, DType.I64)) if shifted else made

    made = op.node(node.op, [signed(v) for v in node.inputs], node.attrs, outputs=len(node.outputs))
    for old, found in zip(node.outputs, made.outputs if isinstance(made, Node) else (made,), strict=True):
        dtype, new = _dtype(old), found
        if dtype is not None and dtype in UNSIGNED:
            new = op.BitwiseXor(found, op.operand(LOWEST, DType.I64)) if shifted else found
            new = op.Cast(new, to=dtype.code)
        new.type, new.name = old.type, old.name
        old.replace_by(new)
    node.erase()
    return list(op.new)


def _dtype(value: Value | None) -> DType | None:
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None
