"""Shortcuts without weights as convolutions: the form that runtimes add without leaving their own layout.

Where a network halves its resolution, a shortcut may take every second position and pad channels with zeros (option A
of He et al., 2016). Runtimes that compute channels in vectors have no such operators in that layout: they reorder, add
and reorder again there, and do so for all sums that follow. A convolution of 1 x 1 with zeros and ones gives the same
numbers, and is added inside of the convolution in front of the sum. (An infinity would become NaN.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...backends.benchmark import latency
from ...backends.compare import compare
from ...backends.runners import Feeds, OrtRunner
from ...ir import Array, Builder, Graph, Model, Node, Value
from ...ir.inference import Inference
from ..simplify.structure import erase_dead

RUNS = 100
GAIN = 0.98
"""The share of the latency that has to be left, at most."""
TOLERANCE = 1e-5
"""How far outputs may differ, max|a-b| / max|reference|: sums are taken in another order."""


@dataclass(frozen=True)
class Shortcut:
    """Every `steps`-th position of `source` along its axes of space, between channels of zeros, is `result`."""

    source: Value
    result: Node
    steps: tuple[int, ...]
    before: int
    behind: int


def projected(model: Model, feeds: Feeds) -> Model | None:
    """A copy with convolutions for such shortcuts, if there are any and that is faster; else None."""
    copy = model.clone()
    if not project(copy.graph):
        return None
    runners = [OrtRunner(model), OrtRunner(copy)]
    wanted, found = (runner.run(feeds) for runner in runners)
    same = all(compare(wanted[name], found[name]).max_error <= TOLERANCE for name in wanted)
    return copy if same and latency(runners, feeds, RUNS, seconds=2.0)[1].ratio < GAIN else None


def project(graph: Graph) -> int:
    """Replaces shortcuts in place; says how many there were."""
    found = [made for node in graph if (made := shortcut(node)) is not None]
    inference = Inference(graph)
    for each in found:
        made = Builder(graph, each.result, loc=each.result.loc).Conv(each.source, selector(each), strides=each.steps)
        each.result.output.replace_by(made)
        assert made.node is not None
        inference.node(made.node)
    erase_dead(graph)
    return len(found)


def shortcut(node: Node) -> Shortcut | None:
    """What a Pad of channels behind Slices does, in that form."""
    shape, source = node.output.shape, node.input(0)
    if node.op != "Pad" or node.domain or node.str("mode") != "constant" or shape is None or source is None:
        return None
    rank, fill = len(shape), node.input(2)
    pads, axes = numbers(node.input(1)), numbers(node.input(3)) if node.input(3) is not None else np.arange(rank)
    if pads is None or axes is None or rank < 3 or (fill is not None and numbers(fill) != 0) or not source.is_float:
        return None
    added = {int(a) % rank: (int(b), int(c)) for a, b, c in zip(axes, *np.split(pads, 2), strict=True) if b or c}
    steps = dict.fromkeys(range(2, rank), 1)
    while source.node is not None and source.node.op == "Slice" and len(source.users) == 1:
        taken = every_nth(source.node, rank)
        if taken is None:
            break
        for axis, step in taken.items():
            steps[axis] *= step
        source = source.node.operand(0)
    before, behind = added.get(1, (-1, -1))
    if set(added) != {1} or min(before, behind) < 0 or max(steps.values()) == 1:
        return None
    channels = source.shape[1] if source.shape else None
    return Shortcut(source, node, tuple(steps.values()), before, behind) if isinstance(channels, int) else None


def every_nth(node: Node, rank: int) -> dict[int, int] | None:
    """The step along each axis of space of a Slice from end to end; None for another one."""
    x = node.operand(0)
    starts, ends, axes, steps = (numbers(node.input(i)) if len(node.inputs) > i else None for i in range(1, 5))
    if starts is None or ends is None or axes is None or steps is None or x.shape is None:
        return None
    found: dict[int, int] = {}
    for start, end, axis, step in zip(starts, ends, axes % rank, steps, strict=True):
        size = x.shape[axis]
        reaches = end >= size if isinstance(size, int) else end >= np.iinfo(np.int32).max
        if start or not reaches or axis < 2 or step < 1:
            return None
        found[int(axis)] = int(step)
    return found


def selector(each: Shortcut) -> Array:
    """The weight of 1 x 1 that puts each channel in its place."""
    assert each.source.shape is not None
    assert each.source.dtype is not None
    channels = each.source.shape[1]
    assert isinstance(channels, int)
    eye = np.eye(channels + each.before + each.behind, channels, -each.before)
    return eye.reshape(*eye.shape, *(1 for _ in each.steps)).astype(each.source.dtype.numpy)


def numbers(value: Value | None) -> Array | None:
    """What is in a constant."""
    return value.tensor.numpy() if value is not None and value.is_const else None
