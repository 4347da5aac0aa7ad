"""Dynamic int8 of LSTMs: the same results but for rounding, integer kernels, and what stays float and why."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Dense, Model, constant, parse, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.report import optimised

TEXT = """
graph @g(%x: f32[5,2,12], %lengths: i32[2], %h: f32[{d},2,16], %c: f32[{d},2,16]) -> (y, last, cell) {{
  @w : f32[{d},64,12] = random(1)
  @r : f32[{d},64,16] = random(2)
  @b : f32[{d},128] = random(3)
  %y, %last, %cell = LSTM(%x, @w, @r, @b, %lengths, %h, %c) {{hidden_size=16, direction="{direction}"}}
      : f32[5,{d},2,16], f32[{d},2,16], f32[{d},2,16]  # lstm
  return %y, %last, %cell
}}
"""
FORWARD = TEXT.format(d=1, direction="forward")
BOTH = TEXT.format(d=2, direction="bidirectional")


def feed(text: str) -> dict[str, np.ndarray]:
    rng, d = np.random.default_rng(0), 2 if "bidirectional" in text else 1
    shapes = {"x": (5, 2, 12), "h": (d, 2, 16), "c": (d, 2, 16)}
    floats = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**floats, "lengths": np.array([5, 3], np.int32)}


def quantized(text: str, **options: object) -> tuple[Model, Outcome]:
    model = Model(parse(text))
    outcome = Quantize(mode="dynamic", **options).run(model, Context(samples=[feed(text)]))  # type: ignore[arg-type]
    verify(model.graph)
    return model, outcome


@pytest.mark.parametrize("text", [FORWARD, BOTH], ids=["forward", "both directions"])
@pytest.mark.parametrize("options", [{}, {"per_channel": False}, {"reduce_range": True}])
def test_every_result_is_that_of_the_float_layer_but_for_rounding(text: str, options: dict[str, object]):
    model, outcome = quantized(text, **options)
    assert outcome.changed == 1
    expected, found = OrtRunner(Model(parse(text))).run(feed(text)), OrtRunner(model).run(feed(text))
    assert list(found) == ["y", "last", "cell"]
    for name, value in expected.items():
        assert compare(value, found[name]).sqnr_db > 25


def test_the_runtime_runs_the_integer_kernel_and_the_weights_are_stored_as_integers():
    model, _ = quantized(FORWARD)
    assert {n.op_type for n in optimised(model).node} == {"DynamicQuantizeLSTM"}
    stored = {v.name: v.tensor for v in model.graph.constants()}
    assert stored["w_quantized"].shape == (1, 12, 64)
    assert stored["w_quantized"].dtype.label == "i8"
    assert stored["w_scale"].shape == (1, 64)


def test_the_table_says_how_it_is_rounded_and_how_much_is_lost():
    (row,) = quantized(BOTH)[1].decisions
    assert (row.layer, row.decision) == ("lstm", "int8")
    assert row.sqnr_db > 25
    assert row.rounded.scheme == "u8 at run time x i8 per channel"
    assert row.rounded.weight_sqnr_db > 40


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("LSTM(", "RNN(", "no int8 kernel"),
        ("hidden_size=16", "hidden_size=16, layout=1", "its batch comes first"),
    ],
)
def test_other_recurrent_layers_stay_float_with_the_reason(old: str, new: str, why: str):
    graph = parse(FORWARD.replace(old, new))
    outcome = Quantize(mode="dynamic").run(Model(graph), Context())
    (row,) = outcome.decisions
    assert row.decision == "fp32"
    assert why in row.reason
    assert not outcome.changed


def test_weights_that_are_not_finite_stay_float():
    model = Model(parse(FORWARD))
    (node,) = model.graph
    broken = np.array(node.operand(1).tensor.numpy())
    broken[0, 3, 3] = np.inf
    node.set_input(1, constant(Dense(broken), "w"))
    (row,) = Quantize(mode="dynamic").run(model, Context()).decisions
    assert row.reason == "its weight holds NaN or infinity"


def test_static_int8_says_that_recurrent_layers_are_for_run_time():
    (row,) = Quantize().run(Model(parse(FORWARD)), Context(samples=[feed(FORWARD)])).decisions
    assert "use mode='dynamic'" in row.reason
    assert row.decision == "fp32"


def test_patterns_leave_it_out():
    _, outcome = quantized(FORWARD, skip=("lstm",))
    assert outcome.decisions[0].reason == "skipped by pattern 'lstm'"
