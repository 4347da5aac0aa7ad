"""Latency of several runners against each other, taken in turns so that what disturbs the machine hits all alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .runners import Feeds, Runner

CONFIDENCE = 0.95
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the median of `runs` calls and the 95 % interval [low, high] of the median.

    `ratio` is the median over the rounds of this runner's time divided by the first runner's in the same round, with
    its interval; 1 for the first runner itself. Below 1 is faster.
    """

    median: float
    low: float
    high: float
    runs: int
    ratio: float
    ratio_low: float
    ratio_high: float


def latency(
    runners: Sequence[Runner],
    feeds: Feeds,
    runs: int = 50,
    warmup: int = 5,
    *,
    seconds: float = 60.0,
    progress: Callable[[str, int, int | None], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> list[Timing]:
    """Times every runner on the same feeds, once in each of `runs` rounds, after `warmup` untimed rounds.

    The order rotates from round to round. After `seconds` no further round starts, but three are always timed.
    `progress` is called with a label, the rounds done and their number. `clock` gives the seconds that count, those
    that pass by default: with `time.process_time` those of runners on one thread are not disturbed by what else the
    machine does. Raises ValueError for no runners or no runs.
    """
    clock = clock or time.perf_counter
    if not runners or runs < 1:
        raise ValueError("latency needs a runner and a run")
    end = time.perf_counter() + seconds
    for done in range(warmup):
        for runner in runners:
            runner.run(feeds)
        if time.perf_counter() > end - seconds / 2 and done:
            break
    times: list[list[float]] = [[] for _ in runners]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(runs):
            if done >= LEAST_ROUNDS and time.perf_counter() >= end:
                break
            for place in range(len(runners)):
                index = (place + done) % len(runners)
                start = clock()
                runners[index].run(feeds)
                times[index].append(clock() - start)
            if progress is not None:
                progress("latency", done + 1, runs)
    finally:
        if collecting:
            gc.enable()
    return [_timing(own, times[0]) for own in times]


def _timing(own: Sequence[float], first: Sequence[float]) -> Timing:
    ratios = [a / b for a, b in zip(own, first, strict=True)]
    return Timing(*median_interval(own), len(own), *median_interval(ratios))


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """The median and its distribution-free 95 % confidence interval, which ends at two order statistics.

    The interval [x_(k), x_(n+1-k)] covers the median with probability 1 - 2 P(Binomial(n, 1/2) < k); k is the largest
    rank for which that is at least 95 %. Below six samples there is none, and the extremes stand for it.
    """
    ordered = sorted(samples)
    rank = _rank(len(ordered))
    return statistics.median(ordered), ordered[rank - 1], ordered[len(ordered) - rank]


def _rank(count: int) -> int:
    tail, rank = 0.0, 0
    while rank < count // 2:
        tail += math.exp(
            math.lgamma(count + 1) - math.lgamma(rank + 1) - math.lgamma(count - rank + 1) - count * math.log(2)
        )
        if tail > (1 - CONFIDENCE) / 2:
            break
        rank += 1
    return max(1, rank)
