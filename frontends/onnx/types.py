"""ONNX's TypeProto as types of the IR."""

from __future__ import annotations

import contextlib
import re

from onnx import TypeProto

from ...ir import (
    ANY,
    DType,
    InvalidModelError,
    MapType,
    OptionalType,
    SequenceType,
    SparseType,
    TensorType,
    Type,
    fresh,
    symbol,
)
from ...ir.dims import Size, parse
from .strings import text

_MEANINGLESS = frozenset(["None", "none", "unknown", "-1"])
"""Names that exporters write for sizes of which they know nothing: two of them need not be equal."""

_SUM = re.compile(r"[A-Za-z_]\w*( ?[+*] ?\w+)+", re.ASCII)
"""What exporters write for a size that others add up to, as in "past_length + length"."""


class Sizes:
    """Sizes of one graph: a `dim_param` is the same symbol wherever it occurs.

    In a region the names stand for sizes of their own (`local`): in a loop body, one name may mean another number at
    each iteration.
    """

    def __init__(self, *, local: bool = False) -> None:
        self.local = local
        self.known: dict[str, Size] = {}

    def size(self, dim: TypeProto.Tensor.TensorShapeProto.Dimension) -> Size:  # pyright: ignore[reportAttributeAccessIssue]
        if dim.HasField("dim_value"):
            return dim.dim_value if dim.dim_value >= 0 else fresh()
        name = text(dim.dim_param)
        if not name or name.startswith("?") or name in _MEANINGLESS:
            return fresh()
        if _SUM.fullmatch(name):
            with contextlib.suppress(ValueError):
                return parse(name, self.named)
        return self.named(name)

    def named(self, name: str) -> Size:
        """The size with a name of its own."""
        if name not in self.known:
            self.known[name] = fresh() if self.local else symbol(name)
        return self.known[name]


def type_of(proto: TypeProto, sizes: Sizes, where: object) -> Type:
    """The IR's type; ANY where the proto says nothing. Raises InvalidModelError for an unknown element type."""
    match proto.WhichOneof("value"):
        case "tensor_type":
            return _tensor(proto.tensor_type, sizes, where)
        case "sparse_tensor_type":
            inside = _tensor(proto.sparse_tensor_type, sizes, where)
            return inside if inside is ANY else SparseType(inside)
        case "sequence_type":
            return SequenceType(type_of(proto.sequence_type.elem_type, sizes, where))
        case "optional_type":
            return OptionalType(type_of(proto.optional_type.elem_type, sizes, where))
        case "map_type":
            key = _element(proto.map_type.key_type, where)
            return ANY if key is None else MapType(key, type_of(proto.map_type.value_type, sizes, where))
        case _:
            return ANY


def _tensor(proto: TypeProto.Tensor | TypeProto.SparseTensor, sizes: Sizes, where: object) -> Type:
    dtype = _element(proto.elem_type, where)
    if dtype is None:
        return ANY
    return TensorType(dtype, tuple([sizes.size(d) for d in proto.shape.dim]) if proto.HasField("shape") else None)


def _element(code: int, where: object) -> DType | None:
    if not code:
        return None
    try:
        return DType.of_code(code)
    except ValueError as error:
        raise InvalidModelError("an element type is not one of ONNX's", where=where, why=str(error)) from error
