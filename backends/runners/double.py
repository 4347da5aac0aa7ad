"""Models in double precision, node by node in numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ...ir import Array, Dense, DType, Model, Node, Tensor, TensorType, TersorError, Value
from ...ir.attributes import Attribute
from .base import Feeds, NamedRunner, check_feeds, inputs_of
from .evaluate import run_by_reference
from .kernels import KERNELS, Kernel, run_kernel_of
from .pointwise import erf, gelu, gemm, resize
from .taps import tapped
from .windows import average_pool, conv, conv_transpose, max_pool

FAST: Mapping[str, Kernel] = {
    **KERNELS, "AveragePool": average_pool, "Conv": conv, "ConvTranspose": conv_transpose, "Erf": erf, "Gelu": gelu,
    "Gemm": gemm, "MaxPool": max_pool, "Resize": resize,
}  # fmt: skip
"""Kernels of operators for which the reference implementation takes long; it computes the others."""

NARROW = frozenset([DType.F32, DType.F16, DType.BF16])
TYPE_ATTRIBUTES = {
    "Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype",
    "QuantizeLinear": "precision", "DequantizeLinear": "output_dtype", "BlackmanWindow": "output_datatype",
    "HannWindow": "output_datatype", "HammingWindow": "output_datatype", "MelWeightMatrix": "output_datatype",
    "GroupNormalization": "stash_type",
}  # fmt: skip
"""The attributes by which operators name the element type that they make, or compute in if the evaluator heeds it."""


class DoubleRunner(NamedRunner):
    """Runs a model in numpy with a double instead of every float of 32 bits or fewer, be it a weight, an input or what
    a Cast makes: rounding in the original precision is then visible as the difference to it. `taps` are values of the
    outermost graph.

    Only what an output or a tap needs is computed, and no value is held longer than somebody needs it. Raises
    TersorError where the reference implementation has to compute an operator and cannot.
    """

    def __init__(self, model: Model, taps: Sequence[Value] = ()) -> None:
        self.inputs, self.names = inputs_of(model.graph), list(model.graph.output_names)
        copy = tapped(model, taps)
        self._taps, self._graph = copy.taps, copy.model.graph
        widen(copy.model)

    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        graph = self._graph
        arrays = check_feeds(self.inputs, {name: np.asarray(array) for name, array in feeds.items()})
        values: dict[Value, Array] = {v: tensor.numpy() for v, tensor in graph.defaults.items()}
        values |= {v: in_double(arrays[v.name]) for v in graph.inputs if v.name in arrays}
        made = dict(zip(graph.output_names, graph.outputs, strict=True))
        wanted = [made[name] for name in names]
        nodes = needed(wanted)
        uses = Counter([*wanted, *(v for node in nodes for v in node.inputs if v is not None)])
        for node in graph:
            if node not in nodes:
                continue
            operands = [None if v is None else numbers(v, values) for v in node.inputs]
            results = zip(node.outputs, compute(node, operands), strict=False)
            values.update({v: array for v, array in results if v in uses and array is not None})
            uses.subtract(v for v in node.inputs if v is not None)
            for value in node.inputs:
                if value is not None and not uses[value]:
                    values.pop(value, None)
        return [numbers(v, values) for v in wanted]


def needed(values: Sequence[Value]) -> set[Node]:
    """The nodes of the outermost graph on which values depend."""
    found: set[Node] = set()
    pending = [v.node for v in values]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending += [v.node for v in node.inputs if v is not None]
    return found


def numbers(value: Value, known: Mapping[Value, Array]) -> Array:
    return known[value] if value.const is None else value.const.numpy()


def compute(node: Node, operands: Sequence[Array | None]) -> Sequence[Array | None]:
    found = run_kernel_of(FAST, node, operands)
    if found is not None:
        return found
    try:
        return run_by_reference(node, operands)
    except TersorError as error:
        error.where = error.where or node.where
        raise


def in_double(array: Array) -> Array:
    return array.astype(np.float64) if DType.of_numpy(array.dtype) in NARROW else array


class Unrounded(Tensor):
    """A tensor of floats in double precision, not rounded to its own; the numbers are made at each use."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(DType.F64, tensor.shape)
        self.tensor = tensor

    def numpy(self) -> Array:
        return self.tensor.unrounded()


def widen(model: Model) -> None:
    """Makes every narrow float of a model, which is changed in place, a double."""
    for value in model.graph.constants():
        if value.tensor.dtype in NARROW:
            wide = Unrounded(value.tensor)
            value.replace_by(Value(value.name, wide.type, const=wide))
    for graph in model.graph.graphs():
        for value, tensor in graph.defaults.items():
            graph.defaults[value] = Unrounded(tensor) if tensor.dtype in NARROW else tensor
        for node in (graph.entry, *graph):
            for value in node.outputs:
                if isinstance(value.type, TensorType) and value.type.dtype in NARROW:
                    value.type = value.type.with_dtype(DType.F64)
            name = TYPE_ATTRIBUTES.get(node.op, "")
            code = node.attr(name) if name else None
            if isinstance(code, int) and code and DType.of_code(code) in NARROW:
                node.attrs[name] = DType.F64.code
            node.attrs = {k: widened(v) for k, v in node.attrs.items()}


def widened(value: Attribute) -> Attribute:
    """A tensor attribute (ConstantOfShape's value) as a double."""
    if isinstance(value, Tensor) and value.dtype in NARROW:
        return Dense(value.numpy().astype(np.float64))
    return value
