"""OpenVINO on the CPU: reads the ONNX file, with its QuantizeLinear and DequantizeLinear nodes."""

# pyright: reportMissingImports=false
# (OpenVINO is an extra.)

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np

from ...ir import Array, Model, TersorError, UsageError
from ..onnx import save, to_proto
from .base import Feeds, Runner, check_feeds, inputs_of
from .ort import IN_MEMORY_BYTES

PRECISIONS = {"f32": "f32", "bf16": "bf16"}
"""What layers that are not quantized compute in, as OpenVINO calls it."""


class OpenVinoRunner(Runner):
    """Runs a model in OpenVINO on one or more threads; it takes no taps.

    `precision` "f32" or "bf16" is what layers that are not quantized compute in; OpenVINO's own default is bfloat16
    where the CPU has it. Raises UsageError where the package is not installed or the CPU lacks the precision, and
    TersorError where OpenVINO refuses the model.
    """

    def __init__(self, model: Model, *, threads: int = 1, precision: str = "f32") -> None:
        core = core_of()
        if precision == "bf16" and not has_bf16(core):
            raise UsageError("this CPU does not compute in bfloat16", do="leave that precision out")
        self.inputs, self.names = inputs_of(model.graph), list(model.graph.output_names)
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        }
        try:
            self.request = core.compile_model(_read(core, model), "CPU", options).create_infer_request()
        except Exception as error:
            raise _failed("OpenVINO cannot load the model", error) from error

    def run(self, feeds: Feeds) -> dict[str, Array]:
        arrays = check_feeds(self.inputs, {name: np.asarray(array) for name, array in feeds.items()})
        try:
            found = self.request.infer(arrays)
        except Exception as error:
            raise _failed("OpenVINO cannot run the model", error) from error
        return {name: np.array(found[i]) for i, name in enumerate(self.names)}

    def run_taps(self, feeds: Feeds) -> list[Array]:
        return []


def core_of() -> Any:
    """OpenVINO's entry. Raises UsageError where it is not installed."""
    try:
        import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        raise UsageError(
            "the package openvino is needed for openvino-cpu", do="pip install tersor[openvino]"
        ) from error
    return openvino.Core()


def has_bf16(core: Any) -> bool:
    """True where the CPU has instructions for bfloat16."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _read(core: Any, model: Model) -> Any:
    if sum(v.tensor.nbytes for v in model.graph.constants()) <= IN_MEMORY_BYTES:
        return core.read_model(to_proto(model).SerializeToString())
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        path = os.path.join(folder, "model.onnx")
        save(model, path)
        return core.read_model(path)


def _failed(what: str, error: Exception) -> TersorError:
    return TersorError(what, why=" ".join(str(error).split())[:400])
