"""Where quantization goes: which values get a pair, and the text of a graph before and after.

Every range is [0, 255] here, so that every activation has the scale 1 and the zero point 0.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Graph, Model, parse, skeleton, verify
from tersor.transforms.base import Context
from tersor.transforms.quantize import Quantize, insertion, scheme
from tersor.transforms.quantize.layers import Layer, layers
from tersor.transforms.quantize.observers import Range
from tersor.transforms.quantize.placement import TARGETS, Placement, clip_range, limit, place
from tersor.transforms.quantize.prepare import matmuls_to_gemms, means_to_pools, swishes_to_products
from tersor.transforms.quantize.report import optimised

CONSTANTS = """
  @w : f32[12,12,3,3] = random(1)
  @b : f32[12] = random(2)
  @d : f32[12,1,3,3] = random(3)
  @m : f32[12,20] = random(4)
  @c : f32[20] = random(5)
"""
IMAGE = "%x: f32[N,12,8,8]"
CONV = "{pads=[1,1,1,1]} : f32[N,12,8,8]"
SAME = ": f32[N,12,8,8]"


def annotated(
    body: str, inputs: str = IMAGE, skip: tuple[str, ...] = ()
) -> tuple[Graph, dict[object, Layer], Placement]:
    graph = parse(f"graph ({inputs}) -> (y) {{ {CONSTANTS} {body} }}")
    chosen = {n: layer for n, layer in layers(graph) if isinstance(layer, Layer) and n.output.name not in skip}
    means_to_pools(graph)
    swishes_to_products(graph)
    chosen = matmuls_to_gemms(graph, chosen)
    return graph, chosen, place(graph, chosen)


def pairs(body: str, inputs: str = IMAGE, skip: tuple[str, ...] = ()) -> dict[str, bool]:
    """The names of the quantized values, and whether an int8 kernel gives them."""
    return {v.name: kernel for v, kernel in annotated(body, inputs, skip)[2].quantized.items()}


def sources(body: str) -> dict[str, str]:
    """For each quantized value the one whose scale it takes."""
    placement = annotated(body)[2]
    return {v.name: placement.source(v).name for v in placement.quantized}


def inserted(body: str, inputs: str = IMAGE) -> Graph:
    graph, chosen, placement = annotated(body, inputs)
    parameters = insertion.activation_parameters(placement, dict.fromkeys(placement.sources(), Range(0.0, 255.0)))
    weights = {n: scheme.weight(layer.amplitude, layer.axis, 1.0, None) for n, layer in chosen.items()}
    insertion.erase_unused(insertion.insert(graph, placement, chosen, parameters, weights).values())
    verify(graph)
    return graph


def check(before: str, after: str, inputs: str = IMAGE) -> None:
    """Compares texts; what a constant holds does not count here, only its type and place."""
    assert skeleton(inserted(before, inputs)) == skeleton(parse(f"graph ({inputs}) -> (y) {{ {after} }}"))


def test_a_convolution_is_quantized_around_its_relu():
    check(
        before=f"""
          %1 = Conv(%x, @w, @b) {CONV}
          %2 = Relu(%1) {SAME}
          return %2
        """,
        after="""
          @w : i8[12,12,3,3]
          @ws : f32[12]
          @wz : i8[12]
          @b : i32[12]
          @bs : f32[12]
          %1 = QuantizeLinear(%x, f32[]{1}, u8[]{0}) : u8[N,12,8,8]
          %2 = DequantizeLinear(%1, f32[]{1}, u8[]{0}) : f32[N,12,8,8]
          %3 = DequantizeLinear(@w, @ws, @wz) {axis=0} : f32[12,12,3,3]
          %4 = DequantizeLinear(@b, @bs) {axis=0} : f32[12]
          %5 = Conv(%2, %3, %4) {pads=[1,1,1,1]} : f32[N,12,8,8]
          %6 = Relu(%5) : f32[N,12,8,8]
          %7 = QuantizeLinear(%6, f32[]{1}, u8[]{0}) : u8[N,12,8,8]
          %8 = DequantizeLinear(%7, f32[]{1}, u8[]{0}) : f32[N,12,8,8]
          return %8
        """,
    )


def test_a_gemm_gives_floats_and_its_bias_is_int32():
    check(
        inputs="%x: f32[N,12]",
        before="""
          %1 = Gemm(%x, @m, @c) : f32[N,20]
          return %1
        """,
        after="""
          @m : i8[12,20]
          @ms : f32[20]
          @mz : i8[20]
          @c : i32[20]
          @cs : f32[20]
          %1 = QuantizeLinear(%x, f32[]{1}, u8[]{0}) : u8[N,12]
          %2 = DequantizeLinear(%1, f32[]{1}, u8[]{0}) : f32[N,12]
          %3 = DequantizeLinear(@m, @ms, @mz) {axis=1} : f32[12,20]
          %4 = DequantizeLinear(@c, @cs) {axis=0} : f32[20]
          %5 = Gemm(%2, %3, %4) : f32[N,20]
          return %5
        """,
    )


def test_a_matmul_of_rank_three_and_its_bias_become_a_gemm_over_rows():
    check(
        inputs="%x: f32[N,7,12]",
        before="""
          %1 = MatMul(%x, @m) : f32[N,7,20]
          %2 = Add(@c, %1) : f32[N,7,20]
          return %2
        """,
        after="""
          @m : i8[12,20]
          @ms : f32[20]
          @mz : i8[20]
          @c : i32[20]
          @cs : f32[20]
          %1 = Reshape(%x, i64[2]{-1,12}) : f32[N*7,12]
          %2 = QuantizeLinear(%1, f32[]{1}, u8[]{0}) : u8[N*7,12]
          %3 = DequantizeLinear(%2, f32[]{1}, u8[]{0}) : f32[N*7,12]
          %4 = DequantizeLinear(@m, @ms, @mz) {axis=1} : f32[12,20]
          %5 = DequantizeLinear(@c, @cs) {axis=0} : f32[20]
          %6 = Gemm(%3, %4, %5) : f32[N*7,20]
          %7 = Reshape(%6, i64[3]{-1,7,20}) : f32[N,7,20]
          return %7
        """,
    )


def test_an_input_of_three_channels_gets_a_fourth_one_of_zeros():
    check(
        inputs="%x: f32[N,3,8,8], %w: f32[]",
        before="""
          @v : f32[12,3,3,3] = random(6)
          %1 = Conv(%x, @v) {pads=[1,1,1,1]} : f32[N,12,8,8]
          return %1
        """,
        after="""
          @v : i8[12,4,3,3]
          @vs : f32[12]
          @vz : i8[12]
          %1 = QuantizeLinear(%x, f32[]{1}, u8[]{0}) : u8[N,3,8,8]
          %2 = Pad(%1, i64[8]{0,0,0,0,0,1,0,0}, u8[]{0}) : u8[N,4,8,8]
          %3 = DequantizeLinear(%2, f32[]{1}, u8[]{0}) : f32[N,4,8,8]
          %4 = DequantizeLinear(@v, @vs, @vz) {axis=0} : f32[12,4,3,3]
          %5 = Conv(%3, %4) {pads=[1,1,1,1]} : f32[N,12,8,8]
          %6 = QuantizeLinear(%5, f32[]{1}, u8[]{0}) : u8[N,12,8,8]
          %7 = DequantizeLinear(%6, f32[]{1}, u8[]{0}) : f32[N,12,8,8]
          return %7
        """,
    )


def test_a_value_that_several_layers_use_has_one_pair():
    body = f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = Conv(%x, @w) {CONV}
      %3 = Add(%1, %2) {SAME}
      return %3
    """
    assert list(pairs(body)) == ["x", "1", "2"]
    assert sum(node.op == "QuantizeLinear" for node in inserted(body)) == 3


def test_three_matmuls_of_one_input_share_its_pair_and_its_reshape():
    graph, _, placement = annotated(
        """
          %1 = MatMul(%x, @m) : f32[N,7,20]
          %2 = MatMul(%x, @m) : f32[N,7,20]
          %3 = MatMul(%x, @m) : f32[N,7,20]
          %4 = Add(%1, %2) : f32[N,7,20]
          %5 = Add(%4, %3) : f32[N,7,20]
          return %5
        """,
        inputs="%x: f32[N,7,12]",
    )
    assert len(placement.quantized) == 1
    assert sum(node.op == "Reshape" for node in graph) == 1 + 3


def test_a_float_user_of_a_float_value_takes_it_unquantized():
    graph = inserted(
        f"""
          %1 = Softplus(%x) {SAME}
          %2 = Conv(%1, @w) {CONV}
          %3 = Sub(%1, %2) {SAME}
          return %3
        """
    )
    last = graph.outputs[0].node
    assert last is not None
    assert [v.op for v in last.inputs if v is not None] == ["Softplus", "DequantizeLinear"]


def test_a_residual_addition_between_convolutions_stays_in_u8():
    found = pairs(f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = Conv(%1, @w) {CONV}
      %3 = Add(%2, %1) {SAME}
      %4 = Relu(%3) {SAME}
      %5 = Conv(%4, @w) {CONV}
      return %5
    """)
    assert found == {"x": False, "1": True, "2": True, "4": True, "5": True}


def test_an_addition_at_the_end_of_the_network_is_computed_in_float():
    found = pairs(f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = Conv(%1, @w) {CONV}
      %3 = Add(%2, %1) {SAME}
      return %3
    """)
    assert found == {"x": False, "1": True, "2": True}


def test_an_addition_with_a_constant_has_no_kernel_and_stays_float():
    found = pairs(f"""
      @k : f32[12,1,1] = random(9)
      %1 = Conv(%x, @w) {CONV}
      %2 = Add(%1, @k) {SAME}
      %3 = Conv(%2, @w) {CONV}
      return %3
    """)
    assert found == {"x": False, "1": True, "2": False, "3": True}


@pytest.mark.parametrize(
    ("activation", "joins"),
    [("LeakyRelu", True), ("Sigmoid", True), ("HardSwish", False), ("Elu", False), ("Tanh", False)],
)
def test_a_convolution_is_quantized_in_front_of_an_activation_that_does_not_vanish(activation: str, joins: bool):
    found = pairs(f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = {activation}(%1) {SAME}
      %3 = Conv(%2, @w) {CONV}
      return %3
    """)
    assert found == {"x": False, "1": True, "2": joins, "3": True}


def test_a_relu_is_not_absorbed_where_something_else_uses_what_it_takes():
    found = pairs(f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = Relu(%1) {SAME}
      %3 = Conv(%2, @w) {CONV}
      %4 = Sub(%3, %1) {SAME}
      return %4
    """)
    assert found == {"x": False, "1": True, "2": False, "3": True}


def test_an_operator_that_nobody_knows_is_left_alone():
    found = pairs(f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = com.example::Mystery(%1) {SAME}
      %3 = Conv(%2, @w) {CONV}
      return %3
    """)
    assert found == {"x": False, "1": True, "2": False, "3": True}


def test_softmax_and_layer_normalization_stay_float():
    found = pairs(
        """
          @s : f32[20] = random(7)
          @r : f32[20,12] = random(8)
          %1 = Gemm(%x, @m, @c) : f32[N,20]
          %2 = LayerNormalization(%1, @s) : f32[N,20]
          %3 = Softmax(%2) : f32[N,20]
          %4 = Gemm(%3, @r) : f32[N,12]
          return %4
        """,
        inputs="%x: f32[N,12]",
    )
    assert found == {"x": False, "3": False}


def test_pooling_at_the_end_runs_in_u8_since_it_shrinks_what_must_be_dequantized():
    found = pairs("""
      %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
      %2 = GlobalAveragePool(%1) : f32[N,12,1,1]
      %3 = Softplus(%2) : f32[N,12,1,1]
      return %3
    """)
    assert found == {"x": False, "1": True, "2": True}


def test_a_float_pool_in_front_of_an_int8_layer_is_kept_apart_from_its_quantize():
    graph = inserted("""
      %1 = Softplus(%x) : f32[N,12,8,8]
      %2 = MaxPool(%1) {kernel_shape=[2,2], strides=[2,2]} : f32[N,12,4,4]
      %3 = Conv(%2, @w) {pads=[1,1,1,1]} : f32[N,12,4,4]
      return %3
    """)
    assert [node.op for node in graph][:4] == ["Softplus", "MaxPool", "Max", "QuantizeLinear"]


def test_a_spatial_mean_becomes_a_pool_between_int8_layers():
    graph, _, placement = annotated(
        """
          %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
          %2 = ReduceMean(%1, i64[2]{-1,2}) {keepdims=0} : f32[N,12]
          %3 = Gemm(%2, @m, @c) : f32[N,20]
          return %3
        """
    )
    assert [node.op for node in graph] == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert [(v.op, kernel) for v, kernel in placement.quantized.items()] == [
        ("<entry>", False), ("Conv", True), ("GlobalAveragePool", True), ("Flatten", True),
    ]  # fmt: skip


def test_swish_becomes_a_product_between_int8_layers():
    graph, _, placement = annotated(
        """
          %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
          %2 = Swish(%1) : f32[N,12,8,8]
          %3 = Conv(%2, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
          return %3
        """
    )
    assert [node.op for node in graph] == ["Conv", "Sigmoid", "Mul", "Conv"]
    assert [v.op for v in placement.quantized] == ["<entry>", "Conv", "Sigmoid", "Mul", "Conv"]


def test_operators_that_move_elements_share_the_scale_of_what_they_move():
    found = sources("""
      %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
      %2 = MaxPool(%1) {kernel_shape=[2,2], strides=[2,2]} : f32[N,12,4,4]
      %3 = Reshape(%2, i64[5]{0,2,6,4,4}) : f32[N,2,6,4,4]
      %4 = Transpose(%3) {perm=[0,2,1,3,4]} : f32[N,6,2,4,4]
      %5 = Reshape(%4, i64[4]{0,12,4,4}) : f32[N,12,4,4]
      %6 = Conv(%5, @w) {pads=[1,1,1,1]} : f32[N,12,4,4]
      return %6
    """)
    assert found == {"x": "x", "1": "1", "2": "1", "3": "1", "4": "1", "5": "1", "6": "6"}


def test_what_only_a_concat_uses_takes_the_scale_of_the_result():
    found = sources("""
      @k : f32[12,24,1,1] = random(9)
      %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
      %2 = Relu(%1) : f32[N,12,8,8]
      %3 = Conv(%2, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
      %4 = Relu(%3) : f32[N,12,8,8]
      %5 = Concat(%2, %4) {axis=1} : f32[N,24,8,8]
      %6 = Conv(%5, @k) : f32[N,12,8,8]
      return %6
    """)
    assert found == {"x": "x", "2": "2", "4": "5", "5": "5", "6": "6"}


def test_a_concat_of_limited_and_unlimited_values_shares_no_scale_with_the_limited_one():
    """Else the zero point were not at the Relu's end, the Relu would not vanish, and the convolution would stay float."""
    body = """
      @k : f32[12,24,1,1] = random(9)
      %1 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
      %2 = Relu(%1) : f32[N,12,8,8]
      %3 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,12,8,8]
      %4 = Concat(%2, %3) {axis=1} : f32[N,24,8,8]
      %5 = Conv(%4, @k) : f32[N,12,8,8]
      return %5
    """
    assert sources(body) == {"x": "x", "2": "2", "3": "4", "4": "4", "5": "5"}


def test_a_layer_left_in_float_is_fed_and_used_in_float():
    body = f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = Conv(%1, @w) {CONV}
      %3 = Conv(%2, @w) {CONV}
      return %3
    """
    assert pairs(body, skip=("2",)) == {"x": False, "1": True, "2": False, "3": True}
    assert pairs(body, skip=("1", "3")) == {"1": False, "2": True}


def test_a_branch_from_a_float_layer_is_quantized_for_a_u8_addition_that_only_int8_layers_use():
    body = f"""
      %1 = Conv(%x, @w) {CONV}
      %2 = Softplus(%x) {SAME}
      %3 = Add(%1, %2) {SAME}
      %4 = Conv(%3, @w) {CONV}
      return %4
    """
    assert pairs(body) == {"x": False, "1": True, "2": False, "3": True, "4": True}


def test_depthwise_convolutions_are_not_padded():
    graph = inserted("""
      @e : f32[6,1,3,3] = random(9)
      %1 = Conv(%x, @e) {group=6, pads=[1,1,1,1]} : f32[N,6,8,8]
      return %1
    """, inputs="%x: f32[N,6,8,8]")  # fmt: skip
    assert not any(node.op == "Pad" for node in graph)


@pytest.mark.parametrize(
    ("node", "interval"),
    [
        ("Relu(%x)", Range(0.0, math.inf)),
        ("Clip(%x, f32[]{0}, f32[]{6})", Range(0.0, 6.0)),
        ("Clip(%x, f32[]{-1}, f32[]{1})", Range(-1.0, 1.0)),
        ("Clip(%x, _, f32[]{6})", Range(-math.inf, 6.0)),
        ("Clip(%x, f32[]{1}, f32[]{6})", None),
        ("Clip(%x, f32[]{0}, %high)", None),
        ("Softplus(%x)", None),
    ],
)
def test_the_interval_that_a_clip_leaves_is_known_where_it_is_constant_and_holds_zero(
    node: str, interval: Range | None
):
    graph = parse(f"graph (%x: f32[N], %high: f32[]) -> (y) {{ %1 = {node} : f32[N] return %1 }}")
    maker = graph.outputs[0].node
    assert maker is not None
    assert clip_range(maker) == interval
    assert limit(graph.outputs[0]) == interval


RESIDUAL = """
graph @g(%x: f32[N,8,6,6]) -> (y) {
  @a : f32[8,8,3,3] = random(1)
  @b : f32[8,8,3,3] = random(2)
  @c : f32[8,8,3,3] = random(3)
  %1 = Conv(%x, @a) {pads=[1,1,1,1]} : f32[N,8,6,6]
  %2 = Relu(%1) : f32[N,8,6,6]
  %3 = Conv(%2, @b) {pads=[1,1,1,1]} : f32[N,8,6,6]
  %4 = Add(%3, %2) : f32[N,8,6,6]
  %5 = Relu(%4) : f32[N,8,6,6]
  %6 = Conv(%5, @c) {pads=[1,1,1,1]} : f32[N,8,6,6]
  return %6
}
"""


def test_for_openvino_only_what_integer_nodes_read_is_quantized():
    graph = parse(RESIDUAL)
    chosen = {node: layer for node, layer in layers(graph) if isinstance(layer, Layer)}
    last = graph.outputs[0]
    ours, other = place(graph, chosen), place(graph, chosen, TARGETS["openvino-cpu"])
    assert ours.quantized[last]
    assert list(other.quantized) == [v for v in ours.quantized if v is not last]


def test_for_openvino_a_product_of_two_values_stays_float():
    graph = parse(RESIDUAL.replace("Add(", "Mul("))
    chosen = {node: layer for node, layer in layers(graph) if isinstance(layer, Layer)}
    product = next(n for n in graph if n.op == "Mul")
    assert product in place(graph, chosen).takers
    assert product not in place(graph, chosen, TARGETS["openvino-cpu"]).takers


BETWEEN = """
graph @g(%x: f32[2,8,12,12]) -> (y) {
  @a : f32[8,8,3,3] = random(1)
  @b : f32[8,8,3,3] = random(2)
  @c : f32[8,8,3,3] = random(3)
  %1 = Conv(%x, @a) {pads=[1,1,1,1]} : f32[2,8,12,12]  # first
  %2 = Relu(%1) : f32[2,8,12,12]
  %3 = Conv(%2, @b) {pads=[1,1,1,1]} : f32[2,8,12,12]  # middle
  %4 = Relu(%3) : f32[2,8,12,12]
  %5 = Conv(%4, @c) {pads=[1,1,1,1]} : f32[2,8,12,12]  # last
  return %5
}
"""


def test_a_layer_left_in_float_between_int8_layers_is_not_rounded_by_the_runtime():
    model = Model(parse(BETWEEN), source_opset=17)
    samples = [{"x": np.random.default_rng(0).standard_normal((2, 8, 12, 12)).astype(np.float32)}]
    Quantize(skip=("middle",)).run(model, Context(samples=samples))
    run = [node.op_type for node in optimised(model).node]
    assert run.count("QLinearConv") == 2
    assert sum(op in ("Conv", "FusedConv") for op in run) == 1
    found, plain = (OrtRunner(model, optimize=o).run(samples[0])["y"] for o in (True, False))
    assert compare(plain, found).sqnr_db > 40


def test_only_float_layers_between_two_pairs_are_kept_apart():
    model = Model(parse(BETWEEN), source_opset=17)
    samples = [{"x": np.random.default_rng(0).standard_normal((2, 8, 12, 12)).astype(np.float32)}]
    for skip, count in ((("first",), 0), (("last",), 0), (("middle",), 1), (("middle", "last"), 0)):
        copy = model.clone()
        Quantize(skip=skip).run(copy, Context(samples=samples))
        assert sum(n.op == "Max" for n in copy.graph) == count
    Quantize(skip=("middle",), target="openvino-cpu").run(model, Context(samples=samples))
    assert not [n for n in model.graph if n.op == "Max"]
