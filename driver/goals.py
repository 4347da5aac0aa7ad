"""Goals as text: `latency<=0.6x, drop(top1)<=0.5%, size<=25MB`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..ir import UsageError
from .report import Clause, Goal, Step

CLAUSE = re.compile(
    r"(?P<function>drop)?\(?(?P<metric>[A-Za-z_][\w.]*)\)?\s*(?P<relation><=|>=)\s*(?P<number>\d+\.?\d*(?:e-?\d+)?)\s*(?P<unit>[A-Za-z%]*)\Z"
)
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _sqnr(step: Step) -> float | None:
    """Infinite where nothing differs, which the report keeps as None."""
    if step.distance is None:
        return None
    return math.inf if step.distance.sqnr_db is None else step.distance.sqnr_db


MEASURES: dict[str, tuple[Callable[[Step], float | None], dict[str, float]]] = {
    "latency": (lambda s: s.median_ms, {"ms": 1.0, "s": 1000.0}),
    "size": (lambda s: s.bytes, {k: float(v) for k, v in BYTES.items()}),
    "parameters": (lambda s: s.parameters, {"": 1.0, "k": 1e3, "M": 1e6}),
    "flops": (lambda s: s.flops, {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}),
    "nodes": (lambda s: s.nodes, {"": 1.0}),
    "sqnr": (_sqnr, {"dB": 1.0}),
    "max_error": (lambda s: s.distance.max_error if s.distance else None, {"": 1.0}),
    "cosine": (lambda s: s.distance.cosine if s.distance else None, {"": 1.0}),
}
"""What can be asked for besides the user's own metrics: how it is read from the last step, and its units. All but the
last three also take "x", a ratio to the baseline."""

ROUNDING = 1e-9
"""A value this close to its limit is at it: percentages of counts are not exact in binary."""

ABSOLUTE_ONLY = frozenset(["sqnr", "max_error", "cosine"])


@dataclass(frozen=True)
class Condition:
    """One clause. `unit` is "x" for a ratio to the baseline, "%" for percentage points of a metric, else a unit of the
    measure.
    """

    text: str
    metric: str
    relation: str
    number: float
    unit: str
    is_drop: bool

    def judge(self, baseline: Step, final: Step) -> Clause:
        """The clause with its value and whether it is met; both are None where something was not measured."""
        value, scale = self.value(baseline, final), self.scale()
        slack = ROUNDING * max(1.0, abs(self.number))
        met = (
            None
            if value is None
            else value <= self.number + slack
            if self.relation == "<="
            else value >= self.number - slack
        )
        shown = "B" if self.metric == "size" and self.unit != "x" else self.unit
        factor = scale if shown == "B" else 1.0
        return Clause(
            text=self.text,
            metric=self.metric,
            limit=self.number * factor,
            value=None if value is None else value * factor,
            unit=shown,
            met=met,
        )

    def scale(self) -> float:
        return 1.0 if self.unit in ("x", "%") or self.metric not in MEASURES else MEASURES[self.metric][1][self.unit]

    def value(self, baseline: Step, final: Step) -> float | None:
        if self.metric in MEASURES:
            if self.metric == "latency" and self.unit == "x":
                return final.latency.ratio if final.latency else None
            read = MEASURES[self.metric][0]
            before, after = read(baseline), read(final)
            if after is None or (self.unit == "x" and not before):
                return None
            return after / before if self.unit == "x" and before else after / self.scale()
        metrics = final.metrics.get(self.metric), baseline.metrics.get(self.metric)
        after, before = (m.value if m else None for m in metrics)
        if after is None or (self.is_drop and before is None):
            return None
        value = before - after if self.is_drop and before is not None else after
        return value * 100 if self.unit == "%" else value


def parse_goal(text: str, metrics: tuple[str, ...] = ()) -> list[Condition]:
    """The conditions of a goal. `metrics` are the names of the user's own. Raises UsageError with what is wrong."""
    return [_parse_clause(part.strip(), metrics) for part in text.split(",") if part.strip()]


def _parse_clause(text: str, metrics: tuple[str, ...]) -> Condition:
    found = CLAUSE.match(text)
    if found is None or (found["function"] is not None) != ("(" in text):
        raise UsageError(f"not a goal: {text!r}", do='write it as in "latency<=0.6x, drop(top1)<=0.5%, size<=25MB"')
    metric, unit, is_drop = found["metric"], found["unit"], found["function"] is not None
    if metric in MEASURES and not is_drop:
        units = [*MEASURES[metric][1], *([] if metric in ABSOLUTE_ONLY else ["x"])]
        if unit not in units:
            raise UsageError(
                f"goal {text!r} has the unit {unit!r}", do=f"{metric} takes {', '.join(u or 'no unit' for u in units)}"
            )
    elif metric not in metrics:
        known = ", ".join((*MEASURES, *metrics))
        raise UsageError(
            f"goal {text!r} asks for {metric!r}",
            why=f"what is measured is {known}",
            do="give --eval FILE.py:NAME for a metric",
        )
    elif unit not in ("", "%"):
        raise UsageError(f"goal {text!r} has the unit {unit!r}", do="a metric takes % or no unit")
    return Condition(text, metric, found["relation"], float(found["number"]), unit, is_drop)


def judge(conditions: list[Condition], steps: tuple[Step, ...]) -> Goal | None:
    """The goal with every clause judged on the last step against the first; None without conditions."""
    if not conditions or not steps:
        return None
    clauses = tuple(c.judge(steps[0], steps[-1]) for c in conditions)
    states = [c.met for c in clauses]
    met = False if False in states else None if None in states else True
    missed = ", ".join(c.text for c in clauses if c.met is not True)
    verdict = (
        f"goal met: {', '.join(c.text for c in clauses)}"
        if met
        else f"goal missed: {missed}"
        if met is False
        else f"not measured: {missed}"
    )
    return Goal(clauses=clauses, met=met, verdict=verdict)
