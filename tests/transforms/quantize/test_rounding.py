"""GPTQ and AdaRound: less error in the result than rounding to nearest, and weights that `quantize` keeps as they are."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Array, Dense, Model, UsageError, Value, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import AdaRound, Gptq, Quantize
from tersor.transforms.quantize.layers import layer_of
from tersor.transforms.quantize.rounding import Grid, Rounding, SecondMoments, positions

DENSE = """
graph @g(%x: f32[N,64]) -> (y) {
  @w : f32[64,24] = random(1)
  %1 = MatMul(%x, @w) : f32[N,24]  # dense
  return %1
}
"""
CONV = """
graph @g(%x: f32[N,8,7,7]) -> (y) {
  @w : f32[12,4,3,3] = random(1)
  @b : f32[12] = random(2)
  %1 = Conv(%x, @w, @b) {group=2, pads=[1,1,0,1], strides=[2,1]} : f32[N,12,3,7]  # conv
  return %1
}
"""


def sample(text: str, seed: int = 0) -> dict[str, Array]:
    """Rows whose columns are correlated, as those of real layers are."""
    random = np.random.default_rng(seed)
    if text is CONV:
        noise = random.standard_normal((16, 8, 7, 7))
        return {"x": (noise + 3 * random.standard_normal((16, 1, 1, 1)) + noise.cumsum(1)).astype(np.float32)}
    mixing = np.random.default_rng(7).standard_normal((8, 64))
    return {
        "x": (random.standard_normal((300, 8)) @ mixing + 0.1 * random.standard_normal((300, 64))).astype(np.float32)
    }


def rounded(graph, text: str, pass_: Rounding) -> tuple[Model, Outcome]:
    model = Model(graph(text))
    outcome = pass_.run(model, Context(samples=[sample(text)]))
    verify(model.graph)
    return model, outcome


def weight_of(model: Model) -> Array:
    return next(iter(model.graph)).operand(1).tensor.numpy()


@pytest.mark.parametrize("text", [DENSE, CONV])
@pytest.mark.parametrize("kind", [Gptq, AdaRound])
def test_results_have_less_error_than_with_weights_rounded_to_nearest(graph, text: str, kind: type[Rounding]):
    reference = Model(graph(text))
    nearest = Model(graph(text))
    node = next(iter(nearest.graph))
    layer = layer_of(node)
    assert not isinstance(layer, str)
    shape = [-1 if a == layer.axis else 1 for a in range(layer.weight.tensor.rank)]
    step = (layer.amplitude / 127).reshape(shape)
    plain = (np.rint(layer.weight.tensor.numpy() / step) * step).astype(np.float32)
    node.set_input(1, Value("w", layer.weight.type, const=Dense(plain)))
    model, outcome = rounded(graph, text, kind())
    other = sample(text, seed=5)
    wanted = OrtRunner(reference).run(other)["y"]
    found, usual = (compare(wanted, OrtRunner(m).run(other)["y"]).sqnr_db for m in (model, nearest))
    assert found > usual + 1
    assert "below that of rounding to nearest" in outcome.decisions[0].reason


@pytest.mark.parametrize("kind", [Gptq, AdaRound])
@pytest.mark.parametrize("text", [DENSE, CONV])
def test_int8_finds_the_same_scale_and_moves_no_weight(graph, text: str, kind: type[Rounding]):
    model, _ = rounded(graph, text, kind())
    before = weight_of(model)
    Quantize().run(model, Context(samples=[sample(text)]))
    restored = next(n for n in model.graph if n.op == "DequantizeLinear" and n.operand(0).const is not None)
    integers, scale = (restored.operand(i).tensor.numpy() for i in (0, 1))
    axis = [-1 if a == restored.int("axis") else 1 for a in range(integers.ndim)]
    assert np.allclose(integers.astype(np.float64) * scale.reshape(axis), before, rtol=1e-6, atol=0)


def test_blocks_of_four_bits_are_those_of_weight_only_int4(graph):
    text = DENSE.replace("[64,24]", "[64,96]").replace("N,24", "N,96")
    model, _ = rounded(graph, text, Gptq(bits=4, block=32))
    before = weight_of(model)
    Quantize(mode="weights", bits=4, block=32).run(model, Context())
    restored = next(n for n in model.graph if n.op == "DequantizeLinear")
    integers, scale = (restored.operand(i).tensor.numpy() for i in (0, 1))
    assert np.allclose(integers.astype(np.float64) * scale.repeat(32, 0), before, rtol=1e-6, atol=0)


def test_the_largest_weight_of_each_scale_stays_at_the_largest_integer_and_zeros_stay_zero():
    weight = np.random.default_rng(0).standard_normal((1, 5, 12))
    weight[0, 3] = 0
    grid = Grid(weight, 8, 0, False).of(0)
    found = grid.nearest(weight[0])
    assert np.allclose(np.abs(found / grid.step).max(1), [127, 127, 127, 0, 127])
    assert grid.pinned.sum(1).tolist() == [1, 1, 1, 0, 1]


@pytest.mark.parametrize("kind", [Gptq, AdaRound])
def test_weights_and_inputs_of_zeros_are_no_trouble(graph, kind: type[Rounding]):
    model = Model(graph(DENSE))
    node = next(iter(model.graph))
    node.set_input(1, Value("w", node.operand(1).type, const=Dense(np.zeros((64, 24), np.float32))))
    kind().run(model, Context(samples=[{"x": np.zeros((3, 64), np.float32)}]))
    assert not weight_of(model).any()


def test_second_moments_are_those_of_the_patches_and_merge(graph):
    node = next(iter(graph(CONV)))
    x = sample(CONV)["x"]
    assert positions(node, x) == 16 * 3 * 7
    whole, parts = SecondMoments(node), [SecondMoments(node) for _ in range(2)]
    whole.update(x)
    for part, array in zip(parts, (x[:8], x[8:]), strict=True):
        part.update(array)
    parts[1].merge(parts[0])
    assert np.allclose(whole.sums, parts[1].sums)
    assert whole.count == parts[1].count == 16 * 3 * 7


@pytest.mark.parametrize(
    ("options", "message"), [({"bits": 4}, "block"), ({"bits": 5}, "bits=5"), ({"damping": 0.0}, "damping")]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        Gptq(**options)  # pyright: ignore[reportArgumentType]


def test_data_is_needed(graph):
    with pytest.raises(UsageError, match="gptq needs calibration data"):
        Gptq().run(Model(graph(DENSE)), Context())
