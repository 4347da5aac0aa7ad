"""PyTorch in and out, over real architectures: python benchmarks/torch_zoo.py [--only FAMILY...] [--models PATTERN...]

Needs torch, torchvision, timm and transformers, and onnxscript for the peer; weights are random, nothing is downloaded.
Each architecture is exported in a process of its own with a time limit; figures are kept in --results, and what is
there is not measured again (--again does, --failed does where something went wrong). Per architecture: whether our own
rules lower it (else the operators that lack a rule), whether outputs equal torch's within the tolerance of the weights'
element type (ONNX Runtime without optimizations on what was imported, with them on what is saved after `simplify`),
operators after `simplify`, and parameter names kept at level "train".

Time is CPU time of one thread from the ExportedProgram to an ONNX file on the disk, beside `torch.onnx.export` of the
same program in the same process (--skip-peer leaves that out). Each runs once, in a process forked from one in which a
small program has gone through both. Then the model is emitted as PyTorch source at level "train": whether its outputs
and keys are those of the original module, and how many times faster it is, eager on one thread, in turns with the
original.

--report prints what is in the results as Markdown and measures nothing.

--shim FILE is run before torchvision is imported: it may declare operators that a torchvision without its compiled part
lacks.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from children import forked
from torch_zoo_measure import Figures, figures, warm_up

Results = dict[str, dict[str, Figures]]


def child(sender: Connection, family: str, name: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with torch.no_grad():
        sender.send(figures(family, name, options))


# One line per architecture


def own_rules(found: Figures) -> bool:
    return "own" in found


def ratio(found: Figures) -> float | None:
    """How many times less CPU time our own rules take than the stock exporter."""
    return found["peer"]["cpu"] / found["own"]["cpu"] if "peer" in found and "own" in found else None


def line(name: str, found: Figures) -> str:
    if "error" in found:
        missing = f" {', '.join(found['missing'])}" if "missing" in found else ""
        return f"{name:34} {found['stage']}:{missing} {found['error'][:400]}"
    errors = " ".join(f"{found[f'error_{k}']:.0e}" for k in ("imported", "saved", "train"))
    faster = ratio(found)
    lost = f" LOST {len(found['lost'])}: {found['lost'][:3]}" if found["lost"] else ""
    return (
        f"{name:34} {'equal' if found['equal'] else 'DIFFERS'} {errors} {found['nodes']:5} -> "
        f"{found['nodes_simplified']:4} nodes {found['own']['cpu'] * 1e3:6.0f} ms "
        f"{'' if faster is None else f'{faster:.0f}x'}{lost} | {emission(found)}"
    )


def emission(found: Figures) -> str:
    if "emit_error" in found:
        return f"not emitted: {found['emit_error'][:300]}"
    if "speed" not in found:
        return "not emitted"
    lost = f" LOST KEYS {len(found['lost_keys'])}: {found['lost_keys'][:2]}" if found["lost_keys"] else ""
    return f"{'equal' if found['emitted_equal'] else 'DIFFERS'} {found['lines']} lines {found['speed']:.2f}x{lost}"


# The report

COLUMNS: dict[str, Callable[[Figures], str]] = {
    "own rules": lambda f: "yes" if own_rules(f) else ", ".join(f.get("missing", ())) or "no",
    "equal": lambda f: "yes" if f.get("equal") else "no",
    "operators": lambda f: str(f.get("nodes_simplified", "")),
    "stock exporter's": lambda f: str(f.get("peer_nodes", "")),
    "ms": lambda f: f"{f['own']['cpu'] * 1e3:.0f}" if own_rules(f) else "",
    "stock, s": lambda f: f"{f['peer']['cpu']:.1f}" if "peer" in f else "fails" if "peer_error" in f else "",
    "ratio": lambda f: "" if ratio(f) is None else f"{ratio(f):.0f}x",
    "names": lambda f: "" if "lost" not in f else "all" if not f["lost"] else f"{len(f['lost'])} lost",
    "emitted": lambda f: "equal" if f.get("emitted_equal") else "differs" if "speed" in f else "no",
    "keys": lambda f: "" if "lost_keys" not in f else "all" if not f["lost_keys"] else f"{len(f['lost_keys'])} lost",
    "speed": lambda f: f"{f['speed']:.2f}" if "speed" in f else "",
}
"""The columns of the table, and what stands in them."""


def report(results: Results) -> str:
    parts = ["\n".join(["| family | " + " | ".join(SUMMARY) + " |", "|" + " --- |" * (1 + len(SUMMARY))])]
    everything = {f"{family}/{n}": f for family, rows in results.items() for n, f in rows.items()}
    for family, rows in [*results.items(), ("all", everything)]:
        parts[0] += f"\n| {family} | " + " | ".join(cell(list(rows.values())) for cell in SUMMARY.values()) + " |"
    for family, rows in results.items():
        table = [f"| {family} | " + " | ".join(COLUMNS) + " |", "|" + " --- |" * (1 + len(COLUMNS))]
        table += [f"| {n} | " + " | ".join(c(f) for c in COLUMNS.values()) + " |" for n, f in sorted(rows.items())]
        parts.append("\n".join(table))
    return "\n\n".join(parts)


def share(test: Callable[[Figures], Any]) -> Callable[[list[Figures]], str]:
    return lambda rows: f"{sum(bool(test(f)) for f in rows)}/{len(rows)}"


def median(value: Callable[[Figures], float | None], form: str) -> Callable[[list[Figures]], str]:
    def cell(rows: list[Figures]) -> str:
        found = [v for f in rows if (v := value(f)) is not None]
        return form.format(statistics.median(found), len(found)) if found else ""

    return cell


SUMMARY: dict[str, Callable[[list[Figures]], str]] = {
    "own rules": share(own_rules),
    "equal": share(lambda f: f.get("equal")),
    "all names": share(lambda f: "lost" in f and not f["lost"]),
    "faster than `torch.onnx.export`": median(ratio, "{:.0f}x (median of {})"),
    "emitted equal": share(lambda f: f.get("emitted_equal")),
    "all keys": share(lambda f: "lost_keys" in f and not f["lost_keys"]),
    "speed of the emitted module": median(lambda f: f.get("speed"), "{:.2f}x (median of {})"),
}
"""The columns of the summary, over the architectures of a family."""


def missing_operators(rows: Iterable[Figures]) -> dict[str, int]:
    return dict(Counter(op for f in rows for op in f.get("missing", ())).most_common())


# The command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="FAMILY", help="torchvision, timm, transformers (default: all)")
    parser.add_argument("--models", nargs="*", default=["*"], metavar="PATTERN", help="patterns of architecture names")
    parser.add_argument("--skip-peer", action="store_true", help="do not time torch.onnx.export")
    parser.add_argument("--static", action="store_true", help="export with fixed sizes")
    parser.add_argument("--again", action="store_true", help="measure what is in the results, too")
    parser.add_argument("--failed", action="store_true", help="measure again what did not end well")
    parser.add_argument("--report", action="store_true", help="print the results as Markdown and measure nothing")
    parser.add_argument("--results", type=Path, default=Path("torch_zoo.json"))
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one architecture")
    parser.add_argument("--shim", type=Path, help="a Python file to run first")
    options = parser.parse_args()
    results: Results = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.report:
        print(report(results))
        return
    declared = runpy.run_path(str(options.shim)) if options.shim else {}  # lives as long as what it declares
    from torch_zoo_models import FAMILIES

    torch.set_num_threads(1)
    warm_up(options.skip_peer)
    for family in options.only or FAMILIES:
        importlib.import_module(family)
        names = [n for n in FAMILIES[family] if any(fnmatch(n, pattern) for pattern in options.models)]
        rows = results.setdefault(family, {})
        for place, name in enumerate(names):
            if wants(rows.get(name), options):
                print(f"{family} {place + 1}/{len(names)}: {name}", file=sys.stderr, flush=True)
                rows[name] = forked(child, family, name, options, timeout=options.timeout)
                options.results.write_text(json.dumps(results, indent=1))
                print(line(name, rows[name]), flush=True)
        print(", ".join(f"{k}: {cell(list(rows.values()))}" for k, cell in SUMMARY.items()), flush=True)
        print(f"operators without a rule: {missing_operators(rows.values())}", flush=True)
    declared.clear()


def wants(found: Figures | None, options: argparse.Namespace) -> bool:
    """True when an architecture has to be measured."""
    if found is None or options.again:
        return True
    complete = found.get("equal") and not found["lost"] and found.get("emitted_equal") and not found["lost_keys"]
    if not complete:
        return options.failed
    return not options.skip_peer and "peer" not in found and "peer_error" not in found


if __name__ == "__main__":
    main()
