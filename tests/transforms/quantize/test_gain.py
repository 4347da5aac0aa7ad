"""Which layers pay in int8, by the model of time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tersor.ir import Graph, Model, Node, parse
from tersor.transforms.base import Context
from tersor.transforms.cost import bind_sizes
from tersor.transforms.quantize import Quantize, gain
from tersor.transforms.quantize.layers import Layer, layers


def chain(size: int, *convolutions: str) -> Graph:
    """Convolutions of 64 channels over size x size pixels, one after the other: "dense", "depthwise" or "softplus"."""
    rows: list[str] = []
    for i, kind in enumerate(convolutions):
        shape = f"f32[1,64,{size},{size}]"
        node = {
            "dense": f"Conv(%{i}, @w) {{pads=[1,1,1,1]}}",
            "depthwise": f"Conv(%{i}, @d) {{pads=[1,1,1,1], group=64}}",
            "softplus": f"Softplus(%{i})",
        }[kind]
        rows.append(f"%{i + 1} = {node} : {shape}")
    return parse(
        f"""graph (%0: f32[1,64,{size},{size}]) -> (y) {{
          @w : f32[64,64,3,3] = random(1)
          @d : f32[64,1,3,3] = random(2)
          {chr(10).join(rows)}
          return %{len(rows)}
        }}"""
    )


def chosen(graph: Graph) -> dict[Node, Layer]:
    return {node: layer for node, layer in layers(graph) if isinstance(layer, Layer)}


def modelled_costs(graph: Graph) -> gain.Costs:
    return gain.modelled(chosen(graph), bind_sizes(graph))


def left(graph: Graph) -> list[str]:
    return [node.output.name for node in gain.not_worth(graph, chosen(graph), modelled_costs(graph))]


def test_large_dense_convolutions_are_worth_it():
    assert left(chain(56, "dense", "dense", "dense")) == []


def test_small_ones_are_not():
    assert left(chain(1, "dense", "dense")) == ["1", "2"]


def test_a_depthwise_convolution_goes_with_its_neighbours():
    assert left(chain(56, "dense", "depthwise", "dense")) == []
    assert left(chain(56, "softplus", "depthwise", "softplus")) == ["2"]


def modelled(graph: Graph, int8: set[Node]) -> float:
    """The time of an assignment of the chain's layers, counted by hand."""
    total, sizes = 0.0, bind_sizes(graph)
    known = {node: gain.times(layer, sizes) for node, layer in chosen(graph).items()}
    previous = False
    for node in graph:
        price = gain.CONVERSION.call + gain.CONVERSION.element * np.prod(node.output.shape or ())
        now = node in int8
        total += price * (now != previous) + (
            0.0 if node not in known else known[node].int8 if now else known[node].float
        )
        previous = now
    return total + (gain.CONVERSION.call + gain.CONVERSION.element * np.prod(graph.outputs[0].shape or ())) * previous


@pytest.mark.parametrize("size", [2, 4, 8, 16, 28])
@pytest.mark.parametrize(
    "kinds",
    [
        ("dense", "depthwise", "depthwise", "dense"),
        ("depthwise", "dense", "softplus", "depthwise", "dense", "depthwise"),
    ],
)
def test_no_other_split_is_faster_by_the_model(size: int, kinds: tuple[str, ...]):
    graph = chain(size, *kinds)
    every = list(chosen(graph))
    kept = set(every) - set(gain.not_worth(graph, chosen(graph), modelled_costs(graph)))
    best = min(
        modelled(graph, {n for n, take in zip(every, takes, strict=True) if take})
        for takes in product([False, True], repeat=len(every))
    )
    assert modelled(graph, kept) == pytest.approx(best)


def with_times(graph: Graph, *times: gain.Times) -> gain.Costs:
    """Measured times of the layers, with conversions that cost nothing."""
    nothing = gain.Price(0.0, 0.0)
    return gain.Costs(dict(zip(chosen(graph), times, strict=True)), bind_sizes(graph), nothing, nothing, measured=True)


def test_measured_times_decide_against_the_model_where_they_win_more_than_noise():
    graph = chain(56, "dense", "dense")
    assert left(graph) == []
    layers = chosen(graph)
    fast = gain.Times(100.0, 40.0)
    for int8, floats in ((90.0, []), (103.0, []), (120.0, ["2"])):
        costs = with_times(graph, fast, gain.Times(100.0, int8))
        assert [node.output.name for node in gain.not_worth(graph, layers, costs)] == floats


def test_times_of_what_connects_layers_count_too():
    """Both layers win 10 us each in int8, and the concatenation between them loses 30."""
    graph = parse("""graph (%x: f32[1,8,8,8]) -> (y) {
      @w : f32[8,8,1,1] = random(1)
      %1 = Conv(%x, @w) : f32[1,8,8,8]
      %2 = Conv(%1, @w) : f32[1,8,8,8]
      %3 = Concat(%1, %2) {axis=1} : f32[1,16,8,8]
      return %3
    }""")
    costs = with_times(graph, gain.Times(100.0, 90.0), gain.Times(100.0, 90.0))
    joined = next(node for node in graph if node.op == "Concat")
    _, kept = gain.cheapest(graph, chosen(graph), costs)
    assert len(kept) == 2
    dearer = replace(costs, times={**costs.times, joined: gain.Times(0.0, 30.0)}, images=gain.Price(20.0, 0.0))
    assert gain.cheapest(graph, chosen(graph), dearer) == (200.0, set())


def test_the_pass_says_why_a_layer_stays_in_float():
    graph = chain(2, "dense", "softplus", "depthwise")
    feed = {"0": np.random.default_rng(0).standard_normal((1, 64, 2, 2)).astype(np.float32)}
    outcome = Quantize(cost_aware=True).run(Model(graph), Context(samples=[feed]))
    assert {d.decision for d in outcome.decisions} == {"fp32"}
    assert "would not pay here" in outcome.decisions[0].reason
    assert outcome.notes == ["0 of 2 layers in int8"]


def test_the_sizes_are_those_of_one_sample_of_a_batch():
    graph = parse("""graph (%x: f32[N,4,S]) -> (y) { %1 = Relu(%x) : f32[N,4,S] return %1 }""")
    from tersor.transforms.samples import one_sample

    sizes = one_sample(graph, [{"x": np.zeros((16, 4, 9), np.float32)}])
    assert sorted(sizes.values()) == [1, 9]
