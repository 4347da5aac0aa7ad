"""ONNX in."""
