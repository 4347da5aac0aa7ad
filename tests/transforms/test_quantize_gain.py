"""Which layers pay in int8, by the model of time."""

from __future__ import annotations

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


def left(graph: Graph) -> list[str]:
    return [node.output.name for node in gain.not_worth(graph, chosen(graph), bind_sizes(graph))]


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
        price = gain.CONVERSION[0] + gain.CONVERSION[1] * np.prod(node.output.shape or ())
        now = node in int8
        total += price * (now != previous) + (
            0.0 if node not in known else known[node].int8 if now else known[node].float
        )
        previous = now
    return total + (gain.CONVERSION[0] + gain.CONVERSION[1] * np.prod(graph.outputs[0].shape or ())) * previous


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
    kept = set(every) - set(gain.not_worth(graph, chosen(graph), bind_sizes(graph)))
    best = min(
        modelled(graph, {n for n, take in zip(every, takes, strict=True) if take})
        for takes in product([False, True], repeat=len(every))
    )
    assert modelled(graph, kept) == pytest.approx(best)


def test_the_pass_says_why_a_layer_stays_in_float():
    graph = chain(2, "dense", "softplus", "depthwise")
    feed = {"0": np.random.default_rng(0).standard_normal((1, 64, 2, 2)).astype(np.float32)}
    outcome = Quantize(cost_aware=True).run(Model(graph), Context(samples=[feed]))
    assert {d.decision for d in outcome.decisions} == {"fp32"}
    assert "would not pay here" in outcome.decisions[0].reason
    assert outcome.notes == ["0 of 2 layers in int8"]


def test_the_sizes_are_those_of_one_sample_of_a_batch():
    graph = parse("""graph (%x: f32[N,4,S]) -> (y) { %1 = Relu(%x) : f32[N,4,S] return %1 }""")
    from tersor.transforms.quantize.quantize import one_sample

    sizes = one_sample(graph, [{"x": np.zeros((16, 4, 9), np.float32)}])
    assert sorted(sizes.values()) == [1, 9]
