"""What became of a model: python benchmarks/simplify_judge.py ORIGINAL CANDIDATE INPUTS.npz RUNS

Prints one JSON line: nodes and operators of the candidate (constants not counted, over all regions, functions inlined),
nodes of other domains than ONNX's own, bytes of the file with its data files, the worst difference of any output from
the original's (max|a - b| / max|original|) on both input sets, and, unless RUNS is 0, the latency against the
original's under ONNX Runtime's default options with one thread: medians of interleaved runs on the first set. With
ORIGINAL - only counts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort

SECONDS = 4.0
"""Timed runs stop after this many seconds, though not before there are FEWEST."""

FEWEST = 15


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph and of the graphs in its nodes' attributes, without constants."""
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)


def counts(path: Path) -> dict[str, Any]:
    """Nodes, operators by count, other domains and the bytes of a file and of the data files beside it."""
    model = onnx.load(str(path), load_external_data=False)
    size = path.stat().st_size + sum(
        (path.parent / name).stat().st_size
        for name in {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    )
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    found = list(nodes(model.graph))
    operators = Counter(n.op_type if n.domain in ("", "ai.onnx") else f"{n.domain}::{n.op_type}" for n in found)
    foreign = Counter(n.domain for n in found if n.domain not in ("", "ai.onnx"))
    return {"nodes": len(found), "operators": dict(operators.most_common()), "foreign": dict(foreign), "bytes": size}


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(inputs: Path, model: ort.InferenceSession) -> list[dict[str, Any]]:
    """The input sets of the file, of each what the model takes."""
    arrays = np.load(inputs)
    names = [i.name for i in model.get_inputs()]
    return [{n: arrays[f"set{i}__{n}"] for n in names if f"set{i}__{n}" in arrays} for i in range(2)]


def difference(reference: list[Any], candidate: list[Any]) -> float:
    """The worst over the outputs of max|a - b| / max|a|; infinity for other shapes, types or NaN in other places."""
    worst = 0.0
    for a, b in zip(reference, candidate, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        good = np.isfinite(a)
        if good.any():
            error = np.abs(a[good].astype(np.float64) - b[good].astype(np.float64)).max()
            worst = max(worst, float(error / max(float(np.abs(a[good]).max()), 1e-30)))
    return worst


def compared(original: ort.InferenceSession, candidate: ort.InferenceSession, sets: list[Any]) -> list[float | None]:
    """The difference on each set; None where the original itself fails, infinity where only the candidate does."""
    found: list[float | None] = []
    names = [o.name for o in original.get_outputs()]
    for given in sets:
        try:
            reference = original.run(names, given)
        except Exception:
            found.append(None)
            continue
        try:
            found.append(difference(reference, candidate.run(names, given)))
        except Exception:
            found.append(float("inf"))
    return found


def latency(original: ort.InferenceSession, candidate: ort.InferenceSession, given: Any, runs: int) -> dict[str, Any]:
    """Milliseconds of both, and the median of the ratios of neighbouring runs."""
    times: tuple[list[float], list[float]] = ([], [])
    begun = time.perf_counter()
    for index in range(runs + 2):
        order = (0, 1) if index % 2 else (1, 0)
        for which in order:
            start = time.perf_counter()
            (original, candidate)[which].run(None, given)
            if index >= 2:  # the first runs allocate
                times[which].append(time.perf_counter() - start)
        if index >= FEWEST and time.perf_counter() - begun > SECONDS:
            break
    first, second = (statistics.median(t) * 1000 for t in times)
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    return {"original_ms": round(first, 3), "ms": round(second, 3), "latency": round(ratio, 4), "runs": len(times[0])}


def main(original: str, candidate: str, inputs: str = "", runs: str = "0") -> None:
    found = counts(Path(candidate))
    if original != "-":
        try:
            pair = session(Path(original)), session(Path(candidate))
            sets = feeds(Path(inputs), pair[0])
            found["difference"] = compared(*pair, sets)
            if int(runs) and found["difference"][0] is not None:
                found |= latency(*pair, sets[0], int(runs))
        except Exception as error:
            found["error"] = str(error)[:300]
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
