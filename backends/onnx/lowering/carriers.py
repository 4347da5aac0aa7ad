"""Operators on element types that they do not take at an opset: run on a wider type that holds every result exactly.

A cast widens the operands, another one narrows the results. Integers that wrap around do so in the cast as well, whose
result keeps the low bits. A 16-bit float's result is computed in 32 bits and rounded once, which for +, -, *, / and
square roots is the very result in 16 bits, and for the others what runtimes do.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import defs

from ....ir import Builder, DType, Node, TensorType, Value, lookup
from .element_types import TENSOR_NAMES, first_refused, is_new, parameter, type_names

WIDER: dict[DType, tuple[DType, ...]] = {
    DType.BF16: (DType.F32,),
    DType.F16: (DType.F32,),
    DType.I8: (DType.I32, DType.I64, DType.F32),
    DType.I16: (DType.I32, DType.I64, DType.F32),
    DType.U8: (DType.I32, DType.I64, DType.F32),
    DType.U16: (DType.I32, DType.I64, DType.F32),
    DType.I32: (DType.I64, DType.F64),
    DType.U32: (DType.I64, DType.F64),
}
"""Element types that hold all values of one, by preference."""

_FLOATS = """
    Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Celu Conv ConvTranspose Cos Cosh CumSum Det Elu
    GlobalAveragePool GlobalLpPool GlobalMaxPool GRU GridSample HardSigmoid InstanceNormalization IsInf LSTM LeakyRelu
    LpNormalization LpPool MaxPool MaxRoiPool PRelu Pow RNN RoiAlign Round Selu Sin Sinh Softplus Softsign Tan
    ThresholdedRelu TopK
"""
_NUMBERS = "Add Clip Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Pad Relu Sub Where"
FLOATS, NUMBERS = frozenset(_FLOATS.split()), frozenset(_NUMBERS.split())
"""Operators whose floats may be carried, and those whose integers may be, too."""


@dataclass(frozen=True)
class Carrier:
    """Every operand and output that shares the type variable `variable` is cast from `own` to `wide`."""

    variable: str
    own: DType
    wide: DType


def carrier(node: Node, opset: int) -> Carrier | None:
    """What may carry the operands that a node's operator does not take at `opset`; None where it takes all, or where
    nothing holds them exactly.
    """
    if (node.op not in NUMBERS and node.op not in FLOATS) or node.domain:
        return None
    types = [v.type for v in node.inputs if v is not None]
    if not any(isinstance(t, TensorType) and t.dtype in WIDER for t in types) or not defs.has(node.op, opset):
        return None
    found = _refused(node, opset)
    if found is None:
        return None
    side, index, own = found
    formal = parameter(node.op, opset, side, index)
    if formal is None or (node.op in FLOATS and not own.is_float) or is_new(TensorType(own, None), opset):
        return None
    wide = next((w for w in WIDER.get(own, ()) if TENSOR_NAMES[w] in formal[1]), None)
    return None if wide is None else Carrier(formal[0], own, wide)


def _refused(node: Node, opset: int) -> tuple[str, int, DType] | None:
    """The side, place and element type of what the operator does not take."""
    for side, values in (("inputs", node.inputs), ("outputs", node.outputs)):
        known = [v for i, v in enumerate(values) if parameter(node.op, opset, side, i) is not None]
        index = first_refused(node.op, opset, side, type_names(known))
        value = known[index] if index is not None else None
        if index is not None and value is not None and isinstance(value.type, TensorType):
            return side, index, value.type.dtype
    return None


def carry(node: Node, op: Builder, by: Carrier) -> list[Value | None]:
    """The node on the wider type, between casts."""
    version = lookup(node.op)
    assert version is not None

    def shares(side: str, index: int) -> bool:
        formal = parameter(node.op, version.version, side, index)
        return formal is not None and formal[0] == by.variable

    operands = [
        op.Cast(v, to=by.wide.code) if v is not None and shares("inputs", i) else v for i, v in enumerate(node.inputs)
    ]
    made = op.node(node.op, operands, node.attrs, outputs=len(node.outputs))
    results = [made] if isinstance(made, Value) else made.outputs
    return [
        op.Cast(new, to=by.own.code) if shares("outputs", i) and old.users else (new if old.users else None)
        for i, (old, new) in enumerate(zip(node.outputs, results, strict=True))
    ]
