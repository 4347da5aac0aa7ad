"""ONNX out: lowering to the opset asked for, and writing files that are deterministic and either complete or absent."""

from .writer import save, to_proto

__all__ = ["save", "to_proto"]
