"""The networks of the int8 benchmark: a float file, feeds to calibrate and to score with, one feed to time, a metric.

`prepare` writes them into a folder once; every tool then reads the same file and the same feeds.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, np.ndarray]
Parts = tuple[list[Feed], list[Feed], Feed]
"""Feeds to calibrate, feeds to score, the feed to time."""

Make = Callable[[Path, Path, Path], Parts]
"""Takes the folder of data, the file with random weights, and the folder to write to."""

MEAN, STD = np.array((0.485, 0.456, 0.406), "f"), np.array((0.229, 0.224, 0.225), "f")
LENGTH = 128
CALIBRATION_SENTENCES, PAIRS = 64, 400
PHOTOGRAPHS = 96


@dataclass(frozen=True)
class Network:
    """`make` writes the float model to a path and gives the feeds; `metric` is a key of METRICS, "outputs" where only
    these are compared, or "" for random weights, where only speed counts. `family` chooses what is asked of the peers.
    """

    make: Make
    metric: str = ""
    family: str = "cnn"


def write_feeds(path: Path, feeds: Sequence[Feed]) -> None:
    arrays: dict[str, Any] = {f"{i}__{name}": array for i, feed in enumerate(feeds) for name, array in feed.items()}
    np.savez(path, **arrays)


def read_feeds(path: Path) -> list[Feed]:
    found: dict[int, Feed] = {}
    with np.load(path) as archive:
        for key in archive.files:
            index, name = key.split("__", 1)
            found.setdefault(int(index), {})[name] = archive[key]
    return [found[i] for i in sorted(found)]


def prepare(name: str, folder: Path, data: Path, zoo: Path) -> None:
    """Writes fp32.onnx, calibration.npz, scoring.npz, timing.npz and labels.npy into `folder`, unless it has them."""
    if (folder / "ready").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    calibration, scoring, timing = NETWORKS[name].make(data, zoo / f"{name}.onnx", folder)
    write_feeds(folder / "calibration.npz", calibration)
    write_feeds(folder / "scoring.npz", scoring)
    write_feeds(folder / "timing.npz", [timing])
    (folder / "ready").touch()


def images(pixels: np.ndarray, input: str, size: int) -> list[Feed]:
    """Normalised NCHW batches of uint8 NHWC pixels."""
    x = ((pixels / np.float32(255) - MEAN) / STD).astype("f").transpose(0, 3, 1, 2)
    return [{input: np.ascontiguousarray(x[i : i + size])} for i in range(0, len(x), size)]


def cifar(depth: int) -> Make:
    def make(data: Path, _: Path, folder: Path) -> Parts:
        train, test = (np.load(data / "cifar10" / f) for f in ("train5085.npz", "test512.npz"))
        shutil.copy(data / f"models/cifar_resnet/resnet{depth}_bn.onnx", folder / "fp32.onnx")
        np.save(folder / "labels.npy", test["y"])
        scoring = images(test["x"], "x", 32)
        return images(train["x"][:1024], "x", 32), scoring, {"x": scoring[0]["x"][:1]}

    return make


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """NHWC images of another size, by bilinear interpolation; float32."""

    def along(images: np.ndarray, axis: int, size: int) -> np.ndarray:
        held = images.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * held / size - 0.5, 0, held - 1)
        low = np.floor(place).astype(int)
        part = (place - low).astype("f").reshape([-1 if a == axis else 1 for a in range(images.ndim)])
        high = np.minimum(low + 1, held - 1)
        return images.take(low, axis) * (1 - part) + images.take(high, axis) * part

    return along(along(pixels.astype("f"), 1, height), 2, width)


def small(file: str, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], bgr: bool = False) -> Make:
    """A small depthwise network of models/, calibrated and scored on photographs as its authors prepare them.

    Files of opset 9 to 11 are brought to 17 first, with weights that are no inputs: the peers need that.
    """

    def make(data: Path, _: Path, folder: Path) -> Parts:
        import tersor as ts
        from tersor.backends.onnx import save

        model = ts.load(data / "models" / file, freeze_defaults=True)
        save(model, folder / "fp32.onnx", opset=17)
        pixels = resized(np.load(data / "imagenet/images200.npz")["x"][:PHOTOGRAPHS], *size)
        x = (((pixels[..., ::-1] if bgr else pixels) - np.array(mean, "f")) / np.array(std, "f")).transpose(0, 3, 1, 2)
        name = model.graph.inputs[0].name
        feeds = [{name: np.ascontiguousarray(x[i : i + 1])} for i in range(len(x))]
        return feeds[: PHOTOGRAPHS // 2], feeds[PHOTOGRAPHS // 2 :], feeds[PHOTOGRAPHS // 2]

    return make


def squeezenet(data: Path, _: Path, folder: Path) -> Parts:
    archive = np.load(data / "imagenet/images200.npz")
    shutil.copy(data / "models/squeezenet11/squeezenet11.onnx", folder / "fp32.onnx")
    np.save(folder / "labels.npy", archive["y"][100:])
    scoring = images(archive["x"][100:], "x", 10)
    return images(archive["x"][:100], "x", 10), scoring, {"x": scoring[0]["x"][:1]}


def minilm(data: Path, _: Path, folder: Path) -> Parts:
    """Calibrated on training sentences padded to one length, which the peers need; scored on sentences as they are."""
    import torch
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer, BertConfig, BertModel

    source = data / "models/minilm"
    network = BertModel(BertConfig.from_pretrained(source, attn_implementation="sdpa"), add_pooling_layer=False).eval()
    weights = {k: torch.from_numpy(v.astype("f")) if v.dtype == np.float16 else torch.from_numpy(v)
               for k, v in load_file(source / "model.safetensors").items()}  # fmt: skip
    network.load_state_dict(weights, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(source)

    def tokens(sentence: str, **options: Any) -> Feed:
        return {k: v.astype(np.int64) for k, v in tokenizer(sentence, return_tensors="np", **options).items()}

    train, dev = (_pairs(data / f"stsb/stsb-en-{part}.csv") for part in ("train", "dev"))
    scoring = [tokens(s) for a, b, _ in dev[:PAIRS] for s in (a, b)]
    np.save(folder / "labels.npy", np.array([score for _, _, score in dev[:PAIRS]]))
    padding: dict[str, Any] = {"padding": "max_length", "max_length": LENGTH, "truncation": True}
    calibration = [tokens(s, **padding) for a, b, _ in train[: CALIBRATION_SENTENCES // 2] for s in (a, b)]
    example = {k: torch.from_numpy(np.repeat(v, 2, 0)) for k, v in calibration[0].items()}
    sizes = {0: torch.export.Dim("batch", min=1, max=256), 1: torch.export.Dim("sequence", min=2, max=512)}
    torch.onnx.export(network, (), str(folder / "fp32.onnx"), kwargs=example, dynamo=True, opset_version=20,
                      dynamic_shapes=dict.fromkeys(example, sizes), external_data=False)  # fmt: skip
    text = " ".join(a for a, _, _ in dev)
    return calibration, scoring, tokens(text, max_length=LENGTH, truncation=True)


def _pairs(path: Path) -> list[tuple[str, str, float]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [(row[0], row[1], float(row[2])) for row in csv.reader(file)]


def random_images(_: Path, source: Path, folder: Path) -> Parts:
    shutil.copy(source, folder / "fp32.onnx")
    made = [{"x": np.random.default_rng(i).standard_normal((1, 3, 224, 224), np.float32)} for i in range(10)]
    return made[:8], made[8:], made[8]


def random_tokens(_: Path, source: Path, folder: Path) -> Parts:
    shutil.copy(source, folder / "fp32.onnx")
    made = [{"input_ids": np.random.default_rng(i).integers(0, 30000, (1, LENGTH)),
             "attention_mask": np.ones((1, LENGTH), np.int64)} for i in range(6)]  # fmt: skip
    return made[:4], made[4:], made[4]


# fmt: off
NETWORKS: dict[str, Network] = {
    "squeezenet11": Network(squeezenet, "top1"),
    "resnet20": Network(cifar(20), "top1"),
    "resnet56": Network(cifar(56), "top1"),
    "minilm": Network(minilm, "spearman", "transformer"),
    "ultraface": Network(small("ultraface/version-RFB-320.onnx", (240, 320), [127] * 3, [128] * 3), "outputs"),
    "fastestdet": Network(small("fastestdet/FastestDet.onnx", (352, 352), [0] * 3, [255] * 3, True), "outputs"),
    "nanodet": Network(small("nanodet/nanodet_m.onnx", (416, 416), [103.53, 116.28, 123.675],
                             [57.375, 57.12, 58.395], True), "outputs"),
    "ppocr_det": Network(small("ppocr/det.onnx", (320, 320), 255 * MEAN, 255 * STD), "outputs"),
    "ppocr_cls": Network(small("ppocr/cls.onnx", (48, 192), [127.5] * 3, [127.5] * 3), "outputs"),
    "resnet50": Network(random_images),
    "mobilenet_v2": Network(random_images),
    "mobilenet_v3_large": Network(random_images),
    "efficientnet_b0": Network(random_images),
    "bert_base": Network(random_tokens, family="transformer"),
    "gpt2": Network(random_tokens, family="transformer"),
}
# fmt: on


# Metrics: of the first output over the feeds that score, and the labels.


def top1(outputs: list[np.ndarray], feeds: list[Feed], labels: np.ndarray) -> float:
    """Percent of images that are classified as labelled."""
    return 100 * float((np.concatenate([o.argmax(1) for o in outputs]) == labels).mean())


def spearman(outputs: list[np.ndarray], feeds: list[Feed], labels: np.ndarray) -> float:
    """100 times the rank correlation of cosines between sentence embeddings (means of hidden states) and labels."""
    means = np.stack([o[0].mean(0) for o in outputs])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = (means[::2] * means[1::2]).sum(1)
    return 100 * float(np.corrcoef(_ranks(cosines), _ranks(labels))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


METRICS: dict[str, Callable[[list[np.ndarray], list[Feed], np.ndarray], float]] = {"top1": top1, "spearman": spearman}
