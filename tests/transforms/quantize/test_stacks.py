"""Matrix products over stacks of rows, as OpenVINO wants them."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner
from tersor.ir import Graph, Model, parse, verify
from tersor.transforms.base import Context
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.stacks import gemms_to_matmuls

LAYERS = """graph (%x: f32[N,S,8]) -> (y) {
  @a : f32[8,6] = random(1)
  @b : f32[8,6] = random(2)
  @c : f32[6] = random(3)
  %1 = MatMul(%x, @a) : f32[N,S,6]
  %2 = Add(%1, @c) : f32[N,S,6]
  %3 = MatMul(%x, @b) : f32[N,S,6]
  %4 = Mul(%2, %3) : f32[N,S,6]
  return %4
}"""
FEED = {"x": np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)}


def quantized(text: str, target: str) -> Model:
    model = Model(parse(text))
    Quantize(target=target).run(model, Context(samples=[FEED]))
    verify(model.graph)
    return model


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph]


def test_for_openvino_stacks_stay_as_they_are_and_share_their_integers():
    found = ops(quantized(LAYERS, "openvino-cpu").graph)
    assert found.count("MatMul") == 2
    assert found.count("QuantizeLinear") == 1
    assert not {"Gemm", "Reshape", "Shape", "Concat"} & set(found)
    assert "Gemm" in ops(quantized(LAYERS, "ort-cpu").graph)


def test_the_numbers_are_those_of_the_two_dimensional_form():
    a, b = (
        OrtRunner(quantized(LAYERS, target), optimize=False).run(FEED)["y"] for target in ("ort-cpu", "openvino-cpu")
    )
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


GEMM = """graph (%x: f32[2,5,8]) -> (y) {
  @rows : i64[2] = [-1, 8]
  @stacks : i64[3] = [2, 5, 6]
  @w : f32[6,8] = random(1)
  %1 = Reshape(%x, @rows) : f32[10,8]
  %2 = Gemm(%1, @w) {transB=1} : f32[10,6]
  %3 = Reshape(%2, @stacks) : f32[2,5,6]
  return %3
}"""


@pytest.mark.parametrize(
    "text",
    [
        GEMM,
        GEMM.replace("[6,8] = random", "[8,6] = random").replace("{transB=1}", "").replace("2, 5, 6", "5, 2, 6")
        .replace("f32[2,5,6]", "f32[5,2,6]"),
        "graph (%x: f32[10,8]) -> (y) { @w : f32[8,6] = random(1) %1 = Gemm(%x, @w) : f32[10,6] return %1 }",
    ],
    ids=["a transposed weight", "other stacks behind it", "rows without stacks"],
)  # fmt: skip
def test_other_forms_stay(text: str):
    feed = {"x": FEED["x"] if "2,5,8" in text else FEED["x"].reshape(10, 8)}
    model = Model(parse(text))
    Quantize().run(model, Context(samples=[feed]))
    assert gemms_to_matmuls(model.graph) == 0
    assert "Gemm" in ops(model.graph)
