"""Walking through a model once with all samples: each step computes what lies between two places of the graph.

What is alive at the place that was reached waits in a temporary file, sample after sample. So the statistics of a
layer cost the nodes since the last one, not everything in front of it, and memory does not grow with the samples.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends.runners import Feeds, OrtRunner
from ..ir import Array, Model, Node, Value, pairs
from .simplify.structure import erase_dead

STORED_BYTES = 4 << 30
"""A place where more than this is alive is not kept: the next step starts where this one did."""

Sampler = Callable[[], Iterator[Feeds]]
"""Starts one pass over the samples."""


class Store:
    """Arrays in a temporary file, read in the order in which they were written, as often as wanted."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the store)
        self.kinds: list[tuple[np.dtype[Any], tuple[int, ...]]] = []
        self.size = 0

    def write(self, array: Array) -> None:
        self.kinds.append((array.dtype, array.shape))
        self.size += array.nbytes
        self.file.write(array.tobytes())

    def read(self) -> Iterator[Array]:
        self.file.seek(0)
        for dtype, shape in self.kinds:
            held = self.file.read(math.prod(shape) * dtype.itemsize)
            yield np.frombuffer(held, dtype).reshape(shape)


class Segment:
    """A runner of what lies between the values `live`, which it is fed, and the values `wanted`."""

    def __init__(self, model: Model, wanted: Sequence[Value], live: Sequence[Value] = ()) -> None:
        copy = model.clone()
        graph, twins = copy.graph, pairs(model, copy)
        self.wanted = list(dict.fromkeys(wanted))
        self.names = [f"value_{i}" for i in range(len(self.wanted))]
        self.waiting = [f"waiting_{i}" for i in range(len(live))]
        for value, name in zip(live, self.waiting, strict=True):
            made = graph.add_input(name, value.type)
            twins[value].replace_by(made)
            twins[value] = made
        graph.set_outputs([twins[v] for v in self.wanted], self.names)
        erase_dead(graph)
        graph.entry.outputs = tuple(v for v in graph.inputs if v.users)
        for index, value in enumerate(graph.inputs):
            value.index = index
        graph.defaults = {v: t for v, t in graph.defaults.items() if v.users}
        self.inputs = {v.name for v in graph.inputs}
        self.all_inputs = {v.name for v in model.graph.inputs}
        self.runner = OrtRunner(copy) if self.wanted else None

    def run(self, feeds: Feeds, arrays: Sequence[Array] = ()) -> dict[Value, Array]:
        """The values for one sample and what is alive there. Raises UsageError where the sample does not fit."""
        if self.runner is None:
            return {}
        given = {**feeds, **dict(zip(self.waiting, arrays, strict=True))}
        spare = (self.all_inputs | set(self.waiting)) - self.inputs
        found = self.runner.run({name: array for name, array in given.items() if name not in spare})
        return {value: found[name] for value, name in zip(self.wanted, self.names, strict=True)}


class Walk:
    """A model on its way through its own graph. Nodes that it has passed may not change any more."""

    def __init__(self, model: Model, samples: Sampler) -> None:
        self.model, self.samples = model, samples
        self.places = {node: place for place, node in enumerate((*model.graph, model.graph.exit))}
        self.reached, self.live, self.store = 0, list[Value](), Store()

    def step(self, wanted: Sequence[Value], before: Node) -> Iterator[dict[Value, Array]]:
        """The values `wanted` of every sample, none of which depends on `before` or later nodes. Once all samples were
        seen, the next step starts there.
        """
        place = self.places[before]
        live = [*self.alive(place)] if place > self.reached else []
        advances = place > self.reached and all(map(is_stored, live))
        live = live if advances else []
        segment, made = Segment(self.model, [*wanted, *live], self.live), Store()
        for feeds, arrays in self.waiting():
            found = segment.run(feeds, arrays)
            if made.size <= STORED_BYTES:
                for value in live:
                    made.write(found[value])
            yield {value: found[value] for value in wanted}
        if advances and made.size <= STORED_BYTES:
            self.reached, self.live, self.store = place, live, made

    def outputs(self, changed: Model, twins: Mapping[Value, Value] | None = None) -> Iterator[list[Array]]:
        """The outputs of a copy of the model that differs only behind the place that was reached. `twins` says what the
        model's values are in a copy that has other nodes.
        """
        twins = twins if twins is not None else pairs(self.model, changed)
        wanted = list(changed.graph.outputs)
        segment = Segment(changed, wanted, [twins[v] for v in self.live])
        for feeds, arrays in self.waiting():
            found = segment.run(feeds, arrays)
            yield [found[v] for v in wanted]

    def alive(self, place: int) -> Iterator[Value]:
        """What nodes in front of a place make and others from there on read."""
        for node in self.model.graph:
            if self.places[node] < place:
                yield from (v for v in node.outputs if any(self.places.get(u, -1) >= place for u in v.users))

    def waiting(self) -> Iterator[tuple[Feeds, list[Array]]]:
        """The samples, each with what is alive at the place that was reached."""
        arrays = self.store.read()
        for feeds in self.samples():
            yield feeds, [next(arrays) for _ in self.live]


def is_stored(value: Value) -> bool:
    """Whether a value is a tensor whose bytes numpy can keep."""
    return value.dtype is not None and value.dtype.numpy.kind in "biuf"
