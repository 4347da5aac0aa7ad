"""A language model's head reads the transposed table of words: in int8 it has integers of its own."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Model, UsageError, parse, skeleton, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Quantize

TIED = """graph(%i: i64[2,6], %x: f32[2,6,32]) -> (y) {
  @t : f32[64,32] = random(1)
  @w : f32[32,32] = random(2)
  %e = Gather(@t, %i) : f32[2,6,32]
  %s = Add(%e, %x) : f32[2,6,32]
  %h = MatMul(%s, @w) : f32[2,6,32]
  %u = Transpose(@t) {perm=[1,0]} : f32[32,64]
  %y = MatMul(%h, %u) : f32[2,6,64]
  return %y
}"""


def samples() -> list[Feeds]:
    random = np.random.default_rng(0)
    return [
        {"i": random.integers(0, 64, (2, 6)), "x": random.standard_normal((2, 6, 32)).astype(np.float32)}
        for _ in range(3)
    ]


def quantize(text: str, done: Quantize) -> tuple[Model, Outcome]:
    model, feeds = Model(parse(text)), samples()
    wanted = OrtRunner(model).run(feeds[0])["y"]
    outcome = done.run(model, Context(samples=feeds))
    verify(model.graph)
    found = OrtRunner(model).run(feeds[0])["y"]
    assert np.square(found - wanted).sum() < 1e-3 * np.square(wanted).sum()
    return model, outcome


def count(model: Model, op: str) -> int:
    return sum(node.op == op for node in model.graph)


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_head_is_quantized_and_the_table_stays_for_the_words(mode: str):
    model, outcome = quantize(TIED, Quantize(mode=mode))
    assert [d.decision for d in outcome.decisions] == ["int8", "int8"]
    assert count(model, "Transpose") == 0
    assert next(node for node in model.graph if node.op == "Gather").operand(0).is_float


@pytest.mark.parametrize("skip", [(), ("y",)])
def test_so_it_is_for_openvino(skip: tuple[str, ...]):
    _, outcome = quantize(TIED, Quantize(target="openvino-cpu", skip=skip))
    assert [d.decision for d in outcome.decisions] == ["int8", "fp32" if skip else "int8"]


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_head_that_stays_float_goes_on_sharing_the_table(mode: str):
    model, outcome = quantize(TIED, Quantize(mode=mode, skip=("y",)))
    assert [d.reason for d in outcome.decisions] == ["", "skipped by pattern 'y'"]
    head = next(node for node in model.graph if node.op == "MatMul")
    assert head.operand(1).op == "Transpose"


def test_others_go_on_reading_the_transposed_table():
    text = TIED.replace("-> (y)", "-> (y, o)").replace("return %y", "%o = Neg(%u) : f32[32,64] return %y, %o")
    model, outcome = quantize(text, Quantize(mode="dynamic"))
    assert outcome.changed == 2
    assert count(model, "Transpose") == 1


def test_a_transposed_table_that_is_an_output_stays_one():
    text = TIED.replace("-> (y)", "-> (y, u)").replace("return %y", "return %y, %u")
    model, outcome = quantize(text, Quantize(mode="dynamic"))
    assert outcome.changed == 2
    assert count(model, "Transpose") == 1


def test_bad_input_leaves_the_model_as_it_was():
    model = Model(parse(TIED))
    before = skeleton(model.graph)
    with pytest.raises(UsageError, match="matches nothing"):
        Quantize(mode="dynamic", only=("nothing",)).run(model, Context())
    assert skeleton(model.graph) == before
