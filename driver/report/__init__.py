"""The report of a run: its schema (`report.json`) and its view as one HTML file."""

from .codec import ReportFormatError
from .html import render
from .schema import (
    SCHEMA,
    Clause,
    Declined,
    File,
    Goal,
    Latency,
    Layer,
    Metric,
    Model,
    Parity,
    Platform,
    Port,
    Report,
    ReportWarning,
    Rounding,
    Rule,
    Run,
    Step,
    Tool,
)

__all__ = [
    "SCHEMA",
    "Clause",
    "Declined",
    "File",
    "Goal",
    "Latency",
    "Layer",
    "Metric",
    "Model",
    "Parity",
    "Platform",
    "Port",
    "Report",
    "ReportFormatError",
    "ReportWarning",
    "Rounding",
    "Rule",
    "Run",
    "Step",
    "Tool",
    "render",
]
