"""Floats of 16 bits: what is stored or computed in them, where the Casts go, and what stays in 32 bits and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import default_opset, save
from tersor.backends.runners import OrtRunner
from tersor.frontends.onnx import load
from tersor.ir import DType, Model, TersorError, UsageError, constant, parse, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Half
from tersor.transforms.quantize.half_plan import Plan

NETWORK = """
graph @g(%x: f32[N,3,16,16]) -> (y) {
  @w : f32[64,3,3,3] = random(1)
  @v : f32[64,64,3,3] = random(2)
  @h : f32[64,10] = random(3)
  %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,64,16,16]  # stem
  %2 = Relu(%1) : f32[N,64,16,16]
  %3 = Conv(%2, @v) {pads=[1,1,1,1]} : f32[N,64,16,16]  # body
  %4 = Add(%3, %2) : f32[N,64,16,16]
  %5 = ReduceMean(%4, i64[2]{2,3}) {keepdims=0} : f32[N,64]  # mean
  %6 = MatMul(%5, @h) : f32[N,10]  # head
  %7 = Softmax(%6) : f32[N,10]
  return %7
}
"""
FEED = {"x": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)}


def half(
    text: str = NETWORK, samples: list[dict[str, np.ndarray]] | None = None, **options: object
) -> tuple[Model, Outcome]:
    model = Model(parse(text))
    outcome = Half(**options).run(model, Context(samples=samples))  # type: ignore[arg-type]
    verify(model.graph)
    return model, outcome


def sqnr(model: Model, text: str = NETWORK) -> float:
    return compare(OrtRunner(Model(parse(text))).run(FEED)["y"], OrtRunner(model).run(FEED)["y"]).sqnr_db


def casts(model: Model) -> list[str]:
    """What each Cast gives."""
    return [DType.of_code(n.int("to")).label for n in model.graph if n.op == "Cast"]


def reasons(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {d.layer: (d.decision, d.reason) for d in outcome.decisions}


@pytest.mark.parametrize(("dtype", "least", "label"), [("float16", 60.0, "f16"), ("bfloat16", 40.0, "bf16")])
def test_stored_weights_are_half_as_large_and_everything_is_computed_in_32_bits(
    dtype: str, least: float, label: str, tmp_path: Path
):
    model, outcome = half(dtype=dtype)
    assert casts(model) == ["f32"]
    assert reasons(outcome)["body"] == (f"{dtype} weights", "")
    assert sqnr(model) > least
    save(model, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert {v.tensor.dtype.label for v in again.graph.constants() if v.tensor.count > 4096} == {label}
    assert sqnr(again) == sqnr(model)


def test_a_weight_that_several_nodes_read_is_restored_once():
    text = NETWORK.replace(
        "%4 = Add(%3, %2)", "%a = Conv(%3, @v) {pads=[1,1,1,1]} : f32[N,64,16,16]\n  %4 = Add(%a, %2)"
    )
    model, outcome = half(text)
    assert casts(model) == ["f32"]
    assert outcome.changed == 1


@pytest.mark.parametrize(("number", "why"), [(70000.0, "beyond the 65504 of f16"), (1e-9, "too small for f16")])
def test_weights_that_16_bits_do_not_hold_stay_as_they_are(number: float, why: str):
    model = Model(parse(NETWORK))
    body = next(n for n in model.graph if n.output.name == "3")
    body.set_input(1, constant(np.full((64, 64, 3, 3), number, np.float32), "big"))
    outcome = Half().run(model, Context())
    decision, reason = next((d.decision, d.reason) for d in outcome.decisions)
    assert decision == "as it is"
    assert why in reason
    assert casts(model) == []


def test_computing_keeps_sensitive_operators_and_the_interface_in_32_bits_with_the_fewest_casts():
    model, outcome = half(mode="compute")
    assert [v.dtype.label for v in (*model.graph.inputs, *model.graph.outputs) if v.dtype] == ["f32", "f32"]
    kinds = {n.op: n.output.dtype.label for n in model.graph if n.output.dtype}
    assert (kinds["Conv"], kinds["Relu"], kinds["Add"], kinds["MatMul"]) == ("f16", "f16", "f16", "f16")
    assert (kinds["ReduceMean"], kinds["Softmax"]) == ("f32", "f32")
    assert casts(model) == ["f16", "f32", "f16", "f32"]
    assert outcome.notes[0] == "5 of 7 nodes compute in float16, between 4 Casts"
    assert sqnr(model) > 50


def test_the_opset_of_an_old_file_is_kept():
    model = Model(parse(NETWORK), source_opset=11)
    Half(mode="compute").run(model, Context())
    assert default_opset(model) == 11


def test_the_interface_is_converted_when_asked_and_takes_data_in_32_bits():
    model, _ = half(mode="compute", interface="convert", samples=[FEED])
    assert [v.dtype.label for v in (*model.graph.inputs, *model.graph.outputs) if v.dtype] == ["f16", "f16"]
    assert sqnr(model) > 50


def test_what_calibration_data_shows_to_leave_the_range_stays_in_32_bits():
    loud = {"x": FEED["x"] * 2e4}
    model, outcome = half(mode="compute", samples=[loud])
    assert reasons(outcome)["stem"][0] == "fp32"
    assert "too near to the limit of 65504" in reasons(outcome)["stem"][1]
    quiet, _ = half(mode="compute", samples=[FEED])
    assert casts(quiet).count("f16") == 2
    assert "f16" not in {n.output.dtype.label for n in model.graph if n.op == "Conv" and n.output.dtype}


def test_layers_have_their_error_where_there_is_data():
    _, outcome = half(mode="compute", samples=[FEED])
    assert all(d.sqnr_db is not None and d.sqnr_db > 50 for d in outcome.decisions)
    _, without = half(mode="compute")
    assert all(d.sqnr_db is None for d in without.decisions)
    assert "the ranges of values were not checked" in without.notes[1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("%4 = Add(%3, f32[1]{1e-12})", "is zero in f16"),
        ("%4 = Add(%3, f32[1]{-3e38})", "beyond the 65504"),
        ("%4 = Mul(%3, %3)", "squares"),
        ("%4 = Div(%3, %2)", "small numbers"),
        ("%4 = Exp(%3)", "exponentials"),
        ("%4 = com.example::Odd(%3)", "no row says"),
    ],
)
def test_a_node_stays_in_32_bits_where_its_constants_or_its_arithmetic_ask_for_it(line: str, why: str):
    graph = parse(NETWORK.replace("%4 = Add(%3, %2)", line))
    node = next(n for n in graph if n.output.name == "4")
    assert why in Plan(graph, DType.F16).why_not(node)


@pytest.mark.parametrize("perm", ["[1,0,2]", "[1,2,0]"])
def test_a_transpose_that_onnx_runtime_would_crash_on_in_front_of_a_product_stays_in_32_bits(perm: str):
    text = f"""graph(%x: f32[6,6,6]) -> (y) {{
      @w : f32[6,8] = random(1)
      @v : f32[6,6] = random(2)
      %a = MatMul(%x, @v) : f32[6,6,6]
      %t = Transpose(%a) {{perm={perm}}} : f32[6,6,6]
      %y = MatMul(%t, @w) : f32[6,6,8]
      return %y
    }}"""
    model, _ = half(text, mode="compute")
    assert [n.operand(0).dtype for n in model.graph if n.op == "Transpose"] == [DType.F32]
    assert [n.operand(0).dtype for n in model.graph if n.op == "MatMul"] == [DType.F16, DType.F16]
    model, _ = half(text, mode="compute", dtype="bfloat16")
    assert [n.operand(0).dtype for n in model.graph if n.op == "Transpose"] == [DType.BF16]


def test_norms_with_statistics_in_32_bits_and_attention_with_such_a_softmax_may_compute_in_16():
    text = """
    graph @g(%x: f32[1,8,64]) -> (y) {
      @s : f32[64] = random(1)
      @w : f32[64,64] = random(2)
      %1 = LayerNormalization(%x, @s) : f32[1,8,64]
      %2 = MatMul(%1, @w) : f32[1,8,64]
      %3 = Attention(%2, %2, %2) {q_num_heads=4, kv_num_heads=4} : f32[1,8,64]
      %4 = MatMul(%3, @w) : f32[1,8,64]
      return %4
    }
    """
    model, _ = half(text, mode="compute")
    assert casts(model) == ["f16", "f32"]
    attention = next(n for n in model.graph if n.op == "Attention")
    assert attention.attr("softmax_precision") == DType.F32.code
    feed = {"x": np.random.default_rng(1).standard_normal((1, 8, 64)).astype(np.float32)}
    assert compare(OrtRunner(Model(parse(text))).run(feed)["y"], OrtRunner(model).run(feed)["y"]).sqnr_db > 45


def test_nodes_are_left_out_by_pattern():
    model, outcome = half(mode="compute", skip=("body",))
    assert reasons(outcome)["body"] == ("fp32", "skipped by pattern 'body'")
    assert next(n for n in model.graph if n.loc.scope == "body").output.dtype is DType.F32


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"dtype": "float8"}, "there is no dtype"),
        ({"mode": "both"}, "there is no mode"),
        ({"interface": "convert"}, "interface has no effect"),
        ({"samples": 3}, "samples has no effect"),
        ({"mode": "compute", "dtype": "bfloat16", "samples": 3}, "samples has no effect with dtype='bfloat16'"),
    ],
)
def test_options_that_mean_nothing_or_that_no_runtime_bears_are_refused(options: dict[str, object], what: str):
    with pytest.raises(UsageError, match=what):
        Half(**options)  # type: ignore[arg-type]


def test_a_network_that_the_runtime_does_not_take_is_refused():
    with pytest.raises(TersorError, match="does not take this network in float16"):
        half(NETWORK.replace("%7 = Softmax(%6)", "%7 = com.example::Odd(%6)"), mode="compute")
