"""One network in every precision of every runtime: what `tersor bench --target` shows.

Nobody can say beforehand which runtime and which precision suit a network: on one CPU bfloat16 beats int8 for small
depthwise networks and loses to it by half for large dense ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from ..backends.onnx import file_bytes
from ..backends.runners import OrtRunner, Runner
from ..backends.runners.openvino_cpu import OpenVinoRunner, core_of, has_bf16
from ..ir import Model, TersorError, UsageError
from ..transforms.base import Progress, silent
from ..transforms.parity import Check
from ..transforms.samples import single
from . import measure, report
from .compress import apply, parity_feeds
from .data import Data
from .table import latency, ratio, size

FLOAT = ""
"""The pipeline of a network that stays as it is."""


@dataclass(frozen=True)
class Candidate:
    """A precision on a target: the passes behind `simplify` that give it, to networks with convolutions and to those
    of matrix products; `computes` is what the rest is computed in, and None for either where the precision does not
    exist. `calibrated`: it needs data.
    """

    images: str
    products: str
    computes: str = "f32"
    calibrated: bool = True


def _int8(more: str = "", computes: str = "f32") -> Candidate:
    options = f", {more}" if more else ""
    return Candidate(f"quantize(observer='auto', correct_bias=True{options})", f"smooth,quantize({more})", computes)


PLAIN = Candidate(FLOAT, FLOAT, calibrated=False)
OPENVINO = "target='openvino-cpu'"

CANDIDATES: Mapping[str, Mapping[str, Candidate]] = {
    "ort-cpu": {
        "fp32": PLAIN,
        "dynamic int8": Candidate("", "quantize(mode='dynamic')", calibrated=False),
        "int8": _int8(),
        "mixed": _int8("cost_aware=True, slack=0.05, gain='measured'"),
    },
    "openvino-cpu": {
        "fp32": PLAIN,
        "bf16": replace(PLAIN, computes="bf16"),
        "int8": _int8(OPENVINO),
        "mixed": _int8(OPENVINO, "bf16"),
    },
}
"""Target -> precision -> how it is made. "mixed" is int8 with layers in float where that was measured to pay, and on
OpenVINO with bfloat16 for what is not quantized."""


@dataclass(frozen=True)
class Row:
    """A precision on a target: its latency with the ratio to the first row, the SQNR of its outputs, and the file's
    size; `why` says instead why there is none.
    """

    target: str
    precision: str
    pipeline: str = ""
    latency: report.Latency | None = None
    sqnr_db: float | None = None
    bytes: int | None = None
    why: str = ""


def compare_targets(
    model: Model,
    targets: Sequence[str],
    data: Data | None = None,
    *,
    runs: int = measure.RUNS,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Row]:
    """Every precision on every target, timed in turns in one run on one thread; the first row is `model` as it is, in
    ONNX Runtime.

    Static int8 needs `data`; without it those rows say so. A precision that cannot be made or run has the reason in its
    row. Raises UsageError for a target that there is not or whose runtime is not installed.
    """
    for target in targets:
        if target not in CANDIDATES:
            raise UsageError(f"there is no target {target!r}", do=f"there are {', '.join(CANDIDATES)}")
        if target == "openvino-cpu":
            core_of()
    feeds = parity_feeds(model, data.bound(model.graph) if data is not None else None, seed)
    original = OrtRunner(model)
    rows, runners = [Row("ort-cpu", "as given", bytes=file_bytes(model))], dict[int, Runner]({0: original})
    wanted = [(t, p, c) for t in dict.fromkeys(targets) for p, c in CANDIDATES[t].items()]
    made: dict[str, Model] = {}
    for done, (target, precision, candidate) in enumerate(wanted, 1):
        pipeline = pipeline_for(model, candidate)
        row = Row(target, precision, pipeline, why=why_not(model, target, candidate, data))
        if not row.why:
            try:
                if pipeline not in made:
                    made[pipeline] = apply(model, pipeline, data=data, check=Check(enabled=False), seed=seed).model
                runner = runner_of(target, made[pipeline], candidate)
                found = measure.distance(map(original.run, feeds), runner, feeds)
                row = replace(row, sqnr_db=found.sqnr_db, bytes=file_bytes(made[pipeline]))
                runners[len(rows)] = runner
            except TersorError as error:
                row = replace(row, why=f"{error.what}{f': {error.why}' if error.why else ''}")
        rows.append(row)
        progress("preparing", done, len(wanted))
    timed = measure.latencies(list(runners.values()), single(model.graph, feeds[0]), runs, progress)
    for place, one in zip(runners, timed, strict=True):
        rows[place] = replace(rows[place], latency=one)
    return rows


def pipeline_for(model: Model, candidate: Candidate) -> str:
    """The passes that give a precision to this network."""
    images = any(node.op == "Conv" for node in model.graph)
    passes = candidate.images if images else candidate.products
    return f"simplify,{passes}" if passes else "simplify"


def why_not(model: Model, target: str, candidate: Candidate, data: Data | None) -> str:
    """Why a precision is not tried; '' where it is."""
    if candidate.calibrated and data is None:
        return "needs calibration data (--data)"
    if candidate.computes == "bf16" and not has_bf16(core_of()):
        return "this CPU does not compute in bfloat16"
    if not candidate.calibrated and candidate is not PLAIN and pipeline_for(model, candidate) == "simplify":
        return "" if candidate.computes == "bf16" else "for networks of matrix products"
    return ""


def runner_of(target: str, model: Model, candidate: Candidate) -> Runner:
    return OpenVinoRunner(model, precision=candidate.computes) if target == "openvino-cpu" else OrtRunner(model)


def fastest(rows: Sequence[Row]) -> Row:
    """The row with the smallest ratio."""
    return min((r for r in rows if r.latency and r.latency.ratio), key=lambda r: (r.latency and r.latency.ratio) or 1.0)


def target_table(rows: Sequence[Row]) -> Table:
    """One row per precision and target; where one could not be had, the reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "precision"):
        table.add_column(heading, no_wrap=True)
    for heading in ("latency", "ratio", "SQNR dB", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        noise = "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}" if math.isfinite(row.sqnr_db) else "exact"
        timed = [latency(row.latency), ratio(row.latency)] if row.latency else ["", ""]
        stored = "" if row.bytes is None else size(row.bytes)
        table.add_row(*[Text(c) for c in (row.target, row.precision, *timed, noise, stored, row.why)])
    return table
