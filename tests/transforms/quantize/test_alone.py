"""What the table says of each quantized layer: its scheme, its range, its own errors, its time, and what it reads."""

from __future__ import annotations

import numpy as np
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, parse
from tersor.transforms.base import Context, Decision, Rounded
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.alone import BARS, bars
from tersor.transforms.quantize.observers import Histogram
from tersor.transforms.quantize.report import SIGNAL_SAMPLES

TEXT = """
graph @g(%x: f32[N,3,16,16]) -> (y) {
  @w : f32[16,3,3,3] = random(1)
  @v : f32[16,16,3,3] = random(2)
  @b : f32[16] = random(3)
  %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,16,16,16]  # stem
  %2 = Relu(%1) : f32[N,16,16,16]
  %3 = Conv(%2, @v, @b) {pads=[1,1,1,1]} : f32[N,16,16,16]  # body
  return %3
}
"""
SAMPLES = [{"x": np.random.default_rng(i).standard_normal((4, 3, 16, 16)).astype(np.float32)} for i in range(3)]


def table(**options: object) -> dict[str, Decision]:
    outcome = Quantize(**options).run(Model(parse(TEXT)), Context(samples=SAMPLES))  # type: ignore[arg-type]
    return {d.layer: d for d in outcome.decisions}


def row(name: str, **options: object) -> Rounded:
    found = table(**options)[name].rounded
    assert found is not None
    return found


def test_each_layer_has_its_scheme_range_errors_and_modelled_time():
    found = row("stem")
    assert found.scheme == "u8 x i8 per channel"
    largest = max(float(np.abs(s["x"]).max()) for s in SAMPLES)
    assert max(-found.low, found.high) > 0.9 * largest
    assert 35 < found.weight_sqnr_db < 55
    assert found.before_us > 0
    assert found.after_us > 0
    assert row("stem", per_channel=False).scheme == "u8 x i8 per tensor"
    assert row("stem", target="openvino-cpu").before_us is None


def test_the_error_of_a_layer_alone_does_not_count_those_before_it():
    first, second = table()["stem"], table()["body"]
    assert abs(first.rounded.alone_sqnr_db - first.sqnr_db) < 1.0
    assert second.rounded.alone_sqnr_db > second.sqnr_db + 1.0


def test_the_error_alone_is_that_of_the_network_with_only_that_layer_in_int8():
    model = Model(parse(TEXT))
    Quantize(only=("body",)).run(model, Context(samples=SAMPLES))
    expected, found = OrtRunner(Model(parse(TEXT))), OrtRunner(model)
    pairs = [(expected.run(s)["y"], found.run(s)["y"]) for s in SAMPLES[:2]]
    whole = compare(*(np.concatenate(side) for side in zip(*pairs, strict=True))).sqnr_db
    assert abs(row("body").alone_sqnr_db - whole) < 0.5


def test_the_values_that_the_worst_layers_read_are_counted_over_what_was_seen():
    found = row("body", observer="percentile", percentile=90.0)
    assert len(found.counts) == BARS
    assert sum(found.counts) == SIGNAL_SAMPLES * 16 * 16 * 16
    assert found.seen[1] > found.high


def test_bars_of_one_value_are_none():
    histogram = Histogram()
    histogram.update(np.zeros(5, np.float32))
    assert bars(histogram) == ((), None)


def test_dynamic_layers_have_their_scheme_and_the_error_of_their_weight():
    text = """
    graph @g(%x: f32[N,64]) -> (y) {
      @w : f32[64,32] = random(1)
      %y = MatMul(%x, @w) : f32[N,32]  # fc
      return %y
    }
    """
    outcome = Quantize(mode="dynamic").run(Model(parse(text)), Context())
    (found,) = (d.rounded for d in outcome.decisions)
    assert found.scheme == "u8 at run time x i8 per channel"
    assert found.weight_sqnr_db > 35
    assert found.alone_sqnr_db is None
