"""Parameters that look like what training makes of them: their numbers of today are no reason to simplify.

A fresh module is full of zeros and ones: biases that add nothing, gains that change nothing, gates that are closed.
Rules that look at numbers would take them out, and nothing would be left to train.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

from ...ir import Dense, Model, Placeholder, Tensor
from ...ir.state import Rebuilt


@contextmanager
def any_numbers(model: Model) -> Generator[set[int]]:
    """Within it, the model's own float tensors that are filled with one number have others, and single numbers none.

    Gives the identities of all tensors of the model's state_dict as the graph holds them meanwhile.
    """
    stand_ins = {id(t): made for t in model.keys.values() if (made := stand_in(t)) is not None}
    originals = {id(made): t for t in model.keys.values() if (made := stand_ins.get(id(t))) is not None}
    exchange(model, stand_ins)
    try:
        yield {id(stand_ins.get(id(t), t)) for t in model.keys.values()}
    finally:
        exchange(model, originals)


def stand_in(tensor: Tensor) -> Tensor | None:
    """A tensor of the same type that no rule takes for anything special; None where the tensor itself is none."""
    if not isinstance(tensor, Dense) or not tensor.dtype.is_float or tensor.filler is None:
        return None
    if tensor.count == 1:
        return Placeholder(tensor.dtype, tensor.shape)
    return Dense(np.linspace(0.25, 0.75, tensor.count).reshape(tensor.shape).astype(tensor.dtype.numpy), tensor.dtype)


def exchange(model: Model, new: dict[int, Tensor]) -> None:
    """Puts tensors in place of others, by identity, also inside expressions."""
    if not new:
        return
    rebuilt = Rebuilt(new)
    for value in model.graph.constants():
        value.const = rebuilt(value.tensor)
