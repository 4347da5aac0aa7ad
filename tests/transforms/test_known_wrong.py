"""Graphs that simplifiers are known to have broken: each computes the same before and after `simplify`.

The cases are what other tools' issue trackers report as wrong outputs, reduced to a few nodes, and their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner, synthesize
from tersor.frontends.onnx import fallback
from tersor.ir import Array, Graph, Model, verify
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify

LAST, FIRST = 2**63 - 1, -(2**63)

CASES: dict[str, str] = {
    # Convolutions and what is behind them
    "a weight that two convolutions share, a normalization behind one": """graph(%x: f32[N,3,5,5]) -> (y, z) {
        @w : f32[4,3,3,3] = random(1) @s : f32[4] = random(2) @b : f32[4] = random(3) @m : f32[4] = random(4)
        %c = Conv(%x, @w) : f32[N,4,3,3]
        %n = BatchNormalization(%c, @s, @b, @m, f32[4]{1,2,3,4}) : f32[N,4,3,3] %e = Conv(%x, @w) : f32[N,4,3,3]
        return %n, %e }""",
    "a convolution whose result is normalized and used": """graph(%x: f32[N,3,5,5]) -> (y) {
        @w : f32[4,3,3,3] = random(1) @s : f32[4] = random(2) @b : f32[4] = random(3) @m : f32[4] = random(4)
        %c = Conv(%x, @w) : f32[N,4,3,3] %n = BatchNormalization(%c, @s, @b, @m, f32[4]{1,2,3,4}) : f32[N,4,3,3]
        %y = Add(%c, %n) : f32[N,4,3,3] return %y }""",
    "one vector that is a bias and a scale": """graph(%x: f32[N,3,5,5]) -> (y) {
        @w : f32[4,3,3,3] = random(1) @s : f32[4] = random(2) @m : f32[4] = random(4)
        %c = Conv(%x, @w, @s) : f32[N,4,3,3] %y = BatchNormalization(%c, @s, @s, @m, f32[4]{1,2,3,4}) : f32[N,4,3,3]
        return %y }""",
    "a normalization behind a transposed convolution in groups": """graph(%x: f32[N,4,3,3]) -> (y) {
        @w : f32[4,3,2,2] = random(1) @s : f32[6] = random(2) @b : f32[6] = random(3) @m : f32[6] = random(4)
        %c = ConvTranspose(%x, @w) {group=2} : f32[N,6,4,4]
        %y = BatchNormalization(%c, @s, @b, @m, f32[6]{1,2,3,4,5,6}) : f32[N,6,4,4] return %y }""",
    "a sum behind a convolution along another axis than channels": """graph(%x: f32[N,3,5,3]) -> (y) {
        @w : f32[3,3,3,1] = random(1) @b : f32[3] = random(2)
        %c = Conv(%x, @w) : f32[N,3,3,3] %y = Add(%c, @b) : f32[N,3,3,3] return %y }""",
    "a shift before a convolution that pads": """graph(%x: f32[N,3,5,5]) -> (y) {
        @w : f32[3,3,3,3] = random(1) @b : f32[3,1,1] = random(2)
        %a = Add(%x, @b) : f32[N,3,5,5] %y = Conv(%a, @w) {pads=[1,1,1,1]} : f32[N,3,5,5] return %y }""",
    "padding with ones before a convolution": """graph(%x: f32[N,3,5,5]) -> (y) {
        @w : f32[3,3,3,3] = random(1)
        %p = Pad(%x, i64[8]{0,0,1,1,0,0,1,1}, f32[]{1.0}) : f32[N,3,7,7] %y = Conv(%p, @w) : f32[N,3,5,5] return %y }""",
    "mirrored padding before a convolution": """graph(%x: f32[N,3,5,5]) -> (y) {
        @w : f32[3,3,3,3] = random(1) %p = Pad(%x, i64[8]{0,0,1,1,0,0,1,1}) {mode="reflect"} : f32[N,3,7,7]
        %y = Conv(%p, @w) : f32[N,3,5,5] return %y }""",
    "negative padding before a convolution": """graph(%x: f32[N,3,7,7]) -> (y) {
        @w : f32[3,3,3,3] = random(1) %p = Pad(%x, i64[8]{0,0,-1,-1,0,0,-1,-1}) : f32[N,3,5,5]
        %y = Conv(%p, @w) : f32[N,3,3,3] return %y }""",
    "padding with zeros before a maximum": """graph(%x: f32[N,3,4,4]) -> (y) {
        %n = Abs(%x) : f32[N,3,4,4] %m = Neg(%n) : f32[N,3,4,4]
        %p = Pad(%m, i64[8]{0,0,1,1,0,0,1,1}) : f32[N,3,6,6]
        %y = MaxPool(%p) {kernel_shape=[3,3]} : f32[N,3,4,4] return %y }""",
    "padding with zeros before an average that leaves its own out": """graph(%x: f32[N,3,4,4]) -> (y) {
        %p = Pad(%x, i64[8]{0,0,1,1,0,0,1,1}) : f32[N,3,6,6]
        %y = AveragePool(%p) {kernel_shape=[3,3]} : f32[N,3,4,4] return %y }""",
    # Slices, pieces, indices
    "a slice that turns an axis around": f"""graph(%x: f32[N,4,6]) -> (y) {{
        %y = Slice(%x, i64[1]{{-1}}, i64[1]{{{FIRST}}}, i64[1]{{1}}, i64[1]{{-1}}) : f32[N,4,6] return %y }}""",
    "a slice behind one that turns an axis around": f"""graph(%x: f32[N,4,6]) -> (y) {{
        %a = Slice(%x, i64[1]{{-1}}, i64[1]{{{FIRST}}}, i64[1]{{2}}, i64[1]{{-2}}) : f32[N,4,3]
        %y = Slice(%a, i64[1]{{1}}, i64[1]{{{LAST}}}, i64[1]{{2}}, i64[1]{{1}}) : f32[N,4,2] return %y }}""",
    "slices whose ends lie behind the axis": """graph(%x: f32[N,4,6]) -> (y) {
        %a = Slice(%x, i64[1]{1}, i64[1]{99}, i64[1]{2}) : f32[N,4,5]
        %y = Slice(%a, i64[1]{-99}, i64[1]{4}, i64[1]{-1}) : f32[N,4,4] return %y }""",
    "a slice of an axis whose size is not known": """graph(%x: f32[N,4]) -> (y) {
        %y = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{0}) : f32[M,4] return %y }""",
    "slices that overlap": """graph(%x: f32[N,6]) -> (y, z) {
        %a = Slice(%x, i64[1]{0}, i64[1]{4}, i64[1]{1}) : f32[N,4] %b = Slice(%x, i64[1]{2}, i64[1]{6}, i64[1]{1}) : f32[N,4]
        %y = Relu(%a) : f32[N,4] %z = Neg(%b) : f32[N,4] return %y, %z }""",
    "pieces put together in another order": """graph(%x: f32[N,6]) -> (y) {
        %a, %b, %c = Split(%x, i64[3]{1,2,3}) {axis=1} : f32[N,1], f32[N,2], f32[N,3]
        %y = Concat(%c, %a, %b) {axis=1} : f32[N,6] return %y }""",
    "some pieces put together": """graph(%x: f32[N,6]) -> (y) {
        %a, %b, %c = Split(%x, i64[3]{1,2,3}) {axis=1} : f32[N,1], f32[N,2], f32[N,3]
        %y = Concat(%a, %b) {axis=1} : f32[N,3] return %y }""",
    "a concatenation with nothing along another axis": """graph(%x: f32[N,6]) -> (y) {
        @e : f32[0,6] = [] %y = Concat(%x, @e) {axis=0} : f32[N,6] return %y }""",
    "entries counted from the end": """graph(%x: f32[N,4,6]) -> (y, z) {
        %y = Gather(%x, i64[]{-1}) {axis=1} : f32[N,6] %z = Gather(%x, i64[3]{-2,-1,0}) {axis=2} : f32[N,4,3]
        return %y, %z }""",
    "a part of a shape with a step": """graph(%x: f32[N,4,6,2]) -> (y) {
        %s = Shape(%x) : i64[4] %y = Slice(%s, i64[1]{-1}, i64[1]{-5}, i64[1]{0}, i64[1]{-2}) : i64[2] return %y }""",
    "a shape from the second axis on": """graph(%x: f32[N,4,6,2]) -> (y, z) {
        %s = Shape(%x) {start=-3, end=-1} : i64[2] %y = Gather(%s, i64[]{-1}) : i64[]
        %z = Slice(%s, i64[1]{0}, i64[1]{1}) : i64[1] return %y, %z }""",
    # Shapes
    "two reshapes that share a target with -1": """graph(%x: f32[N,4,6], %z: f32[N,2,6]) -> (y, v) {
        @t : i64[2] = [0,-1] %a = Reshape(%x, i64[3]{0,6,4}) : f32[N,6,4] %y = Reshape(%a, @t) : f32[N,24]
        %b = Reshape(%z, i64[3]{0,3,4}) : f32[N,3,4] %v = Reshape(%b, @t) : f32[N,12] return %y, %v }""",
    "a zero that keeps a size of the first reshape": """graph(%x: f32[2,4,6]) -> (y) {
        %a = Reshape(%x, i64[2]{4,12}) : f32[4,12] %y = Reshape(%a, i64[3]{0,3,4}) : f32[4,3,4] return %y }""",
    "a zero that is a size": """graph(%x: f32[0,4]) -> (y) {
        %a = Reshape(%x, i64[3]{2,0,2}) {allowzero=1} : f32[2,0,2] %y = Reshape(%a, i64[2]{0,8}) {allowzero=1} : f32[0,8]
        return %y }""",
    "a squeeze behind a squeeze, counted anew": """graph(%x: f32[N,1,4,1,6,1]) -> (y) {
        %a = Squeeze(%x, i64[1]{1}) : f32[N,4,1,6,1] %y = Squeeze(%a, i64[2]{2,-1}) : f32[N,4,6] return %y }""",
    "the same squeeze twice, both results used": """graph(%x: f32[N,1,4]) -> (y, z) {
        %c = Cos(%x) : f32[N,1,4] %y = Squeeze(%c, i64[1]{1}) : f32[N,4] %b = Squeeze(%c, i64[1]{1}) : f32[N,4]
        %z = Floor(%b) : f32[N,4] return %y, %z }""",
    "a sum's axis put back elsewhere": """graph(%x: f32[N,4,6]) -> (y) {
        %a = ReduceSum(%x, i64[1]{1}) {keepdims=0} : f32[N,6] %y = Unsqueeze(%a, i64[1]{2}) : f32[N,6,1] return %y }""",
    "turns that are no turn back": """graph(%x: f32[N,4,6,2]) -> (y) {
        %a = Transpose(%x) {perm=[0,2,3,1]} : f32[N,6,2,4] %y = Transpose(%a) {perm=[0,2,3,1]} : f32[N,2,4,6] return %y }""",
    "an expansion in both directions": """graph(%x: f32[3,1]) -> (y) {
        %y = Expand(%x, i64[2]{1,4}) : f32[3,4] return %y }""",
    "an expansion that adds an axis of one": """graph(%x: f32[3,4]) -> (y) {
        %y = Expand(%x, i64[3]{1,3,4}) : f32[1,3,4] return %y }""",
    "a flattening of everything": """graph(%x: f32[N,4,6]) -> (y) {
        %y = Flatten(%x) {axis=0} : f32[1,M] return %y }""",
    # Numbers
    "one that raises the rank": "graph(%x: f32[4]) -> (y) { %y = Mul(%x, f32[1,1]{1.0}) : f32[1,4] return %y }",
    "zeros that broadcast": "graph(%x: f32[1,4]) -> (y) { %y = Add(%x, f32[3,1]{0,0,0}) : f32[3,4] return %y }",
    "division of integers and back": """graph(%x: i64[N,4]) -> (y) {
        %a = Div(%x, i64[]{2}) : i64[N,4] %y = Mul(%a, i64[]{2}) : i64[N,4] return %y }""",
    "products of integers that wrap around": """graph(%x: i32[N,4]) -> (y) {
        %a = Mul(%x, i32[]{1073741824}) : i32[N,4] %b = Mul(%a, i32[]{4}) : i32[N,4] %y = Div(%b, i32[]{3}) : i32[N,4]
        return %y }""",
    "two hundred minus, then minus two hundred": """graph(%x: f32[N,4]) -> (y) {
        %a = Sub(f32[]{200.0}, %x) : f32[N,4] %y = Sub(%a, f32[]{200.0}) : f32[N,4] return %y }""",
    "the root of a square": """graph(%x: f32[N,4]) -> (y) {
        %a = Pow(%x, f32[]{2.0}) : f32[N,4] %y = Sqrt(%a) : f32[N,4] return %y }""",
    "bounds that cross": """graph(%x: f32[N,4]) -> (y) {
        %a = Clip(%x, f32[]{-2.0}, f32[]{-1.0}) : f32[N,4] %y = Relu(%a) : f32[N,4] return %y }""",
    "bounds that cross below zero": """graph(%x: f32[N,4]) -> (y) {
        %a = Clip(%x, f32[]{0.5}, f32[]{-1.0}) : f32[N,4] %y = Relu(%a) : f32[N,4] return %y }""",
    "a maximum before a minimum below it": """graph(%x: f32[N,4]) -> (y) {
        %a = Max(%x, f32[]{1.0}) : f32[N,4] %y = Min(%a, f32[]{0.5}) : f32[N,4] return %y }""",
    "the largest place of a softmax along another axis": """graph(%x: f32[N,4,6]) -> (y) {
        %a = Softmax(%x) {axis=2} : f32[N,4,6] %y = ArgMax(%a) {axis=1} : i64[N,1,6] return %y }""",
    "the logarithm of a softmax along the first axis": """graph(%x: f32[3,4]) -> (y) {
        %a = Softmax(%x) {axis=0} : f32[3,4] %y = Log(%a) : f32[3,4] return %y }""",
    # Conversions and quantization
    "through half precision": """graph(%x: f32[N,4]) -> (y) {
        %a = Cast(%x) {to=10} : f16[N,4] %y = Cast(%a) {to=1} : f32[N,4] return %y }""",
    "through integers": """graph(%x: f32[N,4]) -> (y) {
        %a = Cast(%x) {to=7} : i64[N,4] %y = Cast(%a) {to=1} : f32[N,4] return %y }""",
    "through bytes": """graph(%x: i64[N,4]) -> (y) {
        %m = Mul(%x, i64[]{300}) : i64[N,4] %a = Cast(%m) {to=3} : i8[N,4] %y = Cast(%a) {to=7} : i64[N,4] return %y }""",
    "through truths": """graph(%x: i64[N,4]) -> (y) {
        %a = Cast(%x) {to=9} : bool[N,4] %y = Cast(%a) {to=7} : i64[N,4] return %y }""",
    # Products
    "a scale per row behind a product": """graph(%x: f32[3,4]) -> (y) {
        @w : f32[4,5] = random(1) @s : f32[3,1] = random(2)
        %a = MatMul(%x, @w) : f32[3,5] %y = Mul(%a, @s) : f32[3,5] return %y }""",
    "a bias that makes the product larger": """graph(%x: f32[1,4]) -> (y) {
        @w : f32[4,5] = random(1) @b : f32[3,5] = random(2)
        %a = MatMul(%x, @w) : f32[1,5] %y = Add(%a, @b) : f32[3,5] return %y }""",
    "a bias that raises the product's rank": """graph(%x: f32[2,4]) -> (y) {
        @w : f32[4,5] = random(1) @b : f32[1,1,5] = random(2)
        %a = MatMul(%x, @w) : f32[2,5] %y = Add(%a, @b) : f32[1,2,5] return %y }""",
    "factors of a general product": """graph(%x: f32[4,3]) -> (y) {
        @w : f32[4,5] = random(1) @b : f32[5] = random(2) %t = Transpose(%x) {perm=[1,0]} : f32[3,4]
        %a = Gemm(%t, @w, @b) {alpha=0.5, beta=3.0} : f32[3,5] %y = Mul(%a, f32[]{2.0}) : f32[3,5] return %y }""",
    # Results
    "a constant that is a result": """graph(%x: f32[2,3]) -> (y, z) {
        %s = Shape(%x) : i64[2] %y = ConstantOfShape(%s) : f32[2,3] %z = Relu(%x) : f32[2,3] return %y, %z }""",
    "a dropout before a product with a folded one": """graph(%x: f32[N,4]) -> (y) {
        %m = Dropout(%x) : f32[N,4] %o = Div(f32[]{1.0}, f32[]{1.0}) : f32[] %y = Mul(%m, %o) : f32[N,4] return %y }""",
    "a conversion to its own type before a product with a folded one": """graph(%x: f32[N,4]) -> (y) {
        %m = Cast(%x) {to=1} : f32[N,4] %o = Div(f32[]{2.0}, f32[]{2.0}) : f32[] %y = Mul(%m, %o) : f32[N,4] return %y }""",
    "an input that is a result twice": """graph(%x: f32[N,4]) -> (y, z) {
        %a = Identity(%x) : f32[N,4] %b = Identity(%x) : f32[N,4] return %a, %b }""",
    # Sizes
    "a resize by one and two": """graph(%x: f32[N,3,4,4]) -> (y) {
        %y = Resize(%x, _, f32[4]{1,1,1,2}) {mode="linear"} : f32[N,3,4,8] return %y }""",
    "two resizes to the nearest": """graph(%x: f32[N,3,6,6]) -> (y) {
        %a = Resize(%x, _, f32[4]{1,1,0.5,0.5}) {mode="nearest", nearest_mode="floor"} : f32[N,3,3,3]
        %y = Resize(%a, _, f32[4]{1,1,2,2}) {mode="nearest", nearest_mode="floor"} : f32[N,3,6,6] return %y }""",
    "a resize to the same size that crops": """graph(%x: f32[2,3,4,4]) -> (y) {
        %y = Resize(%x, f32[8]{0,0,0.25,0,1,1,0.75,1}, f32[4]{1,1,1,1})
             {mode="linear", coordinate_transformation_mode="tf_crop_and_resize"} : f32[2,3,4,4] return %y }""",
}


def simplified(model: Model) -> Model:
    copy = model.clone()
    Simplify().run(copy, Context(fallback=fallback))
    verify(copy.graph, after="simplify")
    return copy


def same(before: Model, after: Model, feeds: Mapping[str, Array]) -> None:
    wanted, found = (OrtRunner(m, optimize=False).run(feeds) for m in (before, after))
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype == array.dtype, name
        assert compare(array, found[name]).max_error <= 1e-5, name
        if array.dtype.kind != "f":
            assert np.array_equal(array, found[name]), name


@pytest.mark.parametrize("case", CASES)
def test_it_computes_the_same(graph: Callable[[str], Graph], case: str):
    before = Model(graph(CASES[case]))
    after = simplified(before)
    assert len(list(after.graph.walk())) <= len(list(before.graph.walk()))
    for feeds in synthesize(before.graph, count=2, seed=1):
        same(before, after, feeds)


def test_quantization_is_not_folded_away(graph: Callable[[str], Graph]):
    before = Model(
        graph("""graph(%x: f32[N,4]) -> (y) {
        @w : f32[4,5] = random(1) @s : f32[] = [0.02] @z : i8[] = [0]
        %q = QuantizeLinear(%x, @s, @z) : i8[N,4] %d = DequantizeLinear(%q, @s, @z) : f32[N,4]
        %u = QuantizeLinear(@w, @s, @z) : i8[4,5] %v = DequantizeLinear(%u, @s, @z) : f32[4,5]
        %y = MatMul(%d, %v) : f32[N,5] return %y }""")
    )
    after = simplified(before)
    kept = [node.op for node in after.graph]
    assert kept.count("DequantizeLinear") == 2
    assert kept.count("QuantizeLinear") >= 1
    same(before, after, {"x": np.linspace(-4, 4, 12, dtype=np.float32).reshape(3, 4)})


def test_a_product_of_rank_three_with_a_bias_does_not_become_three_nodes(graph: Callable[[str], Graph]):
    before = Model(
        graph("""graph(%x: f32[N,T,4]) -> (y) {
        @w : f32[4,5] = random(1) @b : f32[5] = random(2)
        %a = MatMul(%x, @w) : f32[N,T,5] %y = Add(%a, @b) : f32[N,T,5] return %y }""")
    )
    assert [node.op for node in simplified(before).graph] == ["MatMul", "Add"]


@pytest.mark.parametrize("batch", [1, 2])
def test_positions_that_rotate_queries_compute_the_same_for_every_batch(graph: Callable[[str], Graph], batch: int):
    before = Model(
        graph("""graph(%x: f32[B,2,T,4], %angle: f32[1,T,4]) -> (y) {
        %c0 = Cos(%angle) : f32[1,T,4] %c = Unsqueeze(%c0, i64[1]{1}) : f32[1,1,T,4]
        %s0 = Sin(%angle) : f32[1,T,4] %s = Unsqueeze(%s0, i64[1]{1}) : f32[1,1,T,4]
        %l = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{3}) : f32[B,2,T,2]
        %h = Slice(%x, i64[1]{2}, i64[1]{4}, i64[1]{3}) : f32[B,2,T,2]
        %n = Neg(%h) : f32[B,2,T,2] %r = Concat(%n, %l) {axis=-1} : f32[B,2,T,4]
        %p = Mul(%x, %c) : f32[B,2,T,4] %q = Mul(%r, %s) : f32[B,2,T,4]
        %y = Add(%p, %q) : f32[B,2,T,4] return %y }""")
    )
    random = np.random.default_rng(batch)
    half = random.standard_normal((1, 3, 2), np.float32)
    feeds = {"x": random.standard_normal((batch, 2, 3, 4), np.float32), "angle": np.concatenate([half, half], -1)}
    same(before, simplified(before), feeds)


def test_rows_that_are_masked_entirely_stay_what_they_are(graph: Callable[[str], Graph]):
    before = Model(
        graph("""graph(%x: f32[N,2,3,4], %m: bool[N,1,3,3]) -> (y) {
        @f : f32[] = [-inf] %t = Transpose(%x) {perm=[0,1,3,2]} : f32[N,2,4,3]
        %a = MatMul(%x, %t) : f32[N,2,3,3] %b = Mul(%a, f32[]{0.5}) : f32[N,2,3,3]
        %c = Where(%m, f32[]{0.0}, @f) : f32[N,1,3,3] %d = Add(%b, %c) : f32[N,2,3,3]
        %s = Softmax(%d) {axis=-1} : f32[N,2,3,3] %i = IsNaN(%s) : bool[N,2,3,3]
        %w = Where(%i, f32[]{0.0}, %s) : f32[N,2,3,3] %y = MatMul(%w, %x) : f32[N,2,3,4] return %y }""")
    )
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 4), np.float32)
    mask = np.ones((2, 1, 3, 3), bool)
    mask[1, 0, 1] = False
    same(before, simplified(before), {"x": x, "m": mask})


@pytest.mark.parametrize(
    "body",
    ["Mul(%x, f32[]{0.0})", "Sub(%x, %x)", "Div(%x, %x)", "Pow(%x, f32[]{0.0})", "Max(%x, f32[]{0.0})", "Relu(%x)"],
)
def test_infinities_and_what_is_no_number_come_through(graph: Callable[[str], Graph], body: str):
    before = Model(graph(f"graph(%x: f32[N]) -> (y) {{ %y = {body} : f32[N] return %y }}"))
    same(before, simplified(before), {"x": np.array([np.inf, -np.inf, np.nan, 0.0, 1.0], np.float32)})


def test_a_normalization_that_is_being_trained_is_not_folded(graph: Callable[[str], Graph]):
    before = Model(
        graph("""graph(%x: f32[4,3,5,5]) -> (y) {
        @w : f32[4,3,3,3] = random(1) @s : f32[4] = random(2) @b : f32[4] = random(3) @m : f32[4] = random(4)
        %c = Conv(%x, @w) : f32[4,4,3,3]
        %y, %p, %q = BatchNormalization(%c, @s, @b, @m, f32[4]{1,2,3,4}) {training_mode=1} : f32[4,4,3,3], f32[4], f32[4]
        return %y }""")
    )
    assert "BatchNormalization" in [node.op for node in simplified(before).graph]
