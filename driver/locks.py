"""What a run was besides its options: versions, and hashes of the files that went in and came out.

Compressing is deterministic: the same files, options and versions give the same bytes. A lock is what has to be the
same, so that a run can be done again and be held to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ..ir import FileSlice, Model, UsageError
from ..transforms.base import Pass
from .environment import tool
from .files import printable
from .passes import available
from .report import File

BLOCK = 1 << 20


@dataclass(frozen=True)
class Lock:
    """Versions by package, and the files in the order in which they were read and written."""

    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    inputs: tuple[File, ...] = ()
    outputs: tuple[File, ...] = ()


def file_of(role: str, path: Path) -> File:
    """A file with the hash of its bytes; nothing of it is kept in memory."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return File(role=role, name=printable(path.name), sha256=digest.hexdigest(), bytes=path.stat().st_size)


def input_files(
    path: Path, model: Model, data: Path | None = None, references: Iterable[str] = ()
) -> list[tuple[str, Path]]:
    """The files of a run with their roles: the model as it was just loaded from `path`, the files that its weights are
    in, the calibration data, and the metrics' modules.
    """
    found = [("model", path)]
    found += [("weights", p) for p in weight_files(model) if p.resolve() != path.resolve()]
    if data is not None:
        inside = sorted(p for p in data.iterdir() if p.suffix in (".npz", ".npy")) if data.is_dir() else [data]
        found += [("data", p) for p in inside]
    modules = dict.fromkeys(Path(reference.rpartition(":")[0]) for reference in references)
    return [(role, p) for role, p in (*found, *(("metric", m) for m in modules)) if p.is_file()]


def weight_files(model: Model) -> list[Path]:
    """The files that the model's constants are mapped from, in order of name."""
    tensors = (value.const for value in model.graph.constants())
    return sorted({tensor.file.path for tensor in tensors if isinstance(tensor, FileSlice)})


def versions(steps: Sequence[Pass]) -> dict[str, str]:
    """The versions of tersor, of what it computes with, and of the packages that the steps come from."""
    here = tool()
    found = {name: getattr(here, name) for name in ("tersor", "onnx", "onnxruntime", "numpy")}
    registry = available()
    for step in steps:
        origin = registry.origin(step.name) if step.name in registry.entries else ""
        package, _, version = origin.rpartition(" ")
        if package and step.name not in registry.built_in:
            found[package] = version
    return found


def require_same(locked: Lock, inputs: Sequence[File]) -> None:
    """Raises UsageError, naming the first that differs, where the inputs are not those of a lock."""
    wanted = [(f.role, f.sha256) for f in locked.inputs]
    found = [(f.role, f.sha256) for f in inputs]
    if wanted == found:
        return
    away = [f for f in locked.inputs if (f.role, f.sha256) not in found][:1]
    new = [f for f in inputs if (f.role, f.sha256) not in wanted][:1]
    raise UsageError(
        "the inputs are not those of the lock",
        why=f"locked: {_said(away)}; found: {_said(new)}",
        do="give the same files, or take the section lock out to run the recipe on others",
    )


def _said(files: Sequence[File]) -> str:
    return ", ".join(f"{f.role} {f.name} with sha256 {f.sha256[:12]}..." for f in files) or "no other file"


def other_versions(locked: Lock, steps: Sequence[Pass]) -> list[str]:
    """What is installed in another version than when the lock was written, as a person reads it."""
    here = versions(steps)
    return [
        f"{name} {here.get(name, 'is not there')} (the lock has {version})"
        for name, version in locked.versions.items()
        if here.get(name) != version
    ]


def other_outputs(locked: Lock, outputs: Sequence[File]) -> list[str]:
    """The outputs, by name, whose bytes are not those of the lock; a file of another name is none of its outputs.

    Weights in a file of their own are named in the model, so both have to keep their names.
    """
    wanted = {(f.role, f.name): f.sha256 for f in locked.outputs}
    if len(locked.outputs) == len(outputs) == 1:
        return [f.name for f, w in zip(outputs, locked.outputs, strict=True) if f.sha256 != w.sha256]
    return [f.name for f in outputs if wanted.get((f.role, f.name), f.sha256) != f.sha256]
