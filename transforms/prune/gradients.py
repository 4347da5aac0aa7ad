"""How strongly the outputs depend on each weight, by PyTorch's gradients: the one part of pruning that needs torch.

Calibration data has no labels, so the loss is what the outputs themselves say: the sum of y over every output with a
random sign for each number. The mean square of its gradient is the diagonal of J^T J, which is that of the Fisher
information of a model with Gaussian outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from ...ir import Array, Model, UsageError, Value
from .statistics import Calibration

if TYPE_CHECKING:
    import torch


def curvature(model: Model, data: Calibration) -> dict[Value, Array]:
    """The mean square of the gradient of each float constant, in its shape; constants without one are missing.

    The gradients come back to the constants as trained weights would. Raises UsageError without PyTorch, and for a
    model that cannot be emitted as PyTorch.
    """
    try:
        import torch
    except ImportError:
        raise UsageError(
            "this importance needs PyTorch",
            why="it is made of gradients",
            do="install tersor[torch], or choose another",
        ) from None
    from ...backends.torch import to_module

    copy = model.clone()
    module = to_module(copy)
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad and p.is_floating_point()}
    squares = {name: torch.zeros_like(p) for name, p in weights.items()}
    count, generator = 0, torch.Generator().manual_seed(data.seed)
    for feeds in data.feeds():
        given = module(*[torch.as_tensor(np.array(feeds[v.name])) for v in model.graph.inputs if v.name in feeds])
        losses = [signed(y, generator) for y in leaves(given) if y.requires_grad]
        if losses:
            made = torch.autograd.grad(losses, list(weights.values()), allow_unused=True, materialize_grads=True)
            for name, gradient in zip(weights, made, strict=True):
                squares[name] += gradient.square()
        count += 1
    scores = {
        name: squares[name] / max(1, count) if name in squares else torch.zeros_like(t)
        for name, t in module.state_dict().items()
    }
    copy.load_weights(scores)
    found: dict[Value, Array] = {}
    for node, twin in zip(model.graph, copy.graph, strict=True):
        for old, new in zip(node.inputs, twin.inputs, strict=True):
            if old is not None and new is not None and old.is_const and old.is_float:
                found[old] = new.tensor.numpy().astype(np.float64)
    return found


def leaves(found: object) -> list[torch.Tensor]:
    """The tensors of a module's result."""
    import torch

    if isinstance(found, torch.Tensor):
        return [found]
    parts = cast("Sequence[object]", found) if isinstance(found, list | tuple) else ()
    return [leaf for each in parts for leaf in leaves(each)]


def signed(y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch

    signs = torch.randint(0, 2, y.shape, generator=generator, dtype=torch.int8)
    return (y * (2 * signs - 1).to(y.dtype)).sum()
