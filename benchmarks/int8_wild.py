"""Int8 of any file: python benchmarks/int8_wild.py FOLDER... [--pipeline TEXT] [--results FILE] [--report]

Every ONNX file below the folders that ONNX Runtime runs on made-up inputs is quantized with them, in a process of its
own that is ended after --timeout seconds. Nothing may end in a traceback or a crash; the result must be a valid graph
that runs, with the same outputs, and every layer of the float file in the table of decisions.
What is refused needs a reason. SQNR is of the worst output, on the very inputs that were calibrated on: a low one
without a warning is worth a look. An `<file>.npz` beside the file with keys `set0__<input>` gives its inputs.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from children import forked
from tersor import Check, apply, load
from tersor import data as samples_of
from tersor.backends.compare import Comparison
from tersor.backends.runners import OrtRunner, synthesize
from tersor.ir import Model, TersorError, verify
from tersor.transforms.quantize.layers import LAYERS

PIPELINE = "simplify,quantize"
SAMPLES = 2
LOW_DB = 10.0


def inputs(model: Model, path: Path) -> list[dict[str, Any]]:
    """The inputs beside the file, else some that fit the model's types."""
    beside = path.with_suffix(".npz")
    if beside.exists():
        with np.load(beside) as archive:
            feed = {k.removeprefix("set0__"): archive[k] for k in archive.files if k.startswith("set0__")}
        if feed:
            return [feed]
    return [dict(feed) for feed in synthesize(model.graph, count=SAMPLES)]


def tried(sender: Connection, path: Path, pipeline: str) -> None:
    """Sends what became of one file."""
    found: dict[str, Any] = {"kind": "not run by ONNX Runtime"}
    try:
        model = load(path, freeze_defaults=True)
        feeds = inputs(model, path)
        reference = OrtRunner(model)
        expected = [reference.run(feed) for feed in feeds]
    except Exception as error:
        sender.send(found | {"why": f"{type(error).__name__}: {error}"[:200]})
        return
    try:
        result = apply(model, pipeline, data=samples_of(feeds), check=Check(enabled=False))
        step = result.steps[-1]
        verify(result.model.graph)
        found["layers"] = Counter(d.decision for d in step.outcome.decisions)
        found["warnings"] = [" ".join(w[:2])[:160] for w in step.outcome.warnings]
        before = sum(n.op in LAYERS and not n.domain for n in result.steps[-2].model.graph.walk())
        runner = OrtRunner(result.model)
        compared = {name: Comparison() for name in expected[0]}
        for feed, wanted in zip(feeds, expected, strict=True):
            for name, value in runner.run(feed).items():
                compared[name].update(wanted[name], value)
        differences = [c.difference() for c in compared.values()]
        found["sqnr"] = min((d.sqnr_db for d in differences), default=None)
        quantized = found["layers"].get("int8", 0)
        lost = before > len(step.outcome.decisions)
        found["kind"] = "a layer is lost" if lost else "in int8" if quantized else "no layer for int8"
    except TersorError as error:
        found |= {"kind": "refused", "why": f"{error.what}; {error.why}"[:300]}
    except Exception:
        found |= {"kind": "traceback", "why": traceback.format_exc()[-600:]}
    sender.send(found)


def table(results: dict[str, dict[str, Any]]) -> str:
    kinds = Counter(row.get("kind", row.get("stage", "")) for row in results.values())
    lines = [f"{count} {kind}" for kind, count in kinds.most_common()]
    for path, row in sorted(results.items()):
        kind, sqnr = row.get("kind", row.get("stage")), row.get("sqnr")
        low = kind == "in int8" and sqnr is not None and not sqnr >= LOW_DB
        if low or kind not in ("in int8", "no layer for int8", "not run by ONNX Runtime"):
            said = row.get("why") or row.get("error") or "; ".join(row.get("warnings", ()))
            lines.append(f"* {path}: {kind}{f', {sqnr:.1f} dB' if low else ''}: {said}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--pipeline", default=PIPELINE)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--results", type=Path, default=Path("int8_wild.json"))
    parser.add_argument("--report", action="store_true", help="show the results and try nothing")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {}
    paths = sorted((p for f in options.folders for p in f.rglob("*.onnx")), key=lambda p: (p.stat().st_size, p))
    for done, path in enumerate(paths if not options.report else ()):
        if str(path) in results:
            continue
        print(f"{done + 1}/{len(paths)} {path}", file=sys.stderr, flush=True)
        results[str(path)] = forked(tried, path, options.pipeline, timeout=options.timeout)
        options.results.write_text(json.dumps(results, indent=1))
    print(table(results))
    return int(any(r.get("kind") in ("traceback", "a layer is lost") or "stage" in r for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())
