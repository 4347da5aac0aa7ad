"""Constant nodes: a tensor from any of the forms in which the operator keeps its value (Constant-1 to Constant-25)."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto

from ...ir import DType, InvalidModelError, Tensor
from ...ir.tensors import Dense
from .tensors import TensorReader


def constant_of(name: str, proto: AttributeProto, tensors: TensorReader, where: object) -> Tensor:
    """The tensor that a Constant with this one attribute stands for. `name` is the attribute's name on the node."""
    match name:
        case "value":
            return tensors.read(proto.t, where)
        case "sparse_value":
            return tensors.sparse(proto.sparse_tensor, where)
        case "value_float":
            return Dense(np.asarray(proto.f, np.float32))
        case "value_floats":
            return Dense(np.asarray(proto.floats, np.float32))
        case "value_int":
            return Dense(np.asarray(proto.i, np.int64))
        case "value_ints":
            return Dense(np.asarray(proto.ints, np.int64))
        case "value_string":
            return _strings([proto.s], ())
        case "value_strings":
            return _strings(list(proto.strings), (len(proto.strings),))
        case _:
            raise InvalidModelError(f"Constant has no attribute {name!r}", where=where)


def _strings(items: list[bytes], shape: tuple[int, ...]) -> Tensor:
    array = np.empty(len(items), object)
    array[:] = [s.decode("utf-8", "surrogateescape") for s in items]
    return Dense(array.reshape(shape), DType.STRING)
