"""The ONNX backend's face: a model as a ModelProto or as a file."""

from __future__ import annotations

import contextlib
import os
from typing import Literal

import onnx

from ...ir import CANONICAL_OPSET, Model, UnsupportedError, UsageError
from ...ir.collection import no_collection
from ...ir.tensors import Sparse
from ..files import target
from .emission import Emission, Emitted, dense, emitted
from .lowering import OLDEST_OPSET, expressible, lowered, lowest, lowest_without_decomposition, newest_needed, spelled
from .protos import set_sparse, set_tensor
from .stream import inline_bytes, is_large, write_external, write_inline

EXTERNAL_FROM = 1_800_000_000
"""Bytes of weights from which "auto" puts them into a data file; a protobuf message ends at 2 GiB."""


LOWEST_FOR_TORCH = 17
"""The oldest opset that a model which did not come from ONNX is written for unless asked."""


Opset = int | Literal["best"] | None
"""A version of ai.onnx to write; "best" is the newest that runs, where operators are fewest; None the model's own."""


def to_proto(model: Model, opset: Opset = None, *, value_info: bool = False) -> onnx.ModelProto:
    """The model as a ModelProto with every weight inside it; see `save` for the options and for what is raised."""
    with no_collection():
        made = emit(model, opset, value_info)
        proto = made.proto()
    for name, tensor in made.weights:
        if isinstance(tensor, Sparse):
            set_sparse(proto.graph.sparse_initializer.add(), tensor, name)
        else:
            set_tensor(proto.graph.initializer.add(), tensor, name)
    return proto


def save(
    model: Model,
    path: str | os.PathLike[str],
    *,
    opset: Opset = None,
    external_data: bool | Literal["auto"] = "auto",
    value_info: bool = False,
    overwrite: bool = True,
) -> None:
    """Writes the model to `path`: completely, or not at all and with an error that names the path.

    The bytes depend on the model and the options alone. Weights are streamed: one block of one weight is in memory at a
    time, and weights that stand in a mapped file are copied from it by the kernel. `path` may be the very file that
    they are mapped from.

    `opset` is the version of ai.onnx to write, from 7 on; "best" is the newest one, in which single operators stand for
    what older ones write out (Gelu, RMSNormalization, Attention). Without it that is the version that the model came
    in, or the next one that can hold it; for a model that did not come from ONNX the lowest from 17 on that has all of
    its operators. `external_data` puts weights above a kilobyte into `<path>.data` ("auto": where they have more than
    1.8 GB together). `value_info` writes the types of all values inside, else only of those that no schema tells.

    Raises UsageError where the path cannot be written, or exists and `overwrite` is false, or the opset is not one;
    UnsupportedError where the opset cannot hold a node, naming the lowest that can; InvalidModelError where the names
    of the interface do not fit ONNX.
    """
    place = target(path, overwrite)
    with no_collection():
        made = emit(model, opset, value_info)
    external = external_data
    if external == "auto":
        external = sum(t.stored_bytes if isinstance(t, Sparse) else t.nbytes for _, t in made.weights) > EXTERNAL_FROM
    write = write_external if external and any(is_large(t) for _, t in made.weights) else write_inline
    write(place, made)


def file_bytes(model: Model, opset: Opset = None) -> int:
    """The size of the model as one file, even beyond what protobuf holds; no weight is evaluated or copied."""
    return inline_bytes(emit(model, opset, value_info=False))


def default_opset(model: Model) -> int:
    """The version of ai.onnx that the model is written for unless asked otherwise; see `save`."""
    if not model.source_opset:
        return lowest_without_decomposition(model, LOWEST_FOR_TORCH)
    own = _own_opset(model)
    return lowest(model, own if own <= CANONICAL_OPSET or expressible(model, own) else CANONICAL_OPSET)


def _own_opset(model: Model) -> int:
    """The opset that the model came in, as near as one can be written; operators newer than canonical keep theirs."""
    if model.source_opset > CANONICAL_OPSET:
        return newest_needed(model)
    return min(max(model.source_opset, OLDEST_OPSET), CANONICAL_OPSET)


def emit(model: Model, opset: Opset, value_info: bool) -> Emitted:
    """The model at the opset asked for, or at the one that `save` chooses."""
    if opset is None and model.source_opset:
        # Nearly every model has a form at its own opset, and writing it is how to find out.
        with contextlib.suppress(UnsupportedError):
            return _emit_at(model, _own_opset(model), value_info)
    newest = max(CANONICAL_OPSET, newest_needed(model))
    version = default_opset(model) if opset is None else newest if opset == "best" else opset
    if not OLDEST_OPSET <= version <= newest:
        raise UsageError(
            f"opset {version} cannot be written",
            why=f"opsets from {OLDEST_OPSET} to {newest} can",
            do="choose one of them",
        )
    return _emit_at(model, version, value_info)


def _emit_at(model: Model, version: int, value_info: bool) -> Emitted:
    made = emitted(lowered(model, version), version, Emission(lambda node: spelled(node, version), value_info))
    if sum(t.stored_bytes for _, t in made.weights if isinstance(t, Sparse)) > EXTERNAL_FROM:
        return made._replace(weights=[(name, dense(tensor)) for name, tensor in made.weights])
    return made
