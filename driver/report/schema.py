"""What a report says: the one source of `report.json`, of the HTML page and of the tables on the terminal.

Whatever was not measured is `None` (`null` in the file), never NaN and never a made-up number. The schema string names
the version: a change that a reader of this version would misread raises it. This module only holds what others
measured; it computes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .codec import Record, ReportFormatError, decode, encode, parse

SCHEMA = "tersor.report/1"

Contract: TypeAlias = Literal["baseline", "exact", "masked", "approximate"]
Samples: TypeAlias = Literal["given", "synthetic"]


@dataclass(frozen=True, kw_only=True)
class Tool(Record):
    """Versions of what made the report; `torch` is None where it was not imported."""

    tersor: str
    onnx: str
    onnxruntime: str
    numpy: str
    python: str | None = None
    torch: str | None = None


@dataclass(frozen=True, kw_only=True)
class Platform(Record):
    """Where it was measured. `runtime` is the target's name, such as "ort-cpu"."""

    cpu: str
    threads: int | None = None
    runtime: str | None = None
    system: str | None = None


@dataclass(frozen=True, kw_only=True)
class File(Record):
    """A file read or written: `role` is such as "model", "data", "onnx", "pytorch"; `sha256` in hexadecimal."""

    role: str
    name: str
    sha256: str
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """How to do it again. `options` are as a user would write them; `command` is the line or the Python call."""

    tool: Tool
    platform: Platform
    command: str
    seed: int | None = None
    options: dict[str, str] = field(default_factory=dict[str, str])
    inputs: tuple[File, ...] = ()
    outputs: tuple[File, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Port(Record):
    """One input or output of the model; `type` is the IR's text, such as "f32[N,3,32,32]"."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Model(Record):
    """What the report is about."""

    name: str
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    opset: int | None = None


@dataclass(frozen=True, kw_only=True)
class Clause(Record):
    """One condition of a goal. `limit` and `value` are in `unit`: "x" (a ratio), "%", "B", "ms", or any other text."""

    text: str
    metric: str
    limit: float | None = None
    value: float | None = None
    unit: str = ""
    met: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Goal(Record):
    """What was asked and whether it was reached; `met` is None when a clause could not be measured."""

    clauses: tuple[Clause, ...] = ()
    met: bool | None = None
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class Latency(Record):
    """Milliseconds per inference with the interval [low, high]; the ratio to the baseline is from interleaved runs."""

    median_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    runs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Metric(Record):
    """A task metric, such as top-1 accuracy, with its confidence interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parity(Record):
    """A comparison of a step's outputs with `against` (such as "original", "masked original").

    `max_error` is max|a-b| / max|reference|; `cosine` and `argmax_agreement` lie in [0, 1]; `sqnr_db` is None when the
    outputs are equal; `tolerance` bounds `max_error`; `passed` is None where nothing was promised.
    """

    kind: str
    against: str
    inputs: Samples
    max_error: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    argmax_agreement: float | None = None
    values_compared: int | None = None
    tolerance: float | None = None
    passed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Rule(Record):
    """What one rewrite rule did in one step; `declined` counts the reasons for which it left a match alone."""

    name: str
    tries: int = 0
    hits: int = 0
    declined: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Step(Record):
    """The model after one pass; the first step is the baseline. `transform` is the pass as text, "prune(ratio=0.3)".

    `parity` is the check of the pass's contract, `distance` the comparison with the original model, which promises
    nothing. `bytes` is the size of the file as written, `flops` the floating-point operations of one inference,
    `seconds` what the pass took.
    """

    name: str
    transform: str = ""
    contract: Contract
    seconds: float | None = None
    nodes: int | None = None
    parameters: int | None = None
    bytes: int | None = None
    flops: int | None = None
    latency: Latency | None = None
    metrics: dict[str, Metric] = field(default_factory=dict[str, Metric])
    parity: Parity | None = None
    distance: Parity | None = None
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def median_ms(self) -> float | None:
        """Milliseconds per inference; None where they were not measured."""
        return self.latency.median_ms if self.latency else None


@dataclass(frozen=True, kw_only=True)
class Rounding(Record):
    """How a quantized layer is rounded: `scheme` is such as "u8 x i8 per channel", [low, high] the range of its input.

    `weight_sqnr_db` is of its weight, `alone_sqnr_db` of its result where nothing else is rounded; microseconds are
    `measured` or of a model. `counts` are its input's values on equal bins from `seen_low` to `seen_high`, for the
    layers that lose most.
    """

    scheme: str
    low: float | None = None
    high: float | None = None
    weight_sqnr_db: float | None = None
    alone_sqnr_db: float | None = None
    before_us: float | None = None
    after_us: float | None = None
    measured: bool = False
    counts: tuple[int, ...] = ()
    seen_low: float | None = None
    seen_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Layer(Record):
    """A layer before and after. `decision` is a few words ("int8", "fp32", "pruned 30 %", "kept", "folded").

    `scope` is the module path and `source` the line of the user's model it came from; shapes are the IR's text. What no
    longer exists afterwards has None after it.
    """

    name: str
    op: str
    decision: str
    reason: str = ""
    scope: str | None = None
    source: str | None = None
    shape_before: str | None = None
    shape_after: str | None = None
    parameters_before: int | None = None
    parameters_after: int | None = None
    flops_before: int | None = None
    flops_after: int | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    sqnr_db: float | None = None
    rounding: Rounding | None = None


@dataclass(frozen=True, kw_only=True)
class Declined(Record):
    """Something a pass was asked for and left alone: an axis that could not be pruned, a layer left in fp32."""

    what: str
    where: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReportWarning(Record):
    """A message with its code, such as "TSR204"; `where` names the node or file, and may be empty."""

    code: str
    message: str
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """Everything about one run. `goal` is None when none was given."""

    model: Model
    run: Run
    goal: Goal | None = None
    steps: tuple[Step, ...] = ()
    layers: tuple[Layer, ...] = ()
    declined: tuple[Declined, ...] = ()
    warnings: tuple[ReportWarning, ...] = ()

    def to_json(self) -> str:
        """The report as deterministic ASCII JSON: sorted keys, no NaN, one newline at the end.

        Raises ReportFormatError if a field holds what its type does not allow: what is written can be read.
        """
        values = encode(self, "report")
        decode(Report, values, "report")
        assert isinstance(values, dict)
        return json.dumps({"schema": SCHEMA, **values}, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """The report in `text`. Raises ReportFormatError for another schema version or malformed content."""
        values = parse(text)
        if not isinstance(values, dict) or "schema" not in values:
            raise ReportFormatError("schema", repr(SCHEMA), "none")
        schema = values.pop("schema")
        if schema != SCHEMA:
            raise ReportFormatError("schema", repr(SCHEMA), ascii(schema), do="read it with the version that wrote it")
        return decode(Report, values, "report")
