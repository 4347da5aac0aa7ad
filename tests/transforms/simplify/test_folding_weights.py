"""Folding of large constants: expressions instead of copies, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners.evaluate import evaluate_by_reference
from tersor.ir import Dense, Lazy, parse
from tersor.ir.inference import infer
from tersor.transforms.simplify.folding import BUDGET, Room, fold_constants
from tersor.transforms.simplify.folding.lazily import unevaluated

EXPRESSED = {
    "transposed": "Transpose(@w) {perm=[1,0]}",
    "sliced": "Slice(@w, i64[2]{1,-3}, i64[2]{9223372036854775807,-1})",
    "sliced to nothing": "Slice(@w, i64[1]{3}, i64[1]{1}, i64[1]{1})",
    "split": "Split(@w) {axis=1, num_outputs=3}",
    "gathered": "Gather(@w, i64[2]{-1,0}) {axis=1}",
    "with an axis more": "Unsqueeze(@w, i64[1]{1})",
    "flattened": "Flatten(@w) {axis=0}",
    "in double precision": "Cast(@w) {to=11}",
    "expanded": "Expand(@w, i64[3]{2,1,1})",
    "scaled": "Mul(@w, f32[]{2.0})",
}


@pytest.mark.parametrize("name", EXPRESSED)
def test_a_weight_stays_an_expression(name: str):
    graph = parse(f"graph() -> (y) {{ @w : f32[400,60] = random(1) %y = {EXPRESSED[name]} return %y }}".replace(
        "%y = Split", "%y, %b, %c = Split"))  # fmt: skip
    infer(graph)
    (node,) = graph
    wanted = evaluate_by_reference(node)
    (found, *_) = unevaluated(node) or [None]
    assert isinstance(found, Lazy)
    assert wanted[0] is not None
    np.testing.assert_allclose(found.numpy(), wanted[0], rtol=1e-7)
    assert fold_constants(graph, infer(graph), 1 << 20) == 1
    assert isinstance(graph.outputs[0].const, Lazy)


LEFT = {
    "a gather at an index that is not there": "Gather(@w, i64[1]{400})",
    "floats that may be too large for integers": "Cast(@w) {to=6}",
    "a slice with steps": "Slice(@w, i64[1]{0}, i64[1]{400}, i64[1]{0}, i64[1]{2})",
}


@pytest.mark.parametrize("name", LEFT)
def test_no_expression_is_made_for(name: str):
    graph = parse(f"graph() -> (y) {{ @w : f32[400,60] = random(1) %y = {LEFT[name]} return %y }}")
    infer(graph)
    (node,) = graph
    assert unevaluated(node) is None


def test_a_small_result_does_not_keep_the_large_constant_that_it_was_cut_from():
    graph = parse("graph() -> (y) { @w : f32[100,60] = random(1) %y = Slice(@w, i64[1]{0}, i64[1]{1}) return %y }")
    assert fold_constants(graph, infer(graph), BUDGET, Room(graph)) == 1
    found = graph.outputs[0].const
    assert isinstance(found, Dense)
    assert found.numpy().base is None or found.numpy().base.nbytes == found.nbytes


STANDARDISED = """graph(%x: f32[N,400]) -> (y) {{
  @w : f32[400,60] = random(1)
  %m = ReduceMean(@w, i64[1]{{0}}) : f32[1,60]
  %d = Sub(@w, %m) : f32[400,60]
  %q = Mul(%d, %d) : f32[400,60]
  %v = ReduceMean(%q, i64[1]{{0}}) : f32[1,60]
  %n = Div(@w, %v) : f32[400,60]
  %p = MatMul(%x, %n) : f32[N,60]
  %y = Add(%p, {other}) : f32[N,60]
  return %y
}}"""


def test_a_weight_that_is_standardised_is_folded_although_later_nodes_use_it_too():
    graph = parse(STANDARDISED.format(other="f32[]{1.0}"))
    fold_constants(graph, infer(graph))
    assert [node.op for node in graph if any(v.users for v in node.outputs)] == ["MatMul", "Add"]


def test_a_weight_that_stays_in_another_form_is_not_held_twice():
    graph = parse(STANDARDISED.format(other="%r").replace("%y = Add", "%r = Gemm(%x, @w) : f32[N,60] %y = Add"))
    fold_constants(graph, infer(graph))
    assert "Sub" in [node.op for node in graph if any(v.users for v in node.outputs)]


def test_a_result_beyond_the_budget_is_folded_where_the_model_is_large():
    text = "graph(%x: f32[300,300]) -> (y) {{ @w : f32[{rows},300] = random(1) @a : f32[300,1] = random(2) @b : f32[1,300] = random(3) %m = Sub(@a, @b) : f32[300,300] %s = Add(%x, %m) : f32[300,300] %t = MatMul(@w, %s) : f32[{rows},300] return %t }}"
    for rows, folded in ((300, 0), (60000, 1)):
        graph = parse(text.format(rows=rows))
        assert fold_constants(graph, infer(graph)) == folded


@pytest.mark.parametrize(
    ("dtype", "mode", "folded"), [("i32", "linear", 0), ("i32", "nearest", 1), ("f32", "linear", 1)]
)
def test_an_interpolation_of_integers_is_left_to_the_runtime(dtype: str, mode: str, folded: int):
    """What a nearly whole average is cut to depends on its last digit."""
    graph = parse(f"""
        graph() -> (y) {{
          %y = Resize({dtype}[1,1,1,2]{{1,3}}, _, f32[4]{{1,1,1,2}}) {{mode="{mode}"}} : {dtype}[1,1,1,4]
          return %y
        }}
    """)
    assert fold_constants(graph, infer(graph)) == folded
