"""What residual blocks are worth: a table of scores by name; the lowest go first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Array, Model, Node
from ..matrices import input_axis, matrix
from ..walk import Walk, pairs
from .blocks import Block, cut
from .damage import PROBES, deviation, some
from .obs import TINY
from .statistics import Calibration

Units = Sequence[tuple[Block, ...]]


@dataclass(frozen=True)
class Row:
    """A row of the table: the score of each unit of blocks, and whether it asks for calibration data."""

    score: Callable[[Model, Units, Calibration | None], list[float]]
    needs_data: bool = True


def magnitude(model: Model, units: Units, data: Calibration | None) -> list[float]:
    """By how much a branch's layers amplify what they read, each on average (the geometric mean over the layers)."""
    return [sum(gain(block) for block in unit) for unit in units]


def gain(block: Block) -> float:
    """The geometric mean of |W| / sqrt(outputs), which is the size of W x for x of variance one."""
    gains = [amplifies(node) for node in block.nodes if input_axis(node) is not None]
    return float(np.exp(np.mean(np.log(np.maximum(gains, TINY))))) if gains else 1.0


def amplifies(node: Node) -> float:
    weight = matrix(node)
    return float(np.linalg.norm(weight) / np.sqrt(weight.shape[0] * weight.shape[1]))


def turned(stream: Array, branch: Array) -> Array:
    """1 - cos(x, x + f(x)) of each sample (block influence; Men et al., ShortGPT, 2024)."""
    after = stream + branch
    lengths = np.linalg.norm(stream, axis=1) * np.linalg.norm(after, axis=1)
    return 1 - (stream * after).sum(1) / np.maximum(lengths, TINY)


def relative(stream: Array, branch: Array) -> Array:
    """|f(x)| / |x| of each sample."""
    return np.linalg.norm(branch, axis=1) / np.maximum(np.linalg.norm(stream, axis=1), TINY)


def measured(score: Callable[[Array, Array], Array]) -> Row:
    """A row for the mean of score(x, f(x)) over the samples, [samples, elements] each; a layer has its blocks' sum."""

    def row(model: Model, units: Units, data: Calibration | None) -> list[float]:
        assert data is not None
        walk, found = data.walk(model), dict[Block, float]()
        for block in {block: None for unit in units for block in unit}:
            assert block.stream is not None
            seen = [
                score(rows(step[block.stream]), rows(step[block.branch]))
                for step in walk.step([block.stream, block.branch], block.add)
            ]
            found[block] = float(np.mean(np.concatenate(seen)))
        return [sum(found[block] for block in unit) for unit in units]

    return Row(row)


def rows(array: Array) -> Array:
    wide = array.astype(np.float64)
    return wide.reshape(len(wide) if wide.ndim > 1 else 1, -1)


def outputs(model: Model, units: Units, data: Calibration | None) -> list[float]:
    """The squared error of the network's outputs without the unit, as a share of their variance."""
    assert data is not None
    walk = Walk(model, lambda: some(data.samples, PROBES))
    expected = list(walk.outputs(model))
    made = [0.0] * len(units)
    for done, place in enumerate(sorted(range(len(units)), key=lambda p: walk.places[units[p][0].add])):
        data.progress("measuring what each block is worth", done, len(units))
        unit = units[place]
        for _ in walk.step([], unit[0].add):
            pass
        changed = model.clone()
        twins = pairs(model, changed)
        cut(twins[block.branch] for block in unit)
        made[place] = deviation(walk.outputs(changed), expected)
    return made


WORTH: dict[str, Row] = {
    "cosine": measured(turned),
    "outputs": Row(outputs),
    "norm": measured(relative),
    "magnitude": Row(magnitude, needs_data=False),
}
