"""Convolutions over one axis and transposed ones, as convolutions over two axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Array, Graph, Model, Node, parse, verify
from tersor.transforms.base import Context
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.images import as_images, candidate
from tersor.transforms.quantize.layers import Layer
from tersor.transforms.quantize.report import optimised


def rewritten(graph: Graph) -> dict[Node, Layer]:
    """All candidates of a graph, rewritten."""
    chosen = {node: layer for node in graph if (layer := candidate(node)) is not None}
    found = as_images(graph, chosen)
    verify(graph)
    assert len(found) == len(chosen)
    return found


def assert_same(text: str, feeds: Mapping[str, Array]) -> Graph:
    """The graph after the rewriting, whose results are those of before."""
    before, after = Model(parse(text)), Model(parse(text))
    assert rewritten(after.graph)
    for optimize in (False, True):
        a, b = (OrtRunner(model, optimize=optimize).run(feeds) for model in (before, after))
        for name, value in a.items():
            assert value.shape == b[name].shape
            np.testing.assert_allclose(b[name], value, rtol=1e-4, atol=1e-5)
    return after.graph


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph]


def random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


LINES = """graph (%x: f32[N,4,L]) -> (y) {
  @a : f32[8,4,5] = random(1)
  @b : f32[8,2,3] = random(2)
  @c : f32[8] = random(3)
  %1 = Conv(%x, @a, @c) {pads=[1,3], strides=[2]} : f32[N,8,M]
  %2 = Relu(%1) : f32[N,8,M]
  %3 = Conv(%2, @b) {auto_pad="SAME_UPPER", group=4} : f32[N,8,M]
  %4 = Add(%2, %3) : f32[N,8,M]
  %5 = MaxPool(%4) {kernel_shape=[3], pads=[1,1], strides=[2]} : f32[N,8,K]
  %6 = Concat(%5, %5) {axis=-1} : f32[N,8,J]
  %7 = Conv(%6, @b) {dilations=[2], group=4} : f32[N,8,I]
  %8 = Softplus(%7) : f32[N,8,I]
  return %8
}"""


def test_lines_are_images_of_height_one_through_everything_that_has_an_int8_kernel():
    found = ops(assert_same(LINES, {"x": random(2, 4, 33)}))
    assert found.count("Unsqueeze") == 1
    assert found.count("Squeeze") == 1
    assert found.index("Squeeze") == found.index("Softplus") - 1


def test_what_else_reads_a_line_gets_it():
    text = """graph (%x: f32[2,4,9]) -> (y, z) {
      @a : f32[8,4,3] = random(1)
      %1 = Conv(%x, @a) : f32[2,8,7]
      %2 = Relu(%1) : f32[2,8,7]
      %3 = ReduceSum(%2) : f32[1,1,1]
      return %1, %3
    }"""
    assert_same(text, {"x": random(2, 4, 9)})


def transposed(kernel: tuple[int, int], attrs: Mapping[str, object], tail: str = "Softplus") -> str:
    channels, group = (4, 6), int(str(attrs.get("group", 1)))
    options = ", ".join(f"{key}={value}" for key, value in attrs.items())
    return f"""graph (%x: f32[N,{channels[0]},H,W]) -> (y) {{
      @w : f32[{channels[0]},{channels[1] // group},{kernel[0]},{kernel[1]}] = random(1)
      @b : f32[{channels[1]}] = random(2)
      %1 = ConvTranspose(%x, @w, @b) {{{options}}} : f32[N,{channels[1]},P,Q]
      %2 = {tail}(%1) : f32[N,{channels[1]},P,Q]
      return %2
    }}"""


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (4, 4), (5, 5), (3, 4)])
@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [2, 2]},
        {"strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 1]},
        {"strides": [2, 2], "group": 2},
    ],
    ids=["plain", "padded", "padded unevenly and on the outside", "grouped"],
)
def test_a_transposed_convolution_is_a_convolution_of_its_phases(kernel: tuple[int, int], attrs: dict[str, object]):
    found = ops(assert_same(transposed(kernel, attrs), {"x": random(2, 4, 5, 7)}))
    assert "ConvTranspose" not in found
    assert "DepthToSpace" in found


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_form_that_is_taken_keeps_its_numbers(data: st.DataObject):
    draw, small = data.draw, st.integers(0, 4)
    stride = draw(st.integers(2, 4))
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    pads = draw(st.lists(small, min_size=4, max_size=4))
    more = [draw(st.integers(0, stride - 1)) for _ in range(2)]
    text = transposed(kernel, {"strides": [stride] * 2, "pads": pads, "output_padding": more})
    if any(stride * 4 + kernel[a] + more[a] - pads[a] - pads[a + 2] < 1 for a in (0, 1)):
        return
    if candidate(next(n for n in parse(text) if n.op == "ConvTranspose")) is not None:
        assert_same(text, {"x": random(1, 4, 5, 5)})


def test_a_relu_behind_it_comes_before_the_phases_are_put_into_place():
    found = ops(assert_same(transposed((2, 2), {"strides": [2, 2]}, tail="Relu"), {"x": random(2, 4, 5, 7)}))
    assert found == ["Conv", "Relu", "DepthToSpace"]


@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [1, 1]},
        {"strides": [2, 1]},
        {"strides": [2, 2], "dilations": [2, 2]},
        {"strides": [2, 2], "auto_pad": '"SAME_UPPER"'},
        {"strides": [2, 2], "output_shape": [9, 13]},
        {"strides": [2, 2], "pads": [3, 3, 3, 3]},
    ],
)
def test_other_forms_are_no_candidates(attrs: dict[str, object]):
    assert not any(candidate(node) for node in parse(transposed((2, 2), attrs)))


def test_a_computed_weight_or_a_quantized_input_makes_no_candidate():
    text = transposed((2, 2), {"strides": [2, 2]})
    computed = text.replace("%1 = ConvTranspose(%x, @w", "%0 = Softplus(@w) : f32[4,6,2,2] %1 = ConvTranspose(%x, %0")
    assert not any(candidate(node) for node in parse(computed))
    pair = (
        """@s : f32[] = [0.1] %q = QuantizeLinear(%x, @s) : u8[N,4,H,W] %d = DequantizeLinear(%q, @s) : f32[N,4,H,W] """
    )
    assert not any(
        candidate(node) for node in parse(text.replace("%1 = ConvTranspose(%x", pair + "%1 = ConvTranspose(%d"))
    )


UNET = """graph (%x: f32[N,8,H,W]) -> (y) {
  @a : f32[32,8,3,3] = random(1)
  @t : f32[32,16,4,4] = random(2)
  @b : f32[16] = random(4)
  @c : f32[8,16,3,3] = random(3)
  %1 = Conv(%x, @a) {pads=[1,1,1,1]} : f32[N,32,H,W]
  %2 = Relu(%1) : f32[N,32,H,W]
  %3 = ConvTranspose(%2, @t, @b) {strides=[2,2], pads=[1,1,1,1]} : f32[N,16,P,Q]
  %4 = Relu(%3) : f32[N,16,P,Q]
  %5 = Conv(%4, @c) {pads=[1,1,1,1]} : f32[N,8,P,Q]
  return %5
}"""


def quantized(text: str, feed: Mapping[str, Array], **options: object) -> tuple[Model, float, list[str]]:
    """The model in int8, the SQNR of its result, and what was decided."""
    model = Model(parse(text))
    expected = OrtRunner(model).run(feed)["y"]
    outcome = Quantize(**options).run(model, Context(samples=[feed]))  # pyright: ignore[reportArgumentType]
    verify(model.graph)
    assert not outcome.warnings
    return model, compare(expected, OrtRunner(model).run(feed)["y"]).sqnr_db, [d.decision for d in outcome.decisions]


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_a_transposed_convolution_reaches_an_integer_kernel(form: str):
    model, sqnr, decisions = quantized(UNET, {"x": random(2, 8, 24, 16)}, form=form, correct_bias=True)
    assert decisions == ["int8"] * 3
    assert sqnr > 30
    kernels = [node.op_type for node in optimised(model).node]
    assert kernels.count("QLinearConv") == 3
    assert kernels.count("DequantizeLinear") == 1
    assert not {"Conv", "FusedConv", "ConvTranspose"} & set(kernels)


def test_lines_reach_integer_kernels_without_changes_of_layout_between_them():
    text = LINES.replace('auto_pad="SAME_UPPER"', "pads=[1,1]")
    model, sqnr, decisions = quantized(text, {"x": random(2, 4, 33)})
    assert decisions == ["int8"] * 3
    assert sqnr > 30
    kernels = [node.op_type for node in optimised(model).node]
    assert kernels.count("QLinearConv") == 3
    assert kernels.count("QuantizeLinear") == 1


def test_a_transposed_convolution_of_one_channel_stays_since_its_phases_would_take_longer():
    text = UNET.replace("f32[32,16,4,4]", "f32[32,1,4,4]").replace("f32[16]", "f32[1]").replace("[8,16,3", "[8,1,3")
    model, _, decisions = quantized(text.replace("N,16,P", "N,1,P"), {"x": random(1, 8, 8, 8)})
    assert decisions == ["int8", "fp32", "int8"]
    assert "ConvTranspose" in ops(model.graph)


def test_for_openvino_lines_stay_and_transposed_convolutions_do_not():
    model, sqnr, decisions = quantized(LINES, {"x": random(2, 4, 33)}, target="openvino-cpu", correct_bias=True)
    assert decisions == ["int8"] * 3
    assert sqnr > 30
    assert "Unsqueeze" not in ops(model.graph)
    model, _, decisions = quantized(UNET, {"x": random(2, 8, 24, 16)}, target="openvino-cpu")
    assert decisions == ["int8"] * 3
    assert "ConvTranspose" not in ops(model.graph)
