"""Memory of calibration over the number of samples: python benchmarks/int8_memory.py --work FOLDER [--model NAME]

FOLDER is the --work of int8.py, with a network that it has prepared. The calibration samples come again and again until
there were 100, 1000 or 10000 (--samples); each tool quantizes in a process of its own that may not take more than
--limit GB. Prints peak resident memory in MB, and CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from children import script
from int8_models import NETWORKS

TOOLS = ("tersor", "tersor-bias", "tersor-entropy", "tersor-percentile", "ort-minmax-channel", "ort-entropy",
         "ort-percentile")  # fmt: skip
TIMEOUT = 3600


def table(results: dict[str, dict[str, Any]], samples: list[int]) -> str:
    head = [f"{count} samples" for count in samples]
    lines = ["| tool | " + " | ".join(head) + " |", "|" + " --- |" * (len(head) + 1)]
    for tool, found in results.items():
        rows = [found.get(str(count), {}) for count in samples]
        cells = [
            f"{row['rss_peak']:.0f} MB, {row['cpu']:.0f} s" if "cpu" in row else row.get("error", "")[:60]
            for row in rows
        ]
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("int8_work"))
    parser.add_argument("--model", choices=NETWORKS, default="resnet20")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS))
    parser.add_argument("--samples", nargs="*", type=int, default=[100, 1000, 10000])
    parser.add_argument("--limit", type=float, default=8.0, help="GB that a process may take (default: 8)")
    parser.add_argument("--results", type=Path, default=Path("int8_memory.json"))
    options = parser.parse_args()
    allowed = int(options.limit * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    results: dict[str, dict[str, Any]] = json.loads(options.results.read_text()) if options.results.exists() else {}
    family = NETWORKS[options.model].family
    for tool in options.tools:
        for count in options.samples:
            if str(count) in results.get(tool, {}):
                continue
            print(f"{tool}, {count} samples", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as scratch:
                source, target = options.work / options.model, f"{scratch}/int8.onnx"
                found = script("int8_tools.py", tool, family, str(source), target, str(count), timeout=TIMEOUT)
            kept = {key: found[key] for key in ("rss_before", "rss_peak", "cpu", "error") if key in found}
            results.setdefault(tool, {})[str(count)] = kept
            options.results.write_text(json.dumps(results, indent=1))
    print(table(results, options.samples))


if __name__ == "__main__":
    main()
