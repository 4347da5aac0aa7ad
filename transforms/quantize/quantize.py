"""The pass: decides per layer, calibrates, places and inserts int8, and says what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np

from ...backends.runners import OrtRunner, Samples
from ...ir import Array, Graph, Model, Node, UsageError, Value, pairs
from ...ir.inference import infer
from ..base import Context, Contract, Decision, Outcome, Pass, Progress, Rounded
from ..cost import Sizes
from ..samples import alone_in_batch, one_sample
from ..select import Selection, matches
from . import dynamic, gru, insertion, recurrent, scheme, warnings, weights
from .accumulated import accumulated, around, float_outputs
from .alone import Assigned, evidence, scheme_text, weight_sqnr
from .bias import ChannelMeans, Means, correct_in_turn, corrected, means_of
from .calibrate import observe, require
from .candidates import Candidate, Measured
from .gain import Costs, forms_not_worth, modelled, not_worth, products_not_worth
from .images import as_images, candidate
from .layers import (
    ALREADY_INTEGER,
    LAYERS,
    REPLACEABLE,
    Integer,
    Layer,
    Product,
    in_copy,
    layers,
    product_of,
    weighted,
)
from .measured import confirmed, measured
from .mixed import Choice, Outputs, choose
from .observers import OBSERVERS, Observer, Range, Statistic
from .placement import IMAGE_RANK, TARGETS, Target, place, result
from .prepare import matmuls_to_gemms, means_to_pools, row, swishes_to_products
from .products import ATTENTION, centred, observed, open_attention, worth_of
from .qoperator import to_qoperator
from .report import signals
from .scheme import Affine
from .stacks import gemms_to_matmuls
from .tied import tie, untie

MODES = ("static", "dynamic", "weights")
GAINS = ("modelled", "measured")
STATIC_ONLY = (
    *("observer", "percentile", "samples", "cost_aware", "gain", "correct_bias", "in_turn", "slack", "target", "form"),
)
QFORMS = ("qdq", "qoperator")
IDLE = {
    "static": ("bits", "block"),
    "dynamic": ("bits", "block", *STATIC_ONLY),
    "weights": (*STATIC_ONLY, "per_channel", "reduce_range"),
}
"""Mode -> the options that have no effect with it."""

AUTO = "auto"

KEPT_INTEGERS = 1 << 27
"""Bytes of int8 weights up to which they are held in memory, where they are read several times."""

RECURRENT = ("LSTM", "GRU", "RNN")

LISTED = frozenset([*LAYERS, *ALREADY_INTEGER, ATTENTION])
"""Operators that are decided about."""

WEIGHTED = "dynamic int8 is for products with a weight"

Make = Callable[[], Statistic]


@dataclass(frozen=True)
class Quantize(Pass):
    """Int8 for x64 CPUs: u8 activations, i8 weights, placed for ONNX Runtime or (`target` "openvino-cpu") OpenVINO.

    `mode` "static" takes ranges of activations from calibration data (convolutions and matrix products, as
    QuantizeLinear and DequantizeLinear); "dynamic" finds them at run time and needs no data (matrix products only:
    transformers); "weights" stores matrices and embedding tables as integers of `bits` bits (8 or 4) with one scale per
    `block` of them, and computes in float (see `weights`).

    `observer` is how ranges are found: "minmax", "moving_average" (of the batches' extremes), "percentile" (of which
    `percentile` percent are kept), "entropy", "mse", or "auto": "mse" for images, and the extremes for what matrix
    products read, whose few large channels must not be cut.
    `samples` is how many calibration samples are used (0: all). `per_channel` gives each output channel of a weight
    its scale. `only` and `skip` select layers by node name, module scope or operator. `cost_aware` leaves layers in
    float that int8 would not make faster at the sizes of one calibration sample; with `slack`, the share of the time
    that may be given up for accuracy, also those that win most for it (see `mixed`). `gain` is where times come from: a
    model of them (see the module `gain`), or "measured" on this machine (see `measured`), which another run may decide
    otherwise by.
    Products of two computed matrices are int8 where that pays at these sizes, with or without `cost_aware` (see
    `products`).
    `correct_bias` has biases take back the mean error that rounded weights make; with `in_turn` layer after layer, each
    with the errors of those before it (see `bias`). `reduce_range` keeps weights within 7 bits, for CPUs without VNNI.
    `form` "qdq" writes pairs around float operators, "qoperator" operators on integers (see `qoperator`).
    """

    name: ClassVar[str] = "quantize"
    contract: ClassVar[Contract] = "approximate"

    mode: str = "static"
    observer: str = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    samples: int = 0
    cost_aware: bool = False
    gain: str = "modelled"
    correct_bias: bool = False
    in_turn: bool = False
    slack: float = 0.0
    reduce_range: bool = False
    bits: int = 8
    block: int = 32
    target: str = "ort-cpu"
    form: str = "qdq"

    def __post_init__(self) -> None:
        """Raises UsageError for values that do not exist and for options that would have no effect."""
        for what, found, known in (
            ("mode", self.mode, MODES),
            ("target", self.target, tuple(TARGETS)),
            ("form", self.form, QFORMS),
            ("gain", self.gain, GAINS),
            ("observer", self.observer, (AUTO, *OBSERVERS)),
        ):
            if found not in known:
                raise UsageError(f"there is no {what} {found!r}", do=f"there are {', '.join(map(str, known))}")
        for bad, what, do in (
            (not 50.0 < self.percentile <= 100.0, f"percentile={self.percentile} is not in (50, 100]", ""),
            (self.bits not in weights.BITS, f"bits={self.bits} is not possible", "give 8 or 4"),
            (self.samples < 0, f"samples={self.samples} is negative", "give 0 to use all samples"),
            (not 0.0 <= self.slack < 1.0, f"slack={self.slack} is not in [0, 1)", "give 0.05 for five percent"),
            (
                self.block < 16 or bool(self.block & (self.block - 1)),
                f"block={self.block} is not a power of two from 16 on",
                "give 32, 64 or 128",
            ),
        ):
            if bad:
                raise UsageError(what, do=do)
        self.refuse_idle_options()

    def refuse_idle_options(self) -> None:
        """Raises UsageError for an option that the others leave without effect."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        given = {name for name, default in defaults.items() if getattr(self, name) != default}
        idle = [name for name in IDLE[self.mode] if name in given]
        if idle:
            why = "it calibrates nothing" if idle[0] in STATIC_ONLY else "it is for another mode"
            raise UsageError(f"{idle[0]} has no effect with mode={self.mode!r}", why=why, do="leave it out")
        for name, works, other in (
            ("in_turn", self.correct_bias, "without correct_bias=True"),
            ("slack", self.cost_aware, "without cost_aware=True"),
            ("percentile", self.observer == "percentile", f"with observer={self.observer!r}"),
            ("cost_aware", self.runtime.modelled, f"with target={self.target!r}, whose time is not modelled"),
            ("gain", self.runtime.modelled, f"with target={self.target!r}, whose layers are not timed"),
            ("form", self.runtime.reads_back, f"with target={self.target!r}, which reads QDQ alone"),
        ):
            if name in given and not works:
                raise UsageError(f"{name} has no effect {other}", do="change that, or leave it out")

    @property
    def runtime(self) -> Target:
        """What the target wants."""
        return TARGETS[self.target]

    @property
    def mixes(self) -> bool:
        """Whether layers could be left in float for accuracy, by what they cost."""
        return self.mode == "static" and self.runtime.modelled

    def run(self, model: Model, context: Context) -> Outcome:
        """Quantizes in place.

        Raises UsageError for patterns that match nothing and for missing, empty or unfit calibration data, and
        NotFinite where a value is NaN or infinite on it.
        """
        if self.mode == "weights":
            return self.store_weights(model, context)
        samples = require(context.samples) if self.mode == "static" else context.samples
        infer(model.graph, context.fallback)
        tables = untie(model.graph)
        try:
            return self.quantize(model, samples, context)
        finally:
            tie(model.graph, tables)

    def quantize(self, model: Model, samples: Samples | None, context: Context) -> Outcome:
        """Static or dynamic int8 of a model whose types are known."""
        sizes = one_sample(model.graph, samples or ())
        selection = Selection(model.graph, self.only, self.skip)
        reasons = {node: selection.reason(node) for node in model.graph.walk() if node.op in LISTED}
        whole = self.open_attention(model.graph, reasons, sizes)
        decisions = self.decide(model, reasons, whole, sizes)
        chosen = {d.node: d.layer for d in decisions if d.layer is not None}
        outcome = Outcome(changed=len(chosen))
        choice = Choice()
        if chosen and samples is not None and self.mode == "static":
            spared = {d.node: d.spared for d in decisions if d.spared is not None and self.gain == "measured"}
            measured, choice = self.static(model, chosen, spared, samples, context)
        else:
            loops = [d.node for d in decisions if d.recurrent]
            measured = self.dynamic(model, weighted(chosen), loops, samples)
            outcome.changed += len(loops)
        outcome.changed -= len(measured.slower) + len(choice.floats)
        outcome.decisions = [
            d.row(measured, choice.floats.get(d.node, measured.slower.get(d.node, ""))) for d in decisions
        ]
        outcome.warnings = [
            *(warnings.of_runtime(model, self.runtime, self.reduce_range) if outcome.changed else ()),
            *warnings.of_samples(samples, self.samples),
            *warnings.of_layers(outcome.decisions),
            *warnings.of_outputs(measured.outputs, "int8", self.mode, self.slack if self.mixes else None),
            *warnings.of_defaults(sum(d.kept.reason == REPLACEABLE for d in decisions)),
        ]
        outcome.notes.append(f"{outcome.changed} of {len(decisions)} layers in int8")
        if choice.floats:
            outcome.notes.append(
                f"{len(choice.floats)} left in float for accuracy: {choice.before:.1f} dB -> {choice.after:.1f} dB on "
                "calibration data"
            )
        return outcome

    def store_weights(self, model: Model, context: Context) -> Outcome:
        """Weight-only quantization; needs no data."""
        infer(model.graph, context.fallback)
        found = weights.candidates(model.graph, Selection(model.graph, self.only, self.skip), self.block)
        chosen = {node: row for node, row in found.items() if isinstance(row, weights.Stored)}
        outcome = Outcome(changed=len(chosen))
        outcome.decisions = [
            Decision.of(node, *(("as it is", row) if isinstance(row, str) else (f"int{self.bits} weights", "")))
            for node, row in found.items()
        ]
        change = partial(weights.store, model.graph, chosen, self.bits, self.block)
        kept = around(change, model, context.samples if chosen else None)
        outcome.warnings = warnings.of_outputs(kept, f"int{self.bits} weights", self.mode)
        outcome.notes.append(f"{len(chosen)} of {len(found)} weights in int{self.bits}")
        return outcome

    def open_attention(self, graph: Graph, reasons: Mapping[Node, str], sizes: Sizes) -> dict[Node, str]:
        """Takes those Attention nodes apart of which a product is worth int8; gives why each of the others is none."""
        if self.mode != "static":
            return {node: WEIGHTED for node in reasons if node.op == ATTENTION}
        worth = worth_of(sizes, self.runtime, Costs({}, sizes).conversion)
        return open_attention(graph, worth, lambda node: not reasons[node])

    def decide(
        self, model: Model, reasons: Mapping[Node, str], whole: Mapping[Node, str], sizes: Sizes
    ) -> list[Candidate]:
        """Every layer, and the int8 form or the reason against it, at these sizes: `reasons` are the user's, and
        `whole` is why an Attention is not taken apart.
        """
        found = [
            Candidate(node, reasons[node] or whole.get(node, "it is inside a control-flow region"), None)
            for node in model.graph.walk()
            if node.op == ATTENTION and not node.domain
        ]
        for node, known in layers(model.graph):
            layer = (self.other_form(model.graph, node) or known) if isinstance(known, str) else known
            why = reasons[node] if node in reasons else self.skipped(node)
            spared = layer if why and not isinstance(layer, str) else None
            if not why and self.mode == "dynamic" and node.op in RECURRENT and node.graph is model.graph:
                why = gru.why_not(node, sizes) if node.op == "GRU" else recurrent.why_not(node)
                found.append(Candidate(node, why, None, recurrent=not why))
                continue
            if not why and self.mode == "dynamic" and node.op == "Conv":
                why = "dynamic int8 is for matrix products"
            if not why and self.mode == "dynamic" and isinstance(product_of(node), Product):
                why = WEIGHTED
            if not why and isinstance(layer, str):
                why = layer
            found.append(Candidate(node, why, None if why or isinstance(layer, str) else layer, spared=spared))
        order = {node: place for place, node in enumerate(model.graph.walk())}
        return sorted(found, key=lambda candidate: order[candidate.node])

    def skipped(self, node: Node) -> str:
        """Why a part of an Attention that was chosen is none; '' where it is."""
        return next((f"skipped by pattern {pattern!r}" for pattern in self.skip if matches(node, pattern)), "")

    def other_form(self, graph: Graph, node: Node) -> Integer | str | None:
        """What a node is that has an int8 kernel though it has no weights, or in another form, or why it has none."""
        if self.mode != "static" or node.graph is not graph:
            return None
        product = product_of(node) if node.op == "MatMul" and node.operand(1).const is None else None
        return candidate(node) if product is None else product

    def static(
        self,
        model: Model,
        chosen: Mapping[Node, Integer],
        spared: Mapping[Node, Integer],
        samples: Samples,
        context: Context,
    ) -> tuple[Measured, Choice]:
        """Calibrates and inserts; gives what was measured of each layer under its node of before, and which layers were
        left in float for accuracy. `spared` are layers that the user leaves out, to be timed all the same.
        """
        graph, untouched, opset = model.graph, model.graph.clone(), model.source_opset
        model.source_opset = opset and max(opset, scheme.PER_CHANNEL_OPSET)
        if any(node.op == "Conv" for node in chosen):
            means_to_pools(graph)
            swishes_to_products(graph)
            chosen, spared = ({node: layer.again() for node, layer in some.items()} for some in (chosen, spared))
        costs = self.costs(model, {**chosen, **spared}, samples, context.progress)
        aside = {node: costs.said(node) for node in spared} if costs else {}
        decide = not_worth if self.cost_aware else products_not_worth
        slower = decide(graph, chosen, costs) if costs else {}
        slower |= forms_not_worth(chosen, costs) if costs else {}
        if slower and self.cost_aware and self.gain == "measured":
            feed = alone_in_batch(graph, samples)
            slower = confirmed(model, chosen, slower, self.quickly, feed, context.progress)
        chosen = {node: layer for node, layer in chosen.items() if node not in slower}
        if not chosen:
            model.graph, model.source_opset = untouched, opset
            return Measured({}, {}, slower, aside), Choice()
        prepared = self.prepared(graph, chosen)
        before = dict(zip(prepared, chosen, strict=True))
        costs = costs.under({old: new for new, old in before.items()}) if costs else None
        placement = place(graph, prepared, self.runtime)
        values = list(placement.quantized) if self.slack else placement.sources()
        found = self.calibrate(model, values, prepared, samples, context)
        choice = self.mix(model, prepared, found, samples, costs, context) if self.slack and costs else Choice()
        prepared = {node: layer for node, layer in prepared.items() if node not in choice.floats}
        outputs = {node: result(node, layer) for node, layer in prepared.items()}
        assigned = self.assigned(model, prepared, found)
        rows, floats = evidence(model, assigned, samples, costs)
        dequantized = self.put(model, assigned)
        if found.results:
            correct_in_turn(model, weighted(assigned.layers), found.results, samples, self.samples, context.progress)
        taps = {before[n]: dequantized.get(v, v) for n, v in outputs.items()}
        noise = accumulated(floats, model, taps, list(float_outputs(graph)), samples)
        insertion.erase_unused(dequantized.values())
        if self.form == "qoperator":
            to_qoperator(graph)
        if self.runtime.stacks:
            gemms_to_matmuls(graph)
        made = Measured(noise.layers, {before[node]: row for node, row in rows.items()}, slower, aside, noise.outputs)
        return made, replace(choice, floats={before[n]: why for n, why in choice.floats.items()})

    def costs(self, model: Model, chosen: Mapping[Node, Integer], samples: Samples, progress: Progress) -> Costs | None:
        """What these layers take in either precision; None for a runtime of which that is not known."""
        if not self.runtime.modelled and len(weighted(chosen)) == len(chosen):
            return None
        sizes = observed(model, chosen.values(), one_sample(model.graph, samples), samples)
        if self.gain == "modelled":
            return modelled(chosen, sizes, self.runtime)
        return measured(model, chosen, self.quickly, alone_in_batch(model.graph, samples), sizes, progress)

    def quickly(self, model: Model, layers: Mapping[Node, Integer], samples: Samples) -> None:
        """Quantizes these layers in place for their time alone, whatever the error."""
        plain = replace(self, observer="minmax", percentile=type(self).percentile, correct_bias=False, in_turn=False)
        prepared = self.prepared(model.graph, layers)
        sources = place(model.graph, prepared, self.runtime).sources()
        found = plain.calibrate(model, sources, prepared, samples, Context())
        insertion.erase_unused(plain.put(model, plain.assigned(model, prepared, found)).values())
        if self.form == "qoperator":
            to_qoperator(model.graph)

    def prepared(self, graph: Graph, layers: Mapping[Node, Integer]) -> dict[Node, Integer]:
        """Rewrites the layers into the forms that have int8 kernels; gives them in the same order, as they are then."""
        found = matmuls_to_gemms(graph, as_images(graph, layers, lines=not self.runtime.lines))
        return {node: centred(graph, it) if isinstance(it, Product) else it for node, it in found.items()}

    def assigned(self, model: Model, layers: Mapping[Node, Integer], found: Calibrated) -> Assigned:
        """The scales of these layers in int8, and the layers with their corrected biases."""
        placement = place(model.graph, layers, self.runtime)
        parameters = insertion.activation_parameters(placement, found.ranges)
        own = weighted(layers)
        keeps = sum(layer.weight.tensor.count for layer in own.values()) <= KEPT_INTEGERS
        scales = {n: replace(self.weight(layer, parameters[layer.input]), keeps=keeps) for n, layer in own.items()}
        better = {n: corrected(own[n], scales[n], means) for n, means in found.means.items() if n in own}
        return Assigned({**layers, **better}, placement, parameters, scales)

    def put(self, model: Model, found: Assigned) -> dict[Value, Value]:
        """Inserts these layers in int8; gives each quantized value's dequantized form."""
        parts = found.placement, found.layers, found.parameters, found.weights
        return insertion.insert(model.graph, *parts, self.runtime)

    def mix(
        self,
        model: Model,
        layers: Mapping[Node, Integer],
        found: Calibrated,
        samples: Samples,
        costs: Costs,
        context: Context,
    ) -> Choice:
        """Which layers are left in float for accuracy (see `mixed`)."""

        def build(kept: Collection[Node]) -> Model:
            copy = model.clone()
            twins, nodes = pairs(model, copy), dict(zip(model.graph, copy.graph, strict=True))
            own = in_copy({node: layer for node, layer in layers.items() if node in kept}, nodes, twins)
            means = {nodes[n]: m for n, m in found.means.items() if n in kept}
            ranges = {twins[v]: r for v, r in found.ranges.items()}
            dequantized = self.put(copy, self.assigned(copy, own, Calibrated(ranges, means)))
            insertion.erase_unused(dequantized.values())
            return copy

        return choose(model.graph, layers, build, Outputs(model, samples), costs, self.slack, context.progress)

    def dynamic(
        self, model: Model, chosen: Mapping[Node, Layer], loops: Sequence[Node], samples: Samples | None
    ) -> Measured:
        """Inserts, for recurrent layers (`loops`), too; the error of results is measured where there are samples to do
        it on.
        """
        read = {node: next((i for i, v in enumerate(node.outputs) if v.users), 0) for node in loops}
        outputs: list[Value] = [node.output for node in chosen] + [node.outputs[read[node]] for node in loops]
        ends = float_outputs(model.graph)
        floats: list[list[Array]] = []
        if samples is not None and outputs:
            taps = [*outputs, *ends.values()]
            floats = list(signals(OrtRunner(model, taps=taps), model, samples))
        scales = {node: self.weight(layer, None) for node, layer in chosen.items()}
        rows = {
            node: Rounded(scheme_text(None, scales[node]), weight_sqnr_db=weight_sqnr(layer, scales[node]))
            for node, layer in chosen.items()
        }
        found = dynamic.insert(model.graph, chosen, scales)
        for node in loops:
            rewrite = gru.insert if node.op == "GRU" else recurrent.insert
            made, rows[node] = rewrite(model.graph, node, self.largest, self.per_channel)
            found[node] = made[read[node]]
        if not floats or samples is None:
            return Measured({}, rows)
        noise = accumulated(floats, model, found, list(ends), samples)
        return Measured(noise.layers, rows, outputs=noise.outputs)

    def calibrate(
        self, model: Model, values: list[Value], chosen: Mapping[Node, Integer], samples: Samples, context: Context
    ) -> Calibrated:
        """One pass over the samples."""
        heavy = {layer.left for layer in chosen.values() if isinstance(layer, Product) and layer.left.op == "Softmax"}
        ranges: list[tuple[Value, Make]] = [(v, partial(self.observe, v, v in heavy)) for v in values]
        layers = list(weighted(chosen).values()) if self.correct_bias else []
        inputs: list[tuple[Value, Make]] = [(layer.input, partial(means_of, layer)) for layer in layers]
        outputs: list[tuple[Value, Make]] = [
            (layer.node.output, partial(means_of, layer)) for layer in layers if self.in_turn
        ]
        found = observe(
            model,
            [*ranges, *inputs, *outputs],
            samples,
            progress=context.progress,
            limit=self.samples,
            executor=context.executor,
        )
        means = [o.means() for o in found if isinstance(o, ChannelMeans)]
        nodes = [layer.node for layer in layers]
        return Calibrated(
            {v: o.range() for v, o in zip(values, found, strict=False) if isinstance(o, Observer)},
            dict(zip(nodes, means, strict=False)),
            dict(zip(nodes, means[len(nodes) :], strict=False)),
        )

    def observe(self, value: Value, heavy: bool = False) -> Observer:
        """What finds the range of a value; of one with few large numbers among very many small ones (`heavy`) the
        largest do not decide it alone."""
        name = self.observer if self.observer != AUTO else "mse" if value.rank == IMAGE_RANK else "minmax"
        name = "mse" if heavy and name == "minmax" else name
        return OBSERVERS[name](self.percentile)

    @property
    def largest(self) -> int:
        """The largest integer of a weight."""
        return scheme.REDUCED_WEIGHT_MAX if self.reduce_range else scheme.WEIGHT_MAX

    def weight(self, layer: Layer, input: Affine | None) -> Affine:
        """Scale of a layer's weight; a static layer's bias has to fit int32 with it."""
        amplitude = layer.amplitude if self.per_channel else np.asarray(layer.amplitude.max())
        if input is None or layer.bias is None:
            return scheme.weight(
                amplitude, layer.axis, 1.0 if input is None else float(input.scale), None, self.largest
            )
        bias = row(layer.bias.tensor, layer.channels).numpy().astype(np.float64)
        return scheme.weight(amplitude, layer.axis, float(input.scale), bias, self.largest)


@dataclass(frozen=True)
class Calibrated:
    """What calibration found: ranges of values; per layer whose bias is to be corrected the means of its input and,
    where that is done in turn, of its result.
    """

    ranges: dict[Value, Range]
    means: dict[Node, Means]
    results: dict[Node, Means] = field(default_factory=dict[Node, Means])
