"""The mask oracle finds wrong surgery: each test breaks a pruned graph in one place and sees the oracle point there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tersor.backends.runners import Runner, synthesize
from tersor.ir import Dense, DType, Model, Node, ParityError, Value, constant
from tersor.ir.tensors import Lazy, binary, take
from tersor.transforms.base import Context
from tersor.transforms.portions import portions
from tersor.transforms.prune import Prune, oracle
from tersor.transforms.prune.analysis import analyse
from tersor.transforms.prune.choose import Limits, choose
from tersor.transforms.prune.groups import families, slots
from tersor.transforms.prune.importance import IMPORTANCE, Evidence
from tersor.transforms.prune.kept import Kept
from tersor.transforms.prune.oracle import Comparison, check, difference
from tersor.transforms.prune.prepare import prepare
from tersor.transforms.prune.surgery import Masked, masked, operate

NETWORK = """graph(%x: f32[N,3,8,8]) -> (y) {
  @stem : f32[16,3,3,3] = random(1)
  @bias : f32[16] = random(2)
  @g : f32[16] = random(3)
  @h : f32[16] = random(4)
  @m : f32[16] = random(5)
  @v : f32[16] = [1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1]
  @dw : f32[16,1,3,3] = random(6)
  @pw : f32[16,16,1,1] = random(7)
  @head : f32[5,8,1,1] = random(8)
  %a = Conv(%x, @stem, @bias) {pads=[1,1,1,1]}
  %b = BatchNormalization(%a, @g, @h, @m, @v)
  %c = Sigmoid(%b)
  %d = Conv(%c, @dw) {group=16, pads=[1,1,1,1]}
  %e = Conv(%d, @pw)
  %f = Add(%e, %b)
  %i = Slice(%f, i64[1]{8}, i64[1]{16}, i64[1]{1})
  %y = Conv(%i, @head)
  return %y
}"""


@dataclasses.dataclass
class Pruning:
    original: Model
    reference: Model
    pruned: Model
    kept: Kept

    def node(self, output: str) -> Node:
        return next(n for n in self.pruned.graph if n.output.name == output)

    def check(self) -> Comparison:
        return check(self.original, self.reference, self.pruned, self.kept, synthesize(self.original.graph)[0])


@pytest.fixture
def pruning(model) -> Pruning:
    """The network with half of its channels gone, before anything was compared."""
    pruned = model(NETWORK)
    original = pruned.clone()
    prepare(pruned.graph)
    axes = analyse(pruned.graph)
    found = slots(axes)
    scores = IMPORTANCE["l2"].score(Evidence(found, axes.atoms.count))
    kept = Kept(axes, choose(axes, families(found), found, scores, Limits(0.5)))
    reference = masked(pruned, kept)
    operate(pruned.graph, kept)
    return Pruning(original, reference, pruned, kept)


def shuffled(value: Value, axis: int) -> Value:
    """The constant with its entries along an axis in another order."""
    return constant(take(value.tensor, np.roll(np.arange(value.tensor.shape[axis]), 1), axis))


def test_right_surgery_passes_and_the_outputs_moved(pruning):
    report = pruning.check()
    assert report.passed
    assert report.values == 8
    assert report.worst <= 1e-6
    assert report.changed > 0.1
    assert report.parameters[1] < report.parameters[0]


BREAK = {
    "output channels of a weight": ("a", 1, 0, "a"),
    "a bias": ("a", 2, 0, "a"),
    "the scale of a BatchNormalization": ("b", 1, 0, "b"),
    "the mean of a BatchNormalization": ("b", 3, 0, "b"),
    "channels of a depthwise weight": ("d", 1, 0, "d"),
    "input channels of a weight": ("e", 1, 1, "e"),
    "input channels of the last weight": ("y", 1, 1, "y"),
}


@pytest.mark.parametrize("case", BREAK)
def test_wrong_indices_are_found_where_they_are(pruning, case: str):
    name, operand, axis, where = BREAK[case]
    node = pruning.node(name)
    node.set_input(operand, shuffled(node.operand(operand), axis))
    report = pruning.check()
    assert not report.passed
    first = next(
        p
        for p in oracle.pairs(pruning.reference, pruning.pruned, pruning.kept)
        if difference(*values(pruning, p), p.kept) > 1e-5
    )
    assert first.candidate.name == where


def values(pruning: Pruning, pair: oracle.Pair) -> tuple[np.ndarray, np.ndarray]:
    feeds = synthesize(pruning.original.graph)[0]
    (a,) = oracle.OrtRunner(pruning.reference, taps=[pair.reference], optimize=False).run_taps(feeds)
    (b,) = oracle.OrtRunner(pruning.pruned, taps=[pair.candidate], optimize=False).run_taps(feeds)
    return a, b


def test_a_wrong_offset_is_found(pruning):
    part = pruning.node("i")
    start, end = (part.operand(i).tensor.numpy() for i in (1, 2))
    part.set_input(1, constant(start - 1))
    part.set_input(2, constant(end - 1))
    assert not pruning.check().passed


def test_an_error_that_the_outputs_do_not_show_is_found(model):
    """Two branches cancel in the output, so only their own values tell."""
    pruned = model("""graph(%x: f32[N,3,4,4]) -> (y) {
      @w : f32[8,3,1,1] = random(1)
      @v : f32[5,8,1,1] = random(2)
      %a = Conv(%x, @w)
      %b = Conv(%a, @v)
      %z = Mul(%b, f32[]{0.0})
      %y = Add(%z, f32[]{1.0})
      return %y
    }""")
    original = pruned.clone()
    prepare(pruned.graph)
    axes = analyse(pruned.graph)
    found = slots(axes)
    kept = Kept(
        axes,
        choose(axes, families(found), found, IMPORTANCE["l2"].score(Evidence(found, axes.atoms.count)), Limits(0.5)),
    )
    reference = masked(pruned, kept)
    operate(pruned.graph, kept)
    broken = next(iter(pruned.graph))
    broken.set_input(1, shuffled(broken.operand(1), 0))
    report = check(original, reference, pruned, kept, synthesize(original.graph)[0])
    assert not report.passed
    assert report.changed == 0


def test_masking_that_moves_no_output_is_warned_about(model):
    """The last weight is zero: agreeing with the masked model says nothing about it."""
    zero = ",".join(["0"] * 40)
    made = model(f"""graph(%x: f32[N,3,4,4]) -> (y) {{
      @w : f32[8,3,1,1] = random(1)
      @v : f32[5,8,1,1] = [{zero}]
      %a = Conv(%x, @w)
      %y = Conv(%a, @v)
      return %y
    }}""")
    outcome = Prune().run(made, Context())
    assert [code for code, _, _ in outcome.warnings] == ["TSR301"]


def test_what_single_precision_leaves_open_is_settled_in_double(pruning, monkeypatch):
    """With a bound that no value meets, every one is computed again."""
    monkeypatch.setattr(oracle, "TOLERANCES", {**oracle.TOLERANCES, DType.F32: -1.0})
    report = pruning.check()
    assert report.passed
    assert (report.values, report.settled) == (8, 8)
    node = pruning.node("e")
    node.set_input(1, shuffled(node.operand(1), 1))
    broken = pruning.check()
    assert not broken.passed
    assert broken.settled == 4
    assert "%e" in broken.where


def test_a_pruning_that_fails_the_oracle_is_an_error_that_names_the_place(model, monkeypatch):
    def wrong(graph, kept):
        operate(graph, kept)
        node = next(iter(graph))
        node.set_input(1, shuffled(node.operand(1), 0))

    monkeypatch.setattr("tersor.transforms.prune.prune.operate", wrong)
    with pytest.raises(ParityError, match="another function than masking") as caught:
        Prune().run(model(NETWORK), Context())
    assert caught.value.where


def test_the_user_s_sample_is_what_the_oracle_runs_on(model):
    samples = [{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}]
    report = Prune().run(model(NETWORK), Context(samples=samples)).checks["mask_oracle"]
    assert report.changed == 0
    assert report.passed


def test_a_network_that_is_compared_in_portions_is_computed_once(pruning, monkeypatch):
    ran: list[int] = []
    run = oracle.once

    def noted(part: Model) -> Runner:
        ran.append(len([*part.graph]))
        return run(part)

    whole = pruning.check()
    monkeypatch.setattr(oracle, "portions", lambda pairs, nbytes: portions(pairs, lambda pair: 2, limit=3))
    monkeypatch.setattr(oracle, "once", noted)
    assert pruning.check() == whole
    assert ran == [2, 2] * 4 + [8]
    node = pruning.node("e")
    node.set_input(1, shuffled(node.operand(1), 1))
    assert "%e" in pruning.check().where


def test_differences_of_shape_and_of_infinity_are_infinite():
    a = np.ones((2, 3), np.float32)
    assert difference(a, np.ones((2, 2), np.float32), {}) == math.inf
    assert difference(a, np.full((2, 3), np.inf, np.float32), {}) == math.inf
    assert difference(a, a[:, [0, 2]], {1: np.array([0, 2])}) == 0


def test_portions_bound_what_is_compared_at_once():
    assert list(portions([1, 2, 3, 4, 5], lambda n: 10 * n, limit=45)) == [[1, 2, 3], [4, 5]]
    assert list(portions([], lambda n: n)) == []


def test_masks_select_so_that_an_infinite_entry_becomes_zero_too():
    tensor = Dense(np.array([[np.inf, 1.0], [2.0, -np.inf]], np.float32))
    got = Masked(tensor, {0: np.array([1]), 1: np.array([0])})
    assert got.dtype is DType.F32
    assert got.numpy().tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert tensor.numpy()[0, 0] == np.inf


def test_integers_are_masked_too():
    tensor = Dense(np.arange(6, dtype=np.int8).reshape(2, 3) + 1)
    assert Masked(tensor, {1: np.array([0, 2])}).numpy().tolist() == [[1, 0, 3], [4, 0, 6]]


def test_some_rows_of_a_masked_tensor_are_those_of_the_whole():
    tensor = Dense(np.arange(24, dtype=np.float32).reshape(4, 3, 2) + 1)
    got = Masked(tensor, {0: np.array([0, 1, 3]), 1: np.array([2])})
    for start in range(4):
        for stop in range(start, 5):
            np.testing.assert_array_equal(got.rows(start, stop), got.numpy()[start:stop])


def test_what_is_computed_from_weights_is_not_rounded_where_double_precision_decides():
    """A scale that takes in sqrt(1/2) differs from the rounded one by 2e-8, which deep networks make large."""
    weights = Dense(np.linspace(0.1, 1, 8, dtype=np.float32))
    half = binary("div", Dense(np.asarray(1, np.float32)), Dense(np.asarray(2, np.float32)))
    scaled = binary("mul", weights, Lazy("sqrt", [half]))
    half_of_it = Masked(scaled, {0: np.arange(4)})
    exact = weights.numpy().astype(np.float64) * np.sqrt(0.5)
    assert np.array_equal(scaled.unrounded(), exact)
    assert np.array_equal(half_of_it.unrounded(), exact * (np.arange(8) < 4))
    assert not np.array_equal(scaled.numpy(), exact)
