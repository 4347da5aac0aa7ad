"""PyTorch in. Importing this package does not import torch; the functions do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...ir import Model, UsageError
from .errors import UnknownOperatorsError

if TYPE_CHECKING:
    import torch

__all__ = ["UnknownOperatorsError", "from_exported", "from_module"]


def from_exported(program: torch.export.ExportedProgram) -> Model:
    """A Model that computes what an exported program computes.

    Parameters and buffers become constants that share the tensors' memory and are named as in the state dict; nodes
    know their module's path and the line of the user's code. Raises UsageError without torch, UnknownOperatorsError
    for operators that have neither a lowering nor a decomposition, UnsupportedError for a program that changes its own
    buffers.
    """
    _require_torch()
    from . import program as implementation

    return implementation.from_exported(program)


def from_module(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> Model:
    """A Model of a module in evaluation mode, traced with example arguments (`torch.export.export`, not strict).

    `dynamic_shapes` says which sizes stay symbolic, as in `torch.export.export`; names given there become the sizes'
    names. Raises UsageError without torch or when torch cannot export the module, UnsupportedError as `from_exported`
    does.
    """
    _require_torch()
    from . import program as implementation

    return implementation.from_module(module, args, kwargs, dynamic_shapes=dynamic_shapes)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise UsageError("PyTorch is not installed", why=str(error), do="pip install tersor[torch]") from error
