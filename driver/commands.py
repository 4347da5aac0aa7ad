"""What each verb of the command line does."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..backends.onnx import save
from ..frontends.onnx import fallback
from ..ir import Model, ParityError, TersorError, UsageError, to_text
from ..ir.inference import infer
from ..ir.rewrite import Explanation
from ..transforms.base import Pass, options_of
from ..transforms.instruments import Instruments
from ..transforms.options import make
from ..transforms.quantize.qoperator import has_qoperators, to_qdq
from . import api, files, folders, locks, report
from .compress import bisect, default_reproducers
from .data import Data, from_path
from .explain import known_rules, why
from .passes import available, resolve, with_selection
from .plugins import Registry
from .progress import Bars
from .recipes import Goal, Options, Recipe, lock_path, recipe
from .result import Result, report_kind
from .table import latency, ratio, rule_table, size, step_table
from .targets import Row, compare_targets, fastest, target_table

OK, GOAL_MISSED, PARITY = 0, 1, ParityError.exit_code
PYTORCH_FILES = ["model.py", "model.safetensors", "test_parity.py", "parity.safetensors"]


class StrictError(TersorError):
    """A warning where the user asked for none."""


def inspect(options: Namespace) -> int:
    model = api.load(options.model)
    if options.text:
        print(to_text(model.graph), end="")
        return OK
    found = dict(api.describe(model))
    if options.json:
        return _json(found)
    for key, value in found.items():
        if key == "layers":
            print("layers:")
            for layer in value:
                print(f"  {layer['name']:<40} {layer['op']:<20} {layer['shape']}")
        elif isinstance(value, dict):
            print(f"{key}:")
            for name, what in value.items():
                print(f"  {name:<24} {what}")
        else:
            print(f"{key:<12} {size(value) if key == 'bytes' else value}")
    return OK


def simplify(options: Namespace) -> int:
    return _one_pass(options, "simplify", level=options.level, assume=",".join(options.assume) or ())


def prune(options: Namespace) -> int:
    budget = ("flops", "parameters", "latency")
    names = (
        *budget,
        "ratio",
        "scope",
        "multiple_of",
        "max_ratio",
        "norms",
        "heads",
        "importance",
        "compensate",
        "rounds",
        "blocks",
    )
    return _one_pass(options, "prune", **{name: getattr(options, name) for name in names})


def quantize(options: Namespace) -> int:
    return _one_pass(options, "quantize", mode=options.mode, observer=options.observer)


def _one_pass(options: Namespace, name: str, **values: Any) -> int:
    steps = with_selection(
        [make(available()[name], values)], getattr(options, "only", ()), getattr(options, "skip", ())
    )
    chosen = _overridden(Recipe(tuple(steps), run=Options(runs=0)), options)
    output = files.output(options.output)
    files.ready([output], options.force)
    files.refuse_inputs([output], _read(chosen))
    model = api.load(options.model, freeze_defaults=chosen.run.freeze_defaults)
    if options.dry_run:
        return _plan(chosen.steps, [output])
    if options.bisect:
        return _bisect(options, model, chosen)
    result = _run(options, model, chosen)
    save(result.model, output, opset=chosen.opset)
    _show(options, result)
    return _verdict(result)


def _overridden(chosen: Recipe, options: Namespace) -> Recipe:
    """The recipe with what the command line says in place of what it says itself."""
    said = {
        "seed": options.seed,
        "opset": getattr(options, "opset", None),
        "runs": getattr(options, "runs", None),
        "freeze_defaults": options.freeze_defaults or None,
        "check": False if options.no_check else None,
    }
    run = replace(chosen.run, **{name: value for name, value in said.items() if value is not None})
    return replace(chosen, run=run) if options.data is None else replace(chosen.with_data(options.data), run=run)


def run(options: Namespace) -> int:
    chosen, output = _overridden(recipe(options.recipe), options), files.output(options.output)
    locked = [] if options.no_lock else [lock_path(output)]
    reports = [Path(path) for path in options.report]
    outputs = [output, *locked, *reports]
    files.ready(outputs, options.force)
    files.refuse_inputs([output, *reports], [Path(options.recipe), *_read(chosen)])
    for path in reports:
        report_kind(path)
    model = api.load(options.model, freeze_defaults=chosen.run.freeze_defaults)
    metrics = chosen.metrics()
    if options.dry_run:
        return _plan(chosen.steps, outputs)
    if options.bisect:
        return _bisect(options, model, chosen)
    inputs = _inputs(options, model, chosen) if locked or reports or chosen.lock is not None else ()
    if chosen.lock is not None:
        locks.require_same(chosen.lock, inputs)
        _other("not the versions of the lock", locks.other_versions(chosen.lock, chosen.steps), options.strict)
    if locked:
        chosen.to_json()  # what cannot be written down is better known before the work than after it
    result = _run(options, model, chosen, evaluate=metrics)
    result.save(output, opset=chosen.opset)
    written = [locks.file_of("onnx", path) for path in _saved(result, output)]
    _record(result, options, inputs, written)
    for path in reports:
        result.report(path)
    for path in locked:
        replace(chosen, lock=locks.Lock(locks.versions(chosen.steps), inputs, tuple(written))).save(path)
    _show(options, result)
    _wrote(options, outputs)
    if chosen.lock is not None:
        _other("not the bytes of the lock", locks.other_outputs(chosen.lock, written), options.strict)
    return _verdict(result)


def _other(what: str, found: Sequence[str], strict: bool) -> None:
    """Says what is not as a lock has it; an error where the user wants warnings to be errors."""
    if found and strict:
        raise StrictError(f"{what}: {', '.join(found)}", do="install the same versions, or run without --strict")
    if found:
        print(f"warning: {what}: {', '.join(found)}", file=sys.stderr)


def compress(options: Namespace) -> int:
    names = [
        "model.onnx",
        "report.html",
        "report.json",
        "lock.json",
        *(PYTORCH_FILES if options.pytorch else []),
    ]
    beside = folders.companions(options.model) if Path(options.model).is_dir() else []
    outputs = [Path(options.output) / name for name in (*names, *(p.name for p in beside))]
    files.refuse_existing(outputs, options.force)
    steps = with_selection(resolve(_methods(options)), options.only, options.skip)
    chosen = _overridden(Recipe(tuple(steps), Goal(options.goal or "", tuple(options.eval))), options)
    files.refuse_inputs(outputs, _read(chosen))
    model = api.load(options.model, freeze_defaults=chosen.run.freeze_defaults)
    metrics = chosen.metrics()
    if options.dry_run:
        return _plan(chosen.steps, outputs)
    if options.bisect:
        return _bisect(options, model, chosen)
    with files.working_folder(options.output) as folder:
        inputs = _inputs(options, model, chosen)
        chosen.to_json()
        result = _run(options, model, chosen, evaluate=metrics)
        result.save(folder / "model.onnx")
        folders.copy(beside, folder)
        written = [locks.file_of("onnx", path) for path in _saved(result, folder / "model.onnx")]
        if options.pytorch:
            result.emit_pytorch(folder)
        lock = locks.Lock(locks.versions(chosen.steps), inputs, tuple(written))
        replace(chosen, lock=lock).save(folder / "lock.json")
        more = [folder / name for name in (PYTORCH_FILES if options.pytorch else [])]
        _record(result, options, inputs, [*written, *(locks.file_of(p.suffix[1:], p) for p in more)])
        result.report(folder / "report.json")
        result.report(folder / "report.html")
    _show(options, result)
    _wrote(options, outputs)
    return _verdict(result)


def _read(chosen: Recipe) -> list[Path]:
    """The files that a recipe names."""
    modules = [Path(reference.rpartition(":")[0]) for reference in chosen.references]
    return [*modules, *([chosen.samples] if chosen.samples is not None else [])]


def _wrote(options: Namespace, outputs: Sequence[Path]) -> None:
    if not options.quiet and not options.json:
        print(f"wrote {', '.join(str(p) for p in outputs)}")


def _verdict(result: Result) -> int:
    for missed in result.missed:
        print(f"missed: {missed}", file=sys.stderr)
    return OK if not result.missed and (result.record.goal is None or result.met) else GOAL_MISSED


def _methods(options: Namespace) -> str:
    if options.methods != "auto":
        return options.methods
    return "simplify,quantize" if options.data else "simplify"


def _saved(result: Result, path: Path) -> list[Path]:
    """The saved model's files. It must compute exactly what the model in memory computes; what users get is the
    file.
    """
    saved = api.load(path)
    api.verify(result.model, saved, Data(lambda: iter(result.feeds), "the comparison inputs"), tolerance=0.0)
    return [path, *(p for p in locks.weight_files(saved) if p.resolve() != path.resolve())]


def _inputs(options: Namespace, model: Model, chosen: Recipe) -> tuple[report.File, ...]:
    """The files that a run reads, as they are before it."""
    path = Path(folders.model_in(options.model) or options.model)
    found = locks.input_files(path, model, chosen.samples, chosen.references)
    return tuple(locks.file_of(role, path) for role, path in found)


def _record(result: Result, options: Namespace, inputs: Sequence[report.File], written: Sequence[report.File]) -> None:
    """Puts the files of a run and the model's name into its record."""
    run = replace(result.record.run, inputs=tuple(inputs), outputs=tuple(written))
    named = replace(result.record.model, name=files.printable(Path(options.model).stem))
    result.record = replace(result.record, model=named, run=run)


def verify(options: Namespace) -> int:
    reference, candidate = api.load(options.reference), api.load(options.candidate)
    data = from_path(options.data, reference.graph) if options.data else None
    parity = api.verify(reference, candidate, data, tolerance=options.tolerance, seed=options.seed)
    if options.json:
        return _json(
            {"max_error": parity.max_error, "sqnr_db": parity.sqnr_db, "cosine": parity.cosine, "inputs": parity.inputs}
        )
    shown = "exact" if parity.sqnr_db is None else f"SQNR {parity.sqnr_db:.1f} dB"
    print(f"equal within {parity.tolerance:g}: max error {parity.max_error:.3g}, {shown}, on {parity.inputs} inputs")
    return OK


def bench(options: Namespace) -> int:
    if options.target:
        return _bench_targets(options)
    models = [api.load(path) for path in options.models]
    data = from_path(options.data, models[0].graph) if options.data else None
    timed = api.benchmark(models, data, runs=options.runs, seed=options.seed)
    if options.json:
        return _json([{"model": p, **_latency_fields(t)} for p, t in zip(options.models, timed, strict=True)])
    for path, one in zip(options.models, timed, strict=True):
        print(f"{path:<40} {latency(one):>20} {ratio(one):>8}")
    return OK


def _bench_targets(options: Namespace) -> int:
    """One model in every precision of the targets."""
    if len(options.models) > 1:
        raise UsageError(
            "--target is for one model", why="its precisions are compared with each other", do="give one MODEL"
        )
    model = api.load(options.models[0])
    data = from_path(options.data, model.graph) if options.data else None
    with Bars(enabled=not options.quiet and not options.json) as bars:
        rows = compare_targets(model, options.target, data, runs=options.runs, seed=options.seed, progress=bars.update)
    if options.json:
        return _json([_target_fields(row) for row in rows])
    Console(width=160, highlight=False).print(target_table(rows))
    best = fastest(rows)
    print(f"fastest: {best.precision} on {best.target}{f' ({best.pipeline})' if best.pipeline else ''}")
    return OK


def _target_fields(row: Row) -> dict[str, Any]:
    timed = _latency_fields(row.latency) if row.latency else {}
    sqnr = row.sqnr_db if row.sqnr_db is None or math.isfinite(row.sqnr_db) else None
    return {**asdict(row), "latency": timed or None, "sqnr_db": sqnr}


def _latency_fields(timed: report.Latency) -> dict[str, float | int | None]:
    names = ("median_ms", "low_ms", "high_ms", "ratio", "ratio_low", "ratio_high", "runs")
    return {name: getattr(timed, name) for name in names}


def emit(options: Namespace) -> int:
    model = api.load(options.model)
    output = Path(options.output)
    if options.to == "onnx":
        if options.dequantize:
            raise UsageError("--dequantize goes with --to pytorch", do="leave it out")
        files.ready([output], options.force)
        save(model, output, opset=None if options.opset == "keep" else options.opset)
        written = [output]
    else:
        from ..backends.torch import emit as emit_pytorch

        if options.opset is not None:
            raise UsageError("--opset goes with --to onnx", do="leave it out")
        files.refuse_existing([output / name for name in PYTORCH_FILES], options.force)
        if has_qoperators(model.graph):
            to_qdq(model.graph)
            infer(model.graph, fallback)
        with files.working_folder(output) as folder:
            written = list(emit_pytorch(model, folder, dequantize=options.dequantize).files)
    if options.json:
        return _json({"files": [str(p) for p in written]})
    if not options.quiet:
        print(f"wrote {', '.join(str(p) for p in written)}")
    return OK


def _run(options: Namespace, model: Model, chosen: Recipe, **more: Any) -> Result:
    data = from_path(chosen.samples, model.graph) if chosen.samples is not None else None
    with Bars(enabled=not options.quiet and not options.json) as bars, _workers(options) as executor:
        result = chosen.apply(
            model,
            data=data,
            instruments=_instruments(options),
            progress=bars.update,
            executor=executor,
            call=files.printable(" ".join(["tersor", *sys.argv[1:]])),
            **more,
        )
    warned = result.record.warnings
    if warned and options.strict:
        raise StrictError(
            f"{warned[0].code}: {warned[0].message}", where=warned[0].where, do="fix it, or run without --strict"
        )
    if not options.quiet:
        for one in warned:
            print(f"warning {one.code}: {one.message}{f' ({one.where})' if one.where else ''}", file=sys.stderr)
    return result


@contextmanager
def _workers(options: Namespace) -> Iterator[Executor | None]:
    """Threads for what can be shared out; None for one thing after the other. An error does not wait for the rest."""
    jobs = getattr(options, "jobs", 1)
    if jobs == 1:
        yield None
        return
    executor = ThreadPoolExecutor(jobs)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _instruments(options: Namespace) -> Instruments:
    return Instruments(
        print_before=tuple(options.print_before),
        print_after=tuple(options.print_after),
        print_changed=tuple(options.print_changed),
        print_on_failure=tuple(options.print_on_failure),
        folder=Path(options.print_to) if options.print_to else None,
        reproducers=Path(options.reproducers) if options.reproducers else default_reproducers(),
        reproducer_weights=options.reproducer_weights,
    )


def _bisect(options: Namespace, model: Model, chosen: Recipe) -> int:
    """Names the first rewrite that breaks a pass's promise; writes nothing."""
    data = from_path(chosen.samples, model.graph) if chosen.samples is not None else None
    culprit = bisect(model, *chosen.steps, data=data, seed=chosen.run.seed)
    if options.json:
        return _json(None if culprit is None else asdict(culprit)) or (OK if culprit is None else PARITY)
    print("no rewrite breaks what its pass promises" if culprit is None else str(culprit))
    return OK if culprit is None else PARITY


def explain(options: Namespace) -> int:
    model = api.load(options.model)
    found = why(options.rule, model, options.at)
    if options.json:
        answers = [found] if isinstance(found, Explanation) else found.answers
        return _json([asdict(answer) for answer in answers])
    print(found)
    return OK


def passes(options: Namespace) -> int:
    if options.rules:
        rules = {name: " ".join(each.doc.split()) for name, each in known_rules().items()}
        if options.json:
            return _json(rules)
        for name, doc in rules.items():
            print(f"{name:<44} {doc}")
        return OK
    registry = available()
    rows = {name: {"from": registry.origin(name), **_pass_row(registry, name)} for name in registry}
    if options.json:
        return _json(rows)
    for name, row in rows.items():
        print(f"{name:<16} {row['from']:<24} {row['about']}")
        if row["options"]:
            print(f"{'':<16} {', '.join(row['options'])}")
    return OK


def _pass_row(registry: Registry, name: str) -> dict[str, Any]:
    """What there is to say of a pass; of one that cannot be used, why."""
    try:
        kind = registry[name]
    except UsageError as error:
        return {"about": f"{error.what}: {error.why}", "options": []}
    about = (kind.__doc__ or "").strip().splitlines() or [""]
    return {"about": about[0], "options": [k if v is MISSING else f"{k}={v!r}" for k, v in options_of(kind).items()]}


def _plan(passes: Sequence[Pass], outputs: Sequence[Path]) -> int:
    print("would run " + ", ".join(str(p) for p in passes))
    print("would write " + ", ".join(str(p) for p in outputs))
    return OK


def _show(options: Namespace, result: Result) -> int:
    if options.json:
        print(result.record.to_json())
        return OK
    console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty(), highlight=False)
    console.print(step_table(result.record))
    if options.stats:
        console.print(rule_table(result.record))
    if result.record.goal is not None:
        console.print(result.why, markup=False)
    return OK


def _json(value: Any) -> int:
    print(json.dumps(value, indent=2, sort_keys=True))
    return OK
