"""Train DigitNet on scikit-learn's bundled handwritten digits and write the files of this folder.

    python train.py [--out FOLDER] [--sparsity 1.0]

Writes `digits.onnx` (BatchNorm kept as nodes), `calibration.npz` (part of the training images) and `test.npz` (images
the network never saw), then prints the accuracy, sizes and hashes that README.md quotes. Needs torch, onnx,
onnxruntime and scikit-learn; takes one to two minutes on one core.
"""

import argparse
import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from network import DigitNet
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

SEED = 0
TEST_IMAGES = 700
CALIBRATION_IMAGES = 256
EPOCHS = 90
BATCH = 64
LEARNING_RATE = 0.1
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.1
SPARSITY = 1.0
STRENGTH_FLOOR = 0.1

# The BatchNorms in one row scale the same channels: additions and depthwise convolutions tie them together.
COUPLED_NORMS = (
    ("stem", "residual.second"),
    ("residual.first",),
    ("downsample.first",),
    ("downsample.second", "downsample.shortcut", "inverted1.project", "inverted2.project"),
    ("inverted1.expand", "inverted1.depthwise"),
    ("inverted2.expand", "inverted2.depthwise"),
)


class Digits(NamedTuple):
    """Images float32 [n,1,8,8] in 0..1 and labels int64 [n], split once."""

    train_images: np.ndarray
    train_labels: np.ndarray
    calibration_images: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load() -> Digits:
    """Split stratified by label; the calibration images are a stratified part of the training images."""
    features, target = load_digits(return_X_y=True)
    images = (np.asarray(features) / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = np.asarray(target).astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, stratify=labels, random_state=SEED)
    _, calibration = train_test_split(train, test_size=CALIBRATION_IMAGES, stratify=labels[train], random_state=SEED)
    return Digits(images[train], labels[train], images[calibration], images[test], labels[test])


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift by up to one pixel, rotate by up to 0.15 rad and scale by up to 10 %, drawn per image."""
    count = len(images)

    def uniform(limit: float, *shape: int) -> torch.Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1) * limit

    angle, zoom, shift = uniform(0.15), 1 + uniform(0.1), uniform(2 / images.shape[-1], 2)
    sine, cosine = angle.sin(), angle.cos()
    rows = (
        torch.stack([cosine * zoom, -sine, shift[:, 0]], dim=1),
        torch.stack([sine, cosine * zoom, shift[:, 1]], dim=1),
    )
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def effective_channels(network: DigitNet) -> torch.Tensor:
    """The share of channels in effect, between 0 and 1, averaged over the BatchNorms.

    A channel's strength is the norm of the scales and shifts that its coupled BatchNorms give it; (sum s)^2 / sum s^2
    counts the channels that carry a group. This is the group form of the Hoyer-square regularizer (Yang, Wen and Li,
    "DeepHoyer", ICLR 2020) on BatchNorm parameters, where Liu et al. ("Network Slimming", ICCV 2017) put plain L1.
    Plain L1 also shrinks every channel towards the epsilon of the next BatchNorm; a ratio of norms does not. The floor
    lets the pull fade near zero: without it weight decay takes unused channels down to denormal numbers, and a CPU
    runs those several times slower.
    """
    parameters = dict(network.named_parameters())
    effective = torch.zeros(())
    total = 0
    for names in COUPLED_NORMS:
        coupled: list[torch.Tensor] = [
            parameters[f"{name}.norm.{kind}"] for name in names for kind in ("weight", "bias")
        ]
        strength = torch.stack(coupled).square().sum(dim=0).add(STRENGTH_FLOOR**2).sqrt()
        effective = effective + len(names) * strength.sum().square() / strength.square().sum()
        total += len(names) * len(strength)
    return effective / total


def train(images: torch.Tensor, labels: torch.Tensor, sparsity: float) -> DigitNet:
    """SGD with Nesterov momentum, weight decay and a cosine schedule after a short warm-up; returned in eval mode."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = DigitNet().train()
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * batches, pct_start=0.1, cycle_momentum=False
    )
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(images), generator=generator)[: batches * BATCH]
        total = 0.0
        for batch in order.split(BATCH):
            logits = network(augment(images[batch], generator))
            error = functional.cross_entropy(logits, labels[batch], label_smoothing=LABEL_SMOOTHING)
            loss = error + sparsity * effective_channels(network)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += error.item()
        if epoch % 10 == 0:
            share = effective_channels(network).item()
            print(f"epoch {epoch:3}  cross entropy {total / batches:.4f}  effective channels {share:.2f}", flush=True)
    return network.eval()


def export(network: DigitNet, path: Path) -> None:
    """Write ONNX opset 17 with BatchNorm left unfolded, so that folding it stays the compressor's work."""
    torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        str(path),
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )


def check(network: DigitNet, path: Path, images: np.ndarray) -> float:
    """Return the largest difference of logits between torch and ONNX Runtime; raise if the file is not as promised."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    expected = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    training = [n.name for n in norms if any(a.name == "training_mode" and a.i for a in n.attribute)]
    if len(norms) != expected or training or any(len(node.output) != 1 for node in norms):
        raise RuntimeError(
            f"{path}: expected {expected} BatchNormalization nodes in inference form, found {len(norms)}"
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"x": images})
    with torch.no_grad():
        reference = network(torch.from_numpy(images)).numpy()
    difference = float(np.abs(np.asarray(found) - reference).max())
    if difference > 1e-4:
        raise RuntimeError(f"{path}: ONNX Runtime and torch differ by {difference:.2e}")
    return difference


def accuracy(network: DigitNet, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Top-1 accuracy and the half-width of its 95 % normal interval, both in percent."""
    with torch.no_grad():
        predicted = network(torch.from_numpy(images)).argmax(dim=1).numpy()
    share = float((predicted == labels).mean())
    return 100 * share, 196 * math.sqrt(share * (1 - share) / len(labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the three files")
    parser.add_argument("--sparsity", type=float, default=SPARSITY, help="weight of the channel sparsity penalty")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load()
    network = train(torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels), options.sparsity)
    options.out.mkdir(parents=True, exist_ok=True)
    export(network, options.out / "digits.onnx")
    np.savez_compressed(options.out / "calibration.npz", x=digits.calibration_images)
    np.savez_compressed(options.out / "test.npz", x=digits.test_images, y=digits.test_labels)

    difference = check(network, options.out / "digits.onnx", digits.test_images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    top1, half_width = accuracy(network, digits.test_images, digits.test_labels)
    print(f"parameters {parameters}  torch vs ONNX Runtime {difference:.1e}")
    print(f"top-1 {top1:.2f} +-{half_width:.2f} % on {len(digits.test_labels)} test images")
    for name in ("digits.onnx", "calibration.npz", "test.npz"):
        content = (options.out / name).read_bytes()
        print(f"{hashlib.sha256(content).hexdigest()}  {name}  {len(content)} bytes")


if __name__ == "__main__":
    main()
