"""SwinTransformer, a PyTorch module with its weights in model.safetensors.

Inputs:
    x: float32 [1, 3, 224, 224]

Outputs:
    output: float32 [1, 1000]
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


def multihead_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, heads: int, **options: float
) -> Tensor:
    """Scaled dot-product attention of [batch, length, heads * size]; keys may have fewer heads."""
    q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
    k = k.unflatten(-1, (-1, q.shape[-1])).transpose(1, 2)
    v = v.unflatten(-1, (k.shape[1], -1)).transpose(1, 2)
    x = F.scaled_dot_product_attention(q, k, v, mask, **options)
    return x.transpose(1, 2).flatten(2)


class MLP(nn.Sequential):
    """12 parts of the network, the first of which is features.1.0.mlp."""

    def __init__(self, in_features: int) -> None:
        super().__init__(
            nn.Linear(in_features, 4 * in_features),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(4 * in_features, in_features),
        )


class ShiftedWindowAttention(nn.Module):
    """5 parts of the network, the first of which is features.1.0.attn."""

    def __init__(self, size: int, size2: int) -> None:
        super().__init__()
        self.size2 = size2
        self.size3 = 32 * size
        self.size = size
        self.size4 = 7 * size2
        self.relative_position_index = nn.Buffer(torch.zeros(2401, dtype=torch.int64))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, size))
        self.qkv = nn.Linear(32 * size, 96 * size)
        self.proj = nn.Linear(32 * size, 32 * size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index.reshape(1, 49, 49)]
        mask = y.permute(0, 3, 1, 2)
        x = x.reshape(self.size2, 7, self.size2, 7, self.size3).transpose(1, 2)
        qkv = self.qkv(x.flatten(2, 3).flatten(0, 1))
        query, key, value = qkv.split(self.size3, dim=2)
        x = multihead_attention(query, key, value, mask, heads=self.size).flatten(0, 1)
        x = self.proj(x).unflatten(0, (self.size2, self.size2, 7, 7)).transpose(1, 2)
        return x.reshape(1, self.size4, self.size4, self.size3)


class ShiftedWindowAttention2(nn.Module):
    """5 parts of the network, the first of which is features.1.1.attn."""

    def __init__(self, size: int, size2: int, size3: int) -> None:
        super().__init__()
        self.size3 = size3
        self.size4 = 3 * size
        self.size = size
        self.size2 = size2
        self.size5 = 7 * size3
        self.size6 = 32 * size
        self.relative_position_index = nn.Buffer(torch.zeros(2401, dtype=torch.int64))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, size))
        self.qkv = nn.Linear(32 * size, 96 * size)
        self.proj = nn.Linear(32 * size, 32 * size)
        self.offset = nn.Buffer(torch.zeros(1, size2, 1, 49, 49))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index.reshape(1, 49, 49)]
        y = y.permute(0, 3, 1, 2)
        x = torch.roll(x.flatten(0, 1), (-3, -3), (0, 1))
        x = x.unflatten(1, (self.size3, 7)).unflatten(0, (self.size3, 7)).transpose(1, 2)
        qkv = self.qkv(x.flatten(2, 3).flatten(0, 1))
        part, part2, part3 = (
            qkv.unflatten(2, (self.size4, 32)).transpose(1, 2).split(self.size, dim=1)
        )
        y = part * 0.17677669 @ part2.transpose(-2, -1) + y
        y = (y.reshape(1, self.size2, self.size, 49, 49) + self.offset).flatten(0, 1)
        y = (torch.softmax(y, dim=3) @ part3).transpose(1, 2)
        proj = self.proj(y.flatten(2, 3).flatten(0, 1))
        x = (
            proj.unflatten(0, (self.size3, self.size3, 7, 7))
            .transpose(1, 2)
            .reshape(1, self.size5, self.size5, self.size6)
        )
        return torch.roll(x, (3, 3), (1, 2))


class PatchMerging(nn.Module):
    """3 parts of the network, the first of which is features.2."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.size2 = 2 * size
        self.size3 = features // 4
        self.features = features
        self.norm = nn.LayerNorm(features)
        self.reduction = nn.Linear(features, features // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (
            x.reshape(self.size, 2, self.size2, self.size3)
            .transpose(1, 2)
            .reshape(1, self.size, self.size, self.features)
        )
        return self.reduction(self.norm(x))


class ShiftedWindowAttention3(nn.Module):
    """2 parts of the network, the first of which is features.7.0.attn."""

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_index = nn.Buffer(torch.zeros(2401, dtype=torch.int64))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, 24))
        self.qkv = nn.Linear(768, 2304)
        self.proj = nn.Linear(768, 768)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index.reshape(1, 49, 49)]
        mask = y.permute(0, 3, 1, 2)  # [1, 24, 49, 49]
        query, key, value = self.qkv(x).flatten(1, 2).split(768, dim=2)
        x = multihead_attention(query, key, value, mask, heads=24)  # [1, 49, 768]
        return self.proj(x.unflatten(1, (7, 7)))


class SwinTransformerBlock(nn.Module):
    """5 parts of the network, the first of which is features.1.0."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = ShiftedWindowAttention(features // 32, width)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = MLP(features)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SwinTransformerBlock2(nn.Module):
    """5 parts of the network, the first of which is features.1.1."""

    def __init__(self, features: int, width: int, width2: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = ShiftedWindowAttention2(features // 32, width, width2)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = MLP(features)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SwinTransformerBlock3(nn.Module):
    """2 parts of the network, the first of which is features.7.0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(768)
        self.attn = ShiftedWindowAttention3()
        self.norm2 = nn.LayerNorm(768)
        self.mlp = MLP(768)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))  # [1, 7, 7, 768]
        return x + self.mlp(self.norm2(x))


class SwinTransformer(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            [
                nn.ModuleDict({"0": nn.Conv2d(3, 96, 4, stride=4), "2": nn.LayerNorm(96)}),
                nn.Sequential(SwinTransformerBlock(96, 8), SwinTransformerBlock2(96, 64, 8)),
                PatchMerging(384, 28),
                nn.Sequential(SwinTransformerBlock(192, 4), SwinTransformerBlock2(192, 16, 4)),
                PatchMerging(768, 14),
                nn.Sequential(
                    SwinTransformerBlock(384, 2),
                    SwinTransformerBlock2(384, 4, 2),
                    SwinTransformerBlock(384, 2),
                    SwinTransformerBlock2(384, 4, 2),
                    SwinTransformerBlock(384, 2),
                    SwinTransformerBlock2(384, 4, 2),
                ),
                PatchMerging(1536, 7),
                nn.Sequential(*(SwinTransformerBlock3() for _ in range(2))),
            ],
        )
        self.norm = nn.LayerNorm(768)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features[0]["2"](self.features[0]["0"](x).permute(0, 2, 3, 1))  # [1, 56, 56, 96]

        for feature in self.features[1:]:
            x = feature(x)

        return self.head(self.norm(x).mean(dim=(1, 2)))  # [1, 1000]


CONSTANTS = ("offset",)
"""What buffers are called that are computed ahead of time and are in no state_dict."""


def load(weights: str | Path | None = None) -> SwinTransformer:
    """The network for inference, with its trained weights from the file next to this one."""
    model = SwinTransformer()
    model.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    for name, value in list(model.named_buffers()):
        if name.endswith(CONSTANTS):
            module, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(module), leaf, nn.Buffer(value, persistent=False))
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model.eval()
