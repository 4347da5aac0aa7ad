"""Bert, a PyTorch module with its weights in model.safetensors.

Inputs:
    input_ids: int64 [1, 32]
    attention_mask: int64 [1, 32]

Outputs:
    output_0: float32 [1, 32, 768]
    output_1: float32 [1, 768]
"""

from collections import OrderedDict
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


class BertIntermediate(nn.Sequential):
    """12 parts of the network, the first of which is bert.encoder.layer.0.intermediate."""

    def __init__(self) -> None:
        super().__init__(OrderedDict(dense=nn.Linear(768, 3072), gelu=nn.GELU()))


class BertSelfOutput(nn.Module):
    """24 parts of the network, the first of which is bert.encoder.layer.0.attention.output."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, 768)
        self.LayerNorm = nn.LayerNorm(768, eps=1e-12)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + y)


class BertSelfAttention(nn.Module):
    """12 parts of the network, the first of which is bert.encoder.layer.0.attention.self."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(768, 768)
        self.key = nn.Linear(768, 768)
        self.value = nn.Linear(768, 768)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query = self.query(x)  # [1, 32, 768]
        return multihead_attention(query, self.key(x), self.value(x), mask, heads=12)


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
        self.intermediate = BertIntermediate()
        self.output = BertSelfOutput(3072)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)  # [1, 32, 768]
        return self.output(self.intermediate(x), x)


class Bert(nn.Module):
    """The network: 2 inputs, 2 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = nn.Module()
        self.bert.embeddings = nn.Module()
        self.bert.embeddings.word_embeddings = nn.Embedding(30522, 768)
        self.bert.embeddings.token_type_embeddings = nn.Embedding(2, 768)
        self.bert.embeddings.position_embeddings = nn.Embedding(512, 768)
        self.bert.embeddings.LayerNorm = nn.LayerNorm(768, eps=1e-12)
        self.bert.encoder = nn.Module()
        self.bert.encoder.layer = nn.ModuleList(BertLayer() for _ in range(12))
        self.bert.pooler = nn.Module()
        self.bert.pooler.dense = nn.Linear(768, 768)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.bert.embeddings
        word_embeddings = embeddings.word_embeddings(input_ids)  # [1, 32, 768]
        x = word_embeddings + embeddings.token_type_embeddings.weight[:1]  # [1, 32, 768]
        x = x + embeddings.position_embeddings.weight[:32]  # [1, 32, 768]
        x = embeddings.LayerNorm(x)  # [1, 32, 768]
        y = attention_mask.to(torch.bool).reshape(1, 1, 1, 32)  # [1, 1, 1, 32]
        mask = y.expand(-1, -1, 32, 32)  # [1, 1, 32, 32]

        for layer in self.bert.encoder.layer:
            x = layer(x, mask)  # [1, 32, 768]

        output_1 = torch.tanh(self.bert.pooler.dense(x[:, 0]))  # [1, 768]
        return x, output_1


def load(weights: str | Path | None = None) -> Bert:
    """The network for inference, with its trained weights from the file next to this one."""
    model = Bert()
    model.load_state_dict(load_file(weights or Path(__file__).with_name("model.safetensors")))
    return model.eval()
