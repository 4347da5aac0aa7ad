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
    assert text.count("(nn.Module):") == 2
    assert "Residual(4, 8, stride=2, project=True)" in text
    assert "self.project = (" in text or "if project else nn.Identity()" in text
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


class Gate(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """A block that widens or not, has a gate or not, and adds what it got or not."""

    def __init__(self, channels, width, out, gate):
        super().__init__()
        layers = [nn.Conv2d(channels, width, 1)] if width != channels else []
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width)]
        layers += [Gate(width, gate)] if gate else []
        self.block, self.adds = nn.Sequential(*layers, nn.Conv2d(width, out, 1, bias=False)), channels == out

    def forward(self, x):
        return self.block(x) + x if self.adds else self.block(x)


@pytest.mark.parametrize(
    "blocks",
    [
        [(3, 6, 4, 0), (4, 8, 4, 0), (4, 8, 4, 2), (4, 12, 6, 3), (6, 18, 6, 3)],
        [(3, 3, 4, 0), (4, 8, 4, 2), (4, 8, 4, 2), (4, 4, 4, 2)],
        [(3, 6, 4, 2), (4, 8, 5, 3), (5, 10, 6, 2), (6, 12, 6, 0)],
    ],
)
def test_blocks_with_and_without_a_part_are_one_class(blocks):
    text = emitted(nn.Sequential(*(Inverted(*b) for b in blocks)), torch.randn(2, 3, 6, 6))
    assert text.count("class Inverted(") == 1
    assert "class Inverted2(" not in text


class Either(nn.Module):
    """Blocks of one class that do different work."""

    def __init__(self, first):
        super().__init__()
        self.a, self.b, self.first = nn.Linear(4, 4), nn.Linear(4, 4), first

    def forward(self, x):
        return torch.tanh(self.b(self.a(x))) * x if self.first else self.a(torch.tanh(self.b(x))) - x


def test_blocks_that_do_other_work_stay_two_classes():
    text = emitted(nn.Sequential(*(Either(i % 2) for i in range(4))), torch.randn(2, 4))
    assert text.count("class Either(") == 1
    assert text.count("torch.tanh") > 1


class Dense(nn.Module):
    """Layers that add to what all later ones read."""

    def __init__(self):
        super().__init__()
        for i in range(4):
            self.add_module(f"layer{i + 1}", nn.Sequential(nn.Linear(3 + 2 * i, 2), nn.ReLU()))

    def forward(self, x):
        found = [x]
        for layer in self.children():
            found.append(layer(torch.cat(found, 1)))
        return torch.cat(found, 1)


def test_numbered_modules_over_growing_features_are_a_loop():
    text = emitted(nn.ModuleDict({"stage": Dense()})["stage"], torch.randn(2, 3))
    assert "torch.cat((x, " in text


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage = Dense()

    def forward(self, x):
        return self.stage(x) * 2


def test_a_group_of_numbered_modules_is_one_comprehension():
    text = emitted(Grouped(), torch.randn(2, 3))
    assert 'f"layer{i}": nn.Sequential(nn.Linear(1 + 2 * i, 2), nn.ReLU' in text
    assert "for layer in self.stage.values():" in text


class Hyphens(nn.Module):
    """Modules whose names are no identifiers."""

    def __init__(self):
        super().__init__()
        for i in range(2):
            self.add_module(f"block-{i}", Gate(3, 2))

    def forward(self, x):
        for block in self.children():
            x = torch.tanh(block(x))
        return x


def test_names_with_hyphens_are_kept():
    emitted(Hyphens(), torch.randn(2, 3, 4, 4))
