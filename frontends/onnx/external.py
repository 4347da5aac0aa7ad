"""Weights in files beside the model: which files may be read, and how.

A location in a model is data from a stranger. It must be a relative path without `..` that names a regular file with
one hard link inside the model's folder after following symbolic links. One layout with links outward is let through: in
a Hugging Face cache the files of `snapshots/<revision>/` are links to `blobs/` of the same repository folder.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...ir import DType, FileSlice, InvalidModelError, MappedFile, Tensor, UsageError
from ...ir.tensors import Dense, from_raw


class Folder:
    """The folder of a model file; it opens the data files that the model names.

    `path` is None for a model that came without a file.
    """

    def __init__(self, model: Path | None, *, mmap: bool = True) -> None:
        self.model, self.mmap = model, mmap
        self.files: dict[str, MappedFile] = {}

    def slice(self, entries: dict[str, str], dtype: DType, shape: tuple[int, ...], where: object) -> Tensor:
        """The tensor that `external_data` entries describe. Raises InvalidModelError naming tensor and file."""
        location, nbytes = entries.get("location", ""), dtype.file_bytes(math.prod(shape))
        file = self.open(location, where)
        offset = _number(entries, "offset", 0, where)
        length = _number(entries, "length", nbytes, where)
        if length != nbytes or offset + length > file.size:
            raise InvalidModelError(
                "external data do not fit the tensor",
                where=f"{where}, file {str(file.path)!r}",
                why=f"{nbytes} bytes are needed, the model names {length} at offset {offset} of {file.size}",
                do="put the data file that was saved with this model beside it",
            )
        if self.mmap:
            return FileSlice(file, offset, length, dtype, shape)
        return Dense(from_raw(bytes(file.view(offset, length)), dtype, shape), dtype)

    def open(self, location: str, where: object) -> MappedFile:
        if location not in self.files:
            self.files[location] = MappedFile(self.resolve(location, where))
        return self.files[location]

    def resolve(self, location: str, where: object) -> Path:
        """The real path of a data file. Raises InvalidModelError for one that is unsafe or is no regular file."""
        if self.model is None:
            raise UsageError(
                "the model keeps weights in another file, and where it came from is not known",
                where=f"{where}, file {location!r}",
                do="load it from its path, or put the weights into the model first",
            )
        if _leaves(location):
            raise _unsafe(location, where, "the location is not a plain relative path")
        folders = dict.fromkeys([self.model.parent, Path(os.path.realpath(self.model)).parent])
        found = next((f / location for f in folders if os.path.lexists(f / location)), None)
        if found is None:
            raise InvalidModelError(
                "external data are missing",
                where=where,
                why=f"there is no file {str(self.model.parent / location)!r}",
                do="copy it to where the model is: the two belong together",
            )
        real = Path(os.path.realpath(found))
        if not any(real.is_relative_to(root) for root in self.roots()):
            raise _unsafe(location, where, f"it leads to {str(real)!r}, outside the model's folder")
        try:
            status = os.stat(real)
        except OSError as error:
            raise InvalidModelError(
                "external data cannot be read", where=f"{where}, file {str(found)!r}", why=str(error)
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise _unsafe(location, where, "it is not a regular file")
        if status.st_nlink > 1:
            raise _unsafe(
                location, where, "it has several hard links, so it may be a file from elsewhere", "make a copy of it"
            )
        return real

    def roots(self) -> list[Path]:
        """The folders in which data files may lie, symbolic links resolved."""
        assert self.model is not None
        here = Path(os.path.realpath(self.model.parent))
        roots = [here, Path(os.path.realpath(self.model)).parent] if self.model.is_symlink() else [here]
        for folder in here.parents:
            if folder.name == "snapshots" and (folder.parent / "blobs").is_dir():
                roots.append(folder.parent / "blobs")
        return roots


def _leaves(location: str) -> bool:
    """True for what is not a plain relative path on every system."""
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    parts = {*windows.parts, *posix.parts}
    return not location or "\0" in location or ".." in parts or windows.anchor != "" or posix.is_absolute()


def _number(entries: dict[str, str], key: str, default: int, where: object) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise InvalidModelError(f"the {key} of external data is {text!r}, expected a number", where=where)
    return int(text)


def _unsafe(
    location: str, where: object, why: str, do: str = "put the data file beside the model"
) -> InvalidModelError:
    return InvalidModelError(f"external data at {location!r} are refused", where=where, why=why, do=do)
