"""The entry: exporting a module, making a program functional or decomposing an operator where that is needed, and importing it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram

from ...ir import Model, UsageError
from .importer import Undecomposed, import_program
from .interface import size_names
from .mutation import is_pure_in_effect, mutates


def from_exported(program: ExportedProgram, names: Mapping[str, str] | None = None) -> Model:
    """A Model that computes what an exported program computes; `names` renames its symbolic sizes.

    Parameters and buffers become constants that share the tensors' memory and are named as in the state dict. An operator without a
    lowering is decomposed, and that one alone. Raises UnsupportedError where that does not help or the program keeps state.
    """
    if not is_pure_in_effect(program.graph_module) or any(mutates(m) for m in _submodules(program)):
        program = program.run_decompositions({})
    tried: set[Any] = set()
    while True:
        try:
            return import_program(program, names or {})
        except Undecomposed as found:
            table = torch.export.default_decompositions()
            chosen = {t: table[t] for t in found.targets if t not in tried and t in table}
            if not chosen:
                raise found.error from None
            tried.update(chosen)
            program = program.run_decompositions(chosen)


def _submodules(program: ExportedProgram) -> Iterator[torch.fx.GraphModule]:
    yield from (m for m in program.graph_module.children() if isinstance(m, torch.fx.GraphModule))


def from_module(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, *, dynamic_shapes: Any = None
) -> Model:
    """A Model of a module in evaluation mode, traced with example arguments; sizes named in `dynamic_shapes` stay symbolic.

    `dynamic_shapes` is that of `torch.export.export`. The module's training flags are as before afterwards. Raises UsageError when torch
    cannot export the module, UnsupportedError as `from_exported` does.
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError("a torch.nn.Module is expected", why=f"a {type(module).__name__} was given")
    if not isinstance(args, tuple):
        raise UsageError("the example arguments must be a tuple", why=f"a {type(args).__name__} was given", do="write args=(x,)")
    with evaluating(module):
        try:
            program = torch.export.export(module, args, dict(kwargs or {}), dynamic_shapes=dynamic_shapes, strict=False)
        except Exception as error:
            raise UsageError(
                f"torch cannot export {type(module).__name__}",
                why=(str(error).strip() or type(error).__name__).split("\n\n")[0],
                do="make torch.export.export(module, args) work first",
            ) from error
    order = [*inspect.signature(module.forward).parameters]
    return from_exported(program, size_names(program, dynamic_shapes, order))


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; attention modules take their ordinary path, which has operators that mean something."""
    flags = {m: m.training for m in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for m, training in flags.items():
            m.training = training


