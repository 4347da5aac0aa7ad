"""Pruning in rounds: each takes a part and measures again; what is asked for holds for all of them together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Array, Model, ParityError, UsageError
from tersor.transforms.base import Context, Outcome
from tersor.transforms.cost import graph_flops
from tersor.transforms.prune import Prune, prune
from tersor.transforms.prune.importance import IMPORTANCE, Criterion, Evidence
from tersor.transforms.prune.oracle import Comparison
from tersor.transforms.prune.oracle import check as checked

NETWORK = """graph(%x: f32[8,3,6,6]) -> (y) {
  @w0 : f32[10,3,3,3]
  @w1 : f32[20,10,3,3]
  @w2 : f32[12,20,1,1]
  @w3 : f32[12,5]
  %a = Conv(%x, @w0) {pads=[1,1,1,1]}   # first
  %b = Relu(%a)
  %c = Conv(%b, @w1) {pads=[1,1,1,1]}   # second
  %d = Relu(%c)
  %e = Conv(%d, @w2)   # third
  %f = Relu(%e)
  %g = ReduceMean(%f, i64[2]{2,3}) {keepdims=0}
  %y = MatMul(%g, @w3)
  return %y
}"""


@pytest.fixture
def network(model: Callable[..., Model]) -> Model:
    draw = np.random.default_rng(0).standard_normal
    shapes = {"w0": (10, 3, 3, 3), "w1": (20, 10, 3, 3), "w2": (12, 20, 1, 1), "w3": (12, 5)}
    arrays = {name: (draw(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for name, s in shapes.items()}
    return model(NETWORK, **arrays)


def samples(count: int = 4, seed: int = 1) -> list[Feeds]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((8, 3, 6, 6)).astype(np.float32)} for _ in range(count)]


def run(model: Model, **options: object) -> Outcome:
    made = Prune(**options)  # pyright: ignore[reportArgumentType]
    return made.run(model, Context(samples=samples()))


def widths(model: Model) -> list[object]:
    return [n.output.shape[1] for n in model.graph if n.op == "Conv" and n.output.shape]


@pytest.mark.parametrize("rounds", [2, 3, 4])
@pytest.mark.parametrize(("ratio", "expected"), [(0.5, [5, 10, 6]), (0.3, [7, 14, 9])])
def test_a_ratio_is_that_of_the_original_whatever_the_rounds(
    network: Model, rounds: int, ratio: float, expected: list[int]
):
    run(network, ratio=ratio, rounds=rounds)
    assert widths(network) == expected


@pytest.mark.parametrize("scope", ["local", "global", "optimal"])
def test_a_budget_is_that_of_the_original_whatever_the_rounds(network: Model, scope: str):
    before = graph_flops(network.graph)
    outcome = run(network, flops=0.5, scope=scope, rounds=3, importance="obs")
    assert 0.4 < graph_flops(network.graph) / before <= 0.5
    assert not outcome.missed


def test_the_largest_share_holds_for_all_rounds_together(network: Model):
    (why,) = run(network, flops=0.01, max_ratio=0.5, rounds=3).missed
    assert widths(network) == [5, 10, 6]
    assert "max_ratio=0.5" in why


def test_multiples_hold_after_every_round(network: Model):
    run(network, ratio=0.5, rounds=3, multiple_of=4)
    assert all(isinstance(width, int) and width % 4 == 0 for width in widths(network)[1:])


def test_each_round_is_proved_and_importance_measured_again(network: Model, monkeypatch: pytest.MonkeyPatch):
    proved, measured = list[Comparison](), list[int]()

    def check(*given: object) -> Comparison:
        proved.append(checked(*given))  # pyright: ignore[reportArgumentType]
        return proved[-1]

    def score(evidence: Evidence) -> Array:
        measured.append(len(evidence.slots))
        return IMPORTANCE["obs"].score(evidence)

    monkeypatch.setattr(prune, "check", check)
    monkeypatch.setitem(IMPORTANCE, "l2", Criterion(score, needs_data=True))
    before = parameters(network)
    outcome = run(network, ratio=0.5, rounds=3)
    assert len(proved) == len(measured) == 3
    said = outcome.checks["mask_oracle"]
    assert said.passed
    assert said.values == sum(each.values for each in proved)
    assert said.parameters[0] == before
    assert said.parameters[1] < before / 2
    assert outcome.contract == "approximate"
    assert outcome.notes[1] == "3 rounds, each proved against the network before it, masked"


def parameters(model: Model) -> int:
    return sum(v.tensor.count for v in model.graph.constants() if v.tensor.dtype.is_float)


def test_without_compensation_all_rounds_give_a_masked_network(network: Model):
    outcome = run(network, ratio=0.5, rounds=3, compensate=None)
    assert outcome.contract is None
    assert outcome.reference is not None
    feeds = samples(1, seed=7)[0]
    a, b = (OrtRunner(m).run(feeds)["y"] for m in (outcome.reference, network))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_every_round_is_compensated_towards_the_original(network: Model):
    """Not towards the round before, whose error would be taken for the truth."""
    errors: dict[str | None, float] = {}
    original, feeds = network.clone(), samples(4, seed=7)
    for method in ("least-squares", None):
        made = network.clone()
        run(made, ratio=0.5, rounds=3, compensate=method)
        pairs = [(OrtRunner(original).run(f)["y"], OrtRunner(made).run(f)["y"]) for f in feeds]
        errors[method] = sum(float(np.square(a - b).sum()) for a, b in pairs)
    assert errors["least-squares"] < 0.5 * errors[None]


def test_decisions_speak_of_the_original(network: Model):
    told = {d.layer: d for d in run(network, ratio=0.5, rounds=4).decisions}
    assert told["second"].decision == "pruned 50 %"
    assert told["second"].reason == "10 of 20 channels kept; 5 of 10 inputs kept"


def test_a_round_that_is_not_proved_fails_the_pass(network: Model, monkeypatch: pytest.MonkeyPatch):
    seen: list[Comparison] = []

    def check(*given: object) -> Comparison:
        found = checked(*given)  # pyright: ignore[reportArgumentType]
        seen.append(found)
        return found if len(seen) < 2 else type(found)(1, 0, 1.0, "second", 1.0, (1, 1), passed=False)

    monkeypatch.setattr(prune, "check", check)
    with pytest.raises(ParityError, match="another function than masking"):
        run(network, ratio=0.5, rounds=3)


def test_rounds_without_data_are_refused_for_nothing_would_be_measured_again(network: Model):
    with pytest.raises(UsageError, match=r"rounds=3\) needs calibration data"):
        Prune(rounds=3).run(network, Context())
    with pytest.raises(UsageError, match=r"rounds=0\) is out of range"):
        Prune(rounds=0)
