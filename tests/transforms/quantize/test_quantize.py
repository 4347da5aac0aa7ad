"""The pass: what it decides, how close its result is, and what it refuses."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import default_opset
from tersor.backends.runners import OrtRunner
from tersor.ir import DType, Graph, Model, UsageError, parse, structural_hash, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import OBSERVERS, Quantize, calibrate
from tersor.transforms.quantize.observers import NotFinite
from tersor.transforms.quantize.report import SIGNAL_ELEMENTS, float_nodes, lacks_vnni, optimised, spread
from tersor.transforms.quantize.scheme import PER_CHANNEL_OPSET
from tersor.transforms.quantize.warnings import LOW_DB

NETWORK = """
graph @net(%x: f32[N,3,16,16]) -> (y) {
  @stem.weight : f32[16,3,3,3] = random(1)
  @stem.bias : f32[16] = random(2)
  @body.weight : f32[16,16,3,3] = random(3)
  @body.bias : f32[16] = random(4)
  @depthwise.weight : f32[16,1,3,3] = random(5)
  @point.weight : f32[24,32,1,1] = random(6)
  @head.weight : f32[10,24] = random(7)
  @head.bias : f32[10] = random(8)
  %1 = Conv(%x, @stem.weight, @stem.bias) {pads=[1,1,1,1]} : f32[N,16,16,16]  # stem
  %2 = Clip(%1, f32[]{0}, f32[]{6}) : f32[N,16,16,16]
  %3 = Conv(%2, @body.weight, @body.bias) {pads=[1,1,1,1]} : f32[N,16,16,16]  # body.conv
  %4 = Add(%3, %2) : f32[N,16,16,16]
  %5 = Relu(%4) : f32[N,16,16,16]
  %6 = MaxPool(%5) {kernel_shape=[2,2], strides=[2,2]} : f32[N,16,8,8]
  %7 = Conv(%6, @depthwise.weight) {pads=[1,1,1,1], group=16} : f32[N,16,8,8]  # body.depthwise
  %8 = LeakyRelu(%7) {alpha=0.1} : f32[N,16,8,8]
  %9 = Concat(%8, %6) {axis=1} : f32[N,32,8,8]
  %10 = Conv(%9, @point.weight) : f32[N,24,8,8]  # point
  %11 = ReduceMean(%10, i64[2]{2,3}) {keepdims=0} : f32[N,24]
  %12 = Gemm(%11, @head.weight, @head.bias) {transB=1} : f32[N,10]  # head
  return %12
}
"""

ENCODER = """
graph @encoder(%x: f32[B,S,32]) -> (y) {
  @q : f32[32,48] = random(1)
  @qb : f32[48] = random(2)
  @k : f32[32,48] = random(3)
  @kb : f32[48] = random(4)
  @o : f32[48,32] = random(5)
  @p : f32[40,32] = random(6)
  @pb : f32[40] = random(7)
  %1 = MatMul(%x, @q) : f32[B,S,48]  # query
  %2 = Add(%1, @qb) : f32[B,S,48]
  %3 = MatMul(%x, @k) : f32[B,S,48]  # key
  %4 = Add(%3, @kb) : f32[B,S,48]
  %5 = Mul(%2, %4) : f32[B,S,48]
  %6 = Tanh(%5) : f32[B,S,48]
  %7 = MatMul(%6, @o) : f32[B,S,32]  # output
  %8 = ReduceMean(%7, i64[1]{1}) {keepdims=0} : f32[B,32]
  %9 = Gemm(%8, @p, @pb) {transB=1} : f32[B,40]  # pooler
  return %9
}
"""


def images(count: int = 4, batch: int = 4, seed: int = 0) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [{"x": generator.standard_normal((batch, 3, 16, 16)).astype(np.float32)} for _ in range(count)]


def sequences(count: int = 3) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    return [{"x": generator.standard_normal((2, 5 + i, 32)).astype(np.float32)} for i in range(count)]


def quantize(text: str, done: Quantize, samples: object = None, **constants: np.ndarray) -> tuple[Model, Outcome]:
    model = Model(parse(text, constants))
    outcome = done.run(model, Context(samples=samples))  # type: ignore[arg-type]
    verify(model.graph)
    return model, outcome


def decided(outcome: Outcome) -> dict[str, str]:
    return {d.layer: d.decision for d in outcome.decisions}


def ops(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph)


def fused(model: Model) -> Counter[str]:
    """Operators of ONNX Runtime's optimised graph."""
    return Counter(node.op_type for node in optimised(model).node)


def sqnr(text: str, model: Model, samples: list[dict[str, np.ndarray]]) -> float:
    reference, candidate = OrtRunner(Model(parse(text))), OrtRunner(model)
    a, b = ([r.run(f)["y"] for f in samples] for r in (reference, candidate))
    return compare(np.concatenate(a), np.concatenate(b)).sqnr_db


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_convolutional_network_in_int8_is_close_to_the_original_on_other_data(observer: str):
    model, outcome = quantize(NETWORK, Quantize(observer=observer), images())
    assert set(decided(outcome).values()) == {"int8"}
    assert sqnr(NETWORK, model, images(seed=5)) > 20


def test_every_layer_of_it_runs_in_integer_kernels():
    model, outcome = quantize(NETWORK, Quantize(reduce_range=True), images())
    assert outcome.warnings == []
    assert float_nodes(model) == []


def test_decisions_name_the_layer_its_operator_and_its_error():
    _, outcome = quantize(NETWORK, Quantize(), images())
    assert [(d.layer, d.op) for d in outcome.decisions] == [
        ("stem", "Conv"), ("body.conv", "Conv"), ("body.depthwise", "Conv"), ("point", "Conv"), ("head", "Gemm"),
    ]  # fmt: skip
    assert all(d.sqnr_db is not None and d.sqnr_db > 20 for d in outcome.decisions)
    assert outcome.changed == 5


def test_a_network_that_int8_ruins_is_a_warning_that_names_the_worst_layer():
    spoiled = images(2)
    spoiled[0]["x"][0, 0, 0, 0] = 1e4
    _, outcome = quantize(NETWORK, Quantize(), spoiled)
    (warning,) = (w for w in outcome.warnings if w[0] == "TSR206")
    worst = min((d for d in outcome.decisions), key=lambda d: d.sqnr_db)
    assert warning[2] == worst.layer
    assert worst.sqnr_db < LOW_DB
    _, outcome = quantize(NETWORK, Quantize(), images(2))
    assert not [w for w in outcome.warnings if w[0] == "TSR206"]


def test_weights_take_a_quarter_of_the_bytes():
    model, _ = quantize(NETWORK, Quantize(), images())
    weights = [v.tensor for v in model.graph.constants() if v.name.endswith("weight_quantized")]
    assert {t.dtype for t in weights} == {DType.I8}
    assert len(weights) == 5


def test_per_channel_scales_lose_less_than_one_scale_per_weight():
    gains = (
        np.logspace(-2, 0, 16)[:, None, None, None] * np.random.default_rng(0).standard_normal((16, 16, 3, 3))
    ).astype(np.float32)
    text = NETWORK.replace("@body.weight : f32[16,16,3,3] = random(3)", "@body.weight : f32[16,16,3,3]")
    error: dict[bool, float] = {}
    for per_channel in (True, False):
        _, outcome = quantize(text, Quantize(per_channel=per_channel), images(), **{"body.weight": gains})
        error[per_channel] = next(d.sqnr_db or 0.0 for d in outcome.decisions if d.layer == "body.conv")
    assert error[True] > error[False]


def test_the_result_does_not_depend_on_the_order_or_batching_of_the_samples():
    feeds = images()
    rows = [{"x": feed["x"][i : i + 1]} for feed in feeds for i in range(4)]
    hashes = {
        structural_hash(quantize(NETWORK, Quantize(observer="percentile"), samples)[0].graph)
        for samples in (feeds, feeds[::-1])
    }
    assert len(hashes) == 1
    assert sqnr(NETWORK, quantize(NETWORK, Quantize(), rows)[0], feeds) > 20


def test_skip_leaves_layers_in_float_and_says_why():
    model, outcome = quantize(NETWORK, Quantize(skip=("body",)), images())
    assert decided(outcome) == {
        "stem": "int8", "body.conv": "fp32", "body.depthwise": "fp32", "point": "int8", "head": "int8",
    }  # fmt: skip
    assert "skipped by pattern 'body'" in outcome.decisions[1].reason
    assert sum(v.name == "body.weight" for v in model.graph.constants()) == 1


def test_only_quantizes_what_it_names():
    _, outcome = quantize(NETWORK, Quantize(only=("Gemm",)), images())
    assert [layer for layer, decision in decided(outcome).items() if decision == "int8"] == ["head"]


@pytest.mark.parametrize("option", ["only", "skip"])
def test_a_pattern_that_matches_nothing_is_an_error(option: str):
    with pytest.raises(UsageError, match="matches nothing"):
        quantize(NETWORK, Quantize(**{option: ("steem",)}), images())  # type: ignore[arg-type]


def test_static_int8_without_data_is_refused():
    with pytest.raises(UsageError, match="static int8 needs calibration data") as caught:
        quantize(NETWORK, Quantize())
    assert "--data" in caught.value.do


def test_empty_calibration_data_is_refused():
    with pytest.raises(UsageError, match="calibration data is empty"):
        quantize(NETWORK, Quantize(), [])


@pytest.mark.parametrize(
    "feed",
    [
        {"z": np.zeros((1, 3, 16, 16), np.float32)},
        {"x": np.zeros((1, 4, 16, 16), np.float32)},
        {"x": np.zeros((1, 3, 16, 16))},
    ],
    ids=["name", "shape", "dtype"],
)
def test_calibration_data_that_does_not_fit_the_inputs_is_refused(feed: dict[str, np.ndarray]):
    with pytest.raises(UsageError, match="do not fit"):
        quantize(NETWORK, Quantize(), [feed])


def test_a_value_that_is_not_finite_names_its_layer():
    huge = np.full((16, 16, 3, 3), 3e38, np.float32)
    text = NETWORK.replace("@body.weight : f32[16,16,3,3] = random(3)", "@body.weight : f32[16,16,3,3]")
    with pytest.raises(NotFinite, match="not finite") as caught:
        quantize(text, Quantize(), images(), **{"body.weight": huge})
    assert "%3" in caught.value.where
    assert "body.conv" in caught.value.where


def test_a_sample_that_is_not_finite_names_the_input():
    with pytest.raises(NotFinite) as caught:
        quantize(NETWORK, Quantize(), [{"x": np.full((1, 3, 16, 16), np.nan, np.float32)}])
    assert caught.value.where == "input 'x'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "hybrid"}, "no mode 'hybrid'"),
        ({"observer": "best"}, "no observer 'best'"),
        ({"observer": "percentile", "percentile": 101.0}, "not in"),
        ({"samples": -1}, "negative"),
        ({"percentile": 99.0}, "percentile has no effect"),
        ({"mode": "dynamic", "observer": "mse"}, "observer has no effect"),
        ({"mode": "dynamic", "samples": 8}, "samples has no effect"),
        ({"mode": "dynamic", "cost_aware": True}, "cost_aware has no effect"),
    ],
)
def test_options_that_do_not_exist_or_have_no_effect_are_refused(options: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        Quantize(**options)  # type: ignore[arg-type]


def test_samples_limits_how_much_is_read():
    read: list[int] = []

    class Counted(list[dict[str, np.ndarray]]):
        def __iter__(self):
            for i, feed in enumerate(super().__iter__()):
                read.append(i)
                yield feed

    quantize(NETWORK, Quantize(samples=8), Counted(images(count=40)))
    assert max(read) < 8


@pytest.mark.parametrize("observer", OBSERVERS)
def test_an_executor_finds_the_same_ranges(observer: str):
    model = Model(parse(NETWORK))
    values = [node.output for node in model.graph]

    def make():
        return OBSERVERS[observer](99.9)

    alone = calibrate(model, values, images(count=12), make)
    with ThreadPoolExecutor(3) as executor:
        assert calibrate(model, values, images(count=12), make, executor=executor) == alone


def test_data_with_fewer_samples_than_asked_for_is_used_with_a_warning():
    _, outcome = quantize(NETWORK, Quantize(samples=1000), images())
    assert outcome.changed
    assert [w for w in outcome.warnings if w[0] == "TSR204" and "samples=1000" in w[1]]
    _, outcome = quantize(NETWORK, Quantize(samples=2), images())
    assert not [w for w in outcome.warnings if w[0] == "TSR204"]


def test_an_executor_has_a_bounded_number_of_feeds_in_hand():
    taken: list[int] = []
    seen: list[int] = []

    def feeds():
        for i, feed in enumerate(images(count=40, batch=1)):
            taken.append(i)
            yield feed

    def look(label: str, done: int, total: int | None):
        seen.append(len(taken) - done)

    model = Model(parse(NETWORK))
    with ThreadPoolExecutor(2) as executor:
        calibrate(
            model, [model.graph.outputs[0]], feeds(), lambda: OBSERVERS["minmax"](0.0), progress=look, executor=executor
        )
    assert len(seen) == 40
    assert max(seen) < 8


def test_progress_is_reported_for_every_feed():
    seen: list[tuple[int, int | None]] = []
    model = Model(parse(NETWORK))
    Quantize().run(model, Context(samples=images(), progress=lambda _, done, total: seen.append((done, total))))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_layer_that_is_always_zero_is_quantized_all_the_same():
    dead = {"body.weight": np.zeros((16, 16, 3, 3), np.float32), "body.bias": np.full(16, -1.0, np.float32)}
    text = NETWORK.replace("f32[16,16,3,3] = random(3)", "f32[16,16,3,3]").replace(
        "body.bias : f32[16] = random(4)", "body.bias : f32[16]"
    )
    model, _ = quantize(text, Quantize(), images(), **dead)
    reference = OrtRunner(Model(parse(text, dead)))
    feed = images(1)[0]
    assert compare(reference.run(feed)["y"], OrtRunner(model).run(feed)["y"]).sqnr_db > 20


def test_a_bias_too_large_for_int32_does_not_wrap_around():
    tiny = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32) * np.float32(1e-12)
    text = NETWORK.replace("@body.weight : f32[16,16,3,3] = random(3)", "@body.weight : f32[16,16,3,3]")
    model, _ = quantize(text, Quantize(), images(), **{"body.weight": tiny})
    feed = images(1)[0]
    reference = OrtRunner(Model(parse(text, {"body.weight": tiny})))
    assert compare(reference.run(feed)["y"], OrtRunner(model).run(feed)["y"]).sqnr_db > 20


def test_a_file_of_an_opset_without_scales_per_channel_is_written_at_the_first_that_has_them():
    model = Model(parse(NETWORK), source_opset=11)
    Quantize().run(model, Context(samples=images()))
    assert default_opset(model) == PER_CHANNEL_OPSET
    assert not float_nodes(model)
    assert fused(model)["QLinearConv"] == 4


def test_a_file_of_which_nothing_is_quantized_keeps_its_opset():
    model = Model(parse(NETWORK), source_opset=11)
    Quantize(skip=("Conv", "Gemm")).run(model, Context(samples=images()))
    assert default_opset(model) == 11


def test_weights_that_callers_may_replace_stay_float_with_a_warning_that_says_what_to_do():
    model = Model(parse("graph (%x: f32[N,64]) -> (y) { @w : f32[64,8] = random(1) %1 = MatMul(%x, @w) return %1 }"))
    (weight,) = (v for v in model.graph.constants() if v.name == "w")
    weight.replace_by(model.graph.add_input("w", weight.type, weight.tensor))
    samples = [{"x": np.ones((2, 64), np.float32)}]
    outcome = Quantize().run(model, Context(samples=samples))
    assert [code for code, what, _ in outcome.warnings if "freeze_defaults" in what] == ["TSR205"]
    model.graph.freeze_defaults()
    outcome = Quantize().run(model, Context(samples=samples))
    assert outcome.changed == 1
    assert not outcome.warnings


def test_dynamic_int8_has_one_quantization_for_layers_that_share_their_input():
    model, outcome = quantize(ENCODER, Quantize(mode="dynamic"))
    assert decided(outcome) == {"query": "int8", "key": "int8", "output": "int8", "pooler": "int8"}
    counted = ops(model.graph)
    assert counted["DynamicQuantizeLinear"] == 3
    assert counted["MatMulInteger"] == 4
    assert not counted["MatMul"]
    assert sqnr(ENCODER, model, sequences()) > 25


def test_dynamic_int8_of_a_layer_that_reads_another_one_directly_reads_what_that_one_became():
    model, outcome = quantize(
        """graph(%x: f32[batch,6,8]) -> (y) {
          @v : f32[8,2] = random(1)
          @w : f32[2,8] = random(2)
          %0 = MatMul(%x, @v) : f32[batch,6,2]
          %y = MatMul(%0, @w) : f32[batch,6,8]
          return %y
        }""",
        Quantize(mode="dynamic"),
    )
    assert outcome.changed == 2
    assert [node.op for node in model.graph].count("DynamicQuantizeLinear") == 2


def test_dynamic_int8_is_fused_by_the_runtime():
    model, outcome = quantize(ENCODER, Quantize(mode="dynamic", reduce_range=True))
    assert outcome.warnings == []
    assert fused(model)["MatMulIntegerToFloat"] + fused(model)["DynamicQuantizeMatMul"] == 4


def test_dynamic_int8_measures_its_error_where_there_is_data():
    _, without = quantize(ENCODER, Quantize(mode="dynamic"))
    assert all(d.sqnr_db is None for d in without.decisions)
    _, outcome = quantize(ENCODER, Quantize(mode="dynamic"), sequences())
    assert all(d.sqnr_db is not None and d.sqnr_db > 20 for d in outcome.decisions)


def test_dynamic_int8_leaves_convolutions_alone():
    _, outcome = quantize(NETWORK, Quantize(mode="dynamic"))
    assert decided(outcome)["head"] == "int8"
    assert outcome.decisions[0].reason == "dynamic int8 is for matrix products"


def test_static_int8_of_matrix_products_takes_inputs_of_any_length():
    model, outcome = quantize(ENCODER, Quantize(), sequences())
    assert set(decided(outcome).values()) == {"int8"}
    assert sqnr(ENCODER, model, sequences()) > 25
    assert fused(model)["QGemm"] == 4


def test_a_quantized_network_is_not_quantized_again():
    model, _ = quantize(NETWORK, Quantize(), images())
    before = structural_hash(model.graph)
    outcome = Quantize().run(model, Context(samples=images()))
    assert {(d.decision, d.reason) for d in outcome.decisions} == {("int8", "already quantized")}
    assert structural_hash(model.graph) == before


def test_half_precision_is_left_alone_with_the_reason():
    text = NETWORK.replace("f32", "f16")
    model, outcome = quantize(text, Quantize(), [{"x": images()[0]["x"].astype(np.float16)}])
    assert set(decided(outcome).values()) == {"fp32"}
    assert "f16" in outcome.decisions[0].reason
    assert not ops(model.graph)["QuantizeLinear"]


@pytest.mark.parametrize(
    ("node", "inputs", "why"),
    [
        ("MatMul(%x, %w)", "%x: f32[2,3], %w: f32[3,4]", "would not pay here: [2, 3] by [3, 4]"),
        ("MatMul(%x, @v)", "%x: f32[3]", "rank"),
        ("Gemm(%x, @v) {transA=1}", "%x: f32[3,2]", "transposed"),
        ("Gemm(%x, @v) {alpha=0.5}", "%x: f32[2,3]", "alpha"),
        ("Gemm(%x, @v, %w)", "%x: f32[2,3], %w: f32[4]", "bias is not a constant"),
        ("Gemm(%x, @v, @c)", "%x: f32[2,3]", "one number per column"),
        ("Gemm(%x, @n)", "%x: f32[2,3]", "NaN"),
        ("ConvTranspose(%x, @t)", "%x: f32[1,3,4,4]", "no int8 kernel"),
        ("Conv(%x, @o)", "%x: f32[1,3,9,9,9]", "two spatial axes"),
    ],
)
def test_forms_without_a_kernel_stay_float_and_say_why(node: str, inputs: str, why: str):
    graph = parse(
        f"""graph ({inputs}) -> (y) {{
          @v : f32[3,4] = random(1)
          @c : f32[2,1] = random(2)
          @n : f32[3,4]
          @t : f32[3,5,2,2] = random(3)
          @o : f32[5,3,3,3,3] = random(4)
          %1 = {node}
          return %1
        }}""",
        {"n": np.full((3, 4), np.nan, np.float32)},
    )
    outcome = Quantize().run(Model(graph), Context(samples=[]))
    (only,) = outcome.decisions
    assert only.decision == "fp32"
    assert why in only.reason


def test_layers_inside_a_branch_stay_float():
    model, outcome = quantize(
        """graph (%c: bool[], %x: f32[2,3]) -> (y) {
          @v : f32[3,4] = random(1)
          %1 = If(%c, %x) captures 1 : f32[2,4] regions {
            then_branch = graph (%a: f32[2,3]) -> (r) { %2 = MatMul(%a, @v) : f32[2,4]  # inner
              return %2 }
            else_branch = graph (%a: f32[2,3]) -> (r) { %3 = MatMul(%a, @v) : f32[2,4]
              return %3 } }
          return %1
        }""",
        Quantize(mode="dynamic"),
    )
    assert {d.decision for d in outcome.decisions} == {"fp32"}
    assert {d.reason for d in outcome.decisions} == {"inside a control-flow region"}
    assert "MatMulInteger" not in str(model.graph)


def test_a_bias_of_one_element_is_spread_over_the_columns():
    text = """graph (%x: f32[N,4]) -> (y) {
      @v : f32[4,6] = random(1)
      %1 = Gemm(%x, @v, f32[1]{2.5}) : f32[N,6]
      return %1
    }"""
    feed = {"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
    for done in (Quantize(), Quantize(mode="dynamic")):
        model, _ = quantize(text, done, [feed])
        assert sqnr(text, model, [feed]) > 30


def test_a_layer_left_in_float_on_purpose_is_not_reported_as_a_float_layer():
    _, outcome = quantize(NETWORK, Quantize(skip=("body",), reduce_range=True), images())
    assert outcome.warnings == []


def test_a_batch_normalization_that_was_not_folded_is_reported():
    text = """graph (%x: f32[N,3,8,8]) -> (y) {
      @w : f32[4,3,3,3] = random(1)
      @g : f32[4] = random(2)
      @v : f32[4] = [1,1,1,1]
      %1 = Conv(%x, @w) : f32[N,4,6,6]
      %2 = BatchNormalization(%1, @g, @g, @g, @v) : f32[N,4,6,6]  # norm
      return %2
    }"""
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    _, outcome = quantize(text, Quantize(reduce_range=True), [feed])
    assert [(code, where) for code, _, where in outcome.warnings] == [("TSR203", "norm")]


QDQ = """graph (%x: u8[N,4,8,8]) -> (y) {{
  @w : i8[4,4,3,3] = random(1)
  @b : f32[4] = random(2)
  @v : i8[4,8] = random(3)
  %1 = DequantizeLinear(%x, f32[]{{0.5}}, u8[]{{0}}) : f32[N,4,8,8]
  %2 = DequantizeLinear(@w, f32[]{{0.1}}, i8[]{{0}}) : f32[4,4,3,3]
  %3 = DequantizeLinear(@v, f32[]{{0.1}}, i8[]{{0}}) : f32[4,8]
  {}
}}"""
FLOAT = {
    "an output": ("%9 = Conv(%1, %2) : f32[N,4,6,6]  # stem\nreturn %9", "Conv", "its result goes to the end of the graph"),
    "an operator without an integer kernel": (
        "%8 = Conv(%1, %2) : f32[N,4,6,6]  # stem\n%7 = Softsign(%8) : f32[N,4,6,6]\n"
        "%9 = QuantizeLinear(%7, f32[]{0.5}, u8[]{0}) : u8[N,4,6,6]\nreturn %9", "Conv", "its result goes to Softsign"),
    "a float input": (
        "%4 = Softsign(%1) : f32[N,4,8,8]\n%8 = Conv(%4, %2) : f32[N,4,6,6]  # stem\n"
        "%9 = QuantizeLinear(%8, f32[]{0.5}, u8[]{0}) : u8[N,4,6,6]\nreturn %9", "Conv", "its input is not quantized"),
    "a float bias": (
        "%5 = Flatten(%x) {axis=3} : u8[M,8]\n%6 = DequantizeLinear(%5, f32[]{0.5}, u8[]{0}) : f32[M,8]\n"
        "%9 = Gemm(%6, %3, @b) {transB=1} : f32[M,4]  # stem\nreturn %9", "Gemm", "its bias is float"),
    "sixteen bits": (
        "%4 = Cast(%x) {to=4} : u16[N,4,8,8]\n%5 = DequantizeLinear(%4, f32[]{0.5}, u16[]{0}) : f32[N,4,8,8]\n"
        "%8 = AveragePool(%5) {kernel_shape=[2,2]} : f32[N,4,7,7]  # stem\n"
        "%9 = QuantizeLinear(%8, f32[]{0.5}, u16[]{0}) : u16[N,4,7,7]\nreturn %9", "AveragePool", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT)
def test_what_the_runtime_computes_in_float_is_reported_with_the_reason(name: str):
    body, op, why = FLOAT[name]
    (found,) = float_nodes(Model(parse(QDQ.format(body))))
    assert (found.op, found.name.split("/")[0]) == (op, "stem")
    assert found.why.startswith(why)
    assert bool(found.why) == bool(why)


def test_what_has_an_integer_kernel_is_not_reported():
    body = """%8 = Conv(%1, %2) : f32[N,4,6,6]  # stem
    %9 = QuantizeLinear(%8, f32[]{0.5}, u8[]{0}) : u8[N,4,6,6]
    return %9"""
    assert float_nodes(Model(parse(QDQ.format(body)))) == []


def test_a_network_around_a_float_operator_has_no_layer_that_stays_float():
    text = """graph @net(%x: f32[N,4,8,8]) -> (y) {
      @w : f32[4,4,3,3] = random(1)
      @v : f32[4,4,1,1] = random(2)
      %1 = Conv(%x, @w) : f32[N,4,6,6]  # stem
      %2 = Softsign(%1) : f32[N,4,6,6]
      %3 = Conv(%2, @v) : f32[N,4,6,6]  # head
      return %3
    }"""
    _, outcome = quantize(text, Quantize(reduce_range=True), [{"x": np.ones((1, 4, 8, 8), np.float32)}])
    assert outcome.warnings == []


def test_the_cpu_is_asked_for_instructions_that_do_not_saturate(tmp_path: Path):
    for flags, lacking in (
        ("flags : avx2 avx512f", True),
        ("flags : avx2 avx_vnni", False),
        ("Features : asimd", False),
    ):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
        assert lacks_vnni(tmp_path / "cpuinfo") is lacking
    assert not lacks_vnni(tmp_path / "missing")


def test_the_error_of_a_large_result_is_that_of_elements_spread_over_it():
    large = np.arange(3 * SIGNAL_ELEMENTS + 5).reshape(1, -1)
    taken = spread(large)
    assert SIGNAL_ELEMENTS / 2 < taken.size <= SIGNAL_ELEMENTS
    assert taken[-1] > 0.99 * large.size
    small = np.arange(6).reshape(2, 3)
    assert spread(small) is small
