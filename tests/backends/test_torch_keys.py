"""At level "train" the emitted module has the state_dict keys of the module that the model was made from."""

import pytest
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
    assert set(made.state_dict()) == set(module.state_dict())
    torch.testing.assert_close(made(x), module(x))
    made.load_state_dict({k: v * 2 if v.is_floating_point() else v for k, v in module.state_dict().items()})
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
