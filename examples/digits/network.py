"""DigitNet: a small convolutional network for 8x8 images that has the shapes compression has to cope with.

Residual additions couple the channels of several layers, a projection shortcut changes width and resolution, depthwise
convolutions tie their input channels to their output channels, and BatchNorm follows every convolution. Only the
network lives here; `train.py` trains and exports it.
"""

from collections.abc import Callable

import torch
from torch import nn


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm, and `activation` where one is given; odd kernels keep the resolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.activation = activation()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, ReLU after the sum (He et al. 2016, figure 2).

    The shortcut is the identity where the shape does not change, else a strided 1x1 projection.
    """

    def __init__(self, in_channels: int, inner_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(in_channels, inner_channels, 3, stride=stride, activation=nn.ReLU)
        self.second = ConvNorm(inner_channels, out_channels, 3)
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if keeps_shape else ConvNorm(in_channels, out_channels, 1, stride=stride)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.second(self.first(x)) + self.shortcut(x))


class InvertedResidualBlock(nn.Module):
    """Pointwise expansion, 3x3 depthwise, linear pointwise projection, identity shortcut (MobileNetV2, V3)."""

    def __init__(self, channels: int, expanded_channels: int) -> None:
        super().__init__()
        self.expand = ConvNorm(channels, expanded_channels, 1, activation=nn.Hardswish)
        self.depthwise = ConvNorm(
            expanded_channels, expanded_channels, 3, groups=expanded_channels, activation=nn.Hardswish
        )
        self.project = ConvNorm(expanded_channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(self.depthwise(self.expand(x)))


class DigitNet(nn.Module):
    """Ten logits [N,10] for grayscale images [N,1,8,8] scaled to 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 32, 3, activation=nn.ReLU)
        self.residual = ResidualBlock(32, 32, 32)
        self.downsample = ResidualBlock(32, 32, 48, stride=2)
        self.inverted1 = InvertedResidualBlock(48, 96)
        self.inverted2 = InvertedResidualBlock(48, 96)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.downsample(self.residual(self.stem(x)))
        x = self.inverted2(self.inverted1(x))
        return self.head(self.flatten(self.pool(x)))
