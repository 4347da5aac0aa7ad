"""Int8 beside the other tools: python benchmarks/int8.py --data FOLDER --zoo FOLDER [--models ...] [--tools ...]

Every tool quantizes the same float file with the same calibration samples in a process of its own; what it writes is
then scored on other samples and timed in turns with the float file and all others, on one thread. FOLDER of --data has
models/ (squeezenet11, cifar_resnet, minilm), imagenet/, cifar10/ and stsb/; that of --zoo has <network>.onnx with
random weights, for speed alone. MiniLM is exported on the way (`tersor[bench]`). NNCF and OpenVINO are used where the
Python that runs this has them; peers that are missing are left out.

Figures go to --results and are not measured again (--again does, for the tools named); --report shows them as tables,
one of them of the layers that stay float with their times in int8, and measures nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from children import script
from int8_models import NETWORKS, prepare

Results = dict[str, dict[str, dict[str, Any]]]
PEERS = {
    "cnn": [
        "ort-dynamic-channel",
        "ort-minmax",
        "ort-minmax-channel",
        "ort-entropy",
        "ort-percentile",
        "nncf",
        "nncf-mixed",
    ],
    "transformer": [
        "ort-dynamic",
        "ort-dynamic-channel",
        "ort-minmax",
        "ort-minmax-channel",
        "ort-entropy",
        "ort-percentile",
        "ort-matmul",
        "nncf",
    ],
}
OURS = {
    "cnn": [
        "tersor",
        "tersor-bias",
        "tersor-gptq",
        "tersor-mixed",
        "tersor-measured",
        "tersor-entropy",
        "tersor-percentile",
    ],
    "transformer": ["tersor", "tersor-smooth", "tersor-dynamic"],
}
OURS_SPEED_ONLY = {
    "cnn": ["tersor", "tersor-mixed", "tersor-measured"],
    "transformer": ["tersor-smooth", "tersor-dynamic"],
}
SPEED_ONLY = {"cnn": ["ort-minmax", "ort-minmax-channel", "nncf"], "transformer": ["ort-dynamic", "ort-matmul", "nncf"]}
MARGIN = 1.03
TIMEOUT = 1800


def tools_of(model: str) -> list[str]:
    network = NETWORKS[model]
    ours, peers = (OURS, PEERS) if network.metric else (OURS_SPEED_ONLY, SPEED_ONLY)
    has_nncf = importlib.util.find_spec("nncf") is not None
    return [*ours[network.family], *(t for t in peers[network.family] if has_nncf or not t.startswith("nncf"))]


def child(name: str, *arguments: str) -> Any:
    """What a script says of itself, from a process of its own."""
    return script(name, *arguments, timeout=TIMEOUT, environment={"HF_HUB_OFFLINE": "1"})


def read(path: Path) -> Results:
    return json.loads(path.read_text()) if path.exists() else {}


def keep(path: Path, model: str, tool: str, figures: dict[str, Any]) -> None:
    """Adds to a row; the file is read anew, since two runs may measure different things at once."""
    results = read(path)
    row = results.setdefault(model, {}).setdefault(tool, {})
    row.update(figures)
    pending = path.with_suffix(".pending")
    pending.write_text(json.dumps(results, indent=1, sort_keys=True))
    pending.replace(path)


def measure(model: str, options: argparse.Namespace) -> None:
    folder: Path = options.work / model
    prepare(model, folder, options.data, options.zoo)
    network = NETWORKS[model]
    tools = [] if options.time else list(options.tools or tools_of(model))
    fresh = False
    for tool in tools:
        known = read(options.results).get(model, {}).get(tool, {})
        if known and not options.again and ("sqnr" in known or "error" in known):
            continue
        print(f"{model}: {tool}", file=sys.stderr, flush=True)
        target = folder / f"{tool}.onnx"
        for old in folder.glob(f"{tool}.onnx*"):
            old.unlink()
        figures = child("int8_tools.py", tool, network.family, str(folder), str(target))
        if "error" not in figures:
            figures |= child("int8_score.py", str(folder), network.metric, "quality", str(target))
        results = read(options.results)
        results.get(model, {}).pop(tool, None)
        options.results.write_text(json.dumps(results, indent=1, sort_keys=True))
        keep(options.results, model, tool, figures)
        fresh = fresh or "error" not in figures
    written = [t for t in read(options.results).get(model, {}) if (folder / f"{t}.onnx").exists()]
    written = [t for t in written if "error" not in read(options.results)[model][t]]
    if written and (fresh or options.again or options.time):
        print(f"{model}: latency of {len(written)} files", file=sys.stderr, flush=True)
        paths, clock = [str(folder / f"{t}.onnx") for t in written], "cpu" if options.cpu else "latency"
        found = child("int8_score.py", str(folder), network.metric, clock, str(options.runs), *paths)
        if isinstance(found, dict):
            print(f"{model}: {found['error']}", file=sys.stderr)
            return
        for tool, figures in zip(written, found[1:], strict=True):
            keep(options.results, model, tool, {"latency": figures, "ms_fp32": found[0]["ms"]})


# The report


def rows(results: Results, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ours first, then the peers."""
    yield from sorted(results[model].items(), key=lambda row: (not row[0].startswith("tersor"), row[0]))


def table(results: Results) -> str:
    head = ["network", "tool", "metric", "SQNR dB", "bytes", "speed", "integer", "CPU s", "beyond a pass", "peak MB"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for model in (m for m in NETWORKS if m in results):
        for tool, row in rows(results, model):
            if "error" in row:
                lines.append(f"| {model} | {tool} | fails: {row['error'][:80]} |" + " |" * (len(head) - 3))
                continue
            metric = f"{row['metric']:.2f} ({row['metric_fp32']:.2f})" if "metric" in row else ""
            timed = row.get("latency")
            speed = f"{timed['speed']:.2f} [{timed['low']:.2f}, {timed['high']:.2f}]" if timed else ""
            cells = [model, tool, metric, f"{row['sqnr']:.1f}" if NETWORKS[model].metric else "",
                     f"{row['bytes'] / row['bytes_fp32']:.3f}", speed, f"{row.get('integer_share', 0):.0%}",
                     f"{row['cpu']:.1f}", f"{row['cpu'] - row['cpu_pass']:.1f}",
                     f"{row['rss_peak']:.0f}"]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def left(results: Results) -> str:
    """Every layer that ours leave in float, with the reason, which has its times in float and in int8."""
    lines = ["| network | tool | layer | left in float because |", "| --- | --- | --- | --- |"]
    for model in (m for m in NETWORKS if m in results):
        for tool, row in rows(results, model):
            floats = [(layer, reason) for layer, _, decision, reason, _ in row.get("layers", []) if decision == "fp32"]
            lines += [f"| {model} | {tool} | {layer} | {reason} |" for layer, reason in floats]
    return "\n".join(lines)


def verdicts(results: Results) -> str:
    """Per network with real weights: peers that are better in both, and peers that one of ours beats in both."""
    lines: list[str] = []
    for model in (m for m in NETWORKS if m in results and NETWORKS[m].metric):
        points = {t: (r["sqnr"], r["latency"]) for t, r in results[model].items() if "latency" in r}
        ours = {t: p for t, p in points.items() if t.startswith("tersor")}
        peers = {t: p for t, p in points.items() if not t.startswith("tersor")}
        better = [t for t, p in peers.items() if ours and all(beats(p, q) for q in ours.values())]
        beaten = [t for t, p in peers.items() if any(beats(q, p) for q in ours.values())]
        best = [t for t, q in ours.items() if all(beats(q, p) for p in peers.values())]
        lines.append(
            f"* {model}: {'no peer is' if not better else ', '.join(better) + ' is'} better in both than all of ours; "
            f"ours beat {len(beaten)} of {len(peers)} in both; beats every peer in both: {', '.join(best) or 'none'}"
        )
    return "\n".join(lines)


def beats(a: tuple[float, dict[str, float]], b: tuple[float, dict[str, float]]) -> bool:
    """More SQNR, and faster by more than the margin with intervals that do not meet."""
    return a[0] > b[0] and a[1]["speed"] > MARGIN * b[1]["speed"] and a[1]["low"] > b[1]["high"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real models and data")
    parser.add_argument("--zoo", type=Path, default=Path("zoo"), help="folder of <network>.onnx with random weights")
    parser.add_argument("--work", type=Path, default=Path("int8_work"), help="where files are written and kept")
    parser.add_argument("--results", type=Path, default=Path("int8.json"))
    parser.add_argument("--models", nargs="*", choices=NETWORKS, default=[])
    parser.add_argument("--tools", nargs="*", default=[], help="tools (default: all that fit the network)")
    parser.add_argument("--runs", type=int, default=40, help="timed rounds (default: 40)")
    parser.add_argument("--again", action="store_true", help="measure what is in the results, too")
    parser.add_argument("--time", action="store_true", help="quantize nothing, time what is written")
    parser.add_argument("--cpu", action="store_true", help="time by CPU time: for a machine with other work")
    parser.add_argument("--report", action="store_true", help="show the results and measure nothing")
    options = parser.parse_args()
    if not options.report:
        if options.data is None:
            parser.error("--data is needed")
        for model in options.models or NETWORKS:
            measure(model, options)
    found = read(options.results)
    print(table(found))
    print()
    print(left(found))
    print()
    print(verdicts(found))


if __name__ == "__main__":
    main()
