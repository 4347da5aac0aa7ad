"""Each operator's emission against ONNX Runtime, on small graphs."""

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner, synthesize
from tersor.backends.torch import to_runner
from tersor.ir import Model, parse

ELEMENTWISE = {
    op: f"graph (%x: f32[2,3,4]) -> (y) {{ %y = {call} return %y }}"
    for op, call in {
        "abs": "Abs(%x)",
        "neg": "Neg(%x)",
        "exp": "Exp(%x)",
        "reciprocal": "Reciprocal(%x)",
        "floor": "Floor(%x)",
        "ceil": "Ceil(%x)",
        "round": "Round(%x)",
        "sign": "Sign(%x)",
        "sin": "Sin(%x)",
        "erf": "Erf(%x)",
        "sigmoid": "Sigmoid(%x)",
        "tanh": "Tanh(%x)",
        "relu": "Relu(%x)",
        "leaky_relu": "LeakyRelu(%x) {alpha=0.2}",
        "elu": "Elu(%x) {alpha=0.7}",
        "selu": "Selu(%x)",
        "celu": "Celu(%x) {alpha=0.5}",
        "softplus": "Softplus(%x)",
        "softsign": "Softsign(%x)",
        "hard_sigmoid": "HardSigmoid(%x) {alpha=0.3, beta=0.4}",
        "hard_sigmoid_sixth": "HardSigmoid(%x) {alpha=0.16666667, beta=0.5}",
        "hard_swish": "HardSwish(%x)",
        "mish": "Mish(%x)",
        "gelu": "Gelu(%x)",
        "gelu_tanh": 'Gelu(%x) {approximate="tanh"}',
        "swish": "Swish(%x) {alpha=1.5}",
        "thresholded_relu": "ThresholdedRelu(%x) {alpha=0.3}",
        "shrink": "Shrink(%x) {lambd=0.4, bias=0.1}",
        "clip": "Clip(%x, f32[]{-0.5}, f32[]{0.5})",
        "clip_above": "Clip(%x, _, f32[]{0.5})",
        "relu6": "Clip(%x, f32[]{0.0}, f32[]{6.0})",
        "identity": "Identity(%x)",
        "dropout": "Dropout(%x)",
        "is_nan": "IsNaN(%x)",
        "is_inf": "IsInf(%x) {detect_negative=0}",
        "cast": "Cast(%x) {to=6}",
        "cast_bool": "Cast(%x) {to=9}",
        "cast_half": "Cast(%x) {to=10}",
        "square": "Pow(%x, f32[]{2.0})",
        "power_of_two": "Pow(f32[]{2.0}, %x)",
        "add_scalar": "Add(%x, f32[]{0.1})",
        "subtract_from_scalar": "Sub(f32[1]{1.0}, %x)",
        "scalar_of_higher_rank": "Mul(%x, f32[1,1,1,1]{3.0})",
        "divide": "Div(%x, f32[3,1]{1.0,2.0,4.0})",
        "maximum": "Max(%x, f32[]{0.0})",
        "minimum": "Min(%x, f32[4]{0.0,1.0,0.5,-1.0}, f32[]{0.2})",
        "sum": "Sum(%x, %x, f32[4]{1.0,2.0,3.0,4.0})",
        "mean": "Mean(%x, f32[4]{1.0,2.0,3.0,4.0})",
        "largest_number": "Max(%x, f32[]{-3.4028235e+38})",
        "compare": "GreaterOrEqual(%x, f32[]{0.0})",
        "modulo": "Mod(%x, f32[]{0.7}) {fmod=1}",
        "softmax": "Softmax(%x) {axis=1}",
        "log_softmax": "LogSoftmax(%x)",
        "hardmax": "Hardmax(%x)",
        "lp_normalization": "LpNormalization(%x) {axis=1, p=2}",
        "mean_variance": "MeanVarianceNormalization(%x) {axes=[0,2]}",
    }.items()
}

REDUCTIONS = {
    f"{op}_{name}": f"graph (%x: f32[2,3,4]) -> (y) {{ %y = {op}({operands}) {{{attributes}}} return %y }}"
    for op in (
        [
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSumExp",
        ]
    )
    for name, operands, attributes in (
        ("all", "%x", "keepdims=0"),
        ("one", "%x, i64[1]{-1}", ""),
        ("two", "%x, i64[2]{0,2}", "keepdims=0"),
        ("none", "%x", "noop_with_empty_axes=1"),
    )
    if (op, name)
    not in {("ReduceL1", "none"), ("ReduceL2", "none"), ("ReduceSumSquare", "none"), ("ReduceLogSumExp", "none")}
}

INTEGERS = {
    op: f"graph (%a: i64[2,3], %b: i64[2,3]) -> (y) {{ {body} return %y }}"
    for op, body in {
        "division_truncates": "%n = Neg(%a) %d = Add(%b, i64[]{1}) %y = Div(%n, %d)",
        "modulo": "%n = Neg(%a) %d = Add(%b, i64[]{1}) %y = Mod(%n, %d)",
        "fmod": "%n = Neg(%a) %d = Add(%b, i64[]{1}) %y = Mod(%n, %d) {fmod=1}",
        "sum_keeps_type": "%c = Cast(%a) {to=6} %y = ReduceSum(%c, i64[1]{0})",
        "bitwise": "%c = BitwiseAnd(%a, %b) %y = BitwiseXor(%c, i64[]{5})",
        "logic": "%p = Greater(%a, %b) %q = Equal(%a, i64[]{1}) %r = And(%p, %q) %s = Not(%q) %y = Or(%r, %s)",
        "where": "%p = Greater(%a, %b) %y = Where(%p, %a, i64[]{-1})",
        "where_of_numbers": "%p = Greater(%a, %b) %y = Where(%p, f32[]{1.0}, f32[]{2.5})",
        "one_hot": "%y = OneHot(%a, i64[]{4}, f32[2]{0.0,1.0}) {axis=1}",
        "arg_max_last": "%y = ArgMax(%a) {axis=1, select_last_index=1}",
        "arg_min": "%y = ArgMin(%a) {axis=0, keepdims=0}",
        "top_k_with_ties": "%v, %y = TopK(%a, i64[1]{2}) {axis=1}",
        "smallest": "%v, %y = TopK(%a, i64[1]{2}) {axis=0, largest=0}",
        "cumulative": "%y = CumSum(%a, i64[]{1}) {exclusive=1, reverse=1}",
        "non_zero": "%y = NonZero(%a)",
        "shift": "%c = Cast(%a) {to=13} %d = Cast(%c) {to=7} %y = Add(%d, %b)",
    }.items()
}

SHAPING = {
    op: f"graph (%x: f32[N,3,4,5]) -> (y) {{ {body} return %y }}"
    for op, body in {
        "reshape_with_zero": "%y = Reshape(%x, i64[3]{0,-1,5})",
        "flatten": "%y = Flatten(%x)",
        "flatten_two": "%y = Flatten(%x) {axis=2}",
        "flatten_all": "%y = Flatten(%x) {axis=0}",
        "flatten_to_column": "%y = Flatten(%x) {axis=4}",
        "transpose": "%y = Transpose(%x) {perm=[0,2,3,1]}",
        "transpose_last": "%y = Transpose(%x) {perm=[0,1,3,2]}",
        "transpose_reversed": "%y = Transpose(%x)",
        "unsqueeze": "%y = Unsqueeze(%x, i64[2]{-1,1})",
        "squeeze": "%a = Unsqueeze(%x, i64[2]{1,3}) %y = Squeeze(%a, i64[2]{1,3})",
        "expand": "%a = Slice(%x, i64[1]{0}, i64[1]{1}, i64[1]{1}) %y = Expand(%a, i64[5]{2,1,6,4,1})",
        "concat": "%y = Concat(%x, %x) {axis=-2}",
        "split": "%a, %b = Split(%x, i64[2]{1,2}) {axis=1} %y = Concat(%b, %a) {axis=1}",
        "split_evenly": "%a, %b = Split(%x) {axis=2, num_outputs=2} %y = Sub(%a, %b)",
        "split_unevenly": "%a, %b, %c = Split(%x) {axis=3, num_outputs=3} %y = Concat(%c, %a) {axis=3}",
        "slice": "%y = Slice(%x, i64[2]{1,-3}, i64[2]{3,9223372036854775807}, i64[2]{1,3})",
        "slice_step": "%y = Slice(%x, i64[1]{0}, i64[1]{4}, i64[1]{-2}, i64[1]{2})",
        "slice_backwards": "%y = Slice(%x, i64[1]{-1}, i64[1]{-9223372036854775808}, i64[1]{3}, i64[1]{-2})",
        "slice_backwards_inside": "%y = Slice(%x, i64[1]{3}, i64[1]{0}, i64[1]{3}, i64[1]{-1})",
        "select": "%y = Gather(%x, i64[]{-1}) {axis=2}",
        "pick": "%y = Gather(%x, i64[2]{2,0}) {axis=1}",
        "pick_last": "%y = Gather(%x, i64[3]{2,0,1}) {axis=3}",
        "pick_matrix": "%y = Gather(%x, i64[2,2]{2,0,1,-1}) {axis=1}",
        "pad_constant": "%y = Pad(%x, i64[8]{0,1,0,2,0,0,1,0}, f32[]{1.5})",
        "pad_some_axes": "%y = Pad(%x, i64[2]{1,2}, _, i64[1]{-1})",
        "pad_reflect": '%y = Pad(%x, i64[8]{0,0,1,2,0,0,2,1}) {mode="reflect"}',
        "pad_edge_channels": '%y = Pad(%x, i64[8]{0,1,0,0,0,2,0,0}) {mode="edge"}',
        "pad_wrap": '%y = Pad(%x, i64[8]{0,0,1,0,0,0,0,2}) {mode="wrap"}',
        "tile": "%y = Tile(%x, i64[4]{1,2,1,3})",
        "triangle": "%y = Trilu(%x, i64[]{1}) {upper=0}",
        "gather_elements": "%y = GatherElements(%x, i64[1,1,2,2]{0,-1,1,2}) {axis=3}",
        "scatter_elements": '%y = ScatterElements(%x, i64[1,1,1,2]{1,-2}, f32[1,1,1,2]{5.0,6.0}) {axis=3, reduction="add"}',
        "gather_nd": "%y = GatherND(%x, i64[2,2]{0,1,1,2})",
        "gather_nd_batched": "%a = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{1}) %b = Squeeze(%a) %y = GatherND(%x, i64[2,1]{1,2}) {batch_dims=1}",
        "scatter_nd": "@u : f32[1,4,5] = random(4) %y = ScatterND(%x, i64[1,2]{0,1}, @u)",
        "compress": "%y = Compress(%x, bool[3]{true,false,true}) {axis=1}",
        "einsum": '%y = Einsum(%x, %x) {equation="bchw,bdhw->bcd"}',
        "depth_to_space": '%a = Concat(%x, %x, %x, %x) {axis=1} %y = DepthToSpace(%a) {blocksize=2, mode="CRD"}',
        "depth_to_space_dcr": "%a = Concat(%x, %x, %x, %x) {axis=1} %y = DepthToSpace(%a) {blocksize=2}",
        "space_to_depth": "%a = Concat(%x, %x) {axis=3} %y = SpaceToDepth(%a) {blocksize=2}",
        "resize_nearest": '%y = Resize(%x, _, f32[4]{1.0,1.0,2.0,2.0}) {mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"}',
        "resize_nearest_half_pixel": "%y = Resize(%x, _, f32[4]{1.0,1.0,3.0,2.0})",
        "resize_linear": '%y = Resize(%x, _, f32[4]{1.0,1.0,2.0,3.0}) {mode="linear"}',
        "resize_linear_uneven": '%y = Resize(%x, _, f32[4]{1.0,1.0,1.7,0.6}) {mode="linear"}',
        "resize_linear_sizes": '%s = Shape(%x) {end=2} %t = Concat(%s, i64[2]{7,3}) {axis=0} %y = Resize(%x, _, _, %t) {mode="linear", coordinate_transformation_mode="align_corners"}',
        "resize_cubic": '%s = Shape(%x) {end=2} %t = Concat(%s, i64[2]{9,8}) {axis=0} %y = Resize(%x, _, _, %t) {mode="cubic"}',
        "resize_channels": '%y = Resize(%x, _, f32[1]{2.0}) {mode="nearest", axes=[1]}',
        "shape_arithmetic": "%s = Shape(%x) %n = Gather(%s, i64[]{0}) %c = Mul(%n, i64[]{3}) %u = Unsqueeze(%c, i64[1]{0}) %t = Concat(%u, i64[1]{-1}) {axis=0} %y = Reshape(%x, %t)",
        "sizes_as_a_tensor": "%s = Shape(%x) %f = Cast(%s) {to=1} %y = Mul(%f, f32[]{0.5})",
        "range": "%s = Shape(%x) {end=1} %n = Squeeze(%s) %y = Range(i64[]{0}, %n, i64[]{1})",
        "constant_of_shape": "%s = Shape(%x) {start=1} %y = ConstantOfShape(%s) {value=tensor f32[1] = [2.5]}",
        "if_on_a_size": """
            %s = Shape(%x) {end=1} %n = Squeeze(%s) %c = Greater(%n, i64[]{1})
            %y = If(%c, %x) captures 1 : f32[N,3,4,5] regions {
              then_branch = graph (%a: f32[N,3,4,5]) -> (r) { %r = Relu(%a) return %r }
              else_branch = graph (%a: f32[N,3,4,5]) -> (r) { %r = Neg(%a) return %r }
            }""",
        "loop": """
            %y, %all = Loop(i64[]{3}, _, %x, %x) captures 1 : f32[N,3,4,5], f32[3,N,3,4,5] regions {
              body = graph (%i: i64[], %c: bool[], %a: f32[N,3,4,5], %o: f32[N,3,4,5]) -> (again, next, scan) {
                %again = Identity(%c) %h = Mul(%a, f32[]{0.5}) %next = Add(%h, %o) %scan = Neg(%h)
                return %again, %next, %scan
              }
            }
            %last = Gather(%all, i64[]{2})
            %y2 = Add(%y, %last)""".replace("%y,", "%out,")
        .replace("Add(%y,", "Add(%out,")
        .replace("%y2", "%y"),
    }.items()
}

LAYERS = {
    op: f"graph (%x: f32[N,4,8,8]) -> (y) {{ {body} return %y }}"
    for op, body in {
        "conv": "@w.weight : f32[6,4,3,3] = random(1) @w.bias : f32[6] = random(2) %y = Conv(%x, @w.weight, @w.bias) {pads=[1,1,1,1], strides=[2,2]}",
        "conv_depthwise": "@w.weight : f32[8,1,3,5] = random(1) %y = Conv(%x, @w.weight) {group=4, dilations=[2,1]}",
        "conv_uneven_pads": "@w.weight : f32[6,4,2,2] = random(1) %y = Conv(%x, @w.weight) {pads=[0,1,1,0]}",
        "conv_same": '@w.weight : f32[6,4,3,3] = random(1) %y = Conv(%x, @w.weight) {auto_pad="SAME_UPPER", strides=[2,2]}',
        "conv_computed_weight": "@w : f32[6,4,3,3] = random(1) %v = Tanh(@w) %y = Conv(%x, %v)",
        "conv_transpose": "@w.weight : f32[4,5,3,3] = random(1) %y = ConvTranspose(%x, @w.weight) {strides=[2,2], pads=[1,0,0,0], output_padding=[0,1]}",
        "batch_norm": "@b.weight : f32[4] = random(1) @b.bias : f32[4] = random(2) @b.running_mean : f32[4] = random(3) @b.running_var : f32[4] = [1.0,2.0,0.5,1.5] %y = BatchNormalization(%x, @b.weight, @b.bias, @b.running_mean, @b.running_var) {epsilon=0.001}",
        "layer_norm": "@n.weight : f32[8,8] = random(1) @n.bias : f32[8,8] = random(2) %y = LayerNormalization(%x, @n.weight, @n.bias) {axis=2}",
        "rms_norm": "@n.weight : f32[8] = random(1) %y = RMSNormalization(%x, @n.weight) {epsilon=0.0001}",
        "group_norm": "@n.weight : f32[4] = random(1) @n.bias : f32[4] = random(2) %y = GroupNormalization(%x, @n.weight, @n.bias) {num_groups=2}",
        "instance_norm": "@n.weight : f32[4] = random(1) @n.bias : f32[4] = random(2) %y = InstanceNormalization(%x, @n.weight, @n.bias)",
        "local_response": "%y = LRN(%x) {size=3, alpha=0.01}",
        "prelu": "@p.weight : f32[4,1,1] = random(1) %y = PRelu(%x, @p.weight)",
        "prelu_elementwise": "@p.weight : f32[8] = random(1) %y = PRelu(%x, @p.weight)",
        "max_pool": "%y = MaxPool(%x) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}",
        "max_pool_uneven": "%y = MaxPool(%x) {kernel_shape=[2,2], strides=[2,2], pads=[0,0,1,1]}",
        "max_pool_ceil": "%y = MaxPool(%x) {kernel_shape=[3,3], strides=[2,2], ceil_mode=1}",
        "average_pool": "%y = AveragePool(%x) {kernel_shape=[3,3], pads=[1,1,1,1]}",
        "average_pool_counting_pads": "%y = AveragePool(%x) {kernel_shape=[3,3], pads=[0,1,1,0], count_include_pad=1}",
        "global_average": "%y = GlobalAveragePool(%x)",
        "global_maximum": "%y = GlobalMaxPool(%x)",
        "matmul_with_bias": "@l.weight : f32[8,5] = random(1) @l.bias : f32[5] = random(2) %m = MatMul(%x, @l.weight) %y = Add(@l.bias, %m)",
        "matmul_of_values": "%t = Transpose(%x) {perm=[0,1,3,2]} %y = MatMul(%x, %t)",
        "gemm": "@l.weight : f32[5,256] = random(1) @l.bias : f32[5] = random(2) %f = Flatten(%x) %y = Gemm(%f, @l.weight, @l.bias) {transB=1}",
        "gemm_with_factors": "@l.weight : f32[256,5] = random(1) @l.bias : f32[1,5] = random(2) %f = Flatten(%x) %y = Gemm(%f, @l.weight, @l.bias) {alpha=0.5, beta=2.0}",
        "attention": "%y = Attention(%x, %x, %x) {scale=0.3}",
        "attention_with_mask": "@m : bool[8,8] = ["
        + ",".join(["true,true,true,true,true,true,false,true"] * 8)
        + "] %y = Attention(%x, %x, %x, @m) {is_causal=1}",
        "attention_grouped": "%k = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{1}) %y = Attention(%x, %k, %k) {softcap=2.0}",
        "attention_flat": "%f = Reshape(%x, i64[3]{0,8,32}) %y = Attention(%f, %f, %f) {q_num_heads=4, kv_num_heads=4}",
        **{
            name: f"%f = Reshape(%x, i64[3]{{0,8,32}}) {before} %z, %a, %b = Attention({operands}) {{{attrs}}} "
            "%s = ReduceSum(%a) {keepdims=0} %t = ReduceSum(%b) {keepdims=0} %u = Sub(%s, %t) %y = Add(%z, %u)"
            for name, before, operands, attrs in (
                ("attention_with_past", "", "%x, %x, %x, _, %x, %x", ""),
                ("attention_causal_with_past", "", "%x, %x, %x, _, %x, %x", "is_causal=1"),
                ("attention_flat_with_past", "", "%f, %f, %f, _, %x, %x", "q_num_heads=4, kv_num_heads=4"),
                (
                    "attention_flat_causal_with_past",
                    "%k = Slice(%f, i64[1]{0}, i64[1]{16}, i64[1]{2}) %p = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{1})",
                    "%f, %k, %k, _, %p, %p",
                    "q_num_heads=4, kv_num_heads=2, is_causal=1",
                ),
            )
        },
        "rotary": "@c : f32[2,8,4] = random(1) @s : f32[2,8,4] = random(2) %y = RotaryEmbedding(%x, @c, @s)",
        "rotary_partly": "@c : f32[2,8,2] = random(1) @s : f32[2,8,2] = random(2) %y = RotaryEmbedding(%x, @c, @s) {interleaved=1, rotary_embedding_dim=4, num_heads=4}",
    }.items()
}

RECURRENT = {
    f"{op.lower()}_{name}": (
        f"graph (%x: f32[5,N,3]) -> (y, h) {{ @W : f32[{d},{gates * 4},3] = random(1) @R : f32[{d},{gates * 4},4] = random(2)"
        f" @B : f32[{d},{gates * 8}] = random(3) %y, %h = {op}(%x, @W, @R, @B) {{hidden_size=4{more}}} return %y, %h }}"
    )
    for op, gates, extra in (("LSTM", 4, ""), ("GRU", 3, ", linear_before_reset=1"), ("RNN", 1, ""))
    for name, d, more in (
        ("forward", 1, extra),
        ("both_ways", 2, extra + ', direction="bidirectional"'),
        *([("rectified", 2, ', direction="bidirectional", activations=["Relu", "Relu"]')] if op == "RNN" else []),
    )
}

QUANTIZED = {
    "qdq": """graph (%x: f32[2,4,6]) -> (y) {
        %q = QuantizeLinear(%x, f32[]{0.02}, u8[]{128}) %y = DequantizeLinear(%q, f32[]{0.02}, u8[]{128}) return %y }""",
    "qdq_per_channel": """graph (%x: f32[2,4,6]) -> (y) {
        %q = QuantizeLinear(%x, f32[4]{0.02,0.01,0.03,0.05}, i8[4]{0,1,-2,3})
        %y = DequantizeLinear(%q, f32[4]{0.02,0.01,0.03,0.05}, i8[4]{0,1,-2,3}) return %y }""",
    "qdq_16_bit": """graph (%x: f32[2,4,6]) -> (y) {
        %q = QuantizeLinear(%x, f32[]{0.0002}, i16[]{0}) %y = DequantizeLinear(%q, f32[]{0.0002}, i16[]{0}) return %y }""",
    "weight_only_blocks": """graph (%x: f32[2,4]) -> (y) {
        @w : i8[4,6] = [1,2,3,4,5,6,-1,-2,-3,-4,-5,-6,7,8,9,10,11,12,0,0,1,1,2,2]
        %d = DequantizeLinear(@w, f32[2,6]{0.1,0.2,0.3,0.4,0.5,0.6,0.6,0.5,0.4,0.3,0.2,0.1}) {axis=0, block_size=2}
        %y = MatMul(%x, %d) return %y }""",
    "four_bit_weights": """graph (%x: f32[2,4]) -> (y) {
        @w : i4[4,2] = [1,-8,7,3,-1,0,2,5] %d = DequantizeLinear(@w, f32[2]{0.5,0.25}) {axis=1} %y = MatMul(%x, %d) return %y }""",
    "dynamic": """graph (%x: f32[3,4]) -> (y) {
        @w : u8[4,2] = [10,200,30,44,55,66,77,255]
        %q, %s, %z = DynamicQuantizeLinear(%x) %m = MatMulInteger(%q, @w, %z, u8[]{100})
        %f = Cast(%m) {to=1} %y = Mul(%f, %s) return %y }""",
    "conv_integer": """graph (%x: u8[1,2,4,4]) -> (y) {
        @w : u8[1,2,2,2] = [1,2,3,4,5,6,7,8] %y = ConvInteger(%x, @w, u8[]{3}, u8[]{4}) {strides=[2,2]} return %y }""",
    "qlinear_matmul": """graph (%x: u8[2,3]) -> (y) {
        @w : u8[3,2] = [1,200,30,44,55,66]
        %y = QLinearMatMul(%x, f32[]{0.1}, u8[]{100}, @w, f32[]{0.2}, u8[]{120}, f32[]{3.0}, u8[]{128}) return %y }""",
    "qlinear_conv": """graph (%x: u8[1,2,4,4]) -> (y) {
        @w : i8[3,2,1,1] = [1,-100,30,44,55,66] @b : i32[3] = [100,-200,300]
        %y = QLinearConv(%x, f32[]{0.1}, u8[]{100}, @w, f32[3]{0.2,0.1,0.3}, i8[3]{0,0,0}, f32[]{3.0}, u8[]{128}, @b) return %y }""",
}

RARER = {
    name: f"graph ({inputs}) -> (y) {{ {body} return %y }}"
    for name, (inputs, body) in {
        "computed_axes": ("%x: f32[2,3,4], %a: i64[1]", "%y = ReduceSum(%x, %a) {keepdims=0}"),
        "computed_axis": ("%x: f32[2,3,4], %a: i64[]", "%y = CumSum(%x, %a) {exclusive=1, reverse=1}"),
        "computed_new_axes": ("%x: f32[2,3], %a: i64[1]", "%y = Unsqueeze(%x, %a)"),
        "computed_pads": ("%x: f32[3], %a: i64[2]", "%y = Pad(%x, %a, f32[]{1.5})"),
        "computed_shape_with_zeros": (
            "%x: f32[1,3], %a: i64[1]",
            "%s = Concat(%a, i64[1]{-1}) {axis=0} %y = Reshape(%x, %s)",
        ),
        "spectrum": ("%x: f32[2,6,1]", "%y = DFT(%x, _, i64[]{1}) {onesided=1}"),
        "spectrum_of_complex": ("%x: f32[2,6,2]", "%y = DFT(%x, _, i64[]{1}) {inverse=1}"),
        "spectra": ("%x: f32[1,16,1]", "@w : f32[6] = random(1) %y = STFT(%x, i64[]{3}, @w) {onesided=1}"),
        "window": ("%x: f32[7]", "%w = HammingWindow(i64[]{7}) %y = Mul(%x, %w)"),
        "norm_pool": ("%x: f32[1,2,6,6]", "%y = LpPool(%x) {kernel_shape=[2,3], p=2, pads=[0,1,0,1]}"),
        "global_norm_pool": ("%x: f32[1,2,6,6]", "%y = GlobalLpPool(%x) {p=2}"),
        "fold": ("%x: f32[1,8,4]", "%y = Col2Im(%x, i64[2]{4,4}, i64[2]{2,2}) {strides=[2,2]}"),
        "unique": ("%x: i64[9]", "%y, %i, %j, %c = Unique(%x) {sorted=0}"),
        "cut_and_fill": ("%x: f32[5,2]", "%y = CenterCropPad(%x, i64[2]{3,4})"),
        "reverse_sequence": ("%x: f32[4,3]", "%y = ReverseSequence(%x, i64[3]{1,4,2})"),
        "affine_grid": ("%x: f32[1,2,3]", "%y = AffineGrid(%x, i64[4]{1,1,3,4})"),
        "cross_entropy": ("%x: f32[3,5]", "@t : i64[3] = [0, 4, 2] %y = SoftmaxCrossEntropyLoss(%x, @t)"),
        "likelihood": (
            "%x: f32[3,5]",
            "@t : i64[3] = [0, 4, 2] %y = NegativeLogLikelihoodLoss(%x, @t) {ignore_index=4}",
        ),
        "boxes": (
            "%x: f32[1,2,6]",
            "@b : f32[1,6,4] = [0.,0.,1.,1., 0.,0.1,1.,1.1, 0.,-0.1,1.,0.9, 0.,10.,1.,11., 0.,10.1,1.,11.1, 0.,100.,1.,101.]"
            " %y = NonMaxSuppression(@b, %x, i64[]{3}, f32[]{0.5}, f32[]{-0.5})",
        ),
        "scan": (
            "%x: f32[4,3]",
            "%z = ReduceSum(%x, i64[1]{0}) {keepdims=0} %e, %y = Scan(%z, %x) {num_scan_inputs=1, scan_input_directions=[1]} : f32[3], f32[4,3] regions {"
            " body = graph(%s: f32[3], %v: f32[3]) -> (a, b) { %a = Sub(%v, %s) %b = Neg(%a) return %a, %b } }",
        ),
        "norm_without_parameters": (
            "%x: f32[1,3,7]",
            "@s : f32[3] = [1.0, 1.0, 1.0] @b : f32[3] = [0.0, 0.0, 0.0] %n = Neg(%x) %t = ReduceMean(%n, i64[2]{0,2}) {keepdims=0} "
            "%y = InstanceNormalization(%n, %t, @b)",
        ),
        "places_of_the_largest": (
            "%x: f32[2,3,6,5]",
            "%v, %y = MaxPool(%x) {kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,0]} : f32[2,3,3,2], i64[2,3,3,2]",
        ),
        "pads_by_side_are_not_counted": (
            "%x: f32[1,2,5,6]",
            "%y = AveragePool(%x) {kernel_shape=[3,2], pads=[0,1,1,0], strides=[2,1]}",
        ),
        "dropout_mask": ("%x: f32[2,3]", "%z, %y = Dropout(%x) : f32[2,3], bool[2,3]"),
        "scores_of_attention": (
            "%q: f32[1,2,3,4], %k: f32[1,2,5,4], %v: f32[1,2,5,4]",
            "%o, %a, %b, %y = Attention(%q, %k, %v) {qk_matmul_output_mode=3, is_causal=1}",
        ),
        "dilated_average": ("%x: f32[1,2,7,6]", "%y = AveragePool(%x) {kernel_shape=[2,2], dilations=[2,3]}"),
        "largest_by_place": (
            "%x: f32[4,3], %u: f32[3,3]",
            '@i : i64[3,1] = [1, 3, 1] %y = ScatterND(%x, @i, %u) {reduction="max"}',
        ),
        "computed_scales": (
            "%x: f32[1,2,4,5], %r: f32[4]",
            "%s = Add(f32[4]{1.0,1.0,1.5,0.75}, %r) %t = Min(%s, f32[4]{1.0,1.0,1.5,0.75}) %u = Max(%t, f32[4]{1.0,1.0,1.5,0.75}) "
            '%y = Resize(%x, _, %u) {mode="linear"} : f32[1,2,6,3]',
        ),
        "cubic_by_a_part": ("%x: f32[1,2,4,5]", '%y = Resize(%x, _, f32[4]{1.0,1.0,1.5,2.0}) {mode="cubic"}'),
        "norm_with_statistics": (
            "%x: f32[2,4]",
            "@w : f32[4] = random(1) %n, %m, %d = LayerNormalization(%x, @w) %k = Mul(%n, %m) %y = Div(%k, %d)",
        ),
    }.items()
}

CASES = {**ELEMENTWISE, **REDUCTIONS, **INTEGERS, **SHAPING, **LAYERS, **RECURRENT, **QUANTIZED, **RARER}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_runtime_does(name: str):
    graph = parse(CASES[name])
    model = Model(graph)
    feeds = synthesize(graph, 1, seed=3)[0]
    wanted, found = OrtRunner(model, optimize=False).run(feeds), to_runner(model).run(feeds)
    for output in graph.output_names:
        difference = compare(wanted[output], found[output])
        assert wanted[output].dtype == found[output].dtype
        assert difference.max_error <= 2e-6 if wanted[output].dtype.kind == "f" else difference.mismatch == 0, (
            difference
        )


def test_wide_unsigned_integers_wrap_and_compare_as_such():
    text = """graph (%x: u64[4], %y: u64[4], %a: u16[3]) -> (less, largest, total, halves, shifted) {
      %less = Less(%x, %y) %largest = Max(%x, %y) %total = Add(%x, %y) %s = Add(%a, u16[]{1}) %halves = Div(%s, u16[]{2})
      %shifted = BitShift(%a, u16[]{3}) {direction="LEFT"} return %less, %largest, %total, %halves, %shifted }"""
    x = np.array([1, 2**63 + 1, 2**64 - 1, 0], np.uint64)
    y = np.array([2**63, 5, 2**64 - 1, 2**64 - 2], np.uint64)
    a = np.array([7, 65535, 40000], np.uint16)
    found = to_runner(Model(parse(text))).run({"x": x, "y": y, "a": a})
    halves, shifted = (a + np.uint16(1)) // np.uint16(2), a << np.uint16(3)
    wanted = {"less": x < y, "largest": np.maximum(x, y), "total": x + y, "halves": halves, "shifted": shifted}
    for name, expected in wanted.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
