"""`load`: from a path, bytes or a ModelProto to a verified Model."""

from __future__ import annotations

from onnx import defs

from ...ir import InvalidModelError, LimitError, Model, UnsupportedError, verify
from ...ir.collection import no_collection
from ...ir.inference import Inference
from .fallback import fallback
from .files import Opened, Source, open_model
from .functions import imports_of
from .limits import DEFAULT, Account, Limits
from .reader import Reader


def load(source: Source, *, limits: Limits = DEFAULT, mmap: bool = True) -> Model:
    """An ONNX model as IR at the canonical opset, with types inferred.

    `source` is a path, the bytes of a serialized ModelProto, or a ModelProto. Weights in files stay there and are
    mapped; a file that shrinks while it is mapped can end the process, so pass `mmap=False` (which copies) where files
    are replaced in place.

    Raises UsageError for a path that cannot be read, InvalidModelError for a file that breaks ONNX's rules,
    UnsupportedError for one that uses what has no canonical form, LimitError for one that asks for more than `limits`
    allow.
    """
    with no_collection():
        return read(open_model(source, mmap=mmap), limits)


def read(opened: Opened, limits: Limits) -> Model:
    """The model of a parsed proto, raised, inferred and verified; raises what `load` raises."""
    with no_collection():
        _check_opset(opened)
        try:
            model = Reader(opened, Account(limits)).model(lambda graph: Inference(graph, fallback).node)
        except RecursionError as error:
            raise LimitError(f"{opened.name} nests subgraphs or functions too deep") from error
        verify(model.graph, after="reading ONNX")
    return model


def _check_opset(opened: Opened) -> None:
    imports = imports_of(opened.proto)
    if not imports:
        raise InvalidModelError(
            f"{opened.name} does not say which opset it uses",
            why="opset_import is empty",
            do="export the model again, or set opset_import with onnx.helper.make_opsetid",
        )
    version = imports.get("", 1)
    if version < 1:
        raise InvalidModelError(f"{opened.name} asks for opset {version}", why="versions start at 1")
    if version > defs.onnx_opset_version():
        raise UnsupportedError(
            f"{opened.name} uses opset {version}, which is not known",
            why=f"the installed onnx package knows opsets up to {defs.onnx_opset_version()}",
            do="upgrade the onnx package, or export the model with a lower opset",
        )
