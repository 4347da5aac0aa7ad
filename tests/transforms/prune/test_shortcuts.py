"""Shortcuts that take every second position between channels of zeros, as convolutions of zeros and ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner
from tersor.ir import Model
from tersor.transforms.prune import shortcuts
from tersor.transforms.prune.shortcuts import project, projected

MAKE = Callable[..., Model]
LAST = 9223372036854775807


def network(slices: str, pad: str) -> str:
    return f"""graph(%x: f32[2,4,7,6]) -> (y) {{
  %a = Relu(%x) : f32[2,4,7,6]
  {slices}
  {pad}
  return %y
}}"""


ONE = f"%b = Slice(%a, i64[2]{{0,0}}, i64[2]{{{LAST},{LAST}}}, i64[2]{{2,3}}, i64[2]{{2,2}}) : f32[2,4,4,3]"
TWO = f"""%c = Slice(%a, i64[1]{{0}}, i64[1]{{7}}, i64[1]{{-2}}, i64[1]{{2}}) : f32[2,4,4,6]
  %b = Slice(%c, i64[1]{{0}}, i64[1]{{{LAST}}}, i64[1]{{3}}, i64[1]{{3}}) : f32[2,4,4,2]"""
ALL = "%y = Pad(%b, i64[8]{0,2,0,0,0,3,0,0}) : f32[2,9,4,3]"
NAMED = "%y = Pad(%b, i64[2]{1,3}, f32[]{0}, i64[1]{1}) : f32[2,8,4,2]"


@pytest.mark.parametrize(
    ("text", "strides"), [(network(ONE, ALL), (2, 2)), (network(TWO, NAMED), (2, 3)), (network(TWO, ALL), (2, 3))]
)
def test_a_shortcut_becomes_one_convolution_that_gives_the_same(model: MAKE, text: str, strides: tuple[int, ...]):
    made = model(text)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 7, 6)).astype(np.float32)}
    expected = OrtRunner(made).run(feeds)["y"]
    assert project(made.graph) == 1
    assert [node.op for node in made.graph] == ["Relu", "Conv"]
    assert list(made.graph)[1].ints("strides") == strides
    np.testing.assert_array_equal(OrtRunner(made).run(feeds)["y"], expected)


@pytest.mark.parametrize(
    ("slices", "pad"),
    [
        (ONE, "%y = Pad(%b, i64[8]{0,2,0,1,0,3,0,0}) : f32[2,9,4,4]"),  # space is padded, too
        (ONE, "%y = Pad(%b, i64[8]{0,2,0,0,0,3,0,0}, f32[]{1}) : f32[2,9,4,3]"),  # with ones
        (ONE, "%y = Pad(%b, i64[8]{0,2,0,0,0,-1,0,0}) : f32[2,5,4,3]"),  # channels are cut off
        (ONE, '%y = Pad(%b, i64[8]{0,2,0,0,0,1,0,0}) {mode="reflect"} : f32[2,7,4,3]'),
        (ONE.replace("{0,0}", "{1,0}"), "%y = Pad(%b, i64[8]{0,2,0,0,0,3,0,0}) : f32[2,9,3,3]"),  # from the second on
        (ONE.replace(f"{{{LAST},{LAST}}}", "{5,6}"), "%y = Pad(%b, i64[8]{0,2,0,0,0,3,0,0}) : f32[2,9,3,3]"),
        ("%b = Relu(%a) : f32[2,4,7,6]", "%y = Pad(%b, i64[8]{0,2,0,0,0,3,0,0}) : f32[2,9,7,6]"),  # nothing is skipped
    ],
)
def test_anything_else_stays(model: MAKE, slices: str, pad: str):
    made = model(network(slices, pad))
    before = [node.op for node in made.graph]
    assert project(made.graph) == 0
    assert [node.op for node in made.graph] == before


def test_it_is_done_only_where_it_is_faster(model: MAKE, monkeypatch: pytest.MonkeyPatch):
    made = model(network(ONE, ALL))
    feeds = {"x": np.ones((2, 4, 7, 6), np.float32)}
    monkeypatch.setattr(shortcuts, "GAIN", 0.0)
    assert projected(made, feeds) is None
    monkeypatch.setattr(shortcuts, "GAIN", float("inf"))
    changed = projected(made, feeds)
    assert changed is not None
    assert [node.op for node in changed.graph] == ["Relu", "Conv"]
    assert len(list(made.graph)) == 3
