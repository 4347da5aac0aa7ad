"""Types, attributes and tensors of the IR as ONNX protobuf messages."""

from __future__ import annotations

import onnx

from ...ir import (
    Dense,
    DType,
    EmptyList,
    InvalidModelError,
    MapType,
    OptionalType,
    SequenceType,
    SparseType,
    Tensor,
    TensorType,
    Type,
)
from ...ir.attributes import Attribute, Scalar, kind_of
from ...ir.dims import Dim, free_symbols
from ...ir.tensors import Sparse

FIELDS = {
    "INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "TYPE_PROTO": "tp",
    "INTS": "ints", "FLOATS": "floats", "STRINGS": "strings", "TENSORS": "tensors", "TYPE_PROTOS": "type_protos",
}  # fmt: skip


def text(value: str) -> str:
    """A string that protobuf accepts: what has no UTF-8 form is written as an escape."""
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def set_type(proto: onnx.TypeProto, type_: Type) -> None:
    """Fills a TypeProto. A size that depends on a fresh symbol stays unset, other symbolic ones are written as text."""
    match type_:
        case TensorType():
            _set_tensor_type(proto.tensor_type, type_)
        case SparseType(element=TensorType() as element):
            _set_tensor_type(proto.sparse_tensor_type, element)
        case SequenceType():
            proto.sequence_type.elem_type.SetInParent()
            set_type(proto.sequence_type.elem_type, type_.element)
        case OptionalType():
            proto.optional_type.elem_type.SetInParent()
            set_type(proto.optional_type.elem_type, type_.element)
        case MapType():
            proto.map_type.key_type = type_.key.code
            proto.map_type.value_type.SetInParent()
            set_type(proto.map_type.value_type, type_.value)
        case _:
            pass


def _set_tensor_type(proto: onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor, type_: TensorType) -> None:
    proto.elem_type = type_.dtype.code
    if type_.shape is None:
        return
    proto.shape.SetInParent()
    for size in type_.shape:
        dim = proto.shape.dim.add()
        if not isinstance(size, Dim):
            dim.dim_value = size
        elif not any(s.is_fresh for s in free_symbols(size)):
            dim.dim_param = text(_dim_text(size))


def _dim_text(size: Dim) -> str:
    """A lone symbol by its bare name, which may hold any characters; an expression in the notation of the IR."""
    symbols = free_symbols(size)
    if len(symbols) == 1:
        (only,) = symbols
        if size.terms == (((only,), 1),):
            return only.name
    return str(size)


def set_attribute(proto: onnx.AttributeProto, name: str, value: Attribute, kind: str = "") -> None:
    """Fills an AttributeProto; `kind` is what the schema says and counts only where the value itself does not tell."""
    found = (
        kind if isinstance(value, tuple) and not value and not isinstance(value, EmptyList) and kind else kind_of(value)
    )
    proto.name = text(name)
    proto.type = onnx.AttributeProto.AttributeType.Value(found)  # pyright: ignore[reportAttributeAccessIssue]
    field = FIELDS[found]
    for item in value if isinstance(value, tuple) else (value,):
        _set_scalar(proto, field, item)


def _set_scalar(proto: onnx.AttributeProto, field: str, value: Scalar) -> None:
    match value:
        case bool() | int():
            number = int(value)
        case float():
            number = value
        case str():
            number = value.encode("utf-8", "surrogateescape")
        case bytes():
            number = value
        case Tensor():
            set_tensor(proto.t if field == "t" else proto.tensors.add(), value)
            return
        case _:
            target = proto.tp if field == "tp" else proto.type_protos.add()
            target.SetInParent()
            set_type(target, value)
            return
    if field.endswith("s") and field != "s":
        getattr(proto, field).append(number)
    else:
        setattr(proto, field, number)


def set_tensor(proto: onnx.TensorProto, tensor: Tensor, name: str = "", *, payload: bool = True) -> None:
    """Fills a TensorProto; without `payload` the numbers are left out (strings are always written)."""
    proto.dims.extend(tensor.shape)
    proto.data_type = tensor.dtype.code
    if name:
        proto.name = name
    if tensor.dtype is DType.STRING:
        proto.string_data.extend(_string_bytes(s) for s in tensor.numpy().reshape(-1).tolist())
    elif payload:
        proto.raw_data = b"".join(bytes(b) for b in tensor.blocks())


def set_sparse(proto: onnx.SparseTensorProto, tensor: Sparse, name: str) -> None:
    """Fills a SparseTensorProto, its indices as places in row-major order."""
    proto.dims.extend(tensor.shape)
    set_tensor(proto.values, Dense(tensor.values, tensor.dtype), name)
    set_tensor(proto.indices, Dense(tensor.indices, DType.I64))


def _string_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def exact_name(name: str, what: str) -> str:
    """A name of the interface, which must stay as it is. Raises InvalidModelError where ONNX cannot hold it."""
    if not name or text(name) != name:
        raise InvalidModelError(
            f"ONNX cannot hold the name of an {what}",
            where=f"{what} {name!r}",
            why="an interface name must be valid Unicode text and not empty",
            do="rename it before saving",
        )
    return name
