"""At level "train" the emitted module has the state_dict keys of the module that the model was made from."""

from collections import OrderedDict

import numpy as np
import onnx
import onnx.parser
import pytest
import tersor as ts
import torch
from tersor.backends.torch import to_module
from tersor.backends.torch.source import generate
from tersor.frontends.torch import from_module
from tersor.transforms.base import Context
from tersor.transforms.manager import run_passes
from tersor.transforms.simplify import Simplify
from torch import nn
from torch.nn import functional as F


class Tied(nn.Module):
    """One matrix as embedding and as decoder."""

    def __init__(self):
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids):
        return self.decoder(self.embedding(ids))


class Biased(nn.Module):
    """A bias that a module holds and its parent once more."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Module()
        self.inner.decoder, self.inner.bias = nn.Linear(4, 3), nn.Parameter(torch.randn(3))
        self.inner.decoder.bias = self.inner.bias

    def forward(self, x):
        return self.inner.decoder(x)


class Shared(nn.Module):
    """One module under two names, a buffer and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.register_buffer("offset", torch.randn(4))
        self.scale = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return self.b(F.relu(self.a(x))) * self.scale + self.offset


class Numbers(nn.Module):
    """Parameters of one element and of none of the usual layers."""

    def __init__(self):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.randn(1))
        self.mixes = nn.ParameterList([nn.Parameter(torch.randn(4, 4)) for _ in range(2)])

    def forward(self, x):
        return (x @ self.mixes[0] @ self.mixes[1]) * self.gain + self.shift


class Tokens(nn.Module):
    """A class token, positions of which some are used, and attention whose projections are one parameter."""

    def __init__(self):
        super().__init__()
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 9, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1)
        x = x + self.positions[:, : x.shape[1]]
        return self.attention(x, x, x, need_weights=False)[0]


class Table(nn.Module):
    """Biases from a table at the places that a buffer says, and a row that is taken throughout."""

    def __init__(self):
        super().__init__()
        self.table, self.kinds = nn.Parameter(torch.randn(7, 2)), nn.Embedding(2, 4)
        self.register_buffer("index", (torch.arange(4)[:, None] - torch.arange(4) + 3))

    def forward(self, x):
        bias = self.table[self.index.view(-1)].view(4, 4, 2).permute(2, 0, 1)
        kind = self.kinds(torch.zeros(x.shape[0], 4, dtype=torch.int64))
        return torch.softmax((x + kind) @ x.transpose(1, 2) + bias[:1], -1)


class Computed(nn.Module):
    """Parameters that are equal before training, joined and computed with."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
        self.c = nn.Parameter(torch.randn(4))
        self.linear = nn.Linear(4, 8, bias=False)

    def forward(self, x):
        x = self.linear(x * -torch.exp(self.a) + x * -torch.exp(self.b))
        return x + torch.cat((self.c, torch.zeros(4)))


def convolutions():
    first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(64, 3))


def other_layers():
    return nn.Sequential(
        nn.Conv1d(4, 8, 3, groups=2), nn.GroupNorm(2, 8), nn.PReLU(8), nn.ConvTranspose1d(8, 4, 2), nn.LayerNorm(8)
    )


CASES = {
    "numbered": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(2, 4)),
    "numbered without gaps": (lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))), torch.randn(2, 4)),
    "nested": (convolutions, torch.randn(2, 1, 6, 6)),
    "other layers": (other_layers, torch.randn(2, 4, 9)),
    "tied": (Tied, torch.tensor([[1, 2]])),
    "shared": (Shared, torch.randn(2, 4)),
    "numbers": (Numbers, torch.randn(2, 4)),
    "biased": (Biased, torch.randn(2, 4)),
    "tokens": (Tokens, torch.randn(2, 5, 8)),
    "table": (Table, torch.randn(2, 4, 4)),
    "computed": (Computed, torch.randn(2, 4)),
}


def simplified(module, x):
    model = from_module(module, (x,))
    run_passes(model, [Simplify(level="train")], Context())
    return model


@pytest.mark.parametrize("name", CASES)
def test_state_dict_keys_are_the_original_ones(name):
    make, x = CASES[name]
    torch.manual_seed(0)
    module = make().eval()
    model = simplified(module, x)
    made = to_module(model)
    own = set(module.state_dict())
    assert set(made.state_dict()) - {"constant"} == own
    parameters = {k for k, _ in module.named_parameters(remove_duplicate=False)}
    assert {k for k, _ in made.named_parameters(remove_duplicate=False)} == parameters
    torch.testing.assert_close(made(x), module(x))
    state = {k: v * 2 if v.is_floating_point() else v for k, v in module.state_dict().items()}
    module.load_state_dict(state)
    made.load_state_dict({**made.state_dict(), **state})
    torch.testing.assert_close(made(x), module(x))
    model.load_weights(made.state_dict())
    torch.testing.assert_close(to_module(model)(x), made(x))


def test_tied_parameters_are_one_tensor_with_two_names():
    made = to_module(simplified(Tied().eval(), torch.tensor([[1, 2]])))
    assert made.decoder.weight is made.embedding.weight
    assert isinstance(made.decoder, nn.Linear)
    assert isinstance(made.embedding, nn.Embedding)


def test_emitting_again_gives_the_same_text():
    model = simplified(Numbers().eval(), torch.randn(2, 4))
    before = generate(model).text
    to_module(model)
    assert generate(model).text == before


def test_a_pruned_parameter_keeps_its_key():
    layers = {"stem": torch.nn.Conv2d(3, 8, 3), "norm": torch.nn.BatchNorm2d(8), "head": torch.nn.Conv2d(8, 4, 3)}
    model = ts.load((torch.nn.Sequential(OrderedDict(layers)).eval(), (torch.rand(1, 3, 8, 8),)))
    smaller = ts.apply(model, "simplify(level='train')", ts.Prune(ratio=0.5)).to_torch()
    shapes = {name: tuple(p.shape) for name, p in smaller.named_parameters() if p.ndim > 1}
    assert shapes == {"stem.weight": (4, 3, 3, 3), "head.weight": (4, 4, 3, 3)}


def test_statistics_that_are_also_a_weight_have_no_gradient_of_their_own():
    text = """
        <ir_version: 8, opset_import: ["": 15]> g (float[2,4,3,3] x) => (float[2,4,3,3] y) <float[4] s, float[4] z> {
            a = BatchNormalization(x, s, z, z, s)  b = Relu(a)  y = BatchNormalization(b, s, z, z, s)
        }
    """
    proto = onnx.parser.parse_model(text)
    for name, numbers in (("s", [1, 2, 3, 4]), ("z", [0, 1, 2, 3])):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(numbers, np.float32), name))
    module = ts.apply(ts.load(proto), "simplify(level='train')").to_torch()
    module(torch.rand(2, 4, 3, 3)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
