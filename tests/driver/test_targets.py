"""`bench --target`: one network in every precision of every runtime, and what is said where one cannot be had."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import onnxruntime as ort
import pytest
from tersor.backends.runners.openvino_cpu import OpenVinoRunner
from tersor.driver.data import data
from tersor.driver.targets import CANDIDATES, compare_targets
from tersor.ir import Model, TersorError, UsageError, parse
from tersor.transforms.quantize.placement import TARGETS


class Core:
    """What tersor uses of OpenVINO, computed by ONNX Runtime; remembers how models were compiled."""

    capabilities = ("FP32", "INT8", "BF16")
    compiled: list[dict[str, object]]

    def __init__(self) -> None:
        type(self).compiled = []

    def get_property(self, device: str, name: str) -> tuple[str, ...]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self.capabilities

    def read_model(self, model: bytes) -> ort.InferenceSession:
        return ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def compile_model(self, session: ort.InferenceSession, device: str, options: dict[str, object]) -> Core:
        type(self).compiled.append({"device": device, **options})
        self.session = session
        return self

    def create_infer_request(self) -> Core:
        return self

    def infer(self, feeds: dict[str, np.ndarray]) -> dict[int, np.ndarray]:
        return dict(enumerate(self.session.run(None, feeds)))


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> type[Core]:
    core = type("ThisCore", (Core,), {})
    monkeypatch.setitem(sys.modules, "openvino", types.SimpleNamespace(Core=core))
    return core


SAMPLES = [{"x": np.random.default_rng(i).standard_normal((1, 3, 8, 8)).astype(np.float32)} for i in range(3)]


def test_there_are_candidates_for_every_target():
    assert set(CANDIDATES) == set(TARGETS)


def test_every_precision_is_made_measured_and_timed_against_the_model_as_it_is(network: Model, openvino: type[Core]):
    rows = compare_targets(network, ["ort-cpu", "openvino-cpu"], data(SAMPLES), runs=2)
    assert (rows[0].precision, rows[0].latency.ratio) == ("as given", 1.0)
    assert [(r.target, r.precision) for r in rows[1:]] == [
        (target, precision) for target in ("ort-cpu", "openvino-cpu") for precision in CANDIDATES[target]
    ]
    assert {r.precision: r.why for r in rows if r.latency is None} == {
        "dynamic int8": "for networks of matrix products"
    }
    assert all(r.sqnr_db > 20 for r in rows[1:] if r.latency is not None)


def test_what_is_not_quantized_computes_in_the_precision_of_the_row(network: Model, openvino: type[Core]):
    runner = OpenVinoRunner(network, precision="bf16")
    assert openvino.compiled[0] == {
        "device": "CPU",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16",
    }
    assert list(runner.run(SAMPLES[0])) == ["logits"]
    assert runner.run_taps(SAMPLES[0]) == []


def test_a_precision_that_the_cpu_lacks_is_a_row_with_the_reason(network: Model, openvino: type[Core]):
    openvino.capabilities = ("FP32",)
    rows = {r.precision: r for r in compare_targets(network, ["openvino-cpu"], data(SAMPLES), runs=1)}
    assert rows["bf16"].why == "this CPU does not compute in bfloat16"
    with pytest.raises(UsageError, match="does not compute in bfloat16"):
        OpenVinoRunner(network, precision="bf16")


def test_static_int8_without_data_is_a_row_with_the_reason(run, folder):
    code, out, _ = run("bench", folder / "net.onnx", "--target", "ort-cpu", "--runs", "1", "--json")
    rows = {row["precision"]: row for row in json.loads(out)}
    assert code == 0
    assert "needs calibration data" in rows["int8"]["why"]
    assert rows["fp32"]["latency"]["ratio"] > 0


def test_networks_of_matrix_products_are_smoothed_or_quantized_at_run_time():
    text = """graph @g(%x: f32[N,64]) -> (y) {
      @w : f32[64,64] = random(1)
      %y = MatMul(%x, @w) : f32[N,64]
      return %y
    }"""
    rows = {r.precision: r for r in compare_targets(Model(parse(text)), ["ort-cpu"], runs=1)}
    assert rows["dynamic int8"].pipeline == "simplify,quantize(mode='dynamic')"
    assert rows["dynamic int8"].sqnr_db > 30
    assert rows["int8"].pipeline == "simplify,smooth,quantize()"


def test_a_model_that_the_runtime_refuses_is_a_row_with_the_reason(network: Model, openvino: type[Core]):
    def refuse(*_: object) -> None:
        raise RuntimeError("no such\noperation")

    openvino.read_model = refuse
    rows = compare_targets(network, ["openvino-cpu"], runs=1)
    assert rows[1].why == "OpenVINO cannot load the model: no such operation"
    with pytest.raises(TersorError, match="cannot load"):
        OpenVinoRunner(network)


def test_a_runtime_that_is_not_installed_is_one_line(run, refused, folder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    told = refused(2, "bench", folder / "net.onnx", "--target", "openvino-cpu")
    assert "the package openvino is needed" in told
    assert "pip install tersor[openvino]" in told


def test_the_table_names_the_fastest(run, folder):
    code, out, _ = run(
        "bench", folder / "net.onnx", "--target", "ort-cpu", "--data", folder / "calib.npz", "--runs", "1"
    )
    assert code == 0
    assert "as given" in out
    assert out.splitlines()[-1].startswith("fastest: ")


def test_several_models_are_refused_with_a_target(refused, folder):
    told = refused(2, "bench", folder / "net.onnx", folder / "net.onnx", "--target", "ort-cpu")
    assert "--target is for one model" in told
