"""Second moments of what layers read, streamed over calibration samples: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

import numpy as np

from ...backends.runners import Feeds, OrtRunner, Samples
from ...ir import Array, Model, Node, UsageError, Value
from ..base import Progress
from ..simplify.structure import erase_dead
from . import readers
from .atoms import Ids
from .portions import portions

PLACES = 128
"""Rows of one sample that take part, chosen at random: neighbouring positions of an image say much the same."""


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
        """Mean of x x^T, about the mean where `centred`."""
        mean = self.x / self.count
        return self.xx / self.count - (mean[:, :, None] * mean[:, None, :] if centred else 0)

    def cross(self, centred: bool) -> Array:
        """Mean of y x^T, about the means where `centred`."""
        mean = self.y[:, :, None] * self.x[:, None, :] / self.count**2
        return self.yx / self.count - (mean if centred else 0)

    def variance(self) -> Array:
        """Of each output, [groups, outputs]."""
        return np.maximum(self.yy / self.count - np.square(self.y / self.count), 0)


@dataclass(frozen=True)
class Watch:
    """A layer whose moments are wanted: x is read by `node`, y is `target` of the reference model, of which
    the channels `left` are still made (None: all).
    """

    node: Node
    target: Value
    left: Ids | None = None


@dataclass
class Calibration:
    """The samples of a pass and how they are used."""

    samples: Samples
    progress: Progress
    seed: int = 0

    def moments(self, model: Model, reference: Model, watched: Sequence[Watch]) -> list[Moments]:
        """One pass over the samples for every portion of `watched`; raises UsageError where there are no samples."""
        made: list[Moments] = []
        for portion in portions(watched, moment_bytes):
            made += self.portion(model, reference, portion)
        return made

    def portion(self, model: Model, reference: Model, watched: Sequence[Watch]) -> list[Moments]:
        same = model is reference
        inputs, targets = [w.node.operand(0) for w in watched], [w.target for w in watched]
        candidate = Prefix(model, [*inputs, *targets] if same else inputs)
        expected = None if same else Prefix(reference, targets)
        made = [empty(w.node) for w in watched]
        random = np.random.default_rng(self.seed)
        for feeds in self.feeds():
            found = candidate.run(feeds)
            wanted = expected.run(feeds) if expected is not None else found
            for watch, moments in zip(watched, made, strict=True):
                accumulate(watch, moments, found[watch.node.operand(0)], wanted[watch.target], random)
        return made

    def channels(self, model: Model, values: Sequence[Value]) -> list[tuple[Array, Array]]:
        """The mean and variance of each channel (axis 1) of some values."""
        runner = Prefix(model, values)
        sums: dict[Value, list[Array]] = {v: [np.zeros(())] * 3 for v in values}
        for feeds in self.feeds():
            for value, array in runner.run(feeds).items():
                axes, wide = (0, *range(2, array.ndim)), array.astype(np.float64)
                parts = (wide.sum(axes), np.square(wide).sum(axes), np.array(array.size // array.shape[1]))
                sums[value] = [old + new for old, new in zip(sums[value], parts, strict=True)]
        means = [(first / count, second / count) for first, second, count in (sums[v] for v in values)]
        return [(mean, np.maximum(square - np.square(mean), 0)) for mean, square in means]

    def feeds(self) -> Iterator[Feeds]:
        """One pass over the samples. Raises UsageError where there are none."""
        total = len(self.samples) if isinstance(self.samples, Sized) else None
        seen = 0
        for seen, feeds in enumerate(self.samples, 1):
            yield feeds
            self.progress("measuring what layers read", seen, total)
        if not seen:
            raise UsageError("calibration data is empty", why="it holds no sample", do="give at least one sample")


def accumulate(watch: Watch, moments: Moments, x: Array, y: Array, random: np.random.Generator) -> None:
    rows, samples = readers.row_count(watch.node, y), max(1, x.shape[0])
    places = random.permutation(rows)[: PLACES * samples] if rows > PLACES * samples else None
    made = readers.results(watch.node, y, places, watch.left)
    moments.update(readers.columns(watch.node, x, places), made)


def empty(node: Node) -> Moments:
    groups, outputs, columns = readers.matrix(node).shape
    return Moments.empty(groups, columns, outputs)


def moment_bytes(watch: Watch) -> int:
    """What the moments of a layer take."""
    groups, outputs, columns = readers.matrix(watch.node).shape
    return 8 * groups * columns * (columns + outputs)


class Prefix:
    """A runner of a model that computes some values and nothing that they do not need."""

    def __init__(self, model: Model, wanted: Sequence[Value]) -> None:
        copy = model.clone()
        twins = dict[Value, Value]()
        for old, new in zip((model.graph.entry, *model.graph), (copy.graph.entry, *copy.graph), strict=True):
            twins.update(zip(old.outputs, new.outputs, strict=True))
        self.wanted = list(dict.fromkeys(wanted))
        self.names = [f"tap_{i}" for i in range(len(self.wanted))]
        copy.graph.set_outputs([twins[v] for v in self.wanted], self.names)
        erase_dead(copy.graph)
        self.runner = OrtRunner(copy)

    def run(self, feeds: Feeds) -> dict[Value, Array]:
        found = self.runner.run(feeds)
        return {value: found[name] for value, name in zip(self.wanted, self.names, strict=True)}
