"""Budgets of FLOPs and parameters, where channels go under them, and what is said when one cannot be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Model, UsageError, constant, parse
from tersor.ir.inference import Inference
from tersor.transforms.base import Context
from tersor.transforms.cost import graph_flops, parameter_count
from tersor.transforms.manager import Step, run_passes
from tersor.transforms.prune import Prune, bill, budgets, timetable
from tersor.transforms.prune.allocate import Choice
from tersor.transforms.prune.analysis import analyse
from tersor.transforms.prune.budgets import Case
from tersor.transforms.prune.groups import slots
from tersor.transforms.prune.kept import Kept
from tersor.transforms.prune.prepare import prepare
from tersor.transforms.prune.readers import readers
from tersor.transforms.prune.surgery import operate
from tersor.transforms.walk import Walk

NETWORK = """graph(%x: f32[4,3,8,8]) -> (y) {
  @w0 : f32[16,3,3,3]
  @w1 : f32[16,16,3,3]
  @scale : f32[16]
  @shift : f32[16]
  @mean : f32[16]
  @var : f32[16]
  @deep : f32[16,1,3,3]
  @w2 : f32[16,24]
  @w3 : f32[24,5]
  %a = Conv(%x, @w0) {pads=[1,1,1,1]} : f32[4,16,8,8]   # first
  %b = Relu(%a) : f32[4,16,8,8]
  %c = Conv(%b, @w1) {pads=[1,1,1,1], strides=[2,2]} : f32[4,16,4,4]   # second
  %d = BatchNormalization(%c, @scale, @shift, @mean, @var) : f32[4,16,4,4]
  %e = Relu(%d) : f32[4,16,4,4]
  %f = Conv(%e, @deep) {pads=[1,1,1,1], group=16} : f32[4,16,4,4]
  %g = GlobalAveragePool(%f) : f32[4,16,1,1]
  %h = Reshape(%g, i64[2]{4,16}) : f32[4,16]
  %i = MatMul(%h, @w2) : f32[4,24]   # third
  %j = Relu(%i) : f32[4,24]
  %y = MatMul(%j, @w3) : f32[4,5]
  return %y
}"""


@pytest.fixture
def network(model: Callable[..., Model]) -> Model:
    """Half of the first layer's channels are multiples of the other half; the other layers need all of theirs."""
    draw = np.random.default_rng(0).standard_normal
    half = draw((8, 3, 3, 3))
    arrays = {
        "w0": np.concatenate([half, 0.6 * half]), "w1": draw((16, 16, 3, 3)) / 12, "scale": draw(16) + 2,
        "shift": draw(16), "mean": draw(16) / 5, "var": np.abs(draw(16)) + 1, "deep": draw((16, 1, 3, 3)) / 3,
        "w2": draw((16, 24)) / 4, "w3": draw((24, 5)) / 5,
    }  # fmt: skip
    return model(NETWORK, **{name: array.astype(np.float32) for name, array in arrays.items()})


def samples(count: int = 8) -> list[Feeds]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((4, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def run(model: Model, data: list[Feeds] | None = None, **options: object) -> Step:
    (step,) = run_passes(model, [Prune(**options)], Context(samples=data))  # pyright: ignore[reportArgumentType]
    return step


def error(model: Model, reference: Model) -> float:
    feeds = samples(9)[-1]
    a, b = (OrtRunner(m).run(feeds)["y"] for m in (model, reference))
    return float(np.square(a - b).mean() / b.var())


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_the_bill_is_what_surgery_leaves(network: Model, ratio: float):
    prepare(network.graph, None)
    axes = analyse(network.graph)
    bills = {graph_flops: bill.flops(network.graph, axes), parameter_count: bill.parameters(network.graph, axes)}
    pruned = network.clone()
    run(pruned, ratio=ratio)
    gone = np.zeros(axes.atoms.count, np.bool_)
    for node, twin in zip(network.graph, pruned.graph, strict=True):
        if node.op in ("Conv", "MatMul"):
            here, there = (n.output.tensor if n.output.is_const else n.output.shape for n in (node, twin))
            axis = 1
            ids = axes.atoms.roots(axes[node.output, axis])
            assert here is not None
            assert there is not None
            if ids.ndim and axes.is_active(ids):
                gone[ids[: here[axis] - there[axis]]] = True
    for count, each in bills.items():
        assert each.total(gone) == pytest.approx(count(pruned.graph), rel=1e-9)
        assert each.total(np.zeros_like(gone)) == pytest.approx(count(network.graph), rel=1e-9)


@pytest.mark.parametrize("scope", ["local", "global", "optimal"])
@pytest.mark.parametrize("resource", ["flops", "parameters"])
@pytest.mark.parametrize("data", [None, samples()])
def test_a_budget_is_kept_and_nearly_used(network: Model, scope: str, resource: str, data: list[Feeds] | None):
    flops = graph_flops(network.graph)
    step = run(network, data, scope=scope, **{resource: 0.6})
    checked = step.outcome.checks["mask_oracle"]
    # Compensation may add biases afterwards, so parameters are those that the oracle saw.
    before, after = checked.parameters if resource == "parameters" else (flops, graph_flops(network.graph))
    assert 0.5 < after / before <= 0.6
    assert not step.outcome.missed
    assert checked.passed


def test_channels_go_where_they_cost_the_outputs_least(network: Model):
    uniform, original = network.clone(), network.clone()
    run(uniform, samples(), importance="obs", flops=0.6, scope="local")
    run(network, samples(), importance="obs", flops=0.6)
    assert error(network, original) < 0.5 * error(uniform, original)
    widths = {v.name: v.tensor.shape for v in network.graph.constants()}
    assert widths["w0"][0] <= 9
    assert widths["w2"][1] >= 20


def test_a_budget_that_cannot_be_kept_is_missed_with_the_reason(network: Model):
    step = run(network, flops=0.01, max_ratio=0.5)
    (why,) = step.outcome.missed
    assert why.startswith("flops=0.01 was not reached")
    assert "max_ratio=0.5" in why
    assert network.graph.outputs[0].shape == (4, 5)


def test_when_every_layer_is_left_out_the_outcome_says_which_and_why(network: Model):
    step = run(network, flops=0.5, skip=("*",))
    (why,) = step.outcome.missed
    assert why.startswith("no channel was removed: first: ")
    assert "and 2 more" in why


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A runtime that computes channels in vectors of 8: whatever it times costs the FLOPs of whole vectors. Gives what
    was measured of pruned networks.
    """
    found = list[float]()

    def cost(model: Model) -> float:
        total = 1e4
        for node in model.graph:
            if node.op in ("Conv", "MatMul"):
                shape, weight = node.output.shape or (), node.operand(1).tensor.shape
                wide = [-(-size // 8) * 8 if isinstance(size, int) else 1 for size in (shape[1], weight[1])]
                total += math.prod(size for size in (*shape[2:], *weight[2:], *wide) if isinstance(size, int))
        return total

    def clock(case: Case, choice: Choice) -> float:
        model, axes = case.rebuild()
        operate(model.graph, Kept(axes, choice.dead))
        found.append(cost(model) / cost(case.original))
        return found[-1]

    monkeypatch.setattr(budgets, "measured", clock)

    def seconds(texts: Sequence[str], copies: int) -> list[float]:
        models = [Model(parse(text)) for text in texts]
        for model in models:
            Inference(model.graph).run()
        return [cost(model) / copies for model in models]

    monkeypatch.setattr(timetable, "seconds", seconds)
    monkeypatch.setattr(timetable, "width", lambda: 8)
    monkeypatch.setattr(budgets, "total", lambda model, feeds: cost(model))
    return found


@pytest.mark.parametrize("scope", ["local", "optimal"])
def test_a_latency_is_kept_in_whole_vectors(network: Model, scope: str, runtime: list[float]):
    step = run(network, samples(), latency=0.7, scope=scope, importance="obs")
    assert not step.outcome.missed
    assert runtime[-1] <= 1
    assert min(abs(found - 0.7) for found in runtime if found <= 0.7) < 0.4
    widths = [n.output.shape[1] for n in network.graph if n.op == "Conv" and n.output.shape]
    assert all(width in (2, 4, 8, 16) for width in widths)
    assert min(widths) < 16


def test_a_latency_that_is_out_of_reach_is_missed_by_as_little_as_possible(
    network: Model, runtime: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(budgets, "measured", lambda case, choice: 0.9 + 0.1 * choice.left)
    (why,) = run(network, latency=0.5).outcome.missed
    assert why.startswith("latency=0.5 was not reached: 0.9")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flops": 0.0}, "flops=0.0) is out of range"),
        ({"flops": 1.5}, "flops=1.5) is out of range"),
        ({"parameters": -1.0}, "parameters=-1.0) is out of range"),
        ({"flops": 0.5, "parameters": 0.5}, "2 budgets: flops, parameters"),
        ({"scope": "optimal"}, "nothing to keep to"),
        ({"ratio": 1.0}, "out of range"),
        ({"ratio": -0.1}, "out of range"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said.replace("(", r"\(").replace(")", r"\)")):
        Prune(**options)  # pyright: ignore[reportArgumentType]


def test_a_walk_gives_what_running_the_whole_network_gives(network: Model):
    data, nodes = samples(3), list(network.graph)
    walk = Walk(network, lambda: iter(data))
    runner = OrtRunner(network, taps=[n.output for n in nodes])
    expected = [runner.run_taps(feeds) for feeds in data]
    for place in (1, 4, 4, 7):
        value = nodes[place - 1].output
        for found, wanted in zip(walk.step([value], nodes[place]), expected, strict=True):
            np.testing.assert_allclose(found[value], wanted[place - 1], rtol=1e-4, atol=1e-5)
    for (found,), wanted in zip(walk.outputs(network.clone()), expected, strict=True):
        np.testing.assert_allclose(found, wanted[-1], rtol=1e-4, atol=1e-5)


def test_a_walk_does_not_compute_again_what_it_has_passed(network: Model):
    walk, nodes = Walk(network, lambda: iter(samples(2))), list(network.graph)
    list(walk.step([nodes[3].output], nodes[4]))
    expected = [found[nodes[5].output] for found in walk.step([nodes[5].output], nodes[5].next or nodes[5])]
    nodes[0].set_input(1, constant(np.full((16, 3, 3, 3), np.nan, np.float32)))
    for found, wanted in zip(walk.step([nodes[6].output], nodes[7]), expected, strict=True):
        assert np.isfinite(found[nodes[6].output]).all()
        assert np.isfinite(wanted).all()


@pytest.mark.parametrize("resource", ["flops", "parameters"])
def test_a_network_that_costs_nothing_keeps_to_every_budget(model, resource: str):
    made = model("graph(%x: f32[N,6]) -> (y) {\n  %y = Identity(%x) : f32[N,6]\n  return %y\n}")
    outcome = Prune(**{resource: 0.5}).run(made, Context())
    assert (outcome.changed, outcome.missed) == (0, [])


def test_a_bias_is_no_weight_that_reads_channels() -> None:
    """That of a Gemm that is not transposed has as many entries along its first axis as the weight has outputs."""
    network = Model(
        parse("""graph(%x: f32[N,8]) -> (y) {
          @w : f32[8,6] = random(1)
          @b : f32[6] = random(2)
          @v : f32[6,5] = random(3)
          %h = Gemm(%x, @w, @b) : f32[N,6]
          %a = Relu(%h) : f32[N,6]
          %y = MatMul(%a, @v) : f32[N,5]
          return %y
        }""")
    )
    axes = analyse(network.graph)
    assert [reader.weight.name for reader in readers(slots(axes))] == ["v"]
    samples = [{"x": np.random.default_rng(seed).standard_normal((16, 8)).astype(np.float32)} for seed in range(3)]
    Prune(flops=0.6, importance="obs").run(network, Context(samples=samples))
    assert next(iter(network.graph)).operand(2).shape == network.graph.outputs[0].node.operand(1).shape[:1]
