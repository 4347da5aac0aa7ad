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
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    heads: int,
    key_heads: int | None = None,
    **options: float | bool,
) -> Tensor:
    """Scaled dot-product attention of [batch, length, heads * size]."""
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
    key, value = (t.unflatten(-1, (key_heads or heads, -1)).transpose(1, 2) for t in (key, value))
    x = F.scaled_dot_product_attention(query, key, value, mask, **options)
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

    def __init__(self, size: int, width: int, size2: int) -> None:
        super().__init__()
        self.size3 = 49 * width
        self.size4 = 32 * size
        self.size = size
        self.register_buffer("relative_position_index", torch.zeros(2401, dtype=torch.int64))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, size))
        self.qkv = nn.Linear(32 * size, 96 * size)
        self.proj = nn.Linear(32 * size, 32 * size)
        self.register_buffer("table", torch.zeros(width, 49, dtype=torch.int64))
        self.register_buffer("table2", torch.zeros(1, size2, size2, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index.reshape(1, 49, 49)]
        y = y.permute(0, 3, 1, 2)
        x = x.reshape(self.size3, self.size4)[self.table]
        part, part2, part3 = self.qkv(x).split(self.size4, dim=2)
        y = multihead_attention(part, part2, part3, y, heads=self.size, scale=0.17677669)
        proj = self.proj(y.reshape(self.size3, self.size4))
        return proj[self.table2]


class ShiftedWindowAttention2(nn.Module):
    """5 parts of the network, the first of which is features.1.1.attn."""

    def __init__(self, size: int, width: int, size2: int) -> None:
        super().__init__()
        self.size3 = 49 * width
        self.size4 = 32 * size
        self.width = width
        self.size5 = 3 * size
        self.size = size
        self.register_buffer("relative_position_index", torch.zeros(2401, dtype=torch.int64))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, size))
        self.qkv = nn.Linear(32 * size, 96 * size)
        self.proj = nn.Linear(32 * size, 32 * size)
        self.register_buffer("table", torch.zeros(width, 49, dtype=torch.int64))
        self.register_buffer("unsqueeze", torch.zeros(1, width, 1, 49, 49))
        self.register_buffer("table2", torch.zeros(1, size2, size2, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index.reshape(1, 49, 49)]
        y = y.permute(0, 3, 1, 2)
        x = x.reshape(self.size3, self.size4)[self.table]
        x = self.qkv(x).reshape(self.width, 49, self.size5, 32)
        x = x.transpose(1, 2)
        part, part2, part3 = x.split(self.size, dim=1)
        x = part * 0.17677669 @ part2.transpose(-2, -1)
        x = (x + y).reshape(1, self.width, self.size, 49, 49)
        x = (x + self.unsqueeze).reshape(self.width, self.size, 49, 49)
        x = torch.softmax(x, dim=3) @ part3
        x = x.transpose(1, 2)
        proj = self.proj(x.reshape(self.size3, self.size4))
        return proj[self.table2]


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
        x = x.reshape(self.size, 2, self.size2, self.size3)
        x = x.transpose(1, 2)
        x = self.norm(x.reshape(1, self.size, self.size, self.features))
        return self.reduction(x)


class ShiftedWindowAttention3(nn.Module):
    """2 parts of the network, the first of which is features.7.0.attn."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("relative_position_index", torch.zeros(2401, dtype=torch.int64))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, 24))
        self.qkv = nn.Linear(768, 2304)
        self.proj = nn.Linear(768, 768)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relative_position_bias_table[self.relative_position_index.reshape(1, 49, 49)]
        y = y.permute(0, 3, 1, 2)  # [1, 24, 49, 49]
        x = self.qkv(x).reshape(1, 49, 2304)  # [1, 49, 2304]
        part, part2, part3 = x.split(768, dim=2)
        y = multihead_attention(part, part2, part3, y, heads=24, scale=0.17677669)  # [1, 49, 768]
        return self.proj(y.reshape(1, 7, 7, 768))


class SwinTransformerBlock(nn.Module):
    """5 parts of the network, the first of which is features.1.0."""

    def __init__(self, features: int, width: int, width2: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = ShiftedWindowAttention(features // 32, width, width2)
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
                nn.Sequential(SwinTransformerBlock(96, 64, 56), SwinTransformerBlock2(96, 64, 56)),
                PatchMerging(384, 28),
                nn.Sequential(
                    SwinTransformerBlock(192, 16, 28), SwinTransformerBlock2(192, 16, 28)
                ),
                PatchMerging(768, 14),
                nn.Sequential(
                    SwinTransformerBlock(384, 4, 14),
                    SwinTransformerBlock2(384, 4, 14),
                    SwinTransformerBlock(384, 4, 14),
                    SwinTransformerBlock2(384, 4, 14),
                    SwinTransformerBlock(384, 4, 14),
                    SwinTransformerBlock2(384, 4, 14),
                ),
                PatchMerging(1536, 7),
                nn.Sequential(*(SwinTransformerBlock3() for _ in range(2))),
            ],
        )
        self.norm = nn.LayerNorm(768)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        # features.0
        x = self.features[0]["0"](x).permute(0, 2, 3, 1)  # [1, 56, 56, 96]
        x = self.features[0]["2"](x)  # [1, 56, 56, 96]

        for feature in self.features[1:]:
            x = feature(x)

        mean = self.norm(x).mean(dim=(1, 2))  # [1, 768]
        return self.head(mean)  # [1, 1000]


def load(weights: str | Path | None = None) -> SwinTransformer:
    """The network for inference, with its trained weights from the file next to this one."""
    model = SwinTransformer()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
