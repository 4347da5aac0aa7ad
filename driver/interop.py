"""The bridge to onnx_ir and to what holds its models: found where the package is installed, passes of it."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..ir import UsageError
from ..transforms.base import Pass
from ..transforms.manager import Check
from .compress import apply
from .data import Data
from .passes import resolve

if TYPE_CHECKING:
    import onnx_ir  # pyright: ignore[reportMissingImports]


def bridge(name: str) -> ModuleType:
    """The bridge to onnx_ir in `frontends` or `backends`. Raises UsageError when onnx_ir is not installed."""
    try:
        return import_module(f"..{name}.onnx.bridge", __package__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "onnx_ir":
            raise
        raise UsageError("the package onnx-ir is needed", do="pip install tersor[interop]") from error


def onnx_ir_model(model: object) -> onnx_ir.Model | None:
    """The onnx_ir model that `model` is or, as torch's ONNXProgram does, holds; None for anything else."""
    if "onnx_ir" not in sys.modules:
        return None
    kind: Any = sys.modules["onnx_ir"].Model
    held: Any = getattr(model, "model", None) if type(model).__name__ == "ONNXProgram" else model
    return held if isinstance(held, kind) else None


def as_ir_pass(
    *passes: Pass | str, data: Data | None = None, check: Check | None = None, seed: int = 0
) -> onnx_ir.passes.FunctionalPass:
    """Passes as one pass of onnx_ir, for its pass sequences; a new model that shares its tensors comes out.

    The arguments are those of `apply`: every step is verified and compared. Raises UsageError for passes that there are
    not and when onnx_ir is not installed; what goes wrong in a run is raised by it.
    """
    chosen = resolve(list(passes))
    frontend, backend = bridge("frontends"), bridge("backends")

    class TersorPass(frontend.onnx_ir.passes.FunctionalPass):
        """Runs the passes given and says whether one of them changed anything."""

        def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
            result = apply(frontend.load(model), *chosen, data=data, check=check, seed=seed)
            changed = any(step.outcome.changed for step in result.steps)
            return frontend.onnx_ir.passes.PassResult(backend.to_onnx_ir(result.model), modified=changed)

        def __repr__(self) -> str:
            return f"TersorPass({', '.join(map(str, chosen))})"

    return TersorPass()
