"""Second moments of what layers read, streamed over calibration samples: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import length_hint

import numpy as np

from ...backends.runners import Feeds, Samples
from ...ir import Array, Model, Node, UsageError, Value
from .. import matrices
from ..base import Progress
from ..portions import portions
from ..walk import Segment, Walk
from .atoms import Ids

PLACES = 128
"""Rows of one sample that take part, chosen at random: neighbouring positions of an image say much the same."""
ENOUGH = 1024
"""Rows that are multiplied together."""
ROUNDED = 4 * float(np.finfo(np.float32).eps)
"""Of the mean square of what is read: what rounding makes of it, by element of the square root of a row's length."""


@dataclass
class Moments:
    """Sums over rows of x (what a layer reads) and y (what it should give), by group.

    `xx` is [groups, columns, columns], `yx` [groups, outputs, columns], `x` and `y` are sums; `count` counts rows.
    """

    xx: Array
    yx: Array
    x: Array
    y: Array
    yy: Array
    count: int = 0

    @classmethod
    def empty(cls, groups: int, columns: int, outputs: int) -> Moments:
        shapes = ((groups, columns, columns), (groups, outputs, columns), (groups, columns), (groups, outputs))
        return cls(*(np.zeros(s) for s in shapes), yy=np.zeros((groups, outputs)))

    def update(self, x: Array, y: Array) -> None:
        """Adds rows: x is [groups, rows, columns], y [groups, rows, outputs]."""
        turned = x.swapaxes(1, 2)
        self.xx += turned @ x
        self.yx += y.swapaxes(1, 2) @ x
        self.x += x.sum(1, dtype=np.float64)
        self.y += y.sum(1, dtype=np.float64)
        self.yy += np.square(y, dtype=np.float64).sum(1)
        self.count += x.shape[1]

    def gram(self, centred: bool) -> Array:
        """Mean of x x^T, about the mean where `centred`: then never less than what rounding leaves of large numbers
        that hardly vary, such as those behind a Sigmoid, so that it has an inverse once it is damped.
        """
        gram = self.xx / self.count
        if not centred:
            return gram
        mean, size = self.x / self.count, gram.shape[-1]
        noise = ROUNDED * size**0.5 * np.trace(gram, axis1=1, axis2=2) / size
        return gram - mean[:, :, None] * mean[:, None, :] + noise[:, None, None] * np.eye(size)

    def cross(self, centred: bool) -> Array:
        """Mean of y x^T, about the means where `centred`."""
        mean = self.y[:, :, None] * self.x[:, None, :] / self.count**2
        return self.yx / self.count - (mean if centred else 0)

    def variance(self) -> Array:
        """Of each output, [groups, outputs]."""
        return np.maximum(self.yy / self.count - np.square(self.y / self.count), 0)


@dataclass(frozen=True)
class Watch:
    """A layer whose moments are wanted: x is read by `node`, y is `target` of the reference model, of which these
    indices are `left` along the axes that lose some: of its channels, and of what counts as rows to it, such as
    channels to a layer that mixes positions.
    """

    node: Node
    target: Value
    left: Mapping[int, Ids] = field(default_factory=dict[int, Ids])


@dataclass
class Calibration:
    """The samples of a pass and how they are used."""

    samples: Samples
    progress: Progress
    seed: int = 0

    def moments(self, model: Model, watched: Sequence[Watch]) -> list[Moments]:
        """What layers of one model read and give: one pass over the samples for every portion of `watched`."""
        return [each for portion in portions(watched, moment_bytes) for each in self.portion(model, portion)]

    def portion(self, model: Model, watched: Sequence[Watch]) -> list[Moments]:
        segment = Segment(model, [v for w in watched for v in (w.node.operand(0), w.target)])
        random = np.random.default_rng(self.seed)
        made = [Gathering(watch, random) for watch in watched]
        for feeds in self.feeds():
            found = segment.run(feeds)
            for each in made:
                each.add(found[each.watch.node.operand(0)], found[each.watch.target])
        return [each.moments() for each in made]

    def between(self, pruned: Walk, reference: Walk, watch: Watch) -> Moments:
        """What a layer reads in the pruned model, and what it should give by the reference."""
        made, x = Gathering(watch, np.random.default_rng(self.seed)), watch.node.operand(0)
        for found, wanted in zip(
            pruned.step([x], watch.node), reference.step([watch.target], behind(watch.target)), strict=True
        ):
            made.add(found[x], wanted[watch.target])
        return made.moments()

    def channels(self, walk: Walk, value: Value) -> tuple[Array, Array]:
        """The mean and variance of each channel (axis 1) of a value."""
        first, second, count = np.zeros(()), np.zeros(()), 0
        for found in walk.step([value], behind(value)):
            array = found[value]
            axes, wide = (0, *range(2, array.ndim)), array.astype(np.float64)
            first, second = first + wide.sum(axes), second + np.square(wide).sum(axes)
            count += array.size // array.shape[1]
        mean = first / count
        return mean, np.maximum(second / count - np.square(mean), 0)

    def walk(self, model: Model) -> Walk:
        return Walk(model, self.feeds)

    def feeds(self) -> Iterator[Feeds]:
        """One pass over the samples. Raises UsageError where there are none."""
        total = length_hint(self.samples) or None
        seen = 0
        for seen, feeds in enumerate(self.samples, 1):
            yield feeds
            self.progress("measuring what layers read", seen, total)
        if not seen:
            raise UsageError("calibration data is empty", why="it holds no sample", do="give at least one sample")


class Gathering:
    """The moments of a layer while they are measured. Rows wait until there are enough for a product of matrices: one
    sample alone often has few.
    """

    def __init__(self, watch: Watch, random: np.random.Generator) -> None:
        groups, outputs, columns = matrices.matrix(watch.node).shape
        self.watch, self.random, self.found = watch, random, Moments.empty(groups, columns, outputs)
        self.waiting: list[tuple[Array, Array]] = []

    def add(self, x: Array, y: Array) -> None:
        """What the layer reads, and what it should give."""
        node = self.watch.node
        for axis, left in self.watch.left.items():
            y = y.take(left, axis)
        rows, samples = matrices.row_count(node, y), max(1, x.shape[0])
        places = self.random.permutation(rows)[: PLACES * samples] if rows > PLACES * samples else None
        self.waiting.append((matrices.columns(node, x, places), matrices.results(node, y, places)))
        if sum(part.shape[1] for part, _ in self.waiting) >= ENOUGH:
            self.settle()

    def settle(self) -> None:
        if self.waiting:
            self.found.update(*(np.concatenate(parts, axis=1) for parts in zip(*self.waiting, strict=True)))
            self.waiting.clear()

    def moments(self) -> Moments:
        self.settle()
        return self.found


def moment_bytes(watch: Watch) -> int:
    """What the moments of a layer take."""
    groups, outputs, columns = matrices.matrix(watch.node).shape
    return 8 * groups * columns * (columns + outputs)


def behind(value: Value) -> Node:
    """The node after the one that makes a value, or the first of the graph for an input."""
    assert value.node is not None
    assert value.node.next is not None
    return value.node.next
