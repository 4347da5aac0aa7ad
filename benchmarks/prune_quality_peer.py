"""torch-pruning on a network at given FLOPs: run by prune_quality.py in a Python that has it.

    python prune_quality_peer.py NETWORK DATA WORK magnitude|taylor local|global LESS

Magnitude is the group's L2 norm; Taylor takes the gradient of a loss with labels, which it is given: cross entropy on
calibration images, for sentences the squared error of their cosines. The ResNets are their definition, SqueezeNet the
module in WORK/torch (WORK is the network's folder), MiniLM that of transformers, whose heads are named as in
torch-pruning's own example for BERT. Prints one line of JSON.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning
from safetensors.torch import load_file

MEAN, STD = np.array((0.485, 0.456, 0.406), "f"), np.array((0.229, 0.224, 0.225), "f")
IMAGES, BATCH, PAIRS = 512, 32, 64
MOST, SEARCHES = 0.9, 7
LENGTH = 128

Tensor = torch.Tensor
Module = torch.nn.Module


@dataclass
class Network:
    """`make` gives the module, `example` its arguments; `loss` backpropagates, `score` gives a number per sample.
    `output` names what stays, `heads` and `repair` what torch-pruning has to be told and what it leaves to the user.
    """

    make: Callable[[], Module]
    example: Any
    loss: Callable[[Module], None]
    score: Callable[[Module], np.ndarray]
    output: Callable[[Module], list[Module]]
    heads: Callable[[Module], dict[str, Any]] = field(default=lambda module: {})
    repair: Callable[[Module, Any], None] = field(default=lambda module, pruner: None)


def images(pixels: np.ndarray) -> Tensor:
    """Normalised NCHW."""
    return torch.from_numpy(((pixels / np.float32(255) - MEAN) / STD).astype("f").transpose(0, 3, 1, 2).copy())


def top1(work: Path) -> Callable[[Module], np.ndarray]:
    """1 for each scoring image that is classified correctly."""

    def score(module: Module) -> np.ndarray:
        with np.load(work / "scoring.npz") as archive, torch.no_grad():
            logits = np.concatenate([module(torch.from_numpy(archive[k])).numpy() for k in archive.files])
        return (logits.reshape(len(logits), -1).argmax(1) == np.load(work / "labels.npy")).astype(float)

    return score


def cross_entropy(x: Tensor, labels: np.ndarray) -> Callable[[Module], None]:
    y = torch.from_numpy(labels.astype(np.int64))

    def loss(module: Module) -> None:
        for i in range(0, len(x), BATCH):
            found = module(x[i : i + BATCH]).flatten(1)
            torch.nn.functional.cross_entropy(found, y[i : i + BATCH], reduction="sum").backward()

    return loss


def cifar(depth: int) -> Callable[[Path, Path], Network]:
    def network(data: Path, work: Path) -> Network:
        sys.path.insert(0, str(data / "models/cifar_resnet"))
        import resnet

        def make() -> Module:
            module = resnet.ResNet(depth)
            module.load_state_dict(load_file(data / f"models/cifar_resnet/resnet{depth}.safetensors"), strict=False)
            return module.eval()

        train = np.load(data / "cifar10/train5085.npz")
        loss = cross_entropy(images(train["x"][:IMAGES]), train["y"][:IMAGES])
        return Network(make, torch.zeros(1, 3, 32, 32), loss, top1(work), lambda module: [module.linear])

    return network


def squeezenet(data: Path, work: Path) -> Network:
    def make() -> Module:
        spec = importlib.util.spec_from_file_location("emitted", work / "torch/model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["emitted"] = module
        spec.loader.exec_module(module)
        return module.load().eval()

    def classifier(module: Module) -> list[Module]:
        return [m for m in module.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 1000]

    archive = np.load(data / "imagenet/images200.npz")
    loss = cross_entropy(images(archive["x"][:100]), archive["y"][:100])
    return Network(make, torch.zeros(1, 3, 224, 224), loss, top1(work), classifier)


def minilm(data: Path, work: Path) -> Network:
    from transformers import AutoTokenizer, BertConfig, BertModel

    source = data / "models/minilm"
    tokenizer = AutoTokenizer.from_pretrained(source)

    def make() -> Module:
        config = BertConfig.from_pretrained(source, attn_implementation="eager")
        module = BertModel(config, add_pooling_layer=False).eval()
        module.load_state_dict({k: v.float() if v.is_floating_point() else v
                                for k, v in load_file(source / "model.safetensors").items()}, strict=False)  # fmt: skip
        return module

    def vector(module: Module, feed: dict[str, Tensor]) -> Tensor:
        hidden, mask = module(**feed)[0], feed["attention_mask"][..., None]
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        return pooled / pooled.norm(dim=1, keepdim=True)

    def loss(module: Module) -> None:
        with open(data / "stsb/stsb-en-train.csv", newline="", encoding="utf-8") as file:
            rows = [row for _, row in zip(range(PAIRS), csv.reader(file))]  # noqa: B905
        for a, b, score in rows:
            one, two = (vector(module, dict(tokenizer(s, return_tensors="pt"))) for s in (a, b))
            ((one * two).sum() - float(score) / 5).square().backward()

    def score(module: Module) -> np.ndarray:
        feeds: dict[int, dict[str, Tensor]] = {}
        with np.load(work / "scoring.npz") as archive:
            for key in archive.files:
                index, name = key.split("__", 1)
                feeds.setdefault(int(index), {})[name] = torch.from_numpy(archive[key])
        with torch.no_grad():
            vectors = torch.cat([vector(module, feeds[i]) for i in sorted(feeds)])
        return (vectors[0::2] * vectors[1::2]).sum(1).numpy()

    def attentions(module: Module) -> list[Any]:
        return [layer.attention.self for layer in module.encoder.layer]

    def heads(module: Module) -> dict[str, Any]:
        each = {p: a.num_attention_heads for a in attentions(module) for p in (a.query, a.key, a.value)}
        return {"num_heads": each, "output_transform": lambda out: out[0]}

    def repair(module: Module, pruner: Any) -> None:
        for each in attentions(module):
            each.num_attention_heads = pruner.num_heads[each.query]
            each.attention_head_size = each.query.out_features // each.num_attention_heads
            each.all_head_size = each.query.out_features

    ones = torch.ones(1, LENGTH, dtype=torch.int64)
    example = {"input_ids": ones, "token_type_ids": 0 * ones, "attention_mask": ones}
    return Network(make, example, loss, score, lambda module: [], heads, repair)


NETWORKS = {"resnet20": cifar(20), "resnet56": cifar(56), "squeezenet11": squeezenet, "minilm": minilm}


def gradients(network: Network) -> dict[str, Tensor]:
    """Of the dense network, once: every attempt starts from the same weights."""
    module = network.make()
    network.loss(module)
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def pruned(ratio: float, network: Network, criterion: str, everywhere: bool, known: dict[str, Tensor]) -> Module:
    module = network.make()
    importance = {
        "magnitude": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
        "taylor": torch_pruning.importance.GroupTaylorImportance,
    }[criterion]()
    pruner = torch_pruning.pruner.BasePruner(
        module, network.example, importance=importance, global_pruning=everywhere, pruning_ratio=ratio,
        ignored_layers=network.output(module), max_pruning_ratio=MOST, **network.heads(module),
    )  # fmt: skip
    for name, p in module.named_parameters():
        p.grad = known[name].clone() if name in known else None
    pruner.step()
    network.repair(module, pruner)
    return module


def main() -> None:
    name, data, work, criterion, scope, less = sys.argv[1:]
    torch.set_num_threads(1)
    network, started = NETWORKS[name](Path(data), Path(work)), time.process_time()

    def flops(module: Module) -> float:
        return torch_pruning.utils.count_ops_and_params(module, network.example)[0]

    known = gradients(network) if criterion == "taylor" else {}
    whole, low, high = flops(network.make()), 0.0, MOST
    best = network.make()
    for _ in range(SEARCHES):
        middle = (low + high) / 2
        module = pruned(middle, network, criterion, scope == "global", known)
        if 1 - flops(module) / whole >= float(less):
            best, high = module, middle
        else:
            low = middle
    seconds = time.process_time() - started
    fewer = 1 - flops(best) / whole
    samples = np.round(network.score(best).astype(float), 5).tolist()
    print(json.dumps({"fewer_flops": fewer, "seconds": seconds, "samples": samples}))


if __name__ == "__main__":
    main()
