"""The ONNX reference evaluator: slow, in numpy, close to the specification; optionally in double precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir import Array, Dense, DType, Model, Tensor, TensorType, TersorError, Value
from ...ir.attributes import Attribute
from ..onnx import to_proto
from ..onnx.lowering import newest_needed
from .base import Feeds, NamedRunner, check_feeds, inputs_of
from .taps import tapped

NARROW = frozenset([DType.F32, DType.F16, DType.BF16])
TYPE_ATTRIBUTES = {
    "Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype",
    "QuantizeLinear": "precision", "DequantizeLinear": "output_dtype", "BlackmanWindow": "output_datatype",
    "HannWindow": "output_datatype", "HammingWindow": "output_datatype", "MelWeightMatrix": "output_datatype",
    "GroupNormalization": "stash_type",
}  # fmt: skip
"""The attributes by which operators name the element type that they make, or compute in if the evaluator heeds it."""


class ReferenceRunner(NamedRunner):
    """Runs a model at the canonical opset in `onnx.reference`; `taps` are values of the outermost graph.

    With `double` every float of 32 bits or fewer, be it a weight, an input or what a Cast makes, is a double instead:
    rounding in the original precision is then visible as the difference to it. Operators whose evaluator insists on
    another type fail as they do without it. Raises TersorError where the evaluator cannot load or run the model.
    """

    def __init__(self, model: Model, taps: Sequence[Value] = (), *, double: bool = False) -> None:
        from onnx.reference import ReferenceEvaluator  # importing it takes longer than most models need it

        self.inputs, self.names = inputs_of(model.graph), list(model.graph.output_names)
        copy = tapped(model, taps)
        self._taps, self._double = copy.taps, double
        if double:
            _widen(copy.model)
        try:
            self._evaluator = ReferenceEvaluator(to_proto(copy.model, newest_needed(copy.model)))
        except TersorError:
            raise
        except Exception as error:
            raise TersorError("the reference evaluator cannot load the model", why=_one_line(error)) from error

    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        arrays = check_feeds(self.inputs, arrays)
        if self._double:
            arrays = {n: a.astype(np.float64) if DType.of_numpy(a.dtype) in NARROW else a for n, a in arrays.items()}
        try:
            with np.errstate(all="ignore"):
                return self._evaluator.run(names, arrays)  # pyright: ignore[reportReturnType]
        except Exception as error:
            raise TersorError("the reference evaluator cannot run the model", why=_one_line(error)) from error


def _widen(model: Model) -> None:
    """Makes every narrow float of a model, which is changed in place, a double."""
    for value in model.graph.constants():
        if value.tensor.dtype in NARROW:
            value.replace_by(
                Value(value.name, value.tensor.type.with_dtype(DType.F64), const=Dense(value.tensor.unrounded()))
            )
    for graph in model.graph.graphs():
        for value, tensor in graph.defaults.items():
            graph.defaults[value] = Dense(tensor.unrounded()) if tensor.dtype in NARROW else tensor
        for node in (graph.entry, *graph):
            for value in node.outputs:
                if isinstance(value.type, TensorType) and value.type.dtype in NARROW:
                    value.type = value.type.with_dtype(DType.F64)
            name = TYPE_ATTRIBUTES.get(node.op, "")
            code = node.attr(name) if name else None
            if isinstance(code, int) and code and DType.of_code(code) in NARROW:
                node.attrs[name] = DType.F64.code
            node.attrs = {k: _widened(v) for k, v in node.attrs.items()}


def _widened(value: Attribute) -> Attribute:
    """A tensor attribute (ConstantOfShape's value) as a double."""
    if isinstance(value, Tensor) and value.dtype in NARROW:
        return Dense(value.numpy().astype(np.float64))
    return value


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
