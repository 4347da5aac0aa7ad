"""Models out as onnx_ir, with their weights shared: an onnx_ir tensor asks ours when somebody wants its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir  # pyright: ignore[reportMissingImports]
from onnx_ir import serde  # pyright: ignore[reportMissingImports]

from ...ir import DType, Model, Tensor
from .protos import set_tensor
from .writer import Opset, emit

if TYPE_CHECKING:
    import torch.onnx


def lent(tensor: Tensor, name: str) -> onnx_ir.LazyTensor:
    """A weight of ours as an onnx_ir tensor: nothing is read or computed before somebody asks for numbers.

    A weight in memory or in a file is not copied; one that passes changed is computed at each question.
    """
    dtype = onnx_ir.DataType(tensor.dtype.code)
    shape = onnx_ir.Shape(tensor.shape)
    return onnx_ir.LazyTensor(lambda: onnx_ir.Tensor(tensor.numpy(), dtype=dtype), dtype, shape, name=name)


def to_onnx_ir(model: Model, opset: Opset = None) -> onnx_ir.Model:
    """The model as onnx_ir, its weights shared and its values typed; `opset` as in `backends.onnx.save`."""
    emitted = emit(model, opset, value_info=True)
    proto, weights = emitted.proto(), emitted.weights
    for name, tensor in weights:
        if tensor.dtype is DType.STRING:
            set_tensor(proto.graph.initializer.add(), tensor, name)
        else:
            proto.graph.initializer.add(name=name, data_type=tensor.dtype.code, dims=tensor.shape)
    made = serde.deserialize_model(proto)
    for name, tensor in weights:
        if tensor.dtype is not DType.STRING:
            made.graph.initializers[name].const_value = lent(tensor, name)
    return made


def to_program(model: Model, opset: Opset = None) -> torch.onnx.ONNXProgram:
    """The model as what `torch.onnx.export(..., dynamo=True)` gives, without an exported program; weights shared."""
    import torch.onnx

    return torch.onnx.ONNXProgram(to_onnx_ir(model, opset), None)
