"""Goals: what each clause means, and what is refused."""

import pytest
from tersor.driver.goals import judge, parse_goal
from tersor.driver.report import Latency, Metric, Parity, Step
from tersor.ir import UsageError


def step(**figures: object) -> Step:
    return Step(name="s", contract="baseline", **figures)  # pyright: ignore[reportArgumentType]


BEFORE = step(
    bytes=4_000_000,
    parameters=1000,
    flops=100,
    nodes=50,
    metrics={"top1": Metric(value=0.76)},
    latency=Latency(median_ms=10.0, ratio=1.0),
)
AFTER = step(
    bytes=1_000_000,
    parameters=500,
    flops=40,
    nodes=20,
    metrics={"top1": Metric(value=0.755)},
    latency=Latency(median_ms=6.0, ratio=0.55),
    distance=Parity(
        kind="approximate", against="the original model", inputs="given", sqnr_db=25.0, max_error=0.01, cosine=0.999
    ),
)


@pytest.mark.parametrize(
    ("goal", "met", "value"),
    [
        ("latency<=0.6x", True, 0.55),
        ("latency<=5ms", False, 6.0),
        ("size<=1MB", True, 1_000_000),
        ("size<=0.2x", False, 0.25),
        ("parameters<=0.5x", True, 0.5),
        ("flops<=50", True, 40),
        ("drop(top1)<=0.5%", True, 0.5),
        ("drop(top1)<=0.1%", False, 0.5),
        ("top1>=75%", True, 75.5),
        ("sqnr>=30dB", False, 25.0),
        ("cosine>=0.99", True, 0.999),
        ("max_error<=1e-2", True, 0.01),
    ],
)
def test_a_clause_is_judged_on_the_last_step_against_the_first(goal: str, met: bool, value: float):
    found = judge(parse_goal(goal, ("top1",)), (BEFORE, AFTER))
    assert found is not None
    (clause,) = found.clauses
    assert clause.value == pytest.approx(value)
    assert found.met is met


def test_all_clauses_must_hold_and_the_verdict_names_those_that_do_not():
    found = judge(parse_goal("size<=0.5x, latency<=0.1x"), (BEFORE, AFTER))
    assert found is not None
    assert found.met is False
    assert found.verdict == "goal missed: latency<=0.1x"


def test_what_was_not_measured_is_neither_met_nor_missed():
    found = judge(parse_goal("latency<=0.1x"), (step(), step()))
    assert found is not None
    assert found.met is None
    assert found.verdict == "not measured: latency<=0.1x"


@pytest.mark.parametrize(
    "goal", ["latency", "latency<=x", "top1>=3", "drop(latency)<=1%", "size<=5", "sqnr<=0.5x", "latency<=-1ms", "a<=b"]
)
def test_what_cannot_be_understood_is_refused(goal: str):
    with pytest.raises(UsageError):
        parse_goal(goal)
