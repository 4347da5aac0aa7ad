"""The ONNX frontend: files to IR."""

from .fallback import fallback
from .limits import Limits
from .load import load

__all__ = ["Limits", "fallback", "load"]
