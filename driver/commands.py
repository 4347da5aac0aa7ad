"""What each verb of the command line does."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from ..backends.onnx import save
from ..ir import Model, ParityError, TersorError, UsageError, to_text
from ..ir.rewrite import Explanation
from ..transforms.base import Pass, options_of
from ..transforms.instruments import Instruments
from ..transforms.parity import Check
from . import api, files, folders, report
from .compress import bisect, default_reproducers
from .compress import compress as run_compress
from .data import Data, from_path
from .evaluate import load_function
from .explain import known_rules, why
from .passes import available, resolve, with_selection
from .plugins import Registry
from .progress import Bars
from .result import Result
from .table import latency, ratio, rule_table, size, step_table

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
    assume = f", assume={','.join(options.assume)!r}" if options.assume else ""
    return _one_pass(options, f"simplify(level={options.level!r}{assume})")


def prune(options: Namespace) -> int:
    compensate = None if options.compensate == "none" else options.compensate
    return _one_pass(
        options,
        f"prune(ratio={options.ratio}, scope={options.scope!r}, multiple_of={options.multiple_of}, "
        f"importance={options.importance!r}, compensate={compensate!r})",
    )


def quantize(options: Namespace) -> int:
    return _one_pass(options, f"quantize(mode={options.mode!r}, observer={options.observer!r})")


def _one_pass(options: Namespace, pipeline: str) -> int:
    output = Path(options.output)
    files.refuse_existing([output], options.force)
    model = api.load(options.model, freeze_defaults=options.freeze_defaults)
    passes = with_selection(resolve(pipeline), getattr(options, "only", ()), getattr(options, "skip", ()))
    if options.dry_run:
        return _plan(passes, [output])
    if options.bisect:
        return _bisect(options, model, passes)
    result = _run(options, model, passes, runs=0)
    save(result.model, output, opset=options.opset)
    return _show(options, result)


def compress(options: Namespace) -> int:
    names = [
        "model.onnx",
        "report.html",
        "report.json",
        *(PYTORCH_FILES if options.pytorch else []),
    ]
    beside = folders.companions(options.model) if Path(options.model).is_dir() else []
    outputs = [Path(options.output) / name for name in (*names, *(p.name for p in beside))]
    files.refuse_existing(outputs, options.force)
    model = api.load(options.model, freeze_defaults=options.freeze_defaults)
    metrics = dict(load_function(reference) for reference in options.eval)
    passes = with_selection(resolve(_methods(options)), options.only, options.skip)
    if options.dry_run:
        return _plan(passes, outputs)
    if options.bisect:
        return _bisect(options, model, passes)
    folder = files.folder(options.output)
    result = _run(options, model, passes, runs=options.runs, goal=options.goal, evaluate=metrics)
    result.save(folder / "model.onnx")
    folders.copy(beside, folder)
    _reload(result, folder / "model.onnx")
    if options.pytorch:
        result.emit_pytorch(folder)
    result.record = replace(result.record, model=replace(result.record.model, name=Path(options.model).stem))
    result.record = _with_files(result.record, options, [folder / n for n in names if not n.startswith("report")])
    result.report(folder / "report.json")
    result.report(folder / "report.html")
    _show(options, result)
    if not options.quiet and not options.json:
        print(f"wrote {', '.join(str(p) for p in outputs)}")
    return OK if result.record.goal is None or result.met else GOAL_MISSED


def _methods(options: Namespace) -> str:
    if options.methods != "auto":
        return options.methods
    return "simplify,quantize" if options.data else "simplify"


def _reload(result: Result, path: Path) -> None:
    """The saved file must compute exactly what the model in memory computes; what users get is the file."""
    api.verify(result.model, api.load(path), _feeds(result), tolerance=0.0)


def _feeds(result: Result) -> Data:
    return Data(lambda: iter(result.feeds), "the comparison inputs")


def _with_files(record: report.Report, options: Namespace, written: Sequence[Path]) -> report.Report:
    read = [
        (role, Path(path))
        for role, path in (("model", folders.model_in(options.model) or options.model), ("data", options.data))
        if path and Path(path).is_file()
    ]
    run = replace(
        record.run,
        inputs=tuple(_file(role, path) for role, path in read),
        outputs=tuple(_file(path.suffix[1:], path) for path in written),
    )
    return replace(record, run=run)


def _file(role: str, path: Path) -> report.File:
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return report.File(role=role, name=path.name, sha256=digest.hexdigest(), bytes=path.stat().st_size)


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
    models = [api.load(path) for path in options.models]
    data = from_path(options.data, models[0].graph) if options.data else None
    timed = api.benchmark(models, data, runs=options.runs, seed=options.seed)
    if options.json:
        return _json([{"model": p, **_latency_fields(t)} for p, t in zip(options.models, timed, strict=True)])
    for path, one in zip(options.models, timed, strict=True):
        print(f"{path:<40} {latency(one):>20} {ratio(one):>8}")
    return OK


def _latency_fields(timed: report.Latency) -> dict[str, float | int | None]:
    names = ("median_ms", "low_ms", "high_ms", "ratio", "ratio_low", "ratio_high", "runs")
    return {name: getattr(timed, name) for name in names}


def emit(options: Namespace) -> int:
    model = api.load(options.model)
    output = Path(options.output)
    if options.to == "onnx":
        files.refuse_existing([output], options.force)
        save(model, output, opset=options.opset)
        written = [output]
    else:
        from ..backends.torch import emit as emit_pytorch

        if options.opset is not None:
            raise UsageError("--opset goes with --to onnx", do="leave it out")
        files.refuse_existing([output / name for name in PYTORCH_FILES], options.force)
        written = list(emit_pytorch(model, files.folder(output)).files)
    if options.json:
        return _json({"files": [str(p) for p in written]})
    if not options.quiet:
        print(f"wrote {', '.join(str(p) for p in written)}")
    return OK


def _run(options: Namespace, model: Model, passes: Sequence[Pass], **more: Any) -> Result:
    data = from_path(options.data, model.graph) if options.data else None
    check = Check(enabled=False) if options.no_check else None
    with Bars(enabled=not options.quiet and not options.json) as bars:
        result = run_compress(
            model,
            more.pop("goal", None),
            data=data,
            methods=passes,
            check=check,
            instruments=_instruments(options),
            seed=options.seed,
            progress=bars.update,
            call="tersor " + " ".join(sys.argv[1:]),
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


def _bisect(options: Namespace, model: Model, passes: Sequence[Pass]) -> int:
    """Names the first rewrite that breaks a pass's promise; writes nothing."""
    data = from_path(options.data, model.graph) if options.data else None
    culprit = bisect(model, *passes, data=data, seed=options.seed)
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
    return {"about": about[0], "options": [f"{k}={v!r}" for k, v in options_of(kind).items()]}


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
