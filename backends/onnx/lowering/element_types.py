"""Which element types an operator takes at an opset, as the schemas of onnx say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import onnx
from onnx import defs

from ....ir import DType, OptionalType, SequenceType, TensorType, Type, Value

Signature = tuple[tuple[str, frozenset[str]], ...]
"""For each formal parameter the name of its type variable and what it may be."""


@lru_cache(maxsize=4096)
def signature(op: str, opset: int, side: str) -> tuple[Signature, bool]:
    """The parameters on one side ("inputs", "outputs") of an ai.onnx operator, and whether the last one repeats."""
    schema = defs.get_schema(op, opset, "")
    formal = schema.inputs if side == "inputs" else schema.outputs
    variadic = bool(formal) and formal[-1].option is defs.OpSchema.FormalParameterOption.Variadic
    return tuple((p.type_str, frozenset(p.types)) for p in formal), variadic


def parameter(op: str, opset: int, side: str, index: int) -> tuple[str, frozenset[str]] | None:
    """The parameter that operand or output `index` stands for; None where there is none."""
    formal, variadic = signature(op, opset, side)
    position = min(index, len(formal) - 1) if variadic else index
    return formal[position] if position < len(formal) else None


def takes(op: str, opset: int, side: str, index: int, type_name: str) -> bool:
    found = parameter(op, opset, side, index)
    return found is not None and type_name in found[1]


@lru_cache(maxsize=65536)
def first_refused(op: str, opset: int, side: str, names: tuple[str, ...]) -> int | None:
    """The first operand or output whose type the operator does not take; None where it takes all."""
    return next((i for i, n in enumerate(names) if n and not takes(op, opset, side, i, n)), None)


TENSOR_NAMES = {d: f"tensor({onnx.TensorProto.DataType.Name(d.code).lower()})" for d in DType}


def type_name(type_: Type) -> str:
    """The type as schemas spell it; '' where that is not known."""
    if isinstance(type_, TensorType):
        return TENSOR_NAMES[type_.dtype]
    match type_:
        case SequenceType() if inner := type_name(type_.element):
            return f"seq({inner})"
        case OptionalType() if inner := type_name(type_.element):
            return f"optional({inner})"
        case _:
            return ""


def type_names(values: Sequence[Value | None]) -> tuple[str, ...]:
    return tuple(["" if v is None else type_name(v.type) for v in values])


def is_new(type_: Type, opset: int) -> bool:
    """True for a type that no operator knows at `opset`: every element type can be cast, every optional be made."""
    if isinstance(type_, OptionalType):
        return not defs.has("Optional", opset)
    return isinstance(type_, TensorType) and not takes("Cast", opset, "inputs", 0, TENSOR_NAMES[type_.dtype])
