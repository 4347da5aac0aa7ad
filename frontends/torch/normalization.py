"""Normalizations, all as inference computes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...ir import DType, Size, Value
from ...ir.attributes import shortest
from .lowering import TORCH_DTYPES, Lowering, Rows, dtype_of, rank_of, shape_of, typed
from .reductions import variance_and_mean


def vector(op: Lowering, given: Value | None, shape: Sequence[Size], number: float, dtype: DType) -> Value:
    """The parameter, or the number that it stands for when it is missing."""
    return op.full(shape, number, dtype) if given is None else given


def batch_norm(
    op: Lowering, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, variance: Value | None,
    training: bool,
    momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Value:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel, with the running statistics, or the batch's where
    none are kept."""
    if mean is None or variance is None:
        return batch_statistics_norm(op, x, weight, bias, eps)
    if training:
        op.refuse_training()
    size = shape_of(mean)
    scale = vector(op, weight, size, 1.0, dtype_of(mean))
    shift = vector(op, bias, size, 0.0, dtype_of(mean))
    return op.BatchNormalization(x, scale, shift, mean, variance, epsilon=shortest(eps))


def batch_statistics_norm(op: Lowering, x: Value, weight: Value | None, bias: Value | None, eps: float) -> Value:
    """Each channel less its mean over the other axes, divided by the root of its variance (of n, not n - 1) there; in a
    batch of one, as standardized weights are, it is that of a sample."""
    if shape_of(x)[0] == 1 and rank_of(x) > 2:
        return instance_norm(op, x, weight, bias, None, None, True, 0.0, eps, False)
    variance, mean = variance_and_mean(op, x, [a for a in range(rank_of(x)) if a != 1], 0, True)
    made = op.Div(op.Sub(x, mean), op.Sqrt(op.Add(variance, op.scalar(eps, dtype_of(x)))))
    for name, parameter in (("Mul", weight), ("Add", bias)):
        if parameter is not None:
            made = op.call(name, made, op.reshape(parameter, [*shape_of(parameter), *[1] * (rank_of(x) - 2)]))
    return made


def native_batch_norm(
    op: Lowering,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    return batch_norm(op, x, weight, bias, mean, variance, False, momentum, eps), None, None


def layer_norm(
    op: Lowering, x: Value, normalized_shape: Sequence[int], weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:  # fmt: skip
    """Normalizes over the last axes, then scales and shifts each entry."""
    scale = vector(op, weight, op.ints(normalized_shape), 1.0, dtype_of(x))
    operands = [x, scale] if bias is None else [x, scale, bias]
    return op.LayerNormalization(*operands, axis=-len(normalized_shape), epsilon=shortest(eps))


def native_layer_norm(
    op: Lowering, x: Value, normalized_shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, None, None]:
    return layer_norm(op, x, normalized_shape, weight, bias, eps), None, None


def rms_norm(
    op: Lowering, x: Value, normalized_shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    """x / sqrt(mean(x^2) + eps) over the last axes; the element type's epsilon where none is given."""
    scale = vector(op, weight, op.ints(normalized_shape), 1.0, dtype_of(x))
    small = torch.finfo(TORCH_DTYPES[dtype_of(x)]).eps if eps is None else eps
    return op.RMSNormalization(x, scale, axis=-len(normalized_shape), epsilon=shortest(small))


def group_norm(
    op: Lowering, x: Value, num_groups: int, weight: Value | None = None, bias: Value | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:  # fmt: skip
    """Normalizes each group of channels of [N, C, ...], then scales and shifts each channel."""
    shape = shape_of(x)
    channels = shape[1:2]
    scale = vector(op, weight, channels, 1.0, dtype_of(x))
    shift = vector(op, bias, channels, 0.0, dtype_of(x))
    wide = x if rank_of(x) > 2 else op.unsqueeze(x, [2])
    made = op.GroupNormalization(wide, scale, shift, num_groups=num_groups, epsilon=shortest(eps))
    return made if wide is x else op.squeeze(typed(made, dtype_of(x), [*shape, 1]), [2])


def native_group_norm(
    op: Lowering,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    n: Size,
    c: Size,
    hxw: Size,
    group: int,
    eps: float,
) -> tuple[Value, None, None]:
    return group_norm(op, x, group, weight, bias, eps), None, None


def instance_norm(
    op: Lowering, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, variance: Value | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> Value:  # fmt: skip
    """Normalizes each channel of each sample, or with running statistics where the module keeps them."""
    if not use_input_stats:
        return batch_norm(op, x, weight, bias, mean, variance, False, momentum, eps)
    channels = shape_of(x)[1:2]
    scale = vector(op, weight, channels, 1.0, dtype_of(x))
    return op.InstanceNormalization(x, scale, vector(op, bias, channels, 0.0, dtype_of(x)), epsilon=shortest(eps))


ROWS: Rows = {
    "aten.batch_norm.default": batch_norm, "aten._native_batch_norm_legit_no_training.default": native_batch_norm,
    "aten.layer_norm.default": layer_norm, "aten.native_layer_norm.default": native_layer_norm,
    "aten.rms_norm.default": rms_norm,
    "aten.group_norm.default": group_norm, "aten.native_group_norm.default": native_group_norm,
    "aten.instance_norm.default": instance_norm,
}  # fmt: skip
