"""The body of the page: steps, layers, parity, what was left alone, warnings, and what the rewrite rules did."""

from __future__ import annotations

from . import text
from .markup import Child, Markup, element, joined, name
from .schema import Declined, Latency, Layer, Parity, Report, ReportWarning, Rule, Step
from .summary import metric_names
from .table import Cell, Column, before_after, framed, number, over, passed, pill, table, table_row, words
from .text import ABSENT

_CONTRACT_KIND = {"baseline": None, "exact": "yes", "masked": "changed", "approximate": "changed"}


def steps(report: Report) -> Markup:
    """Every number of every step; a step's notes stand below it."""
    metrics = metric_names(report)
    columns = (
        Column("Step", "wide"),
        Column("Nodes", "num"),
        Column("Parameters", "num"),
        Column("Size", "num"),
        Column("FLOPs", "num"),
        Column("Latency", "num"),
        Column("to baseline", "num"),
        *(Column(metric, "num") for metric in metrics),
        Column("Parity", "num"),
        Column("to original", "num"),
        Column("Took", "num"),
    )
    rows: list[Markup] = []
    for step in report.steps:
        rows.append(table_row(columns, _step(step, metrics), class_="noted" if step.notes else None))
        if step.notes:
            notes = element("ul", (element("li", note) for note in step.notes))
            rows.append(element("tr", element("td", notes, colspan=len(columns)), class_="note"))
    return framed("Steps", columns, rows)


def _step(step: Step, metrics: list[str]) -> list[Cell]:
    latency = step.latency or Latency()
    parity = step.parity
    accuracies: list[Cell] = []
    for metric in metrics:
        found = step.metrics.get(metric)
        spread = text.interval(found.low, found.high) if found else None
        accuracies.append(Cell(over(text.decimal(found.value if found else None), spread)))
    title = element("span", [element("b", name(step.name)), " ", pill(step.contract, _CONTRACT_KIND[step.contract])])
    error = over(text.scientific(parity.max_error), passed(parity.passed)) if parity else ABSENT
    distance = step.distance
    far = over(text.decibels(distance.sqnr_db), text.scientific(distance.max_error)) if distance else ABSENT
    return [
        Cell(over(title, name(step.transform) if step.transform else None)),
        number(text.count(step.nodes), step.nodes),
        number(text.count(step.parameters), step.parameters),
        number(text.size(step.bytes), step.bytes),
        number(text.compact(step.flops), step.flops),
        Cell(over(text.milliseconds(latency.median_ms), text.interval(latency.low_ms, latency.high_ms))),
        Cell(over(text.ratio(latency.ratio), text.interval(latency.ratio_low, latency.ratio_high))),
        *accuracies,
        Cell(error),
        Cell(far),
        Cell(text.seconds(step.seconds)),
    ]


_LAYERS = (
    Column("Layer", "wide"),
    Column("Decision", "tight"),
    Column("Reason", "wide"),
    Column("Parameters", "num"),
    Column("FLOPs", "num"),
    Column("Bytes", "num"),
    Column("SQNR", "num"),
    Column("Shape", "shape"),
)
_UNCHANGED = {"kept", "fp32", ""}


def layers(report: Report) -> Markup:
    """A row per layer in the model's order; bars are on one scale per column."""

    def scale(attribute: str) -> int:
        sides = (f"{attribute}_{side}" for side in ("before", "after"))
        return max((getattr(layer, side) or 0 for side in sides for layer in report.layers), default=0)

    scales = {attribute: scale(attribute) for attribute in ("parameters", "flops", "bytes")}
    return table("Layers", _LAYERS, (_layer(layer, scales) for layer in report.layers), sortable="layers")


def _layer(layer: Layer, scales: dict[str, int]) -> list[Cell]:
    shapes = [name(shape) if shape else ABSENT for shape in (layer.shape_before, layer.shape_after)]
    same = layer.shape_before == layer.shape_after
    shape: Child = shapes[0] if same else (shapes[0], element("div", "→ ", shapes[1]))
    # A name that begins with its scope has said it.
    scope = None if layer.scope and layer.name.startswith(layer.scope) else layer.scope
    origin = [name(part) for part in (layer.op, scope, layer.source) if part]
    where = [part for item in origin for part in (" · ", item)][1:]
    return [
        Cell(over(name(layer.name), where), layer.name),
        Cell(pill(layer.decision or ABSENT, None if layer.decision in _UNCHANGED else "changed"), layer.decision),
        words(layer.reason),
        before_after(layer.parameters_before, layer.parameters_after, text.compact, scales["parameters"]),
        before_after(layer.flops_before, layer.flops_after, text.compact, scales["flops"]),
        before_after(layer.bytes_before, layer.bytes_after, text.size, scales["bytes"]),
        number(text.decibels(layer.sqnr_db), layer.sqnr_db),
        Cell(shape, layer.shape_before),
    ]


_PARITY = (
    Column("Step", "mid"),
    Column("Check", "mid"),
    Column("Against", "mid"),
    Column("Inputs"),
    Column("Max error", "num"),
    Column("Tolerance", "num"),
    Column("SQNR", "num"),
    Column("Cosine", "num"),
    Column("Same argmax", "num"),
    Column("Values", "num"),
    Column("Result"),
)


def parity(report: Report) -> Markup:
    """What each step's outputs were compared with, and how far apart they are."""
    rows = [_parity(step, found) for step in report.steps for found in (step.parity, step.distance) if found]
    return table("Parity", _PARITY, rows) if rows else element("p", "No outputs were compared.", class_="none")


def _parity(step: Step, parity: Parity) -> list[Cell]:
    return [
        Cell(name(step.name)),
        words(parity.kind),
        words(parity.against),
        Cell(pill(parity.inputs, "care" if parity.inputs == "synthetic" else None)),
        Cell(text.scientific(parity.max_error)),
        Cell(text.scientific(parity.tolerance)),
        Cell(text.decibels(parity.sqnr_db)),
        Cell(ABSENT if parity.cosine is None else f"{parity.cosine:.6f}"),
        Cell(ABSENT if parity.argmax_agreement is None else f"{parity.argmax_agreement:.2%}"),
        Cell(text.count(parity.values_compared)),
        Cell(passed(parity.passed)),
    ]


_DECLINED = (Column("What", "mid"), Column("Where", "mid"), Column("Reason", "wide"))


def declined(items: tuple[Declined, ...]) -> Markup:
    """What was left alone, and why."""
    rows = ((words(item.what), Cell(name(item.where)), words(item.reason)) for item in items)
    return table("Left alone", _DECLINED, rows)


def warnings(items: tuple[ReportWarning, ...]) -> Markup:
    """One card per warning."""
    return element(
        "ul",
        (
            element(
                "li",
                pill(item.code, "care"),
                element("span", item.message),
                element("span", name(item.where), class_="sub") if item.where else None,
                class_="card",
            )
            for item in items
        ),
        class_="warnings",
    )


_RULES = (
    Column("Rule", "mid"),
    Column("Tries", "num"),
    Column("Hits", "num"),
    Column("Time", "num"),
    Column("Declined because", "wide"),
)


def rules(report: Report) -> Markup:
    """A collapsed table of rewrite-rule statistics per step that has any."""
    return joined(_step_rules(step) for step in report.steps if step.rules)


def _step_rules(step: Step) -> Markup:
    hits = sum(rule.hits for rule in step.rules)
    count = f" {text.plural(len(step.rules), 'rule')}, {text.plural(hits, 'rewrite')}"
    return element(
        "details",
        element("summary", name(step.name), element("span", count, class_="sub")),
        table(f"Rules of {step.name}", _RULES, map(_rule, step.rules)),
    )


def _rule(rule: Rule) -> list[Cell]:
    reasons = sorted(rule.declined.items(), key=lambda item: (-item[1], item[0]))
    return [
        Cell(name(rule.name)),
        number(text.count(rule.tries), rule.tries),
        number(text.count(rule.hits), rule.hits),
        number(text.seconds(rule.seconds), rule.seconds),
        Cell([element("div", f"{text.count(count)}× ", reason) for reason, count in reasons] or ABSENT),
    ]
