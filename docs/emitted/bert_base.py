"""Bert, a PyTorch module with its weights in model.safetensors.

Inputs:
    input_ids: int64 [1, 32]
    attention_mask: int64 [1, 32]

Outputs:
    output_0: float32 [1, 32, 768]
    output_1: float32 [1, 768]
"""

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


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """Slices of x at the index tuples in the last axis of indices, after shared leading axes."""
    if batch_dims == 0:
        return x[tuple(indices.unbind(-1))]
    pairs = zip(x.flatten(0, batch_dims - 1), indices.flatten(0, batch_dims - 1))
    parts = [part[tuple(index.unbind(-1))] for part, index in pairs]
    return torch.stack(parts).unflatten(0, x.shape[:batch_dims])


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


class BertSelfAttention(nn.Module):
    """12 parts of the network, the first of which is bert.encoder.layer.0.attention.self."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(768, 768)
        self.key = nn.Linear(768, 768)
        self.value = nn.Linear(768, 768)

    def forward(self, layer_norm: Tensor, mask: Tensor) -> Tensor:
        query = self.query(layer_norm)  # [1, 32, 768]
        key = self.key(layer_norm)  # [1, 32, 768]
        value = self.value(layer_norm)  # [1, 32, 768]
        x = multihead_attention(query, key, value, mask, heads=12, scale=0.125)  # [1, 32, 768]
        return x


class BertSelfOutput(nn.Module):
    """24 parts of the network, the first of which is bert.encoder.layer.0.attention.output."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, 768)
        self.LayerNorm = nn.LayerNorm(768, eps=1e-12)

    def forward(self, x: Tensor, layer_norm: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + layer_norm)


class BertAttention(nn.Module):
    """12 parts of the network, the first of which is bert.encoder.layer.0.attention."""

    def __init__(self) -> None:
        super().__init__()
        self.self = BertSelfAttention()
        self.output = BertSelfOutput(768)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, mask), x)


class BertLayer(nn.Module):
    """12 parts of the network, the first of which is bert.encoder.layer.0."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = BertAttention()
        self.intermediate = Block(dense=nn.Linear(768, 3072))
        self.output = BertSelfOutput(3072)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)  # [1, 32, 768]
        return self.output(F.gelu(self.intermediate.dense(x)), x)


class Bert(nn.Module):
    """The network: 2 inputs, 2 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = Block(
            embeddings=Block(
                word_embeddings=nn.Embedding(30522, 768),
                token_type_embeddings=Block(weight=nn.Parameter(torch.zeros(2, 768))),
                position_embeddings=Block(weight=nn.Parameter(torch.zeros(512, 768))),
                LayerNorm=nn.LayerNorm(768, eps=1e-12),
                gather=torch.zeros(1, 32, dtype=torch.int64),
                slice=torch.zeros(1, 32, dtype=torch.int64),
            ),
            encoder=Block(layer=nn.ModuleList(BertLayer() for _ in range(12))),
            pooler=Block(dense=nn.Linear(768, 768)),
            constant=torch.zeros(1, 1, 1, 32, 2, dtype=torch.int64),
            and_1=torch.zeros(1, 1, 32, 1, dtype=torch.bool),
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        # bert
        x = (
            self.bert.embeddings.word_embeddings(input_ids)
            + self.bert.embeddings.token_type_embeddings.weight[self.bert.embeddings.gather]
        )  # [1, 32, 768]
        x = self.bert.embeddings.LayerNorm(
            x + self.bert.embeddings.position_embeddings.weight[self.bert.embeddings.slice]
        )  # [1, 32, 768]
        y = gather_nd(attention_mask.to(torch.bool), self.bert.constant)  # [1, 1, 1, 32]
        mask = self.bert.and_1 & y  # [1, 1, 32, 32]

        for layer in self.bert.encoder.layer:
            x = layer(x, mask)  # [1, 32, 768]

        # bert
        output_1 = torch.tanh(self.bert.pooler.dense(x[:, 0]))  # [1, 768]
        return x, output_1


def load(weights: str | Path | None = None) -> Bert:
    """The network for inference, with its trained weights from the file next to this one."""
    model = Bert()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
