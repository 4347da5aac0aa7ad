"""Scores quantized files of one network against its float file: python benchmarks/int8_score.py FOLDER METRIC WHAT...

WHAT is `quality FILE`, which prints metric, SQNR, bytes, and the share of multiply-adds in integer kernels (from ONNX
Runtime's profile of one run), or `latency RUNS FILE...`, which times the float file and all others in turns on one
thread; with `cpu RUNS FILE...` CPU time counts. One JSON line.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from int8_models import METRICS, Feed, read_feeds
from tersor.backends.benchmark import latency
from tersor.backends.compare import Comparison
from tersor.backends.runners import Feeds, Runner

FLOAT = {"Conv", "FusedConv", "NhwcFusedConv", "NhwcConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Attention",
         "MultiHeadAttention", "ConvTranspose", "MatMulNBits", "LSTM", "GRU"}  # fmt: skip
INTEGER = {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger",
           "ConvInteger", "QAttention", "DynamicQuantizeLSTM"}  # fmt: skip

SUFFIXES = (".onnx", ".data", ".xml", ".bin")


class File(Runner):
    """An ONNX file in ONNX Runtime on one thread."""

    def __init__(self, path: str, profile: str = "") -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
            options.optimized_model_filepath = f"{profile}.onnx"
            config = "session.optimized_model_external_initializers_file_name"
            options.add_session_config_entry(config, "profile.data")
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]

    def run(self, feeds: Feeds) -> dict[str, Any]:
        return dict(zip(self.names, self.session.run(None, dict(feeds)), strict=True))

    def run_taps(self, feeds: Feeds) -> list[Any]:
        return []


class OpenVino(Runner):
    """An ONNX or OpenVINO file in OpenVINO on one thread, at a precision ("f32" or "bf16")."""

    def __init__(self, path: str, precision: str) -> None:
        import openvino as ov

        core = ov.Core()
        options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self.request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()

    def run(self, feeds: Feeds) -> dict[str, Any]:
        found = self.request.infer(dict(feeds), share_inputs=True)
        return {str(i): value for i, value in enumerate(found.values())}

    def run_taps(self, feeds: Feeds) -> list[Any]:
        return []


def runner_of(name: str) -> Runner:
    """A path, with `openvino:` or `openvino-bf16:` before it for that runtime."""
    runtime, _, path = name.rpartition(":")
    if not runtime:
        return File(path)
    return OpenVino(path, "bf16" if runtime.endswith("bf16") else "f32")


def quality(folder: Path, metric: str, name: str) -> dict[str, Any]:
    feeds = read_feeds(folder / "scoring.npz")
    reference, candidate = File(str(folder / "fp32.onnx")), runner_of(name)
    compared = [Comparison() for _ in reference.names]
    expected: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for feed in feeds:
        wanted, given = (list(runner.run(feed).values()) for runner in (reference, candidate))
        for comparison, a, b in zip(compared, wanted, given, strict=True):
            comparison.update(a, b)
        expected.append(wanted[0])
        found.append(given[0])
    path = Path(name.rpartition(":")[2])
    rows: dict[str, Any] = {
        "sqnr": min(comparison.difference().sqnr_db for comparison in compared),
        "bytes": sum(p.stat().st_size for p in path.parent.glob(f"{path.stem}.*") if p.suffix in SUFFIXES),
        "bytes_fp32": (folder / "fp32.onnx").stat().st_size,
    }  # fmt: skip
    if metric in METRICS:
        labels = np.load(folder / "labels.npy")
        rows["metric_fp32"], rows["metric"] = (METRICS[metric](o, feeds, labels) for o in (expected, found))
    if isinstance(candidate, File):
        rows |= profile(str(path), read_feeds(folder / "timing.npz")[0])
    return rows


def profile(path: str, feed: Feed, runs: int = 5) -> dict[str, Any]:
    """Multiply-adds in integer and in float kernels, and milliseconds per kernel type, of one run."""
    with tempfile.TemporaryDirectory() as folder:
        runner = File(path, f"{folder}/profile")
        for _ in range(runs):
            runner.run(feed)
        events = json.loads(Path(runner.session.end_profiling()).read_text())
        graph = onnx.load(f"{folder}/profile.onnx", load_external_data=False).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    kernels_of = {node.name: taps(node, shapes) for node in graph.node if "Conv" in node.op_type}
    integer = total = 0.0
    times: dict[str, float] = {}
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        operator = arguments["op_name"]
        times[operator] = times.get(operator, 0.0) + event["dur"] / runs / 1e3
        if operator in INTEGER or operator in FLOAT:
            name = event["name"].removesuffix("_kernel_time")
            count = multiply_adds(arguments, kernels_of.get(name, 0))
            total += count
            integer += count * (operator in INTEGER)
    slowest = dict(sorted(((k, round(v, 3)) for k, v in times.items()), key=lambda row: -row[1])[:14])
    return {"integer_share": integer / total if total else 0.0, "multiply_adds": total / runs, "kernel_ms": slowest}


def taps(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-adds of a convolution per element of its result."""
    weight = node.input[3 if node.op_type == "QLinearConv" else 1]
    return math.prod(shapes.get(weight, (0,))[1:])


def multiply_adds(arguments: dict[str, Any], kernel: int) -> float:
    """From the shapes of operands and results that the profile has; it lacks those of weights that were packed."""
    inputs = [next(iter(shape.values())) for shape in arguments.get("input_type_shape", ())]
    outputs = [next(iter(shape.values())) for shape in arguments.get("output_type_shape", ())]
    if not inputs or not outputs:
        return 0.0
    return float(math.prod(outputs[0]) * (kernel or inputs[0][-1]))


def timed(folder: Path, runs: int, names: Sequence[str], clock: Callable[[], float]) -> list[dict[str, float]]:
    feed = read_feeds(folder / "timing.npz")[0]
    runners = [File(str(folder / "fp32.onnx")), *map(runner_of, names)]
    found = latency(runners, feed, runs, 3, seconds=240, clock=clock)
    return [
        {"ms": t.median * 1e3, "speed": 1 / t.ratio, "low": 1 / t.ratio_high, "high": 1 / t.ratio_low} for t in found
    ]


def main() -> None:
    folder, metric, what, *rest = sys.argv[1:]
    if what == "quality":
        print(json.dumps(quality(Path(folder), metric, rest[0])))
    else:
        clock = time.process_time if what == "cpu" else time.perf_counter
        print(json.dumps(timed(Path(folder), int(rest[0]), rest[1:], clock)))


if __name__ == "__main__":
    main()
