"""Mixed precision: layers go back to float where that wins most for the outputs, and not for more time than is given."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Array, Graph, Model, UsageError, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.gain import cheapest, modelled
from tersor.transforms.quantize.layers import Layer, layers

CHAIN = """
graph @chain(%x: f32[N,16,16,16]) -> (y) {
  @a.weight : f32[64,16,3,3] = random(1)
  @b.weight : f32[64,64,3,3] = random(2)
  @c.weight : f32[64,64,3,3] = random(3)
  @d.weight : f32[8,64,1,1] = random(4)
  %1 = Conv(%x, @a.weight) {pads=[1,1,1,1]} : f32[N,64,16,16]  # a
  %2 = Relu(%1) : f32[N,64,16,16]
  %3 = Conv(%2, @b.weight) {pads=[1,1,1,1]} : f32[N,64,16,16]  # b
  %4 = Relu(%3) : f32[N,64,16,16]
  %5 = Conv(%4, @c.weight) {pads=[1,1,1,1]} : f32[N,64,16,16]  # c
  %6 = Relu(%5) : f32[N,64,16,16]
  %7 = Conv(%6, @d.weight) : f32[N,8,16,16]  # d
  return %7
}
"""


def feeds() -> list[dict[str, Array]]:
    return [{"x": np.random.default_rng(i).standard_normal((1, 16, 16, 16), np.float32)} for i in range(4)]


def quantized(graph: Graph, **options: object) -> tuple[Model, Outcome]:
    model = Model(graph)
    outcome = Quantize(cost_aware=True, **options).run(model, Context(samples=feeds()))  # pyright: ignore[reportArgumentType]
    verify(model.graph)
    return model, outcome


def sqnr(a: Model, b: Model) -> float:
    x = {"x": np.random.default_rng(9).standard_normal((2, 16, 16, 16), np.float32)}
    return compare(OrtRunner(a).run(x)["y"], OrtRunner(b).run(x)["y"]).sqnr_db


def test_time_that_is_given_up_buys_accuracy_and_the_table_says_what_it_cost(graph):
    reference = Model(graph(CHAIN))
    plain, before = quantized(graph(CHAIN))
    mixed, after = quantized(graph(CHAIN), slack=0.8, correct_bias=True)
    assert sqnr(reference, mixed) > sqnr(reference, plain) + 1
    left = [d for d in after.decisions if d.decision == "fp32" and "float wins" in d.reason]
    assert left
    assert after.changed == before.changed - len(left)
    assert any("left in float for accuracy" in note for note in after.notes)


def test_no_layer_goes_back_where_nothing_may_be_given_up(graph):
    _, before = quantized(graph(CHAIN))
    _, after = quantized(graph(CHAIN), slack=1e-6)
    assert [d.decision for d in after.decisions] == [d.decision for d in before.decisions]


def test_a_layer_that_must_be_float_makes_the_cheapest_assignment_dearer(graph):
    made = graph(CHAIN.replace("N,", "1,"))
    known = {node: layer for node, layer in layers(made) if isinstance(layer, Layer)}
    costs = modelled(known, {})
    cost, kept = cheapest(made, known, costs)
    middle = list(known)[1]
    dearer, left = cheapest(made, known, costs, [middle])
    assert middle in kept
    assert middle not in left
    assert dearer > cost


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"slack": 0.1}, "cost_aware"),
        ({"slack": -1.0, "cost_aware": True}, "slack"),
        ({"in_turn": True}, "correct_bias"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, float], what: str):
    with pytest.raises(UsageError, match=what):
        Quantize(**options)  # pyright: ignore[reportArgumentType]
