"""Ways in: ONNX files and PyTorch modules become a `Model`."""
