"""What stands for an operator at opsets that do not have it, in terms of older ones: a row per operator.

A row builds canonical nodes in front of the one that it stands for and gives a value for each of its outputs (None for
one that nobody uses). The bodies follow the operators' function definitions in the ONNX specification, in the shape
that runtimes know how to fuse again where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Builder, Node, Value, constant
from . import groups
from .activations import celu, gelu, hard_swish, mish, swish
from .attention import attention, has_valid_lengths, has_window, shares_a_row, with_rows
from .bits import bit_cast, bitwise, bitwise_not
from .containers import (
    identity_of_sequence,
    is_no_optional,
    is_sequence,
    optional_get_element,
    optional_has_element,
    sequence_map,
)
from .forms import REDUCTIONS
from .groups import from_groups, per_group
from .norms import layer_normalization, rms_normalization
from .operands import dtype_of, number, shape_of
from .padding import (
    center_crop_pad,
    compares_strings,
    equal_strings,
    feeds_a_maximum,
    may_be_empty,
    pad_all,
    pad_around,
    pad_minus_zero,
    pads_some_computed,
    reshape,
    split,
    splits_unknown_size,
    wraps,
)
from .pooling import average_pool, batch_normalization, has_gaps, has_gaps_or_rounds_up, lp_pool, trains
from .quantized import (
    dequantize_linear,
    has_half_scales,
    is_blocked_or_16_bit,
    is_half,
    is_per_channel,
    q_linear_mat_mul,
    quantize_linear,
)
from .recurrences import causal_conv, cum_prod, linear_attention, swiglu
from .reductions import boolean, has_computed_axes, is_boolean, is_special, reduction
from .resizing import is_newer, is_symmetric, resampled, resize
from .rotary import rotary_embedding
from .sampling import affine_grid, deform_conv, grid_sample, is_not_planar, is_shifted, roi_align
from .scans import scan_as_loop
from .scattering import col2im, reduces_by, scatter_elements, scatter_nd, tensor_scatter
from .spatial import depth_to_space, is_channel_first
from .spectral import dft, dft_along, has_computed_axis, mel_weight_matrix, stft, window

Results = Sequence[Value | None]
LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Decomposition:
    """How to build what stands for a node, and which nodes need that (all, unless said otherwise).

    `always` is for what opsets have and the pinned ONNX Runtime does not: it is never written.
    """

    build: Callable[[Node, Builder], Results]
    needed: Callable[[Node], bool] = lambda _: True
    always: bool = False


def cast_like(node: Node, op: Builder) -> Results:
    attrs = {k: v for k, v in node.attrs.items() if k in ("saturate", "round_mode")}
    return [op.Cast(node.operand(0), to=dtype_of(node.operand(1)).code, **attrs)]


def trilu(node: Node, op: Builder) -> Results:
    x, k = node.operand(0), node.input(1)
    sizes = op.Shape(x)
    zero, one = constant(np.array(0, np.int64)), constant(np.array(1, np.int64))
    rows, columns = (op.Range(zero, op.Gather(sizes, constant(np.array(axis, np.int64))), one) for axis in (-2, -1))
    offset = op.Sub(columns, op.Unsqueeze(rows, [1]))
    diagonal = zero if k is None else k
    kept = op.GreaterOrEqual(offset, diagonal) if node.int("upper") else op.LessOrEqual(offset, diagonal)
    return [op.Where(kept, x, number(0, x))]


def or_equal(strict: str, opposite: str) -> Callable[[Node, Builder], Results]:
    """A comparison that holds for equal ones too. What is no number is neither greater nor less nor equal: only of
    integers is it the opposite's negation, which is shorter.
    """

    def build(node: Node, op: Builder) -> Results:
        a, b = node.operand(0), node.operand(1)
        if dtype_of(a).is_float:
            return [op.Or(getattr(op, strict)(a, b), op.Equal(a, b))]
        return [op.Not(getattr(op, opposite)(a, b))]

    return build


def zero_bias(node: Node, op: Builder) -> Results:
    """A Gemm with a bias of zeros (Gemm-9: it cannot be left out)."""
    a, b = node.operand(0), node.operand(1)
    return [op.Gemm(a, b, constant(np.zeros(1, dtype_of(a).numpy)), **node.attrs)]


def has_no_bias(node: Node) -> bool:
    return node.input(2) is None


def bernoulli(node: Node, op: Builder) -> Results:
    """One where a random number is below the probability (Bernoulli-15)."""
    x = node.operand(0)
    seed = {"seed": node.float("seed")} if node.attr("seed") is not None else {}
    drawn = op.Less(op.RandomUniformLike(x, **seed), x)
    return [op.Cast(drawn, to=node.int("dtype", dtype_of(x).code))]


def shape_part(node: Node, op: Builder) -> Results:
    return [op.Slice(op.Shape(node.operand(0)), [node.int("start", 0)], [node.int("end", LAST)], [0])]


def is_part(node: Node) -> bool:
    return bool(node.int("start", 0)) or node.attr("end") is not None


def batch_first(states: int) -> Callable[[Node, Builder], Results]:
    """A recurrent layer with the batch first (layout=1) between transposes; `states` is 2 for LSTM, else 1."""

    def build(node: Node, op: Builder) -> Results:
        operands = list(node.inputs)
        for index in (0, 5, 6)[: 1 + states]:
            value = node.input(index)
            if value is not None:
                operands[index] = op.Transpose(value, perm=[1, 0, 2])
        attrs = {k: v for k, v in node.attrs.items() if k != "layout"}
        made = op.node(node.op, operands, attrs, outputs=len(node.outputs))
        assert isinstance(made, Node)
        perms = [[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]
        return [
            op.Transpose(new, perm=perm) if old.users else None
            for old, new, perm in zip(node.outputs, made.outputs, perms, strict=False)
        ]

    return build


def is_batch_first(node: Node) -> bool:
    return bool(node.int("layout", 0))


def along_last(node: Node, op: Builder) -> Results:
    """A softmax along another axis than the last, between transposes."""
    rank = len(shape_of(node.operand(0)))
    axis, perm = node.int("axis", -1) % rank, list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    last = op.node(node.op, [op.Transpose(node.operand(0), perm=perm)], {"axis": rank - 1})
    assert isinstance(last, Node)
    return [op.Transpose(last.output, perm=perm)]


def is_along_another(node: Node) -> bool:
    """True where the axes after that of a softmax are not known to have size 1."""
    shape, axis = node.operand(0).shape, node.int("axis", -1)
    return axis != -1 and shape is not None and any(size != 1 for size in shape[axis % len(shape) + 1 :])


DECOMPOSITIONS: dict[tuple[str, int], Decomposition] = {
    ("AffineGrid", 20): Decomposition(affine_grid),
    ("Attention", 22): Decomposition(with_rows, shares_a_row, always=True),
    ("Attention", 23): Decomposition(attention),
    ("Attention", 24): Decomposition(attention, has_valid_lengths),
    ("Attention", 25): Decomposition(attention, has_window),
    ("AveragePool", 19): Decomposition(average_pool, has_gaps),
    ("BatchNormalization", 14): Decomposition(batch_normalization, trains),
    ("Bernoulli", 15): Decomposition(bernoulli),
    ("BitCast", 26): Decomposition(bit_cast),
    ("BitwiseNot", 18): Decomposition(bitwise_not),
    ("BlackmanWindow", 17): Decomposition(window([0.42, 0.5, 0.08])),
    ("CastLike", 15): Decomposition(cast_like),
    ("CausalConvWithState", 27): Decomposition(causal_conv),
    ("Celu", 12): Decomposition(celu),
    ("CenterCropPad", 18): Decomposition(center_crop_pad),
    ("Col2Im", 18): Decomposition(col2im),
    ("CumProd", 26): Decomposition(cum_prod),
    ("DFT", 17): Decomposition(dft),
    ("DFT", 20): Decomposition(dft_along, has_computed_axis),
    ("DeformConv", 19): Decomposition(deform_conv),
    ("DequantizeLinear", 13): Decomposition(dequantize_linear, is_per_channel),
    ("DequantizeLinear", 19): Decomposition(dequantize_linear, is_half),
    ("DequantizeLinear", 21): Decomposition(dequantize_linear, is_blocked_or_16_bit),
    ("DepthToSpace", 11): Decomposition(depth_to_space, is_channel_first),
    ("Equal", 19): Decomposition(equal_strings, compares_strings),
    ("GRU", 14): Decomposition(batch_first(1), is_batch_first),
    ("Gelu", 20): Decomposition(gelu),
    ("Gemm", 11): Decomposition(zero_bias, has_no_bias),
    ("GreaterOrEqual", 12): Decomposition(or_equal("Greater", "Less")),
    ("GridSample", 16): Decomposition(grid_sample),
    ("GridSample", 20): Decomposition(grid_sample, is_not_planar),
    ("GroupNormalization", 18): Decomposition(from_groups, lambda node: not groups.is_per_channel(node)),
    ("GroupNormalization", 21): Decomposition(per_group, groups.is_per_channel),
    ("HammingWindow", 17): Decomposition(window([25 / 46, 21 / 46])),
    ("HannWindow", 17): Decomposition(window([0.5, 0.5])),
    ("HardSwish", 14): Decomposition(hard_swish),
    ("Identity", 14): Decomposition(identity_of_sequence, is_sequence),
    ("LSTM", 14): Decomposition(batch_first(2), is_batch_first),
    ("LayerNormalization", 17): Decomposition(layer_normalization),
    ("LessOrEqual", 12): Decomposition(or_equal("Less", "Greater")),
    ("LinearAttention", 27): Decomposition(linear_attention),
    ("LpPool", 18): Decomposition(lp_pool, has_gaps_or_rounds_up),
    ("MelWeightMatrix", 17): Decomposition(mel_weight_matrix),
    ("Mish", 18): Decomposition(mish),
    ("OptionalGetElement", 18): Decomposition(optional_get_element, is_no_optional),
    ("OptionalHasElement", 18): Decomposition(optional_has_element, is_no_optional),
    ("Pad", 11): Decomposition(pad_minus_zero, feeds_a_maximum, always=True),
    ("Pad", 18): Decomposition(pad_all, pads_some_computed),
    ("Pad", 19): Decomposition(pad_around, wraps),
    ("QLinearMatMul", 21): Decomposition(q_linear_mat_mul, has_half_scales),
    ("QuantizeLinear", 13): Decomposition(quantize_linear, is_per_channel),
    ("QuantizeLinear", 19): Decomposition(quantize_linear, is_half),
    ("QuantizeLinear", 21): Decomposition(quantize_linear, is_blocked_or_16_bit),
    ("RMSNormalization", 23): Decomposition(rms_normalization),
    ("RNN", 14): Decomposition(batch_first(1), is_batch_first),
    ("ReduceMax", 20): Decomposition(boolean, is_boolean),
    ("ReduceMin", 20): Decomposition(boolean, is_boolean),
    ("ReduceSum", 13): Decomposition(reduction, has_computed_axes),
    ("Reshape", 14): Decomposition(reshape, may_be_empty),
    ("Resize", 18): Decomposition(resize, is_newer),
    ("Resize", 19): Decomposition(resampled, is_symmetric),
    ("RoiAlign", 16): Decomposition(roi_align, is_shifted),
    ("RotaryEmbedding", 23): Decomposition(rotary_embedding),
    ("STFT", 17): Decomposition(stft),
    ("Scan", 9): Decomposition(scan_as_loop),
    ("ScatterElements", 16): Decomposition(scatter_elements, reduces_by("add", "mul")),
    ("ScatterElements", 18): Decomposition(scatter_elements, reduces_by("max", "min")),
    ("ScatterND", 16): Decomposition(scatter_nd, reduces_by("add", "mul")),
    ("ScatterND", 18): Decomposition(scatter_nd, reduces_by("max", "min")),
    ("SequenceMap", 17): Decomposition(sequence_map),
    ("Shape", 15): Decomposition(shape_part, is_part),
    ("Split", 18): Decomposition(split, splits_unknown_size),
    ("SwiGLU", 28): Decomposition(swiglu),
    ("Swish", 24): Decomposition(swish, always=True),
    ("TensorScatter", 24): Decomposition(tensor_scatter),
    ("Trilu", 14): Decomposition(trilu),
    **{(op, 13): Decomposition(along_last, is_along_another) for op in ("Hardmax", "LogSoftmax", "Softmax")},
    **{(op, 18): Decomposition(bitwise) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    **{(op, 18): Decomposition(reduction, is_special) for op in REDUCTIONS},
}
"""By operator and version: what stands for a node of that version where the opset is older (where a row holds always,
the number tells it from the operator's other rows)."""
