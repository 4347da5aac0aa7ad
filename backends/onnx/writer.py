"""The ONNX backend's face: a model as a ModelProto or as a file."""

from __future__ import annotations

import os
from typing import Literal

import onnx

from ...ir import CANONICAL_OPSET, Model
from .emission import Emission, model_proto
from .files import target
from .protos import set_tensor
from .stream import is_large, write_external, write_inline

EXTERNAL_FROM = 1_800_000_000
"""Bytes of weights from which "auto" puts them into a data file; a protobuf message ends at 2 GiB."""


def to_proto(model: Model, opset: int | None = None) -> onnx.ModelProto:
    """The model as a ModelProto with every weight inside it; see `save` for `opset` and for what is raised."""
    emission = Emission()
    proto = model_proto(model, opset or CANONICAL_OPSET, emission)
    for name, tensor in emission.weights:
        set_tensor(proto.graph.initializer.add(), tensor, name)
    return proto


def save(
    model: Model,
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    external_data: bool | Literal["auto"] = "auto",
    overwrite: bool = True,
) -> None:
    """Writes the model to `path`: completely, or not at all and with an error that names the path.

    The bytes depend on the model and the options alone. Weights are streamed: one block of one weight is in memory at a time, and
    weights that stand in a mapped file are copied from it by the kernel. `path` may be the very file that they are mapped from.

    `external_data` puts weights above a kilobyte into `<path>.data` ("auto": where they have more than 1.8 GB together).

    Raises UsageError where the path cannot be written, or exists and `overwrite` is false.
    """
    place = target(path, overwrite)
    emission = Emission()
    proto = model_proto(model, opset or CANONICAL_OPSET, emission)
    external = external_data
    if external == "auto":
        external = sum(t.nbytes for _, t in emission.weights) > EXTERNAL_FROM
    write = write_external if external and any(is_large(t) for _, t in emission.weights) else write_inline
    write(place, proto, emission.weights)
