"""Tables for the terminal, from the same record as the report."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from . import report


def step_table(record: report.Report) -> Table:
    """One row per step: parameters, bytes, FLOPs, latency with its spread, metrics, distance from the original."""
    names = list(dict.fromkeys(name for step in record.steps for name in step.metrics))
    timed = any(step.latency for step in record.steps)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step", no_wrap=True)
    for heading in ("nodes", "parameters", "bytes", "FLOPs"):
        table.add_column(heading, justify="right", no_wrap=True)
    if timed:
        table.add_column("latency", justify="right", no_wrap=True)
        table.add_column("ratio", justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)
    table.add_column("parity", no_wrap=True)
    for step in record.steps:
        cells = [
            step.transform or step.name,
            count(step.nodes),
            count(step.parameters),
            size(step.bytes),
            count(step.flops),
        ]
        if timed:
            cells += [latency(step.latency), ratio(step.latency)]
        cells += [metric(step.metrics.get(name)) for name in names]
        table.add_row(*[Text(c) for c in (*cells, parity(step))])
    return table


def rule_table(record: report.Report) -> Table:
    """What each rule of each step did: nodes at which it was tried, firings, what it declined, and the time it took."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("step", "rule"):
        table.add_column(heading, no_wrap=True)
    for heading in ("tried", "fired", "declined", "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("most often because")
    for step in record.steps[1:]:
        table.add_row(*[Text(c) for c in (step.name, "", "", "", "", milliseconds(step.seconds), "")])
        for rule in step.rules:
            why = max(rule.declined, key=lambda reason: rule.declined[reason], default="")
            counts = [str(rule.tries), str(rule.hits), str(sum(rule.declined.values()))]
            table.add_row(*[Text(c) for c in ("", rule.name, *counts, milliseconds(rule.seconds), why)])
    return table


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds."""
    return "–" if seconds is None else f"{seconds * 1e3:.1f}"


def count(number: int | None) -> str:
    """A count with a unit from a thousand on."""
    if number is None:
        return "–"
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= limit:
            return f"{number / (1000 if unit == 'k' else limit):.1f} {unit}"
    return str(number)


def size(number: int | None) -> str:
    """Bytes in decimal units."""
    if number is None:
        return "–"
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number} B"


def latency(timed: report.Latency | None) -> str:
    """Median with half the width of its interval, in milliseconds."""
    if timed is None or timed.median_ms is None:
        return "–"
    spread = (timed.high_ms - timed.low_ms) / 2 if timed.high_ms is not None and timed.low_ms is not None else 0.0
    return f"{timed.median_ms:.3g} ms ±{spread:.2g}"


def ratio(timed: report.Latency | None) -> str:
    """The ratio to the baseline."""
    return "–" if timed is None or timed.ratio is None else f"{timed.ratio:.2f}x"


def metric(value: report.Metric | None) -> str:
    """A score, with half the width of its interval."""
    if value is None or value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.value:.4g}"
    return f"{value.value:.4f} ±{(value.high - value.low) / 2:.3f}"


def parity(step: report.Step) -> str:
    """The contract's check where there is one, else the distance from the original."""
    if step.contract == "baseline":
        return "–"
    checked = step.parity
    if checked is not None and checked.passed is not None and checked.max_error is not None:
        return f"{'ok' if checked.passed else 'FAILED'} {checked.max_error:.1e} ({step.contract})"
    far = step.distance
    if far is None:
        return "–"
    return "exact" if far.sqnr_db is None else f"SQNR {far.sqnr_db:.1f} dB"
