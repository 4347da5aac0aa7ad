"""Constant tensors: dense, sparse, mapped from a file, or lazy expressions over others."""

from .base import Array, Tensor, from_raw, raw_bytes
from .lazy import (
    FUNCTIONS,
    Lazy,
    TensorLike,
    as_tensor,
    binary,
    cast,
    channelwise,
    comes_from,
    evaluated,
    integer_range,
    quantize,
    reshape,
    take,
    transpose,
)
from .sparse import Sparse, sparse
from .stored import Dense, FileSlice, MappedFile, Placeholder, spilled

__all__ = [
    "FUNCTIONS",
    "Array",
    "Dense",
    "FileSlice",
    "Lazy",
    "MappedFile",
    "Placeholder",
    "Sparse",
    "Tensor",
    "TensorLike",
    "as_tensor",
    "binary",
    "cast",
    "channelwise",
    "comes_from",
    "evaluated",
    "from_raw",
    "integer_range",
    "quantize",
    "raw_bytes",
    "reshape",
    "sparse",
    "spilled",
    "take",
    "transpose",
]
