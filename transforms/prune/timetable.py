"""How long layers take in ONNX Runtime at other numbers of channels, measured on this machine.

Runtimes compute channels in vectors: a convolution of 17 channels takes as long as one of 32, or longer. So time is no
product of what stays along each axis, and a choice under a budget of time needs the steps. Each convolution is timed by
itself, in its own shape, at some numbers of channels that fill vectors; in between time is interpolated. Products of
matrices have finer steps and are timed once. What the whole network takes longer goes to its other operators.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from ...backends.runners import Feeds, OrtRunner, synthesize
from ...ir import Array, Graph, Model, Node, parse
from ..cost import Shape, Sizes, bind_sizes, node_flops, static_shape
from .axes import AxisMap
from .bill import Axis, Bill, Price, along

WIDTHS = (16, 8, 4)
"""Channels that runtimes compute at once."""
LEVELS = 5
"""Numbers of channels, at most, at which a layer is timed along each axis."""
COPIES = 8
"""Layers, at most, that are timed at once, so that one is long enough for the clock."""
WORK = 3e7
"""Floating-point operations of these together, about."""
RUNS, SECONDS = 40, 1.0
"""Layers that are compared are timed in turns, in at most so many, and for about so long."""
LEAST = 5
PLATEAU = 0.88
"""What fewer channels take, at least, of the time of the vector that they are computed with."""
REST = 0.02
"""The share of all time, at least, that goes to operators which are not timed by themselves."""

Clock = Callable[[Sequence[str], int], list[float]]
"""Seconds of networks in text, each divided by a number."""


def seconds(texts: Sequence[str], copies: int) -> list[float]:
    """The shortest run of each network in ONNX Runtime, on one thread, shared out to the layers in it."""
    missing = [text for text in dict.fromkeys(texts) if text not in KNOWN]
    models = [Model(parse(text)) for text in missing]
    KNOWN.update(zip(missing, shortest([(m, synthesize(m.graph)[0]) for m in models]), strict=True))
    return [KNOWN[text] / copies for text in texts]


def shortest(given: Sequence[tuple[Model, Feeds]], most: int = RUNS, longest: float = SECONDS) -> list[float]:
    """Seconds of the shortest run of each model, in turns: what else the machine does only makes runs longer."""
    runs = [partial(OrtRunner(model).run, feeds) for model, feeds in given]
    taken: list[list[float]] = [[] for _ in runs]
    started, done = time.perf_counter(), 0
    while runs and (done < LEAST or (done < most and time.perf_counter() - started < longest)):
        for run, times in zip(runs, taken, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        done += 1
    return [min(times) for times in taken]


KNOWN: dict[str, float] = {}
"""What was timed in this process."""


@cache
def width(clock: Clock = seconds) -> int:
    """The channels that the runtime's convolutions compute at once on this machine; 1 where the time follows every
    channel. Of a convolution of 64 to 16 channels most of one vector is taken away.
    """
    outputs = [16, *(16 - 3 * each // 4 for each in WIDTHS)]
    whole, *fewer = clock([convolutions((1, 64, 14, 14), (n, 64, 3, 3), {}, COPIES) for n in outputs], COPIES)
    return next((each for each, time in zip(WIDTHS, fewer, strict=True) if time > PLATEAU * whole), 1)


def aligned(count: int, vector: int) -> bool:
    """Whether that many channels fill vectors, or half or a quarter of one."""
    return count % vector == 0 or (count < vector and count * 4 in (vector, 2 * vector))


def convolutions(x: Shape, weight: Shape, options: dict[str, object], copies: int, through: int = 0) -> str:
    """Text of a sum of convolutions of one input, which runtimes compute without touching the sum.

    With `through` each reads the result of a convolution of 1 x 1 of so many channels instead: it then pays, too, for
    what its input has to be brought out of the runtime's own layout.
    """
    kernel = weight[2:]
    shown: dict[str, object] = {"pads": [k // 2 for k in kernel] * 2, **options}
    said = ", ".join(f"{name}={value}" for name, value in shown.items())
    lines: list[str] = []
    total = ""
    for i in range(copies):
        source = f"%x{i}" if through else "%x"
        if through:
            pointwise = [x[1], through, *(1 for _ in kernel)]
            lines += [f"@p{i} : f32{pointwise} = random({i})", f"%x{i} = Conv(%x, @p{i})"]
        lines += [f"@w{i} : f32{list(weight)} = random({i})", f"%c{i} = Conv({source}, @w{i}) {{{said}}}"]
        lines += [f"%s{i} = Add({total}, %c{i})"] if total else []
        total = f"%s{i}" if i else "%c0"
    return wrapped((x[0], through or x[1], *x[2:]), lines, total)


def products(x: Shape, weight: Shape, copies: int) -> str:
    """Text of products of one input with several matrices."""
    lines: list[str] = []
    for i in range(copies):
        lines += [f"@w{i} : f32{list(weight)} = random({i})", f"%p{i} = MatMul(%x, @w{i})"]
    return wrapped(x, lines, ", ".join(f"%p{i}" for i in range(copies)))


def wrapped(x: Shape, lines: Sequence[str], results: str) -> str:
    names = ", ".join(name.lstrip("%") for name in results.split(", "))
    return "\n".join([f"graph(%x: f32{list(x)}) -> ({names}) {{", *lines, f"return {results}", "}"])


@dataclass(frozen=True)
class Table:
    """Times at some numbers of channels along each axis, all others being there, as shares of the time at all of them.

    Calling it with the shares that stay along the axes gives the share of the time. Numbers of channels count as the
    next one that fills vectors.
    """

    levels: tuple[list[int], ...]
    times: tuple[Array, ...]
    vector: int

    def __call__(self, shares: Sequence[float]) -> float:
        cost = 1.0
        for levels, times, share in zip(self.levels, self.times, shares, strict=True):
            if share < 1:
                cost *= float(np.interp(whole(round(share * levels[-1], 6), self.vector), levels, times))
        return cost


def whole(count: float, vector: int) -> int:
    """The next number of channels that fills vectors."""
    parts = [part for part in (vector // 4, vector // 2) if part and count <= part]
    return parts[0] if parts else int(-(-count // vector) * vector)


def levels(size: int, vector: int) -> list[int]:
    """Numbers of channels at which a layer of `size` is timed, ascending."""
    found = [n for n in range(1, size) if aligned(n, vector)]
    picked = {found[round(i * (len(found) - 1) / (LEVELS - 2))] for i in range(LEVELS - 1)} if found else set[int]()
    return [*sorted(picked), size]


def rising(times: Sequence[float]) -> Array:
    """Times as shares of the last one; none is above one of more channels, among which fewer can always be."""
    return np.minimum.accumulate(np.array(times)[::-1])[::-1] / times[-1]


@dataclass(frozen=True)
class Shop:
    """Times the layers of one graph."""

    axes: AxisMap
    sizes: Sizes
    vector: int
    clock: Clock

    def priced(self, node: Node) -> tuple[float, Sequence[Axis], Price | None] | None:
        """A layer's seconds, the axes along which they fall, and how; None for what is not timed by itself."""
        x, w = (static_shape(node.input(i), self.sizes) if len(node.inputs) > i else None for i in range(2))
        weight = node.input(1) if len(node.inputs) > 1 else None
        if node.domain or x is None or w is None or weight is None or not weight.is_const or not node.output.is_float:
            return None
        if node.op == "Conv":
            return self.convolution(node, x, w)
        if node.op in ("Gemm", "MatMul") and len(w) == 2 and not node.int("transA", 0):
            size = w[::-1] if node.op == "Gemm" and node.int("transB") else w
            copies = self.copies(node)
            return self.clock([products((*x[:-1], size[0]), size, copies)], copies)[0], along(node), None
        return None

    def convolution(self, node: Node, x: Shape, w: Shape) -> tuple[float, Sequence[Axis], Price | None] | None:
        """One of a single group along both axes, a depthwise one along its channels, others in proportion."""
        if node.str("auto_pad", "NOTSET") != "NOTSET":
            return None
        group, names = node.int("group", 1), ("pads", "strides", "dilations")
        options: dict[str, object] = {n: list(node.ints(n)) for n in names if node.attr(n) is not None}
        out, into = (node.output, 1), (node.operand(1), 1)

        def timed(shapes: Sequence[tuple[int, int]], groups: int, through: int = 0) -> list[float]:
            copies = self.copies(node)
            texts = [
                convolutions((x[0], i * groups, *x[2:]), (o, i, *w[2:]), options | {"group": groups}, copies, through)
                for o, i in shapes
            ]
            return self.clock(texts, copies)

        if group == 1:
            grid = self.levels(out, w[0]), self.levels(into, w[1])
            first = timed([(o, w[1]) for o in grid[0]], 1)
            second = timed([(w[0], i) for i in grid[1]], 1, self.vector) if len(grid[1]) > 1 else [1.0]
            return first[-1], (out, into), Table(grid, (rising(first), rising(second)), self.vector)
        if w[1] == 1 and w[0] == group:
            levels = self.levels(out, w[0])
            times = [each for o in levels for each in timed([(o, 1)], o)]
            return times[-1], (out,), Table((levels,), (rising(times),), self.vector)
        return timed([(w[0], w[1])], group)[0], along(node), None

    def levels(self, axis: Axis, size: int) -> list[int]:
        value, place = axis
        free = value in self.axes and self.axes.is_active(self.axes[value, place])
        return levels(size, self.vector) if free else [size]

    def copies(self, node: Node) -> int:
        return max(1, min(COPIES, int(WORK // max(1, node_flops(node, self.sizes)))))


def latency(graph: Graph, axes: AxisMap, shapes: dict[str, Shape], total: float, vector: int, clock: Clock) -> Bill:
    """Seconds of one run on inputs of the given shapes, of which `total` were measured for the whole network."""
    sizes = bind_sizes(graph, shapes)
    shop = Shop(axes, sizes, vector, clock)
    layers = {node: found for node in graph if (found := shop.priced(node)) is not None}
    rest = max(total - sum(cost for cost, _, _ in layers.values()), REST * total)
    others = {n: float(np.prod(s)) for n in graph for s in [static_shape(n.outputs[0], sizes)] if n not in layers and s}
    rate = rest / max(1.0, sum(others.values()))
    return Bill(axes, priced(layers, others, rate))


def priced(
    layers: dict[Node, tuple[float, Sequence[Axis], Price | None]], others: dict[Node, float], rate: float
) -> Iterator[tuple[Node, float, Sequence[Axis], Price | None]]:
    yield from ((node, *layer) for node, layer in layers.items())
    yield from ((node, rate * elements, along(node), None) for node, elements in others.items())
