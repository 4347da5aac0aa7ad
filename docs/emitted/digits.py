"""Network, a PyTorch module with its weights in model.safetensors.

Inputs:
    x: float32 [N, 1, 8, 8]

Outputs:
    logits: float32 [N, 10]
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Inverted(nn.Module):
    """2 parts of the network, the first of which is inverted1."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(48, 96, 1, bias=False),
                norm=nn.BatchNorm2d(96),
                hardswish=nn.Hardswish(inplace=True),
            ),
        )
        self.depthwise = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False),
                norm=nn.BatchNorm2d(96),
                hardswish=nn.Hardswish(inplace=True),
            ),
        )
        self.project = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(96, 48, 1, bias=False), norm=nn.BatchNorm2d(48))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))  # [N, 48, 4, 4]
        return x + y


class Network(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 32, 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(32),
                relu=nn.ReLU(inplace=True),
            ),
        )
        self.residual = nn.Module()
        self.residual.first = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(32, 32, 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(32),
                relu=nn.ReLU(inplace=True),
            ),
        )
        self.residual.second = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(32, 32, 3, padding=1, bias=False), norm=nn.BatchNorm2d(32))
        )
        self.downsample = nn.Module()
        self.downsample.first = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False),
                norm=nn.BatchNorm2d(32),
                relu=nn.ReLU(inplace=True),
            ),
        )
        self.downsample.second = nn.Module()
        self.downsample.second.conv = nn.Conv2d(32, 48, 3, padding=1, bias=False)
        self.downsample.second.norm = nn.BatchNorm2d(48)
        self.downsample.shortcut = nn.Module()
        self.downsample.shortcut.conv = nn.Conv2d(32, 48, 1, stride=2, bias=False)
        self.downsample.shortcut.norm = nn.Module()
        self.downsample.shortcut.norm.weight = nn.Parameter(torch.zeros(48))
        self.downsample.shortcut.norm.running_mean = nn.Parameter(torch.zeros(48))
        self.downsample.shortcut.norm.running_var = nn.Parameter(torch.zeros(48))
        self.inverted1 = Inverted()
        self.inverted2 = Inverted()
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # [N, 32, 8, 8]
        y = self.residual.first(x)  # [N, 32, 8, 8]
        y = self.residual.second(y)  # [N, 32, 8, 8]
        x = F.relu(y + x, inplace=True)  # [N, 32, 8, 8]
        y = self.downsample.first(x)  # [N, 32, 4, 4]
        y = self.downsample.second.norm(self.downsample.second.conv(y))  # [N, 48, 4, 4]
        shortcut = self.downsample.shortcut
        x = shortcut.conv(x)  # [N, 48, 4, 4]
        x = F.batch_norm(
            x,
            shortcut.norm.running_mean.detach(),
            shortcut.norm.running_var.detach(),
            shortcut.norm.weight,
            self.downsample.second.norm.bias,
            eps=1e-05,
        )  # [N, 48, 4, 4]
        x = F.relu(y + x, inplace=True)  # [N, 48, 4, 4]
        x = self.inverted1(x)  # [N, 48, 4, 4]
        return self.head(self.inverted2(x).mean(dim=(2, 3)))  # [N, 10]


def load(weights: str | Path | None = None) -> Network:
    """The network for inference, with its trained weights from the file next to this one."""
    model = Network()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
