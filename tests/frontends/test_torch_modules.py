"""Whole modules from PyTorch: numbers, names, module paths, source lines, symbolic sizes, in-place operators and refusals."""

import inspect
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tersor.backends.runners import OrtRunner  # noqa: E402
from tersor.frontends.torch import from_exported, from_module  # noqa: E402
from tersor.ir import DType, UnsupportedError, UsageError, structural_hash, verify  # noqa: E402
from tersor.ir.dims import bounds  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

Dim = torch.export.Dim


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settled(module):
    """The module in evaluation mode with BatchNorm statistics as if it had been trained."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return module.eval()


def agree(model, module, *calls, tolerance=1e-5):
    """Checks the graph, and the outputs of each call, a tuple of tensors, against the module's."""
    verify(model.graph)
    runner = OrtRunner(model)
    for call in calls:
        feeds = {v.name: x.numpy() for v, x in zip(model.graph.inputs, call, strict=True)}
        expected = [x for x in torch.utils._pytree.tree_leaves(module(*call)) if x is not None]
        found = list(runner.run(feeds).values())
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, np.asarray(theirs.detach()), rtol=tolerance, atol=tolerance)


def nodes(model, op):
    return [n for n in model.graph if n.op == op]


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Residual(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None if stride == 1 else nn.Sequential(nn.Conv2d(width, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += identity
        return self.relu(y)


class ResidualNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = nn.Sequential(Residual(8, 8, 1), Residual(8, 8, 1))
        self.layer2 = nn.Sequential(Residual(8, 16, 2))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(F.relu(self.stem(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.reduce = nn.Conv2d(width, width // 4, 1)
        self.expand = nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class InvertedResidual(nn.Module):
    def __init__(self, width, expanded, activation):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, expanded, 1, bias=False),
            nn.BatchNorm2d(expanded),
            activation(inplace=True),
            nn.Conv2d(expanded, expanded, 3, 1, 1, groups=expanded, bias=False),
            nn.BatchNorm2d(expanded),
            activation(inplace=True),
            SqueezeExcite(expanded),
            nn.Conv2d(expanded, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return x + self.block(x)


class Encoder(nn.Module):
    def __init__(self, width=16, layers=2):
        super().__init__()
        self.words = nn.Embedding(50, width)
        self.places = nn.Embedding(32, width)
        self.register_buffer("order", torch.arange(32).unsqueeze(0), persistent=False)
        layer = nn.TransformerEncoderLayer(width, 4, 32, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pooler = nn.Linear(width, width)

    def forward(self, input_ids, attention_mask):
        x = self.words(input_ids) + self.places(self.order[:, : input_ids.shape[1]])
        x = self.layers(x, src_key_padding_mask=attention_mask == 0)
        return {"last_hidden_state": x, "pooler_output": torch.tanh(self.pooler(x[:, 0])), "cache": None}


class RotaryDecoder(nn.Module):
    def __init__(self, width=16, heads=4, kv_heads=2):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.norm = nn.RMSNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, kv_heads * self.size, bias=False)
        self.v = nn.Linear(width, kv_heads * self.size, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, 24, bias=False), nn.Linear(width, 24, bias=False)
        self.down = nn.Linear(24, width, bias=False)
        self.register_buffer("frequencies", 100.0 ** (-torch.arange(0, self.size, 2) / self.size))

    def rotate(self, x, cos, sin):
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def forward(self, x):
        batch, length, _ = x.shape
        with torch.no_grad():
            angles = torch.arange(length)[:, None] * self.frequencies
            cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
        h = self.norm(x)
        q = self.q(h).view(batch, length, self.heads, self.size).transpose(1, 2)
        k = self.k(h).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        v = self.v(h).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(a.transpose(1, 2).reshape(batch, length, -1))
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up1, self.up2 = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 8, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(4, 8), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        skip = F.silu(self.down1(x))
        y = torch.cat([self.up1(F.silu(self.down2(skip))), skip], 1)
        y = F.interpolate(F.silu(self.norm(self.up2(y))), scale_factor=2, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.head(y))


class Tagger(nn.Module):
    def __init__(self, kind, bidirectional):
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.rnn = kind(8, 6, num_layers=2, bidirectional=bidirectional, batch_first=True)
        self.out = nn.Linear(12 if bidirectional else 6, 5)

    def forward(self, ids):
        return F.log_softmax(self.out(self.rnn(self.words(ids))[0]), -1)


def test_a_residual_network_keeps_parameter_names_module_paths_and_source_lines():
    net = settled(ResidualNet())
    model = from_module(net, (normal(2, 3, 8, 8),), dynamic_shapes=({0: Dim("batch")},))
    agree(model, net, (normal(1, 3, 8, 8),), (normal(5, 3, 8, 8, seed=1),))
    used = {name for name in net.state_dict() if "num_batches" not in name}
    assert {v.name for v in model.graph.constants() if v.name} == used
    convolutions = {n.operand(1).name: n for n in nodes(model, "Conv")}
    for name, node in convolutions.items():
        assert node.loc.scope == name.removesuffix(".weight")
    first, lines = inspect.getsourcelines(Residual.forward)[1], inspect.getsource(Residual.forward).splitlines()
    line = first + next(i for i, text in enumerate(lines) if "self.conv1(x)" in text)
    assert convolutions["layer1.0.conv1.weight"].loc.source == f"{Path(__file__).name}:{line}"
    assert model.graph.name == "ResidualNet"
    assert [str(v.type) for v in (*model.graph.inputs, *model.graph.outputs)] == ["f32[batch,3,8,8]", "f32[batch,10]"]
    assert model.source_opset == 0


def test_in_place_operators_of_an_ordinary_network_need_no_functionalization(monkeypatch):
    program = torch.export.export(settled(ResidualNet()), (normal(2, 3, 8, 8),))
    assert {"aten.relu_.default", "aten.add_.Tensor"} <= {str(n.target) for n in program.graph.nodes}
    monkeypatch.setattr(type(program), "run_decompositions", lambda *_: pytest.fail("the program was decomposed"))
    from_exported(program)


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardswish])
def test_inverted_residual_blocks_with_squeeze_and_excitation(activation):
    net = settled(nn.Sequential(InvertedResidual(8, 16, activation), InvertedResidual(8, 24, activation)))
    model = from_module(net, (normal(2, 8, 6, 6),), dynamic_shapes=({0: Dim("batch")},))
    agree(model, net, (normal(1, 8, 6, 6),), (normal(3, 8, 6, 6),))
    assert {n.loc.scope for n in nodes(model, "ReduceMean")} == {"0.block.6", "1.block.6"}


def test_results_of_one_operator_are_tensors_of_their_own(monkeypatch):
    def route(x):
        weights, chosen = x.softmax(-1).topk(2)
        weights /= weights.sum(-1, keepdim=True)
        return weights, x.gather(1, chosen)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", None)
    x = normal(3, 5)
    agree(from_module(Function(route), (x,)), Function(route), (x,))


def test_a_transformer_encoder_with_padding_and_two_symbolic_sizes():
    net = Encoder().eval()
    ids, mask = torch.randint(0, 50, (2, 9)), torch.ones(2, 9, dtype=torch.int64)
    sizes = {0: Dim("batch", max=64), 1: Dim("length", max=32)}
    shapes = {"input_ids": sizes, "attention_mask": sizes}
    model = from_module(net, (ids, mask), dynamic_shapes=shapes)
    short = torch.ones(1, 4, dtype=torch.int64)
    mask[1, 6:] = 0
    agree(model, net, (ids, mask), (short * 7, short))
    graph = model.graph
    assert [v.name for v in graph.inputs] == ["input_ids", "attention_mask"]
    assert graph.output_names == ["last_hidden_state", "pooler_output"]
    assert str(graph.outputs[0].type) == "f32[batch,length,16]"
    assert [bounds(size)[1] for size in graph.inputs[0].shape] == [64, 32]
    assert len(nodes(model, "Attention")) == 2
    assert {"words.weight", "order", "layers.layers.0.norm1.weight"} <= {v.name for v in graph.constants()}


def test_a_decoder_with_rotary_embedding_and_grouped_queries():
    net = RotaryDecoder().eval()
    model = from_module(net, (normal(2, 6, 16),), dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},))
    agree(model, net, (normal(2, 6, 16),), (normal(1, 9, 16),), (normal(3, 1, 16),))


def test_a_network_with_skips_transposed_convolution_and_resampling():
    net = UNet().eval()
    model = from_module(net, (normal(2, 1, 8, 8),), dynamic_shapes=({0: Dim.AUTO},))
    agree(model, net, (normal(2, 1, 8, 8),), (normal(1, 1, 8, 8),))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_taggers(kind, bidirectional):
    net = Tagger(kind, bidirectional).eval()
    ids = torch.randint(0, 30, (2, 5))
    if kind is nn.LSTM:
        agree(from_module(net, (ids,), dynamic_shapes=({0: Dim.AUTO},)), net, (ids,), (ids[:1],))
    model = from_module(net, (ids,))
    agree(model, net, (ids,))
    assert "rnn.weight_hh_l1" in {v.name for v in model.graph.constants()}


def test_recurrent_layers_with_states_and_cells():
    states = normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)
    cases = [
        (nn.LSTM(5, 4, 2), (normal(6, 3, 5), states)),
        (nn.GRU(5, 4, 2, bias=False), (normal(6, 3, 5), states[0])),
        (nn.LSTM(5, 4), (normal(6, 5),)),
        (nn.LSTMCell(5, 4), (normal(3, 5), (states[0][0], states[1][0]))),
        (nn.GRUCell(5, 4), (normal(3, 5), states[0][0])),
    ]
    for layer, call in cases:
        model = from_module(layer, call)
        leaves = torch.utils._pytree.tree_leaves(call)
        found = OrtRunner(model).run({v.name: x.numpy() for v, x in zip(model.graph.inputs, leaves, strict=True)})
        for ours, theirs in zip(found.values(), torch.utils._pytree.tree_leaves(layer(*call)), strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [(6, 9), (1, 9), (2, 1, 1, 9), (2, 4, 6, 9), (1, 4, 1, 9), (4, 6, 9)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_attention_masks_of_every_broadcastable_shape(mask):
    q, k, v = normal(2, 4, 6, 8), normal(2, 4, 9, 8, seed=1), normal(2, 4, 9, 8, seed=2)
    bias = normal(*mask, seed=3)
    attend = F.scaled_dot_product_attention
    net = Function(lambda q, k, v, m: (attend(q, k, v, m), attend(q, k, v, m > -0.5)))
    agree(from_module(net, (q, k, v, bias)), net, (q, k, v, bias))


def test_attention_without_heads_with_more_axes_and_with_shared_keys():
    q, k = normal(2, 4, 6, 8), normal(2, 4, 9, 8, seed=1)
    attend = F.scaled_dot_product_attention
    net = Function(
        lambda q, k: {
            "no_heads": attend(q[0], k[0], k[0]),
            "five_axes": attend(q[None], k[None], k[None]),
            "shared": attend(q, k[:1], k[:1], scale=0.3),
            "causal": attend(q, k, k, is_causal=True),
        }
    )
    agree(from_module(net, (q, k)), net, (q, k))


def test_weights_are_not_copied_and_keep_their_type():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).bfloat16())
    net.forward = lambda x: net[1](net[0](x).bfloat16())
    model = from_module(net, (normal(2, 4),))
    held = {v.name: v.tensor for v in model.graph.constants()}
    assert np.shares_memory(held["0.weight"].numpy(), net[0].weight.detach().numpy())
    assert held["1.weight"].dtype is DType.BF16
    bits = net[1].weight.detach().view(torch.int16).numpy()
    assert np.shares_memory(held["1.weight"].numpy().view(np.int16), bits)


def test_a_shared_parameter_is_one_constant():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.words.weight
            self.twice = nn.Linear(4, 4)

        def forward(self, ids):
            x = self.words(ids)
            return self.head(self.twice(self.twice(x)))[:, 0] + self.head(x[:, 0])

    model = from_module(Tied(), (torch.arange(6).view(2, 3),))
    table = nodes(model, "Gather")[0].operand(0)
    assert any(n.operand(1) is table for n in nodes(model, "Gemm"))
    first, second = (n.operand(1) for n in nodes(model, "MatMul") if n.operand(1).name == "twice.weight")
    assert first is second


def test_a_linear_layer_keeps_its_weight_or_a_lazy_view_of_it():
    layer = nn.Linear(4, 3)
    flat, deep = from_module(layer, (normal(2, 4),)), from_module(layer, (normal(2, 5, 4),))
    assert [n.op for n in flat.graph] == ["Gemm"]
    assert [n.op for n in deep.graph] == ["MatMul", "Add"]
    weight = nodes(deep, "MatMul")[0].operand(1)
    assert weight.name == "weight"
    assert np.shares_memory(weight.tensor.operands[0].numpy(), layer.weight.detach().numpy())


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda x: x * 1, ["output"]),
        (lambda x: (x * 1, [x * 2, x * 3]), ["output_0", "output_1_0", "output_1_1"]),
        (lambda x: (x * 1,), ["output"]),
        (lambda x: {"logits": x * 1, "states": (x * 2, None)}, ["logits", "states_0"]),
        (lambda x: OrderedDict(inputs_0=x * 1, other=x * 2), ["inputs_0_out", "other"]),
        (lambda x: Pair(x * 1, x * 2), ["left", "right"]),
        (lambda x: (x, x, torch.ones(2)), ["output_0", "output_1", "output_2"]),
    ],
    ids=["tensor", "nested", "alone", "dictionary", "clash", "named_tuple", "passed_through"],
)
def test_outputs_are_flattened_and_named(build, names):
    net = Function(build)
    model = from_module(net, (normal(2, 3),))
    assert model.graph.output_names == names
    agree(model, net, (normal(2, 3, seed=1),))


def test_inputs_are_named_like_parameters_and_constants_among_them_vanish():
    class Net(nn.Module):
        def forward(self, input, scale=2.0, other=None, *, keyword, pair):
            return input * scale + keyword + pair["a"]

    x = normal(3)
    model = from_module(Net(), (x, 3.0), {"keyword": x, "pair": {"a": x, "b": None}})
    assert [v.name for v in model.graph.inputs] == ["input", "keyword", "pair_a"]


def test_sizes_are_results_and_arithmetic_on_them_follows_the_input():
    net = Function(
        lambda x: (x.shape[0] * 2 + x.shape[1] // 2, x.new_full((x.shape[0] // 2,), x.shape[1] - x.shape[0]))
    )
    model = from_module(net, (normal(6, 9),), dynamic_shapes=(({0: Dim.AUTO, 1: Dim.AUTO},),))
    for shape in ((6, 9), (4, 3)):
        runner = OrtRunner(model)
        count, filled = runner.run({"inputs_0": np.zeros(shape, np.float32)}).values()
        assert count == shape[0] * 2 + shape[1] // 2
        np.testing.assert_array_equal(filled, np.full(shape[0] // 2, shape[1] - shape[0], np.float32))


def test_sizes_of_several_positional_arguments_and_of_numbers_among_them_get_their_names():
    class Net(nn.Module):
        def forward(self, *inputs):
            return inputs[0][: inputs[1]] * inputs[2].sum()

    shapes = (({0: Dim("rows"), 1: Dim("width")}, None, {0: Dim("count")}),)
    model = from_module(Net(), (normal(4, 3), 2, normal(5)), dynamic_shapes=shapes)
    assert [str(v.type) for v in model.graph.inputs] == ["f32[rows,width]", "f32[count]"]


def test_a_shape_that_torch_mistakes_for_another_is_refused():
    net = Function(lambda x: F.avg_pool1d(x, 2).reshape(x.shape[0], -1, 4))
    height = 2 * Dim("height", min=2)
    with pytest.raises(UnsupportedError, match="other examples"):
        from_module(net, (normal(3, 4, 8),), dynamic_shapes=(({0: Dim("n"), 2: height},),))
    model = from_module(net, (normal(3, 4, 12),), dynamic_shapes=(({0: Dim("n"), 2: height},),))
    agree(model, net, (normal(3, 4, 12),), (normal(1, 4, 8),))


def test_sizes_that_depend_on_data():
    net = Function(lambda x: (x[x > 0].sum(), torch.arange(x.nonzero().shape[0])))
    model = from_module(net, (torch.tensor([1.0, 0, -2]),))
    agree(model, net, (torch.tensor([1.0, 0, -2]),), (torch.tensor([1.0, 3, 2]),))


def reads_a_view_that_was_made_before(x):
    y = x * 2
    view = y[:, 1:]
    y.relu_()
    return y + 1, view


def writes_through_views(x):
    y = x * 2
    y[:, 0] = 3
    y[:, 1:3] += x[:, 1:3]
    y.t()[1].mul_(2)
    return y


def writes_through_other_shapes_and_orders(x):
    y = x * 2
    before = y.view(2, 6)
    y.permute(1, 0).unsqueeze(0)[:, 1::2].mul_(x[:, :2].t())
    y.view(-1)[2:4] = 7
    y.transpose(0, 1).squeeze().detach()[0] -= 1
    return y, before, y.sum()


def writes_where_sharing_is_uncertain(x):
    y = x * 2
    y.reshape(-1)[0] = 5
    left, right = y.chunk(2, 1)
    left.add_(right)
    return y


def writes_to_a_chain_of_values(x):
    x = x * 1
    same = x
    x += 1
    x.clamp_(-1, 1).masked_fill_(x > 0.5, 0)
    return F.relu(x, inplace=True) + same


def fills_and_copies(x):
    y = torch.zeros(3, 4)
    y.copy_(x[0])
    y.index_put_((torch.tensor([0, 1]),), torch.ones(4))
    return y.mul_(x), torch.empty(2).fill_(2.0)


@pytest.mark.parametrize(
    "function",
    [
        reads_a_view_that_was_made_before,
        writes_through_views,
        writes_through_other_shapes_and_orders,
        writes_where_sharing_is_uncertain,
        writes_to_a_chain_of_values,
        fills_and_copies,
    ],
    ids=lambda f: f.__name__,
)
def test_in_place_operators_mean_what_they_mean_in_torch(function):
    net = Function(function)
    agree(from_module(net, (normal(3, 4),)), net, (normal(3, 4, seed=1),))


def test_a_module_that_changes_its_buffers_is_refused_with_its_place():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls.add_(1)
            return x * self.calls

    with pytest.raises(UnsupportedError, match=r"changes its own state inner\.calls") as caught:
        from_module(Wrapper(Counting()), (normal(2),))
    assert "inner (test_torch_modules.py:" in caught.value.where


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def test_an_operator_without_a_rule_is_decomposed_alone():
    net = Wrapper(Function(lambda x: F.layer_norm(torch.logaddexp(x, x * 2), (4,))))
    model = from_module(net, (normal(3, 4),))
    agree(model, net, (normal(3, 4, seed=1),))
    assert len(nodes(model, "LayerNormalization")) == 1


def test_an_operator_that_cannot_be_lowered_is_named_with_its_place():
    with pytest.raises(UnsupportedError) as caught:
        from_module(Wrapper(Function(torch.histc)), (normal(3),))
    text = str(caught.value).splitlines()
    assert text[0] == "aten.histc.default cannot be lowered"
    assert text[1].startswith("  at    inner (test_torch_modules.py:")
    assert text[1].endswith("node histc")
    assert len(text) == 4
    assert "docs/adding-an-operator.md" in text[3]


def test_what_only_training_does_is_refused():
    with pytest.raises(UnsupportedError, match=r"aten\.dropout\.default cannot be lowered"):
        from_module(Function(lambda x: F.dropout(x, 0.5, training=True)), (normal(3),))


def test_training_flags_are_as_before_and_the_model_is_that_of_evaluation():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.9), nn.BatchNorm1d(3).eval())
    net.train()
    net[2].eval()
    model = from_module(net, (normal(4, 3),))
    assert [m.training for m in net.modules()] == [True, True, True, False]
    assert [n.op for n in model.graph] == ["Gemm", "BatchNormalization"]


def test_an_exported_program_and_its_module_give_the_same_graph():
    net = settled(ResidualNet())
    program = torch.export.export(net, (normal(2, 3, 8, 8),))
    assert structural_hash(from_exported(program).graph) == structural_hash(
        from_module(net, (normal(2, 3, 8, 8),)).graph
    )


def test_a_module_that_torch_cannot_export_is_a_user_error():
    with pytest.raises(UsageError, match="torch cannot export Function"):
        from_module(Function(lambda x: x * 2 if x.sum() > 0 else x), (normal(3),))
    with pytest.raises(UsageError, match="must be a tuple"):
        from_module(nn.ReLU(), normal(3))


def test_importing_the_frontend_does_not_import_torch_and_says_how_to_get_it():
    code = """
import sys
import tersor.frontends.torch as frontend
assert "torch" not in sys.modules
sys.modules["torch"] = None
try:
    frontend.from_exported(None)
except frontend.UsageError as error:
    assert "pip install tersor[torch]" in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class FromPlace(torch.nn.Module):
    """The end of a vector, from a place on that is computed, counted from either end: guards ask where
    that lies in memory."""

    def forward(self, x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        start = place.item()
        torch._check(start >= -8)
        torch._check(start <= 8)
        return x[start:] * 2


def test_guards_about_memory_are_no_part_of_the_graph():
    x, place = torch.arange(8.0), torch.tensor(3)
    program = torch.export.export(FromPlace(), (x, place), strict=False)
    kinds = {str(n.target) for n in program.graph.nodes}
    assert "aten.sym_storage_offset.default" in kinds
    model = from_exported(program)
    got = next(iter(OrtRunner(model).run({"x": x.numpy(), "place": np.asarray(5)}).values()))
    assert np.array_equal(got, [10, 12, 14])
