"""What a program is: graphs, types, sizes, constants, locations, the verifier, the text form and the rewrite
machinery.
"""

from .attributes import Attribute, EmptyList
from .builder import Builder
from .dims import Dim, Size, fresh, symbol
from .errors import (
    InvalidModelError,
    LimitError,
    ParityError,
    TersorError,
    UnsupportedError,
    UsageError,
    VerificationError,
)
from .graph import ENTRY, EXIT, Graph, Node, Value, constant
from .hashing import structural_hash
from .locations import NOWHERE, Loc, fuse
from .model import Model, pairs
from .schemas import CANONICAL_OPSET, Schema, lookup
from .tensors import Array, Dense, FileSlice, Lazy, MappedFile, Placeholder, Tensor
from .text import parse, parse_type, skeleton, to_text
from .types import ANY, DType, MapType, OptionalType, SequenceType, SparseType, TensorType, Type, tensor
from .verifier import verify

__all__ = [
    "ANY",
    "CANONICAL_OPSET",
    "ENTRY",
    "EXIT",
    "NOWHERE",
    "Array",
    "Attribute",
    "Builder",
    "DType",
    "Dense",
    "Dim",
    "EmptyList",
    "FileSlice",
    "Graph",
    "InvalidModelError",
    "Lazy",
    "LimitError",
    "Loc",
    "MapType",
    "MappedFile",
    "Model",
    "Node",
    "OptionalType",
    "ParityError",
    "Placeholder",
    "Schema",
    "SequenceType",
    "Size",
    "SparseType",
    "Tensor",
    "TensorType",
    "TersorError",
    "Type",
    "UnsupportedError",
    "UsageError",
    "Value",
    "VerificationError",
    "constant",
    "fresh",
    "fuse",
    "lookup",
    "pairs",
    "parse",
    "parse_type",
    "skeleton",
    "structural_hash",
    "symbol",
    "tensor",
    "to_text",
    "verify",
]
