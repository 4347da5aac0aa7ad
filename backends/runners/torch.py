"""A PyTorch module, or a model as the PyTorch module that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ...ir import ANY, Array, TersorError
from .base import Feeds, Input, Runner, check_feeds

if TYPE_CHECKING:
    import torch


class TorchRunner(Runner):
    """Runs a module on feeds by name, without gradients and in the mode (training or evaluation) that it is in.

    `inputs` names the arguments of `forward` in order; without it every feed is a keyword argument. `outputs` names
    what comes back, nested lists and dictionaries flattened; without it a dictionary's keys do, else `output_0`,
    `output_1`, ... Raises TersorError where the module fails.
    """

    def __init__(self, module: torch.nn.Module, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
        self.inputs: list[Input] | None = [Input(n, ANY) for n in inputs] if inputs else None
        self.names = list(outputs)
        self.module = module

    def run(self, feeds: Feeds) -> dict[str, Array]:
        import torch

        if self.inputs is not None:
            feeds = check_feeds(self.inputs, feeds)
        tensors = {name: to_torch(array) for name, array in feeds.items()}
        try:
            with torch.no_grad():
                if self.inputs is None:
                    result = self.module(**tensors)
                else:
                    result = self.module(*[tensors[i.name] for i in self.inputs if i.name in tensors])
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise TersorError("PyTorch cannot run the module", why=why) from error
        return self._named(result)

    def run_taps(self, feeds: Feeds) -> list[Array]:
        return []

    def _named(self, result: Any) -> dict[str, Array]:
        found = dict(_leaves(result, ""))
        names = self.names or list(found)
        if len(names) != len(found):
            raise TersorError(
                "the module does not give the outputs that were named",
                why=f"{len(found)} tensors came back, {len(names)} names were given: {', '.join(names)}",
            )
        return {name: to_numpy(tensor) for name, tensor in zip(names, found.values(), strict=True)}


def _leaves(result: Any, prefix: str) -> list[tuple[str, Any]]:
    """The tensors in a result with the names that they get when nobody gave them any."""
    import torch

    if isinstance(result, torch.Tensor):
        return [(prefix or "output_0", result)]
    if isinstance(result, Mapping):
        parts = [(f"{prefix}.{k}" if prefix else str(k), v) for k, v in result.items()]
    elif isinstance(result, (list, tuple)):
        parts = [(f"{prefix or 'output'}_{i}", v) for i, v in enumerate(result)]
    else:
        parts = []
    return [leaf for name, part in parts for leaf in _leaves(part, name)]


def to_torch(array: Array) -> torch.Tensor:
    """An array as a tensor of its own memory."""
    import torch

    contiguous = np.ascontiguousarray(array).reshape(np.shape(array))
    if contiguous.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(contiguous.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(contiguous.copy())


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor as an array."""
    import torch

    plain = tensor.detach().cpu()
    if plain.dtype is torch.bfloat16:
        return plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return plain.numpy()
