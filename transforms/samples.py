"""How many samples feeds hold, the first so many of them, and the sizes of one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..backends.runners import Feeds, Samples
from ..ir import Dim, Graph, UsageError
from .cost import Sizes, bind_sizes


def limited(samples: Samples, limit: int) -> Iterator[Feeds]:
    """Feeds until `limit` samples were given (0: all of them)."""
    given = 0
    for feed in samples:
        yield feed
        given += _count(feed)
        if limit and given >= limit:
            return


def few(graph: Graph, samples: Samples, count: int) -> Iterator[Feeds]:
    """Feeds that hold `count` samples together, to measure something on: the last one is cut where it holds more and
    the batch is open.
    """
    cut = has_open_batch(graph)
    left = count
    for feed in samples:
        held = _count(feed)
        yield {name: array[:left] for name, array in feed.items()} if cut and held > left else feed
        left -= held
        if left <= 0:
            return


def has_open_batch(graph: Graph) -> bool:
    """True where all inputs and outputs have the same symbol as their first size: their samples do not depend on each
    other's number.
    """
    values = [*graph.inputs, *graph.outputs]
    firsts = {v.shape[0] if v.shape else None for v in values}
    return len(firsts) == 1 and all(isinstance(first, Dim) for first in firsts)


def too_few(samples: Samples, limit: int) -> str:
    """What to say of data that holds fewer samples than `limit`; '' where it holds as many."""
    found = sum(_count(feed) for feed in limited(samples, limit)) if limit else 0
    return f"samples={limit} was asked for, but the calibration data holds only {found}" if found < limit else ""


def _count(feed: Feeds) -> int:
    """How many samples a feed holds: the length of its first input's first axis."""
    first = next(iter(feed.values()), None)
    shape = np.shape(first) if first is not None else ()
    return int(shape[0]) if shape else 1


def alone_in_batch(graph: Graph, samples: Samples) -> Feeds:
    """The first sample, without the others of its batch where the batch size is open."""
    found = next(few(graph, samples, 1), None)
    if found is None:
        raise UsageError("calibration data is empty", why="it holds no sample", do="give at least one sample")
    return found


def single(graph: Graph, feed: Feeds) -> Feeds:
    """The first sample of a feed: the first entry of inputs whose first size is open, all of the others."""
    cut = {v.name for v in graph.inputs if v.shape and not isinstance(v.shape[0], int)}
    return {name: array[:1] if name in cut else array for name, array in feed.items()}


def one_sample(graph: Graph, samples: Samples) -> Sizes:
    """The sizes of the graph's symbols for the first sample alone, without the others of its batch."""
    for feed in samples:
        return bind_sizes(graph, {name: (1, *array.shape[1:]) for name, array in feed.items()})
    return bind_sizes(graph)
