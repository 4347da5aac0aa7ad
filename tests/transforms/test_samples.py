"""Samples of feeds: the first one of a batch."""

import numpy as np
from tersor.ir import parse
from tersor.transforms.samples import single


def test_the_first_sample_is_cut_from_inputs_with_an_open_batch_alone():
    graph = parse("graph(%x: f32[N,3], %table: f32[7,3], %any: f32[*]) -> (y) { %y = Add(%x, %x) return %y }")
    feed = {"x": np.arange(12.0).reshape(4, 3), "table": np.zeros((7, 3)), "any": np.zeros((5, 2))}
    found = single(graph, feed)
    assert {name: array.shape for name, array in found.items()} == {"x": (1, 3), "table": (7, 3), "any": (5, 2)}
    assert (found["x"] == feed["x"][0]).all()
