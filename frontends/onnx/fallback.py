"""Types of a node's outputs from ONNX's own shape inference, for operators that tersor has no rule for."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import AttributeProto, NodeProto, TypeProto, defs, helper, shape_inference

from ...ir import (
    CANONICAL_OPSET,
    Attribute,
    DType,
    MapType,
    Node,
    OptionalType,
    SequenceType,
    SparseType,
    Tensor,
    TensorType,
    Type,
    Value,
)
from ...ir.attributes import kind_of
from ...ir.dims import Size
from ...ir.schemas import effective_version
from ...ir.tensors import raw_bytes
from .types import Sizes, type_of

SMALL = 1024
"""Constants of up to this many elements are given to shape inference: it reads shapes and axes, never weights."""


def fallback(node: Node) -> Sequence[Type] | None:
    """Types of the outputs (ANY for what is not known), or None where ONNX has no inference. Never raises."""
    version = effective_version(node.op, node.domain)
    if version is None or node.regions:
        return None
    try:
        return _infer(node, version)
    except (
        Exception
    ):  # a fallback: whatever a hostile or odd node does to ONNX's C++ rules, the answer is that nothing is known
        return None


def _infer(node: Node, version: int) -> Sequence[Type] | None:
    names = ["" if v is None else f"i{i}" for i, v in enumerate(node.inputs)]
    proto = NodeProto(
        op_type=node.op, domain=node.domain, input=names, output=[f"o{i}" for i in range(len(node.outputs))]
    )
    for name, value in node.attrs.items():
        made = _attribute(name, value)
        if made is None:
            return None
        proto.attribute.append(made)
    sizes = Sizes()
    types: dict[str, TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for name, value in zip(names, node.inputs, strict=True):
        if value is not None:
            types[name] = _type(value.type, sizes)
            small = _small(value)
            if small is not None:
                data[name] = small
    schema = defs.get_schema(node.op, version, node.domain)
    imports = [helper.make_opsetid("", CANONICAL_OPSET), helper.make_opsetid(node.domain, version)][
        : 2 if node.domain else 1
    ]
    found = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    return [type_of(found.get(f"o{i}", TypeProto()), sizes, node.op) for i in range(len(node.outputs))]


def _type(type_: Type, sizes: Sizes) -> TypeProto:
    """A TypeProto; symbolic sizes get names under which `sizes` gives them back."""
    proto = TypeProto()
    match type_:
        case TensorType():
            _tensor(proto.tensor_type, type_, sizes)
        case SparseType(element=TensorType() as element):
            _tensor(proto.sparse_tensor_type, element, sizes)
        case SequenceType():
            proto.sequence_type.elem_type.CopyFrom(_type(type_.element, sizes))
        case OptionalType():
            proto.optional_type.elem_type.CopyFrom(_type(type_.element, sizes))
        case MapType():
            proto.map_type.key_type = type_.key.code
            proto.map_type.value_type.CopyFrom(_type(type_.value, sizes))
        case _:
            pass
    return proto


def _tensor(proto: TypeProto.Tensor | TypeProto.SparseTensor, type_: TensorType, sizes: Sizes) -> None:
    proto.elem_type = type_.dtype.code
    if type_.shape is None:
        return
    proto.shape.SetInParent()
    for size in type_.shape:
        dim = proto.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = _name(size, sizes)


def _name(size: Size, sizes: Sizes) -> str:
    name = f"size {size}"
    sizes.known[name] = size
    return name


def _small(value: Value) -> onnx.TensorProto | None:
    if value.const is None or value.const.count > SMALL or value.const.dtype is DType.STRING:
        return None
    return _tensor_proto(value.const)


def _tensor_proto(tensor: Tensor) -> onnx.TensorProto:
    raw = bytes(raw_bytes(tensor.numpy(), tensor.dtype))
    return onnx.TensorProto(data_type=tensor.dtype.code, dims=tensor.shape, raw_data=raw)


def _attribute(name: str, value: Attribute) -> AttributeProto | None:
    kind = kind_of(value)
    match kind:
        case "INT" | "FLOAT" | "STRING" | "INTS" | "FLOATS" | "STRINGS":
            return helper.make_attribute(name, value, attr_type=AttributeProto.AttributeType.Value(kind))
        case "TENSOR":
            assert isinstance(value, Tensor)
            if value.count > SMALL or value.dtype is DType.STRING:
                return None
            return helper.make_attribute(name, _tensor_proto(value))
        case "TYPE_PROTO":
            return helper.make_attribute(name, _type(value, Sizes()))  # pyright: ignore[reportArgumentType]
        case _:
            return None
