"""MobileNetV3, a PyTorch module with its weights in model.safetensors.

Inputs:
    x: float32 [1, 3, 224, 224]

Outputs:
    output: float32 [1, 1000]
"""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Conv2dNormActivation(nn.Sequential):
    """31 parts of the network, the first of which is features.0."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] = nn.Hardswish,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                channels,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(channels, eps=0.001),
            activation(inplace=True),
        )


class Conv2dNormActivation2(nn.Sequential):
    """15 parts of the network, the first of which is features.1.block.1."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels, eps=0.001)
        )


class SqueezeExcitation(nn.Module):
    """8 parts of the network, the first of which is features.4.block.2."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(in_channels, channels, 1)
        self.fc2 = nn.Conv2d(channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)), inplace=True)
        return F.hardsigmoid(self.fc2(y), inplace=True) * x


class InvertedResidual(nn.Module):
    """15 parts of the network, the first of which is features.5."""

    def __init__(
        self,
        width: int,
        width2: int,
        stride: int = 1,
        activation: type[nn.Module] = nn.Hardswish,
        kernel_size: int = 3,
        conv: int = 0,
        squeeze: int = 0,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.block = nn.Sequential(
            *(
                [Conv2dNormActivation(conv, width, activation=activation, kernel_size=1)]
                if conv
                else []
            ),
            Conv2dNormActivation(
                width,
                width,
                stride=stride,
                groups=width,
                activation=activation,
                kernel_size=kernel_size,
            ),
            *([SqueezeExcitation(width, squeeze)] if squeeze else []),
            Conv2dNormActivation2(width, width2),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return y + x if self.shortcut else y


class MobileNetV3(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Conv2dNormActivation(3, 16, kernel_size=3, stride=2),
            InvertedResidual(16, 16, activation=nn.ReLU),
            InvertedResidual(64, 24, stride=2, activation=nn.ReLU, conv=16, shortcut=False),
            InvertedResidual(72, 24, activation=nn.ReLU, conv=24),
            InvertedResidual(
                72,
                40,
                stride=2,
                activation=nn.ReLU,
                kernel_size=5,
                conv=24,
                squeeze=24,
                shortcut=False,
            ),
            *(
                InvertedResidual(120, 40, activation=nn.ReLU, kernel_size=5, conv=40, squeeze=32)
                for _ in range(2)
            ),
            InvertedResidual(240, 80, stride=2, conv=40, shortcut=False),
            InvertedResidual(200, 80, conv=80),
            *(InvertedResidual(184, 80, conv=80) for _ in range(2)),
            InvertedResidual(480, 112, conv=80, squeeze=120, shortcut=False),
            InvertedResidual(672, 112, conv=112, squeeze=168),
            InvertedResidual(
                672, 160, stride=2, kernel_size=5, conv=112, squeeze=168, shortcut=False
            ),
            *(InvertedResidual(960, 160, kernel_size=5, conv=160, squeeze=240) for _ in range(2)),
            Conv2dNormActivation(160, 960, kernel_size=1),
        )
        self.classifier = nn.Sequential(
            nn.Linear(960, 1280), nn.Hardswish(inplace=True), nn.Identity(), nn.Linear(1280, 1000)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))  # [1, 1000]


def load(weights: str | Path | None = None) -> MobileNetV3:
    """The network for inference, with its trained weights from the file next to this one."""
    model = MobileNetV3()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
