"""Running graphs: ONNX Runtime, the ONNX reference evaluator and PyTorch behind one small protocol."""

from .base import Feeds, Runner, Samples
from .ort import OrtRunner

__all__ = ["Feeds", "OrtRunner", "Runner", "Samples"]
