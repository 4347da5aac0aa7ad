"""Latency of simplified models under ONNX Runtime, all tools' files run in turn: see `--help`.

python benchmarks/simplify_latency.py --zoo FOLDER [--models PATTERN...] [--tools TOOL...] [--runs N] [--results FILE]

`simplify.py` compares every file with its original; on a machine that others use too, two such ratios do not compare
well with each other. Here one process holds the original and what every tool made of it and runs them one after the
other, in another order each round, with one thread and ONNX Runtime's default options. A figure is the median over the
rounds of the ratio to the original in the same round; the last column is the ratio to the best other tool, which is the
one with the lowest median. Models that are in the results already are not measured again.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from simplify import PEERS, child, installed, models_of
from simplify_judge import feeds, session

WARM = 2
SECONDS = 60.0
"""Rounds end after this time, though not before there are FEWEST."""

FEWEST = 7


def simplified(model: Path, tools: list[str], folder: Path) -> dict[str, Path]:
    """The file that each tool makes of the model; tools that fail are left out, and said."""
    made: dict[str, Path] = {}
    for tool in tools:
        target = folder / tool / "simplified.onnx"
        target.parent.mkdir()
        figures = child("simplify_tools.py", tool, "simplify", str(model), str(target))
        if "error" in figures or not target.is_file():
            print(f"{model.stem}: {tool}: {figures.get('error', 'wrote nothing')}", file=sys.stderr, flush=True)
        else:
            made[tool] = target
    return made


def timed(sessions: dict[str, Any], given: Any, runs: int) -> dict[str, list[float]]:
    """Seconds of each run; the rounds shuffle the order with a fixed seed."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    shuffled, order = random.Random(0), list(sessions)
    begun = time.perf_counter()
    for index in range(runs + WARM):
        shuffled.shuffle(order)
        for name in order:
            start = time.perf_counter()
            sessions[name].run(None, given)
            if index >= WARM:
                times[name].append(time.perf_counter() - start)
        if index >= WARM + FEWEST and time.perf_counter() - begun > SECONDS:
            break
    return times


def measured(model: Path, tools: list[str], runs: int) -> dict[str, Any]:
    """Ratios to the original by tool, the best peer, and tersor's ratio to it."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"original": model, **simplified(model, tools, Path(folder))}
        sessions = {name: session(path) for name, path in files.items()}
        given = feeds(model.with_suffix(".npz"), sessions["original"])[0]
        times = timed(sessions, given, runs)
    ratios = {
        name: statistics.median(b / a for a, b in zip(times["original"], taken, strict=True))
        for name, taken in times.items()
        if name != "original"
    }
    row: dict[str, Any] = {
        "ms": statistics.median(times["original"]) * 1000,
        "ratios": ratios,
        "rounds": len(times["original"]),
    }
    peers = [name for name in ratios if name in PEERS]
    if "tersor" in ratios and peers:
        row["best"] = min(peers, key=lambda name: ratios[name])
        row["over best"] = statistics.median(b / a for a, b in zip(times[row["best"]], times["tersor"], strict=True))
    return row


def report(results: dict[str, Any]) -> str:
    """The table, and the median and the share of the goals."""
    tools = sorted({tool for row in results.values() for tool in row["ratios"]})
    lines = [
        f"| model | original, ms | {' | '.join(tools)} | best other | tersor over it |",
        f"| --- |{' --- |' * (len(tools) + 3)}",
    ]
    for model, row in sorted(results.items()):
        cells = [f"{row['ratios'][t]:.3f}" if t in row["ratios"] else "" for t in tools]
        over = f"{row['over best']:.3f}" if "over best" in row else ""
        lines.append(f"| {model} | {row['ms']:.1f} | {' | '.join(cells)} | {row.get('best', '')} | {over} |")
    over = [row["over best"] for row in results.values() if "over best" in row]
    if over:
        good = sum(ratio <= 1.03 for ratio in over)
        lines += ["", f"Median {statistics.median(over):.3f}; at most 1.03 on {good} of {len(over)} models."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path("zoo"), help="folder of NAME.onnx and NAME.npz")
    parser.add_argument("--models", nargs="+", default=[], metavar="PATTERN", help="names to measure (default: all)")
    parser.add_argument("--tools", nargs="+", metavar="TOOL", help="default: tersor and every peer that is installed")
    parser.add_argument("--runs", type=int, default=30, help="rounds (default: 30, or 60 seconds)")
    parser.add_argument("--results", type=Path, default=Path("simplify-latency.json"), help="where results are kept")
    parser.add_argument("--report", action="store_true", help="measure nothing, report what is known")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {}
    for model in [] if options.report else models_of(options.zoo, options.models):
        if model.stem in results or not model.with_suffix(".npz").exists():
            continue
        print(model.stem, file=sys.stderr, flush=True)
        results[model.stem] = measured(model, options.tools or [*installed(), "tersor"], options.runs)
        options.results.write_text(json.dumps(results, indent=1, sort_keys=True))
        gc.collect()
    print(report(results))


if __name__ == "__main__":
    main()
