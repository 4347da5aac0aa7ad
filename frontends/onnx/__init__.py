"""The ONNX frontend: files to IR."""

from .limits import Limits
from .load import load

__all__ = ["Limits", "load"]
