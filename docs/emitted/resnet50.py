"""ResNet, a PyTorch module with its weights in model.safetensors.

Inputs:
    x: float32 [1, 3, 224, 224]

Outputs:
    output: float32 [1, 1000]
"""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """16 parts of the network, the first of which is layer1.1."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, downsample: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, 4 * channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(4 * channels),
            )
            if downsample
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        x = self.bn3(self.conv3(y)) + self.downsample(x)
        return F.relu(x)


class ResNet(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64, downsample=True), Bottleneck(256, 64), Bottleneck(256, 64)
        )
        self.layer2 = nn.Sequential(
            Bottleneck(256, 128, stride=2, downsample=True),
            *(Bottleneck(512, 128) for _ in range(3)),
        )
        self.layer3 = nn.Sequential(
            Bottleneck(512, 256, stride=2, downsample=True),
            *(Bottleneck(1024, 256) for _ in range(5)),
        )
        self.layer4 = nn.Sequential(
            Bottleneck(1024, 512, stride=2, downsample=True),
            *(Bottleneck(2048, 512) for _ in range(2)),
        )
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # [1, 64, 112, 112]
        x = self.layer1(F.max_pool2d(x, 3, stride=2, padding=1))  # [1, 256, 56, 56]
        x = self.layer2(x)  # [1, 512, 28, 28]
        x = self.layer3(x)  # [1, 1024, 14, 14]
        return self.fc(self.layer4(x).mean(dim=(2, 3)))  # [1, 1000]


def load(weights: str | Path | None = None) -> ResNet:
    """The network for inference, with its trained weights from the file next to this one."""
    model = ResNet()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
