"""Cross-layer equalization: the same function, with weights that one scale per tensor fits."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, parse, verify
from tersor.transforms.base import Context
from tersor.transforms.quantize import Equalize, Quantize
from tersor.transforms.quantize.equalize import BALANCED, equalize_channels, input_amplitude

CONVS = """
graph @g(%x: f32[N,3,8,8]) -> (y) {
  @a.weight : f32[6,3,3,3] = random(1)
  @a.bias : f32[6] = random(2)
  @b.weight : f32[6,1,3,3] = random(3)
  @c.weight : f32[5,6,1,1] = random(4)
  @d.weight : f32[4,6,1,1] = random(5)
  %1 = Conv(%x, @a.weight, @a.bias) : f32[N,6,6,6]
  %2 = ACTIVATION : f32[N,6,6,6]
  %3 = Conv(%2, @b.weight) {group=6} : f32[N,6,4,4]
  %4 = MaxPool(%3) {kernel_shape=[2,2], strides=[2,2]} : f32[N,6,2,2]
  %5 = Conv(%4, @c.weight) : f32[N,5,2,2]
  %6 = Conv(%4, @d.weight) : f32[N,4,2,2]
  %7 = Concat(%5, %6) {axis=1} : f32[N,9,2,2]
  return %7
}
"""
RELU = CONVS.replace("ACTIVATION", "Relu(%1)")

DENSE = """
graph @g(%x: f32[N,S,8]) -> (y) {
  @a : f32[8,12] = random(1)
  @ab : f32[12] = random(2)
  @b : f32[12,4] = random(3)
  %1 = MatMul(%x, @a) : f32[N,S,12]
  %2 = Add(%1, @ab) : f32[N,S,12]
  %3 = Relu(%2) : f32[N,S,12]
  %4 = MatMul(%3, @b) : f32[N,S,4]
  return %4
}
"""

GEMMS = """
graph @g(%x: f32[N,8]) -> (y) {
  @a : f32[12,8] = random(1)
  @ab : f32[12] = random(2)
  @b : f32[4,12] = random(3)
  %1 = Gemm(%x, @a, @ab) {transB=1} : f32[N,12]
  %2 = LeakyRelu(%1) {alpha=0.2} : f32[N,12]
  %3 = Gemm(%2, @b) {transB=1} : f32[N,4]
  return %3
}
"""


@pytest.mark.parametrize("text", [RELU, RELU.replace("Relu", "LeakyRelu"), DENSE, GEMMS])
def test_channels_are_shared_out_anew_and_the_function_stays(check_rules, text: str):
    statistics = check_rules([equalize_channels], text, None)
    assert statistics["equalize_channels"].hits
    assert "its channels are balanced" in statistics["equalize_channels"].declined


def test_both_sides_of_a_pair_get_the_same_largest_weight():
    model = Model(parse(GEMMS))
    Equalize().run(model, Context())
    weights = {v.name: v.tensor.numpy() for v in model.graph.constants()}
    ratio = np.abs(weights["a"]).max(1) / np.abs(weights["b"]).max(0)
    assert (np.maximum(ratio, 1 / ratio) <= BALANCED**2).all()
    assert np.abs(weights["a"]).max(1).min() > 0


DECLINED = {
    "a Clip is not homogeneous": (CONVS.replace("ACTIVATION", "Clip(%1, f32[]{0}, f32[]{6})"), "nothing below it has weights"),
    "Sigmoid": (CONVS.replace("ACTIVATION", "Sigmoid(%1)"), "nothing below it has weights"),
    "the interior is shared with an operator without weights": (
        GEMMS.replace("return %3", "%4 = Neg(%2) : f32[N,12] return %3, %4").replace("(y)", "(y, z)"), "a user has no weights"),
    "the interior is an output": (GEMMS.replace("return %3", "return %3, %2").replace("(y)", "(y, z)"), "a user has no weights"),
    "the weight is an input": (
        GEMMS.replace("(%x: f32[N,8])", "(%x: f32[N,8], %w: f32[4,12])").replace("Gemm(%2, @b)", "Gemm(%2, %w)"),
        "a layer below has no weight per channel"),
    "an Add of two activations": (
        DENSE.replace("Add(%1, @ab)", "Add(%1, %1)"), "nothing below it has weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", DECLINED)
def test_what_is_not_sure_stays(name: str):
    text, why = DECLINED[name]
    model = Model(parse(text))
    before = {v.name: v.tensor.numpy() for v in model.graph.constants()}
    outcome = Equalize().run(model, Context())
    assert why in outcome.rules["equalize_channels"].declined
    first = next(k for k in before if k.startswith("a"))
    assert (before[first] == {v.name: v.tensor.numpy() for v in model.graph.constants()}[first]).all()


def test_dead_channels_and_extreme_ones_stay_finite():
    a = np.ones((12, 8), np.float32)
    a[0], a[1] = 0, 1e-30
    b = np.ones((4, 12), np.float32)
    b[:, 2] = 0
    text = GEMMS.replace("@a : f32[12,8] = random(1)", "@a : f32[12,8]").replace(
        "@b : f32[4,12] = random(3)", "@b : f32[4,12]"
    )
    model = Model(parse(text, {"a": a, "b": b}))
    Equalize().run(model, Context())
    weights = {v.name: v.tensor.numpy() for v in model.graph.constants()}
    assert all(np.isfinite(w).all() for w in weights.values())
    assert (weights["a"][0] == 0).all()
    assert (weights["a"][1] == np.float32(1e-30)).all()
    assert (weights["a"][2] == 1).all()


def test_input_amplitudes_of_grouped_convolutions_are_in_channel_order():
    graph = parse("""graph @g(%x: f32[N,4,3,3]) -> (y) {
      @w : f32[6,2,1,1] = [1,2, 3,4, 5,6, -7,8, 9,-10, 0,0]
      %1 = Conv(%x, @w) {group=2} : f32[N,6,3,3]
      return %1 }""")
    node = next(iter(graph))
    found = input_amplitude(node, node.operand(1).tensor.numpy())
    assert found is not None
    assert found.tolist() == [5, 6, 9, 10]


def test_uneven_channels_lose_less_in_int8_with_one_scale_per_weight():
    spread = np.logspace(-3, 0, 12).astype(np.float32)
    generator = np.random.default_rng(0)
    a = generator.standard_normal((12, 8)).astype(np.float32) * spread[:, None]
    b = generator.standard_normal((4, 12)).astype(np.float32) / spread
    text = GEMMS.replace(" = random(1)", "").replace(" = random(3)", "").replace("Gemm(%x, @a, @ab)", "Gemm(%x, @a)")
    samples = [{"x": generator.standard_normal((256, 8)).astype(np.float32)}]
    reference = OrtRunner(Model(parse(text, {"a": a, "b": b}))).run(samples[0])["y"]
    found: dict[bool, float] = {}
    for equalize in (False, True):
        model = Model(parse(text, {"a": a, "b": b}))
        if equalize:
            Equalize().run(model, Context())
        Quantize(per_channel=False).run(model, Context(samples=samples))
        verify(model.graph)
        found[equalize] = compare(reference, OrtRunner(model).run(samples[0])["y"]).sqnr_db
    assert found[True] > found[False] + 10
