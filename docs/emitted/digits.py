"""Network, a PyTorch module with its weights in model.safetensors.

Inputs:
    x: float32 [N, 1, 8, 8]

Outputs:
    logits: float32 [N, 10]
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Block(nn.Module):
    """A named group of modules, parameters (nn.Parameter) and buffers (other tensors)."""

    def __init__(self, /, **members: nn.Module | Tensor) -> None:
        super().__init__()
        for name, member in members.items():
            if isinstance(member, (nn.Module, nn.Parameter)):
                setattr(self, name, member)
            else:
                self.register_buffer(name, member)


class Stem(nn.Module):
    """7 parts of the network, the first of which is stem."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[Tensor], Tensor] = F.hardswish,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.conv = nn.Conv2d(
            in_channels,
            channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class Second(nn.Module):
    """3 parts of the network, the first of which is residual.second."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Inverted(nn.Module):
    """2 parts of the network, the first of which is inverted1."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = Stem(48, 96, kernel_size=1)
        self.depthwise = Stem(96, 96, groups=96)
        self.project = Second(96, 48)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))  # [N, 48, 4, 4]
        return x + y


class Network(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(1, 32, activation=F.relu)
        self.residual = Block(
            first=Stem(32, 32, activation=F.relu), second=Second(32, 32, kernel_size=3)
        )
        self.downsample = Block(
            first=Stem(32, 32, stride=2, activation=F.relu),
            second=Block(conv=nn.Conv2d(32, 48, 3, padding=1, bias=False), norm=nn.BatchNorm2d(48)),
            shortcut=Block(
                conv=nn.Conv2d(32, 48, 1, stride=2, bias=False),
                norm=Block(
                    weight=nn.Parameter(torch.zeros(48)),
                    running_mean=nn.Parameter(torch.zeros(48)),
                    running_var=nn.Parameter(torch.zeros(48)),
                ),
            ),
        )
        self.inverted1 = Inverted()
        self.inverted2 = Inverted()
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # [N, 32, 8, 8]
        y = self.residual.first(x)  # [N, 32, 8, 8]
        y = self.residual.second(y)  # [N, 32, 8, 8]
        x = F.relu(y + x)  # [N, 32, 8, 8]
        y = self.downsample.first(x)  # [N, 32, 4, 4]
        y = self.downsample.second.norm(self.downsample.second.conv(y))  # [N, 48, 4, 4]
        x = self.downsample.shortcut.conv(x)  # [N, 48, 4, 4]
        x = F.batch_norm(
            x,
            self.downsample.shortcut.norm.running_mean,
            self.downsample.shortcut.norm.running_var,
            self.downsample.shortcut.norm.weight,
            self.downsample.second.norm.bias,
            eps=1e-05,
        )  # [N, 48, 4, 4]
        x = F.relu(y + x)  # [N, 48, 4, 4]
        x = self.inverted1(x)  # [N, 48, 4, 4]
        x = self.inverted2(x)  # [N, 48, 4, 4]
        return self.head(x.mean(dim=(2, 3)))  # [N, 10]


def load(weights: str | Path | None = None) -> Network:
    """The network for inference, with its trained weights from the file next to this one."""
    model = Network()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
