"""ONNX out: lowering to the opset asked for, and writing files that are deterministic and either complete or absent."""

from .writer import Opset, default_opset, file_bytes, save, to_proto

__all__ = ["Opset", "default_opset", "file_bytes", "save", "to_proto"]
