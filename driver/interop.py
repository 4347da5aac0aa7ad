"""The bridge to onnx_ir and to what holds its models: found where the package is installed."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..ir import UsageError

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
