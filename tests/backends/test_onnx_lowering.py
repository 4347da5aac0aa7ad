"""Older opsets: every change of an operator has a row, and what is written for an old opset computes the same."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import defs
from tersor.backends.compare import compare
from tersor.backends.onnx import default_opset, to_proto
from tersor.backends.onnx.lowering import OLDEST_OPSET, expressible
from tersor.backends.onnx.lowering.decompositions import DECOMPOSITIONS
from tersor.backends.onnx.lowering.forms import FORMS, UNCHANGED
from tersor.backends.runners import OrtRunner, ReferenceRunner, synthesize
from tersor.ir import CANONICAL_OPSET, Model, UnsupportedError, UsageError, parse

OPSETS = range(OLDEST_OPSET, CANONICAL_OPSET + 1)

NEW = {
    ("ImageDecoder", 20), ("Optional", 15), ("OptionalGetElement", 15),
    ("OptionalHasElement", 15), ("RegexFullMatch", 20), ("StringConcat", 20), ("StringSplit", 20),
}  # fmt: skip
"""Operators that older opsets lack and that are refused there."""

HISTORY: dict[str, list[defs.OpSchema]] = defaultdict(list)
for _schema in sorted(defs.get_all_schemas_with_history(), key=lambda s: s.since_version):
    if _schema.domain == "":
        HISTORY[_schema.name].append(_schema)


def model(text: str, source_opset: int = 0) -> Model:
    return Model(parse(text), source_opset=source_opset)


def test_every_change_of_an_operator_since_the_oldest_opset_has_a_row() -> None:
    changes = {(n, s.since_version) for n, ss in HISTORY.items() for s in ss if OLDEST_OPSET < s.since_version <= 26}
    repairs = {("Attention", 22)}
    rows = set(FORMS) | (set(DECOMPOSITIONS) - repairs) | {(op, v) for v, ops in UNCHANGED.items() for op in ops}
    assert {(op, v) for op, v in changes - rows if v > 13} == NEW
    assert rows <= changes | {(n, s.since_version) for n, ss in HISTORY.items() for s in ss if s.since_version > 26}
    early = {(op, v) for op, v in changes - rows if v <= 13 and v != HISTORY[op][0].since_version}
    assert early == {("Scatter", 11), ("Upsample", 10)}  # these are not written


def test_operators_that_are_said_to_be_unchanged_have_the_same_attributes_and_arity_before() -> None:
    def signature(schema: defs.OpSchema) -> object:
        attributes = {
            n: (a.type, a.required, a.default_value.SerializeToString()) for n, a in schema.attributes.items()
        }
        return attributes, [p.option for p in schema.inputs], [p.option for p in schema.outputs]

    for version, operators in UNCHANGED.items():
        for op in operators:
            versions = [s.since_version for s in HISTORY[op]]
            after = HISTORY[op][versions.index(version)]
            before = HISTORY[op][versions.index(version) - 1]
            assert signature(before) == signature(after), f"{op}-{version}"


CASES = {
    "gelu": "graph(%x: f32[2,3,4]) -> (y) { %y = Gelu(%x) : f32[2,3,4] return %y }",
    "gelu_tanh": 'graph(%x: f32[2,3,4]) -> (y) { %y = Gelu(%x) {approximate="tanh"} : f32[2,3,4] return %y }',
    "gelu_half": "graph(%x: f16[2,3,4]) -> (y) { %y = Gelu(%x) : f16[2,3,4] return %y }",
    "hard_swish": "graph(%x: f32[2,3]) -> (y) { %y = HardSwish(%x) : f32[2,3] return %y }",
    "mish": "graph(%x: f32[2,3]) -> (y) { %y = Mish(%x) : f32[2,3] return %y }",
    "swish": "graph(%x: f32[2,3]) -> (y) { %y = Swish(%x) {alpha=1.5} : f32[2,3] return %y }",
    "silu": "graph(%x: f32[2,3]) -> (y) { %y = Swish(%x) : f32[2,3] return %y }",
    "cast_like": "graph(%x: f32[2,3], %l: i32[1]) -> (y) { %y = CastLike(%x, %l) : i32[2,3] return %y }",
    "layer_normalization": """
        graph(%x: f32[N,3,4], %s: f32[4], %b: f32[4]) -> (y) {
          %y = LayerNormalization(%x, %s, %b) {epsilon=0.001} : f32[N,3,4] return %y }""",
    "layer_normalization_statistics": """
        graph(%x: f32[2,3,4], %s: f32[3,4]) -> (y, m, i) {
          %y, %m, %i = LayerNormalization(%x, %s) {axis=1} : f32[2,3,4], f32[2,1,1], f32[2,1,1]
          return %y, %m, %i }""",
    "layer_normalization_half": """
        graph(%x: f16[2,3,4], %s: f16[4], %b: f16[4]) -> (y) {
          %y = LayerNormalization(%x, %s, %b) : f16[2,3,4] return %y }""",
    "rms_normalization": """
        graph(%x: f32[N,3,4], %s: f32[4]) -> (y) { %y = RMSNormalization(%x, %s) : f32[N,3,4] return %y }""",
    "group_normalization": """
        graph(%x: f32[N,6,5,4], %s: f32[6], %b: f32[6]) -> (y) {
          %y = GroupNormalization(%x, %s, %b) {num_groups=3} : f32[N,6,5,4] return %y }""",
    "attention": """
        graph(%q: f32[2,3,4,8], %k: f32[2,3,6,8], %v: f32[2,3,6,5]) -> (y) {
          %y = Attention(%q, %k, %v) : f32[2,3,4,5] return %y }""",
    "attention_packed_grouped_causal": """
        graph(%q: f32[2,6,32], %k: f32[2,6,16], %v: f32[2,6,16]) -> (y) {
          %y = Attention(%q, %k, %v) {q_num_heads=4, kv_num_heads=2, is_causal=1, scale=0.3} : f32[2,6,32]
          return %y }""",
    "attention_boolean_mask_with_hidden_rows": """
        graph(%q: f32[1,2,4,8], %k: f32[1,2,3,8], %v: f32[1,2,3,8], %m: bool[4,3]) -> (y) {
          %y = Attention(%q, %k, %v, %m) : f32[1,2,4,8] return %y }""",
    "attention_cache_and_softcap": """
        graph(%q: f32[1,2,2,8], %k: f32[1,2,2,8], %v: f32[1,2,2,8], %m: f32[2,5], %pk: f32[1,2,3,8], %pv: f32[1,2,3,8])
            -> (y, nk, nv, s) {
          %y, %nk, %nv, %s = Attention(%q, %k, %v, %m, %pk, %pv) {softcap=2.0, is_causal=1, qk_matmul_output_mode=3}
            : f32[1,2,2,8], f32[1,2,5,8], f32[1,2,5,8], f32[1,2,2,5]
          return %y, %nk, %nv, %s }""",
    "rotary_embedding": """
        graph(%x: f32[2,3,4,8], %c: f32[2,4,4], %s: f32[2,4,4]) -> (y) {
          %y = RotaryEmbedding(%x, %c, %s) : f32[2,3,4,8] return %y }""",
    "rotary_embedding_packed_partial_interleaved": """
        graph(%x: f32[2,4,24], %c: f32[7,2], %s: f32[7,2], %p: i64[2,4]) -> (y) {
          %y = RotaryEmbedding(%x, %c, %s, %p) {num_heads=3, rotary_embedding_dim=4, interleaved=1} : f32[2,4,24]
          return %y }""",
    "trilu_upper": "graph(%x: f32[N,3,4]) -> (y) { %y = Trilu(%x, i64[]{1}) : f32[N,3,4] return %y }",
    "trilu_lower": "graph(%x: i64[3,4]) -> (y) { %y = Trilu(%x) {upper=0} : i64[3,4] return %y }",
    "shape_part": "graph(%x: f32[N,3,4]) -> (y) { %y = Shape(%x) {start=-2, end=5} : i64[2] return %y }",
    "split_unevenly": """
        graph(%x: f32[N,7]) -> (a, b, c) {
          %a, %b, %c = Split(%x) {axis=1, num_outputs=3} : f32[N,3], f32[N,3], f32[N,1] return %a, %b, %c }""",
    "split_evenly": """
        graph(%x: f32[N,6]) -> (a, b) {
          %a, %b = Split(%x) {axis=1, num_outputs=2} : f32[N,3], f32[N,3] return %a, %b }""",
    "reduce_axes": "graph(%x: f32[N,3,4]) -> (y) { %y = ReduceMean(%x, i64[2]{1,-1}) {keepdims=0} : f32[N] return %y }",
    "reduce_all": "graph(%x: f32[N,3]) -> (y) { %y = ReduceL2(%x) : f32[1,1] return %y }",
    "reduce_nothing": """
        graph(%x: f32[N,3]) -> (y) { %y = ReduceSumSquare(%x) {noop_with_empty_axes=1} : f32[N,3] return %y }""",
    "pad_axes": """
        graph(%x: f32[N,3,4]) -> (y) {
          %y = Pad(%x, i64[4]{1,0,2,3}, f32[]{7.0}, i64[2]{-1,1}) : f32[N,6,7] return %y }""",
    "resize_axes": """
        graph(%x: f32[N,3,4,5]) -> (y) {
          @s : f32[2] = [2.0,3.0]
          %y = Resize(%x, _, @s) {axes=[2,3], mode="linear"} : f32[N,3,8,15] return %y }""",
    "resize_sizes_of_axes": """
        graph(%x: f32[2,3,4,5]) -> (y) {
          %y = Resize(%x, _, _, i64[2]{8,10}) {axes=[2,3], mode="nearest"} : f32[2,3,8,10] return %y }""",
    "reshape_allowing_zero": """
        graph(%x: f32[2,6]) -> (y) { %y = Reshape(%x, i64[2]{3,4}) {allowzero=1} : f32[3,4] return %y }""",
    "dft": "graph(%x: f32[2,8,1]) -> (y) { %y = DFT(%x, _, i64[]{-2}) {onesided=1} : f32[2,5,2] return %y }",
    "grid_sample": """
        graph(%x: f32[1,2,4,4], %g: f32[1,3,3,2]) -> (y) {
          %y = GridSample(%x, %g) {mode="linear", align_corners=1} : f32[1,2,3,3] return %y }""",
    "quantize_without_zero_point": """
        graph(%x: f32[2,3]) -> (y) { %y = QuantizeLinear(%x, f32[]{0.1}) {output_dtype=3} : i8[2,3] return %y }""",
    "dequantize_to_the_type_of_the_scale": """
        graph(%x: i8[2,3]) -> (y) { %y = DequantizeLinear(%x, f32[]{0.1}) {output_dtype=1} : f32[2,3] return %y }""",
    "average_pool_with_unit_dilations": """
        graph(%x: f32[1,2,5,5]) -> (y) {
          %y = AveragePool(%x) {kernel_shape=[2,2], dilations=[1,1]} : f32[1,2,4,4] return %y }""",
    "cast_with_default_flags": """
        graph(%x: f32[2,3]) -> (y) { %y = Cast(%x) {to=7, saturate=1} : i64[2,3] return %y }""",
    "scatter_without_reduction": """
        graph(%x: f32[3,3], %u: f32[1,3]) -> (y) {
          @i : i64[1,3] = [2,0,1]
          %y = ScatterElements(%x, @i, %u) {reduction="none"} : f32[3,3] return %y }""",
    "batch_normalization": """
        graph(%x: f32[N,2,3], %s: f32[2], %b: f32[2], %m: f32[2]) -> (y) {
          @v : f32[2] = [1.0,2.0]
          %y = BatchNormalization(%x, %s, %b, %m, @v) : f32[N,2,3] return %y }""",
    "hann_window": "graph() -> (y) { %y = HannWindow(i64[]{10}) : f32[10] return %y }",
    "hamming_window": "graph() -> (y) { %y = HammingWindow(i64[]{10}) {periodic=0} : f32[10] return %y }",
    "blackman_window": "graph() -> (y) { %y = BlackmanWindow(i64[]{9}) : f32[9] return %y }",
    "center_crop_pad": """
        graph(%x: f32[5,4]) -> (y) { %y = CenterCropPad(%x, i64[2]{2,7}) : f32[2,7] return %y }""",
    "reduce_computed_axes": """
        graph(%x: f32[2,N,4], %o: f32[1]) -> (y, z, m) {
          %a = Shape(%o) : i64[1]
          %y = ReduceMax(%x, %a) {keepdims=0} : f32[2,4]
          %z = ReduceLogSumExp(%x, %a) : f32[2,1,4]
          %m = ReduceMean(%x, %a) : f32[2,1,4]
          return %y, %z, %m }""",
    "reduce_computed_axes_of_integers": """
        graph(%x: i32[2,3], %o: f32[1]) -> (y, z) {
          %a = Shape(%o) : i64[1]
          %y = ReduceProd(%x, %a) {keepdims=0} : i32[2]
          %z = ReduceMin(%x, %a) : i32[2,1]
          return %y, %z }""",
    "pad_computed": """
        graph(%x: f32[N,3], %o: f32[2,1]) -> (y) {
          %p = Shape(%o) : i64[2]
          %y = Pad(%x, %p, _, i64[1]{-1}) : f32[A,B] return %y }""",
    "pad_around": """
        graph(%x: f32[2,3]) -> (y) { %y = Pad(%x, i64[4]{1,2,0,1}) {mode="wrap"} : f32[3,6] return %y }""",
    "reshape_to_nothing": """
        graph(%x: f32[0,3], %o: f32[3,0]) -> (y) {
          %s = Shape(%o) : i64[2]
          %y = Reshape(%x, %s) {allowzero=1} : f32[A,B] return %y }""",
    "split_unknown_size": """
        graph(%x: f32[N,2]) -> (a, b) {
          %a, %b = Split(%x) {axis=0, num_outputs=2} : f32[A,2], f32[B,2] return %a, %b }""",
    "center_crop_pad_computed": """
        graph(%x: f32[N,4], %o: f32[3,7]) -> (y) {
          %s = Shape(%o) : i64[2]
          %y = CenterCropPad(%x, %s) : f32[3,7] return %y }""",
    "window_computed": """
        graph(%o: f32[9]) -> (y) {
          %n = Size(%o) : i64[]
          %y = BlackmanWindow(%n) {periodic=0} : f32[9] return %y }""",
    "dft_computed_axis": """
        graph(%x: f32[2,5,3,2], %o: f32[1]) -> (y) {
          %a = Size(%o) : i64[]
          %y = DFT(%x, i64[]{4}, %a) : f32[2,4,3,2] return %y }""",
    "inverse_dft_of_half_a_spectrum": """
        graph(%x: f32[2,4,2]) -> (y) {
          %y = DFT(%x, _, i64[]{1}) {inverse=1, onesided=1} : f32[2,6,1] return %y }""",
    "resize_computed_sizes_of_axes": """
        graph(%x: f32[1,2,N,5], %o: f32[8,10]) -> (y) {
          %s = Shape(%o) : i64[2]
          %y = Resize(%x, _, _, %s) {axes=[2,3], mode="linear"} : f32[1,2,8,10] return %y }""",
    "resize_keeping_the_aspect_ratio": """
        graph(%x: f32[1,1,6,9]) -> (y) {
          %y = Resize(%x, _, _, i64[2]{4,4}) {axes=[2,3], mode="linear", keep_aspect_ratio_policy="not_larger"}
            : f32[1,1,A,B] return %y }""",
    "resize_antialiased": """
        graph(%x: f32[1,1,6,7]) -> (y) {
          @s : f32[4] = [1.0,1.0,0.5,0.6]
          %y = Resize(%x, _, @s) {antialias=1, mode="cubic"} : f32[1,1,3,4] return %y }""",
    "grid_sample_reflected": """
        graph(%x: f32[1,2,4,4], %g: f32[1,3,3,2]) -> (y) {
          %y = GridSample(%x, %g) {mode="linear", padding_mode="reflection"} : f32[1,2,3,3] return %y }""",
    "grid_sample_in_space": """
        graph(%x: f32[N,2,3,4,5], %g: f32[N,2,2,2,3]) -> (y) {
          %y = GridSample(%x, %g) {mode="linear", padding_mode="border"} : f32[N,2,2,2,2] return %y }""",
    "affine_grid": """
        graph(%t: f32[2,2,3]) -> (y) { %y = AffineGrid(%t, i64[4]{2,3,4,5}) : f32[2,4,5,2] return %y }""",
    "deform_conv": """
        graph(%x: f32[1,2,5,5], %w: f32[4,1,2,2], %f: f32[1,8,4,4], %b: f32[4]) -> (y) {
          %y = DeformConv(%x, %w, %f, %b) {group=2} : f32[1,4,4,4] return %y }""",
    "cum_prod": """
        graph(%x: f32[2,3,4]) -> (y) {
          %y = CumProd(%x, i64[]{-2}) {exclusive=1, reverse=1} : f32[2,3,4] return %y }""",
    "bits": """
        graph(%x: i16[2,3], %z: u8[3]) -> (a, n, o) {
          %a = BitwiseXor(%x, i16[]{-77}) : i16[2,3]
          %n = BitwiseNot(%z) : u8[3]
          %o = BitCast(%z) {to=3} : i8[3]
          return %a, %n, %o }""",
    "scatter_adding": """
        graph(%x: f32[3,3], %u: f32[2,3]) -> (y, z) {
          @i : i64[2,3] = [2,0,1,2,1,1]
          @p : i64[2,1] = [1,1]
          %y = ScatterElements(%x, @i, %u) {reduction="add"} : f32[3,3]
          %z = ScatterND(%x, @p, %u) {reduction="max"} : f32[3,3]
          return %y, %z }""",
    "tensor_scatter": """
        graph(%c: f32[2,5,3], %u: f32[2,2,3]) -> (y) {
          %y = TensorScatter(%c, %u, i64[2]{4,1}) {mode="circular"} : f32[2,5,3] return %y }""",
    "col2im": """
        graph(%x: f32[1,8,12]) -> (y) {
          %y = Col2Im(%x, i64[2]{4,5}, i64[2]{2,2}) : f32[1,2,4,5] return %y }""",
    "average_pool_with_gaps": """
        graph(%x: f32[1,2,7,7]) -> (y) {
          %y = AveragePool(%x) {kernel_shape=[2,3], dilations=[2,1], pads=[1,1,0,1]} : f32[1,2,6,7] return %y }""",
    "quantize_blocks_to_16_bits": """
        graph(%x: f32[2,6]) -> (y) {
          @s : f32[2,2] = [0.5,0.25,0.1,0.2]
          @z : i16[2,2] = [1,2,3,4]
          %y = QuantizeLinear(%x, @s, @z) {axis=1, block_size=3} : i16[2,6] return %y }""",
    "dequantize_blocks": """
        graph(%x: i8[2,6]) -> (y) {
          @s : f32[2,2] = [0.5,0.25,0.1,0.2]
          %y = DequantizeLinear(%x, @s) {axis=1, block_size=3} : f32[2,6] return %y }""",
    "small_integers": """
        graph(%a: i8[2,3], %b: i8[3]) -> (y, z) {
          %y = Mul(%a, %b) : i8[2,3]
          %z = Relu(%a) : i8[2,3]
          return %y, %z }""",
    "linear_attention": """
        graph(%q: f32[1,3,8], %k: f32[1,3,4], %v: f32[1,3,6], %g: f32[1,3,2], %b: f32[1,3,2]) -> (y, s) {
          %y, %s = LinearAttention(%q, %k, %v, _, %g, %b) {q_num_heads=4, kv_num_heads=2} : f32[1,3,12], f32[1,2,2,3]
          return %y, %s }""",
    "causal_conv": """
        graph(%x: f32[1,3,5], %w: f32[3,1,4], %b: f32[3]) -> (y, s) {
          %y, %s = CausalConvWithState(%x, %w, %b) {activation="silu"} : f32[1,3,5], f32[1,3,3] return %y, %s }""",
    "clip": "graph(%x: f32[2,3]) -> (y) { %y = Clip(%x, f32[]{-0.5}, f32[]{0.25}) : f32[2,3] return %y }",
    "slice": """
        graph(%x: f32[5,4]) -> (y) { %y = Slice(%x, i64[1]{1}, i64[1]{3}, i64[1]{-1}) : f32[5,2] return %y }""",
    "top_k": """
        graph(%x: f32[5,4]) -> (y, i) { %y, %i = TopK(%x, i64[1]{2}) : f32[5,2], i64[5,2] return %y, %i }""",
    "softmax_between_axes": "graph(%x: f32[2,3,4]) -> (y) { %y = Softmax(%x) {axis=-2} : f32[2,3,4] return %y }",
    "squeeze_and_unsqueeze": """
        graph(%x: f32[2,1,4]) -> (y) {
          %0 = Squeeze(%x, i64[1]{-2}) : f32[2,4]
          %y = Unsqueeze(%0, i64[2]{-1,0}) : f32[1,2,4,1]
          return %y }""",
    "nearest_upsampling": """
        graph(%x: f32[1,1,2,3]) -> (y) {
          @s : f32[4] = [1.0,1.0,2.0,3.0]
          %y = Resize(%x, _, @s) {mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"}
            : f32[1,1,4,9]
          return %y }""",
    "inside_a_branch": """
        graph(%x: f32[2,3], %c: bool[]) -> (y) {
          %y = If(%c, %x) captures 1 : f32[2,3] regions {
            then_branch = graph(%a: f32[2,3]) -> (t) { %t = Gelu(%a) : f32[2,3] return %t }
            else_branch = graph(%a: f32[2,3]) -> (e) { %e = HardSwish(%a) : f32[2,3] return %e }
          }
          return %y }""",
}  # fmt: skip

EARLIEST = 13
"""From here on every case is expressible; before, many operators do not exist."""


def opsets_that_differ(subject: Model) -> list[int]:
    """The canonical opset, the oldest, and the last one before each change of an operator of the graph."""
    changes = {s.since_version - 1 for node in subject.graph.walk() for s in HISTORY[node.op]}
    return [v for v in OPSETS if v in changes or v in (OPSETS[0], OPSETS[-1])]


@pytest.mark.parametrize("name", CASES)
def test_a_graph_computes_the_same_at_every_opset_that_holds_it(name: str) -> None:
    subject = model(CASES[name])
    feeds = synthesize(subject.graph)[0]
    expected = ReferenceRunner(subject).run(feeds)
    tolerance = 5e-3 if any(a.dtype == np.float16 for a in expected.values()) else 1e-5
    for opset in opsets_that_differ(subject):
        if opset < EARLIEST and not expressible(subject, opset):
            continue
        onnx.checker.check_model(to_proto(subject, opset), full_check=True)
        found = OrtRunner(subject, opset=opset).run(feeds)
        assert found.keys() == expected.keys()
        for output, array in expected.items():
            assert found[output].dtype == array.dtype
            assert compare(array, found[output]).max_error <= tolerance, f"{output} at opset {opset}"


@pytest.mark.parametrize("name", ["clip", "slice", "pad_axes", "top_k", "softmax_between_axes", "squeeze_and_unsqueeze",
                                  "nearest_upsampling", "split_evenly", "reduce_axes", "batch_normalization"])  # fmt: skip
def test_common_operators_reach_the_oldest_opset(name: str) -> None:
    assert expressible(model(CASES[name]), OLDEST_OPSET)


@pytest.mark.parametrize(
    ("op", "gates", "states"), [("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)]
)  # fmt: skip
def test_a_batch_first_recurrent_layer_becomes_one_between_transposes(op: str, gates: int, states: int) -> None:
    results = ["y", "h", "c"][: 1 + states]
    more = ", _, %h0, %c0" if states == 2 else ", _, %h0"
    subject = model(f"""
        graph(%x: f32[2,5,3], %h0: f32[2,1,4]{", %c0: f32[2,1,4]" if states == 2 else ""}) -> ({", ".join(results)}) {{
          @w : f32[1,{gates * 4},3] = random(1)
          @r : f32[1,{gates * 4},4] = random(2)
          {", ".join("%" + r for r in results)} = {op}(%x, @w, @r, _{more}) {{hidden_size=4, layout=1}}
            : f32[2,5,1,4]{", f32[2,1,4]" * states}
          return {", ".join("%" + r for r in results)} }}""")
    plain = model(f"""
        graph(%x: f32[5,2,3], %h0: f32[1,2,4]{", %c0: f32[1,2,4]" if states == 2 else ""}) -> ({", ".join(results)}) {{
          @w : f32[1,{gates * 4},3] = random(1)
          @r : f32[1,{gates * 4},4] = random(2)
          {", ".join("%" + r for r in results)} = {op}(%x, @w, @r, _{more}) {{hidden_size=4}}
            : f32[5,1,2,4]{", f32[1,2,4]" * states}
          return {", ".join("%" + r for r in results)} }}""")
    feeds = synthesize(subject.graph)[0]
    found = OrtRunner(subject, opset=13).run(feeds)
    swapped = OrtRunner(plain).run({n: a.transpose(1, 0, 2) for n, a in feeds.items()})
    assert compare(swapped["y"].transpose(2, 0, 1, 3), found["y"]).max_error < 1e-6
    for result in results[1:]:
        assert compare(swapped[result].transpose(1, 0, 2), found[result]).max_error < 1e-6


def test_regions_that_are_half_a_pixel_off_are_sampled_before_the_operator_could() -> None:
    subject = model("""
        graph(%x: f32[1,2,5,6]) -> (y) {
          @r : f32[2,4] = [0.5,1.0,4.0,3.5,-3.0,0.0,2.0,9.0]
          %y = RoiAlign(%x, @r, i64[2]{0,0}) {output_height=2, output_width=3, sampling_ratio=2} : f32[2,2,2,3]
          return %y }""")
    feeds = synthesize(subject.graph)[0]
    wanted, found = (OrtRunner(subject, opset=v).run(feeds)["y"] for v in (16, 13))
    assert compare(wanted, found).max_error < 1e-6


REFUSALS = {
    "new_operator": ("graph(%x: str[3]) -> (y) { %y = StringConcat(%x, %x) : str[3] return %y }", 19, "20"),
    "bits_of_floats": ("graph(%x: f32[3]) -> (y) { %y = BitCast(%x) {to=6} : i32[3] return %y }", 25, "26"),
    "element_type": ("graph(%x: bf16[3]) -> (y) { %y = Neg(%x) : bf16[3] return %y }", 12, "13"),
    "output_element_type": ("graph(%x: f32[3]) -> (y) { %y = Cast(%x) {to=17} : f8e4m3fn[3] return %y }", 18, "19"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_an_opset_cannot_hold_is_refused_with_its_place_and_the_lowest_opset_that_can(name: str) -> None:
    text, opset, works = REFUSALS[name]
    subject = model(text.replace("return", "# block.3 @ net.py:7\n return", 1))
    with pytest.raises(UnsupportedError) as caught:
        to_proto(subject, opset)
    assert "block.3 (net.py:7)" in caught.value.where
    assert works in caught.value.do


@pytest.mark.parametrize("opset", [6, 27])
def test_an_opset_that_is_not_supported_is_a_usage_error(opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset}"):
        to_proto(model(CASES["mish"]), opset)


def test_a_model_goes_back_to_the_opset_that_it_came_in() -> None:
    assert default_opset(model(CASES["gelu"], source_opset=17)) == 17


def test_a_model_older_than_the_oldest_opset_is_written_for_that() -> None:
    assert default_opset(model(CASES["mish"], source_opset=6)) == OLDEST_OPSET


def test_a_model_whose_opset_cannot_hold_it_any_more_gets_the_next_one_that_can() -> None:
    assert default_opset(model(REFUSALS["new_operator"][0], source_opset=13)) == 20


def test_a_model_from_pytorch_gets_the_lowest_opset_that_has_all_of_its_operators() -> None:
    assert default_opset(model(CASES["reduce_axes"])) == 17
    assert default_opset(model(CASES["gelu"])) == 20
    assert default_opset(model(CASES["attention"])) == 23


def test_lowering_leaves_the_model_as_it_was() -> None:
    subject = model(CASES["gelu"])
    before = str(subject.graph)
    to_proto(subject, 13)
    assert str(subject.graph) == before


def test_an_operator_newer_than_the_canonical_opset_passes_through_at_its_own() -> None:
    subject = model("graph(%x: f32[2,8]) -> (y) { %y = SwiGLU(%x) : f32[2,4] return %y }")
    proto = to_proto(subject)
    assert proto.opset_import[0].version == defs.get_schema("SwiGLU").since_version
    assert proto.graph.node[0].op_type == "SwiGLU"


def test_a_neighbour_that_changed_after_the_canonical_opset_stops_an_operator_that_is_newer_than_it() -> None:
    subject = model("""
        graph(%x: f32[2,8]) -> (y) {
          %y = SwiGLU(%x) : f32[2,4]
          %z = Mod(%y, %y) {fmod=1} : f32[2,4]
          return %z }""")
    with pytest.raises(UnsupportedError, match="cannot be written"):
        to_proto(subject)


def test_the_best_opset_is_the_newest_that_runs_and_keeps_single_operators() -> None:
    subject = model("graph(%x: f32[2,3,4]) -> (y) { %y = Gelu(%x) : f32[2,3,4] return %y }", 17)
    own, best = to_proto(subject), to_proto(subject, "best")
    assert (own.opset_import[0].version, best.opset_import[0].version) == (17, CANONICAL_OPSET)
    assert [n.op_type for n in best.graph.node] == ["Gelu"]
    assert len(own.graph.node) > 1


@pytest.mark.parametrize("opset", [11, 17, 22])
@pytest.mark.parametrize("filler", ["", ", f32[]{0.0}"])
def test_zeros_around_a_maximum_are_larger_than_what_is_negative(opset: int, filler: str) -> None:
    text = f"""graph (%x: f32[1,1,4,4]) -> (y) {{
      %p = Pad(%x, i64[8]{{0,0,1,1,0,0,1,1}}{filler}) %y = MaxPool(%p) {{kernel_shape=[2,2], strides=[2,2]}} return %y }}"""
    x = -np.arange(1.0, 17.0, dtype=np.float32).reshape(1, 1, 4, 4)
    written = to_proto(Model(parse(text)), opset).SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(found[0, 0], [[0, 0, 0], [0, -6, 0], [0, 0, 0]])
