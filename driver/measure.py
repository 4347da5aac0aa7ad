"""What is measured of a model at each step: size, cost, latency, the user's metrics, and distance from the original."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..backends.benchmark import Timing, latency
from ..backends.compare import Comparison, Difference
from ..backends.onnx import file_bytes
from ..backends.runners import Feeds, Runner
from ..ir import Array, Model
from ..transforms.base import Progress
from ..transforms.cost import bind_sizes, graph_flops, parameter_count
from ..transforms.parity import Parity
from . import report

RUNS = 60


def static_figures(model: Model, feed: Feeds | None) -> dict[str, Any]:
    """Nodes, parameters, file bytes and FLOPs of one run with one sample."""
    shapes = {k: (1, *v.shape[1:]) for k, v in (feed or {}).items() if v.ndim}
    return {
        "nodes": len(model.graph),
        "parameters": parameter_count(model.graph),
        "bytes": file_bytes(model),
        "flops": graph_flops(model.graph, bind_sizes(model.graph, shapes)),
    }


def latencies(runners: Sequence[Runner], feed: Feeds, runs: int, progress: Progress) -> list[report.Latency]:
    """Latency of each runner on one feed, interleaved in one run on one thread; ratios are to the first."""
    return [as_latency(t) for t in latency(runners, feed, runs, progress=progress)]


def as_latency(timing: Timing) -> report.Latency:
    """A timing as the report keeps it."""
    return report.Latency(
        median_ms=timing.median * 1e3,
        low_ms=timing.low * 1e3,
        high_ms=timing.high * 1e3,
        ratio=timing.ratio,
        ratio_low=timing.ratio_low,
        ratio_high=timing.ratio_high,
        runs=timing.runs,
    )


def distance(reference: Iterable[Mapping[str, Array]], candidate: Runner, feeds: Sequence[Feeds]) -> Difference:
    """The difference over all feeds, of the output with the largest error, from what the reference gives for each."""
    comparisons: dict[str, Comparison] = {}
    for expected, feed in zip(reference, feeds, strict=True):
        found = candidate.run(feed)
        for name, value in expected.items():
            comparisons.setdefault(name, Comparison()).update(value, found[name])
    return max((c.difference() for c in comparisons.values()), key=lambda d: d.max_error)


def as_parity(
    difference: Difference, *, kind: str, against: str, inputs: str, tolerance: float | None = None
) -> report.Parity:
    """A difference as the report keeps it."""
    return report.Parity(
        kind=kind,
        against=against,
        inputs="given" if inputs == "given" else "synthetic",
        max_error=difference.max_error,
        sqnr_db=difference.sqnr_db,
        cosine=difference.cosine,
        argmax_agreement=difference.argmax_agreement,
        values_compared=difference.count,
        tolerance=tolerance,
        passed=None if tolerance is None else difference.max_error <= tolerance,
    )


def of_check(parity: Parity, contract: str) -> report.Parity:
    """The pass manager's comparison as the report keeps it."""
    return as_parity(
        parity.difference, kind=contract, against=parity.against, inputs=parity.inputs, tolerance=parity.tolerance
    )
