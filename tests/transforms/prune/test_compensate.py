"""What makes up for removed channels from calibration data, and the criteria that look at data."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Model, UsageError, verify
from tersor.transforms import matrices as linear
from tersor.transforms.base import Context
from tersor.transforms.manager import Step, run_passes
from tersor.transforms.prune import Prune, obs
from tersor.transforms.prune.analysis import analyse
from tersor.transforms.prune.groups import slots
from tersor.transforms.prune.importance import IMPORTANCE
from tersor.transforms.prune.obs import eliminate
from tersor.transforms.prune.readers import readers
from tersor.transforms.prune.statistics import Calibration, Moments, Watch
from tersor.transforms.select import Selection

Make = Callable[..., Model]


@pytest.fixture
def build(model: Callable[..., Model]) -> Make:
    """A model from its text and the numbers of its constants, which the text does not declare."""

    def make(text: str, **constants: np.ndarray) -> Model:
        sizes = {name: ",".join(map(str, array.shape)) for name, array in constants.items()}
        lines = [f"  @{name} : f32[{sizes[name]}]" for name in constants]
        first, rest = text.split("\n", 1)
        return model("\n".join([first, *lines, rest]), **constants)

    return make


CONVOLUTIONS = """graph(%x: f32[N,3,8,8]) -> (y) {
  %a = Conv(%x, @w0, @b0) {pads=[1,1,1,1]} : f32[N,16,8,8]   # first
  %b = Relu(%a)
  %c = Conv(%b, @w1) {pads=[1,1,1,1], strides=[2,2]}
  %d = BatchNormalization(%c, @scale, @shift, @mean, @var)
  %e = Relu(%d)
  %f = GlobalAveragePool(%e)
  %g = Reshape(%f, i64[2]{0,-1})
  %y = Gemm(%g, @w2, @b2) {transB=1}
  return %y
}"""


def arrays() -> dict[str, np.ndarray]:
    """Weights of a network whose first 16 channels are 8 different ones and their multiples."""
    draw = np.random.default_rng(0).standard_normal
    half, bias = draw((8, 3, 3, 3)) / 5, draw(8) / 5
    return {
        name: array.astype(np.float32)
        for name, array in {
            "w0": np.concatenate([half, 0.7 * half]), "b0": np.concatenate([bias, 0.7 * bias]),
            "w1": draw((12, 16, 3, 3)) / 12, "scale": draw(12) + 2, "shift": draw(12), "mean": draw(12) / 5,
            "var": np.abs(draw(12)) + 1, "w2": draw((5, 12)), "b2": draw(5),
        }.items()
    }  # fmt: skip


def distinct() -> dict[str, np.ndarray]:
    """The same network without repeated channels."""
    random, found = np.random.default_rng(4), arrays()
    return found | {k: random.standard_normal(found[k].shape).astype(np.float32) / 5 for k in ("w0", "b0")}


def samples(count: int = 6, shape: tuple[int, ...] = (4, 3, 8, 8)) -> list[Feeds]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def run(model: Model, data: list[Feeds] | None = None, **options: object) -> Step:
    prune = Prune(**options)  # pyright: ignore[reportArgumentType]
    (step,) = run_passes(model, [prune], Context(samples=data))
    verify(model.graph)
    return step


def error(model: Model, reference: Model, feeds: Feeds) -> float:
    """Mean squared difference of the outputs, as a share of their variance."""
    a, b = (OrtRunner(m).run(feeds)["y"] for m in (model, reference))
    return float(np.square(a - b).mean() / b.var())


def test_a_channel_that_repeats_another_one_costs_nothing(build: Make):
    """The surgeon removes one of each pair, and least squares gives its part to the other one."""
    made = build(CONVOLUTIONS, **arrays())
    original = made.clone()
    step = run(made, samples(), importance="obs", ratio=0.5, only=("first",), ridge=1e-6)
    assert step.contract == "approximate"
    assert step.outcome.checks["mask_oracle"].passed
    assert {v.tensor.shape for v in made.graph.constants() if v.name == "w0"} == {(8, 3, 3, 3)}
    assert error(made, original, samples(1)[0]) < 1e-3


@pytest.mark.parametrize("method", ["least-squares", "bias", "batch-norm"])
def test_compensation_brings_the_outputs_nearer_to_the_original(build: Make, method: str):
    plain, better, original = (build(CONVOLUTIONS, **distinct()) for _ in range(3))
    run(plain, samples(), compensate=None, only=("first",))
    step = run(better, samples(), compensate=method, only=("first",))
    unseen = samples(8)[-1]
    assert error(better, original, unseen) < 0.9 * error(plain, original, unseen)
    assert any(method in note for note in step.outcome.notes)


def test_without_data_nothing_is_compensated(build: Make):
    quiet, none = build(CONVOLUTIONS, **distinct()), build(CONVOLUTIONS, **distinct())
    assert run(quiet).contract == "masked"
    run(none, samples(), compensate=None)
    assert error(quiet, none, samples(1)[0]) == 0


def test_with_data_least_squares_is_the_default(build: Make):
    default, stated = build(CONVOLUTIONS, **distinct()), build(CONVOLUTIONS, **distinct())
    assert run(default, samples()).contract == "approximate"
    run(stated, samples(), compensate="least-squares")
    assert error(default, stated, samples(1)[0]) == 0


def test_feeding_the_samples_in_other_batches_gives_the_same_statistics(build: Make):
    graph = build(CONVOLUTIONS, **distinct()).graph
    node = next(n for n in graph if n.op == "Conv")
    x = samples(1)[0]["x"]
    whole, parts = linear.columns(node, x), Moments.empty(1, 27, 16)
    for start in (0, 1, 3):
        rows = linear.columns(node, x[start : {0: 1, 1: 3, 3: 4}[start]])
        parts.update(rows, np.zeros((1, rows.shape[1], 16)))
    np.testing.assert_allclose(
        parts.xx / parts.count, whole.swapaxes(1, 2) @ whole / whole.shape[1], rtol=1e-4, atol=1e-4
    )


def test_samples_one_by_one_give_the_moments_of_all_together(build: Make):
    """Whether a layer's rows are multiplied at once or wait for each other."""
    made = build(CONVOLUTIONS, **distinct())
    layers = [Watch(n, n.output) for n in made.graph if n.op in ("Conv", "Gemm")]
    feeds = samples(8)
    parts = [{"x": feed["x"][i : i + 1]} for feed in feeds for i in range(len(feed["x"]))]
    whole, single = (Calibration(each, lambda *_: None).moments(made, layers) for each in (feeds, parts))
    for a, b in zip(whole, single, strict=True):
        assert a.count == b.count
        np.testing.assert_allclose(a.gram(True), b.gram(True), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(a.cross(True), b.cross(True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rounds", [128, 5])
def test_what_the_classes_cost_in_turn_adds_up_to_all_that_the_reader_says(
    build: Make, monkeypatch: pytest.MonkeyPatch, rounds: int
):
    """One class at a time it is the variance of what the reader makes; several at once miss what they share."""
    monkeypatch.setattr(obs, "ROUNDS", rounds)
    graph = build(CONVOLUTIONS, **distinct()).graph
    found = readers(slots(analyse(graph, Selection(graph, ("first",), ()))))
    x = np.random.default_rng(3).standard_normal((1, 4000, 144))
    (reader,) = found
    moments = Moments.empty(1, 144, 12)
    moments.update(x, x @ linear.matrix(reader.node).swapaxes(1, 2))
    scores = eliminate({reader: moments}, int(reader.slot.roots.max()) + 1)
    costs = scores[~np.isnan(scores)]
    assert costs.size == 16
    assert costs.sum() == pytest.approx(1, abs=0.02 if rounds == 128 else 0.2)


@pytest.mark.parametrize(
    ("line", "shapes"),
    [
        ("Conv(%x, @w) {pads=[1,0,0,2], strides=[2,1], dilations=[1,2]}", {"x": (2, 4, 9, 8), "w": (6, 4, 3, 2)}),
        ("Conv(%x, @w) {group=2, pads=[1,1]}", {"x": (2, 4, 9), "w": (6, 2, 3)}),
        ("Gemm(%x, @w) {transB=1}", {"x": (5, 4), "w": (6, 4)}),
        ("MatMul(%x, @w)", {"x": (2, 3, 4), "w": (4, 6)}),
    ],
)
def test_a_reader_is_its_matrix_times_its_columns(build: Make, line: str, shapes: dict[str, tuple[int, ...]]):
    random = np.random.default_rng(2)
    weight = random.standard_normal(shapes["w"]).astype(np.float32)
    sizes = ",".join(map(str, shapes["x"]))
    made = build(f"graph(%x: f32[{sizes}]) -> (y) {{\n  %y = {line}\n  return %y\n}}", w=weight)
    (node,) = made.graph
    x = random.standard_normal(shapes["x"]).astype(np.float32)
    y = OrtRunner(made).run({"x": x})["y"]
    found = linear.columns(node, x) @ linear.matrix(node).swapaxes(1, 2)
    np.testing.assert_allclose(found, linear.results(node, y), rtol=1e-4, atol=1e-4)
    linear.set_matrix(node, linear.matrix(node))
    np.testing.assert_array_equal(node.operand(1).tensor.numpy(), weight)


PERCEPTRON = """graph(%x: f32[N,7,12]) -> (y) {
  %a = MatMul(%x, @w0) : f32[N,7,32]   # first
  %b = Add(%a, @b0)
  %c = Relu(%b)
  %d = MatMul(%c, @w1)
  %y = Add(%d, @b1)
  return %y
}"""


@pytest.mark.parametrize("criterion", IMPORTANCE)
def test_every_criterion_prunes_and_is_proved(build: Make, criterion: str):
    if IMPORTANCE[criterion].needs_gradients:
        pytest.importorskip("torch")
    draw = np.random.default_rng(3).standard_normal
    weights = {"w0": draw((12, 32)), "b0": draw(32), "w1": draw((32, 5)), "b1": draw(5)}
    made = build(PERCEPTRON, **{k: v.astype(np.float32) for k, v in weights.items()})
    step = run(made, samples(shape=(3, 7, 12)), importance=criterion)
    assert step.outcome.checks["mask_oracle"].passed
    assert {v.name: v.tensor.shape for v in made.graph.constants()}["w1"] == (16, 5)


@pytest.mark.parametrize("criterion", [name for name, row in IMPORTANCE.items() if row.needs_data])
def test_a_criterion_that_looks_at_data_refuses_to_do_without(build: Make, criterion: str):
    with pytest.raises(UsageError, match="needs calibration data"):
        run(build(CONVOLUTIONS, **distinct()), importance=criterion)


@pytest.mark.parametrize(
    ("options", "data", "said"),
    [
        ({"compensate": "bias"}, None, "needs calibration data"),
        ({"compensate": "magic"}, None, "no compensation 'magic'"),
        ({"ridge": -1.0}, None, "out of range"),
        ({"importance": "obs"}, [], "calibration data is empty"),
        ({}, [{"z": np.zeros((1, 3, 8, 8), np.float32)}], "'x' is missing"),
    ],
)
def test_what_cannot_be_used_is_refused_and_the_model_stays(build: Make, options, data, said):
    made = build(CONVOLUTIONS, **distinct())
    before = made.clone()
    with pytest.raises(UsageError) as raised:
        run(made, data, **options)
    assert said in str(raised.value) + raised.value.why
    assert error(made, before, samples(1)[0]) == 0


def test_data_tells_which_inputs_matter(build: Make):
    """A hidden unit that never fires is worth nothing, however large its weights are."""
    draw = np.random.default_rng(3).standard_normal
    weights = {"w0": draw((12, 32)), "b0": np.zeros(32), "w1": draw((32, 5)), "b1": draw(5)}
    weights["b0"][:16], weights["w1"][:16] = -100, 3 * weights["w1"][:16]
    gradients = ("taylor", "gradient") if find_spec("torch") else ()
    for criterion in ("activation", "flap", "obs", *gradients):
        made = build(PERCEPTRON, **{k: v.astype(np.float32) for k, v in weights.items()})
        original = made.clone()
        run(made, samples(shape=(3, 7, 12)), importance=criterion, compensate=None)
        assert error(made, original, samples(8, (3, 7, 12))[-1]) < 1e-9


def test_numbers_that_hardly_vary_have_a_gram_matrix_with_an_inverse():
    draw = np.random.default_rng(0).standard_normal
    x = (0.5 + 1e-6 * draw((1, 4, 6))).astype(np.float32)
    found = Moments.empty(1, 6, 2)
    found.update(x, x[:, :, :2])
    assert np.linalg.eigvalsh(obs.damped(found.gram(centred=True))).min() > 0
    plain = found.gram(centred=False)
    np.testing.assert_allclose(plain, x.astype(np.float64).swapaxes(1, 2) @ x / 4, rtol=1e-6)


MIXER = """graph(%x: f32[N,6,8]) -> (y) {
  %c = MatMul(%x, @w) : f32[N,6,4]
  %t = Transpose(%c) {perm=[0,2,1]} : f32[N,4,6]
  %u = MatMul(%t, @up) : f32[N,4,4]        # channels are rows to these two
  %r = Relu(%u) : f32[N,4,4]
  %v = MatMul(%r, @down) : f32[N,4,6]
  %m = Transpose(%v) {perm=[0,2,1]} : f32[N,6,4]
  %s = Add(%c, %m) : f32[N,6,4]
  %y = MatMul(%s, @head) : f32[N,6,5]
  return %y
}"""


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_layer_that_mixes_positions_is_solved_for_the_channels_that_stay(build, rounds: int):
    draw = np.random.default_rng(0).standard_normal
    shapes = {"w": (8, 4), "up": (6, 4), "down": (4, 6), "head": (4, 5)}
    made = build(MIXER, **{name: draw(shape).astype(np.float32) for name, shape in shapes.items()})
    samples = [{"x": draw((8, 6, 8)).astype(np.float32)} for _ in range(8)]
    wanted, lost = OrtRunner(made).run(samples[0])["y"], dict[str | None, float]()
    for compensate in ("least-squares", None):
        copy = made.clone()
        Prune(compensate=compensate, rounds=rounds).run(copy, Context(samples=samples))
        verify(copy.graph)
        lost[compensate] = float(np.square(OrtRunner(copy).run(samples[0])["y"] - wanted).mean())
    assert lost["least-squares"] < 0.8 * lost[None]


@pytest.mark.skipif(not find_spec("torch"), reason="gradients are PyTorch's")
def test_gradients_of_a_network_with_integers_among_its_constants(build):
    text = f"""graph(%x: f32[N,60,8]) -> (y) {{
  @places : i64[1,60] = {[i * i % 60 for i in range(60)]}
  %p = Gather(@table, @places) : f32[1,60,8]
  %s = Add(%x, %p) : f32[N,60,8]
  %h = MatMul(%s, @w) : f32[N,60,16]
  %r = Relu(%h) : f32[N,60,16]
  %y = MatMul(%r, @v) : f32[N,60,4]
  return %y
}}"""
    draw = np.random.default_rng(0).standard_normal
    shapes = {"table": (60, 8), "w": (8, 16), "v": (16, 4)}
    made = build(text, **{name: draw(shape).astype(np.float32) for name, shape in shapes.items()})
    outcome = Prune(importance="taylor").run(made, Context(samples=[{"x": draw((2, 60, 8)).astype(np.float32)}]))
    assert any(d.decision == "pruned 50 %" for d in outcome.decisions)
