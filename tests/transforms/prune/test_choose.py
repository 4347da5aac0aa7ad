"""Which groups go: ratios, scores, multiples, limits, selection."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.ir import UsageError
from tersor.transforms.base import Context, Outcome
from tersor.transforms.prune import Prune
from tersor.transforms.prune.choose import Limits


def weights(*rows: float) -> np.ndarray:
    """A 1x1 convolution of three inputs whose output channels have these magnitudes."""
    return (np.asarray(rows, np.float32)[:, None, None, None] * np.ones((1, 3, 1, 1), np.float32)).astype(np.float32)


PAIR = """graph(%x: f32[N,3,4,4]) -> (y) {
  @w : f32[8,3,1,1]
  @v : f32[5,8,1,1]
  %first = Conv(%x, @w)
  %r = Relu(%first)
  %y = Conv(%r, @v)
  return %y
}"""
EQUAL = np.ones((5, 8, 1, 1), np.float32)

CHAIN = """graph(%x: f32[N,3,4,4]) -> (y) {
  @w1 : f32[16,3,1,1] = random(1)
  @w2 : f32[24,16,1,1] = random(2)
  @w3 : f32[12,24,1,1] = random(3)
  @w4 : f32[5,12,1,1] = random(4)
  %c1 = Conv(%x, @w1) : f32[N,16,4,4]   # net.stem
  %r1 = Relu(%c1) : f32[N,16,4,4]   # net.act
  %c2 = Conv(%r1, @w2) : f32[N,24,4,4]   # net.block.a
  %c3 = Conv(%c2, @w3) : f32[N,12,4,4]   # net.block.b
  %y = Conv(%c3, @w4) : f32[N,5,4,4]   # net.head
  return %y
}"""


def run(model, **options: object) -> Outcome:
    return Prune(**options).run(model, Context())  # pyright: ignore[reportArgumentType]


def widths(model) -> list[int]:
    """The output channels of each convolution."""
    return [n.output.shape[1] for n in model.graph if n.op == "Conv"]


@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_the_smallest_weights_go(model, importance: str):
    made = model(PAIR, w=weights(5, 1, 7, 2, 8, 3, 6, 4), v=EQUAL)
    run(made, importance=importance)
    assert next(iter(made.graph)).operand(1).tensor.numpy()[:, 0, 0, 0].tolist() == [5, 7, 8, 6]


def test_the_whole_group_counts_not_the_producer_alone(model):
    """Channel 0 has the smallest producer, but by far the largest consumer."""
    consumer = np.ones((5, 8, 1, 1), np.float32)
    consumer[:, 0] = 100
    made = model(PAIR, w=weights(0.5, 1, 1, 1, 1, 1, 1, 1), v=consumer)
    run(made, ratio=0.9)
    assert next(iter(made.graph)).operand(1).tensor.numpy()[:, 0, 0, 0].tolist() == [0.5]


def test_l1_and_l2_differ_where_weights_are_concentrated(model):
    w = np.ones((8, 3, 1, 1), np.float32)
    w[:4] = 0
    w[:4, 0] = 2.5
    kept = {}
    for importance in ("l1", "l2"):
        made = model(PAIR, w=w, v=EQUAL)
        run(made, importance=importance)
        kept[importance] = next(iter(made.graph)).operand(1).tensor.numpy()[:, 0, 0, 0].tolist()
    assert kept == {"l1": [1, 1, 1, 1], "l2": [2.5] * 4}


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, [12, 18, 9, 5]), (0.5, [8, 12, 6, 5]), (0.75, [4, 6, 3, 5])])
def test_the_ratio_holds_in_each_family(model, ratio: float, expected: list[int]):
    made = model(CHAIN)
    run(made, ratio=ratio)
    assert widths(made) == expected


def test_no_ratio_no_change(model):
    made = model(CHAIN)
    assert run(made, ratio=0.0).notes == ["no channel was removed"]
    assert widths(made) == [16, 24, 12, 5]


def test_a_share_of_a_decimal_ratio_is_not_one_too_few():
    """0.3 of 10 is 3, though 0.3 * 10 may be a little less or more in binary."""
    assert [Limits(0.3).least(10), Limits(0.3, max_ratio=0.3).least(10), Limits(0.3, max_ratio=0.7).least(10)] == [
        1,
        7,
        3,
    ]


def test_no_family_loses_more_than_the_maximum(model):
    made = model(CHAIN)
    run(made, ratio=0.95, max_ratio=0.5)
    assert widths(made) == [8, 12, 6, 5]


def test_at_least_one_channel_stays(model):
    made = model(CHAIN)
    run(made, ratio=0.99, max_ratio=0.99)
    assert min(widths(made)) >= 1


def test_what_stays_is_a_multiple_or_everything(model):
    made = model(CHAIN)
    run(made, multiple_of=8, ratio=0.6)
    assert widths(made) == [8, 8, 8, 5]
    made = model(CHAIN)
    outcome = run(made, multiple_of=16, ratio=0.6)
    assert widths(made) == [16, 16, 12, 5]
    third = next(d for d in outcome.decisions if d.layer == "net.block.b")
    assert "multiples of 16" in third.reason


def test_multiples_hold_for_every_axis_of_a_weight_also_after_concat(model):
    made = model("""graph(%x: f32[N,3,4,4]) -> (y) {
      @a : f32[16,3,1,1] = random(1)
      @b : f32[12,16,1,1] = random(2)
      @c : f32[16,28,1,1] = random(3)
      @d : f32[5,16,1,1] = random(4)
      %a = Conv(%x, @a)
      %b = Conv(%a, @b)
      %c = Concat(%a, %b) {axis=1}
      %e = Conv(%c, @c)
      %y = Conv(%e, @d)
      return %y
    }""")
    run(made, multiple_of=4, ratio=0.4)
    assert all(
        size % 4 == 0 for n in made.graph if n.op == "Conv" for size in n.operand(1).shape[:2] if size not in (3, 5)
    )


def test_global_ranking_takes_from_where_magnitudes_vary(model):
    """Of two equally wide layers one has eight negligible channels; ranked together these go first."""
    text = """graph(%x: f32[N,3,4,4]) -> (y) {
      @w : f32[16,3,1,1]
      @v : f32[16,16,1,1]
      @u : f32[5,16,1,1]
      %a = Conv(%x, @w)
      %b = Conv(%a, @v)
      %y = Conv(%b, @u)
      return %y
    }"""
    low = np.concatenate([np.full(8, 0.01), np.full(8, 1.0)])
    constants = {
        "w": weights(*low),
        "v": np.ones((16, 16, 1, 1), np.float32),
        "u": np.ones((5, 16, 1, 1), np.float32),
    }
    together, apart = model(text, **constants), model(text, **constants)
    run(together, scope="global", ratio=0.25)
    run(apart, scope="local", ratio=0.25)
    assert widths(together) == [8, 16, 5]
    assert widths(apart) == [12, 12, 5]


def test_global_ranking_keeps_the_maximum_per_family(model):
    made = model(CHAIN)
    run(made, scope="global", ratio=0.6, max_ratio=0.6)
    assert all(after >= before * 0.4 for before, after in zip([16, 24, 12], widths(made), strict=False))


def test_skip_keeps_the_channels_of_a_layer_and_says_so(model):
    made = model(CHAIN)
    outcome = run(made, skip=("net.block.a",))
    assert widths(made) == [8, 24, 6, 5]
    second = next(d for d in outcome.decisions if d.layer == "net.block.a")
    assert second.decision == "inputs pruned"
    assert "8 of 16 inputs kept" in second.reason
    assert "skipped by pattern 'net.block.a'" in second.reason


def test_only_prunes_the_channels_of_the_chosen_layers(model):
    made = model(CHAIN)
    run(made, only=("net.block",))
    assert widths(made) == [16, 12, 6, 5]


def test_only_is_not_stopped_by_a_depthwise_layer_in_between(model):
    made = model("""graph(%x: f32[N,3,4,4]) -> (y) {
      @w : f32[8,3,1,1] = random(1)
      @d : f32[8,1,3,3] = random(2)
      @v : f32[5,8,1,1] = random(3)
      %a = Conv(%x, @w) : f32[N,8,4,4]   # expand
      %b = Conv(%a, @d) {group=8} : f32[N,8,2,2]   # depthwise
      %y = Conv(%b, @v) : f32[N,5,2,2]   # project
      return %y
    }""")
    run(made, only=("expand",))
    assert widths(made) == [4, 4, 5]


def test_skipping_one_of_two_coupled_layers_keeps_both(model):
    made = model("""graph(%x: f32[N,3,4,4]) -> (y) {
      @w : f32[8,3,1,1] = random(1)
      @u : f32[8,3,1,1] = random(2)
      @v : f32[5,8,1,1] = random(3)
      %a = Conv(%x, @w) : f32[N,8,4,4]   # left
      %b = Conv(%x, @u) : f32[N,8,4,4]   # right
      %c = Add(%a, %b) : f32[N,8,4,4]
      %y = Conv(%c, @v) : f32[N,5,4,4]   # head
      return %y
    }""")
    outcome = run(made, skip=("left",))
    assert widths(made) == [8, 8, 5]
    assert "left" in next(d for d in outcome.decisions if d.layer == "right").reason


@pytest.mark.parametrize(
    "options",
    [
        {"only": ("nothing.like.this",)}, {"skip": ("typo*",)}, {"ratio": 1.0}, {"ratio": -0.1}, {"max_ratio": 1.0},
        {"multiple_of": 0}, {"importance": "l3"}, {"scope": "galactic"},
    ],
)  # fmt: skip
def test_wrong_options_are_usage_errors(model, options: dict[str, object]):
    made = model(CHAIN)
    with pytest.raises(UsageError):
        run(made, **options)
