"""Weights as products of two smaller ones, chosen by what they save and what the outputs lose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Model, UsageError, verify
from tersor.transforms.base import Context
from tersor.transforms.cost import graph_flops, parameter_count
from tersor.transforms.manager import Step, run_passes
from tersor.transforms.prune import Factorize

Make = Callable[..., Model]

LAYERS = {
    "MatMul": ("f32[3,4,24]", "f32[24,32]", "MatMul(%x, @w)"),
    "Gemm": ("f32[6,24]", "f32[32,24]", "Gemm(%x, @w, @b) {transB=1}"),
    "Gemm, transposed": ("f32[6,24]", "f32[24,32]", "Gemm(%x, @w, @b)"),
    "Conv": ("f32[2,12,9,8]", "f32[32,12,3,2]", "Conv(%x, @w, @b) {pads=[1,0,0,1], strides=[2,1]}"),
}


def low_rank(shape: tuple[int, ...], rank: int) -> np.ndarray:
    draw = np.random.default_rng(0).standard_normal
    rows = shape[0]
    return (draw((rows, rank)) @ draw((rank, int(np.prod(shape[1:]))))).reshape(shape).astype(np.float32)


def sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text[4:-1].split(","))


def run(model: Model, data: list[Feeds] | None = None, **options: float) -> Step:
    (step,) = run_passes(model, [Factorize(**options)], Context(samples=data))  # pyright: ignore[reportArgumentType]
    verify(model.graph)
    return step


def error(model: Model, reference: Model, feeds: Feeds) -> float:
    a, b = (OrtRunner(m).run(feeds)["y"] for m in (model, reference))
    return float(np.square(a - b).mean() / b.var())


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("with_data", [False, True])
def test_a_weight_of_low_rank_is_found_in_any_layer(model: Make, kind: str, with_data: bool):
    x, w, line = LAYERS[kind]
    text = f"graph(%x: {x}) -> (y) {{\n  @w : {w}\n  @b : f32[32]\n  %y = {line}\n  return %y\n}}"
    if "@b" not in line:
        text = text.replace("  @b : f32[32]\n", "")
    constants = {"w": low_rank(sizes(w), 5), "b": np.ones(32, np.float32)}
    made = model(text, **{name: array for name, array in constants.items() if f"@{name}" in text})
    original, random = made.clone(), np.random.default_rng(1)
    data = [{"x": random.standard_normal(sizes(x)).astype(np.float32)} for _ in range(8)]
    step = run(made, data if with_data else None, flops=0.6)
    assert len(made.graph) == 2
    assert graph_flops(made.graph) <= 0.6 * graph_flops(original.graph)
    assert error(made, original, data[-1]) < 1e-3
    assert step.outcome.decisions[0].decision.startswith("rank ")


PERCEPTRON = """graph(%x: f32[16,32]) -> (y) {
  @w0 : f32[32,48]
  @b0 : f32[48]
  @w1 : f32[48,40]
  @w2 : f32[40,6]
  %a = MatMul(%x, @w0) : f32[16,48]   # first
  %b = Add(%a, @b0) : f32[16,48]
  %c = Relu(%b) : f32[16,48]
  %d = MatMul(%c, @w1) : f32[16,40]   # second
  %e = Relu(%d) : f32[16,40]
  %y = MatMul(%e, @w2) : f32[16,6]   # third
  return %y
}"""


@pytest.fixture
def perceptron(model: Make) -> Model:
    draw = np.random.default_rng(2).standard_normal
    arrays = {"w0": draw((32, 48)) / 6, "b0": draw(48), "w1": low_rank((48, 40), 6) / 20, "w2": draw((40, 6)) / 6}
    return model(PERCEPTRON, **{name: array.astype(np.float32) for name, array in arrays.items()})


def samples(count: int = 8) -> list[Feeds]:
    """Inputs that vary in a few directions only."""
    random = np.random.default_rng(3)
    scale = np.r_[np.full(8, 2.0), np.full(24, 0.05)]
    return [{"x": (random.standard_normal((16, 32)) * scale).astype(np.float32)} for _ in range(count)]


def test_factors_go_where_they_cost_least(perceptron: Model):
    original = perceptron.clone()
    step = run(perceptron, samples(), parameters=0.7)
    ranks = {d.layer: d.decision for d in step.outcome.decisions}
    assert ranks["second"].startswith("rank ")
    assert ranks["third"] == "kept"
    assert parameter_count(perceptron.graph) <= 0.7 * parameter_count(original.graph)
    assert error(perceptron, original, samples(9)[-1]) < 1e-2


def test_with_data_the_directions_that_inputs_take_are_kept(perceptron: Model):
    plain, original = perceptron.clone(), perceptron.clone()
    run(plain, flops=0.5)
    run(perceptron, samples(), flops=0.5)
    assert error(perceptron, original, samples(9)[-1]) < 0.5 * error(plain, original, samples(9)[-1])


def test_a_budget_that_cannot_be_kept_is_missed(perceptron: Model):
    (why,) = run(perceptron, flops=0.001).outcome.missed
    assert "0.001 was not reached" in why


@pytest.mark.parametrize("options", [{}, {"flops": 0.5, "parameters": 0.5}, {"flops": 0.0}, {"parameters": 1.1}])
def test_budgets_that_make_no_sense_are_refused(options: dict[str, float]):
    with pytest.raises(UsageError, match=r"budgets|out of range"):
        Factorize(**options)
