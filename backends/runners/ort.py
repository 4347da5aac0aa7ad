"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from ...ir import Array, DType, Model, Node, Tensor, TensorType, TersorError, Type, UsageError, Value, fresh, symbol
from ...ir.types import ANY
from ..onnx import Opset, save, to_proto
from .base import Feeds, Input, NamedRunner, check_feeds, inputs_of
from .taps import CARRIERS, free, tapped

SEVERITY_FATAL = 4
"""What ONNX Runtime refuses it also raises; its own lines on stderr would say it twice."""
IN_MEMORY_BYTES = 64 << 20
"""Models with more weights than this reach the runtime through a temporary file, without a copy in this process."""

LARGE = 1 << 16
"""Elements from which on a weight can be handed over as an input."""
STRIP = 128
"""Columns of a transposed matrix that are copied at a time."""
NATIVE = (DType.F16, DType.F32, DType.F64)
"""Types of weights that can, because numpy has them."""

CRASHES_ON_HALVES = ("MatmulTransposeFusion",)
"""Optimizers with which ONNX Runtime 1.31 dies of some Transposes in float16 in front of a matrix product."""

NODE_NAME = re.compile(r"Name:'([^']+)'|[Nn]ode ?\(([^)]+)\)|[Nn]ode:'?([^'\s]+)")


class OrtRunner(NamedRunner):
    """Runs a model in ONNX Runtime; `taps` are values of the outermost graph that `run_taps` gives.

    The model is a Model, or the path of an ONNX file, which has no taps. With `optimize` the session uses every graph
    optimization, else none. A Model is written for `opset`, by default the one that `save` would choose. A runner that
    is used `once` hands its large weights over in the memory in which they are, as inputs: nothing is written, read,
    copied or packed.

    Raises UsageError for a path without a file, TersorError where ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        *,
        taps: Sequence[Value] = (),
        optimize: bool = True,
        threads: int = 1,
        opset: Opset = None,
        once: bool = False,
    ) -> None:
        options = _options(optimize, threads)
        self._carried: dict[str, DType] = {}
        self._weights: dict[str, Array] = {}
        self._taps: list[str | Array] = []
        if not isinstance(model, Model):
            if not Path(model).is_file():
                raise UsageError(f"there is no file {os.fspath(model)}", do="give the path of an ONNX file")
            self.session = _session(os.fspath(model), sess_options=options)
            self.inputs = [_input(i) for i in self.session.get_inputs()]
            self.names = [o.name for o in self.session.get_outputs()]
            return
        self.inputs, self.names = inputs_of(model.graph), list(model.graph.output_names)
        copy = tapped(model, taps, carry=True)
        self._taps, self._carried = copy.taps, copy.carried
        if once:
            self._weights = _weights_as_inputs(copy.model)
        self.session = session_of(copy.model, opset, sess_options=options)

    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        arrays = {name: np.asarray(array) if not isinstance(array, list) else array for name, array in feeds.items()}
        arrays = check_feeds(self.inputs, arrays)
        arrays.update({n: arrays[n].astype(CARRIERS[d].numpy) for n, d in self._carried.items() if n in arrays})
        try:
            results: list[Any] = list(self.session.run(names, {**arrays, **self._weights}))
        except Exception as error:
            raise _failed("ONNX Runtime cannot run the model", error) from error
        return [
            r.astype(self._carried[n].numpy) if n in self._carried else r for n, r in zip(names, results, strict=True)
        ]


def _weights_as_inputs(model: Model) -> dict[str, Array]:
    """Makes the large float constants of the outermost graph inputs of the model, which is changed; their numbers."""
    graph, found, made = model.graph, dict[str, Array](), dict[Tensor, Value]()
    taken = {v.name for v in graph.inputs}
    for value in graph.constants():
        large = value.tensor.count >= LARGE and value.tensor.dtype in NATIVE
        if not large or any(user.graph is not graph or user is graph.exit for user in value.users):
            continue
        if value.tensor not in made:
            name = free(f"weight_{len(found)}", taken)
            found[name] = in_rows(value.tensor.numpy())
            made[value.tensor] = graph.add_input(name, value.type)
        value.replace_by(made[value.tensor])
    return found


def in_rows(array: Array) -> Array:
    """np.ascontiguousarray; a transposed matrix is copied in strips that a core's cache holds, which is far faster."""
    if array.ndim != 2 or array.flags.c_contiguous or not array.flags.f_contiguous:
        return np.ascontiguousarray(array)
    copy = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], STRIP):
        copy[:, start : start + STRIP] = array[:, start : start + STRIP]
    return copy


def _options(optimize: bool, threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = SEVERITY_FATAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return options


def session_of(model: Model, opset: Opset = None, **options: Any) -> ort.InferenceSession:
    """A session of a model in memory, of any size: more than 64 MB of weights pass through a temporary folder.

    `options` are those of `onnxruntime.InferenceSession`; without `providers` it runs on the CPU. Raises TersorError
    where ONNX Runtime refuses the model.
    """
    if any(multiplies_halves(node) for graph in model.graph.graphs() for node in graph):
        options = {"disabled_optimizers": list(CRASHES_ON_HALVES), **options}
    if sum(v.tensor.nbytes for v in model.graph.constants()) <= IN_MEMORY_BYTES:
        return _session(to_proto(model, opset).SerializeToString(), **options)
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        path = os.path.join(folder, "model.onnx")
        save(model, path, opset=opset)
        return _session(path, **options)


def multiplies_halves(node: Node) -> bool:
    """True for a matrix product in float16."""
    return node.op == "MatMul" and any(
        isinstance(v.type, TensorType) and v.type.dtype is DType.F16 for v in (*node.inputs, node.output) if v
    )


def _session(model: bytes | str, **options: Any) -> ort.InferenceSession:
    given: dict[str, Any] = {"providers": ["CPUExecutionProvider"], **options}
    try:
        return ort.InferenceSession(model, **given)
    except Exception as error:
        raise _failed("ONNX Runtime cannot load the model", error) from error


DTYPES = {f"tensor({onnx.TensorProto.DataType.Name(d.code).lower()})": d for d in DType}


def _input(argument: ort.NodeArg) -> Input:
    """An input of a session as a typed one; what is no tensor has the type ANY."""
    dtype = DTYPES.get(argument.type)
    type_: Type = ANY
    if dtype is not None:
        shape = (symbol(d) if isinstance(d, str) else fresh() if d is None else d for d in argument.shape)
        type_ = TensorType(dtype, tuple(shape))
    return Input(argument.name, type_)


def _failed(what: str, error: Exception) -> TersorError:
    message = " ".join(str(error).split())
    named = [next(g for g in found if g) for found in NODE_NAME.findall(message)]
    where = f"node {named[-1]}" if named else ""  # the last is the innermost: a node in a branch comes after its If
    return TersorError(what, where=where, why=message)
