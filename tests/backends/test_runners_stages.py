"""Inner values in stages: the numbers of a single run, each computed once."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner, ReferenceRunner, in_stages, synthesize
from tersor.ir import Dense, Model, Value, parse
from tersor.ir.inference import infer

CHAIN = """
graph(%x: f32[N,4], %held_0: f32[N,4]) -> (y) {
  @w : f32[4,6] = random(1)
  @v : f32[6,4] = random(2)
  %a = MatMul(%x, @w)
  %b = Relu(%a)
  %c = MatMul(%b, @v)
  %d = Add(%c, %held_0)
  %e = MatMul(%d, @w)
  %f = Sigmoid(%e)
  %y = Add(%f, %a)
  %z = Neg(%y)
  return %y
}"""


def model_of(text: str) -> Model:
    graph = parse(text)
    infer(graph)
    return Model(graph)


def named(model: Model, names: str) -> list[Value]:
    values = {v.name: v for node in (model.graph.entry, *model.graph) for v in node.outputs}
    values |= {v.name: v for v in model.graph.constants()}
    return [values[n] for n in names.split()]


CUTS = {
    "in order": ["a b", "c d", "e f y"],
    "a value again": ["a b", "a", "y a"],
    "later values first": ["d", "a b", "y c"],
    "nothing in between": ["b", "", "y"],
    "inputs and constants": ["x w", "a v held_0", "x y"],
    "one": ["a b c d e f y"],
}


@pytest.mark.parametrize("runner", [OrtRunner, ReferenceRunner])
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_stages_give_the_numbers_of_a_single_run(cuts, runner):
    model = model_of(CHAIN)
    (feeds,) = synthesize(model.graph)
    stages = [named(model, names) for names in cuts]
    found = list(in_stages(model, feeds, stages, runner))
    for values, arrays in zip(stages, found, strict=True):
        for wanted, got in zip(runner(model, taps=values).run_taps(feeds), arrays, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_each_value_is_computed_once_and_what_nobody_needs_is_not():
    model = model_of(CHAIN)
    (feeds,) = synthesize(model.graph)
    ran: list[list[str]] = []

    def noted(part: Model) -> OrtRunner:
        ran.append([node.op for node in part.graph])
        return OrtRunner(part)

    list(in_stages(model, feeds, [named(model, n) for n in ("b", "d", "f", "d")], noted))
    assert ran == [["MatMul", "Relu"], ["MatMul", "Add"], ["MatMul", "Sigmoid"]]


def test_a_value_that_cannot_be_fed_is_computed_by_each_part_that_needs_it():
    model = model_of("""graph(%x: f32[4,2]) -> (y) {
      %a = Neg(%x)
      %s = SplitToSequence(%a) {axis=0}
      %b = SequenceAt(%s, i64[]{0})
      %c = SequenceAt(%s, i64[]{1})
      %y = Add(%b, %c)
      return %y
    }""")
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    found = list(in_stages(model, {"x": x}, [named(model, "a b"), named(model, "c y")], OrtRunner))
    np.testing.assert_array_equal(found[1][1], -(x[0:1] + x[1:2]))


def test_values_of_types_that_numpy_lacks_and_inputs_that_are_not_fed_pass_from_part_to_part():
    model = model_of("""graph(%x: bf16[4], %s: f32[1]) -> (y) {
      %a = Reshape(%x, i64[1]{4})
      %b = Cast(%a) {to=1}
      %y = Mul(%b, %s)
      return %y
    }""")
    (_, scale) = model.graph.inputs
    model.graph.defaults[scale] = Dense(np.array([3.0], np.float32))
    feeds = {"x": np.array([1, 2, 3, 1.003], np.float32)}
    found = list(in_stages(model, feeds, [named(model, "a"), named(model, "y s")], OrtRunner))
    assert found[1][0].tolist() == [3, 6, 9, 3]
    assert found[1][1].tolist() == [3]


def test_the_model_is_left_alone():
    model = model_of(CHAIN)
    (feeds,) = synthesize(model.graph)
    before = str(model.graph)
    list(in_stages(model, feeds, [named(model, "b"), named(model, "y")], OrtRunner))
    assert str(model.graph) == before
