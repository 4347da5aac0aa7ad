"""Type inference: element types, symbolic shapes, and contents of the small tensors that shapes are computed from."""

from .engine import Fallback, Inference, infer

__all__ = ["Fallback", "Inference", "infer"]
