"""The test cases that the onnx package ships survive: read, verified, written, and computing the same.

All of them at the opset that they come in, every eleventh at some others; `benchmarks/conformance.py` tries every case
at every opset. The lists beside this file name the exceptions, and what opsets cannot express.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from tersor.backends.onnx import to_proto
from tersor.frontends.onnx import load

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "conformance.py"
SAMPLE = 11
SAMPLED_OPSETS = [13, 17, 21]


@pytest.fixture(scope="module")
def conformance() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cases(conformance: ModuleType) -> list[Any]:
    return list(conformance.cases())


def test_every_case_survives_at_its_own_opset(conformance: ModuleType, cases: list[Any]) -> None:
    assert len(cases) > 1500
    verdicts = [v for row in conformance.matrix(cases, [conformance.OWN], 2) for v in row]
    assert len(verdicts) == len(cases)
    assert not conformance.surprises(verdicts)


def test_a_sample_of_the_cases_survives_at_other_opsets(conformance: ModuleType, cases: list[Any]) -> None:
    sample = [c for c in cases if c.kind != "light"][::SAMPLE]
    verdicts = [v for row in conformance.matrix(sample, SAMPLED_OPSETS, 2) for v in row]
    assert not conformance.surprises(verdicts)


def test_a_result_that_is_not_as_listed_is_reported(conformance: ModuleType) -> None:
    failed = conformance.Verdict("test_abs", 13, "failed", why="other values")
    healed = conformance.Verdict("test_gradient_of_add", 13, "same")
    refused = conformance.Verdict("test_abs", 13, "inexpressible", op="Abs", why="nothing", needs=14)
    assert len(conformance.surprises([failed, healed, refused])) == 3


def scaled(opset: int, ir_version: int) -> onnx.ModelProto:
    """x * w, where w is an input with an initializer."""
    x, w = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [3]) for n in "xw")
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])
    default = onnx.numpy_helper.from_array(np.float32([1, 2, 3]), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x, w], [y], [default])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def session_of(proto: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("opset", [7, 9, 13, 26])
def test_an_initializer_that_is_an_input_stays_overridable(opset: int) -> None:
    written = to_proto(load(scaled(opset, ir_version=8)))
    assert written.opset_import[0].version == opset
    assert [i.name for i in written.graph.input] == ["x", "w"]
    session, ones = session_of(written), np.ones(3, np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": ones})[0], [1, 2, 3])
    np.testing.assert_array_equal(session.run(None, {"x": ones, "w": 5 * ones})[0], [5, 5, 5])


def test_an_initializer_that_had_to_be_an_input_is_the_constant_that_runtimes_took_it_for() -> None:
    proto = scaled(8, ir_version=3)
    written = to_proto(load(proto))
    for session in (session_of(proto), session_of(written)):
        assert [i.name for i in session.get_inputs()] == ["x"]
        assert not session.get_overridable_initializers()
        np.testing.assert_array_equal(session.run(None, {"x": np.ones(3, np.float32)})[0], [1, 2, 3])
