"""Opening what the user gave: a path, bytes or a ModelProto; and saying what a file is when it is not an ONNX model."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx
from google.protobuf.message import DecodeError

from ...ir import DType, FileSlice, InvalidModelError, LimitError, MappedFile, Tensor, TersorError, UsageError
from ...ir.tensors import Dense, from_raw
from . import wire
from .external import Folder

Source = str | os.PathLike[str] | bytes | onnx.ModelProto


class Withheld(Protocol):
    """Weights of which a proto holds only markers, in the place of their raw data."""

    def find(self, raw_data: bytes) -> tuple[int, int] | None:
        """(offset or index, bytes) of the numbers that `raw_data` stands for; None when they are the numbers."""
        ...

    def tensor(self, offset: int, length: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """The tensor at what `find` gave."""
        ...


@dataclass(frozen=True)
class Payloads:
    """The weights that stayed behind when the rest was parsed: in `file` where that is mapped, else in `data`."""

    stripped: wire.Stripped
    data: memoryview
    file: MappedFile | None

    def find(self, raw_data: bytes) -> tuple[int, int] | None:
        """(offset, length) of the numbers that `raw_data` stands for; None when they are the numbers."""
        return self.stripped.find(raw_data)

    def tensor(self, offset: int, length: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        if self.file is not None:
            return FileSlice(self.file, offset, length, dtype, shape)
        return Dense(from_raw(self.data[offset : offset + length], dtype, shape), dtype)


@dataclass(frozen=True)
class Opened:
    """A parsed model, the weights that are not in `proto`, the folder of its data files, and how messages call it."""

    proto: onnx.ModelProto
    payloads: Withheld | None
    folder: Folder
    name: str


def open_model(source: Source, *, mmap: bool) -> Opened:
    """Parses a model without reading its weights.

    Raises UsageError for a source that does not exist and InvalidModelError for one that is not an ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return Opened(source, None, Folder(None, mmap=mmap), "the model")
    if isinstance(source, bytes):
        return _parse(memoryview(source), None, Folder(None, mmap=mmap), "the bytes given")
    if not isinstance(source, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            f"a model cannot be loaded from {type(source).__name__}", do="give a path, bytes or an onnx.ModelProto"
        )
    path = _regular_file(source)
    folder = Folder(path, mmap=mmap)
    if mmap:
        file = MappedFile(path)
        return _parse(file.view(0, file.size), file, folder, str(path))
    return _parse(memoryview(path.read_bytes()), None, folder, str(path))


def _regular_file(source: str | os.PathLike[str]) -> Path:
    path = Path(os.path.abspath(os.fspath(source)))
    name = os.fspath(source)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        what = f"there is no file {name!r}" if missing else f"{name!r} cannot be opened"
        raise UsageError(what, why="" if missing else str(error), do="check the path") from error
    if stat.S_ISDIR(mode):
        inside = sorted(p.name for p in path.glob("*.onnx"))[:5]
        do = f"give the file: {', '.join(inside)}" if inside else "give the path of an .onnx file"
        raise UsageError(f"{name!r} is a folder, not a model", do=do)
    if not stat.S_ISREG(mode):
        raise UsageError(f"{name!r} is not a regular file", do="save the model to a file first")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{name!r} may not be read", do="change its permissions")
    return path


def _parse(data: memoryview, file: MappedFile | None, folder: Folder, name: str) -> Opened:
    if not len(data):
        raise InvalidModelError(f"{name} is empty", do="export or download the model again")
    stripped = wire.strip(data if file is None else file)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(data) if stripped is None else stripped.message)
    except (DecodeError, ValueError) as error:
        raise _not_a_model(data, name) from error
    if not proto.HasField("graph"):
        raise _not_a_model(data, name)
    return Opened(proto, None if stripped is None else Payloads(stripped, data, file), folder, name)


_AGAIN = "download it again, with the link to the raw file"
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded", "run `git lfs pull`"),
    (0, b"\x89PNG", "a PNG image", "give the path of an .onnx file"),
    (0, b"\xff\xd8\xff", "a JPEG image", "give the path of an .onnx file"),
    (0, b"GIF8", "a GIF image", "give the path of an .onnx file"),
    (0, b"%PDF", "a PDF document", "give the path of an .onnx file"),
    (0, b"PK\x03\x04", "a ZIP archive (a PyTorch checkpoint?)", "export the module with torch.onnx.export"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"BZh", "a bzip2 archive", "unpack it first"),
    (0, b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"\x89HDF", "an HDF5 file (Keras weights?)", "export the model to ONNX with tf2onnx"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX with tf2onnx"),
    (4, b"ORTM", "an ONNX Runtime .ort model", "give the .onnx file that it was made from"),
    (0, b"GGUF", "a GGUF model", "export the original model to ONNX"),
    (0, b"\x80\x02", "a Python pickle (an old PyTorch checkpoint?)", "export the module with torch.onnx.export"),
    (0, b"\x93NUMPY", "a NumPy array", "give the path of an .onnx file"),
    (8, b"{\"", "a safetensors file: weights without a graph", "export the module that they belong to"),
)  # fmt: skip


def _not_a_model(data: memoryview, name: str) -> TersorError:
    head = bytes(data[:512])
    for offset, magic, what, do in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return InvalidModelError(f"{name} is not an ONNX model but {what}", do=do)
    start = head.lstrip()[:15].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return InvalidModelError(f"{name} is not an ONNX model but a web page, as a failed download leaves", do=_AGAIN)
    if _is_text(head):
        first = head.decode("utf-8", "replace").splitlines()[0][:60]
        return InvalidModelError(f"{name} is not an ONNX model but text", why=f"it starts with {first!r}", do=_AGAIN)
    broken = wire.fault(data)
    if broken is None and wire.holds_graph(data):
        if wire.nests_too_deep(data):
            return LimitError(
                f"the subgraphs of {name} are nested too deep to be parsed", do="export the model without"
            )
        return InvalidModelError(
            f"{name} is damaged", why="its graph does not parse as ONNX", do="export or download the model again"
        )
    if broken is None:
        return InvalidModelError(
            f"{name} is not an ONNX model: it holds no graph",
            why="it parses as a protobuf message of another kind (a saved tensor?)",
            do="give the path of an .onnx model",
        )
    if "too early" in broken.why:
        return InvalidModelError(
            f"{name} is truncated or damaged", why=str(broken), do="export, copy or download the model again"
        )
    return InvalidModelError(f"{name} is not an ONNX model", why=str(broken), do="give the path of an .onnx model")


def _is_text(head: bytes) -> bool:
    try:
        text = head[:-4].decode("utf-8") if len(head) == 512 else head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c in "\r\n\t\f" for c in text)
