"""From a PyTorch module to a smaller PyTorch module, as source that can be read, changed and trained.

Run it from the repository root: `python examples/from_pytorch.py`
"""

from pathlib import Path

import tersor as ts
import torch
from torch import nn


class Classifier(nn.Module):
    """Two convolutions with BatchNorm, and a linear head. Any module that `torch.export` takes will do."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


torch.manual_seed(0)
module = Classifier().eval()

# A module and example arguments. Sizes are fixed in the result, but for those that `dynamic_shapes` names.
batch = {"x": {0: torch.export.Dim("N")}}
model = ts.load((module, (torch.rand(2, 3, 32, 32),), None, batch))
print("input", *model.graph.inputs)
conv = next(node for node in model.graph if node.op == "Conv")
print(f"{conv.op} comes from {conv.loc}")

# "train" keeps BatchNorm and every parameter apart and named as in the module; "deploy" would fold them.
result = ts.apply(model, "simplify(level='train')", ts.Prune(ratio=0.5))
print(f"\n{result}")

# A module at once, or source files: model.py, model.safetensors and a test that compares the two.
smaller = result.to_torch()
print("parameters:", {name: tuple(p.shape) for name, p in smaller.named_parameters()})

Path("out").mkdir(exist_ok=True)
emitted = result.emit_pytorch("out/classifier")
print("\nwrote", *(file.name for file in emitted.files), "into out/classifier")
