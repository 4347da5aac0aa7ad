"""torch-pruning on the CIFAR ResNets at given FLOPs: run by prune_quality.py in a Python that has it.

    python prune_quality_peer.py NETWORK DATA WORK magnitude|taylor local|global LESS

Magnitude is the group's L2 norm; Taylor takes the gradient of the cross entropy on calibration images, whose labels
it is given. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch_pruning
from safetensors.torch import load_file


def pruned(ratio: float, make, criterion: str, everywhere: bool, example: torch.Tensor, gradients) -> torch.nn.Module:
    model = make()
    importance = {
        "magnitude": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
        "taylor": torch_pruning.importance.GroupTaylorImportance,
    }[criterion]()
    pruner = torch_pruning.pruner.BasePruner(
        model, example, importance=importance, global_pruning=everywhere, pruning_ratio=ratio,
        ignored_layers=[model.linear], max_pruning_ratio=0.9,
    )  # fmt: skip
    if criterion == "taylor":
        gradients(model)
    pruner.step()
    return model


def main() -> None:
    network, data, work, criterion, scope, less = sys.argv[1:]
    sys.path.insert(0, str(Path(data) / "models/cifar_resnet"))
    import resnet

    torch.set_num_threads(1)
    depth = int(network.removeprefix("resnet"))

    def make() -> torch.nn.Module:
        model = resnet.ResNet(depth)
        model.load_state_dict(load_file(Path(data) / f"models/cifar_resnet/resnet{depth}.safetensors"), strict=False)
        return model.eval()

    train = np.load(Path(data) / "cifar10/train5085.npz")

    def images(pixels: np.ndarray) -> torch.Tensor:
        x = (pixels / 255.0 - resnet.MEAN) / resnet.STD
        return torch.from_numpy(x.astype("f").transpose(0, 3, 1, 2).copy())

    def gradients(model: torch.nn.Module) -> None:
        x, y = images(train["x"][:512]), torch.from_numpy(train["y"][:512].astype(np.int64))
        torch.nn.functional.cross_entropy(model(x), y).backward()

    example, started = torch.zeros(1, 3, 32, 32), time.process_time()
    whole = torch_pruning.utils.count_ops_and_params(make(), example)[0]
    low, high = 0.0, 0.9
    best = make()
    for _ in range(7):
        middle = (low + high) / 2
        model = pruned(middle, make, criterion, scope == "global", example, gradients)
        if 1 - torch_pruning.utils.count_ops_and_params(model, example)[0] / whole >= float(less):
            best, high = model, middle
        else:
            low = middle
    seconds = time.process_time() - started
    with np.load(Path(work) / "scoring.npz") as archive:
        batches = [archive[f"{i}__x"] for i in range(len(archive.files))]
    labels = np.load(Path(work) / "labels.npy")
    with torch.no_grad():
        logits = np.concatenate([best(torch.from_numpy(x)).numpy() for x in batches])
    fewer = 1 - torch_pruning.utils.count_ops_and_params(best, example)[0] / whole
    print(
        json.dumps(
            {"fewer_flops": fewer, "seconds": seconds, "samples": (logits.argmax(1) == labels).astype(float).tolist()}
        )
    )


if __name__ == "__main__":
    main()
