"""Bias correction: the mean of a layer's result is what it was before its weight was rounded."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, UsageError, parse, verify
from tersor.transforms.base import Context
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.bias import ChannelMeans, corrected, mean_error, means_of
from tersor.transforms.quantize.layers import Layer, layer_of
from tersor.transforms.quantize.observers import MinMax, NotFinite
from tersor.transforms.quantize.scheme import weight

LAYERS = {
    "Conv": """graph @g(%x: f32[N,8,6,6]) -> (y) {
  @w : f32[12,8,3,3] = random(1)
  @b : f32[12] = random(2)
  %1 = Conv(%x, @w, @b) : f32[N,12,4,4]
  return %1
}""",
    "grouped Conv without bias": """graph @g(%x: f32[N,8,6,6]) -> (y) {
  @w : f32[12,2,3,3] = random(1)
  %1 = Conv(%x, @w) {group=4} : f32[N,12,4,4]
  return %1
}""",
    "Gemm": """graph @g(%x: f32[N,8]) -> (y) {
  @w : f32[12,8] = random(1)
  @b : f32[12] = random(2)
  %1 = Gemm(%x, @w, @b) {transB=1} : f32[N,12]
  return %1
}""",
    "MatMul": """graph @g(%x: f32[N,8]) -> (y) {
  @w : f32[8,12] = random(1)
  %1 = MatMul(%x, @w) : f32[N,12]
  return %1
}""",
}


def sample(text: str, seed: int = 0) -> np.ndarray:
    shape = (64, 8, 6, 6) if "Conv" in text else (512, 8)
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def mean_of(model: Model, x: np.ndarray) -> np.ndarray:
    y = OrtRunner(model).run({"x": x})["y"]
    return y.mean(tuple(a for a in range(y.ndim) if a != 1), dtype=np.float64)


def layer(text: str) -> Layer:
    found = layer_of(next(iter(parse(text))))
    assert isinstance(found, Layer)
    return found


@pytest.mark.parametrize("text", LAYERS.values(), ids=LAYERS)
def test_the_mean_error_is_that_of_the_layer_with_the_rounded_weight(text: str):
    found, x = layer(text), sample(text)
    affine = weight(np.asarray(found.amplitude.max()), found.axis, 1.0, None, largest=7)
    means = means_of(found)
    means.update(x)
    expected = mean_error(found, affine, means.means())
    rounded = affine.apply(found.weight.tensor).numpy() * np.float32(affine.scale)
    constants = {"w": rounded.astype(np.float32)}
    changed = Model(
        parse("\n".join(row.split(" = random")[0] if "@w :" in row else row for row in text.split("\n")), constants)
    )
    assert np.allclose(
        mean_of(changed, x) - mean_of(Model(parse(text)), x), expected, atol=1e-2 * np.abs(expected).max()
    )


@pytest.mark.parametrize("text", LAYERS.values(), ids=LAYERS)
def test_quantizing_with_it_moves_the_mean_less(text: str):
    error: dict[bool, float] = {}
    x = sample(text)
    for correct in (False, True):
        model = Model(parse(text))
        Quantize(per_channel=False, reduce_range=True, correct_bias=correct).run(model, Context(samples=[{"x": x}]))
        verify(model.graph)
        other = sample(text, seed=1)
        error[correct] = float(np.abs(mean_of(model, other) - mean_of(Model(parse(text)), other)).mean())
    assert error[True] < 0.5 * error[False]


def test_a_layer_without_bias_gets_one_and_stays_in_integer_kernels():
    for name in ("grouped Conv without bias", "MatMul"):
        model = Model(parse(LAYERS[name]))
        options = Quantize(correct_bias=True, reduce_range=True)
        outcome = options.run(model, Context(samples=[{"x": sample(LAYERS[name])}]))
        assert outcome.warnings == []
        assert sum(v.name == "w_bias_quantized" for v in model.graph.constants()) == 1


def test_a_weight_without_rounding_error_keeps_its_bias():
    found = layer(LAYERS["Gemm"])
    whole = np.random.default_rng(0).integers(-127, 128, (12, 8)).astype(np.float32)
    whole[:, 0] = 127
    exact = layer_of(next(iter(parse(LAYERS["Gemm"].replace(" = random(1)", ""), {"w": whole}))))
    assert isinstance(exact, Layer)
    affine = weight(exact.amplitude, 0, 1.0, None)
    kept = corrected(exact, affine, np.ones(8)).bias
    assert kept is not None
    assert found.bias is not None
    assert (kept.tensor.numpy() == found.bias.tensor.numpy()).all()


def test_means_do_not_depend_on_batching_or_merging():
    x = np.random.default_rng(0).standard_normal((6, 4, 5, 5)).astype(np.float32)
    whole = ChannelMeans(1)
    whole.update(x)
    left, right = ChannelMeans(1), ChannelMeans(1)
    left.update(x[:1])
    left.update(x[:0])
    right.update(x[1:])
    left.merge(right)
    assert np.allclose(left.means(), whole.means(), rtol=1e-12)
    assert np.allclose(whole.means(), x.mean((0, 2, 3)), atol=1e-6)


def test_means_refuse_other_statistics_and_what_is_not_finite():
    with pytest.raises(TypeError, match="same axis"):
        ChannelMeans(1).merge(MinMax())
    with pytest.raises(NotFinite):
        ChannelMeans(1).update(np.full((1, 2), np.nan, np.float32))


def test_dynamic_int8_has_no_means_to_correct_with():
    with pytest.raises(UsageError, match="correct_bias has no effect"):
        Quantize(mode="dynamic", correct_bias=True)


DEPTHWISE = """
graph @g(%x: f32[N,8,6,6]) -> (y) {
  @a : f32[8,1,3,3] = random(1)
  @b : f32[16,8,1,1] = random(2)
  @c : f32[16,1,3,3] = random(3)
  %1 = Conv(%x, @a) {group=8} : f32[N,8,4,4]
  %2 = Relu(%1) : f32[N,8,4,4]
  %3 = Conv(%2, @b) : f32[N,16,4,4]
  %4 = Relu(%3) : f32[N,16,4,4]
  %5 = Conv(%4, @c) {group=16} : f32[N,16,2,2]
  return %5
}"""


def test_in_turn_biases_take_back_what_clipping_in_front_has_moved():
    x = sample("Conv")
    errors = {}
    reference = Model(parse(DEPTHWISE))
    for in_turn in (False, True):
        model = Model(parse(DEPTHWISE))
        pass_ = Quantize(observer="percentile", percentile=95.0, correct_bias=True, in_turn=in_turn)
        pass_.run(model, Context(samples=[{"x": x}]))
        verify(model.graph)
        errors[in_turn] = np.abs(mean_of(model, x) - mean_of(reference, x)).mean()
    assert errors[True] < 0.7 * errors[False]
