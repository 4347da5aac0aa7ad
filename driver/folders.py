"""Folders as Hugging Face tools write them: a model with its configuration and tokenizer beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..backends.files import explained, pending
from ..ir import UsageError
from .files import folder as made_folder

COMPANIONS = frozenset([".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"])
"""Suffixes of the files beside a model that say how to use it: configuration, tokenizer, vocabulary, model card."""
LICENSES = frozenset(["LICENSE", "NOTICE"])
OURS = frozenset(["report.json", "lock.json"])
LOCK = ".lock.json"
WEIGHTS_INDEX = ".index.json"
"""How the table of contents of weight shards ends; the shards are not those of the ONNX model."""


def model_in(folder: str | os.PathLike[str]) -> Path | None:
    """The ONNX model of a folder: its only one, or the one called model.onnx, there or in `onnx/`; None when that does
    not say which.
    """
    for place in (Path(folder), Path(folder) / "onnx"):
        found = sorted(place.glob("*.onnx"))
        named = [p for p in found if p.name == "model.onnx"]
        if len(found) == 1 or named:
            return (named or found)[0]
        if found:
            return None
    return None


def companions(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of a folder that say how to use its model, in order of name. Raises UsageError when it is no folder."""
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"{place} is not a folder", do="give the folder that the model came from")
    return sorted(
        p
        for p in place.iterdir()
        if p.is_file()
        and (p.suffix in COMPANIONS or p.name in LICENSES)
        and not (p.name.startswith(".") or p.name.endswith((WEIGHTS_INDEX, LOCK)) or p.name in OURS)
    )


def copy(found: Iterable[Path], output: str | os.PathLike[str]) -> list[Path]:
    """Copies files into a folder, which is made when it is not there, and gives the new ones.

    Raises UsageError where one cannot be read or written.
    """
    place, made = made_folder(output), list[Path]()
    for path in found:
        new = place / path.name
        with explained(new):
            if not (new.exists() and new.samefile(path)):
                with pending(new) as file:
                    file.write(path.read_bytes())
                    file.finish()
                    file.publish()
        made.append(new)
    return made
