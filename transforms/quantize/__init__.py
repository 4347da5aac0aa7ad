"""Int8 quantization."""
