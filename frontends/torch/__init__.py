"""PyTorch in."""
