"""A report as one HTML file: no network, no fonts from elsewhere, complete without its script.

The content security policy allows the page's own style and, by its hash, the one script; nothing else can load or run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from . import rounding, summary, tables, text
from .markup import Child, Markup, element, joined, name, void
from .schema import SCHEMA, File, Port, Report
from .style import SCRIPT, STYLE


def render(report: Report) -> str:
    """The page for `report`. It depends on the report's content alone, so the same report gives the same bytes."""
    title = f"{report.model.name} – tersor report"
    head = element(
        "head",
        void("meta", charset="utf-8"),
        void("meta", http_equiv="Content-Security-Policy", content=_policy()),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # An empty icon keeps a browser from asking the server for one.
        void("link", rel="icon", href="data:,"),
        element("style", Markup(STYLE)),
    )
    sections = [section for section in _sections(report) if section[2] is not None]
    body = element(
        "body",
        _top(sections),
        element(
            "main",
            _title(report),
            summary.verdict(report),
            (_section(anchor, heading, lead, content) for anchor, heading, content, lead in sections),
        ),
        element("footer", element("p", f"tersor {report.run.tool.tersor} · {SCHEMA}")),
        element("script", Markup(SCRIPT)),
    )
    return "<!doctype html>\n" + element("html", head, Markup("\n"), body, lang="en") + "\n"


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _sections(report: Report) -> list[tuple[str, str, Markup | None, str]]:
    """(anchor, heading, content or None to leave it out, one sentence that helps to read it)."""
    has_rules = any(step.rules for step in report.steps)
    steps = joined((summary.waterfall(report), tables.steps(report))) if report.steps else None
    declined = tables.declined(report.declined) if report.declined else None
    warnings = tables.warnings(report.warnings) if report.warnings else None
    return [
        ("steps", "Steps", steps, "The model after each step, starting from the baseline."),
        ("warnings", "Warnings", warnings, ""),
        (
            "layers",
            "Layers",
            tables.layers(report) if report.layers else None,
            "What was decided for each layer, and why.",
        ),
        (
            "rounding",
            "Quantized layers",
            rounding.rounded(report),
            "Signal to noise of each layer's weight, of its result by itself, and of its result in the network. Below "
            "are the values that the worst layers read, as logarithms of counts; outside the lines they are clipped.",
        ),
        ("parity", "Parity", tables.parity(report), "Each step's outputs compared with what they should be."),
        ("declined", "Left alone", declined, "Axes that could not be pruned and layers that stayed as they were."),
        ("rules", "Rewrite rules", tables.rules(report) if has_rules else None, ""),
        ("reproduce", "Reproducibility", _reproduce(report), "What it takes to do this again."),
    ]


def _section(anchor: str, heading: str, lead: str, content: Markup | None) -> Markup:
    return element(
        "section", element("h2", heading), element("p", lead, class_="lead") if lead else None, content, id=anchor
    )


def _top(sections: list[tuple[str, str, Markup | None, str]]) -> Markup:
    links = (element("a", heading, href=f"#{anchor}") for anchor, heading, _, _ in sections)
    return element("header", element("span", "tersor", class_="brand"), element("nav", links), class_="top")


def _title(report: Report) -> Markup:
    model, last = report.model, report.steps[-1] if report.steps else None
    facts = [f"opset {model.opset}"] if model.opset is not None else []
    facts += [fact for fact in (report.run.platform.cpu, report.run.platform.runtime) if fact]
    if last and last.latency and last.latency.runs:
        facts.append(f"{text.count(last.latency.runs)} interleaved runs")
    return element(
        "div", element("h1", name(model.name)), element("p", " · ".join(facts), class_="sub"), class_="title"
    )


def _reproduce(report: Report) -> Markup:
    run, model = report.run, report.model
    platform = run.platform
    versions = [
        (tool, getattr(run.tool, tool)) for tool in ("tersor", "onnx", "onnxruntime", "numpy", "torch", "python")
    ]
    where = [
        ("CPU", platform.cpu),
        ("threads", text.count(platform.threads)),
        ("runtime", platform.runtime),
        ("system", platform.system),
        ("seed", None if run.seed is None else str(run.seed)),
    ]
    ports = [("input", _port(port)) for port in model.inputs] + [("output", _port(port)) for port in model.outputs]
    files = [(file.role, _file(file)) for file in (*run.inputs, *run.outputs)]
    cards: tuple[tuple[str, Sequence[tuple[Child, Child]]], ...] = (
        ("Versions", versions),
        ("Platform", where),
        ("Model", [("name", name(model.name)), ("opset", text.count(model.opset)), *ports]),
        ("Options", [(name(key), name(value)) for key, value in sorted(run.options.items())]),
        ("Files", files),
    )
    return joined(
        (
            element("pre", run.command, class_="card"),
            element("div", (_card(title, pairs) for title, pairs in cards if pairs), class_="facing"),
        )
    )


def _card(title: str, pairs: Sequence[tuple[Child, Child]]) -> Markup:
    items = ((element("dt", key), element("dd", value if value is not None else text.ABSENT)) for key, value in pairs)
    return element("div", element("h3", title), element("dl", items, class_="pairs"), class_="card")


def _port(port: Port) -> Markup:
    return joined((name(port.name), " ", name(port.type, class_="name muted")))


def _file(file: File) -> Markup:
    size = f" · {text.size(file.bytes)}" if file.bytes is not None else ""
    return joined((name(file.name), size, element("div", name(file.sha256), class_="sub")))
