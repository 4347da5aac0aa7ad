"""Type inference: element types and symbolic shapes of every value, and the contents of the small tensors that shapes come from."""

from .engine import Fallback, Inference, infer

__all__ = ["Fallback", "Inference", "infer"]
