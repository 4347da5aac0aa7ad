"""Text files of the driver, written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..backends.files import explained, target, write_text
from ..ir import UsageError


def save_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file. Raises UsageError when the place cannot be written; what was there is then unchanged."""
    place = target(path, overwrite=True)
    with explained(place):
        write_text(place, text)


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Raises UsageError when one of the files is there already and `force` is not set."""
    there = [str(p) for p in paths if p.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} exists already", do="choose another place, or pass --force to replace it")


def ready(paths: Sequence[Path], force: bool) -> None:
    """Raises UsageError where one of the files cannot be written: known before the work, not after it."""
    places = [target(path, overwrite=True) for path in paths]
    refuse_existing(paths, force)
    for number, (path, place) in enumerate(zip(paths, places, strict=True)):
        if not os.access(place.parent, os.W_OK):
            raise UsageError(
                f"{path} cannot be written", why=f"no permission in {place.parent}", do="choose another path"
            )
        if place in places[:number]:
            raise UsageError(f"{path} is to be written twice", do="choose different places for the outputs")


def output(text: str) -> Path:
    """The path of a file to write. Raises UsageError for one that ends as those of folders do, or is no path."""
    if "\0" in text:
        raise UsageError(f"{text!r} is no path", do="name a file")
    if text.endswith(("/", os.sep)):
        raise UsageError(f"{text} is a folder by its name", do="name a file")
    return Path(text)


def printable(text: str) -> str:
    """A text that UTF-8 can hold: bytes of a file's name that are no UTF-8 are written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raises UsageError where an output would take the place of one of the inputs, whatever is to be replaced."""
    read = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in read:
            raise UsageError(f"{path} is an input of this run", do="choose another place for the output")


def folder(path: str | os.PathLike[str]) -> Path:
    """A folder to write into, made when it is not there. Raises UsageError when that is impossible."""
    place = Path(path)
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is not a folder", do="choose a folder for the output")
    with explained(place):
        place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise UsageError(f"{place} cannot be written", why="no permission", do="choose another place")
    return place


@contextmanager
def working_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """`folder`, known before the work. Where the work fails, folders that were made for it and are empty go again."""
    made = [place for place in (Path(path), *Path(path).parents) if not place.exists()]
    place = folder(path)
    try:
        yield place
    except BaseException:
        for new in made:
            with suppress(OSError):
                new.rmdir()
        raise
