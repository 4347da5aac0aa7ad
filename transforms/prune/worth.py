"""What residual blocks are worth: a table of scores by name; the lowest go first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Array, Builder, Model, Node, Value, pairs
from ..matrices import input_axis, matrix
from ..walk import Walk
from .blocks import Block, cut
from .damage import PROBES, deviation, some
from .obs import TINY, damped
from .statistics import Calibration, Moments

Units = Sequence[tuple[Block, ...]]
RIDGE = 1e-3


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


Replace = Callable[[Sequence[Block], Walk, Mapping[Value, Value]], None]
"""Puts something else in the place of a unit in a copy of the model, given the walk through the model, which has not
passed the unit, and what the model's values are in the copy."""


def by_outputs(replace: Replace) -> Row:
    """A row for the squared error of the network's outputs with each unit replaced, as a share of their variance."""

    def row(model: Model, units: Units, data: Calibration | None) -> list[float]:
        assert data is not None
        walk = Walk(model, lambda: some(data.samples, PROBES))
        expected = list(walk.outputs(model))
        made = [0.0] * len(units)
        for done, place in enumerate(sorted(range(len(units)), key=lambda p: walk.places[units[p][0].add])):
            data.progress("measuring what each block is worth", done, len(units))
            changed = model.clone()
            twins = pairs(model, changed)
            replace(units[place], walk, twins)
            made[place] = deviation(walk.outputs(changed, twins), expected)
        return made

    return Row(row)


def by_nothing(unit: Sequence[Block], walk: Walk, twins: Mapping[Value, Value]) -> None:
    """Takes the unit out."""
    for _ in walk.step([], unit[0].add):
        pass
    cut(twins[block.branch] for block in unit)


def by_line(unit: Sequence[Block], walk: Walk, twins: Mapping[Value, Value]) -> None:
    """Each branch is the linear function of its stream that comes nearest: what later layers can take over is no
    loss.
    """
    for block in unit:
        assert block.stream is not None
        seen = walk.step([block.stream, block.branch], block.add)
        stand_in(block, twins, fitted(block, ((step[block.stream], step[block.branch]) for step in seen)))


@dataclass(frozen=True)
class Line:
    """y = W x + b along one axis: W is [channels, channels], b [channels]."""

    weight: Array
    bias: Array


def fitted(block: Block, seen: Iterable[tuple[Array, Array]]) -> Line:
    """A branch as a linear function of its stream, by ridge regression over samples and places."""
    axis, moments = channel_axis(block), None
    for stream, branch in seen:
        x, y = turn(stream, axis), turn(branch, axis)
        moments = moments or Moments.empty(1, x.shape[-1], y.shape[-1])
        moments.update(x[None], y[None])
    assert moments is not None, "there are samples"
    weight = np.linalg.solve(damped(moments.gram(True), RIDGE), moments.cross(True).swapaxes(1, 2))[0].swapaxes(0, 1)
    return Line(weight, (moments.y[0] - weight @ moments.x[0]) / moments.count)


def channel_axis(block: Block) -> int:
    """Where the channels of a block's stream are: behind the batch where there are convolutions, else last."""
    return 1 if any(node.op == "Conv" for node in block.nodes) else -1


def turn(array: Array, axis: int) -> Array:
    """Rows of channels."""
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def stand_in(block: Block, twins: Mapping[Value, Value], line: Line) -> None:
    """Puts the linear function in the place of a branch, in a copy of its model."""
    assert block.stream is not None
    stream, branch = twins[block.stream], twins[block.branch]
    add = twins[block.add.output].node
    assert add is not None
    assert add.graph is not None
    kind = block.stream.dtype
    assert kind is not None
    build, last = Builder(add.graph, add), channel_axis(block) == -1
    weight, bias = line.weight.astype(kind.numpy), line.bias.astype(kind.numpy)
    space = (block.stream.rank or 2) - 2
    made = (
        build.Add(build.MatMul(stream, weight.T), bias)
        if last
        else build.Conv(stream, weight.reshape(*weight.shape, *(1 for _ in range(space))), bias)
    )
    add.set_input(add.inputs.index(branch), made)


WORTH: dict[str, Row] = {
    "cosine": measured(turned),
    "outputs": by_outputs(by_nothing),
    "linear": by_outputs(by_line),
    "norm": measured(relative),
    "magnitude": Row(magnitude, needs_data=False),
}
