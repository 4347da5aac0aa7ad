"""One tool on one network, in this process: python benchmarks/int8_tools.py TOOL FAMILY FOLDER TARGET [SAMPLES]

FOLDER is one that int8_models.py has prepared; with SAMPLES its calibration feeds come again and again until there were
that many. Prints one JSON line: seconds and CPU seconds to quantize (reading and
writing files included, imports not), CPU seconds of one float pass over the same samples, resident memory before and at
the peak, and what the tool says of itself. Every tool is called in the way that its documentation recommends.
"""

from __future__ import annotations

import itertools
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from int8_models import Feed, read_feeds

Work = Callable[[Path, Path, str], Any]
"""Quantizes FOLDER/fp32.onnx into a file for a family; gives what is to be kept of what the tool says."""


def tersor(pipeline: str) -> Callable[[], Work]:
    def load() -> Work:
        import tersor as ts
        from tersor.backends.onnx import save

        apply, read = ts.apply, ts.load

        def quantize(folder: Path, written: Path, family: str) -> Any:
            data = None if "dynamic" in pipeline else ts.data(calibration(folder))
            model = read(folder / "fp32.onnx")
            result = apply(model, "simplify," + pipeline, data=data, check=ts.Check(enabled=False))
            save(result.model, written)
            step = result.steps[-1]
            return {
                "notes": list(step.outcome.notes),
                "warnings": [f"{code} {text} [{where}]" for code, text, where in step.outcome.warnings],
                "layers": [[d.layer, d.op, d.decision, d.reason, d.sqnr_db] for d in step.outcome.decisions],
            }

        return quantize

    return load


class Again:
    """Feeds that come again and again, in the same order, until they held so many samples."""

    def __init__(self, feeds: list[Feed], samples: int) -> None:
        self.feeds = feeds
        self.count = -(-samples // len(next(iter(feeds[0].values()))))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Feed]:
        return itertools.islice(itertools.cycle(self.feeds), self.count)


def calibration(folder: Path) -> Again | list[Feed]:
    """The calibration feeds, as often as was asked for."""
    feeds = read_feeds(folder / "calibration.npz")
    return Again(feeds, int(sys.argv[5])) if len(sys.argv) > 5 else feeds


class Reader:
    """Feeds as onnxruntime's quantizer reads them."""

    def __init__(self, feeds: Again | list[Feed]) -> None:
        self.feeds, self.iterator = feeds, iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self.iterator, None)

    def rewind(self) -> None:
        self.iterator = iter(self.feeds)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self.feeds)


def prepared(folder: Path, scratch: str) -> str:
    """The file after the preparation that onnxruntime recommends, or as it is where that fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = f"{scratch}/prepared.onnx"
    for symbolic in (False, True):
        try:
            quant_pre_process(str(folder / "fp32.onnx"), path, skip_symbolic_shape=symbolic)
            return path
        except Exception as error:
            print(f"preparation fails: {error}", file=sys.stderr)
    return str(folder / "fp32.onnx")


def ort_dynamic(per_channel: bool) -> Callable[[], Work]:
    def load() -> Work:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        def quantize(folder: Path, target: Path, family: str) -> None:
            with tempfile.TemporaryDirectory() as scratch:
                source = prepared(folder, scratch)
                quantize_dynamic(source, str(target), per_channel=per_channel, weight_type=QuantType.QInt8)

        return quantize

    return load


def ort_static(method: str, per_channel: bool, operators: list[str] | None = None) -> Callable[[], Work]:
    def load() -> Work:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        def quantize(folder: Path, target: Path, family: str) -> None:
            options: dict[str, Any] = {"CalibPercentile": 99.99} if method == "Percentile" else {}
            with tempfile.TemporaryDirectory() as scratch:
                quantize_static(
                    prepared(folder, scratch), str(target), Reader(calibration(folder)),
                    quant_format=QuantFormat.QDQ, op_types_to_quantize=operators, per_channel=per_channel,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
                    calibrate_method=getattr(CalibrationMethod, method), extra_options=options,
                )  # fmt: skip

        return quantize

    return load


def nncf(preset: str, openvino: bool = False) -> Callable[[], Work]:
    def load() -> Work:
        import nncf as tool
        import onnx

        logging.getLogger("nncf").setLevel(logging.ERROR)

        def quantize(folder: Path, target: Path, family: str) -> None:
            feeds = calibration(folder)
            if openvino:
                import openvino as ov

                model: Any = ov.Core().read_model(folder / "fp32.onnx")
            else:
                model = onnx.load(folder / "fp32.onnx")
            made = tool.quantize(
                model, tool.Dataset(feeds), subset_size=len(feeds), preset=tool.QuantizationPreset(preset),
                model_type=tool.ModelType.TRANSFORMER if family == "transformer" else None,
            )  # fmt: skip
            if openvino:
                ov.save_model(made, target)
            else:
                onnx.save(made, target)

        return quantize

    return load


TOOLS: dict[str, Callable[[], Work]] = {
    "tersor": tersor("quantize"),
    "tersor-bias": tersor("quantize(observer='auto', correct_bias=True)"),
    "tersor-gptq": tersor("gptq,quantize(observer='auto')"),
    "tersor-mixed": tersor("quantize(observer='auto', correct_bias=True, cost_aware=True, slack=0.05)"),
    "tersor-measured": tersor(
        "quantize(observer='auto', correct_bias=True, cost_aware=True, gain='measured', slack=0.05)"
    ),
    "tersor-entropy": tersor("quantize(observer='entropy')"),
    "tersor-percentile": tersor("quantize(observer='percentile')"),
    "tersor-smooth": tersor("smooth,quantize"),
    "tersor-dynamic": tersor("quantize(mode='dynamic')"),
    "ort-dynamic": ort_dynamic(False),
    "ort-dynamic-channel": ort_dynamic(True),
    "ort-minmax": ort_static("MinMax", False),
    "ort-minmax-channel": ort_static("MinMax", True),
    "ort-entropy": ort_static("Entropy", True),
    "ort-percentile": ort_static("Percentile", True),
    "ort-matmul": ort_static("MinMax", True, ["MatMul", "Gemm"]),
    "nncf": nncf("performance"),
    "nncf-mixed": nncf("mixed"),
}


def float_pass(folder: Path) -> float:
    """CPU seconds of one run of the float model over the calibration feeds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "fp32.onnx"), options, providers=["CPUExecutionProvider"])
    feeds = calibration(folder)
    session.run(None, next(iter(feeds)))
    started = time.process_time()
    for feed in feeds:
        session.run(None, feed)
    return time.process_time() - started


def main() -> None:
    tool, family, folder, target = sys.argv[1:5]
    work = TOOLS[tool]()
    np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, cpu = time.perf_counter(), time.process_time()
    said = work(Path(folder), Path(target), family)
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "rss_before": before,
        "rss_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_pass": float_pass(Path(folder)),
        **(said or {}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
