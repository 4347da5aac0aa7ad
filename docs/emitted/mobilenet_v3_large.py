"""MobileNetV3, a PyTorch module with its weights in model.safetensors.

Inputs:
    x: float32 [1, 3, 224, 224]

Outputs:
    output: float32 [1, 1000]
"""

from collections import OrderedDict
from pathlib import Path

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
            activation(),
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
        y = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))
        return F.hardsigmoid(self.fc2(y)) * x


class InvertedResidual(nn.Module):
    """2 parts of the network, the first of which is features.5."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Conv2dNormActivation(40, 120, kernel_size=1, activation=nn.ReLU),
            Conv2dNormActivation(120, 120, kernel_size=5, groups=120, activation=nn.ReLU),
            SqueezeExcitation(120, 32),
            Conv2dNormActivation2(120, 40),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x


class InvertedResidual2(nn.Module):
    """3 parts of the network, the first of which is features.8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Conv2dNormActivation(80, width, kernel_size=1),
            Conv2dNormActivation(width, width, kernel_size=3, groups=width),
            Conv2dNormActivation2(width, 80),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x


class InvertedResidual3(nn.Module):
    """3 parts of the network, the first of which is features.12."""

    def __init__(self, width: int, width2: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Conv2dNormActivation(width, 6 * width, kernel_size=1),
            Conv2dNormActivation(6 * width, 6 * width, kernel_size=kernel_size, groups=6 * width),
            SqueezeExcitation(6 * width, width2),
            Conv2dNormActivation2(6 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x


class MobileNetV3(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            [
                Conv2dNormActivation(3, 16, kernel_size=3, stride=2),
                Block(
                    block=nn.Sequential(
                        Conv2dNormActivation(16, 16, kernel_size=3, groups=16, activation=nn.ReLU),
                        Conv2dNormActivation2(16, 16),
                    ),
                ),
                nn.Sequential(
                    OrderedDict(
                        block=nn.Sequential(
                            Conv2dNormActivation(16, 64, kernel_size=1, activation=nn.ReLU),
                            Conv2dNormActivation(
                                64, 64, kernel_size=3, stride=2, groups=64, activation=nn.ReLU
                            ),
                            Conv2dNormActivation2(64, 24),
                        ),
                    ),
                ),
                Block(
                    block=nn.Sequential(
                        Conv2dNormActivation(24, 72, kernel_size=1, activation=nn.ReLU),
                        Conv2dNormActivation(72, 72, kernel_size=3, groups=72, activation=nn.ReLU),
                        Conv2dNormActivation2(72, 24),
                    ),
                ),
                nn.Sequential(
                    OrderedDict(
                        block=nn.Sequential(
                            Conv2dNormActivation(24, 72, kernel_size=1, activation=nn.ReLU),
                            Conv2dNormActivation(
                                72, 72, kernel_size=5, stride=2, groups=72, activation=nn.ReLU
                            ),
                            SqueezeExcitation(72, 24),
                            Conv2dNormActivation2(72, 40),
                        ),
                    ),
                ),
                *(InvertedResidual() for _ in range(2)),
                nn.Sequential(
                    OrderedDict(
                        block=nn.Sequential(
                            Conv2dNormActivation(40, 240, kernel_size=1),
                            Conv2dNormActivation(240, 240, kernel_size=3, stride=2, groups=240),
                            Conv2dNormActivation2(240, 80),
                        ),
                    ),
                ),
                InvertedResidual2(200),
                *(InvertedResidual2(184) for _ in range(2)),
                nn.Sequential(
                    OrderedDict(
                        block=nn.Sequential(
                            Conv2dNormActivation(80, 480, kernel_size=1),
                            Conv2dNormActivation(480, 480, kernel_size=3, groups=480),
                            SqueezeExcitation(480, 120),
                            Conv2dNormActivation2(480, 112),
                        ),
                    ),
                ),
                InvertedResidual3(112, 168, kernel_size=3),
                nn.Sequential(
                    OrderedDict(
                        block=nn.Sequential(
                            Conv2dNormActivation(112, 672, kernel_size=1),
                            Conv2dNormActivation(672, 672, kernel_size=5, stride=2, groups=672),
                            SqueezeExcitation(672, 168),
                            Conv2dNormActivation2(672, 160),
                        ),
                    ),
                ),
                *(InvertedResidual3(160, 240) for _ in range(2)),
                Conv2dNormActivation(160, 960, kernel_size=1),
            ],
        )
        self.classifier = nn.Sequential(
            nn.Linear(960, 1280), nn.Hardswish(), nn.Identity(), nn.Linear(1280, 1000)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features[0](x)  # [1, 16, 112, 112]
        y = self.features[1].block(x)  # [1, 16, 112, 112]
        x = y + x  # [1, 16, 112, 112]
        x = self.features[2](x)  # [1, 24, 56, 56]
        y = self.features[3].block(x)  # [1, 24, 56, 56]
        x = y + x  # [1, 24, 56, 56]

        for feature in self.features[4:]:
            x = feature(x)

        return self.classifier(x.mean(dim=(2, 3)))  # [1, 1000]


def load(weights: str | Path | None = None) -> MobileNetV3:
    """The network for inference, with its trained weights from the file next to this one."""
    model = MobileNetV3()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
