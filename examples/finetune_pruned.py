"""Prune by half, train what is left for a few minutes against the original's outputs, and bring the weights back.

Run it from the repository root: `python examples/finetune_pruned.py`, or with a classifier of your own:

    python examples/finetune_pruned.py --model resnet20.onnx --train train.npz --test test.npz --flip --shift 4

Both files hold the model's input under its name as it reads it (normalised), `test.npz` also labels as `y`. Training
needs no labels: the pruned network learns to give what the original gives (distillation; Hinton et al., 2015). It needs
the normalisations that the original was trained with, so do not fold them before: export with BatchNormalization.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tersor as ts
import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="examples/digits/digits.onnx")
parser.add_argument("--train", default="examples/digits/calibration.npz", help=".npz with inputs")
parser.add_argument("--test", default="examples/digits/test.npz", help=".npz with inputs and labels y")
parser.add_argument("--flops", type=float, default=0.5, help="the share that stays (default: 0.5)")
parser.add_argument("--calibrate", type=int, default=512, help="samples that pruning looks at (default: 512)")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--rate", type=float, default=0.005, help="highest learning rate (default: 0.005)")
parser.add_argument("--temperature", type=float, default=4.0)
parser.add_argument("--flip", action="store_true", help="show images mirrored, too")
parser.add_argument("--shift", type=int, default=0, help="show images moved by up to so many pixels")
parser.add_argument("--output", default="out/finetuned.onnx")
options = parser.parse_known_args()[0]

original = ts.load(options.model)
name = original.graph.inputs[0].name
train, test = np.load(options.train)[name], np.load(options.test)


def batches(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[i : i + options.batch] for i in range(0, len(samples), options.batch)]


def top1(run):
    """One 0 or 1 per test image."""
    logits = np.concatenate([next(iter(run({name: part}).values())) for part in batches(test[name])])
    return logits.argmax(axis=1) == test["y"]


def accuracy(model: ts.Model) -> float:
    result = ts.compress(model, methods=[], evaluate={"top1": top1}, runs=0)
    return 100 * (result.record.steps[-1].metrics["top1"].value or 0.0)


def varied(x: torch.Tensor) -> torch.Tensor:
    """Each image moved and mirrored at random."""
    if options.shift:
        height, width = x.shape[-2:]
        padded = torch.nn.functional.pad(x, (options.shift,) * 4)
        corners = torch.randint(0, 2 * options.shift + 1, (len(x), 2)).tolist()
        moved = [image[:, i : i + height, j : j + width] for image, (i, j) in zip(padded, corners, strict=True)]
        x = torch.stack(moved)
    mirrored = torch.rand(len(x), 1, 1, 1) < (0.5 if options.flip else 0)
    return torch.where(mirrored, x.flip(-1), x) if options.flip else x


# What matters least for half of the FLOPs goes. Level "train" leaves parameters and normalisations what they are.
data = ts.data(batches(train[: options.calibrate]), inputs=lambda batch: {name: batch})
result = ts.apply(original, ts.Simplify(level="train"), ts.Prune(flops=options.flops, importance="obs"), data=data)
pruned = result.model
print(f"original {accuracy(original):.2f} %, pruned without training {accuracy(pruned):.2f} %")

# Both networks as PyTorch modules. The pruned one normalises by its batches while it learns.
teacher, student = ts.apply(original).to_torch().eval(), result.to_torch().train()
samples, steps = torch.from_numpy(train), len(train) // options.batch
optimizer = torch.optim.SGD(student.parameters(), lr=options.rate, momentum=0.9, nesterov=True, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.epochs * steps, pct_start=0.1)
torch.manual_seed(0)
started = time.process_time()

for epoch in range(options.epochs):
    total, order = 0.0, torch.randperm(len(samples))
    for step in range(steps):
        x = varied(samples[order[step * options.batch : (step + 1) * options.batch]])
        with torch.no_grad():
            wanted = torch.softmax(teacher(x) / options.temperature, dim=1)
        found = torch.log_softmax(student(x) / options.temperature, dim=1)
        loss = torch.nn.functional.kl_div(found, wanted, reduction="batchmean") * options.temperature**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() / steps
    print(f"epoch {epoch + 1:>2}  loss {total:.4f}  {time.process_time() - started:.0f} processor seconds", flush=True)

# Trained weights go back to where they came from, whatever the layout, and out as ONNX.
pruned.load_weights(student.state_dict())
print(f"after training {accuracy(pruned):.2f} %")
Path(options.output).parent.mkdir(parents=True, exist_ok=True)
ts.save(pruned, options.output)
print(f"wrote {options.output}")
