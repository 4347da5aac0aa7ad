"""What each axis rule does to a small network: shapes and operands before and after half of the channels are gone.

Every case also runs the mask oracle on every value, and compares the outputs with the masked model.
"""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner
from tersor.ir import UsageError, skeleton
from tersor.transforms.base import Context, Outcome
from tersor.transforms.manager import run_passes
from tersor.transforms.prune import Prune


def prune(model, **options: object) -> Outcome:
    (step,) = run_passes(model, [Prune(**options)], Context(seed=1))  # pyright: ignore[reportArgumentType]
    assert step.parity is not None
    assert step.parity.passed
    return step.outcome


def becomes(graph, model, before: str, after: str, **options: object) -> Outcome:
    pruned = model(before)
    outcome = prune(pruned, **options)
    assert skeleton(pruned.graph) == skeleton(graph(after))
    assert outcome.checks["mask_oracle"].passed
    assert outcome.checks["mask_oracle"].changed > 1e-3
    return outcome


def between(constants: str, body: str, stem: int, head: int) -> str:
    """A convolution that makes `stem` channels %a, a body that makes %b, and a convolution that reads its `head`
    channels.
    """
    return f"""graph(%x: f32[N,3,8,8]) -> (y) {{
      @stem : f32[{stem},3,1,1] = random(1)
      @bias : f32[{stem}] = random(2)
      {constants}
      @head : f32[5,{head},1,1] = random(9)
      %a = Conv(%x, @stem, @bias)
      {body}
      %y = Conv(%b, @head)
      return %y
    }}"""


CASES = {
    "a function of each element passes channels, also where f(0) is not 0": (
        ("", "%c = Sigmoid(%a) %d = Softplus(%c) %e = Exp(%d) %b = HardSwish(%e)", 8, 8),
        ("", "%c = Sigmoid(%a) %d = Softplus(%c) %e = Exp(%d) %b = HardSwish(%e)", 4, 4),
    ),
    "a clip away from zero is harmless": (
        ("", "%b = Clip(%a, f32[]{0.5}, f32[]{6.0})", 8, 8),
        ("", "%b = Clip(%a, f32[]{0.5}, f32[]{6.0})", 4, 4),
    ),
    "a constant of one entry per channel follows it": (
        ("@c : f32[8,1,1] = random(3) @d : f32[1,8,1,1] = random(4)", "%c = Mul(%a, @c) %b = Add(@d, %c)", 8, 8),
        ("@c : f32[4,1,1] @d : f32[1,4,1,1]", "%c = Mul(%a, @c) %b = Add(@d, %c)", 4, 4),
    ),
    "a constant divisor does not divide by the mask's zeros": (
        ("@c : f32[8,1,1] = random(3)", "%b = Div(%a, @c)", 8, 8),
        ("@c : f32[4,1,1]", "%b = Div(%a, @c)", 4, 4),
    ),
    "PRelu slopes follow channels": (
        ("@c : f32[8,1,1] = random(3)", "%b = PRelu(%a, @c)", 8, 8),
        ("@c : f32[4,1,1]", "%b = PRelu(%a, @c)", 4, 4),
    ),
    "BatchNormalization's four vectors follow channels": (
        (
            "@g : f32[8] = random(3) @h : f32[8] = random(4) @m : f32[8] = random(5) @v : f32[8] = [1,2,3,4,5,6,7,8]",
            "%b = BatchNormalization(%a, @g, @h, @m, @v)", 8, 8,
        ),
        ("@g : f32[4] @h : f32[4] @m : f32[4] @v : f32[4]", "%b = BatchNormalization(%a, @g, @h, @m, @v)", 4, 4),
    ),
    "InstanceNormalization's scale and bias follow channels": (
        ("@g : f32[8] = random(3) @h : f32[8] = random(4)", "%b = InstanceNormalization(%a, @g, @h)", 8, 8),
        ("@g : f32[4] @h : f32[4]", "%b = InstanceNormalization(%a, @g, @h)", 4, 4),
    ),
    "GroupNormalization loses whole groups": (
        ("@g : f32[8] = random(3) @h : f32[8] = random(4)", "%b = GroupNormalization(%a, @g, @h) {num_groups=4}", 8, 8),
        ("@g : f32[4] @h : f32[4]", "%b = GroupNormalization(%a, @g, @h) {num_groups=2}", 4, 4),
    ),
    "a depthwise convolution follows, and its number of groups": (
        ("@w : f32[8,1,3,3] = random(3)", "%b = Conv(%a, @w) {group=8, pads=[1,1,1,1]}", 8, 8),
        ("@w : f32[4,1,3,3]", "%b = Conv(%a, @w) {group=4, pads=[1,1,1,1]}", 4, 4),
    ),
    "a depthwise convolution with a multiplier keeps all outputs of an input": (
        ("@w : f32[16,1,3,3] = random(3)", "%b = Conv(%a, @w) {group=8}", 8, 16),
        ("@w : f32[8,1,3,3]", "%b = Conv(%a, @w) {group=4}", 4, 8),
    ),
    "a convolution of few groups loses the same positions in each": (
        ("@w : f32[16,8,1,1] = random(3) @v : f32[16] = random(4)", "%b = Conv(%a, @w, @v) {group=2}", 16, 16),
        ("@w : f32[8,4,1,1] @v : f32[8]", "%b = Conv(%a, @w, @v) {group=2}", 8, 8),
    ),
    "a convolution of many groups loses whole ones": (
        ("@w : f32[24,2,1,1] = random(3) @v : f32[24] = random(4)", "%b = Conv(%a, @w, @v) {group=8}", 16, 24),
        ("@w : f32[12,2,1,1] @v : f32[12]", "%b = Conv(%a, @w, @v) {group=4}", 8, 12),
    ),
    "ConvTranspose has its outputs on the second axis": (
        ("@w : f32[8,6,2,2] = random(3) @v : f32[6] = random(4)", "%b = ConvTranspose(%a, @w, @v) {strides=[2,2]}", 8,
        6), ("@w : f32[4,3,2,2] @v : f32[3]", "%b = ConvTranspose(%a, @w, @v) {strides=[2,2]}", 4, 3),
    ),
    "a depthwise ConvTranspose follows": (
        ("@w : f32[8,2,2,2] = random(3) @v : f32[16] = random(4)", "%b = ConvTranspose(%a, @w, @v) {group=8}", 8, 16),
        ("@w : f32[4,2,2,2] @v : f32[8]", "%b = ConvTranspose(%a, @w, @v) {group=4}", 4, 8),
    ),
    "a ConvTranspose of few groups loses the same positions in each": (
        ("@w : f32[16,4,2,2] = random(3) @v : f32[8] = random(4)", "%b = ConvTranspose(%a, @w, @v) {group=2}", 16, 8),
        ("@w : f32[8,2,2,2] @v : f32[4]", "%b = ConvTranspose(%a, @w, @v) {group=2}", 8, 4),
    ),
    "pools pass channels": (
        ("", "%c = MaxPool(%a) {kernel_shape=[2,2]} %b = AveragePool(%c) {kernel_shape=[2,2]}", 8, 8),
        ("", "%c = MaxPool(%a) {kernel_shape=[2,2]} %b = AveragePool(%c) {kernel_shape=[2,2]}", 4, 4),
    ),
    "global pools pass channels": (
        ("", "%c = GlobalMaxPool(%a) %d = GlobalAveragePool(%a) %b = Sub(%c, %d)", 8, 8),
        ("", "%c = GlobalMaxPool(%a) %d = GlobalAveragePool(%a) %b = Sub(%c, %d)", 4, 4),
    ),
    "Resize by scales passes channels": (
        ("", "%b = Resize(%a, _, f32[4]{1.0,1.0,2.0,2.0})", 8, 8),
        ("", "%b = Resize(%a, _, f32[4]{1.0,1.0,2.0,2.0})", 4, 4),
    ),
    "Resize to sizes states those of space only": (
        ("", "%s = Shape(%a) {start=0, end=2} %t = Concat(%s, i64[2]{16,16}) {axis=0} %b = Resize(%a, _, _, %t)", 8, 8),
        ("", "%b = Resize(%a, _, _, i64[2]{16,16}) {axes=[2,3]}", 4, 4),
    ),
    "Concat puts channels one after the other": (
        ("@w : f32[6,8,1,1] = random(3)", "%c = Conv(%a, @w) %b = Concat(%a, %c, %a) {axis=1}", 8, 22),
        ("@w : f32[3,4,1,1]", "%c = Conv(%a, @w) %b = Concat(%a, %c, %a) {axis=1}", 4, 11),
    ),
    "Split gives each part its channels, and new sizes": (
        (
            "@w : f32[4,4,1,1] = random(3)",
            "%c, %d = Split(%a) {axis=1, num_outputs=2} %e = Conv(%c, @w) %b = Concat(%e, %d) {axis=1}", 8, 8,
        ),
        (
            "@w : f32[2,2,1,1]",
            "%c, %d = Split(%a, i64[2]{2,2}) {axis=1} %e = Conv(%c, @w) %b = Concat(%e, %d) {axis=1}", 4, 4,
        ),
    ),
    "channels between zeros of a Pad go, and so do zeros": (
        (
            "@w : f32[16,8,1,1] = random(3)",
            "%c = Pad(%a, i64[8]{0,4,0,0,0,4,0,0}) %d = Conv(%a, @w) %b = Add(%c, %d)", 8, 16,
        ),
        (
            "@w : f32[8,4,1,1]",
            "%c = Pad(%a, i64[8]{0,1,0,0,0,3,0,0}) %d = Conv(%a, @w) %b = Add(%c, %d)", 4, 8,
        ),
    ),
    "Transpose carries axes along": (
        ("", "%c = Transpose(%a) {perm=[0,2,3,1]} %d = Relu(%c) %b = Transpose(%d) {perm=[0,3,1,2]}", 8, 8),
        ("", "%c = Transpose(%a) {perm=[0,2,3,1]} %d = Relu(%c) %b = Transpose(%d) {perm=[0,3,1,2]}", 4, 4),
    ),
    "Squeeze and Unsqueeze shift axes": (
        ("", "%c = GlobalAveragePool(%a) %d = Squeeze(%c, i64[2]{2,3}) %b = Unsqueeze(%d, i64[2]{-1,-2})", 8, 8),
        ("", "%c = GlobalAveragePool(%a) %d = Squeeze(%c, i64[2]{2,3}) %b = Unsqueeze(%d, i64[2]{-1,-2})", 4, 4),
    ),
    "DepthToSpace ties the channels of one output": (
        ("", "%b = DepthToSpace(%a) {blocksize=2}", 16, 4),
        ("", "%b = DepthToSpace(%a) {blocksize=2}", 8, 2),
    ),
    "DepthToSpace in column-row-depth order does, too": (
        ("", '%b = DepthToSpace(%a) {blocksize=2, mode="CRD"}', 16, 4),
        ("", '%b = DepthToSpace(%a) {blocksize=2, mode="CRD"}', 8, 2),
    ),
    "SpaceToDepth repeats channels": (
        ("", "%b = SpaceToDepth(%a) {blocksize=2}", 8, 32),
        ("", "%b = SpaceToDepth(%a) {blocksize=2}", 4, 16),
    ),
    "Tile repeats channels": (
        ("", "%b = Tile(%a, i64[4]{1,2,1,1})", 8, 16),
        ("", "%b = Tile(%a, i64[4]{1,2,1,1})", 4, 8),
    ),
    "Expand passes axes that it does not repeat": (
        ("", "%c = GlobalAveragePool(%a) %b = Expand(%c, i64[4]{1,8,4,4})", 8, 8),
        ("", "%c = GlobalAveragePool(%a) %b = Expand(%c, i64[4]{1,4,4,4})", 4, 4),
    ),
    "a reduction over space passes channels": (
        ("", "%b = ReduceMean(%a, i64[2]{2,3})", 8, 8),
        ("", "%b = ReduceMean(%a, i64[2]{2,3})", 4, 4),
    ),
    "a sum over channels that are zero where they are masked may lose them": (
        ("@w : f32[6,1,1,1] = random(3)", "%c = Relu(%a) %d = ReduceSum(%c, i64[1]{1}) %b = Conv(%d, @w)", 8, 6),
        ("@w : f32[3,1,1,1]", "%c = Relu(%a) %d = ReduceSum(%c, i64[1]{1}) %b = Conv(%d, @w)", 4, 3),
    ),
    "a channel shuffle is followed exactly": (
        (
            "@w : f32[16,1,3,3] = random(3)",
            """%c = Reshape(%a, i64[5]{0,2,8,8,8}) %d = Transpose(%c) {perm=[0,2,1,3,4]}
               %e = Reshape(%d, i64[4]{-1,16,8,8}) %b = Conv(%e, @w) {group=16}""", 16, 16,
        ),
        (
            "@w : f32[8,1,3,3]",
            """%c = Reshape(%a, i64[5]{0,2,4,8,8}) %d = Transpose(%c) {perm=[0,2,1,3,4]}
               %e = Reshape(%d, i64[4]{-1,8,8,8}) %b = Conv(%e, @w) {group=8}""", 8, 8,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rule(graph, model, case: str):
    before, after = CASES[case]
    becomes(graph, model, between(*before), between(*after))


def test_a_slice_takes_its_part_of_the_channels_and_counts_in_what_is_left(model):
    pruned = model(
        between(
            "@w : f32[6,5,1,1] = random(3)", "%c = Slice(%a, i64[1]{3}, i64[1]{100}, i64[1]{1}) %b = Conv(%c, @w)", 8, 6
        )
    )
    prune(pruned)
    part = next(n for n in pruned.graph if n.op == "Slice")
    (start,), (end,) = (part.operand(i).tensor.numpy().tolist() for i in (1, 2))
    assert part.operand(0).shape[1] < 8
    assert end - start == part.output.shape[1]
    assert (
        part.output.shape[1]
        == next(n for n in pruned.graph if n.op == "Conv" and n.input(0) is part.output).operand(1).shape[1]
    )


def test_a_backward_slice_reverses_what_is_left(model):
    pruned = model(between("", "%b = Slice(%a, i64[1]{-1}, i64[1]{-100}, i64[1]{1}, i64[1]{-1})", 8, 8))
    prune(pruned)
    assert next(n for n in pruned.graph if n.op == "Slice").output.shape[1] == 4


@pytest.mark.parametrize("first", [0, 1])
def test_a_slice_of_every_other_channel_takes_every_other_one_of_what_is_left(model, first):
    line = f"%b = Slice(%a, i64[1]{{{first}}}, i64[1]{{9223372036854775807}}, i64[1]{{1}}, i64[1]{{2}})"
    pruned = model(between("", line, 8, 4))
    prune(pruned)
    part = next(n for n in pruned.graph if n.op == "Slice")
    assert part.operand(0).shape[1] == 4
    assert part.output.shape[1] == 2
    assert [int(part.operand(i).tensor.numpy()[0]) for i in (1, 2, 4)] == [first, 4, 2]


def test_gates_and_values_that_lie_in_turns_go_in_pairs(model):
    line = """%c = Slice(%a, i64[1]{0}, i64[1]{100}, i64[1]{1}, i64[1]{2})
      %d = Slice(%a, i64[1]{1}, i64[1]{100}, i64[1]{1}, i64[1]{2}) %e = Sigmoid(%c) %b = Mul(%e, %d)"""
    pruned = model(between("", line, 8, 4))
    prune(pruned)
    assert next(n for n in pruned.graph if n.op == "Mul").output.shape[1] == 2


def test_channels_pass_a_fourier_transform_over_space(model):
    line = """%c = Unsqueeze(%a, i64[1]{4}) %d = DFT(%c, _, i64[]{3}) %e = Gather(%d, i64[]{0}) {axis=4}
      %b = Mul(%a, %e)"""
    pruned = model(between("", line, 8, 8))
    prune(pruned)
    assert next(n for n in pruned.graph if n.op == "DFT").output.shape[1] == 4


def test_constant_indices_of_a_gather_count_in_what_is_left(model):
    pruned = model(
        between("@w : f32[4,3,1,1] = random(3)", "%c = Gather(%a, i64[3]{7,0,5}) {axis=1} %b = Conv(%c, @w)", 8, 4)
    )
    prune(pruned, ratio=0.3)
    node = next(n for n in pruned.graph if n.op == "Gather")
    left = node.operand(1).tensor.numpy()
    assert node.operand(0).shape[1] < 8
    assert left.max() < node.operand(0).shape[1]
    assert node.output.shape[1] == left.size


def test_a_channel_that_a_gather_takes_out_alone_stays(model):
    """Three of the seven others go."""
    body = "%c = Gather(%a, i64[]{3}) {axis=1} %d = Unsqueeze(%c, i64[1]{1}) %b = Add(%a, %d)"
    pruned = model(between("", body, 8, 8))
    prune(pruned)
    node = next(n for n in pruned.graph if n.op == "Gather")
    assert node.operand(0).shape[1] == 5
    assert 0 <= int(node.operand(1).tensor.numpy()) < 5


def test_flattening_keeps_the_positions_of_a_channel_together(graph, model):
    text = """graph(%x: f32[N,3,4,4]) -> (y) {{
      @w : f32[{0},3,1,1] = random(1)
      @v : f32[{1},5] = random(2)
      %a = Conv(%x, @w)
      %b = Flatten(%a)
      %y = MatMul(%b, @v)
      return %y
    }}"""
    becomes(graph, model, text.format(8, 128), text.format(4, 64))


def test_gemm_with_transposed_operands_and_a_row_bias(graph, model):
    text = """graph(%x: f32[6,N]) -> (y) {{
      @a : f32[6,{0}] = random(1)
      @b : f32[1,{0}] = random(2)
      @c : f32[5,{0}] = random(3)
      %h = Gemm(%x, @a, @b) {{transA=1}}
      %r = Tanh(%h)
      %y = Gemm(%r, @c) {{transB=1}}
      return %y
    }}"""
    becomes(graph, model, text.format(8), text.format(4))


def test_matmul_over_more_axes_and_a_vector(graph, model):
    text = """graph(%x: f32[N,T,6]) -> (y) {{
      @a : f32[6,{0}] = random(1)
      @b : f32[{0}] = random(2)
      @c : f32[{0}] = random(3)
      %h = MatMul(%x, @a)
      %i = Add(%h, @b)
      %r = Relu(%i)
      %y = MatMul(%r, @c)
      return %y
    }}"""
    becomes(graph, model, text.format(8), text.format(4))


def test_attention_loses_head_dimensions_where_both_operands_are_zero(graph, model):
    """Queries and keys come straight from masked weights, so that removed dimensions add zero to their products."""
    text = """graph(%x: f32[N,T,12]) -> (y) {{
      @q : f32[12,{0}] = random(1)
      @k : f32[12,{0}] = random(2)
      @v : f32[12,{0}] = random(3)
      @o : f32[{0},12] = random(4)
      %q = MatMul(%x, @q)
      %k = MatMul(%x, @k)
      %v = MatMul(%x, @v)
      %kt = Transpose(%k) {{perm=[0,2,1]}}
      %s = MatMul(%q, %kt)
      %p = Softmax(%s)
      %h = MatMul(%p, %v)
      %y = MatMul(%h, @o)
      return %y
    }}"""
    becomes(graph, model, text.format(16), text.format(8))


def test_an_embedding_table_loses_features_but_no_entries(graph, model):
    text = """graph(%i: i64[N,T]) -> (y) {{
      @table : f32[4,{0}] = random(1)
      @w : f32[{0},3] = random(2)
      %e = Gather(@table, %i)
      %y = MatMul(%e, @w)
      return %y
    }}"""
    becomes(graph, model, text.format(8), text.format(4))


def test_scales_of_quantized_weights_follow_channels(graph, model):
    text = """graph(%x: f32[N,3,8,8]) -> (y) {{
      @w : i8[{0},3,1,1]{1}
      @s : f32[{0}]{2}
      @head : f32[5,{0},1,1] = random(9)
      %w = DequantizeLinear(@w, @s) {{axis=0}}
      %a = Conv(%x, %w)
      %b = Relu(%a)
      %y = Conv(%b, @head)
      return %y
    }}"""
    weights = " = [" + ",".join(str((7 * i) % 23 - 11) for i in range(24)) + "]"
    becomes(graph, model, text.format(8, weights, " = [1,2,3,4,5,6,7,8]"), text.format(4, "", ""))


def test_a_constant_that_two_layers_share_is_cut_for_each(model):
    """The same bias serves a layer that may lose channels and one that makes the output."""
    pruned = model("""graph(%x: f32[N,3,4,4]) -> (y) {
      @w : f32[8,3,1,1] = random(1)
      @b : f32[8] = random(2)
      @v : f32[8,8,1,1] = random(3)
      %a = Conv(%x, @w, @b)
      %r = Relu(%a)
      %y = Conv(%r, @v, @b)
      return %y
    }""")
    prune(pruned)
    first, last = (n for n in pruned.graph if n.op == "Conv")
    assert (first.operand(2).shape, last.operand(2).shape) == ((4,), (8,))
    assert last.operand(1).shape == (8, 4, 1, 1)


def test_operands_that_keep_the_same_share_a_constant_again(model):
    pruned = model("""graph(%x: f32[N,3,4,4]) -> (y) {
      @w : f32[8,3,1,1] = random(1)
      @s : f32[8,1,1] = random(2)
      @v : f32[5,8,1,1] = random(3)
      %a = Conv(%x, @w)
      %b = Mul(%a, @s)
      %c = Relu(%b)
      %d = Mul(%c, @s)
      %y = Conv(%d, @v)
      return %y
    }""")
    prune(pruned)
    first, second = (n for n in pruned.graph if n.op == "Mul")
    assert first.operand(1) is second.operand(1)
    assert first.operand(1).shape == (4, 1, 1)


RECURRENT = """graph(%x: f32[6,2,5]) -> (y) {{
  @w : f32[{directions},{w},5] = random(1)
  @r : f32[{directions},{w},8] = random(2)
  @b : f32[{directions},{b}] = random(3)
  @head : f32[{head},4] = random(5)
  {body}
  %t = Transpose(%h) {{perm=[0,2,1,3]}}
  %f = Reshape(%t, i64[3]{{6,2,{head}}})
  %y = MatMul(%f, @head)
  return %y
}}"""


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize(("direction", "directions"), [("forward", 1), ("bidirectional", 2)])
def test_hidden_units_go_from_every_gate(model, op: str, gates: int, direction: str, directions: int):
    body = f'%h = {op}(%x, @w, @r, @b) {{hidden_size=8, direction="{direction}"}}'
    sizes = {"w": gates * 8, "b": gates * 16, "head": directions * 8, "directions": directions}
    made = model(RECURRENT.format(body=body, **sizes))
    outcome = prune(made)
    assert outcome.checks["mask_oracle"].changed > 1e-3
    found = {v.name: v.tensor.shape for v in made.graph.constants()}
    assert found["w"] == (directions, gates * 4, 5)
    assert found["r"] == (directions, gates * 4, 4)
    assert found["b"] == (directions, gates * 8)
    assert found["head"] == (directions * 4, 4)
    assert next(n for n in made.graph if n.op == op).int("hidden_size") == 4


def test_hidden_units_whose_activation_makes_something_of_zero_stay(model):
    body = '%h = RNN(%x, @w, @r, @b) {hidden_size=8, activations=["HardSigmoid"]}'
    made = model(RECURRENT.format(body=body, w=8, b=16, head=8, directions=1))
    outcome = Prune().run(made, Context())
    assert outcome.notes == ["no channel was removed"]


EINSUM = """graph(%x: f32[2,6,5]) -> (y) {{
  @w : f32[4,8,5] = random(1)
  @v : f32[4,8,5] = random(2)
  @o : f32[4,8,3] = random(3)
  %q = Einsum(%x, @w) {{equation="bne,hde->bhnd"}}
  %k = Einsum(%x, @v) {{equation="...ne,hde->...hnd"}}
  %s = Einsum(%q, %k) {{equation="bhnd,bhmd->bhnm"}}
  %p = Softmax(%s)
  %c = Einsum(%p, %k) {{equation="bhnm,bhmd->bnhd"}}
  %y = Einsum(%c, @o) {{equation="{last}"}}
  return %y
}}"""


def test_einsum_ties_equal_letters_and_lets_free_ones_go(model):
    made = model(EINSUM.format(last="bnhd,hdo->bno"))
    prune(made)
    assert {v.name: v.tensor.shape for v in made.graph.constants()} == {"w": (2, 4, 5), "v": (2, 4, 5), "o": (2, 4, 3)}


TOKEN = """graph(%x: f32[N,4,12]) -> (y) {{
  @token : f32[1,1,{width}] = random(1)
  @w : f32[12,{width}] = random(2)
  @v : f32[{width},5] = random(3)
  %n = Shape(%x) {{start=0, end=1}}
  %sizes = Concat(%n, i64[2]{{1,{width}}}) {{axis=0}}
  {made}
  %f = MatMul(%x, @w)
  %c = Concat(%t, %f) {{axis=1}}
  %s = Add(%c, %c)
  %y = MatMul(%s, @v)
  return %y
}}"""


@pytest.mark.parametrize(
    "made",
    [
        "%t = Expand(@token, %sizes)",
        "%o = Concat(%n, i64[2]{1,1}) {axis=0} %t = Tile(@token, %o)",
        "%z = ConstantOfShape(%sizes) %t = Add(@token, %z)",
    ],
)
def test_channels_go_through_sizes_of_which_only_some_are_computed(model, made: str):
    pruned = model(TOKEN.format(width=8, made=made))
    prune(pruned)
    found = {v.name: v.tensor.shape for v in pruned.graph.constants()}
    assert (found["token"], found["w"], found["v"]) == ((1, 1, 4), (12, 4), (4, 5))


def test_a_view_with_two_sizes_that_are_computed_lets_the_others_go(model):
    pruned = model("""graph(%x: f32[N,L,12]) -> (y) {
      @w : f32[12,16] = random(1)
      @v : f32[16,5] = random(2)
      %f = MatMul(%x, @w)
      %n = Shape(%x) {start=0, end=2}
      %heads = Concat(%n, i64[2]{2,8}) {axis=0}
      %whole = Concat(%n, i64[1]{16}) {axis=0}
      %h = Reshape(%f, %heads)
      %t = Transpose(%h) {perm=[0,2,1,3]}
      %r = Relu(%t)
      %b = Transpose(%r) {perm=[0,2,1,3]}
      %m = Reshape(%b, %whole)
      %y = MatMul(%m, @v)
      return %y
    }""")
    prune(pruned)
    found = {v.name: v.tensor.shape for v in pruned.graph.constants()}
    assert (found["w"], found["v"]) == ((12, 8), (8, 5))


def test_a_row_that_is_repeated_for_every_sample_loses_channels(model):
    pruned = model("""graph(%x: f32[N,4,12]) -> (y) {
      @row : f32[4,8] = random(1)
      @w : f32[12,8] = random(2)
      @v : f32[8,5] = random(3)
      %n = Shape(%x) {start=0, end=1}
      %sizes = Concat(%n, i64[2]{1,1}) {axis=0}
      %t = Expand(@row, %sizes)
      %f = MatMul(%x, @w)
      %c = Concat(%t, %f) {axis=1}
      %y = MatMul(%c, @v)
      return %y
    }""")
    prune(pruned)
    assert sizes(pruned).items() >= {"row": (4, 4), "w": (12, 4), "v": (4, 5)}.items()
    assert OrtRunner(pruned).run({"x": np.ones((3, 4, 12), np.float32)})["y"].shape == (3, 8, 5)


def test_a_shape_that_is_kept_for_later_is_no_obstacle(model):
    pruned = model("""graph(%x: f32[N,L,12]) -> (y) {
      @w : f32[12,16] = random(1)
      @v : f32[16,5] = random(2)
      %f = MatMul(%x, @w)
      %s = Shape(%f)
      %rows = Reshape(%f, i64[2]{-1,16})
      %r = Relu(%rows)
      %b = Reshape(%r, %s)
      %c = Cast(%s) {to=1}
      %m = ReduceMax(%c)
      %d = Div(%b, %m)
      %y = MatMul(%d, @v)
      return %y
    }""")
    prune(pruned)
    assert sizes(pruned).items() >= {"w": (12, 8), "v": (8, 5)}.items()


RESIDUAL = """graph(%x: i64[2,6]) -> (y) {{
  @table : f32[20,8] = random(1)
  @scale : f32[8] = random(2)
  @shift : f32[8] = random(3)
  @up : f32[8,12] = random(4)
  @down : f32[12,8] = random(5)
  @head : f32[8,3] = random(6)
  %e = Gather(@table, %x) {{axis=0}}
  {norm}
  %u = MatMul(%n, @up)
  %r = Relu(%u)
  %d = MatMul(%r, @down)
  %s = Add(%e, %d)
  %y = MatMul(%s, @head)
  return %y
}}"""


def sizes(model) -> dict[str, tuple[int, ...]]:
    return {v.name: v.tensor.shape for v in model.graph.constants()}


NORMS = {
    "LayerNormalization": "%n = LayerNormalization(%e, @scale, @shift) {axis=-1}",
    "LayerNormalization over two axes": "%n = LayerNormalization(%e, @scale, @shift) {axis=1}",
    "RMSNormalization": "%n = RMSNormalization(%e, @scale) {axis=-1}",
    "a mean": "%m = ReduceMean(%e, i64[1]{-1}) %n = Sub(%e, %m)",
    "a maximum": "%m = ReduceMax(%e, i64[1]{-1}) %n = Sub(%e, %m)",
    "a sum of what is not zero": "%g = Sigmoid(%e) %m = ReduceSum(%g, i64[1]{-1}) %n = Mul(%e, %m)",
}


@pytest.mark.parametrize("norm", NORMS)
def test_semantic_norms_let_the_residual_stream_go_and_the_masked_network_takes_statistics_of_what_stays(model, norm):
    text = RESIDUAL.format(norm=NORMS[norm])
    if "two axes" in norm:
        text = text.replace("@scale : f32[8]", "@scale : f32[6,8]").replace("@shift : f32[8]", "@shift : f32[6,8]")
    made = model(text)
    outcome = prune(made, norms="semantic")
    found = sizes(made)
    assert (found["table"], found["up"], found["down"], found["head"]) == ((20, 4), (4, 6), (6, 4), (4, 3))
    assert outcome.checks["mask_oracle"].changed > 1e-3


def test_strict_norms_keep_the_residual_stream_under_a_mean(model):
    made = model(RESIDUAL.format(norm=NORMS["LayerNormalization"]))
    prune(made)
    assert sizes(made)["table"] == (20, 8)


def test_zeros_go_from_a_mean_of_squares_also_where_norms_are_strict(model):
    """The scale takes in what the sum is divided by, so the result is that of the masked original, statistics too."""
    made = model(RESIDUAL.format(norm="%n = RMSNormalization(%e, @scale) {axis=-1, epsilon=0.1}"))
    prune(made)
    found = sizes(made)
    assert (found["table"], found["scale"], found["up"]) == ((20, 4), (4,), (4, 6))
    assert next(n for n in made.graph if n.op == "RMSNormalization").float("epsilon") == pytest.approx(0.2)


@pytest.mark.parametrize(("groups", "left"), [(2, (8, 2)), (8, (8, 4))])
def test_semantic_groups_lose_positions_where_there_are_few(model, groups: int, left: tuple[int, int]):
    made = model(between(
        "@g : f32[16] = random(3) @h : f32[16] = random(4)",
        f"%b = GroupNormalization(%a, @g, @h) {{num_groups={groups}}}", 16, 16,
    ))  # fmt: skip
    prune(made, norms="semantic")
    norm = next(n for n in made.graph if n.op == "GroupNormalization")
    assert (norm.operand(1).tensor.shape[0], norm.int("num_groups")) == left


def test_norms_of_another_name_are_refused():
    with pytest.raises(UsageError, match="norms 'loose'"):
        Prune(norms="loose")  # pyright: ignore[reportArgumentType]


PICKED = {
    "GatherND": ("%p = GatherND(%a, %i) {batch_dims=1}", "i64[2,1]"),
    "ScatterND": ("%p = ScatterND(%a, i64[1,2]{0,1}, @u)", "i64[2,1]"),
}


@pytest.mark.parametrize("op", PICKED)
def test_channels_pass_behind_what_is_indexed(model, op: str):
    body, indices = PICKED[op]
    made = model(f"""graph(%x: f32[2,4,5], %i: {indices}) -> (y) {{
      @w : f32[5,8] = random(1)
      @u : f32[1,8] = random(2)
      @v : f32[8,3] = random(3)
      %a = MatMul(%x, @w)
      {body}
      %y = MatMul(%p, @v)
      return %y
    }}""")
    prune(made)
    assert sizes(made)["w"] == (5, 4)
    assert sizes(made)["v"] == (4, 3)
    assert sizes(made).get("u", (1, 4)) == (1, 4)


def test_a_factor_of_a_view_that_turns_out_to_be_frozen_is_given_up_for_another(model):
    """GroupNormalization as older exporters write it: statistics of a group freeze the places in it, not the group."""
    made = model(between(
        "@one : f32[4] = [1,1,1,1] @zero : f32[4] = [0,0,0,0] @g : f32[8,1,1] = random(3) @h : f32[8,1,1] = random(4)",
        "%v = Reshape(%a, i64[3]{0,4,-1}) %i = InstanceNormalization(%v, @one, @zero) %s = Shape(%a) "
        "%w = Reshape(%i, %s) %m = Mul(%w, @g) %b = Add(%m, @h)",
        8, 8,
    ))  # fmt: skip
    prune(made)
    found = sizes(made)
    assert (found["stem"], found["one"], found["g"], found["head"]) == ((4, 3, 1, 1), (2,), (4, 1, 1), (5, 4, 1, 1))


def test_a_part_of_size_zero_is_no_axis_that_lost_everything(model):
    """Rotary embeddings of all dimensions cut off a rest that is empty."""
    made = model("""graph(%x: f32[2,5]) -> (y) {
      @w : f32[5,8] = random(1)
      @v : f32[8,3] = random(2)
      %a = MatMul(%x, @w)
      %p, %q = Split(%a, i64[2]{8,0}) {axis=1}
      %n = Neg(%q)
      %c = Concat(%p, %n) {axis=1}
      %y = MatMul(%c, @v)
      return %y
    }""")
    prune(made)
    assert sizes(made)["w"] == (5, 4)
