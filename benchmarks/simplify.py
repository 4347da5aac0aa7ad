"""tersor's simplify beside onnxslim, onnxsim, onnxscript, onnxoptimizer and ONNX Runtime: see `--help`.

python benchmarks/simplify.py --zoo FOLDER [--models PATTERN...] [--tools TOOL...] [--results FILE] [--table FILE]

The folder holds NAME.onnx and NAME.npz (arrays "set0__<input>" and "set1__<input>": two batches and lengths). Every
tool runs on every file in a process of its own, one after the other; what came out is judged in another one. Results
are kept in a JSON file: those of the other tools are taken from there the next time (they do not change; --again
measures them anew), those of tersor are always measured. Peers are the tools that are installed beside tersor in the
interpreter that runs this file.

Goals are judged on what the file holds: the best peer of a model is the one with the fewest nodes, of standard domains
only, whose outputs are right. With --large two models of 2.2 GB and 4 GB are made and simplified instead, with --linear
graphs of 2000 and 20000 nodes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from children import script

PEERS = ("onnxslim", "onnxsim", "onnxscript", "onnxoptimizer", "ort-basic")
OURS = ("tersor", "tersor-checked", "tersor-best")
PACKAGES = {"onnxslim": "onnxslim", "onnxsim": "onnxsim", "onnxscript": "onnxscript", "onnxoptimizer": "onnxoptimizer"}
TIMEOUT = 600
TOLERANCE = 1e-5
MB = 1 << 20

LANGUAGE = ("bert", "distilbert", "gpt2", "llama", "t5", "whisper", "clip", "vit", "swin", "coatnet")
"""Beginnings of the names of transformers; with those of the legacy exporter (_ts) they have a goal of their own."""

NODE_GOALS = {"bert_base": 360, "swin_t": 400, "llama_small": 200}
BEST_OPSET_GOALS = {"bert_base": 200, "vit_tiny_patch16_224": 200, "llama_small": 110}

Results = dict[str, dict[str, dict[str, Any]]]
"""Model -> tool (or "original") -> figures."""


# Measuring


def child(name: str, *arguments: str) -> dict[str, Any]:
    """What a script says of itself, from a process of its own."""
    return script(name, *arguments, timeout=TIMEOUT)


def measure(tool: str, model: Path, runs: int, quick: bool) -> dict[str, Any]:
    """Runs the tool on the model and judges what it writes."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        target = Path(folder) / "simplified.onnx"
        figures = child("simplify_tools.py", tool, "simplify", str(model), str(target))
        if "error" in figures:
            return figures
        if not target.is_file():
            return {"error": "wrote nothing"}
        inputs = model.with_suffix(".npz")
        original = "-" if quick or not inputs.exists() else str(model)
        return figures | child("simplify_judge.py", original, str(target), str(inputs), str(runs))


def installed() -> list[str]:
    return [t for t in PEERS if t not in PACKAGES or importlib.util.find_spec(PACKAGES[t]) is not None]


def models_of(zoo: Path, patterns: Sequence[str]) -> list[Path]:
    found = sorted(zoo.glob("*.onnx"), key=lambda path: path.stat().st_size)
    return [p for p in found if not patterns or any(fnmatch(p.stem, pattern) for pattern in patterns)]


def fill(options: argparse.Namespace) -> None:
    """Measures what is asked for and not yet known, the smallest models first, and stores each figure at once."""
    keep = Store(options.results)
    tools = options.tools or [*installed(), *OURS]
    for tool in (*installed(), "tersor"):
        if tool not in keep.rows("imports") or options.again or tool == "tersor":
            keep.add("imports", tool, child("simplify_tools.py", tool, "import"))
    for path in models_of(options.zoo, options.models):
        rows = keep.rows(path.stem)
        if "original" not in rows or options.again:
            keep.add(path.stem, "original", child("simplify_judge.py", "-", str(path)))
            with tempfile.TemporaryDirectory() as folder:
                copied = child("simplify_tools.py", "onnxscript", "copy", str(path), f"{folder}/copy.onnx")
            keep.add(path.stem, "copy", copied)
        for tool in tools:
            known = rows.get(tool)
            complete = known is not None and (options.quick or "difference" in known or "error" in known)
            if tool in PEERS and complete and not options.again:
                continue
            print(f"{path.stem}: {tool}", file=sys.stderr, flush=True)
            keep.add(path.stem, tool, measure(tool, path, options.runs, options.quick))


class Store:
    """The results in their file, read anew before each change: two runs may measure different things at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Results:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def rows(self, model: str) -> dict[str, dict[str, Any]]:
        return self.read().get(model, {})

    def add(self, model: str, tool: str, figures: dict[str, Any]) -> None:
        results = self.read()
        results.setdefault(model, {})[tool] = figures
        pending = self.path.with_suffix(".pending")
        pending.write_text(json.dumps(results, indent=1, sort_keys=True))
        pending.replace(self.path)


# Judging


def works(row: dict[str, Any] | None) -> bool:
    """Whether a tool's result counts: no failure, standard domains only, right outputs where they are known."""
    if row is None or "error" in row or "nodes" not in row or row["foreign"]:
        return False
    return all(d is None or d <= 1e-3 for d in row.get("difference", ()))


def best_peer(rows: dict[str, dict[str, Any]]) -> str | None:
    """The peer with the fewest nodes; of several the fastest."""
    usable = [t for t in PEERS if works(rows.get(t))]
    return min(usable, key=lambda t: (rows[t]["nodes"], rows[t].get("latency", 1.0)), default=None)


def judged(results: Results) -> Iterator[tuple[str, dict[str, dict[str, Any]], str, dict[str, Any]]]:
    """Model, its rows, its best peer and tersor's row, for models where both work."""
    for model, rows in sorted(results.items()):
        if model != "imports" and "tersor" in rows and (peer := best_peer(rows)) and "nodes" in rows["tersor"]:
            yield model, rows, peer, rows["tersor"]


def table(results: Results) -> str:
    """One row per model: nodes by tool, the goals, difference, latency against the best peer's, CPU and memory."""
    head = [
        "model",
        "MB",
        "before",
        *PEERS,
        "tersor",
        "best opset",
        "≤ best",
        "fewer",
        "difference",
        "latency / best peer",
    ]
    head += ["bytes", *(f"CPU {t}" for t in ("copy", *PEERS)), "CPU tersor", "checked", "peak growth / file"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for model, rows in sorted(results.items()):
        if model == "imports":
            continue
        original, ours, peer = rows["original"], rows.get("tersor", {}), best_peer(rows)
        peer_row = rows[peer] if peer else {}
        cells = [model, f"{original['bytes'] / MB:.1f}", str(original["nodes"])]
        cells += [shown_nodes(rows.get(t), t == peer) for t in (*PEERS, "tersor", "tersor-best")]
        if "nodes" in ours and peer:
            cells += [yes(ours["nodes"] <= peer_row["nodes"]), yes(ours["nodes"] < peer_row["nodes"])]
        else:
            cells += ["", ""]
        cells += [" ".join("fails" if d is None else f"{d:.1e}" for d in ours.get("difference", ()))]
        ratio = ours["latency"] / peer_row["latency"] if "latency" in ours and "latency" in peer_row else None
        cells += [
            f"{ratio:.3f}" if ratio else "",
            f"{ours['bytes'] / original['bytes']:.3f}" if "bytes" in ours else "",
        ]
        cells += [f"{rows[t]['cpu']:.2f}" if "cpu" in rows.get(t, {}) else "" for t in ("copy", *PEERS, "tersor")]
        cells += [f"{rows['tersor-checked']['cpu']:.2f}" if "cpu" in rows.get("tersor-checked", {}) else ""]
        cells += [f"{growth(ours, original):.2f}" if "rss_peak" in ours else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown_nodes(row: dict[str, Any] | None, best: bool) -> str:
    if row is None:
        return ""
    if "nodes" not in row:
        return "fails"
    text = f"{row['nodes']}{'*' if row['foreign'] else ''}{'' if works(row) or row['foreign'] else ' wrong'}"
    return f"**{text}**" if best else text


def yes(true: bool) -> str:
    return "yes" if true else "NO"


def growth(row: dict[str, Any], original: dict[str, Any]) -> float:
    """How far the peak of resident memory rose above that before, against the size of the file."""
    return (row["rss_peak"] - row["rss_before"]) * MB / original["bytes"]


def summary(results: Results) -> str:
    """A line for each goal: how many models meet it, and which do not."""
    found = list(judged(results))
    lines: list[str] = []

    def goal(text: str, met: dict[str, bool], share: float = 1.0) -> None:
        missed = [m for m, ok in met.items() if not ok]
        passed = len(met) - len(missed) >= share * len(met)
        lines.append(
            f"* {'met' if passed else 'MISSED'}: {text}: {len(met) - len(missed)} of {len(met)}"
            f"{'; not ' + ', '.join(missed) if missed else ''}"
        )

    goal("no more nodes than the best peer", {m: o["nodes"] <= r[p]["nodes"] for m, r, p, o in found})
    transformers = [f for f in found if f[0].startswith(LANGUAGE) or f[0].endswith("_ts")]
    text = "fewer nodes on two thirds of transformers and files of the legacy exporter"
    goal(text, {m: o["nodes"] < r[p]["nodes"] for m, r, p, o in transformers}, 2 / 3)
    by_name = {m: (r, o) for m, r, _, o in found}
    for model, limit in NODE_GOALS.items():
        for name in (model, f"{model}_ts"):
            if name in by_name:
                goal(
                    f"{name} at most {limit} nodes ({by_name[name][1]['nodes']})",
                    {name: by_name[name][1]["nodes"] <= limit},
                )
    for model, limit in BEST_OPSET_GOALS.items():
        if model in by_name and "nodes" in by_name[model][0].get("tersor-best", {}):
            count = by_name[model][0]["tersor-best"]["nodes"]
            goal(f"{model} at most {limit} nodes at the best opset ({count})", {model: count <= limit})
    goal("no growth in nodes", {m: o["nodes"] <= r["original"]["nodes"] for m, r, _, o in found})
    goal(
        f"outputs within {TOLERANCE:g} of the original's",
        {m: all(d is None or d <= TOLERANCE for d in o["difference"]) for m, _, _, o in found if "difference" in o},
    )
    goal(
        "file at most 1.02 of the original's", {m: o["bytes"] <= 1.02 * r["original"]["bytes"] for m, r, _, o in found}
    )
    with_latency = [f for f in found if "latency" in f[3] and "latency" in f[1][f[2]]]
    ratios = {m: o["latency"] / r[p]["latency"] for m, r, p, o in with_latency}
    goal("latency at most 1.03 of the best peer's", {m: ratio <= 1.03 for m, ratio in ratios.items()})
    if ratios:
        median = statistics.median(ratios.values())
        lines.append(f"* {'met' if median <= 1.0 else 'MISSED'}: latency over the best peer's, median {median:.3f}")
    big = [f for f in found if f[1]["original"]["bytes"] > 20 * MB]
    sim = {m: o["cpu"] < r["onnxsim"]["cpu"] for m, r, _, o in big if "cpu" in r.get("onnxsim", {})}
    goal("CPU below onnxsim's over 20 MB", sim)
    slim = {m: o["cpu"] < r["onnxslim"]["cpu"] / 4 for m, r, _, o in found if "cpu" in r.get("onnxslim", {})}
    goal("CPU below a quarter of onnxslim's", slim)
    large = [f for f in found if f[1]["original"]["bytes"] > 70 * MB]
    goal("peak growth under 0.3 of the file over 70 MB", {m: growth(o, r["original"]) < 0.3 for m, r, _, o in large})
    failed = {m: "error" not in r["tersor"] for m, r in results.items() if m != "imports" and "tersor" in r}
    goal("no failure", failed)
    imports = results.get("imports", {})
    shown = ", ".join(f"{t} {row['import']:.2f} s" for t, row in imports.items() if "import" in row)
    lines.append(f"* imports, CPU: {shown}")
    return "\n".join(lines)


def histograms(results: Results, everywhere: bool = False) -> str:
    """Operators that tersor leaves and what the best peer leaves, where tersor has more nodes (or everywhere)."""
    lines: list[str] = []
    for model, rows in sorted(results.items()):
        ours, peer = rows.get("tersor", {}), best_peer(rows)
        if model == "imports" or "operators" not in ours:
            continue
        theirs = rows[peer] if peer else {"nodes": None, "operators": {}}
        if peer and ours["nodes"] < theirs["nodes"] and not everywhere:
            continue
        lines.append(f"\n{model}: tersor {ours['nodes']}, {peer or 'no peer measured'} {theirs['nodes'] or ''}")
        lines.append("  left: " + ", ".join(f"{op} {n}" for op, n in ours["operators"].items()))
        if peer:
            operators = {**ours["operators"], **theirs["operators"]}
            gaps = {op: ours["operators"].get(op, 0) - theirs["operators"].get(op, 0) for op in operators}
            gap = ", ".join(f"{op} {n:+d}" for op, n in sorted(gaps.items(), key=lambda item: -item[1]) if n)
            lines.append(f"  against {peer}: {gap or 'the same'}")
    return "\n".join(lines)


def main() -> None:
    options = arguments()
    if options.large or options.linear:
        from simplify_scale import large, linear  # pyright: ignore[reportMissingImports]  # beside this file

        print((large if options.large else linear)(child))
        return
    if not options.report:
        fill(options)
    results = Store(options.results).read()
    text = f"{table(results)}\n\n{summary(results)}\n"
    if options.histograms:
        text += f"{histograms(results, options.histograms == 'all')}\n"
    if options.table:
        options.table.write_text(text)
    else:
        print(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path("zoo"), help="folder of NAME.onnx and NAME.npz")
    parser.add_argument("--models", nargs="+", default=[], metavar="PATTERN", help="names to measure (default: all)")
    parser.add_argument("--tools", nargs="+", choices=[*PEERS, *OURS], metavar="TOOL", help=f"of {PEERS + OURS}")
    parser.add_argument("--results", type=Path, default=Path("simplify.json"), help="where results are kept")
    parser.add_argument("--table", type=Path, help="write the report there instead of printing it")
    parser.add_argument("--runs", type=int, default=100, help="timed runs for the latency; 0: none (default: 100)")
    parser.add_argument("--quick", action="store_true", help="neither run nor time the models: nodes, CPU, memory")
    parser.add_argument("--again", action="store_true", help="measure the other tools again")
    parser.add_argument("--report", action="store_true", help="measure nothing, report what is known")
    parser.add_argument("--histograms", nargs="?", const="worse", choices=["worse", "all"], help="operators left")
    parser.add_argument("--large", action="store_true", help="two models of 2.2 GB and 4 GB")
    parser.add_argument("--linear", action="store_true", help="graphs of 2000 and 20000 nodes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
