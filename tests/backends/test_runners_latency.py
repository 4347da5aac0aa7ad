"""Latency is measured in turns, bounded in time, and comes with intervals that cover what they should."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from tersor.backends import benchmark
from tersor.backends.benchmark import latency, median_interval
from tersor.backends.runners import Feeds, Runner
from tersor.ir import Array


class Clock:
    """Stands for time.perf_counter; runners move it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake(Runner):
    def __init__(self, clock: Clock, seconds: list[float], calls: list[str], name: str) -> None:
        self.clock, self.seconds, self.calls, self.name = clock, seconds, calls, name

    def run(self, feeds: Feeds) -> dict[str, Array]:
        self.calls.append(self.name)
        self.clock.now += self.seconds[len(self.calls) % len(self.seconds)]
        return {}

    def run_taps(self, feeds: Feeds) -> list[Array]:
        return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(benchmark.time, "perf_counter", made)
    return made


def test_medians_and_ratios_are_those_of_the_runners(clock: Clock) -> None:
    calls: list[str] = []
    first, second = latency([Fake(clock, [2.0], calls, "a"), Fake(clock, [1.0], calls, "b")], {}, 10, seconds=1e9)
    assert (first.median, first.ratio, first.ratio_low, first.ratio_high) == (2, 1, 1, 1)
    assert (second.median, second.ratio, second.ratio_low, second.ratio_high) == (1, 0.5, 0.5, 0.5)
    assert first.runs == second.runs == 10


def test_runners_take_turns_and_who_goes_first_changes(clock: Clock) -> None:
    calls: list[str] = []
    latency([Fake(clock, [1.0], calls, n) for n in "abc"], {}, 3, warmup=1, seconds=1e9)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_a_drift_of_the_whole_machine_leaves_the_ratio_alone(clock: Clock) -> None:
    class Slowing(Fake):
        def run(self, feeds: Feeds) -> dict[str, Array]:
            self.calls.append(self.name)
            self.clock.now += self.seconds[0] * (1 + len(self.calls) // 2 * 0.1)
            return {}

    calls: list[str] = []
    _, second = latency(
        [Slowing(clock, [2.0], calls, "a"), Slowing(clock, [1.0], calls, "b")], {}, 40, warmup=0, seconds=1e9
    )
    assert second.high > 1.5 * second.low
    assert second.ratio_low > 0.4
    assert second.ratio_high < 0.6


def test_no_round_starts_after_the_time_is_up_but_three_are_timed(clock: Clock) -> None:
    calls: list[str] = []
    (timing,) = latency([Fake(clock, [1.0], calls, "a")], {}, 1000, warmup=0, seconds=10)
    assert timing.runs == 10
    (timing,) = latency([Fake(clock, [100.0], calls, "a")], {}, 1000, seconds=10)
    assert timing.runs == 3


def test_progress_is_told_of_each_round(clock: Clock) -> None:
    seen: list[tuple[str, int, int | None]] = []
    latency([Fake(clock, [1.0], [], "a")], {}, 3, seconds=1e9, progress=lambda *a: seen.append(a))
    assert seen == [("latency", 1, 3), ("latency", 2, 3), ("latency", 3, 3)]


def test_the_garbage_collector_is_on_again_when_a_runner_fails(clock: Clock) -> None:
    class Failing(Fake):
        def run(self, feeds: Feeds) -> dict[str, Array]:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        latency([Failing(clock, [], [], "a")], {}, 3, warmup=0)
    assert gc.isenabled()


def test_nothing_to_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a runner"):
        latency([], {})


def test_the_interval_of_a_median_has_the_ranks_of_the_binomial_distribution() -> None:
    assert median_interval(range(1, 11)) == (5.5, 2, 9)
    assert median_interval(range(1, 101)) == (50.5, 40, 61)
    assert median_interval([3, 1, 2]) == (2, 1, 3)
    assert median_interval([7]) == (7, 7, 7)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        _, low, high = median_interval(generator.exponential(size=15).tolist())
        covered += low <= np.log(2) <= high
    assert 940 <= covered <= 990
