"""Floats of 16 bits: weights stored in them, or the parts of a network computed in them that bear it.

Stored: a Cast behind each large weight; runtimes fold it when they load the file, and everything is computed in 32
bits. Computed: operators with a row in `sensitive` take and give 16 bits, the others stay as they are, and a minimum
cut between the two places as few Casts as there can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from ...backends.onnx import default_opset
from ...backends.runners import Samples
from ...backends.runners.rounded import runner_of
from ...ir import Array, DType, Graph, Model, Node, TersorError, UsageError, Value
from ...ir.inference import infer
from ..base import Context, Contract, Decision, Outcome, Pass
from ..select import Selection
from . import sensitive
from .accumulated import Accumulated, accumulated, float_outputs
from .calibrate import observe
from .half_plan import Plan
from .layers import is_f32
from .narrow import DTYPES, LARGEST, SMALLEST, Magnitude, judged, stored
from .report import signals
from .warnings import for_other_runtimes, of_outputs, of_samples

MODES = ("weights", "compute")
INTERFACES = ("keep", "convert")

HEADROOM = 2.0
"""How far what was seen of a value stays below the largest number: other inputs go a little further."""


@dataclass(frozen=True)
class Half(Pass):
    """Weights stored in 16-bit floats, or the parts of a network that bear it computed in them.

    `mode` "weights" stores weights of at least 4096 elements in `dtype` ("float16" or "bfloat16") and computes in 32
    bits; "compute" computes in `dtype` wherever the table in `sensitive` allows it. A weight that `dtype` does not
    hold, and a node whose constants, or whose values on calibration data (where there is some; `samples` of it, 0:
    all), leave its range, stay in 32 bits. `interface` "convert" changes the types of the model's inputs and outputs,
    too. `only` and `skip` select by node name, module scope or operator; what is not selected stays in 32 bits.

    ONNX Runtime does not compute in bfloat16 on the CPU: such a file is for other runtimes, and what it keeps is
    measured in 32 bits with every value rounded.
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
        if self.dtype == "bfloat16" and self.samples:
            raise UsageError(
                "samples has no effect with dtype='bfloat16'",
                why="it has the range of 32 bits, so that no range is looked for",
                do="leave it out",
            )

    @property
    def float(self) -> DType:
        """The 16 bits."""
        return DTYPES[self.dtype]

    def run(self, model: Model, context: Context) -> Outcome:
        """Converts in place. Raises UsageError for patterns that match nothing, and TersorError where ONNX Runtime does
        not take the result; of one that computes in bfloat16, where it does not take that in 32 bits.
        """
        infer(model.graph, context.fallback)
        selection = Selection(model.graph, self.only, self.skip)
        if self.mode == "weights":
            return self.store(model.graph, selection)
        return self.compute(model, selection, context)

    def store(self, graph: Graph, selection: Selection) -> Outcome:
        """Casts behind weights, one for each weight and graph that reads it."""
        outcome, dtype = Outcome(), self.float
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
        graph, dtype, samples = model.graph, self.float, context.samples
        plan = Plan(graph, dtype)
        counted = sum(any(is_f32(v) for v in node.outputs) for node in graph)
        for node in graph:
            why = selection.reason(node) or plan.why_not(node)
            if why:
                plan.reasons[node] = why
        if samples is not None and dtype is DType.F16:
            plan.reasons.update(self.out_of_range(model, plan, samples, context))
        plan.choose(self.interface == "convert")
        layers = [n for n in graph if n.op in sensitive.LAYERS and n in plan.halves]
        ends = float_outputs(graph)
        floats: list[list[Array]] = []
        if samples is not None:
            taps = [*(n.output for n in layers), *ends.values()]
            floats = list(signals(runner_of(model, taps=taps), model, samples))
        outcome = Outcome(changed=sum(n is not graph.entry and n is not graph.exit for n in plan.halves))
        decided = [n for n in graph if n.op in sensitive.LAYERS]
        decisions = {
            n: Decision.of(n, *((self.dtype, "") if n in plan.halves else ("fp32", plan.reason(n)))) for n in decided
        }
        casts = plan.write()
        if dtype is DType.BF16 and default_opset(model) < plan.opset():
            model.source_opset = plan.opset()
        self.require_runtime(model)
        found = Accumulated({}, ())
        if samples is not None:
            found = accumulated(floats, model, {n: n.output for n in layers}, list(ends), samples)
        outcome.decisions = [with_noise(row, found.layers.get(n)) for n, row in decisions.items()]
        outcome.warnings = [
            *of_samples(samples, self.samples),
            *of_outputs(found.outputs, self.dtype, self.mode),
            *(for_other_runtimes() if outcome.changed and dtype is DType.BF16 else ()),
        ]
        outcome.notes.append(f"{outcome.changed} of {counted} nodes compute in {self.dtype}, between {casts} Casts")
        outcome.notes += [f"output {o.name!r} keeps {o.sqnr_db:.1f} dB" for o in found.outputs]
        if samples is None and dtype is DType.F16:
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
            runner_of(model)
        except TersorError as error:
            error.what = f"ONNX Runtime does not take this network in {self.dtype}"
            error.do = "leave that operator out with skip=(...), or store weights only with mode='weights'"
            raise


def with_noise(row: Decision, sqnr: float | None) -> Decision:
    return row if sqnr is None else replace(row, sqnr_db=sqnr)
