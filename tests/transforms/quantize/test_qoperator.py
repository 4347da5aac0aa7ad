"""Operators on integers: which nodes become one, what runs, what stays in pairs, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import save
from tersor.backends.runners import OrtRunner, TorchRunner
from tersor.backends.torch import to_module
from tersor.driver.compress import apply
from tersor.driver.data import data
from tersor.frontends.onnx import load
from tersor.ir import Model, UsageError, parse, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.manager import run_passes
from tersor.transforms.prune import Prune
from tersor.transforms.quantize import Quantize, ToQdq, ToQOperator
from tersor.transforms.quantize.qoperator import has_qoperators, to_qdq, to_qoperator
from tersor.transforms.quantize.report import optimised
from tersor.transforms.simplify import Simplify

IMAGES = """
graph @g(%x: f32[N,4,12,12]) -> (y) {
  @a : f32[8,4,3,3] = random(1)
  @b : f32[8,8,3,3] = random(2)
  @c : f32[8,8,1,1] = random(3)
  @bias : f32[8] = random(4)
  @h : f32[10,16] = random(5)
  %1 = Conv(%x, @a, @bias) {pads=[1,1,1,1]} : f32[N,8,12,12]  # stem
  %2 = Relu(%1) : f32[N,8,12,12]
  %3 = MaxPool(%2) {kernel_shape=[2,2], strides=[2,2]} : f32[N,8,6,6]
  %4 = Conv(%3, @b) {pads=[1,1,1,1]} : f32[N,8,6,6]  # body
  %5 = LeakyRelu(%4) {alpha=0.2} : f32[N,8,6,6]
  %6 = Add(%5, %3) : f32[N,8,6,6]
  %7 = Sigmoid(%6) : f32[N,8,6,6]
  %8 = Mul(%6, %7) : f32[N,8,6,6]
  %9 = Conv(%8, @c) : f32[N,8,6,6]  # neck
  %10 = Concat(%9, %8) {axis=1} : f32[N,16,6,6]
  %11 = AveragePool(%10) {kernel_shape=[2,2], strides=[2,2]} : f32[N,16,3,3]
  %12 = GlobalAveragePool(%11) : f32[N,16,1,1]
  %13 = Flatten(%12) : f32[N,16]
  %14 = Gemm(%13, @h) {transB=1} : f32[N,10]  # head
  return %14
}
"""
SAMPLES = [{"x": np.random.default_rng(i).standard_normal((2, 4, 12, 12)).astype(np.float32)} for i in range(3)]
FEED = SAMPLES[0]


def quantized(form: str = "qdq", text: str = IMAGES) -> tuple[Model, Outcome]:
    model = Model(parse(text))
    outcome = Quantize(form=form).run(model, Context(samples=SAMPLES))
    verify(model.graph)
    return model, outcome


def operators(model: Model) -> set[str]:
    return {node.op for node in model.graph}


INTEGER = {
    "QLinearConv", "QLinearLeakyRelu", "QLinearAdd", "QLinearSigmoid", "QLinearMul", "QLinearConcat", "MaxPool",
    "QLinearAveragePool", "QLinearGlobalAveragePool", "QGemm",
}  # fmt: skip


def test_every_operator_of_the_table_is_on_integers_and_nothing_else_is_left():
    model, outcome = quantized("qoperator")
    assert operators(model) - {"Flatten", "Reshape"} == {*INTEGER, "QuantizeLinear"}
    assert sum(n.op == "QuantizeLinear" for n in model.graph) == 1
    assert outcome.warnings == []


def test_the_runtime_runs_integer_kernels_for_all_of_them():
    model, _ = quantized("qoperator")
    run = {node.op_type for node in optimised(model).node}
    assert {"QLinearConv", "QGemm", "QLinearAdd"} <= run
    assert not run & {"Conv", "FusedConv", "Gemm", "MatMul", "Add", "Mul", "DequantizeLinear"}


def test_both_forms_compute_the_same():
    (pairs, _), (integers, _) = quantized(), quantized("qoperator")
    a, b = OrtRunner(pairs).run(FEED)["y"], OrtRunner(integers).run(FEED)["y"]
    assert compare(a, b).sqnr_db > 40


def test_the_way_back_gives_pairs_that_compute_the_same(tmp_path: Path):
    model, _ = quantized("qoperator")
    save(model, tmp_path / "q.onnx")
    again = load(tmp_path / "q.onnx")
    assert has_qoperators(again.graph)
    ToQdq().run(again, Context())
    verify(again.graph)
    assert not has_qoperators(again.graph)
    assert operators(again) >= {"Conv", "Gemm", "Add", "Mul", "Concat", "DequantizeLinear"}
    assert compare(OrtRunner(model).run(FEED)["y"], OrtRunner(again).run(FEED)["y"]).sqnr_db > 40
    assert to_qoperator(again.graph) == to_qdq(model.graph)


def test_a_file_on_integers_is_simplified_pruned_with_its_scales_and_emitted(tmp_path: Path):
    model, _ = quantized("qoperator")
    save(model, tmp_path / "q.onnx")
    again = load(tmp_path / "q.onnx")
    steps = run_passes(again, [ToQdq(), Simplify(), Prune(ratio=0.5), ToQOperator()], Context())
    assert steps[2].outcome.changed
    convs = [n for n in again.graph if n.op == "QLinearConv"]
    assert any(n.operand(3).tensor.shape[0] < 8 for n in convs)
    assert all(n.operand(4).tensor.shape == (n.operand(3).tensor.shape[0],) for n in convs)
    module = to_module(steps[2].model)
    found = TorchRunner(module, ["x"], ["y"]).run(FEED)["y"]
    assert compare(OrtRunner(again).run(FEED)["y"], found).sqnr_db > 30


def test_a_file_with_pairs_is_simplified_pruned_with_its_scales_and_emitted():
    model, _ = quantized()
    steps = run_passes(model, [Simplify(), Prune(ratio=0.5)], Context())
    assert steps[1].outcome.changed
    conv = next(n for n in model.graph if n.op == "Conv" and n.operand(1).node.operand(0).tensor.shape[0] < 8)
    restored = conv.operand(1).node
    assert restored.operand(1).tensor.shape == (restored.operand(0).tensor.shape[0],)
    found = TorchRunner(to_module(model), ["x"], ["y"]).run(FEED)["y"]
    assert compare(OrtRunner(model).run(FEED)["y"], found).sqnr_db > 30


PAIRS = """
graph @g(%x: f32[1,2,4,4]) -> (y) {{
  @w : i8[2,2,1,1] = [1,2,3,4]
  %q = QuantizeLinear(%x, f32[]{{0.1}}, u8[]{{0}}) : u8[1,2,4,4]
  %d = DequantizeLinear(%q, f32[]{{0.1}}, u8[]{{0}}) : f32[1,2,4,4]
  %v = DequantizeLinear(@w, {scale}, i8[2]{{0,0}}) {{axis={axis}}} : f32[2,2,1,1]
  %1 = Conv(%d, %v) : f32[1,2,4,4]
  {between}
  %r = QuantizeLinear({last}, f32[]{{0.1}}, u8[]{{0}}) : u8[1,2,4,4]
  %s = DequantizeLinear(%r, f32[]{{0.1}}, u8[]{{0}}) : f32[1,2,4,4]
  {end}
}}
"""
GIVEN = {"scale": "f32[2]{0.1,0.2}", "axis": "0", "between": "", "last": "%1", "end": "return %s"}


@pytest.mark.parametrize(
    ("changes", "converted"),
    [
        ({}, True),
        ({"between": "%2 = Relu(%1) : f32[1,2,4,4]", "last": "%2"}, True),
        ({"between": "%2 = Clip(%1, f32[]{0}, f32[]{6}) : f32[1,2,4,4]", "last": "%2"}, False),
        ({"between": "%2 = Clip(%1, f32[]{0}, f32[]{30}) : f32[1,2,4,4]", "last": "%2"}, True),
        ({"axis": "1"}, False),
        ({"end": "%t = Add(%s, %1) : f32[1,2,4,4]\n  return %t"}, False),
        ({"between": "%2 = Tanh(%1) : f32[1,2,4,4]", "last": "%2"}, False),
    ],
)
def test_a_node_becomes_one_on_integers_only_where_all_around_it_is_quantized(changes: dict[str, str], converted: bool):
    model = Model(parse(PAIRS.format(**{**GIVEN, **changes})))
    feed = {"x": np.random.default_rng(0).random((1, 2, 4, 4)).astype(np.float32) * 20}
    before = OrtRunner(model).run(feed)["y"]
    assert bool(to_qoperator(model.graph)) is converted
    verify(model.graph)
    assert np.abs(OrtRunner(model).run(feed)["y"] - before).max() <= 0.1001


def test_matrix_products_of_two_quantized_values_have_their_standard_form():
    text = """
    graph @g(%a: f32[3,4], %b: f32[4,5]) -> (y) {
      %qa = QuantizeLinear(%a, f32[]{0.1}, u8[]{128}) : u8[3,4]
      %qb = QuantizeLinear(%b, f32[]{0.1}, u8[]{128}) : u8[4,5]
      %da = DequantizeLinear(%qa, f32[]{0.1}, u8[]{128}) : f32[3,4]
      %db = DequantizeLinear(%qb, f32[]{0.1}, u8[]{128}) : f32[4,5]
      %1 = MatMul(%da, %db) : f32[3,5]
      %r = QuantizeLinear(%1, f32[]{0.2}, u8[]{128}) : u8[3,5]
      %s = DequantizeLinear(%r, f32[]{0.2}, u8[]{128}) : f32[3,5]
      return %s
    }
    """
    rng = np.random.default_rng(0)
    feed = {"a": rng.standard_normal((3, 4)).astype(np.float32), "b": rng.standard_normal((4, 5)).astype(np.float32)}
    model = Model(parse(text))
    before = OrtRunner(model, optimize=False).run(feed)["y"]
    assert to_qoperator(model.graph) == 1
    assert "QLinearMatMul" in operators(model)
    assert np.abs(OrtRunner(model).run(feed)["y"] - before).max() <= 0.2001


def test_the_form_goes_with_static_int8_for_onnx_runtime():
    for options in ({"mode": "dynamic"}, {"target": "openvino-cpu"}):
        with pytest.raises(UsageError, match="form has no effect"):
            Quantize(form="qoperator", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is no form 'qdp'"):
        Quantize(form="qdp")


def test_rows_of_the_report_follow_layers_onto_integers():
    result = apply(Model(parse(IMAGES)), "quantize(form='qoperator')", data=data(SAMPLES))
    rows = result.record.layers
    assert [row.decision for row in rows] == ["int8"] * 4
    assert all(row.shape_after.startswith("i8[") for row in rows)
    assert [row.flops_after for row in rows] == [row.flops_before for row in rows]
