"""Times of layers, measured in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners.profile import Kernel, Profiler, fastest
from tersor.ir import Graph, Model, Node, UsageError, parse
from tersor.transforms.base import Context
from tersor.transforms.cost import bind_sizes
from tersor.transforms.quantize import Quantize, measured
from tersor.transforms.quantize.gain import Price, Times
from tersor.transforms.quantize.layers import Layer, layers

NETWORK = """graph (%x: f32[N,8,12,12]) -> (y) {
  @a : f32[16,8,3,3] = random(1)
  @b : f32[16,16,3,3] = random(2)
  @s : f32[16,10] = random(3)
  @c : f32[10] = random(4)
  %1 = Conv(%x, @a) {pads=[1,1,1,1]} : f32[N,16,12,12]
  %2 = Relu(%1) : f32[N,16,12,12]
  %3 = Conv(%2, @b) {pads=[1,1,1,1]} : f32[N,16,12,12]
  %4 = Add(%2, %3) : f32[N,16,12,12]
  %5 = GlobalAveragePool(%4) : f32[N,16,1,1]
  %6 = Flatten(%5) : f32[N,16]
  %7 = MatMul(%6, @s) : f32[N,10]
  %8 = Add(%7, @c) : f32[N,10]
  return %8
}"""
FEED = {"x": np.random.default_rng(0).standard_normal((3, 8, 12, 12)).astype(np.float32)}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few runs are enough to see what is found."""
    for name, value in {"ROUNDS": 2, "LEAST_ROUNDS": 1, "RUNS": 2, "WHOLE_RUNS": 2}.items():
        monkeypatch.setattr(measured, name, value)


def costs(graph: Graph, quantize: Quantize | None = None):
    found = {node: layer for node, layer in layers(graph) if isinstance(layer, Layer)}
    build = (quantize or Quantize(gain="measured")).quickly
    feed = {"x": FEED["x"][:1]}
    return found, measured.measured(Model(graph), found, build, feed, bind_sizes(graph), lambda *_: None)


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_every_layer_and_what_connects_them_is_found_in_the_profile(form: str):
    graph = parse(NETWORK)
    before = str(graph)
    found, times = costs(graph, Quantize(gain="measured", form=form))
    assert times.measured
    assert {node.op for node in times.times} >= {"Conv", "MatMul", "Add", "GlobalAveragePool"}
    for node in found:
        assert times.times[node].float > 0
        assert times.times[node].int8 > 0
    assert times.images.element >= 0
    assert times.others.call >= 0
    assert str(graph) == before


def test_a_layer_that_is_not_found_has_its_modelled_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measured, "_by_number", lambda _: {})  # pyright: ignore[reportUnknownLambdaType]
    found, times = costs(parse(NETWORK))
    assert times.times.keys() == found.keys()
    assert all(t.float > t.int8 for node, t in times.times.items() if node.op == "Conv" and t.float > 10)


def test_kernels_count_for_the_layers_they_are_named_after():
    def kernel(name: str, op: str, *, makers: tuple[str, ...] = (), users: tuple[str, ...] = ()) -> Kernel:
        return Kernel(name, op, makers, users, (8, 8))

    found = measured._by_number(  # pyright: ignore[reportPrivateUsage]
        [
            kernel("node@3@_nchwc", "Conv"),
            kernel("node@12@_token_7", "QLinearConv"),
            kernel("ReorderInput", "ReorderInput", makers=("node@2@",), users=("node@3@_nchwc",)),
            kernel("ReorderOutput_token_4", "ReorderOutput", makers=("node@3@_nchwc",), users=("node@5@",)),
            kernel("node@12@/QuantizeLinear", "QuantizeLinear"),
            kernel("node@12@/Pad", "Pad"),
            kernel("Transpose", "Transpose"),
        ]
    )
    assert found == {3: 24.0, 12: 16.0}


def test_the_fastest_quarter_of_the_runs_counts_since_other_work_only_adds_to_them():
    assert fastest([9, 1, 3, 3, 100, 2, 3, 4]) == (1 + 2) / 2
    assert fastest([7]) == 7.0
    assert fastest([]) == 0.0


def test_the_first_run_of_each_block_is_not_counted():
    runner = Profiler(Model(parse(NETWORK)))
    for _ in range(6):
        runner.run(FEED)
    kernels = runner.kernels(3)
    assert {len(k.runs) for k in kernels if k.op == "Conv"} == {4}


def test_two_sizes_give_the_price_per_call_and_per_element():
    assert measured._line([(10, 3.0), (110, 13.0)]) == Price(2.0, 0.1)  # pyright: ignore[reportPrivateUsage]
    assert measured._line([(10, 3.0), (110, 2.0)]) == Price(3.0, 0.0)  # pyright: ignore[reportPrivateUsage]


def test_the_table_says_what_was_measured():
    outcome = Quantize(gain="measured").run(Model(parse(NETWORK)), Context(samples=[FEED]))
    assert outcome.changed == 3
    assert all(d.rounded is not None and d.rounded.measured and d.rounded.before_us for d in outcome.decisions)
    outcome = Quantize().run(Model(parse(NETWORK)), Context(samples=[FEED]))
    assert not any(d.rounded is not None and d.rounded.measured for d in outcome.decisions)


def test_a_layer_left_in_float_says_its_measured_time_in_int8(monkeypatch: pytest.MonkeyPatch):
    def slow(model: Model, chosen: dict[Node, Layer], *rest: object):
        found = real(model, chosen, *rest)  # pyright: ignore[reportArgumentType]
        last = list(chosen)[-1]
        return type(found)({**found.times, last: Times(40.0, 80.0)}, found.sizes, measured=True)

    real = measured.measured
    monkeypatch.setattr("tersor.transforms.quantize.quantize.measured", slow)
    monkeypatch.setattr("tersor.transforms.quantize.quantize.confirmed", lambda _m, _c, slower, *_: slower)  # pyright: ignore[reportUnknownLambdaType]
    outcome = Quantize(gain="measured", cost_aware=True).run(Model(parse(NETWORK)), Context(samples=[FEED]))
    last = outcome.decisions[-1]
    assert (last.op, last.decision) == ("MatMul", "fp32")
    assert "80 us against 40 us measured" in last.reason


def test_a_layer_that_the_user_leaves_out_is_timed_all_the_same():
    outcome = Quantize(gain="measured", skip=("MatMul",)).run(Model(parse(NETWORK)), Context(samples=[FEED]))
    last = outcome.decisions[-1]
    assert (last.op, last.decision) == ("MatMul", "fp32")
    assert last.reason.startswith("skipped by pattern 'MatMul'; int8 takes ")
    assert last.reason.endswith(" us measured")
    outcome = Quantize(skip=("MatMul",)).run(Model(parse(NETWORK)), Context(samples=[FEED]))
    assert outcome.decisions[-1].reason == "skipped by pattern 'MatMul'"


def test_a_network_that_is_not_faster_as_a_whole_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "tersor.transforms.quantize.quantize.not_worth", lambda _g, chosen, _c: dict.fromkeys(chosen, "no gain")
    )  # pyright: ignore[reportUnknownLambdaType]
    model = Model(parse(NETWORK))
    outcome = Quantize(cost_aware=True).run(model, Context(samples=[FEED]))
    assert outcome.changed == 0
    assert [n.op for n in model.graph] == [n.op for n in parse(NETWORK)]


@pytest.mark.parametrize("options", [{"mode": "dynamic"}, {"target": "openvino-cpu"}])
def test_measuring_is_refused_where_it_would_do_nothing(options: dict[str, str]):
    with pytest.raises(UsageError, match="gain"):
        Quantize(gain="measured", **options)  # pyright: ignore[reportArgumentType]
