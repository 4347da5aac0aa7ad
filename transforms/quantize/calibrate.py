"""Ranges of values over calibration samples, observed through taps on one runner; nothing is kept per sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from operator import length_hint
from typing import TypeVar

from ...backends.runners import Feeds, OrtRunner, Samples
from ...ir import Array, Model, UsageError, Value
from ..base import Progress, silent
from ..samples import limited
from ..select import label
from .observers import NotFinite, Observer, Range, Statistic

IN_FLIGHT = 8
"""Feeds that an executor works on or waits for at a time: this bounds memory."""
FEW_FEEDS = 16
"""Runs up to which a session costs more to pack its weights than it saves by having packed them."""

Kind = TypeVar("Kind", bound=Statistic)
Parts = TypeVar("Parts")


def calibrate(
    model: Model,
    values: Sequence[Value],
    samples: Samples,
    observer: Callable[[], Observer],
    *,
    progress: Progress = silent,
    limit: int = 0,
    executor: Executor | None = None,
) -> dict[Value, Range]:
    """The range of each of `values`; the rest is as for `observe`."""
    wanted = [(v, observer) for v in values]
    found = observe(model, wanted, samples, progress=progress, limit=limit, executor=executor)
    return {v: o.range() for v, o in zip(values, found, strict=True)}


def observe(
    model: Model,
    wanted: Sequence[tuple[Value, Callable[[], Kind]]],
    samples: Samples,
    *,
    progress: Progress = silent,
    limit: int = 0,
    executor: Executor | None = None,
) -> list[Kind]:
    """What the wanted statistics say of their values over `samples`, or over the first `limit` of them where that is
    not 0.

    A feed may hold any number of samples; its first axis is counted. With an `executor` feeds are observed apart and
    merged; what is found is the same. Raises UsageError where there are no samples or they do not fit the model's
    inputs, and NotFinite, which names the layer, where a value is NaN or infinite.
    """
    values = list(dict.fromkeys(v for v, _ in wanted))
    expected = 0 if limit else length_hint(samples)
    runner = OrtRunner(model, taps=values, once=0 < expected <= FEW_FEEDS)

    def observed(feed: Feeds) -> list[Kind]:
        arrays = dict(zip(values, runner.run_taps(feed), strict=True))
        return [_seen(make(), arrays[value], value) for value, make in wanted]

    merged = [make() for _, make in wanted]
    done = 0
    for parts in _mapped(observed, limited(samples, limit), executor):
        for whole, part in zip(merged, parts, strict=True):
            whole.merge(part)
        done += 1
        progress("calibrating", done, expected or None)
    if not done:
        raise UsageError("calibration data is empty", why="it holds no sample", do="give at least one sample")
    return merged


def _mapped(function: Callable[[Feeds], Parts], feeds: Iterator[Feeds], executor: Executor | None) -> Iterator[Parts]:
    """`function` of each feed, in order; a few ahead of what is asked for where there is an executor."""
    if executor is None:
        yield from map(function, feeds)
        return
    waiting: deque[Future[Parts]] = deque()
    for feed in feeds:
        waiting.append(executor.submit(function, feed))
        if len(waiting) == IN_FLIGHT:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def require(samples: Samples | None, what: str = "static int8", instead: str = ', or use mode="dynamic"') -> Samples:
    """The samples. Raises UsageError where there are none: calibration never makes up its data."""
    if samples is None:
        raise UsageError(
            f"{what} needs calibration data",
            why="the ranges of activations are measured on real inputs",
            do=f"give some with data=... (--data on the command line){instead}",
        )
    return samples


def _seen(statistic: Kind, array: Array, value: Value) -> Kind:
    """The statistic of one array. Raises NotFinite with the layer that gives the value."""
    try:
        statistic.update(array)
    except NotFinite as error:
        maker = value.node
        error.where = f"{label(maker)}: {maker.where}" if maker and not value.is_input else f"input {value.name!r}"
        raise
    return statistic
