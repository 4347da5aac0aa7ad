"""What became of the int8 layers: which ones ONNX Runtime still computes in float, and how much error each has."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (ONNX Runtime and onnx.load come without types.)

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from ...backends.compare import Comparison
from ...backends.onnx import save
from ...backends.runners import OrtRunner, Samples
from ...ir import Model, Node, Value
from .calibrate import limited

FLOAT_KERNELS = frozenset(["Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"])
SIGNAL_SAMPLES = 16
"""Calibration samples on which the error of each layer is measured."""


def optimised(model: Model) -> onnx.GraphProto:
    """The graph that ONNX Runtime executes on this machine, without its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        save(model, path / "model.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(path / "optimised.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimised.data")
        ort.InferenceSession(str(path / "model.onnx"), options, providers=["CPUExecutionProvider"])
        return onnx.load(path / "optimised.onnx", load_external_data=False).graph


def float_layers(model: Model) -> list[str]:
    """Names of the nodes that ONNX Runtime's optimised graph computes in float from dequantized weights: int8 in
    name only."""
    graph = optimised(model)
    from_integers = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in from_integers:
            from_integers.add(node.output[0])
    return [node.name for node in graph.node if node.op_type in FLOAT_KERNELS and node.input[1] in from_integers]


def signal_to_noise(
    reference: OrtRunner, model: Model, layers: Mapping[Node, Value], samples: Samples
) -> dict[Node, float]:
    """SQNR in dB of every layer's result in `model` against the taps of `reference`, which are in the order of
    `layers`.

    The error of a layer includes that of the layers before it. A result without any error has none.
    """
    candidate = OrtRunner(model, taps=list(layers.values()))
    compared = [Comparison() for _ in layers]
    for feed in limited(samples, SIGNAL_SAMPLES):
        for comparison, a, b in zip(compared, reference.run_taps(feed), candidate.run_taps(feed), strict=True):
            comparison.update(a, b)
    found = {node: c.difference().sqnr_db for node, c in zip(layers, compared, strict=True)}
    return {node: sqnr for node, sqnr in found.items() if math.isfinite(sqnr)}


def lacks_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True on an x64 Linux machine whose CPU says that it has none of the instructions that multiply u8 by i8 without
    saturating."""
    if not cpuinfo.is_file():
        return False
    flags = next((row for row in cpuinfo.read_text().splitlines() if row.startswith("flags")), "")
    return bool(flags) and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags.split())
