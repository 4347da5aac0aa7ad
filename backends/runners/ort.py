"""ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from ...ir import Array, Model, TersorError, Value
from ..onnx import to_proto
from .base import Feeds, Runner, check_feeds, inputs_of

SEVERITY_ERROR = 3
NODE_NAME = re.compile(r"Name:'([^']+)'|[Nn]ode ?\(([^)]+)\)|[Nn]ode:'?([^'\s]+)")


class OrtRunner(Runner):
    """Runs a model in ONNX Runtime; `taps` are values of the outermost graph that `run_taps` gives.

    With `optimize` the session uses every graph optimization, else none.
    """

    def __init__(
        self,
        model: Model,
        *,
        taps: Sequence[Value] = (),
        optimize: bool = True,
        threads: int = 1,
        opset: int | None = None,
    ) -> None:
        self.inputs = inputs_of(model.graph)
        self.names = list(model.graph.output_names)
        tapped, self._taps = with_taps(model, taps)
        self.session = session(to_proto(tapped, opset).SerializeToString(), optimize, threads)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(zip(self.names, self._run(self.names, feeds), strict=True))

    def run_taps(self, feeds: Feeds) -> list[Array]:
        wanted = [t for t in self._taps if isinstance(t, str)]
        found = iter(self._run(wanted, feeds) if wanted else [])
        return [next(found) if isinstance(t, str) else t for t in self._taps]

    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        check_feeds(self.inputs, arrays)
        try:
            return self.session.run(names, arrays)
        except Exception as error:
            raise _failed("ONNX Runtime cannot run the model", error) from error


def session(model: bytes, optimize: bool, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _failed("ONNX Runtime cannot load the model", error) from error


def with_taps(model: Model, taps: Sequence[Value]) -> tuple[Model, list[str | Array]]:
    """A copy of the model with the tapped values as further outputs; for each tap the name of its output, or a constant's numbers."""
    copy = model.clone()
    twin = {
        old: new
        for a, b in zip((model.graph.entry, *model.graph), (copy.graph.entry, *copy.graph), strict=True)
        for old, new in zip(a.outputs, b.outputs, strict=True)
    }
    interface = {v.name for v in model.graph.inputs} | set(model.graph.output_names)
    found: list[str | Array] = []
    extra: dict[Value, str] = {}
    for tap in taps:
        if tap.const is not None:
            found.append(tap.const.numpy())
            continue
        if tap not in twin:
            raise ValueError(f"{tap!r} is no value of the outermost graph")
        if tap not in extra:
            name = f"tap_{len(extra)}"
            while name in interface:
                name += "_"
            extra[tap] = name
        found.append(extra[tap])
    copy.graph.set_outputs(
        [*copy.graph.outputs, *(twin[t] for t in extra)], [*copy.graph.output_names, *extra.values()]
    )
    return copy, found


def _failed(what: str, error: Exception) -> TersorError:
    message = " ".join(str(error).split())
    found = NODE_NAME.search(message)
    where = f"node {next(g for g in found.groups() if g)}" if found else ""
    return TersorError(what, where=where, why=message)
