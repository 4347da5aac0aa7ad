"""A model as PyTorch: files in a folder, or a module in this process. Both come from the same source text."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ...ir import Model, Tensor, TersorError, UsageError
from ..compare import Difference
from ..files import explained, write_text
from ..runners.torch import TorchRunner
from .dequantized import dequantized
from .source import Source, generate
from .weights import save_tensors

if TYPE_CHECKING:
    import torch

    from ..runners import Feeds

STEM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


@dataclass(frozen=True)
class Emitted:
    """What `emit` wrote: `files` are code, weights, and, when it was checked, a test and its recorded outputs.

    `difference` is the worst of any output against ONNX Runtime, None without a check.
    """

    folder: Path
    files: tuple[Path, ...]
    class_name: str
    difference: Difference | None

    @cached_property
    def module_class(self) -> type[torch.nn.Module]:
        """The emitted class, from the file."""
        return getattr(_executed(self.files[0].read_text("ascii"), self.files[0]), self.class_name)


def emit(
    model: Model,
    folder: str | os.PathLike[str],
    *,
    class_name: str | None = None,
    stem: str = "model",
    check: bool = True,
    samples: Sequence[Feeds] | None = None,
    overwrite: bool = True,
    dequantize: bool = False,
) -> Emitted:
    """Writes `<folder>/<stem>.py` and `<stem>.safetensors`; with `check` also a test and what it compares with.

    The check imports the written file, loads the written weights and compares with ONNX Runtime on `samples`, or on
    made-up inputs. If anything fails, the folder is left as it was. Without `check` torch is not needed. Inputs that
    have a default in the graph become parameters or buffers of the module.

    `dequantize` writes a quantized model as one of floats, whose weights are the numbers that the integers stand for
    and whose activations are not rounded; it is compared with the model in that form.

    `model.load_weights` brings weights with the emitted module's keys back afterwards, except dequantized ones.

    Raises UnsupportedError with the location of what PyTorch source cannot express, ParityError where the numbers
    differ, UsageError where files cannot be written.
    """
    if not STEM.match(stem):
        raise UsageError(f"{stem!r} cannot be the name of a module", do="give letters, digits and underscores")
    written = dequantized(model) if dequantize else model
    source = generate(written, name=class_name, stem=stem)
    compile(source.text, f"{stem}.py", "exec")
    target = Path(os.path.realpath(folder))
    names = [f"{stem}.py", f"{stem}.safetensors"]
    prefix = "" if stem == "model" else f"{stem}_"
    names += [f"test_{prefix}parity.py", f"{prefix}parity.safetensors"] if check else []
    _refuse_bad_target(target, names, overwrite)
    with explained(target):
        made = not target.exists()
        target.mkdir(exist_ok=True)
        try:
            difference = _write(written, source, target, names, stem, check, samples)
        except BaseException:
            if made:
                shutil.rmtree(target, ignore_errors=True)
            raise
    written.emitted, written.constants = dict(source.weights), source.constants
    return Emitted(target, tuple(target / n for n in names), source.class_name, difference)


def to_module(model: Model, *, class_name: str | None = None, dequantize: bool = False) -> torch.nn.Module:
    """The model as a PyTorch module in evaluation mode, from the same source as `emit` writes.

    Arguments and results are positional, in the graph's order. `model.load_weights(module.state_dict())` brings its
    weights back after training. `dequantize` and UnsupportedError as in `emit`.
    """
    model = dequantized(model) if dequantize else model
    source = generate(model, name=class_name)
    made = getattr(_executed(source.text, Path("<emitted by tersor>")), source.class_name)()
    made.load_state_dict({name: _as_torch(tensor) for name, tensor in source.weights.items()})
    for key in source.constants:
        forget(made, key)
    model.emitted, model.constants = dict(source.weights), source.constants
    return made.eval()


def forget(module: torch.nn.Module, key: str) -> None:
    """Takes a buffer out of the state_dict, as `load` of the emitted file does."""
    from torch import nn

    path, _, leaf = key.rpartition(".")
    setattr(module.get_submodule(path), leaf, nn.Buffer(module.get_buffer(key), persistent=False))


def _refuse_bad_target(target: Path, names: Sequence[str], overwrite: bool) -> None:
    why = ""
    if target.exists() and not target.is_dir():
        why = "it is a file"
    elif not target.exists() and not target.parent.is_dir():
        why = f"there is no folder {target.parent}"
    for path in (target / n for n in names):
        if path.is_dir():
            why = f"{path.name} in it is a folder"
        elif path.exists() and not overwrite:
            why = f"{path.name} exists in it already"
    if why:
        raise UsageError(f"{target} cannot be written to", why=why, do="choose another folder")


def _write(
    model: Model,
    source: Source,
    target: Path,
    names: Sequence[str],
    stem: str,
    check: bool,
    samples: Sequence[Feeds] | None,
) -> Difference | None:
    """Writes and checks in a temporary folder inside the target; then the files move, weights before code."""
    with tempfile.TemporaryDirectory(prefix=f".{stem}.", dir=target) as scratch:
        draft = Path(scratch)
        save_tensors(draft / names[1], source.weights)
        write_text(draft / names[0], source.text)
        difference = _checked(model, source, draft, names, stem, samples) if check else None
        for name in (*names[1:], names[0]):
            os.replace(draft / name, target / name)
    return difference


def _checked(
    model: Model, source: Source, draft: Path, names: Sequence[str], stem: str, samples: Sequence[Feeds] | None
) -> Difference:
    from . import parity

    module = _executed(source.text, draft / names[0]).load()
    result = parity.check(model, _runner(model, module).run, samples)
    save_tensors(draft / names[3], result.record)
    write_text(draft / names[2], parity.TEST.format(stem=stem, record=names[3], tolerance=result.tolerance))
    return result.difference


def to_runner(model: Model) -> TorchRunner:
    """The emitted module behind the runners' protocol, inputs and outputs by the names of the graph."""
    return _runner(model, to_module(model))


def _runner(model: Model, module: torch.nn.Module) -> TorchRunner:
    inputs = [v.name for v in model.graph.inputs if v not in model.graph.defaults]
    return TorchRunner(module, inputs, model.graph.output_names)


def _executed(text: str, path: Path) -> ModuleType:
    """The emitted file as a module, without a bytecode file beside it."""
    try:
        import torch
    except ImportError as error:
        raise UsageError("PyTorch is not installed", do="install tersor[torch], or pass check=False") from error
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        raise TersorError(
            "the emitted module cannot be imported",
            why=f"{type(error).__name__}: {error}",
            do=f"this is a fault of the emitter (torch {torch.__version__})",
        ) from error
    return module


def _as_torch(tensor: Tensor) -> torch.Tensor:
    from ..runners.torch import to_torch

    return to_torch(tensor.numpy())
