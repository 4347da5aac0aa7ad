"""Floats of 16 bits: weights stored in them, or the parts of a network computed in them that bear it.

Stored: a Cast behind each large weight; runtimes fold it when they load the file, and everything is computed in 32
bits. Computed: operators with a row in `sensitive` take and give 16 bits, the others stay as they are, and a minimum
cut between the two places as few Casts as there can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import networkx as nx
import numpy as np

from ...backends.onnx.lowering.element_types import TENSOR_NAMES, takes
from ...backends.runners import OrtRunner, Samples
from ...ir import (
    CANONICAL_OPSET,
    Array,
    Builder,
    DType,
    Graph,
    Model,
    Node,
    Tensor,
    TensorType,
    TersorError,
    UsageError,
    Value,
    constant,
    fuse,
)
from ...ir.inference import infer
from ...ir.tensors import cast
from ..base import Context, Contract, Decision, Outcome, Pass
from ..select import Selection
from . import cut, sensitive
from .accumulated import Accumulated, accumulated, float_outputs
from .calibrate import observe
from .layers import is_f32
from .observers import Statistic, not_finite
from .report import signals
from .warnings import of_outputs, of_samples

DTYPES = {"float16": DType.F16, "bfloat16": DType.BF16}
MODES = ("weights", "compute")
INTERFACES = ("keep", "convert")

SMALLEST = 4096
"""Elements below which a weight is not worth a Cast."""

LEAST_DB = {DType.F16: 60.0, DType.BF16: 40.0}
"""SQNR below which a weight has lost more than the digits that 16 bits lack: it holds numbers too small for them. Plain
rounding leaves about 74 and 56 dB."""

LARGEST = {DType.F16: 65504.0, DType.BF16: 3.38e38}
TINIEST = {DType.F16: 2.0**-24, DType.BF16: 1.2e-38}
"""The largest number, and the smallest that is not taken for zero."""

HEADROOM = 2.0
"""How far what was seen of a value stays below the largest number: other inputs go a little further."""

LEANING = 0.01
"""What 16 bits are worth to a node that may have either, in Casts."""


@dataclass(frozen=True)
class Half(Pass):
    """Weights stored in 16-bit floats, or the parts of a network that bear it computed in them.

    `mode` "weights" stores weights of at least 4096 elements in `dtype` ("float16" or "bfloat16") and computes in 32
    bits; "compute" computes in `dtype` wherever the table in `sensitive` allows it. A weight that `dtype` does not
    hold, and a node whose constants, or whose values on calibration data (where there is some; `samples` of it, 0:
    all), leave its range, stay in 32 bits. `interface` "convert" changes the types of the model's inputs and outputs,
    too. `only` and `skip` select by node name, module scope or operator; what is not selected stays in 32 bits.
    """

    name: ClassVar[str] = "half"
    contract: ClassVar[Contract] = "approximate"

    dtype: str = "float16"
    mode: str = "weights"
    interface: str = "keep"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    samples: int = 0

    def __post_init__(self) -> None:
        for what, found, names in (
            ("dtype", self.dtype, tuple(DTYPES)),
            ("mode", self.mode, MODES),
            ("interface", self.interface, INTERFACES),
        ):
            if found not in names:
                raise UsageError(f"there is no {what} {found!r}", do=f"there are {', '.join(names)}")
        if self.samples < 0:
            raise UsageError(f"samples={self.samples} is negative", do="give 0 to use all samples")
        if self.mode == "weights" and (self.interface != "keep" or self.samples):
            idle = "interface" if self.interface != "keep" else "samples"
            raise UsageError(f"{idle} has no effect with mode='weights'", why="only storage changes", do="leave it out")
        if self.mode == "compute" and self.dtype == "bfloat16":
            raise UsageError(
                "no runtime here computes an ONNX file in bfloat16",
                why="ONNX Runtime has no such kernels on the CPU; OpenVINO computes float files in bfloat16 by itself",
                do='give dtype="float16", or mode="weights" for the size alone',
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Converts in place. Raises UsageError for patterns that match nothing, and TersorError where ONNX Runtime does
        not take the result."""
        infer(model.graph, context.fallback)
        selection = Selection(model.graph, self.only, self.skip)
        if self.mode == "weights":
            return self.store(model.graph, selection)
        return self.compute(model, selection, context)

    def store(self, graph: Graph, selection: Selection) -> Outcome:
        """Casts behind weights, one for each weight and graph that reads it."""
        outcome, dtype = Outcome(), DTYPES[self.dtype]
        made: dict[tuple[Value, Graph], Value] = {}
        kept: dict[Value, tuple[str, float]] = {}
        for place, node in [(inner, node) for inner in graph.graphs() for node in inner]:
            weights = [v for v in dict.fromkeys(node.inputs) if v is not None and v.const is not None and is_f32(v)]
            weights = [v for v in weights if v.tensor.count >= SMALLEST]
            if not weights:
                continue
            reasons: list[str] = []
            worst = math.inf
            for weight in weights:
                if weight not in kept:
                    kept[weight] = judged(weight.tensor, dtype)
                why = selection.reason(node) or kept[weight][0]
                if why:
                    reasons.append(why)
                    continue
                worst = min(worst, kept[weight][1])
                if (weight, place) not in made:
                    made[weight, place] = stored(weight, dtype, node, place)
                node.set_inputs([made[weight, place] if v is weight else v for v in node.inputs])
            decision = "as it is" if len(reasons) == len(weights) else f"{self.dtype} weights"
            sqnr = worst if math.isfinite(worst) else None
            outcome.decisions.append(Decision.of(node, decision, "; ".join(dict.fromkeys(reasons)), sqnr))
        outcome.changed = len({weight for weight, _ in made})
        outcome.notes.append(f"{outcome.changed} of {len(kept)} weights stored in {self.dtype}")
        return outcome

    def compute(self, model: Model, selection: Selection, context: Context) -> Outcome:
        """Chooses nodes, rewrites, and measures each layer's error where there are samples."""
        graph, dtype, samples = model.graph, DTYPES[self.dtype], context.samples
        plan = Plan(graph, dtype)
        counted = sum(any(is_f32(v) for v in node.outputs) for node in graph)
        for node in graph:
            why = selection.reason(node) or plan.why_not(node)
            if why:
                plan.reasons[node] = why
        if samples is not None:
            plan.reasons.update(self.out_of_range(model, plan, samples, context))
        plan.choose(self.interface == "convert")
        layers = [n for n in graph if n.op in sensitive.LAYERS and n in plan.halves]
        ends = float_outputs(graph)
        floats: list[list[Array]] = []
        if samples is not None:
            taps = [*(n.output for n in layers), *ends.values()]
            floats = list(signals(OrtRunner(model, taps=taps), model, samples))
        outcome = Outcome(changed=sum(n is not graph.entry and n is not graph.exit for n in plan.halves))
        decided = [n for n in graph if n.op in sensitive.LAYERS]
        decisions = {
            n: Decision.of(n, *((self.dtype, "") if n in plan.halves else ("fp32", plan.reason(n)))) for n in decided
        }
        casts = plan.write()
        self.require_runtime(model)
        found = Accumulated({}, ())
        if samples is not None:
            found = accumulated(floats, model, {n: n.output for n in layers}, list(ends), samples)
        outcome.decisions = [with_noise(row, found.layers.get(n)) for n, row in decisions.items()]
        outcome.warnings = [
            *of_samples(samples, self.samples),
            *of_outputs(found.outputs, self.dtype, self.mode),
        ]
        outcome.notes.append(f"{outcome.changed} of {counted} nodes compute in {self.dtype}, between {casts} Casts")
        if samples is None:
            outcome.notes.append("no calibration data: the ranges of values were not checked")
        return outcome

    def out_of_range(self, model: Model, plan: Plan, samples: Samples, context: Context) -> dict[Node, str]:
        """The nodes that read or give values beyond the range, as seen on calibration data."""
        able = [n for n in model.graph if n not in plan.reasons]
        values = list(dict.fromkeys(v for n in able for v in plan.values(n) if v.const is None))
        wanted = [(v, Magnitude) for v in values]
        found = observe(
            model, wanted, samples, progress=context.progress, limit=self.samples, executor=context.executor
        )
        seen = {v: m.largest for v, m in zip(values, found, strict=True)}
        why: dict[Node, str] = {}
        for node in able:
            largest = max((seen[v] for v in plan.values(node) if v in seen), default=0.0)
            if largest * HEADROOM > LARGEST[plan.dtype]:
                why[node] = f"it handles numbers up to {largest:.3g}, too near to the limit of {LARGEST[plan.dtype]:g}"
        return why

    def require_runtime(self, model: Model) -> None:
        """Raises TersorError where ONNX Runtime has no kernel for a node of the result."""
        try:
            OrtRunner(model)
        except TersorError as error:
            error.what = f"ONNX Runtime does not take this network in {self.dtype}"
            error.do = "leave that operator out with skip=(...), or store weights only with mode='weights'"
            raise


def with_noise(row: Decision, sqnr: float | None) -> Decision:
    return row if sqnr is None else replace(row, sqnr_db=sqnr)


# Weights


def judged(weight: Tensor, dtype: DType) -> tuple[str, float]:
    """Why a weight cannot be stored in `dtype` ('' where it can), and the SQNR in dB that it has there."""
    if dtype not in LARGEST:
        raise ValueError(f"{dtype.label} is no float of 16 bits")
    signal = noise = largest = 0.0
    step = max(1, (1 << 22) // max(1, weight.count // max(1, weight.shape[0] if weight.shape else 1)))
    for start in range(0, weight.shape[0], step):
        rows = weight.rows(start, min(weight.shape[0], start + step)).astype(np.float64)
        if not np.isfinite(rows).all():
            return "it holds NaN or infinity", 0.0
        largest = max(largest, float(np.abs(rows).max(initial=0.0)))
        if largest > LARGEST[dtype]:
            return f"its largest number, {largest:.3g}, is beyond the {LARGEST[dtype]:g} of {dtype.label}", 0.0
        signal += float(np.square(rows).sum())
        noise += float(np.square(rows - rows.astype(np.float32).astype(dtype.numpy).astype(np.float64)).sum())
    sqnr = 10 * math.log10(signal / noise) if noise and signal else math.inf
    if sqnr < LEAST_DB[dtype]:
        return f"its numbers are too small for {dtype.label}: {sqnr:.0f} dB", sqnr
    return "", sqnr


def stored(weight: Value, dtype: DType, node: Node, graph: Graph) -> Value:
    """The weight in `dtype` behind a Cast at the front of the graph that `node` is in."""
    narrow = constant(cast(weight.tensor, dtype), weight.name)
    wide = Builder(graph, graph.entry.next, loc=fuse(node.loc, [], "half")).Cast(narrow, to=DType.F32.code)
    wide.type, wide.name = weight.type, f"{weight.name}_restored" if weight.name else ""
    return wide


class Magnitude(Statistic):
    """The largest finite |x|: 16 bits hold infinities too."""

    def __init__(self) -> None:
        self.largest = 0.0

    def update(self, array: Array) -> None:
        size = np.abs(array)
        if np.isnan(size).any():
            raise not_finite(array)
        self.largest = max(self.largest, float(size.max(initial=0.0, where=np.isfinite(size))))

    def merge(self, other: Statistic) -> None:
        if not isinstance(other, Magnitude):
            raise TypeError("only magnitudes can be merged")
        self.largest = max(self.largest, other.largest)


# Computing


@dataclass
class Plan:
    """Which nodes of a graph compute in `dtype`: `reasons` are those that cannot, `halves` those that will."""

    graph: Graph
    dtype: DType
    reasons: dict[Node, str] = field(default_factory=dict[Node, str])
    halves: set[Node] = field(default_factory=set[Node])

    def why_not(self, node: Node) -> str:
        """Why a node cannot compute in 16 bits; '' where it can."""
        why = sensitive.why_not(node)
        if why:
            return why
        if not list(self.values(node)):
            return "it has no float operand that may have 16 bits"
        for value in self.operands(node):
            if value.const is not None:
                why = fits(value.tensor, self.dtype)
                if why:
                    return why
        return ""

    def takes(self, node: Node, side: str, index: int) -> bool:
        """Whether an operand or output may have 16 bits; what the opset lacks is written out by the backend."""
        if node in (self.graph.entry, self.graph.exit):
            return True
        return takes(node.op, CANONICAL_OPSET, side, index, TENSOR_NAMES[self.dtype])

    def operands(self, node: Node) -> Iterator[Value]:
        """The float operands that may have 16 bits."""
        for i, value in enumerate(node.inputs):
            if value is not None and is_f32(value) and self.takes(node, "inputs", i):
                yield value

    def values(self, node: Node) -> Iterator[Value]:
        """Those, and the results."""
        yield from self.operands(node)
        yield from (v for i, v in enumerate(node.outputs) if is_f32(v) and self.takes(node, "outputs", i))

    def reason(self, node: Node) -> str:
        return self.reasons.get(node, "it stands alone: the Casts around it would cost more")

    def choose(self, convert: bool) -> None:
        """The cheapest assignment; with `convert` the graph's inputs and outputs are in 16 bits."""
        able = [node for node in self.graph if node not in self.reasons]
        ends = [self.graph.entry, self.graph.exit] if convert else []
        network: nx.DiGraph[object] = nx.DiGraph()
        network.add_nodes_from((cut.FAST, cut.FLOAT))
        for node in able:
            network.add_edge(cut.FAST, node, capacity=math.inf if node.op in sensitive.LAYERS else LEANING)
        for node in ends:
            network.add_edge(cut.FAST, node, capacity=math.inf)
        members = {*able, *ends}
        for value, maker in self.made():
            takers = [user for user in value.users if user in members and value in self.operands(user)]
            source = maker if maker in members and self.gives(maker, value) else cut.FLOAT
            if takers or source != cut.FLOAT:
                cut.connect(network, value, source, takers, 1.0)
        fast = cut.cheapest(network)[1]
        self.halves = {node for node in members if node in fast}

    def made(self) -> Iterator[tuple[Value, Node]]:
        for node in (self.graph.entry, *self.graph):
            yield from ((v, node) for v in node.outputs if is_f32(v))

    def gives(self, node: Node, value: Value) -> bool:
        return self.takes(node, "outputs", value.index)

    def write(self) -> int:
        """Changes the graph; gives the number of Casts."""
        casts = 0
        narrowed: dict[Value, Value] = {}
        for value, maker in list(self.made()):
            half = maker in self.halves and self.gives(maker, value)
            others = [(u, i) for u, i in uses(value) if half != (u in self.halves and self.takes(u, "inputs", i))]
            if half:
                self.retype(value)
            if others:
                casts += 1
                other = self.converted(value, DType.F32 if half else self.dtype)
                for user, i in others:
                    user.set_input(i, other)
        for node in self.halves:
            for i, value in enumerate(node.inputs):
                if value is not None and value.const is not None and is_f32(value) and self.takes(node, "inputs", i):
                    if value not in narrowed:
                        narrowed[value] = constant(cast(value.tensor, self.dtype), value.name)
                    node.set_input(i, narrowed[value])
            if node.op == "Attention":
                node.attrs["softmax_precision"] = DType.F32.code
        return casts

    def retype(self, value: Value) -> None:
        assert isinstance(value.type, TensorType), "only floats are chosen"
        value.type = value.type.with_dtype(self.dtype)
        if value in self.graph.defaults:
            self.graph.defaults[value] = cast(self.graph.defaults[value], self.dtype)

    def converted(self, value: Value, dtype: DType) -> Value:
        """The value in another precision, right behind the node that gives it."""
        maker = value.node
        assert maker is not None, "a computed value"
        assert isinstance(value.type, TensorType), "only floats are converted"
        other = Builder(self.graph, maker.next, loc=fuse(maker.loc, [], "half")).Cast(value, to=dtype.code)
        other.type, other.name = value.type.with_dtype(dtype), f"{value.name}_{dtype.label}" if value.name else ""
        return other


def uses(value: Value) -> list[tuple[Node, int]]:
    """Every place where a value is read."""
    return [(user, i) for user in value.users for i, v in enumerate(user.inputs) if v is value]


def fits(tensor: Tensor, dtype: DType) -> str:
    """Why a constant cannot have 16 bits without becoming another one: infinity, or zero."""
    if tensor.count >= SMALLEST:
        return judged(tensor, dtype)[0]
    size = np.abs(tensor.numpy().astype(np.float64))
    size = size[np.isfinite(size) & (size > 0)]
    if size.size and size.max() > LARGEST[dtype]:
        return f"its constant {size.max():.3g} is beyond the {LARGEST[dtype]:g} of {dtype.label}"
    if size.size and size.max() < TINIEST[dtype]:
        return f"its constant {size.max():.3g} is zero in {dtype.label}"
    return ""
