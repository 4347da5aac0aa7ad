"""What layers really take in float and in int8: both networks are run in turns on the user's own shapes, and ONNX
Runtime's profile says how long each kernel took.

Kernels are found again by name: every node of a copy bears a number, which the runtime keeps when it fuses nodes and
changes their layout. Conversions are timed by themselves, between small layers: what one costs where none is now.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...backends.benchmark import latency
from ...backends.runners import Feeds, OrtRunner, Runner
from ...backends.runners.profile import Kernel, Profiler
from ...ir import Loc, Model, Node, pairs, parse
from ..base import Progress, silent
from ..cost import Sizes
from .gain import HYSTERESIS, Costs, Price, Times, group, modelled
from .layers import Integer, Layer, in_copy, layers
from .placement import may_connect

ROUNDS, LEAST_ROUNDS, RUNS = 8, 3, 6
"""Each network is run several times in each round, of which the first is not counted: a network that is run alone finds
the caches as it left them."""

SECONDS = 20.0
"""After which no further round starts; a few are always run."""

NUMBER = re.compile(r"node@(\d+)@")
CONVERSIONS = frozenset(["QuantizeLinear", "DequantizeLinear"])
BEFORE, BEHIND = "ReorderInput", "ReorderOutput"
"""Kernels that change the layout for the float convolution behind them, and from that before them."""

WHOLE_RUNS = 60
FASTER_IN_FLOAT = "int8 would not pay here: the network as a whole was measured to be faster in float"

SIDES = (14, 56)
"""Heights and widths of the images whose conversion is timed."""

ROWS = (32, 512)

Build = Callable[[Model, Mapping[Node, Integer], Sequence[Feeds]], None]
"""Quantizes just these layers of a model in place."""


def measured(
    model: Model, chosen: Mapping[Node, Integer], build: Build, feed: Feeds, sizes: Sizes, progress: Progress
) -> Costs:
    """What `chosen` and what may connect them take in either precision, and what a conversion takes.

    A layer that is not found in the profile gets its modelled time, in the proportion of those that are.
    """
    slow, _ = _numbered(model, {})
    fast, own = _numbered(model, chosen)
    build(fast, own, [feed])
    before, after = (_by_number(found) for found in profiled([slow, fast], feed, progress))
    number = {node: index for index, node in enumerate(model.graph)}
    found: dict[Node, Times] = {}
    for node in model.graph:
        if node in chosen or may_connect(node):
            parts = [number[n] for n in group(node, chosen.get(node))]
            both = Times(*(sum(t.get(part, 0.0) for part in parts) for t in (before, after)))
            if (both.float and both.int8) or (node not in chosen and (both.float or both.int8)):
                found[node] = both
    guess = modelled(chosen, sizes)
    scale = statistics.median([t.float / guess.times[n].float for n, t in found.items() if n in chosen] or [1.0])
    missed = {n: Times(t.float * scale, t.int8 * scale) for n, t in guess.times.items() if n not in found}
    return replace(guess, times={**found, **missed}, images=_images(build), others=_others(build), measured=True)


def confirmed(
    model: Model,
    chosen: Mapping[Node, Integer],
    slower: Mapping[Node, str],
    build: Build,
    feed: Feeds,
    progress: Progress,
) -> dict[Node, str]:
    """The layers to leave in float, each with the reason, once whole networks were timed: `slower`, unless the network
    with all of `chosen` in int8, or none, is faster for certain.
    """
    assignments = [slower, {}, {node: slower.get(node, FASTER_IN_FLOAT) for node in chosen}]
    runners: list[Runner] = []
    for floats in assignments:
        copy, own = _numbered(model, {n: layer for n, layer in chosen.items() if n not in floats})
        if own:
            build(copy, own, [feed])
        runners.append(OrtRunner(copy))
    timed = latency(runners, feed, WHOLE_RUNS, seconds=SECONDS, progress=progress)
    best = min(range(len(timed)), key=lambda i: timed[i].ratio)
    return dict(assignments[best] if timed[best].ratio_high < 1 - HYSTERESIS / 2 else slower)


def profiled(models: Sequence[Model], feed: Feeds, progress: Progress) -> list[list[Kernel]]:
    """The kernels of each model, which are run in turns."""
    runners = [Profiler(model) for model in models]
    end = time.perf_counter() + SECONDS
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS and time.perf_counter() > end:
            break
        for runner in runners:
            for _ in range(RUNS):
                runner.run(feed)
        progress("timing layers", done + 1, ROUNDS)
    return [runner.kernels(RUNS) for runner in runners]


def _numbered(model: Model, chosen: Mapping[Node, Integer]) -> tuple[Model, dict[Node, Integer]]:
    """A copy whose nodes and values are named by the number of their node, and the layers as they are in it."""
    copy = model.clone()
    twins, nodes = pairs(model, copy), dict(zip(model.graph, copy.graph, strict=True))
    for index, node in enumerate(copy.graph):
        node.loc = Loc(scope=f"node@{index}@", origin=f"node@{index}@")
        for value in node.outputs:
            value.name = f"node@{index}@"
    copy.graph.output_names = [
        f"{v.name}{place}" if v.node is not None and v.name else name
        for place, (v, name) in enumerate(zip(copy.graph.outputs, copy.graph.output_names, strict=True))
    ]
    return copy, in_copy(chosen, nodes, twins)


def _by_number(kernels: Sequence[Kernel]) -> dict[int, float]:
    """Microseconds per node, conversions not counted; a change of layout counts for the node that wants it."""
    found: dict[int, float] = {}
    for kernel in kernels:
        names = {BEFORE: kernel.users, BEHIND: kernel.makers}.get(kernel.op, (kernel.name,))
        match = next((m for m in map(NUMBER.search, names) if m is not None), None)
        if match is not None and kernel.op not in CONVERSIONS:
            place = int(match[1])
            found[place] = found.get(place, 0.0) + kernel.microseconds
    return found


def _images(build: Build) -> Price:
    """What it costs to enter or leave int8 between convolutions, changes of layout included."""
    points: list[tuple[int, float]] = []
    for side in SIDES:
        shape = f"f32[1,32,{side},{side}]"
        rows = "".join(f"%{i + 1} = Conv(%{i}, @w) : {shape}\n" for i in range(3))
        model = Model(parse(f"graph (%0: {shape}) -> (y) {{ @w : f32[32,32,1,1] = random(1)\n{rows} return %3 }}"))
        points.append((32 * side * side, _beside(model, 1, build, "Conv") / 2))
    return _line(points)


def _others(build: Build) -> Price:
    """What it costs to quantize what a matrix product reads."""
    points: list[tuple[int, float]] = []
    for count in ROWS:
        shape = f"f32[{count},256]"
        text = f"""graph (%x: {shape}) -> (y) {{ @w : f32[256,64] = random(1)
          %1 = Neg(%x) : {shape} %2 = Gemm(%1, @w) : f32[{count},64] return %2 }}"""
        points.append((count * 256, _beside(Model(parse(text)), 0, build, "Gemm")))
    return _line(points)


def _beside(model: Model, index: int, build: Build, op: str) -> float:
    """Microseconds that one layer in int8 adds beside those of the layers, whose operator's name holds `op`."""
    chosen = {node: layer for node, layer in layers(model.graph) if isinstance(layer, Layer)}
    fast, own = _numbered(model, dict([list(chosen.items())[index]]))
    shape = tuple(int(d) for d in model.graph.inputs[0].shape or ())
    feed = {model.graph.inputs[0].name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    build(fast, own, [feed])
    before, after = (
        sum(k.microseconds for k in found if op not in k.op) for found in profiled([model, fast], feed, silent)
    )
    return max(0.0, after - before)


def _line(points: Sequence[tuple[int, float]]) -> Price:
    """The price of which two sizes give the points."""
    (small, low), (large, high) = points
    element = max(0.0, (high - low) / (large - small))
    return Price(max(0.0, low - element * small), element)
