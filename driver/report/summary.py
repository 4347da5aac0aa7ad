"""The top of the page: the verdict with its figures, and one small chart per quantity across the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import svg, text
from .markup import Child, Markup, element, joined, name
from .schema import Clause, Goal, Latency, Report, Step
from .table import Cell, Column, arrow, number, over, passed, pill, table


@dataclass(frozen=True)
class _Quantity:
    """Something every step has: how to read it, how to write it, and the interval around it where there is one."""

    title: str
    read: Callable[[Step], float | None]
    write: Callable[[float | None], str]
    whisker: Callable[[Step], tuple[float | None, float | None]] = lambda step: (None, None)


def _spread(step: Step) -> tuple[float | None, float | None]:
    return (step.latency.low_ms, step.latency.high_ms) if step.latency else (None, None)


_SIZE = _Quantity("Size", lambda step: step.bytes, text.size)
_PARAMETERS = _Quantity("Parameters", lambda step: step.parameters, text.compact)
_FLOPS = _Quantity("FLOPs", lambda step: step.flops, text.compact)
_NODES = _Quantity("Nodes", lambda step: step.nodes, text.compact)
_LATENCY = _Quantity("Latency", lambda step: step.median_ms, text.milliseconds, _spread)


def metric_names(report: Report) -> list[str]:
    """Every metric of any step, sorted: a report read from a file renders as the one that was written."""
    return sorted({metric for step in report.steps for metric in step.metrics})


def verdict(report: Report) -> Markup:
    """Whether the goal was met, the figures before and after, and the goal's clauses."""
    kind, title = _outcome(report.goal)
    said = report.goal.verdict if report.goal else ""
    return element(
        "section",
        element(
            "div",
            svg.mark(report.goal.met if report.goal else None),
            element("div", element("h2", title), element("p", said, class_="lead") if said else None),
            class_=f"outcome {kind}",
        ),
        _facts(report),
        _figures(report),
        _clauses(report.goal.clauses) if report.goal and report.goal.clauses else None,
        class_="card verdict",
        id="verdict",
    )


def _outcome(goal: Goal | None) -> tuple[str, str]:
    if goal is None:
        return "open", "No goal was set"
    return {True: ("yes", "Goal met"), False: ("no", "Goal not met"), None: ("open", "Goal not measured")}[goal.met]


def _facts(report: Report) -> Markup:
    """What a reader must not miss, each linked to where it is explained."""
    checked = [step.parity.passed for step in report.steps if step.parity and step.parity.passed is not None]
    failed = checked.count(False)
    checks = text.plural(len(checked), "check")
    parity = f"parity failed in {failed} of {checks}" if failed else f"parity passed in {checks}"
    synthetic = any(step.parity and step.parity.inputs == "synthetic" for step in report.steps)
    facts: list[tuple[str, str, str | None]] = [("steps", text.plural(max(0, len(report.steps) - 1), "step"), None)]
    if checked:
        facts.append(("parity", parity, "no" if failed else "yes"))
    if synthetic:
        facts.append(("parity", "synthetic inputs", "care"))
    if report.declined:
        facts.append(("declined", f"{len(report.declined)} left alone", None))
    if report.warnings:
        facts.append(("warnings", text.plural(len(report.warnings), "warning"), "care"))
    items = (element("li", element("a", pill(said, kind), href=f"#{anchor}")) for anchor, said, kind in facts)
    return element("ul", items, class_="facts")


def _figures(report: Report) -> Markup:
    first, last = (report.steps[0], report.steps[-1]) if report.steps else (None, None)

    def ends(read: Callable[[Step], float | None]) -> tuple[float | None, float | None]:
        return (read(first), read(last)) if first and last else (None, None)

    figures = [_quantity_figure(quantity, *ends(quantity.read)) for quantity in (_SIZE, _PARAMETERS, _FLOPS)]
    figures.append(_latency_figure(last.latency if last else None, *ends(_LATENCY.read)))
    for metric in metric_names(report) or ["accuracy"]:
        figures.append(_metric_figure(metric, *ends(lambda step, metric=metric: _metric(step, metric))))
    return element("dl", figures, class_="figures")


def _quantity_figure(quantity: _Quantity, before: float | None, after: float | None) -> Markup:
    fraction = after / before if before and after is not None else None
    by = (element("b", text.ratio(fraction)), "  ", text.change(before, after)) if fraction is not None else None
    return _figure(quantity.title, quantity.write(before), quantity.write(after), fraction, by)


def _latency_figure(latency: Latency | None, before: float | None, after: float | None) -> Markup:
    """The ratio is the one measured interleaved, with its interval, not the quotient of two medians."""
    if latency is None or latency.ratio is None:
        return _quantity_figure(_LATENCY, before, after)
    by = (element("b", text.ratio(latency.ratio)), "  ", text.interval(latency.ratio_low, latency.ratio_high))
    return _figure(_LATENCY.title, text.milliseconds(before), text.milliseconds(after), latency.ratio, by)


def _metric_figure(metric: str, before: float | None, after: float | None) -> Markup:
    by = None
    if before is not None and after is not None:
        by = (element("b", text.difference(before, after)), "  absolute")
    return _figure(name(metric), text.decimal(before), text.decimal(after), None, by)


def _figure(title: Child, before: str, after: str, fraction: float | None, by: Child) -> Markup:
    """`before` → `after`, the `fraction` that remains as a thin bar, and one line `by` how much it changed."""
    return element(
        "div",
        element("dt", title),
        element("dd", arrow(before, ""), class_="from"),
        element("dd", after, class_="to"),
        element("dd", svg.meter(fraction) if fraction is not None else None, class_="meter"),
        element("dd", by, class_="by"),
        class_="figure",
    )


def _metric(step: Step, metric: str) -> float | None:
    return step.metrics[metric].value if metric in step.metrics else None


_CLAUSES = (Column("Goal", "mid"), Column("Limit", "num"), Column("Measured", "num"), Column("Result"))


def _clauses(clauses: tuple[Clause, ...]) -> Markup:
    rows = (
        (
            Cell(over(name(clause.text), None if clause.metric in clause.text else name(clause.metric))),
            number(text.quantity(clause.limit, clause.unit), clause.limit),
            number(text.quantity(clause.value, clause.unit), clause.value),
            Cell(passed(clause.met, "met", "not met")),
        )
        for clause in clauses
    )
    return table("Clauses of the goal", _CLAUSES, rows)


def waterfall(report: Report) -> Markup:
    """One chart per quantity, one bar per step: what remains, what the step removed, what it added."""
    bars = [_bars(report.steps, quantity) for quantity in (_SIZE, _PARAMETERS, _FLOPS, _NODES, _LATENCY)]
    dots = [_dots(report.steps, metric) for metric in metric_names(report)]
    return joined((element("div", bars, dots, class_="panels"), _legend())) if report.steps else Markup("")


def _bars(steps: tuple[Step, ...], quantity: _Quantity) -> Markup:
    values = [quantity.read(step) for step in steps]
    highs = [quantity.whisker(step)[1] for step in steps]
    scale = max((value for value in [*values, *highs] if value is not None), default=0)
    rows: list[Markup] = []
    previous = None
    for step, value in zip(steps, values, strict=True):
        low, high = quantity.whisker(step)
        chart = svg.bar(value, scale, before=previous, low=low, high=high) if value is not None else None
        relative = text.ratio(value / values[0]) if value is not None and values[0] else None
        rows.append(_row(step, relative, quantity.write(value), chart))
        previous = value if value is not None else previous
    return _panel(quantity.title, "0 to " + quantity.write(scale) if scale else "not measured", rows)


def _dots(steps: tuple[Step, ...], metric: str) -> Markup:
    """A metric's differences are small beside its value: its axis spans the intervals instead of starting at zero."""
    metrics = [step.metrics.get(metric) for step in steps]
    ends = [end for m in metrics if m for end in (m.value, m.low, m.high) if end is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    start, end = low - margin, high + margin
    rows: list[Markup] = []
    for step, m in zip(steps, metrics, strict=True):
        chart = svg.dot(m.value, start, end, low=m.low, high=m.high) if m and m.value is not None else None
        spread = text.interval(m.low, m.high) if m else ""
        rows.append(_row(step, spread, text.decimal(m.value if m else None), chart))
    span = f"{text.significant(start)} to {text.significant(end)}" if ends else "not measured"
    return _panel(name(metric), span, rows)


def _panel(title: Child, span: str, rows: list[Markup]) -> Markup:
    caption = element("figcaption", element("h3", title), element("span", span, class_="sub"))
    return element("figure", caption, element("ol", rows), class_="card panel")


def _row(step: Step, relative: str | None, value: str, chart: Markup | None) -> Markup:
    line = element(
        "div",
        element("span", name(step.name), class_="step", title=step.name),
        element("span", relative, class_="rel") if relative else None,
        element("span", value, class_="value"),
        class_="row",
    )
    return element("li", line, chart)


def _legend() -> Markup:
    keys = (
        ("remaining", "remains"),
        ("removed", "removed by this step"),
        ("grown", "added by this step"),
    )
    swatches = (
        element("li", element("svg", element("rect", width=18, height=10, class_=kind), aria_hidden="true"), said)
        for kind, said in keys
    )
    return element("ul", swatches, element("li", svg.whisker_key(), "confidence interval"), class_="legend")
