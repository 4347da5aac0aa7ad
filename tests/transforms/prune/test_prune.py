"""Pruning of whole networks: the couplings that real architectures have, found without being told."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, parse, symbol, verify
from tersor.ir.inference import infer
from tersor.transforms.base import Context, Outcome
from tersor.transforms.manager import run_passes
from tersor.transforms.options import parse_pipeline
from tersor.transforms.prune import Prune
from tersor.transforms.prune.rules.layout import blocks


def prune(model: Model, **options: object) -> Outcome:
    (step,) = run_passes(model, [Prune(**options)], Context())  # pyright: ignore[reportArgumentType]
    verify(model.graph)
    assert step.parity is not None
    assert step.parity.passed
    assert step.outcome.checks["mask_oracle"].passed
    assert step.outcome.checks["mask_oracle"].changed > 1e-3
    return step.outcome


def weights(model: Model) -> dict[str, tuple[int, ...]]:
    """The shapes of the constants with a name."""
    return {v.name: v.tensor.shape for v in model.graph.constants() if v.name}


RESIDUAL = """graph(%x: f32[N,3,8,8]) -> (logits) {
  @stem : f32[16,3,3,3] = random(1)
  @w1 : f32[32,16,3,3] = random(2)
  @w2 : f32[32,32,3,3] = random(3)
  @fc : f32[32,10] = random(4)
  %a = Conv(%x, @stem) {pads=[1,1,1,1]}
  %s = Relu(%a)
  %b = Conv(%s, @w1) {strides=[2,2], pads=[1,1,1,1]}
  %c = Relu(%b)
  %d = Conv(%c, @w2) {pads=[1,1,1,1]}
  %e = Slice(%s, i64[2]{0,0}, i64[2]{8,8}, i64[2]{2,3}, i64[2]{2,2})
  %f = Pad(%e, i64[8]{0,8,0,0,0,8,0,0})
  %g = Add(%d, %f)
  %h = Relu(%g)
  %p = ReduceMean(%h, i64[2]{2,3}) {keepdims=0}
  %logits = MatMul(%p, @fc)
  return %logits
}"""


def test_a_graph_without_types_is_counted_before_it_is_pruned():
    (note,) = Prune().run(Model(parse(RESIDUAL.replace("N,", "1,"))), Context()).notes
    before, after = (int(number.replace(",", "")) for number in note.split("FLOPs ")[1].split(" (")[0].split(" -> "))
    assert before > after > 0


def test_a_residual_network_with_padded_shortcuts(model):
    """The shortcut of He et al. 2015, option A: a stride and zero channels around; both streams lose half."""
    made = model(RESIDUAL)
    outcome = prune(made)
    assert weights(made) == {"stem": (8, 3, 3, 3), "w1": (16, 8, 3, 3), "w2": (16, 16, 3, 3), "fc": (16, 10)}
    assert [d.decision for d in outcome.decisions] == ["pruned 50 %"] * 3 + ["inputs pruned"]
    assert outcome.decisions[0].reason == "8 of 16 channels kept"
    assert outcome.decisions[1].reason == "16 of 32 channels kept; 8 of 16 inputs kept"
    assert outcome.decisions[3].reason == "16 of 32 inputs kept; its own channels stay: it is the output 'logits'"


def test_an_inverted_residual_block_with_squeeze_and_excitation(model):
    made = model("""graph(%x: f32[N,3,8,8]) -> (y) {
      @stem : f32[16,3,1,1] = random(1)
      @expand : f32[48,16,1,1] = random(2)
      @depthwise : f32[48,1,3,3] = random(3)
      @squeeze : f32[8,48,1,1] = random(4)
      @squeeze.bias : f32[8] = random(5)
      @excite : f32[48,8,1,1] = random(6)
      @excite.bias : f32[48] = random(7)
      @project : f32[16,48,1,1] = random(8)
      @head : f32[5,16,1,1] = random(9)
      %s = Conv(%x, @stem)
      %a = Conv(%s, @expand)
      %b = HardSwish(%a)
      %c = Conv(%b, @depthwise) {group=48, pads=[1,1,1,1]}
      %d = HardSwish(%c)
      %e = GlobalAveragePool(%d)
      %f = Conv(%e, @squeeze, @squeeze.bias)
      %g = Relu(%f)
      %h = Conv(%g, @excite, @excite.bias)
      %i = Sigmoid(%h)
      %j = Mul(%d, %i)
      %k = Conv(%j, @project)
      %l = Add(%s, %k)
      %y = Conv(%l, @head)
      return %y
    }""")
    prune(made)
    assert weights(made) == {
        "stem": (8, 3, 1, 1), "expand": (24, 8, 1, 1), "depthwise": (24, 1, 3, 3), "squeeze": (4, 24, 1, 1),
        "squeeze.bias": (4,), "excite": (24, 4, 1, 1), "excite.bias": (24,), "project": (8, 24, 1, 1), "head": (5, 8, 1,
        1),
    }  # fmt: skip


def test_dense_connections_keep_offsets_apart(model):
    made = model("""graph(%x: f32[N,3,8,8]) -> (y) {
      @w0 : f32[8,3,1,1] = random(1)
      @w1 : f32[8,8,3,3] = random(2)
      @w2 : f32[8,16,3,3] = random(3)
      @w3 : f32[5,24,1,1] = random(4)
      @g : f32[16] = random(5)
      @h : f32[16] = random(6)
      @m : f32[16] = random(7)
      @v : f32[16] = [1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1]
      %a = Conv(%x, @w0)
      %b = Conv(%a, @w1) {pads=[1,1,1,1]}
      %c = Concat(%a, %b) {axis=1}
      %d = BatchNormalization(%c, @g, @h, @m, @v)
      %e = Relu(%d)
      %f = Conv(%e, @w2) {pads=[1,1,1,1]}
      %i = Concat(%c, %f) {axis=1}
      %y = Conv(%i, @w3)
      return %y
    }""")
    prune(made)
    shapes = weights(made)
    assert (shapes["w0"], shapes["w1"], shapes["w2"], shapes["w3"]) == (
        (4, 3, 1, 1),
        (4, 4, 3, 3),
        (4, 8, 3, 3),
        (5, 12, 1, 1),
    )
    assert shapes["g"] == (8,)


SHUFFLED = """graph(%x: f32[N,3,8,8]) -> (y) {
  @stem : f32[32,3,1,1] = random(1)
  @w1 : f32[16,16,1,1] = random(2)
  @d1 : f32[16,1,3,3] = random(3)
  @w2 : f32[16,16,1,1] = random(4)
  @head : f32[5,32,1,1] = random(5)
  %a = Conv(%x, @stem)
  %b, %c = Split(%a, i64[2]{16,16}) {axis=1}
  %d = Conv(%c, @w1)
  %e = Conv(%d, @d1) {group=16, pads=[1,1,1,1]}
  %f = Concat(%b, %e) {axis=1}
  %g = Reshape(%f, i64[5]{0,2,16,8,8})
  %h = Transpose(%g) {perm=[0,2,1,3,4]}
  %i = Reshape(%h, i64[4]{0,32,8,8})
  %j, %k = Split(%i, i64[2]{16,16}) {axis=1}
  %l = Conv(%k, @w2)
  %m = Concat(%j, %l) {axis=1}
  %y = Conv(%m, @head)
  return %y
}"""


def test_a_shuffled_two_branch_network(model):
    """Half of the channels pass a block untouched, then both halves are interleaved, twice over."""
    made = model(SHUFFLED)
    prune(made)
    shapes = weights(made)
    assert shapes["stem"][0] < 20
    assert shapes["w1"][0] == shapes["d1"][0] == 8
    assert shapes["head"][1] < 20


@pytest.mark.parametrize("scope", ["local", "global"])
def test_small_families_that_are_ranked_together_keep_the_maximum(model, scope: str):
    made = model(SHUFFLED)
    prune(made, ratio=0.95, max_ratio=0.5, scope=scope)
    assert weights(made)["stem"][0] >= 16
    assert weights(made)["head"][1] >= 16


def test_heads_of_a_transformer_keep_their_order(model):
    """Head dimensions go at the same places of every head, as the view (heads, dimensions) demands."""
    made = model("""graph(%x: f32[N,7,12]) -> (y) {
      @q : f32[12,24] = random(1)
      @k : f32[12,24] = random(2)
      @v : f32[12,24] = random(3)
      @o : f32[24,12] = random(4)
      @g : f32[12] = random(5)
      @up : f32[12,48] = random(6)
      @down : f32[48,12] = random(7)
      %n = LayerNormalization(%x, @g)
      %q = MatMul(%n, @q)
      %k = MatMul(%n, @k)
      %v = MatMul(%n, @v)
      %qh = Reshape(%q, i64[4]{0,7,2,12})
      %kh = Reshape(%k, i64[4]{0,7,2,12})
      %vh = Reshape(%v, i64[4]{0,7,2,12})
      %qt = Transpose(%qh) {perm=[0,2,1,3]}
      %kt = Transpose(%kh) {perm=[0,2,3,1]}
      %vt = Transpose(%vh) {perm=[0,2,1,3]}
      %s = MatMul(%qt, %kt)
      %t = Mul(%s, f32[]{0.28})
      %p = Softmax(%t)
      %h = MatMul(%p, %vt)
      %ht = Transpose(%h) {perm=[0,2,1,3]}
      %hm = Reshape(%ht, i64[3]{0,7,24})
      %om = MatMul(%hm, @o)
      %r = Add(%x, %om)
      %u = MatMul(%r, @up)
      %a = Gelu(%u)
      %d = MatMul(%a, @down)
      %y = Add(%r, %d)
      return %y
    }""")
    prune(made)
    shapes = weights(made)
    assert (shapes["q"], shapes["k"], shapes["v"], shapes["o"]) == ((12, 12), (12, 12), (12, 12), (12, 12))
    assert (shapes["up"], shapes["down"], shapes["g"]) == ((12, 24), (24, 12), (12,))


def test_types_after_surgery_are_those_that_inference_finds(model):
    made = model(RESIDUAL)
    prune(made)
    stated = [v.type for n in made.graph for v in n.outputs]
    fresh = made.clone()
    infer(fresh.graph)
    assert [v.type for n in fresh.graph for v in n.outputs] == stated


def test_pruning_twice_goes_on_where_the_first_stopped(model):
    made = model(RESIDUAL)
    prune(made)
    prune(made)
    assert weights(made)["w2"] == (8, 8, 3, 3)


def test_pruning_is_deterministic(model):
    digests = []
    for _ in range(2):
        made = model(RESIDUAL)
        prune(made, scope="global")
        digests.append([v.tensor.digest for v in made.graph.constants()])
    assert digests[0] == digests[1]


def test_names_and_places_of_layers_stay(model):
    made = model(RESIDUAL)
    before = [(n.op, n.output.name, n.loc) for n in made.graph]
    prune(made)
    assert [(n.op, n.output.name, n.loc) for n in made.graph] == before


def test_weights_are_cut_lazily(model):
    """No weight is evaluated to cut it; a cut of a mapped file stays a view of that file."""
    made = model(RESIDUAL)
    prune(made)
    assert {type(v.tensor).__name__ for v in made.graph.constants() if v.name} == {"Lazy"}


def test_the_sizes_of_a_view_computed_at_run_time_are_rewritten(model):
    made = model("""graph(%x: f32[N,3,8,8]) -> (y) {
      @w : f32[8,3,1,1] = random(1)
      @fc : f32[512,5] = random(2)
      %a = Conv(%x, @w)
      %s = Shape(%a)
      %n = Gather(%s, i64[]{0})
      %u = Unsqueeze(%n, i64[1]{0})
      %t = Concat(%u, i64[1]{512}) {axis=0}
      %r = Reshape(%a, %t)
      %y = MatMul(%r, @fc)
      return %y
    }""")
    prune(made)
    assert weights(made)["fc"] == (256, 5)
    runner = OrtRunner(made)
    for batch in (1, 5):
        assert runner.run({"x": np.zeros((batch, 3, 8, 8), np.float32)})["y"].shape == (batch, 5)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((2, 3, 4), (6, 4), [((0, 2), (0, 1)), ((2, 3), (1, 2))]),
        ((6, 4), (2, 3, 2, 2), [((0, 1), (0, 2)), ((1, 2), (2, 4))]),
        ((2, 6), (3, 4), [((0, 2), (0, 2))]),
        ((5, 7, 1, 1), (5, 7), [((0, 1), (0, 1)), ((1, 4), (1, 2))]),
        ((1, 5), (5,), [((0, 2), (0, 1))]),
        ((1, 1), (1,), [((0, 2), (0, 1))]),
        (("N", 4, "H", "W"), ("N", 2, 2, "H", "W"), [((0, 1), (0, 1)), ((1, 2), (1, 3)), ((2, 3), (3, 4)), ((3, 4), (4,
        5))]), (("N", "T", 12), ("M", 12), [((0, 2), (0, 1)), ((2, 3), (1, 2))]),
        (("N", 3, 4), ("M", 12), [((0, 1), (0, 1)), ((1, 3), (1, 2))]),
    ],
)  # fmt: skip
def test_a_reshape_is_cut_where_as_many_elements_lie_before(before, after, expected):
    sizes = [tuple(symbol(d) if isinstance(d, str) else d for d in shape) for shape in (before, after)]
    assert blocks(*sizes) == expected


def test_the_pass_is_written_the_same_in_a_pipeline():
    (made,) = parse_pipeline('prune(ratio=0.3, skip=["fc"])', {"prune": Prune})
    assert made == Prune(ratio=0.3, skip=("fc",))
    assert str(made) == "prune(ratio=0.3, skip=('fc',))"


def test_importing_the_pass_does_not_import_torch():
    code = "import sys, tersor.transforms.prune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
