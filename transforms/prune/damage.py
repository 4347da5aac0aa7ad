"""What removing channels costs the network: the error of what reads them, and how much of it reaches the outputs.

For each pool of interchangeable groups the error behind it is known for every number that may go, from the Gram matrix
alone: with H^-1 = L L^T in the order of removal, what removing the first k adds to the squared error of Y = W X after
the best correction is the sum of the first k columns of (L^-1 W^T)^2. One or two runs of the network with the pool
masked and its readers corrected then tell what that error means at the outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...backends.runners import Feeds, Samples
from ...ir import Array, Model, Node
from ..base import Progress
from ..matrices import set_matrix
from ..walk import Walk
from .atoms import Ids
from .axes import AxisMap
from .compensate import correct_bias
from .importance import Scores
from .kept import Kept
from .obs import TINY, Reading
from .readers import Reader
from .statistics import Moments
from .surgery import masked

LEVELS = (0.3, 0.6)
"""Shares of a pool at which the network is run without them."""
PROBES = 256
"""About as many samples take part in these runs, half of them at each level."""

Curve = NDArray[np.float64]
"""The damage when the first k classes of a pool are gone, for k = 0, 1, ...; it never falls."""


def by_scores(order: Ids, scores: Scores) -> Curve:
    """Without data: the share of the pool's score that goes."""
    parts = np.maximum(scores[order], 0)
    return np.r_[0.0, np.cumsum(parts) / max(float(parts.sum()), TINY)]


def errors(order: Ids, layers: Sequence[Reading]) -> Curve:
    """The error that the pool's readers are left with after correction, as shares of their outputs' variances."""
    found = np.zeros(len(order) + 1)
    for layer in layers:
        there = [k for k, each in enumerate(order.tolist()) if each in layer.columns]
        if not there:
            continue
        columns = [layer.columns[int(order[k])] for k in there]
        j = np.concatenate(columns)
        lower = np.linalg.cholesky(layer.inverse[:, j[:, None], j[None, :]])
        part = np.linalg.solve(lower, layer.weight[:, :, j].swapaxes(1, 2))
        each = np.square(part).sum((0, 2)) / layer.energy
        np.add.at(found, np.repeat(np.array(there) + 1, [c.size for c in columns]), each)
    return np.cumsum(found)


@dataclass
class Probe:
    """Runs the dense network with one pool masked and its readers corrected, on some of the samples."""

    model: Model
    axes: AxisMap
    moments: Mapping[Reader, Moments]
    layers: Mapping[Reader, Reading]
    samples: Samples
    progress: Progress

    def curves(self, orders: Sequence[Ids], scores: Scores) -> list[Curve]:
        """The damage curve of each pool, given its classes in the order of removal."""
        walk = Walk(self.model, lambda: some(self.samples, PROBES // len(LEVELS)))
        expected = list(walk.outputs(self.model))
        first = [self.first(order) for order in orders]
        made: dict[int, Curve] = {}
        for done, place in enumerate(sorted(range(len(orders)), key=lambda p: walk.places[first[p]])):
            self.progress("measuring what each group of layers is worth", done, len(orders))
            order = orders[place]
            for _ in walk.step([], first[place]):
                pass
            shape = errors(order, list(self.layers.values()))
            shape = shape if shape[-1] > 0 else by_scores(order, scores)
            counts = sorted({max(1, min(len(order) - 1, round(level * len(order)))) for level in LEVELS})
            seen = [self.deviation(walk, order[:count], expected) for count in counts]
            made[place] = fitted(shape, counts, seen)
        return [made[place] for place in range(len(orders))]

    def first(self, order: Ids) -> Node:
        """The first node that removing a pool changes."""
        kept = Kept(self.axes, order)
        return next(
            (n for n in self.model.graph if any(v is not None and v.is_const and kept.changed(v) for v in n.inputs)),
            self.model.graph.exit,
        )

    def deviation(self, walk: Walk, dead: Ids, expected: Sequence[Sequence[Array]]) -> float:
        """The squared error of the outputs, as shares of their variances, when the classes `dead` are gone."""
        kept = Kept(self.axes, dead)
        changed = masked(self.model, kept)
        twins = dict(zip(self.model.graph, changed.graph, strict=True))
        for reader, layer in self.layers.items():
            gone = [layer.columns[each] for each in dead.tolist() if each in layer.columns]
            if gone:
                node, corrected = twins[reader.node], layer.without(np.concatenate(gone))
                rows = kept.indices(reader.weight, 0 if reader.slot.axis else 1)
                if rows is not None:
                    flat = corrected.reshape(-1, corrected.shape[-1])
                    flat[np.setdiff1d(np.arange(len(flat)), rows)] = 0
                set_matrix(node, corrected)
                correct_bias(node, self.moments[reader])
        return deviation(walk.outputs(changed), expected)


def some(samples: Samples, count: int) -> Iterator[Feeds]:
    """The first samples, about `count` rows of them."""
    seen = 0
    for feeds in samples:
        yield feeds
        seen += max((len(a) for a in feeds.values() if np.ndim(a)), default=1)
        if seen >= count:
            return


def deviation(found: Iterable[Sequence[Array]], expected: Sequence[Sequence[Array]]) -> float:
    """The squared error of a network's outputs over samples, as shares of their variances."""
    error, energy = 0.0, 0.0
    for mine, wanted in zip(found, expected, strict=True):
        for a, b in zip(mine, wanted, strict=True):
            if b.dtype.kind == "f":
                error += float(np.square(a - b, dtype=np.float64).sum())
                energy += float(np.square(b - b.mean(0, keepdims=len(b) > 1), dtype=np.float64).sum())
    return error / max(energy, TINY)


def fitted(shape: Curve, counts: Sequence[int], seen: Sequence[float]) -> Curve:
    """The curve through what was measured: a power of the error of the readers, near one where they agree."""
    at = np.maximum(shape[list(counts)], TINY)
    power = 1.0
    if len(counts) > 1 and at[-1] > at[0] and min(seen) > 0:
        power = float(np.clip(np.log(seen[-1] / seen[0]) / np.log(at[-1] / at[0]), 0.5, 3))
    return seen[-1] * (shape / at[-1]) ** power
