"""PyTorch source out."""
