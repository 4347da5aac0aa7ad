"""SmoothQuant: the same function, with inputs of matrix products that one scale per tensor fits."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Array, Dense, Graph, Model, UsageError, Value, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Quantize, Smooth
from tersor.transforms.quantize.smooth import ChannelRanges, factors, noise

BEFORE_NORM = """
graph @g(%x: f32[N,S,16]) -> (y) {
  @gamma : f32[16] = random(1)
  @beta : f32[16] = random(2)
  @a : f32[16,24] = random(3)
  @b : f32[12,16] = random(4)
  @c : f32[12] = random(5)
  @d : f32[24,12] = random(6)
  %1 = LayerNormalization(%x, @gamma, @beta) : f32[N,S,16]
  %2 = MatMul(%1, @a) : f32[N,S,24]  # up
  %3 = Tanh(%2) : f32[N,S,24]
  %4 = MatMul(%3, @d) : f32[N,S,12]  # down
  return %4
}
"""
WITH_RESIDUAL = BEFORE_NORM.replace("@d : f32[24,12]", "@d : f32[24,16]").replace("S,12]  # down", "S,16]  # down").replace(
    "  return %4", "  %5 = Add(%4, %1) : f32[N,S,16]\n  return %5"
)  # fmt: skip


def outlying(graph: Graph) -> Model:
    """The model with a few norm channels that are fifty times as large."""
    norm = next(n for n in graph if n.op == "LayerNormalization")
    gamma = norm.operand(1).tensor.numpy().copy()
    gamma[[1, 7]] *= 50
    held = Value("gamma", norm.operand(1).type, const=Dense(gamma))
    norm.set_input(1, held)
    return Model(graph)


def feeds(count: int = 4) -> list[dict[str, Array]]:
    return [{"x": np.random.default_rng(i).standard_normal((2, 5, 16), np.float32)} for i in range(count)]


def run(model: Model, pass_: Smooth | Quantize) -> Outcome:
    outcome = pass_.run(model, Context(samples=feeds()))
    verify(model.graph)
    return outcome


def sqnr(a: Model, b: Model) -> float:
    x = feeds(6)[5]
    return compare(OrtRunner(a).run(x)["y"], OrtRunner(b).run(x)["y"]).sqnr_db


@pytest.mark.parametrize("text", [BEFORE_NORM, WITH_RESIDUAL])
def test_the_function_stays_and_int8_loses_less(graph, text: str):
    reference, plain, smoothed = (outlying(graph(text)) for _ in range(3))
    run(plain, Quantize())
    assert run(smoothed, Smooth()).changed
    assert sqnr(reference, smoothed) > 100
    run(smoothed, Quantize())
    assert sqnr(reference, smoothed) > sqnr(reference, plain) + 1.5


def test_the_factors_go_into_a_norm_that_nothing_else_reads(graph):
    model = outlying(graph(BEFORE_NORM))
    before = len(model.graph)
    run(model, Smooth(only=("up",)))
    assert len(model.graph) == before


def test_a_norm_with_a_residual_gets_one_multiplication(graph):
    model = outlying(graph(WITH_RESIDUAL))
    run(model, Smooth(only=("up",)))
    assert [n.op for n in model.graph].count("Mul") == 1


def test_even_channels_are_left_alone_and_the_table_says_so(graph):
    model = Model(graph(BEFORE_NORM))
    outcome = run(model, Smooth(only=("down",)))
    assert outcome.changed == 0
    assert [d.decision for d in outcome.decisions] == ["as it is"]
    assert "even enough" in outcome.decisions[0].reason


def test_channels_of_zeros_have_the_factor_one_and_no_noise_comes_from_them():
    seen = ChannelRanges()
    seen.update(np.array([[1.0, 0.0, 100.0], [-2.0, 0.0, 50.0]], np.float32))
    weights = [np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])]
    found = factors(0.5, weights, seen)
    assert found[1] == found[2] == 1
    assert np.isfinite(found).all()
    assert np.isfinite(noise(found, weights, seen))


def test_ranges_of_channels_merge_in_any_order():
    arrays = [np.random.default_rng(i).standard_normal((3, 4), np.float32) for i in range(3)]
    whole, parts = ChannelRanges(), [ChannelRanges() for _ in arrays]
    for part, array in zip(parts, arrays, strict=True):
        whole.update(array)
        part.update(array)
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    assert np.array_equal(whole.amplitude(), parts[2].amplitude())
    assert np.allclose(whole.squares, parts[2].squares)


def test_it_needs_data_and_a_strength_below_one(graph):
    with pytest.raises(UsageError, match="smooth needs calibration data"):
        Smooth().run(Model(graph(BEFORE_NORM)), Context())
    with pytest.raises(UsageError, match="alpha"):
        Smooth(alpha=1.0)
