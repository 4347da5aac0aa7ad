"""Runs passes on a model and measures every step: the engine behind `tersor.apply` and `tersor.compress`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ..backends.runners import Feeds, Runner, synthesize
from ..backends.runners.rounded import RoundedRunner, runner_of
from ..frontends.onnx import fallback
from ..ir import Model, UsageError
from ..transforms.base import Context, Pass, Progress, silent
from ..transforms.bisect import Culprit
from ..transforms.instruments import Instruments
from ..transforms.manager import Step, run_passes
from ..transforms.manager import bisect as bisect_passes
from ..transforms.parity import Check
from ..transforms.samples import few, has_open_batch, single
from . import measure, report
from .data import Data
from .environment import platform, tool
from .evaluate import Evaluate, scores
from .goals import judge, parse_goal
from .passes import resolve, with_selection
from .result import Result
from .rows import layer_rows, rule_rows

PARITY_FEEDS, PARITY_SAMPLES = 4, 16
"""Feeds of the user's data on which the distance from the original is measured, and the samples in them at most, where
the batch is open."""


def apply(
    model: Model,
    *passes: Pass | str,
    data: Data | None = None,
    check: Check | None = None,
    instruments: Instruments | None = None,
    seed: int = 0,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Result:
    """Runs passes on a copy of `model`, verified and compared after each; the figures of each step but no latency or
    metrics.

    instruments: what is printed around the passes, and what is written down when one fails (by default a folder below
    the system's temporary one, without your weights, that the error names). executor: any of concurrent.futures that
    shares memory, for calibration; what comes out is the same. Raises ParityError when an exact or masked pass changed
    the outputs, UsageError for options that do not fit.
    """
    return _run(
        model,
        resolve(list(passes)),
        data=data,
        check=check,
        instruments=instruments,
        seed=seed,
        progress=progress,
        executor=executor,
        call=_call("apply", passes),
    )


def bisect(
    model: Model, *passes: Pass | str, data: Data | None = None, check: Check | None = None, seed: int = 0
) -> Culprit | None:
    """The first rewrite of the passes that breaks what the pass promises, down to one firing of a rule; None where none
    does.

    Print it for the rule, the node, its place in your model, the difference, and what it changed in the graph. The
    model stays as it is. Raises UsageError for passes that do not exist or cannot run.
    """
    bound = data.bound(model.graph) if data is not None else None
    check = check or Check(inputs=parity_feeds(model, bound, seed)[:2] if bound is not None else None)
    context = Context(samples=bound, seed=seed, fallback=fallback)
    return bisect_passes(model, resolve(list(passes)), context, check)


def compress(
    model: Model,
    goal: str | None = None,
    *,
    data: Data | None = None,
    evaluate: Mapping[str, Evaluate] | None = None,
    methods: str | Sequence[str | Pass] = "auto",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    check: Check | None = None,
    instruments: Instruments | None = None,
    target: Literal["ort-cpu"] = "ort-cpu",
    seed: int = 0,
    runs: int = measure.RUNS,
    progress: Progress = silent,
    executor: Executor | None = None,
    call: str = "",
) -> Result:
    """Runs `methods` in order on a copy of `model`, measures every step, and judges `goal` at the end.

    goal: conditions such as "latency<=0.6x, drop(top1)<=0.5%, size<=25MB". data: calibration samples. evaluate: the
    user's metrics by name. methods: names, pipeline texts or passes; "auto" is simplify, then static int8 when there is
    calibration data. only and skip: patterns of layers for the passes that select layers. runs: timed runs of each step
    for the latency; 0 measures none. executor: as for `apply`; nothing is timed in it. Raises UsageError, ParityError
    and whatever a pass raises; a missed goal is no error: see `Result.met`.
    """
    if target != "ort-cpu":
        raise UsageError(f"there is no target {target!r}", do="the target is ort-cpu")
    evaluate = dict(evaluate or {})
    conditions = parse_goal(goal or "", tuple(evaluate))
    if methods == "auto":
        methods = ["simplify", "quantize"] if data is not None else ["simplify"]
    passes = with_selection(resolve(methods), only, skip)
    result = _run(
        model,
        passes,
        data=data,
        check=check,
        instruments=instruments,
        seed=seed,
        progress=progress,
        executor=executor,
        call=call or _call("compress", passes),
        evaluate=evaluate,
        runs=runs,
    )
    options = {"goal": goal or "", "methods": ",".join(map(str, passes)), "target": target, "runs": str(runs)}
    result.record = replace(
        result.record,
        goal=judge(conditions, result.record.steps),
        run=replace(result.record.run, options={name: text for name, text in options.items() if text}),
    )
    return result


def _call(name: str, passes: Sequence[Pass | str]) -> str:
    return f"tersor.{name}({', '.join(str(p) for p in passes)})"


def _run(
    model: Model,
    passes: Sequence[Pass],
    *,
    data: Data | None,
    check: Check | None,
    instruments: Instruments | None,
    seed: int,
    progress: Progress,
    executor: Executor | None,
    call: str,
    evaluate: Mapping[str, Evaluate] | None = None,
    runs: int = 0,
) -> Result:
    if type(executor).__module__ == "concurrent.futures.process":
        raise UsageError(
            "work cannot be shared out to other processes",
            why="a session of ONNX Runtime stays in its own",
            do="give a ThreadPoolExecutor",
        )
    original, working = model.clone(), model.clone()
    bound = data.bound(working.graph) if data is not None else None
    feeds = parity_feeds(original, bound, seed)
    check = check or Check(inputs=feeds[:2] if bound is not None else None)
    context = Context(samples=bound, seed=seed, fallback=fallback, progress=progress, executor=executor)
    instruments = instruments or Instruments(reproducers=default_reproducers())
    steps = run_passes(working, passes, context, check, instruments=instruments)
    source: Literal["given", "synthetic"] = "given" if bound is not None else "synthetic"
    once = not runs and not evaluate
    reference = runner_of(original, once=once)
    rows = [
        report.Step(
            name="baseline",
            contract="baseline",
            metrics=scores(evaluate or {}, reference.run),
            **measure.static_figures(original, feeds[0]),
        )
    ]
    runners: list[Runner] = [reference]
    expected = [reference.run(feed) for feed in feeds]
    for index, step in enumerate(steps, start=1):
        progress("measure", index, len(steps))
        runner = runner_of(step.model, once=once)
        against_original = measure.as_parity(
            measure.distance(expected, runner, feeds),
            kind=step.contract,
            against="the original model",
            inputs=source,
        )
        rows.append(_step_row(step, scores(evaluate or {}, runner.run), against_original, feeds[0]))
        if runs:
            runners.append(runner)
    if runs:
        rows = timed(rows, runners, single(original.graph, feeds[0]), runs, progress)
    record = report.Report(
        model=report.Model(name=original.graph.name or "model", **interface(original)),
        run=run_record(call, seed),
        steps=tuple(rows),
        layers=tuple(layer_rows(original, steps, feeds[0])),
        warnings=tuple(
            report.ReportWarning(code=c, message=m, where=w) for s in steps for c, m, w in s.outcome.warnings
        ),
    )
    return Result(model=working, original=original, steps=steps, record=record, feeds=feeds)


def timed(
    rows: Sequence[report.Step], runners: Sequence[Runner], feed: Feeds, runs: int, progress: Progress
) -> list[report.Step]:
    """The rows with their latencies; without where ONNX Runtime does not run the model as it is."""
    able = [i for i, runner in enumerate(runners) if not isinstance(runner, RoundedRunner)]
    if 0 not in able:
        return list(rows)
    latencies = measure.latencies([runners[i] for i in able], feed, runs, progress)
    found = dict(zip(able, latencies, strict=True))
    return [replace(row, latency=found.get(i)) for i, row in enumerate(rows)]


def default_reproducers() -> Path:
    """Where failures of passes are written down unless the caller says otherwise."""
    return Path(tempfile.gettempdir()) / "tersor-reproducers"


def parity_feeds(model: Model, data: Data | None, seed: int) -> list[Feeds]:
    """Inputs for comparisons: the first of the user's data, else synthesized ones (typed, seeded)."""
    if data is None:
        return list(synthesize(model.graph, count=2, seed=seed))
    held = few(model.graph, data, PARITY_SAMPLES) if has_open_batch(model.graph) else data
    return list(islice(held, PARITY_FEEDS))


def interface(model: Model) -> dict[str, Any]:
    """The model's inputs and outputs as the report shows them."""
    graph = model.graph
    return {
        "inputs": tuple(report.Port(name=v.name, type=repr(v.type)) for v in graph.inputs),
        "outputs": tuple(
            report.Port(name=n, type=repr(v.type)) for n, v in zip(graph.output_names, graph.outputs, strict=True)
        ),
        "opset": model.source_opset or None,
    }


def _step_row(step: Step, scored: dict[str, report.Metric], distance: report.Parity, feed: Feeds) -> report.Step:
    return report.Step(
        name=step.done.name,
        transform=str(step.done),
        contract=step.contract,
        seconds=step.seconds,
        metrics=scored,
        parity=measure.of_check(step.parity, step.contract) if step.parity is not None else None,
        distance=distance,
        rules=rule_rows(step),
        notes=tuple(step.outcome.notes),
        **measure.static_figures(step.model, feed),
    )


def run_record(call: str, seed: int | None) -> report.Run:
    """Versions and the machine, for whoever wants to do it again."""
    return report.Run(tool=tool(), platform=platform(), command=call, seed=seed)
