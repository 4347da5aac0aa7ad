"""The ONNX backend's face: a model as a ModelProto."""

from __future__ import annotations

import onnx

from ...ir import CANONICAL_OPSET, Model
from .emission import Emission, model_proto
from .protos import set_tensor


def to_proto(model: Model, opset: int | None = None) -> onnx.ModelProto:
    """The model as a ModelProto with every weight inside it."""
    emission = Emission()
    proto = model_proto(model, opset or CANONICAL_OPSET, emission)
    for name, tensor in emission.weights:
        set_tensor(proto.graph.initializer.add(), tensor, name)
    return proto
