"""Ranges of values over calibration samples, observed through taps on one runner; nothing is kept per sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized

import numpy as np

from ...backends.runners import Feeds, OrtRunner, Samples
from ...ir import Array, Model, UsageError, Value
from ..base import Progress, silent
from ..select import label
from .observers import NotFinite, Observer, Range


def calibrate(
    model: Model,
    values: Sequence[Value],
    samples: Samples,
    observer: Callable[[], Observer],
    *,
    progress: Progress = silent,
    limit: int = 0,
) -> dict[Value, Range]:
    """The range of each of `values` over `samples`, or over the first `limit` of them where that is not 0.

    A feed may hold any number of samples; its first axis is counted. Raises UsageError where there are no samples or
    they do not fit the model's inputs, and NotFinite, which names the layer, where a value is NaN or infinite.
    """
    runner = OrtRunner(model, taps=values)
    observers = [observer() for _ in values]
    total = len(samples) if isinstance(samples, Sized) and not limit else None
    seen = 0
    for feed in limited(samples, limit):
        for value, watch, array in zip(values, observers, runner.run_taps(feed), strict=True):
            _observe(watch, array, value)
        seen += 1
        progress("calibrating", seen, total)
    if not seen:
        raise UsageError("calibration data is empty", why="it holds no sample", do="give at least one sample")
    return {v: o.range() for v, o in zip(values, observers, strict=True)}


def require(samples: Samples | None) -> Samples:
    """The samples. Raises UsageError where there are none: calibration never makes up its data."""
    if samples is None:
        raise UsageError(
            "static int8 needs calibration data",
            why="the ranges of activations are measured on real inputs",
            do='give some with data=... (--data on the command line), or use mode="dynamic"',
        )
    return samples


def limited(samples: Samples, limit: int) -> Iterator[Feeds]:
    """Feeds until `limit` samples were given (0: all of them)."""
    given = 0
    for feed in samples:
        yield feed
        given += _count(feed)
        if limit and given >= limit:
            return


def _count(feed: Feeds) -> int:
    """How many samples a feed holds: the length of its first input's first axis."""
    first = next(iter(feed.values()), None)
    shape = np.shape(first) if first is not None else ()
    return int(shape[0]) if shape else 1


def _observe(observer: Observer, array: Array, value: Value) -> None:
    try:
        observer.update(array)
    except NotFinite as error:
        maker = value.node
        error.where = f"{label(maker)}: {maker.where}" if maker and not value.is_input else f"input {value.name!r}"
        raise
