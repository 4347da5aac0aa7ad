"""Repeated blocks become one class with arguments; what only looks alike stays apart."""

import pytest
import torch
from tersor.backends.torch import to_module
from tersor.backends.torch.source import generate
from tersor.frontends.torch import from_module
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A block with a projection where its widths differ."""

    def __init__(self, channels, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.project = nn.Conv2d(channels, width, 1, stride=stride) if channels != width or stride > 1 else None

    def forward(self, x):
        y = self.conv2(F.relu(self.bn1(self.conv1(x))))
        return F.relu(y + (x if self.project is None else self.project(x)))


class Network(nn.Module):
    """Two stages whose blocks differ in widths and strides."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            [Residual(3, 4), Residual(4, 4), Residual(4, 4), Residual(4, 8, 2), Residual(8, 8), Residual(8, 8)]
        )

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))


class Layer(nn.Module):
    """A block with a child called self, and an operand that all blocks share."""

    def __init__(self):
        super().__init__()
        self.attention = nn.ModuleDict({"self": nn.ModuleDict({"query": nn.Linear(4, 4)}), "norm": nn.LayerNorm(4)})

    def forward(self, x, mask):
        return self.attention["norm"](torch.tanh(self.attention["self"]["query"](x)) * mask + x)


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(4))

    def forward(self, x, mask):
        first = x
        for layer in self.layer:
            x = layer(x, mask)
        return x, torch.sigmoid(x + first)


def emitted(module, *args):
    torch.manual_seed(0)
    module = module.eval()
    model = from_module(module, args)
    made = to_module(model)
    wanted, found = module(*args), made(*args)
    torch.testing.assert_close(found, wanted)
    assert set(made.state_dict()) == set(module.state_dict())
    return generate(model).text


def test_widths_and_strides_of_repeated_blocks_are_arguments():
    text = emitted(Network(), torch.randn(2, 3, 8, 8))
    assert text.count("(nn.Module):") == 3
    assert "in_channels: int, channels: int, stride: int = 1" in text
    assert "Residual(4, 8, stride=2)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_shared_operands_are_passed_and_equal_blocks_are_a_loop():
    text = emitted(Stack(), torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    assert "nn.ModuleList(Layer() for _ in range(4))" in text
    assert "def forward(self, x: Tensor, mask: Tensor) -> Tensor:" in text
    assert "for layer in self.layer[1:]:" in text


@pytest.mark.parametrize("use", ["modules of another block", "a block in pieces"])
def test_blocks_that_cross_one_another_stay_where_they_are(use):
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            parts = [nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(2)]
            self.blocks = nn.ModuleList(parts)

        def forward(self, x):
            one, two = self.blocks
            if use == "a block in pieces":
                return two["b"](F.relu(one["b"](two["a"](F.relu(one["a"](x))))))
            return two["b"](F.relu(one["a"](F.relu(two["a"](F.relu(one["b"](x))))) + one["a"](x)))

    assert emitted(Crossed(), torch.randn(2, 4)).count("def forward") == 1
