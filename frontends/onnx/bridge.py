"""onnx_ir models in, with their tensors shared: only the graph passes through protobuf, weights stay where they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir  # pyright: ignore[reportMissingImports]
from onnx_ir import serde  # pyright: ignore[reportMissingImports]

from ...ir import Array, DType, Model, Tensor, UsageError
from .external import Folder
from .files import Opened
from .limits import DEFAULT, Limits
from .load import read

THRESHOLD = 256
"""Bytes from which a tensor is shared; smaller ones are cheaper to copy."""


class Shared(Tensor):
    """A tensor of onnx_ir, asked for its numbers when they are needed. Whoever changes them changes both models."""

    __slots__ = ("source",)

    def __init__(self, source: onnx_ir.TensorProtocol, dtype: DType, shape: tuple[int, ...]) -> None:
        super().__init__(dtype, shape)
        self.source = source

    def numpy(self) -> Array:
        try:
            array = np.asarray(self.source.numpy(), self.dtype.numpy).reshape(self.shape).view()
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            name = f"tensor {self.source.name!r}"
            raise UsageError("a tensor gives no numbers", where=name, why=str(error)) from error
        array.flags.writeable = False
        return array


def load(model: onnx_ir.Model, *, limits: Limits = DEFAULT, mmap: bool = True) -> Model:
    """An onnx_ir model as IR at the canonical opset; `model` stays as it is.

    Tensors of 256 bytes and more are shared: arrays in memory are not copied, external tensors are mapped from their
    file under the same rules as those of a model in a file, lazy ones are evaluated when they are needed. Raises what
    loading an ONNX file raises.
    """
    withheld = _Withheld(os.urandom(16), [], {}, mmap)
    copy = model.clone()
    for graph in (copy.graph, *(f.graph for f in copy.functions.values())):
        withheld.initializers(graph)
        for node in graph.all_nodes():
            withheld.attributes(node)
            for inner in _subgraphs(node):
                withheld.initializers(inner)
    try:
        proto = serde.serialize_model(copy)
    except (serde.SerdeError, ValueError, TypeError) as error:
        raise UsageError("the onnx_ir model cannot be serialized", why=str(error)) from error
    return read(Opened(proto, withheld, Folder(None), "the onnx_ir model"), limits)


def _subgraphs(node: onnx_ir.Node) -> list[onnx_ir.Graph]:
    found: list[onnx_ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type is onnx_ir.AttributeType.GRAPH and not attribute.is_ref():
            found.append(attribute.as_graph())
        elif attribute.type is onnx_ir.AttributeType.GRAPHS and not attribute.is_ref():
            found.extend(attribute.as_graphs())
    return found


@dataclass(frozen=True)
class _Withheld:
    """The tensors that were replaced by markers; a marker is `token` and the tensor's index."""

    token: bytes
    tensors: list[onnx_ir.TensorProtocol]
    folders: dict[str, Folder]
    mmap: bool

    def initializers(self, graph: onnx_ir.Graph) -> None:
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = self.marked(value.const_value)

    def attributes(self, node: onnx_ir.Node) -> None:
        for name, attribute in list(node.attributes.items()):
            if attribute.type is onnx_ir.AttributeType.TENSOR and not attribute.is_ref():
                node.attributes[name] = onnx_ir.AttrTensor(name, self.marked(attribute.as_tensor()))

    def marked(self, tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
        external = isinstance(tensor, onnx_ir.ExternalTensor)
        if tensor.dtype is onnx_ir.DataType.STRING or (tensor.nbytes < THRESHOLD and not external):
            return tensor
        self.tensors.append(tensor)
        mark = self.token + (len(self.tensors) - 1).to_bytes(8, "little")
        marker = onnx_ir.Tensor(np.frombuffer(mark, np.uint8))
        shape = onnx_ir.Shape(tensor.shape.numpy())
        return onnx_ir.LazyTensor(lambda: marker, tensor.dtype, shape, name=tensor.name)

    def find(self, raw_data: bytes) -> tuple[int, int] | None:
        """(index, bytes) of the tensor that `raw_data` marks; None when they are the numbers."""
        if len(raw_data) != len(self.token) + 8 or not raw_data.startswith(self.token):
            return None
        index = int.from_bytes(raw_data[len(self.token) :], "little")
        return index, self.tensors[index].nbytes

    def tensor(self, offset: int, length: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        source = self.tensors[offset]
        if not isinstance(source, onnx_ir.ExternalTensor):
            return Shared(source, dtype, shape)
        base = os.path.abspath(source.base_dir)
        folder = self.folders.setdefault(base, Folder(Path(base) / "model", mmap=self.mmap))
        given = {"location": os.fspath(source.location), "offset": source.offset, "length": source.length}
        entries = {key: str(value) for key, value in given.items() if value is not None}
        return folder.slice(entries, dtype, shape, f"the onnx_ir model, tensor {source.name!r}")
