"""Prune by half, train what is left for a few minutes against the original's outputs, and bring the weights back.

Run it from the repository root: `python examples/finetune_pruned.py`, or with a classifier of your own:

    python examples/finetune_pruned.py --model resnet20.onnx --train train.npz --test test.npz --flops 0.5 --epochs 20

Both files hold the model's input under its name as it reads it (normalised), `test.npz` also labels as `y`. Training
needs no labels: the pruned network learns to give what the original gives (distillation; Hinton et al., 2015).
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
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of Adam (default: 0.0001)")
parser.add_argument("--temperature", type=float, default=2.0)
parser.add_argument("--flip", action="store_true", help="also show mirrored images")
parser.add_argument("--output", default="out/finetuned.onnx")
options = parser.parse_known_args()[0]

original = ts.load(options.model)
name = original.graph.inputs[0].name
train, test = np.load(options.train)[name], np.load(options.test)
batches = [train[i : i + options.batch] for i in range(0, len(train), options.batch)]


def top1(run):
    """One 0 or 1 per test image."""
    parts = [test[name][i : i + options.batch] for i in range(0, len(test["y"]), options.batch)]
    logits = np.concatenate([next(iter(run({name: part}).values())) for part in parts])
    return logits.argmax(axis=1) == test["y"]


def accuracy(model: ts.Model) -> float:
    result = ts.compress(model, methods=[], evaluate={"top1": top1}, runs=0)
    return 100 * (result.record.steps[-1].metrics["top1"].value or 0.0)


# Normalisations are folded into the layers before them; then what matters least for half of the FLOPs goes.
data = ts.data(batches, inputs=lambda batch: {name: batch})
result = ts.apply(original, "simplify", ts.Prune(flops=options.flops, importance="obs"), data=data)
pruned = result.model
print(f"original {accuracy(original):.2f} %, pruned without training {accuracy(pruned):.2f} %")

# Both networks as PyTorch modules.
teacher, student = ts.apply(original).to_torch(), result.to_torch()
optimizer = torch.optim.Adam(student.parameters(), lr=options.rate)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(batches))
started, shuffle = time.perf_counter(), torch.Generator().manual_seed(0)
torch.manual_seed(0)

for epoch in range(options.epochs):
    total = 0.0
    for place in torch.randperm(len(batches), generator=shuffle).tolist():
        x = torch.from_numpy(batches[place])
        x = x.flip(-1) if options.flip and torch.rand(()) < 0.5 else x
        with torch.no_grad():
            wanted = torch.softmax(teacher(x) / options.temperature, dim=1)
        found = torch.log_softmax(student(x) / options.temperature, dim=1)
        loss = torch.nn.functional.kl_div(found, wanted, reduction="batchmean") * options.temperature**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() / len(batches)
    print(f"epoch {epoch + 1:>2}  loss {total:.4f}  {time.perf_counter() - started:.0f} s")

# Trained weights go back to where they came from, whatever the layout, and out as ONNX.
pruned.load_weights(student.state_dict())
print(f"after training {accuracy(pruned):.2f} %")
Path(options.output).parent.mkdir(parents=True, exist_ok=True)
ts.save(pruned, options.output)
print(f"wrote {options.output}")
