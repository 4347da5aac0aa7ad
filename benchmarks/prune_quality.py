"""Accuracy of pruned ResNets on CIFAR-10 without any training: every criterion, with and without compensation.

    python benchmarks/prune_quality.py --data FOLDER [--networks 20 56] [--less 0.1 0.2 0.3 0.4 0.5] [--seeds 3]

FOLDER has `models/cifar_resnet/resnet20_bn.onnx`, `resnet56_bn.onnx`, `cifar10/train5085.npz` and `test512.npz`.
Calibration takes training images alone; a seed chooses them. The inner channels of every block are pruned until the
given share of the FLOPs is gone. What is lost of the accuracy is paired over the same test images and averaged over the
seeds, with a 95 % interval of the mean over images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tersor.backends.runners import Feeds, OrtRunner
from tersor.frontends.onnx import load
from tersor.ir import Array, Model
from tersor.transforms.base import Context
from tersor.transforms.cost import graph_flops
from tersor.transforms.prune import Prune
from tersor.transforms.prune.importance import IMPORTANCE

MEAN, STD = np.array((0.485, 0.456, 0.406), "f"), np.array((0.229, 0.224, 0.225), "f")
BATCH = 128
INNER = ("layer*.conv1",)
GOALS = {("20", 0.3): 2.0, ("20", 0.5): 7.0, ("56", 0.3): 0.5, ("56", 0.5): 2.5}


@dataclass(frozen=True)
class Row:
    network: str
    criterion: str
    compensate: str
    wanted: float
    fewer_flops: float
    accuracy: float
    lost: float
    margin: float
    seconds: float


def images(pixels: Array) -> Array:
    """Normalised NCHW floats of uint8 NHWC pixels."""
    return ((pixels / np.float32(255) - MEAN) / STD).astype("f").transpose(0, 3, 1, 2).copy()


def feeds(pixels: Array) -> list[Feeds]:
    return [{"x": images(pixels[i : i + BATCH])} for i in range(0, len(pixels), BATCH)]


def right(model: Model, x: Array, labels: Array) -> Array:
    """1 for each image that is classified correctly."""
    runner = OrtRunner(model, threads=2)
    logits = [next(iter(runner.run({"x": x[i : i + BATCH]}).values())) for i in range(0, len(x), BATCH)]
    return (np.concatenate(logits).argmax(1) == labels).astype(float)


def ratio_for(model: Model, less: float) -> float:
    """The ratio at which the share `less` of the FLOPs is gone, to half a percent.

    How many channels go does not depend on which ones.
    """
    low, high, before = 0.0, 0.9, graph_flops(model.graph)
    while high - low > 0.005:
        middle, trial = (low + high) / 2, model.clone()
        Prune(ratio=middle, importance="l2", only=INNER, compensate=None).run(trial, Context())
        gone = 1 - graph_flops(trial.graph) / before
        low, high = (middle, high) if gone < less else (low, middle)
    return high


def measure(options: argparse.Namespace) -> Iterator[Row]:
    train, test = (np.load(options.data / "cifar10" / name) for name in ("train5085.npz", "test512.npz"))
    x, labels = images(test["x"]), test["y"]
    for network in options.networks:
        model = load(options.data / f"models/cifar_resnet/resnet{network}_bn.onnx")
        dense, flops = right(model, x, labels), graph_flops(model.graph)
        print(f"ResNet-{network}: {100 * dense.mean():.2f} % of {len(x)} test images")
        for less in options.less:
            ratio = ratio_for(model, less)
            for criterion in options.criteria:
                for compensate in options.compensate:
                    found, started = [], time.perf_counter()
                    for seed in range(options.seeds):
                        chosen = np.random.default_rng(seed).permutation(len(train["x"]))[: options.images]
                        pruned = model.clone()
                        Prune(
                            ratio=ratio,
                            importance=criterion,
                            only=INNER,
                            compensate=None if compensate == "none" else compensate,
                        ).run(pruned, Context(samples=feeds(train["x"][chosen]), seed=seed))
                        found.append(right(pruned, x, labels))
                    lost = dense - np.mean(found, 0)
                    yield Row(
                        network, criterion, compensate, less, 1 - graph_flops(pruned.graph) / flops,
                        100 * float(np.mean(found)), 100 * float(lost.mean()),
                        196 * float(lost.std(ddof=1)) / len(lost) ** 0.5, time.perf_counter() - started,
                    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=["20", "56"])
    parser.add_argument("--less", nargs="+", type=float, default=[0.1, 0.2, 0.3, 0.4, 0.5])
    parser.add_argument("--criteria", nargs="+", default=list(IMPORTANCE), choices=list(IMPORTANCE))
    parser.add_argument("--compensate", nargs="+", default=["none", "least-squares"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1024, help="calibration images (default: 1024)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    rows: list[Row] = []
    for row in measure(options):
        rows.append(row)
        goal = GOALS.get((row.network, row.wanted))
        print(
            f"ResNet-{row.network}  {row.criterion:<10} {row.compensate:<13} FLOPs -{100 * row.fewer_flops:4.1f} %  "
            f"top-1 {row.accuracy:5.2f}  lost {row.lost:5.2f} ± {row.margin:.2f}  {row.seconds:5.1f} s"
            f"{'' if goal is None else f'  goal {goal}'}",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
