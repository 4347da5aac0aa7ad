"""Weights streamed into the protobuf wire format of a model file, or into a data file beside it.

A weight that is a slice of a mapped file is copied by the kernel from file to file, so its pages never count as
resident here; any other is written block by block as it is evaluated. Nothing here ever holds more than one block.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import re
from collections.abc import Sequence
from pathlib import Path

import onnx

from ...ir import DType, FileSlice, Tensor, UsageError
from ...ir.tensors import Sparse
from ..files import PendingFile, explained, pending
from .emission import GRAPH, Emitted
from .protos import set_sparse, set_tensor
from .wire import tag

INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
SPARSE = onnx.GraphProto.SPARSE_INITIALIZER_FIELD_NUMBER
RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER

PROTOBUF_BYTES = 2**31 - 1
INLINE_BYTES = 1024
"""Weights up to this size stay in the model file: shapes and axes, which readers look at, are among them."""

SCANNED_BYTES = 1 << 26

PAGE, PAGED_FROM, ALIGNMENT = 4096, 1 << 16, 64
"""Offsets in a data file are multiples of PAGE for weights from PAGED_FROM bytes on, else of ALIGNMENT."""

Weight = tuple[str, Tensor]
Initializer = tuple[onnx.TensorProto | onnx.SparseTensorProto, Tensor | None]
"""A proto, and the numbers that belong into its raw data if they are not elsewhere; those of sparse ones never are."""
Entry = tuple[bytes, str, Tensor | None]
"""What stands before the raw data of an initializer, its name, and the raw data's tensor."""


def write_inline(path: Path, made: Emitted) -> None:
    """Writes the model with every weight inside its file. Raises UsageError where that cannot be written."""
    initializers = [_inline(name, tensor) for name, tensor in made.weights]
    with explained(path), pending(path) as model:
        replaced = _data_of(path)
        _write_model(model, made, initializers)
        _unchanged(made.weights)
        model.finish()
        model.publish()
    _remove(replaced)


def write_external(path: Path, made: Emitted) -> None:
    """Writes the model with its large weights in a data file beside it. Raises UsageError where that is impossible.

    The data file is called `<model>.data`, with a number behind it where such a file exists: that may belong to the
    model that is being replaced, which so stays whole until the new one takes its place. Only then the replaced model's
    data file is removed.
    """
    name = next(n for n in _data_names(path) if not path.with_name(n).exists())
    initializers: list[Initializer] = []
    with explained(path), pending(path) as model, pending(path.with_name(name)) as data:
        replaced = _data_of(path)
        for weight, tensor in made.weights:
            if not is_large(tensor):
                initializers.append(_inline(weight, tensor))
                continue
            initializers.append((_external(weight, tensor, name, data), None))
        _write_model(model, made, initializers)
        _unchanged(made.weights)
        data.finish()
        model.finish()
        data.publish()
        try:
            model.publish()
        except BaseException:
            data.path.unlink(missing_ok=True)
            raise
    _remove(replaced)


def is_large(tensor: Tensor) -> bool:
    """True for a weight that goes to the data file where there is one: not a sparse one, whose places ONNX's checker
    reads from the model file alone.
    """
    return tensor.dtype is not DType.STRING and not isinstance(tensor, Sparse) and tensor.nbytes > INLINE_BYTES


def _data_names(path: Path) -> itertools.chain[str]:
    return itertools.chain([f"{path.name}.data"], (f"{path.name}.data.{i}" for i in itertools.count(1)))


def _data_of(path: Path) -> list[Path]:
    """The data files that the model at `path` mentions, if it is small enough to have its weights elsewhere."""
    pattern = re.escape(path.name) + r"\.data(\.\d+)?"
    beside = [p for p in path.parent.iterdir() if re.fullmatch(pattern, p.name)]
    if not beside or not path.exists() or not 0 < path.stat().st_size < SCANNED_BYTES:
        return []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [p for p in beside if re.search(re.escape(p.name.encode()) + rb"(?!\.\d)", content)]


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _inline(name: str, tensor: Tensor) -> Initializer:
    if isinstance(tensor, Sparse):
        whole = onnx.SparseTensorProto()
        set_sparse(whole, tensor, name)
        return whole, None
    header = onnx.TensorProto()
    set_tensor(header, tensor, name, payload=False)
    return header, None if tensor.dtype is DType.STRING else tensor


def _external(name: str, tensor: Tensor, location: str, data: PendingFile) -> onnx.TensorProto:
    """A TensorProto whose numbers are appended to the data file."""
    header = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    set_tensor(header, tensor, name, payload=False)
    offset = data.align(PAGE if tensor.nbytes >= PAGED_FROM else ALIGNMENT)
    data.append(tensor, name)
    for key, value in (("location", location), ("offset", offset), ("length", tensor.nbytes)):
        header.external_data.add(key=key, value=str(value))
    return header


def inline_bytes(made: Emitted) -> int:
    """The size of the file that `write_inline` would write, whatever it is; nothing is evaluated."""
    return _size(*_laid_out(made, [_inline(name, tensor) for name, tensor in made.weights]))


def _size(head: bytes, graph: bytes, entries: Sequence[Entry]) -> int:
    return len(head) + len(graph) + sum(len(e) + (t.nbytes if t is not None else 0) for e, _, t in entries)


def _laid_out(made: Emitted, initializers: Sequence[Initializer]) -> tuple[bytes, bytes, list[Entry]]:
    """What stands before the graph, the graph without initializers, and these: all bytes but those of raw data."""
    entries: list[Entry] = []
    size = len(made.graph)
    for header, tensor in initializers:
        content = header.SerializeToString(deterministic=True)
        payload = 0
        if tensor is not None:
            payload = tensor.nbytes
            content += tag(RAW_DATA, payload)
        sparse = isinstance(header, onnx.SparseTensorProto)
        entry = tag(SPARSE if sparse else INITIALIZER, len(content) + payload) + content
        entries.append((entry, header.values.name if sparse else header.name, tensor))
        size += len(entry) + payload
    return made.head.SerializeToString(deterministic=True) + tag(GRAPH, size), made.graph, entries


def _write_model(file: PendingFile, made: Emitted, initializers: Sequence[Initializer]) -> None:
    """Writes the model, its graph last and in that the initializers last."""
    head, graph, entries = _laid_out(made, initializers)
    size = _size(head, graph, entries)
    if size > PROTOBUF_BYTES:
        raise UsageError(
            f"{file.path} cannot be written as one file",
            why=f"it would have {size} bytes, and a protobuf message has at most {PROTOBUF_BYTES}",
            do='save with external_data="auto"',
        )
    file.write(head + graph)
    for entry, name, tensor in entries:
        file.write(entry)
        if tensor is not None:
            file.append(tensor, name)


def _unchanged(weights: Sequence[Weight]) -> None:
    """Raises InvalidModelError when a file from which weights were copied was written to meanwhile."""
    for file in {id(t.file): t.file for _, t in weights if isinstance(t, FileSlice)}.values():
        file.check()
