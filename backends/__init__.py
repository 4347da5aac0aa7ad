"""Ways out: a `Model` becomes ONNX bytes, PyTorch source or numbers."""
