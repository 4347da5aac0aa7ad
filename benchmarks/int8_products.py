"""Int8 of products of two computed matrices beside float: python benchmarks/int8_products.py [--target openvino-cpu]

For each shape, COUNTxROWSxINNERxCOLUMNS: CPU time of the float product and of the int8 one with both quantizations, run
in turns on one thread, and what the target's model of time says of their ratio. What pays by the model is in int8.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tersor.backends.benchmark import Timing, latency
from tersor.backends.runners import Feeds, OrtRunner, Runner
from tersor.backends.runners.openvino_cpu import OpenVinoRunner
from tersor.ir import Graph, Model, parse
from tersor.transforms.quantize import gain, insertion
from tersor.transforms.quantize.layers import Product, product_of
from tersor.transforms.quantize.observers import Range
from tersor.transforms.quantize.placement import TARGETS, Target, place
from tersor.transforms.quantize.products import MARGIN

RUNNERS: dict[str, Callable[[Model], Runner]] = {"ort-cpu": OrtRunner, "openvino-cpu": OpenVinoRunner}
SHAPES = (
    "1x64x64x64", "1x256x256x256", "1x512x512x512", "1x1024x1024x1024", "1x64x1024x1024", "1x2048x256x2048",
    "12x128x64x128", "12x128x128x64", "12x512x64x512", "12x512x512x64", "12x1024x64x1024", "12x1024x1024x64",
)  # fmt: skip


def product(shape: str) -> tuple[Graph, Feeds]:
    """A graph of one product, and normally distributed inputs."""
    count, rows, inner, columns = map(int, shape.split("x"))
    left, right, result = (count, rows, inner), (count, inner, columns), (count, rows, columns)
    a, b, y = (f"f32[{','.join(map(str, sizes))}]" for sizes in (left, right, result))
    graph = parse(f"graph (%a: {a}, %b: {b}) -> (y) {{ %y = MatMul(%a, %b) : {y} return %y }}")
    rng = np.random.default_rng(0)
    return graph, {n: rng.standard_normal(s).astype(np.float32) for n, s in (("a", left), ("b", right))}


def quantized(graph: Graph, target: Target) -> Graph:
    """The same in int8, whether that pays or not."""
    copy = graph.clone()
    chosen = {node: found for node in copy if isinstance(found := product_of(node), Product)}
    placement = place(copy, chosen, target)
    ranges = dict.fromkeys(placement.sources(), Range(-5.0, 5.0))
    insertion.insert(copy, placement, chosen, insertion.activation_parameters(placement, ranges), {}, target)
    return copy


def modelled(graph: Graph, target: Target) -> float:
    """The ratio of the times by the model, conversions included."""
    chosen = {node: found for node in graph if isinstance(found := product_of(node), Product)}
    costs = gain.modelled(chosen, {}, target)
    (times,) = costs.times.values()
    return (times.int8 + sum(map(costs.conversion, graph.inputs))) / times.float


def row(shape: str, timing: Timing, model: float, micros: float) -> str:
    kept = "yes" if model < 1 - MARGIN else "no"
    interval = f"[{timing.ratio_low:.2f}, {timing.ratio_high:.2f}]"
    return f"| {shape} | {micros:.0f} | {timing.ratio:.2f} {interval} | {model:.2f} | {kept} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--target", choices=RUNNERS, default="ort-cpu")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--results", type=Path, help="where figures are written, too, as JSON")
    options = parser.parse_args()
    target, results = TARGETS[options.target], {}
    print("| shape | float, us | int8 against float | modelled | int8 |\n| --- | --- | --- | --- | --- |")
    for shape in options.shapes:
        print(shape, file=sys.stderr, flush=True)
        graph, feed = product(shape)
        runners = [RUNNERS[options.target](Model(g)) for g in (graph, quantized(graph, target))]
        slow, fast = latency(runners, feed, options.runs, seconds=20.0, clock=time.process_time)
        model = modelled(graph, target)
        print(row(shape, fast, model, slow.median * 1e6), flush=True)
        results[shape] = {"float": slow.median, "ratio": fast.ratio, "modelled": model}
    if options.results:
        options.results.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
