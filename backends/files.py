"""Files that appear under their name only when all of their bytes are on the disk, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..ir import FileSlice, InvalidModelError, MappedFile, Tensor, UsageError, VerificationError

COPY_BYTES = 4 << 20
NOT_IN_KERNEL = frozenset([errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
"""What `copy_file_range` answers where the file systems cannot do it; reading and writing then does."""


class PendingFile:
    """A new file under a temporary name beside `path`: written, then finished, then published or discarded.

    Every method raises OSError as the system gives it; see `explained`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0
        self._descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
        self._temporary: Path | None = Path(name)
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        while view:
            done = os.write(self._descriptor, view)
            self.position += done
            view = view[done:]

    def align(self, boundary: int) -> int:
        """Pads with zeros up to a multiple of `boundary` and gives that position."""
        self.write(b"\0" * (-self.position % boundary))
        return self.position

    def copy(self, source: MappedFile, offset: int, length: int) -> None:
        """Appends a part of another file without touching its map. Raises InvalidModelError if that became shorter."""
        end = offset + length
        in_kernel = hasattr(os, "copy_file_range")
        while offset < end:
            wanted = min(COPY_BYTES, end - offset)
            done = 0
            if in_kernel:
                try:
                    done = os.copy_file_range(source.fileno(), self._descriptor, wanted, offset)
                    self.position += done
                except OSError as error:
                    if error.errno not in NOT_IN_KERNEL:
                        raise
                    in_kernel = False
            if not done:
                in_kernel = False
                block = os.pread(source.fileno(), wanted, offset)
                if not block:
                    raise InvalidModelError(
                        f"{source.path} became shorter while it was in use", do="load the model again"
                    )
                self.write(block)
                done = len(block)
            offset += done

    def append(self, tensor: Tensor, name: str) -> None:
        """Appends a tensor's raw data: from file to file where it is a slice of one, else block by block.

        Raises VerificationError when it has not as many bytes as its type says.
        """
        start = self.position
        if isinstance(tensor, FileSlice):
            tensor.file.check()
            self.copy(tensor.file, tensor.offset, tensor.length)
        else:
            for block in tensor.blocks():
                self.write(block)
        if self.position - start != tensor.nbytes:
            raise VerificationError(
                "a weight has not as many bytes as its type says",
                where=name,
                why=f"{tensor!r} gave {self.position - start} bytes, {tensor.nbytes} were expected",
            )

    def finish(self) -> None:
        """Brings all bytes to the disk and closes the file."""
        assert self._temporary is not None
        os.fchmod(self._descriptor, _mode(self.path))
        os.fsync(self._descriptor)
        self._close()

    def publish(self) -> None:
        """Gives the finished file its name, in place of whatever had it."""
        assert self._temporary is not None
        assert not self._open
        os.replace(self._temporary, self.path)
        self._temporary = None
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Removes the temporary file if it was not published."""
        self._close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


def _mode(path: Path) -> int:
    """The permissions of the file that is being replaced, else those that a new file gets here."""
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


@contextlib.contextmanager
def pending(path: Path) -> Iterator[PendingFile]:
    """A PendingFile that is discarded unless it was published inside."""
    file = PendingFile(path)
    try:
        yield file
    finally:
        file.discard()


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file that appears whole or not at all. Raises OSError as the system gives it."""
    with pending(path) as file:
        file.write(text.encode("utf-8"))
        file.finish()
        file.publish()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a UsageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            do="choose a place that is writable and has room; what was there before is unchanged",
        ) from error


def target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Where a file that is to be saved as `path` goes: behind symbolic links. Raises UsageError where it cannot go."""
    given = Path(os.path.realpath(path))
    with explained(Path(path)):
        why = _refusal(given, overwrite)
    if why:
        raise UsageError(f"{os.fspath(path)} cannot be written", why=why, do="choose another path")
    return given


def _refusal(given: Path, overwrite: bool) -> str:
    """Why a file cannot go there; '' where it can. Raises OSError for a name that the system does not take."""
    if given.is_dir():
        return "it is a folder"
    if not given.parent.is_dir():
        return f"there is no folder {given.parent}"
    if not given.exists():
        return ""
    if not given.is_file():
        return "it is a device or a pipe, and a file would take its place"
    return "" if overwrite else "it exists already"
