"""Computing in bfloat16: which operators bear it, at which opset the file is, and what it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import save, to_proto
from tersor.backends.runners import OrtRunner, ReferenceRunner, TorchRunner
from tersor.backends.runners.rounded import RoundedRunner
from tersor.backends.torch import emit, to_module
from tersor.driver.api import benchmark, verify
from tersor.driver.compress import compress
from tersor.frontends.onnx import load
from tersor.ir import DType, Model, ParityError, UsageError, parse
from tersor.ir import verify as well_formed
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Half
from tersor.transforms.quantize.half_plan import Plan

IMAGES = """
graph @g(%x: f32[N,3,16,16]) -> (y) {
  @w : f32[32,3,3,3] = random(1)
  @v : f32[32,32,3,3] = random(2)
  @h : f32[32,10] = random(3)
  %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,32,16,16]  # stem
  %2 = Relu(%1) : f32[N,32,16,16]
  %3 = Conv(%2, @v) {pads=[1,1,1,1]} : f32[N,32,16,16]  # body
  %4 = Add(%3, %2) : f32[N,32,16,16]
  %5 = ReduceMean(%4, i64[2]{2,3}) {keepdims=0} : f32[N,32]  # mean
  %6 = MatMul(%5, @h) : f32[N,10]  # head
  return %6
}
"""

BLOCK = """
graph @g(%x: f32[1,8,64]) -> (y) {
  @s : f32[64] = random(1)
  @w : f32[64,64] = random(2)
  @v : f32[64,64] = random(3)
  %1 = MatMul(%x, @w) : f32[1,8,64]  # in
  %2 = Add(%1, %x) : f32[1,8,64]  # residual
  %3 = LayerNormalization(%2, @s) : f32[1,8,64]  # norm
  %4 = MatMul(%3, @v) : f32[1,8,64]  # out
  %5 = Add(%4, f32[1]{0.5}) : f32[1,8,64]  # bias
  %6 = Softmax(%5) : f32[1,8,64]  # softmax
  return %6
}
"""
GENERATOR = np.random.default_rng(0)
FEED = {"x": GENERATOR.standard_normal((2, 3, 16, 16)).astype(np.float32)}


def bfloat16(text: str = IMAGES, opset: int = 17, **options: object) -> tuple[Model, Outcome]:
    model = Model(parse(text), source_opset=opset)
    outcome = Half(mode="compute", dtype="bfloat16", **options).run(model, Context(samples=[FEED]))  # type: ignore[arg-type]
    well_formed(model.graph)
    return model, outcome


def results(model: Model) -> dict[str, str]:
    """What each node gives."""
    return {n.op: n.output.dtype.label for n in model.graph if n.op != "Cast" and n.output.dtype}


def test_products_compute_in_bfloat16_and_sums_of_many_numbers_in_32_bits():
    model, outcome = bfloat16()
    assert results(model) == {"Conv": "bf16", "Relu": "bf16", "Add": "bf16", "ReduceMean": "f32", "MatMul": "bf16"}
    assert outcome.notes[0] == "5 of 6 nodes compute in bfloat16, between 4 Casts"
    assert {d.layer: d.decision for d in outcome.decisions} == {
        "stem": "bfloat16",
        "body": "bfloat16",
        "head": "bfloat16",
    }


def test_residual_streams_norms_and_softmax_stay_in_32_bits():
    model = Model(parse(BLOCK))
    Half(mode="compute", dtype="bfloat16").run(model, Context())
    assert [(n.op, n.output.dtype.label) for n in model.graph if n.op != "Cast" and n.output.dtype] == [
        ("MatMul", "bf16"), ("Add", "f32"), ("LayerNormalization", "f32"), ("MatMul", "bf16"), ("Add", "bf16"),
        ("Softmax", "f32"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "narrow", "wide"),
    [
        ("%4 = Mul(%3, %3)", "squares leave the range", ""),
        ("%4 = Div(%3, %2)", "small numbers", ""),
        ("%4 = Sqrt(%3)", "small arguments", ""),
        ("%4 = Add(%3, f32[1]{-1e30})", "beyond the 65504", ""),
        ("%4 = Add(%3, f32[1]{1e-12})", "is zero in f16", ""),
        ("%4 = Add(%3, f32[1]{-3.4e38})", "beyond the 65504", "beyond the 3.38e+38"),
        ("%4 = Exp(%3)", "exponentials leave the range", "multiplied"),
        ("%4 = Log(%3)", "small arguments", "near one"),
        ("%4 = Pow(%3, f32[]{3})", "leave the range", "errors of all factors"),
        ("%4 = ReduceL2(%3)", "leave the range", "sums of many numbers"),
        ("%4 = Sin(%3)", "positions and angles", "positions and angles"),
        ("%4 = Floor(%3)", "decides", "decides"),
        ('%4 = Einsum(%3, %2) {equation="abcd,abcd->abcd"}', "", "no float operand"),
        ("%4 = com.example::Odd(%3)", "no row says", "no row says"),
    ],
)
def test_reasons_in_bfloat16_are_digits_where_those_in_float16_are_ranges(line: str, narrow: str, wide: str):
    for dtype, why in ((DType.F16, narrow), (DType.BF16, wide)):
        graph = parse(IMAGES.replace("%4 = Add(%3, %2)", line))
        found = Plan(graph, dtype).why_not(next(n for n in graph if n.output.name == "4"))
        assert (why in found) if why else not found


def test_the_file_is_valid_and_at_the_first_opset_that_has_the_operators():
    model, _ = bfloat16()
    proto = to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 22, "before that Conv takes no bfloat16"
    assert sum(n.op_type == "Cast" for n in proto.graph.node) == 4
    products = Model(parse(BLOCK), source_opset=17)
    Half(mode="compute", dtype="bfloat16").run(products, Context())
    assert to_proto(products).opset_import[0].version == 17


def test_at_an_older_opset_operators_that_do_not_take_it_are_between_casts():
    model, _ = bfloat16()
    proto = to_proto(model, 17)
    onnx.checker.check_model(proto, full_check=True)
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    for node in proto.graph.node:
        if node.op_type == "Conv":
            assert types[node.output[0]] == onnx.TensorProto.FLOAT
    found, wanted = (runner.run(FEED)["y"] for runner in (RoundedRunner(model), OrtRunner(Model(parse(IMAGES)))))
    assert compare(wanted, found).sqnr_db > 40


def test_what_it_keeps_is_what_the_reference_evaluator_computes_in_bfloat16():
    model, outcome = bfloat16()
    float32 = OrtRunner(Model(parse(IMAGES))).run(FEED)["y"]
    found, reference = (runner(model).run(FEED)["y"] for runner in (RoundedRunner, ReferenceRunner))
    kept = compare(float32, found).sqnr_db
    assert compare(reference, found).sqnr_db > kept + 20, "both round in the same places"
    assert 40 < kept < 60
    assert outcome.notes[1] == f"output 'y' keeps {kept:.1f} dB"
    assert all(d.sqnr_db is not None and 40 < d.sqnr_db < 60 for d in outcome.decisions)


def test_a_warning_says_that_the_default_runtime_does_not_take_it():
    model, outcome = bfloat16()
    assert [(code, "ort-cpu" in what) for code, what, _ in outcome.warnings] == [("TSR208", True)]
    with pytest.raises(UsageError, match="does not compute in bfloat16"):
        benchmark(model, runs=1)
    assert not Half(dtype="bfloat16").run(Model(parse(IMAGES)), Context()).warnings, "stored weights run everywhere"


def test_an_output_that_needs_more_digits_is_a_warning():
    text = IMAGES.replace("return %6", "%7 = Mul(%6, f32[]{300}) : f32[N,10]\n  %8 = Sin(%7) : f32[N,10]\n  return %8")
    _, outcome = bfloat16(text)
    assert [code for code, _, _ in outcome.warnings] == ["TSR207", "TSR208"]


def test_interfaces_are_converted_when_asked():
    model, _ = bfloat16(interface="convert")
    assert [v.dtype.label for v in (*model.graph.inputs, *model.graph.outputs) if v.dtype] == ["bf16", "bf16"]
    onnx.checker.check_model(to_proto(model), full_check=True)
    found = RoundedRunner(model).run(FEED)["y"]
    assert compare(OrtRunner(Model(parse(IMAGES))).run(FEED)["y"], found).sqnr_db > 40


def test_the_file_is_read_back_compared_and_compressed_but_not_timed(tmp_path: Path):
    original = Model(parse(IMAGES), source_opset=17)
    result = compress(original, methods="half(mode='compute', dtype='bfloat16')", runs=2)
    baseline, narrow = result.record.steps
    assert baseline.latency is not None
    assert narrow.latency is None
    assert narrow.distance is not None
    assert narrow.distance.sqnr_db is not None
    assert narrow.distance.sqnr_db > 35
    save(result.model, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert verify(original, again, tolerance=0.05).sqnr_db == pytest.approx(narrow.distance.sqnr_db)
    with pytest.raises(ParityError):
        verify(original, again)


def test_a_module_of_it_computes_in_bfloat16_in_pytorch(tmp_path: Path):
    model, _ = bfloat16()
    found = TorchRunner(to_module(model)).run(FEED)
    wanted = OrtRunner(Model(parse(IMAGES))).run(FEED)["y"]
    ours = compare(wanted, RoundedRunner(model).run(FEED)["y"]).sqnr_db
    (theirs,) = (compare(wanted, array).sqnr_db for array in found.values())
    assert theirs == pytest.approx(ours, abs=3)
    emit(model, tmp_path / "emitted")
    assert "bfloat16" in (tmp_path / "emitted/model.py").read_text()
