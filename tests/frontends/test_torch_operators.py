"""Every family of ATen operators: the lowered graph computes what torch computes, with the same element types and shapes.

One module per family returns a dictionary with an entry per operator, so a family is exported once and a failure names the operator.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tersor.backends.runners import OrtRunner  # noqa: E402
from tersor.frontends.torch import from_module  # noqa: E402
from tersor.ir import TensorType, verify  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Family(nn.Module):
    """Functions of the named inputs, which they find as attributes of their only argument."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, given):
        named = SimpleNamespace(**given)
        return {name: function(named) for name, function in self.functions.items()}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def integers(low, high, *shape, seed=0):
    return torch.randint(low, high, shape, generator=generator(seed))


def check(functions, *, others=(), dynamic=None, tolerance=1e-5, **inputs):
    """Imports a family and compares each entry on the inputs it was exported with and on `others`."""
    module = Family(functions)
    shapes = None if dynamic is None else {"given": {name: dynamic.get(name, {}) for name in inputs}}
    model = from_module(module, (inputs,), dynamic_shapes=shapes)
    verify(model.graph)
    runner = OrtRunner(model)
    for given in (inputs, *others):
        found = runner.run({f"given_{name}": x.numpy() for name, x in given.items()})
        expected = module(given)
        assert set(found) == set(expected)
        for value, name in zip(model.graph.outputs, model.graph.output_names, strict=True):
            same(found[name], expected[name].detach().numpy(), value.type, name, tolerance)


def same(found, expected, kind, name, tolerance):
    assert isinstance(kind, TensorType), name
    assert found.dtype == expected.dtype == kind.dtype.numpy, name
    assert found.shape == expected.shape, name
    if found.dtype.kind in "fc":
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_arithmetic_promotes_types_as_torch_does():
    x, y = normal(2, 3), normal(3, seed=1) + 3
    i, j = integers(-7, 8, 2, 3), integers(1, 5, 3, seed=1)
    b, s = integers(0, 2, 2, 3) > 0, torch.tensor(2.5, dtype=torch.float64)
    check(
        {
            "add": lambda t: t.x + t.y,
            "add_alpha": lambda t: torch.add(t.x, t.y, alpha=2),
            "add_scalar": lambda t: t.i + 1.5,
            "add_mixed": lambda t: t.i + t.x,
            "add_scalar_tensor_of_a_wider_type": lambda t: t.x + t.s,
            "add_scalar_tensor_of_a_higher_category": lambda t: t.i * t.s,
            "add_truth_values": lambda t: t.b + t.b,
            "mul_truth_values": lambda t: t.b * t.b,
            "mul_by_truth": lambda t: t.b * t.x,
            "sub": lambda t: t.x - t.y,
            "rsub": lambda t: 1.0 - t.x,
            "rsub_truth": lambda t: 1.0 - t.b.float(),
            "div": lambda t: t.i / t.j,
            "div_floor": lambda t: torch.div(t.x, t.y, rounding_mode='floor'),
            "div_trunc": lambda t: torch.div(t.x * 9, t.y, rounding_mode='trunc'),
            "floor_divide_integers": lambda t: t.i // t.j,
            "trunc_divide_integers": lambda t: torch.div(t.i, t.j, rounding_mode='trunc'),
            "floor_divide_number": lambda t: t.i // 3,
            "remainder_integers": lambda t: t.i % t.j,
            "remainder_floats": lambda t: t.x % 0.75,
            "fmod": lambda t: torch.fmod(t.x * 5, t.y),
            "pow_number": lambda t: t.x ** 2,
            "pow_tensor": lambda t: t.y ** t.x,
            "pow_of_number": lambda t: 2.0 ** t.x,
            "maximum": lambda t: torch.maximum(t.x, t.y),
            "minimum": lambda t: torch.min(t.i, t.j),
            "clamp": lambda t: t.x.clamp(-0.5, 0.5),
            "clamp_min": lambda t: t.x.clamp(min=0.1),
            "clamp_max": lambda t: t.x.clamp_max(0.1),
            "clamp_integers_by_floats": lambda t: t.i.clamp(-1.5, 2.5),
            "clamp_tensor": lambda t: t.x.clamp(min=t.y - 3, max=t.y),
            "lerp": lambda t: torch.lerp(t.x, t.y, 0.3),
            "addcmul": lambda t: torch.addcmul(t.x, t.x, t.y, value=0.5),
            "addcdiv": lambda t: torch.addcdiv(t.x, t.x, t.y),
            "to_half_and_back": lambda t: t.x.half().float(),
            "to_integer": lambda t: (t.x * 5).to(torch.int32),
            "to_truth": lambda t: t.i.bool(),
            "type_as": lambda t: t.i.type_as(t.x),
        },
        x=x, y=y, i=i, j=j, b=b, s=s,
    )  # fmt: skip


def test_comparisons_and_logic():
    x, y, i = normal(3, 4), normal(4, seed=1), integers(-2, 3, 3, 4)
    b, c = x > 0, y > 0
    odd = torch.tensor([[float("nan"), float("inf"), 1.0, -float("inf")]])
    check(
        {
            "eq": lambda t: t.x == t.y,
            "eq_number": lambda t: t.i == 1,
            "ne": lambda t: t.i != 0,
            "lt": lambda t: t.x < t.y,
            "le_mixed": lambda t: t.i <= t.x,
            "gt_integers_and_float": lambda t: t.i > 0.5,
            "ge": lambda t: t.x >= t.y,
            "eq_truth": lambda t: t.b == t.c,
            "lt_truth": lambda t: t.b < t.c,
            "and": lambda t: t.b & t.c,
            "or": lambda t: t.b | t.c,
            "xor": lambda t: t.b ^ t.c,
            "not": lambda t: ~t.b,
            "logical_and_numbers": lambda t: torch.logical_and(t.i, t.b),
            "logical_not_numbers": lambda t: torch.logical_not(t.i),
            "bitwise_and_integers": lambda t: t.i & 3,
            "isnan": lambda t: torch.isnan(t.odd),
            "isinf": lambda t: torch.isinf(t.odd),
            "isfinite": lambda t: torch.isfinite(t.odd),
            "where": lambda t: torch.where(t.b, t.x, t.y),
            "where_number": lambda t: torch.where(t.b, t.x, 0.0),
            "where_numbers": lambda t: torch.where(t.b, 1.0, -1.0),
            "masked_fill": lambda t: t.x.masked_fill(t.b, -10000.0),
            "masked_fill_tensor": lambda t: t.x.masked_fill(t.c, torch.tensor(2.0)),
        },
        x=x, y=y, i=i, b=b, c=c, odd=odd,
    )  # fmt: skip


def applied(name, argument):
    function = getattr(torch, name)
    return lambda t: function(argument(t))


def test_functions_of_one_number():
    x, p, i = normal(3, 4), normal(3, 4, seed=1).abs() + 0.1, integers(-3, 4, 3, 4)
    names = "abs neg exp sin cos tan atan sinh cosh asinh sign floor ceil round trunc frac square expm1 exp2 erf erfc sigmoid tanh"
    positive = "log sqrt rsqrt reciprocal log1p log2 log10"
    functions = {name: applied(name, lambda t: t.x * 2) for name in names.split()}
    functions |= {name: applied(name, lambda t: t.p) for name in positive.split()}
    functions |= {name: applied(name, lambda t: t.x.clamp(-0.9, 0.9)) for name in ("asin", "acos", "atanh")}
    functions |= {
        "acosh": lambda t: torch.acosh(t.p + 1),
        "exp_of_integers": lambda t: torch.exp(t.i),
        "floor_of_integers": lambda t: torch.floor(t.i),
        "abs_of_integers": lambda t: t.i.abs(),
    }
    check(functions, x=x, p=p, i=i, tolerance=3e-5)


def test_activations():
    x, slopes = normal(2, 4, 5) * 3, torch.tensor([0.1, 0.2, 0.3, 0.4])
    check(
        {
            "relu": lambda t: F.relu(t.x),
            "relu6": lambda t: F.relu6(t.x),
            "hardtanh": lambda t: F.hardtanh(t.x, -2, 1.5),
            "leaky_relu": lambda t: F.leaky_relu(t.x, 0.2),
            "prelu": lambda t: F.prelu(t.x, t.slopes),
            "prelu_one": lambda t: F.prelu(t.x, t.slopes[:1]),
            "elu": lambda t: F.elu(t.x, 0.7),
            "celu": lambda t: F.celu(t.x, 0.7),
            "selu": lambda t: F.selu(t.x),
            "gelu": lambda t: F.gelu(t.x),
            "gelu_tanh": lambda t: F.gelu(t.x, approximate='tanh'),
            "silu": lambda t: F.silu(t.x),
            "mish": lambda t: F.mish(t.x),
            "hardswish": lambda t: F.hardswish(t.x),
            "hardsigmoid": lambda t: F.hardsigmoid(t.x),
            "softplus": lambda t: F.softplus(t.x),
            "softplus_beta": lambda t: F.softplus(t.x, beta=2.0),
            "logsigmoid": lambda t: F.logsigmoid(t.x),
            "softsign": lambda t: F.softsign(t.x),
            "hardshrink": lambda t: F.hardshrink(t.x, 0.7),
            "softshrink": lambda t: F.softshrink(t.x, 0.7),
            "tanhshrink": lambda t: F.tanhshrink(t.x),
            "threshold": lambda t: F.threshold(t.x, 0.3, -2.0),
            "glu": lambda t: F.glu(t.x, 1),
            "rrelu": lambda t: F.rrelu(t.x),
            "softmax": lambda t: F.softmax(t.x, 1),
            "softmax_in_double": lambda t: F.softmax(t.x, -1, dtype=torch.float64),
            "log_softmax": lambda t: F.log_softmax(t.x, 2),
            "dropout": lambda t: F.dropout(t.x, 0.5, training=False),
        },
        x=x, slopes=slopes,
    )  # fmt: skip


def test_products_of_matrices():
    x, y, v = normal(2, 3, 4), normal(2, 4, 5, seed=1), normal(4, seed=2)
    w, b, m = normal(6, 4, seed=3), normal(6, seed=4), normal(3, 4, seed=5)
    check(
        {
            "matmul": lambda t: t.x @ t.y,
            "matmul_vector": lambda t: t.x @ t.v,
            "dot": lambda t: torch.dot(t.v, t.v),
            "mv": lambda t: torch.mv(t.m, t.v),
            "mm": lambda t: torch.mm(t.m, t.w.t()),
            "bmm": lambda t: torch.bmm(t.x, t.y),
            "linear_matrix": lambda t: F.linear(t.m, t.w, t.b),
            "linear_matrix_alone": lambda t: F.linear(t.m, t.w),
            "linear_deep": lambda t: F.linear(t.x, t.w, t.b),
            "linear_vector": lambda t: F.linear(t.v, t.w, t.b),
            "addmm": lambda t: torch.addmm(t.b, t.m, t.w.t(), beta=0.5, alpha=2),
            "baddbmm": lambda t: torch.baddbmm(t.b[:5], t.x, t.y, beta=0.5),
            "outer": lambda t: torch.outer(t.v, t.b),
            "einsum": lambda t: torch.einsum('bij,bjk->bki', t.x, t.y),
        },
        x=x, y=y, v=v, w=w, b=b, m=m,
    )  # fmt: skip


def test_convolutions():
    x, line, cube = normal(2, 4, 9, 8), normal(2, 4, 9, seed=1), normal(1, 2, 4, 5, 4, seed=2)
    w, d, w1, w3 = (
        normal(6, 4, 3, 3, seed=3),
        normal(4, 1, 3, 3, seed=4),
        normal(6, 2, 3, seed=5),
        normal(3, 2, 2, 3, 2, seed=6),
    )
    check(
        {
            "conv2d": lambda t: F.conv2d(t.x, t.w, stride=2, padding=1),
            "conv2d_dilated": lambda t: F.conv2d(t.x, t.w, dilation=(2, 1), padding=(2, 0)),
            "depthwise": lambda t: F.conv2d(t.x, t.d, padding=1, groups=4),
            "conv2d_same": lambda t: F.conv2d(t.x, t.w[:, :, :2], padding='same'),
            "conv2d_valid": lambda t: F.conv2d(t.x, t.w, padding='valid'),
            "conv2d_one_sample": lambda t: F.conv2d(t.x[0], t.w),
            "conv1d_groups": lambda t: F.conv1d(t.line, t.w1, padding=1, groups=2),
            "conv3d": lambda t: F.conv3d(t.cube, t.w3),
            "conv_transpose2d": lambda t: F.conv_transpose2d(t.x, t.w[:4], stride=2, padding=1, output_padding=1),
            "conv_transpose2d_groups": lambda t: F.conv_transpose2d(t.x, t.d, stride=2, groups=4),
            "conv_transpose1d": lambda t: F.conv_transpose1d(t.line, t.w1[:4], stride=3),
            "conv_transpose3d": lambda t: F.conv_transpose3d(t.cube, t.w3[:2]),
        },
        x=x, line=line, cube=cube, w=w, d=d, w1=w1, w3=w3, tolerance=2e-5,
    )  # fmt: skip


def test_normalizations():
    x, flat, w, b = normal(2, 6, 4, 5) * 2 + 1, normal(3, 6, seed=1), normal(6, seed=2), normal(6, seed=3)
    mean, var, last = normal(6, seed=4), normal(6, seed=5).abs() + 0.5, normal(5, seed=6)
    check(
        {
            "batch_norm": lambda t: F.batch_norm(t.x, t.mean, t.var, t.w, t.b),
            "batch_norm_bare": lambda t: F.batch_norm(t.flat, t.mean, t.var),
            "batch_norm_of_batch_statistics": lambda t: F.batch_norm(t.x, None, None, t.w, t.b, training=True),
            "batch_norm_of_one_sample": lambda t: F.batch_norm(t.x[:1] - 3, None, None, t.w, training=True, eps=1e-3),
            "layer_norm": lambda t: F.layer_norm(t.x, (5,), t.last, t.last),
            "layer_norm_bare": lambda t: F.layer_norm(t.x, (4, 5)),
            "rms_norm": lambda t: F.rms_norm(t.x, (5,), t.last, 0.0001),
            "rms_norm_bare": lambda t: F.rms_norm(t.x, (5,)),
            "group_norm": lambda t: F.group_norm(t.x, 3, t.w, t.b),
            "group_norm_bare": lambda t: F.group_norm(t.flat, 2),
            "instance_norm": lambda t: F.instance_norm(t.x, weight=t.w, bias=t.b),
            "normalize": lambda t: F.normalize(t.x, dim=1),
        },
        x=x, flat=flat, w=w, b=b, mean=mean, var=var, last=last, tolerance=2e-5,
    )  # fmt: skip


def test_pooling_padding_and_resampling():
    x, line, cube = normal(2, 3, 9, 12), normal(2, 3, 10, seed=1), normal(1, 2, 4, 6, 4, seed=2)
    grid = torch.rand(2, 4, 5, 2, generator=generator()) * 2 - 1
    check(
        {
            "max_pool2d": lambda t: F.max_pool2d(t.x, 3, 2, 1),
            "max_pool2d_ceil": lambda t: F.max_pool2d(t.x, 2, 2, ceil_mode=True),
            "max_pool2d_ceil_padded": lambda t: F.max_pool2d(t.x, 3, 2, 1, ceil_mode=True),
            "max_pool2d_dilated": lambda t: F.max_pool2d(t.x, 2, 1, dilation=2),
            "max_pool2d_one_sample": lambda t: F.max_pool2d(t.x[0], 2),
            "max_pool1d": lambda t: F.max_pool1d(t.line, 3),
            "max_pool3d": lambda t: F.max_pool3d(t.cube, 2),
            "avg_pool2d": lambda t: F.avg_pool2d(t.x, 3, 2, 1),
            "avg_pool2d_pads_not_counted": lambda t: F.avg_pool2d(t.x, 3, 2, 1, count_include_pad=False),
            "avg_pool2d_ceil": lambda t: F.avg_pool2d(t.x, 2, 2, ceil_mode=True),
            "avg_pool2d_ceil_padded": lambda t: F.avg_pool2d(t.x, 3, 2, 1, ceil_mode=True),
            "avg_pool1d": lambda t: F.avg_pool1d(t.line, 2),
            "adaptive_avg_pool2d_one": lambda t: F.adaptive_avg_pool2d(t.x, 1),
            "adaptive_avg_pool2d_divides": lambda t: F.adaptive_avg_pool2d(t.x, (3, 4)),
            "adaptive_avg_pool2d_keeps_an_axis": lambda t: F.adaptive_avg_pool2d(t.x, (None, 1)),
            "adaptive_avg_pool2d_uneven": lambda t: F.adaptive_avg_pool2d(t.x, (4, 5)),
            "adaptive_avg_pool1d": lambda t: F.adaptive_avg_pool1d(t.line, 5),
            "adaptive_max_pool2d": lambda t: F.adaptive_max_pool2d(t.x, 3),
            "adaptive_max_pool2d_uneven": lambda t: F.adaptive_max_pool2d(t.x, (4, 5)),
            "adaptive_max_pool2d_places": lambda t: F.adaptive_max_pool2d(t.x, 3, return_indices=True)[1],
            "adaptive_avg_pool3d_uneven": lambda t: F.adaptive_avg_pool3d(t.cube, (3, 4, 3)),
            "max_pool2d_places": lambda t: F.max_pool2d(t.x, 3, 2, 1, return_indices=True)[1],
            "max_unpool2d": lambda t: F.max_unpool2d(*F.max_pool2d(t.x, 2, return_indices=True), 2, output_size=(9, 12)),
            "avg_pool2d_with_a_divisor": lambda t: F.avg_pool2d(t.x, 3, 2, 1, divisor_override=4),
            "pad_zero": lambda t: F.pad(t.x, (0, 0, 0, 0)) + 0,
            "pad_constant": lambda t: F.pad(t.x, (1, 2, 0, 1), value=0.5),
            "pad_negative": lambda t: F.pad(t.x, (-1, 2)),
            "pad_reflect": lambda t: F.pad(t.x, (1, 2, 3, 1), mode='reflect'),
            "pad_replicate": lambda t: F.pad(t.x, (1, 2, 3, 1), mode='replicate'),
            "pad_circular": lambda t: F.pad(t.x, (1, 2, 3, 1), mode='circular'),
            "upsample_nearest": lambda t: F.interpolate(t.x, scale_factor=2),
            "upsample_nearest_size": lambda t: F.interpolate(t.x, size=(13, 7)),
            "upsample_nearest_exact": lambda t: F.interpolate(t.x, size=(13, 7), mode='nearest-exact'),
            "upsample_bilinear": lambda t: F.interpolate(t.x, scale_factor=1.5, mode='bilinear'),
            "upsample_bilinear_corners": lambda t: F.interpolate(t.x, size=(13, 7), mode='bilinear', align_corners=True),
            "upsample_bicubic": lambda t: F.interpolate(t.x, size=(14, 20), mode='bicubic'),
            "upsample_antialias": lambda t: F.interpolate(t.x, size=(5, 6), mode='bilinear', antialias=True),
            "upsample_linear": lambda t: F.interpolate(t.line, size=17, mode='linear'),
            "grid_sample": lambda t: F.grid_sample(t.x, t.grid, align_corners=False),
            "grid_sample_border": lambda t: F.grid_sample(t.x, t.grid, 'nearest', 'border', align_corners=True),
            "pixel_shuffle": lambda t: F.pixel_shuffle(t.x.reshape(1, 24, 3, 9), 2),
            "pixel_unshuffle": lambda t: F.pixel_unshuffle(t.x, 3),
            "channel_shuffle": lambda t: F.channel_shuffle(t.x.reshape(1, 6, 9, 12), 3),
        },
        x=x, line=line, cube=cube, grid=grid, tolerance=3e-5,
    )  # fmt: skip


def test_shapes_at_fixed_and_other_sizes():
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    functions = {
        "view": lambda t: t.x.view(t.x.shape[0], -1),
        "view_joins_symbolic": lambda t: t.x.view(-1, t.x.shape[2]),
        "view_heads": lambda t: t.x.view(t.x.shape[0], t.x.shape[1], 2, 3),
        "reshape": lambda t: t.x.reshape(t.x.shape[1], t.x.shape[0] * 2, 3),
        "flatten": lambda t: t.x.flatten(1),
        "unflatten": lambda t: t.x.unflatten(2, (3, 2)),
        "permute": lambda t: t.x.permute(2, 0, 1),
        "transpose": lambda t: t.x.transpose(1, -1),
        "matrix_transpose": lambda t: t.x.mT,
        "movedim": lambda t: t.x.movedim(0, -1),
        "squeeze": lambda t: t.x.sum((0, 1), keepdim=True).squeeze(),
        "squeeze_dim": lambda t: t.x[:, :, :1].squeeze(-1),
        "squeeze_nothing": lambda t: t.x.squeeze(2) * 1,
        "expand": lambda t: t.x[:, :1].expand(-1, 4, -1),
        "expand_front": lambda t: t.x.expand(3, *t.x.shape),
        "repeat": lambda t: t.x.repeat(2, 1, 1, 2),
        "repeat_interleave": lambda t: t.x.repeat_interleave(3, 1),
        "cat": lambda t: torch.cat([t.x, t.x + 1], 1),
        "cat_mixed": lambda t: torch.cat([t.x, t.x.long()], -1),
        "stack": lambda t: torch.stack([t.x, -t.x], 1),
        "split": lambda t: t.x.split(2, 2)[2] + t.x.split([1, 5], 2)[0],
        "chunk": lambda t: t.x.chunk(2, -1)[1],
        "unbind": lambda t: t.x.unbind(2)[3],
        "slice": lambda t: t.x[:, :, 1:-1:2],
        "slice_negative": lambda t: t.x[..., -4:-1],
        "slice_to_symbolic": lambda t: t.x[:, t.x.shape[1] // 2 :],
        "select": lambda t: t.x[:, 0] + t.x[:, -1],
        "narrow": lambda t: t.x.narrow(2, 1, 3),
        "roll": lambda t: t.x.roll(2, 2),
        "roll_two": lambda t: t.x.roll((1, -2), (1, 2)),
        "flip": lambda t: t.x.flip([2, 0]),
        "tril": lambda t: t.x.tril(),
        "triu": lambda t: t.x.triu(1),
        "meshgrid": lambda t: sum(torch.meshgrid(t.x[:, 0, 0], t.x[0, :, 1], indexing="ij")),
        "contiguous": lambda t: t.x.transpose(0, 1).contiguous(),
        "size_as_number": lambda t: t.x * t.x.shape[1] / t.x.shape[0],
        "size_polynomial": lambda t: torch.full((2,), t.x.shape[1] * 3 - t.x.shape[0] % 2),
    }
    check(functions, x=normal(3, 5, 6), others=[{"x": normal(1, 3, 6)}, {"x": normal(2, 1, 6)}], dynamic={"x": sizes})


def test_tensors_from_numbers_and_sizes():
    sizes = {0: torch.export.Dim("length", min=2)}
    functions = {
        "arange": lambda t: torch.arange(5),
        "arange_float": lambda t: torch.arange(1.0, 2.0, 0.25),
        "arange_symbolic": lambda t: torch.arange(t.x.shape[0]),
        "arange_symbolic_float": lambda t: torch.arange(t.x.shape[0], dtype=torch.float32),
        "arange_step": lambda t: torch.arange(1, t.x.shape[0] * 2, 2),
        "zeros": lambda t: torch.zeros(2, 3),
        "zeros_large": lambda t: torch.zeros(100, 100),
        "zeros_symbolic": lambda t: t.x.new_zeros(t.x.shape[0], 2),
        "ones_like": lambda t: torch.ones_like(t.x, dtype=torch.int64),
        "full": lambda t: torch.full((2, t.x.shape[0]), 7),
        "full_like": lambda t: torch.full_like(t.x, -1.5),
        "truth": lambda t: torch.ones(t.x.shape[0], dtype=torch.bool),
        "scalar": lambda t: t.x + torch.tensor(2.0),
        "linspace": lambda t: torch.linspace(0, 1, 5),
        "eye": lambda t: torch.eye(3),
        "one_hot": lambda t: F.one_hot(t.x.long().clamp(0, 3), 4),
    }
    check(functions, x=normal(4), others=[{"x": normal(7)}], dynamic={"x": sizes})


def test_reductions_sorting_and_running_sums():
    x, i, b = normal(3, 4, 5), integers(-3, 4, 3, 4), normal(3, 4, seed=2) > 0
    check(
        {
            "sum": lambda t: t.x.sum(),
            "sum_dims": lambda t: t.x.sum((0, 2)),
            "sum_keep": lambda t: t.x.sum(1, keepdim=True),
            "sum_truth": lambda t: t.b.sum(1),
            "sum_integers": lambda t: t.i.sum(),
            "mean": lambda t: t.x.mean(),
            "mean_dim": lambda t: t.x.mean((-1, -2)),
            "prod": lambda t: t.x.prod(1),
            "amax": lambda t: t.x.amax((1, 2)),
            "amin": lambda t: t.x.amin(0, keepdim=True),
            "max": lambda t: t.x.max(),
            "max_dim": lambda t: t.x.max(1).values,
            "max_dim_indices": lambda t: t.x.max(1, keepdim=True).indices,
            "min_dim": lambda t: t.x.min(-1).values,
            "argmax": lambda t: t.x.argmax(-1),
            "argmax_all": lambda t: t.x.argmax(),
            "argmin_keep": lambda t: t.x.argmin(1, keepdim=True),
            "any": lambda t: t.b.any(),
            "any_dim": lambda t: t.b.any(1),
            "all_numbers": lambda t: t.i.all(0),
            "logsumexp": lambda t: t.x.logsumexp(1),
            "norm": lambda t: torch.linalg.vector_norm(t.x, dim=1),
            "norm_one": lambda t: torch.linalg.vector_norm(t.x, 1),
            "norm_max": lambda t: torch.linalg.vector_norm(t.x, math.inf, dim=2),
            "norm_three": lambda t: t.x.norm(3, dim=1),
            "var": lambda t: t.x.var(1),
            "var_biased": lambda t: t.x.var((1, 2), unbiased=False),
            "std": lambda t: t.x.std(),
            "std_keep": lambda t: t.x.std(-1, keepdim=True),
            "var_mean": lambda t: sum(torch.var_mean(t.x, 1)),
            "cumsum": lambda t: t.x.cumsum(1),
            "cumsum_truth": lambda t: t.b.cumsum(1),
            "topk": lambda t: t.x.topk(2, 1).values,
            "topk_indices": lambda t: t.x.topk(2, -1, largest=False).indices,
            "sort": lambda t: t.x.sort(1).values,
            "sort_descending": lambda t: t.x.sort(-1, descending=True).indices,
            "argsort": lambda t: t.x.argsort(1),
            "sort_truth": lambda t: t.b.sort(1).values,
        },
        x=x, i=i, b=b, tolerance=2e-5,
    )  # fmt: skip


def test_order_statistics_and_running_extremes_at_fixed_and_other_sizes():
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    odd = torch.tensor([[2.0, float("nan"), 1.0, 4.0], [float("nan")] * 4, [3.0, 1.0, 2.0, 0.0]])
    functions = {
        "kthvalue": lambda t: t.x.kthvalue(2, 1).values,
        "kthvalue_place": lambda t: t.x.kthvalue(1, -1, keepdim=True).indices,
        "median": lambda t: t.x.median(),
        "median_dim": lambda t: t.x.median(1).values,
        "median_integers": lambda t: t.i.median(1, keepdim=True).values,
        "median_nan": lambda t: t.odd.median(1).values,
        "median_nan_place": lambda t: t.odd.median(1).indices,
        "nanmedian": lambda t: t.odd.nanmedian(1).values,
        "nanmedian_all": lambda t: t.odd.nanmedian(),
        "mode": lambda t: t.i.mode(1).values,
        "cumprod": lambda t: t.x.cumprod(0),
        "logcumsumexp": lambda t: t.x.logcumsumexp(1),
        "cummax": lambda t: t.x.cummax(1).values,
        "cummax_place": lambda t: t.i.cummax(1).indices,
        "cummin_front": lambda t: t.i.cummin(0).values,
        "cummin_place": lambda t: t.x.cummin(0).indices,
    }
    given = {"x": normal(3, 5), "i": integers(-2, 3, 3, 5), "odd": odd}
    other = {"x": normal(2, 7), "i": integers(-2, 3, 2, 7), "odd": odd}
    check(functions, others=[other], dynamic={"x": sizes, "i": sizes}, **given)


def test_distinct_values_and_counts():
    check(
        {
            "unique": lambda t: t.i.unique(),
            "unique_inverse": lambda t: t.i.unique(return_inverse=True)[1],
            "unique_counts": lambda t: t.i.unique(return_counts=True)[1],
            "unique_rows": lambda t: torch.unique(t.i % 2, dim=0),
            "unique_consecutive": lambda t: t.flat.unique_consecutive(),
            "unique_consecutive_inverse": lambda t: t.flat.unique_consecutive(return_inverse=True)[1],
            "unique_consecutive_counts": lambda t: t.flat.unique_consecutive(return_counts=True)[1],
            "bincount": lambda t: t.flat.bincount(),
            "bincount_weights": lambda t: t.flat.bincount(t.flat * 0.5, minlength=9),
        },
        i=integers(0, 4, 4, 3), flat=torch.tensor([2, 2, 0, 5, 5, 5, 2]),
    )  # fmt: skip


def test_indexing():
    x, table = normal(3, 4, 5), normal(7, 2, seed=1)
    i, j, places = integers(-3, 3, 2), integers(0, 4, 2, seed=1), integers(0, 4, 3, 2, 5, seed=2)
    mask, values = normal(3, 4, seed=3) > 0, normal(2, 5, seed=4)
    check(
        {
            "embedding": lambda t: F.embedding(t.places, t.table),
            "index_select": lambda t: t.x.index_select(1, t.j),
            "gather": lambda t: t.x.gather(1, t.places),
            "index_first": lambda t: t.x[t.i],
            "index_middle": lambda t: t.x[:, t.places[0]],
            "index_two": lambda t: t.x[t.i, t.j],
            "index_last_two": lambda t: t.x[:, t.j, t.j],
            "index_apart": lambda t: t.x[t.i, :, t.j],
            "index_broadcast": lambda t: t.x[t.i[:, None], t.j[None]],
            "index_by_a_list": lambda t: t.x[:, [0, 2]],
            "index_by_a_mask": lambda t: t.x[t.mask],
            "masked_select": lambda t: t.x[..., 0].masked_select(t.mask),
            "nonzero": lambda t: t.mask.nonzero(),
            "index_put": lambda t: t.x.index_put((torch.tensor([0, 2]), torch.tensor([1, 3])), t.values),
            "index_put_middle": lambda t: torch.ops.aten.index_put(t.x, [None, torch.tensor([1, 3])], t.values),
            "index_put_accumulate": lambda t: t.x.index_put((t.i * 0, t.j * 0), t.values, accumulate=True),
            "index_put_mask_rows": lambda t: t.x.index_put((t.mask,), t.x[t.mask] * 2),
            "index_put_mask_one_row": lambda t: t.x.index_put((t.mask,), t.values[0], accumulate=True),
            "index_put_mask": lambda t: t.x.index_put((t.mask,), torch.tensor(0.0)),
            "index_add": lambda t: t.x[0].index_add(0, torch.tensor([1, 1]), t.values, alpha=2.0),
            "index_copy": lambda t: t.x[0].index_copy(0, torch.tensor([1, 3]), t.values),
            "scatter": lambda t: t.x.scatter(1, t.places[:, :1], t.x[:, 1:]),
            "scatter_number": lambda t: t.x.scatter(1, t.places, 0.5),
            "scatter_add": lambda t: t.x.scatter_add(1, t.places, t.x),
            "scatter_max_alone": lambda t: t.x.scatter_reduce(1, t.places, t.x * 2, "amax", include_self=False),
            "scatter_min_integers": lambda t: t.places.scatter_reduce(1, t.places % 2, t.places, "amin", include_self=False),
            "scatter_product": lambda t: t.x.scatter_reduce(1, t.places, t.x, "prod", include_self=False),
            "scatter_mean": lambda t: t.x.scatter_reduce(1, t.places, t.x[:, :2], "mean"),
            "scatter_mean_alone": lambda t: t.x.scatter_reduce(1, t.places, t.x[:, :2], "mean", include_self=False),
            "index_reduce": lambda t: t.x[0].index_reduce(0, torch.tensor([1, 1]), t.values, "amax"),
            "index_fill": lambda t: t.x.index_fill(1, torch.tensor([0, 2]), -1.0),
            "slice_scatter": lambda t: t.x.slice_scatter(t.x[:, :2] * 2, 1, 1, 3),
            "slice_scatter_strided": lambda t: t.x.slice_scatter(t.x[:, :2] * 2, 1, 0, 4, 2),
            "select_scatter": lambda t: t.x.select_scatter(t.x[:, 0] * 2, 1, -1),
        },
        x=x, table=table, i=i, j=j, places=places, mask=mask, values=values,
    )  # fmt: skip


def test_rarer_operators():
    x, i = normal(2, 3, 6, 8), integers(0, 5, 7)
    rows, weight = normal(7, 8, seed=1), normal(3, 8, 8, seed=2)
    mask, edges = integers(0, 2, 2, 3) > 0, torch.tensor([-1.0, 0.0, 0.5])
    check(
        {
            "diff": lambda t: torch.diff(t.i),
            "diff_with_ends": lambda t: torch.diff(t.i, n=2, prepend=t.i[:1], append=t.i[:2]),
            "diff_of_truth_values": lambda t: torch.diff(t.i > 2),
            "histc": lambda t: torch.histc(t.x, bins=4, min=-1, max=1),
            "histc_of_whole_numbers": lambda t: torch.histc(t.i.float(), bins=5, min=0, max=4),
            "weight_norm": lambda t: torch._weight_norm(t.weight, t.weight[:, :1, :1] * 2, 0),
            "weight_norm_of_all_but_the_last": lambda t: torch._weight_norm(t.weight, t.weight[:1, :1], 2),
            "unfold": lambda t: F.unfold(t.x, 3, padding=1, stride=2),
            "fold": lambda t: F.fold(F.unfold(t.x, (2, 3), dilation=2), (6, 8), (2, 3), dilation=2),
            "windows_along_an_axis": lambda t: t.x.unfold(2, 3, 2),
            "windows_along_the_last_axis": lambda t: t.x.unfold(-1, 4, 1),
            "masked_scatter": lambda t: t.rows[:2, :3].masked_scatter(t.mask, t.weight),
            "nonzero_as_tuple": lambda t: t.mask.nonzero(as_tuple=True)[1],
            "searchsorted": lambda t: torch.searchsorted(t.edges, t.rows),
            "bucketize": lambda t: torch.bucketize(t.rows, t.edges, right=True),
            "searchsorted_rows": lambda t: torch.searchsorted(t.rows.sort(1).values, t.rows[:, :3]),
            "hypot": lambda t: torch.hypot(t.rows, t.rows * 2),
            "atan2": lambda t: torch.atan2(t.rows[:3], t.rows[3:6]),
            "atan2_axes": lambda t: torch.atan2(t.edges, t.edges[:, None]),
            "fmax": lambda t: torch.fmax(t.edges / t.edges, t.edges),
            "fmin": lambda t: torch.fmin(t.edges, t.edges / t.edges),
            "signbit": lambda t: torch.signbit(t.edges * -1),
            "copysign": lambda t: torch.copysign(t.rows, -t.edges[:1] * 0),
            "shifts": lambda t: (t.i << 2) + ((t.i - 3) >> 1),
            "diagonal": lambda t: t.x.diagonal(-1, 3, 1),
            "diagonal_of_a_matrix": lambda t: t.rows.diagonal(2),
            "determinant": lambda t: torch.linalg.det(t.weight[:, :3, :3]),
            "cdist": lambda t: torch.cdist(t.rows, t.rows[:2] + 1),
            "cdist_one": lambda t: torch.cdist(t.weight, t.weight + 1, p=1.0),
            "pdist": lambda t: F.pdist(t.rows),
            "bilinear": lambda t: F.bilinear(t.x[..., :8], t.x[..., :8] + 1, t.weight, t.edges),
            "einsum_broadcasts": lambda t: torch.einsum("...ij,jk->...ik", t.x, t.weight[0]),
            "einsum_without_a_result": lambda t: torch.einsum("...ij,ji", t.x[..., :6], t.weight[0, :6, :6]),
            "put": lambda t: t.rows.put(t.i[:2], t.edges[:2]),
            "aliases": lambda t: torch.greater(t.rows.absolute(), 0.5) & torch.not_equal(t.rows, 1),
        },
        x=x, i=i, rows=rows, weight=weight, mask=mask, edges=edges,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_rows_of_a_table_are_combined_by_bag(mode):
    bags, padded = nn.EmbeddingBag(9, 4, mode=mode), nn.EmbeddingBag(9, 4, mode=mode, padding_idx=3)
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    functions = {
        "equal_bags": lambda t: bags(t.i),
        "padded": lambda t: padded(t.i),
        "bags_from_offsets": lambda t: bags(t.flat, t.offsets),
    }
    if mode == "sum":
        functions["weighted"] = lambda t: bags(t.i, per_sample_weights=t.i * 0.5)
    given = {"i": integers(0, 9, 3, 4), "flat": integers(0, 9, 7), "offsets": torch.tensor([0, 3, 3, 5])}
    check(functions, others=[{**given, "i": integers(2, 4, 2, 6)}], dynamic={"i": sizes}, **given)


def test_an_in_place_operator_on_the_result_of_a_composite_one_leaves_parameters_alone():
    class Repeated(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Parameter(normal(2, 3))

        def forward(self, x):
            y = torch.kron(self.rows, x)
            y.add_(1)
            return y

    module = Repeated()
    model = from_module(module, (normal(1, 2),))
    (found,) = OrtRunner(model).run({"x": normal(1, 2, seed=3).numpy()}).values()
    np.testing.assert_allclose(found, module(normal(1, 2, seed=3)).detach().numpy(), rtol=1e-5)


def test_rows_in_groups_are_multiplied_with_the_matrix_of_their_group():
    @torch.library.custom_op("transformers::grouped_mm_fallback", mutates_args=())
    def grouped(x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        starts = [0, *ends.tolist()]
        return torch.cat([x[a:b] @ w for a, b, w in zip(starts, starts[1:], weight, strict=False)])

    grouped.register_fake(lambda x, weight, ends: x.new_empty(x.shape[0], weight.shape[2]))
    given = {"x": normal(7, 4), "weight": normal(3, 4, 5, seed=1), "ends": torch.tensor([2, 2, 7])}
    check({"y": lambda t: torch.ops.transformers.grouped_mm_fallback(t.x, t.weight, t.ends)}, **given)
