"""Element types of outputs: read off the operators' schemas, with a row for each operator whose attributes decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Union

from onnx import defs

from ..graph import Node, Value
from ..schemas import effective_version
from ..tensors import Tensor
from ..types import DType

Source = tuple[tuple[int, ...], Union[DType, None]]
"""Where an output's element type comes from: the first known one of some operands, else the only one allowed."""

LABELS = {
    "float": DType.F32, "double": DType.F64, "float16": DType.F16, "bfloat16": DType.BF16, "bool": DType.BOOL,
    "string": DType.STRING, "int8": DType.I8, "int16": DType.I16, "int32": DType.I32, "int64": DType.I64,
    "uint8": DType.U8, "uint16": DType.U16, "uint32": DType.U32, "uint64": DType.U64,
}  # fmt: skip
TENSOR = re.compile(r"tensor\((\w+)\)")


def element_types(node: Node) -> list[DType | None]:
    """The element type of each output, None where it is not known or the output is no tensor."""
    special = SPECIAL.get(node.op) if not node.domain else None
    if special is not None:
        return special(node)
    sources = _sources(node.op, node.domain)
    if not sources:
        return [None] * len(node.outputs)
    return [_resolve(node, sources[min(i, len(sources) - 1)]) for i in range(len(node.outputs))]


def _resolve(node: Node, source: Source) -> DType | None:
    for index in source[0]:
        found = element_type(node.input(index))
        if found is not None:
            return found
    return source[1]


def element_type(value: Value | None) -> DType | None:
    """The element type of a tensor operand, where it is known."""
    return value.dtype if value is not None else None


@lru_cache(maxsize=4096)
def _sources(op: str, domain: str) -> tuple[Source, ...]:
    version = effective_version(op, domain)
    if version is None:
        return ()
    schema = defs.get_schema(op, version, domain)
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return tuple(_source(p.type_str, [q.type_str for q in schema.inputs], allowed) for p in schema.outputs)


def _source(type_str: str, inputs: list[str], allowed: Mapping[str, Sequence[str]]) -> Source:
    same = tuple(i for i, t in enumerate(inputs) if t == type_str) if type_str in allowed else ()
    kinds = allowed.get(type_str, [type_str])
    found = TENSOR.fullmatch(kinds[0]) if len(kinds) == 1 else None
    return same, LABELS.get(found.group(1)) if found is not None else None


# Operators whose attributes decide


def _attribute(name: str, default: DType | None) -> Callable[[Node], list[DType | None]]:
    """The type whose code is in an attribute; without it `default`, or when that is None the first operand's."""

    def rule(node: Node) -> list[DType | None]:
        code = node.attr(name)
        if isinstance(code, int) and code:
            return [DType.of_code(code)]
        return [default or element_type(node.input(0))]

    return rule


def _of_value(default: DType | None) -> Callable[[Node], list[DType | None]]:
    """The type of the tensor in the attribute `value`."""

    def rule(node: Node) -> list[DType | None]:
        value = node.attr("value")
        return [value.dtype if isinstance(value, Tensor) else default]

    return rule


def _quantized(node: Node) -> list[DType | None]:
    """QuantizeLinear: the zero point's type, else the attribute's, else uint8."""
    zero_point = node.input(2)
    if zero_point is not None:
        return [element_type(zero_point)]
    return [DType.of_code(node.int("output_dtype", 0) or DType.U8.code)]


def _dequantized(node: Node) -> list[DType | None]:
    """DequantizeLinear: the attribute's type, else the scale's."""
    code = node.int("output_dtype", 0)
    return [DType.of_code(code) if code else element_type(node.input(1))]


def _layer_normalization(node: Node) -> list[DType | None]:
    statistics = DType.of_code(node.int("stash_type", 1))
    return [element_type(node.input(0)), statistics, statistics]


SPECIAL: dict[str, Callable[[Node], list[DType | None]]] = {
    "Bernoulli": _attribute("dtype", None),
    "BitCast": _attribute("to", None),
    "BlackmanWindow": _attribute("output_datatype", DType.F32),
    "Cast": _attribute("to", None),
    "Constant": _of_value(None),
    "ConstantOfShape": _of_value(DType.F32),
    "DequantizeLinear": _dequantized,
    "EyeLike": _attribute("dtype", None),
    "HammingWindow": _attribute("output_datatype", DType.F32),
    "HannWindow": _attribute("output_datatype", DType.F32),
    "LayerNormalization": _layer_normalization,
    "MelWeightMatrix": _attribute("output_datatype", DType.F32),
    "Multinomial": _attribute("dtype", DType.I32),
    "QuantizeLinear": _quantized,
    "RandomNormal": _attribute("dtype", DType.F32),
    "RandomNormalLike": _attribute("dtype", None),
    "RandomUniform": _attribute("dtype", DType.F32),
    "RandomUniformLike": _attribute("dtype", None),
}
