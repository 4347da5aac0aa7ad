"""Time as a bill: layers cost what the runtime takes for whole vectors of channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tersor.ir import Model, parse
from tersor.ir.inference import Inference
from tersor.transforms.cost import graph_flops
from tersor.transforms.prune import timetable
from tersor.transforms.prune.analysis import analyse
from tersor.transforms.prune.timetable import (
    Clock,
    Table,
    aligned,
    convolutions,
    levels,
    products,
    seconds,
    whole,
    width,
)

NETWORK = """graph(%x: f32[1,3,8,8]) -> (y) {
  @w0 : f32[32,3,3,3] = random(0)
  @deep : f32[32,1,3,3] = random(1)
  @w1 : f32[64,32,3,3] = random(2)
  @pairs : f32[64,2,1,1] = random(3)
  @w2 : f32[6,64] = random(4)
  %a = Conv(%x, @w0) {pads=[1,1,1,1], strides=[2,2]} : f32[1,32,4,4]
  %b = Conv(%a, @deep) {pads=[1,1,1,1], group=32} : f32[1,32,4,4]
  %c = Relu(%b) : f32[1,32,4,4]
  %d = Conv(%c, @w1) {pads=[1,1,1,1]} : f32[1,64,4,4]
  %e = Relu(%d) : f32[1,64,4,4]
  %f = Conv(%e, @pairs) {group=32} : f32[1,64,4,4]
  %g = ReduceMean(%f, i64[2]{2,3}) {keepdims=0} : f32[1,64]
  %y = Gemm(%g, @w2) {transB=1} : f32[1,6]
  return %y
}"""


def by_vectors(vector: int) -> Clock:
    """A clock of a runtime that computes convolutions in vectors."""

    def cost(text: str) -> float:
        model = Model(parse(text))
        Inference(model.graph).run()
        full = graph_flops(model.graph)
        for node in model.graph:
            if node.op == "Conv" and node.int("group", 1) == 1:
                out, into = node.operand(1).tensor.shape[:2]
                return full * (-(-out // vector) * -(-into // vector) * vector**2) / (out * into)
        return full

    return lambda texts, copies: [cost(text) / copies for text in texts]


def test_channels_fill_vectors_or_half_or_a_quarter_of_one():
    assert [n for n in range(1, 40) if aligned(n, 16)] == [4, 8, 16, 32]
    assert [whole(n, 16) for n in (1, 4, 5, 8, 9, 16, 17, 33)] == [4, 4, 8, 8, 16, 16, 32, 48]
    assert [whole(n, 1) for n in (1, 2, 5)] == [1, 2, 5]


def test_few_levels_are_timed_however_many_channels_there_are():
    assert levels(64, 16) == [4, 8, 32, 48, 64]
    assert levels(10, 16) == [4, 8, 10]
    assert levels(3, 16) == [3]
    assert len(levels(4096, 16)) == timetable.LEVELS


def test_a_table_knows_steps_and_fills_in_what_lies_between():
    table = Table(([16, 48], [8]), (np.array([0.2, 1.0]), np.array([1.0])), 16)
    assert table([1, 1]) == 1
    assert table([1 / 3, 1]) == table([0.1, 1]) == pytest.approx(0.2)
    assert table([2 / 3, 1]) == table([17 / 48, 1]) == pytest.approx(0.6)


@pytest.mark.parametrize("vector", [1, 4, 8, 16])
def test_the_width_of_vectors_is_found_by_timing(vector: int):
    assert width(by_vectors(vector)) == vector


def test_every_form_of_a_layer_is_timed_in_onnx_runtime(model: Callable[..., Model]):
    texts: list[str] = []

    def clock(given: Sequence[str], copies: int) -> list[float]:
        texts.extend(given)
        return seconds(given, copies)

    made = model(NETWORK)
    bill = timetable.latency(made.graph, analyse(made.graph), {"x": (1, 3, 8, 8)}, 1.0, 16, clock)
    nothing = np.zeros(bill.vectors[0].max() + 1000, np.bool_)
    assert bill.total(nothing) == pytest.approx(1, rel=0.1)
    assert {re.findall("Conv|MatMul", text)[0] for text in texts} == {"Conv", "MatMul"}
    assert any("group=32" in text for text in texts)
    assert len(texts) < 40


def test_the_bill_falls_in_steps(model: Callable[..., Model]):
    made = model(NETWORK)
    axes = analyse(made.graph)
    bill = timetable.latency(made.graph, axes, {"x": (1, 3, 8, 8)}, 1.0, 16, by_vectors(16))
    ids = axes.atoms.roots(axes[next(n for n in made.graph if n.op == "Relu").output, 1])
    left: list[float] = []
    for count in (0, 1, 15, 16, 17):
        gone = np.zeros(axes.atoms.count, np.bool_)
        gone[ids[:count]] = True
        left.append(bill.total(gone))
    timed = [-(-(32 - count) // 16) for count in (0, 1, 15, 16, 17)]
    assert timed == [2, 2, 2, 1, 1]
    saved = [left[0] - each for each in left]
    assert saved[3] > 5 * saved[2]
    assert saved[2] < 0.1 * left[0]


def test_what_is_not_timed_by_itself_costs_what_the_whole_network_takes_longer(model: Callable[..., Model]):
    made = model(NETWORK)
    axes, clock = analyse(made.graph), by_vectors(1)
    nothing = np.zeros(axes.atoms.count, np.bool_)
    bills = [timetable.latency(made.graph, axes, {"x": (1, 3, 8, 8)}, total, 1, clock) for total in (1e7, 2e7)]
    assert [each.total(nothing) for each in bills] == pytest.approx([1e7, 2e7])


def test_the_text_of_a_layer_is_a_network():
    for text in (convolutions((1, 4, 5, 5), (6, 2, 3, 3), {"group": 2}, 3), products((2, 4), (4, 5), 2)):
        assert seconds([text], 2)[0] > 0
