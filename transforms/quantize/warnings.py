"""What a user has to know of a quantized model that its table of layers does not say: the warnings TSR201 to TSR208.

Each function gives (code, text, where), in the order in which they are told.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...backends.runners import Samples
from ...ir import Model
from ..base import Decision
from ..samples import too_few
from ..select import label
from .accumulated import Reached, decibels
from .placement import Target
from .report import float_nodes, lacks_vnni

Warned = list[tuple[str, str, str]]

LOW_DB = 10.0
"""SQNR below which the result of a layer, or an output, is worth a warning: the noise has a tenth of the power, which
is a third of the amplitude."""

WAYS = {
    "static": "skip= the layers named, calibrate on more samples, or round weights alone (half, or mode='weights')",
    "dynamic": "skip= the layers named, or round weights alone (half, or mode='weights')",
    "weights": "put gptq in front, or give a smaller block= or bits=8",
    "grid": "give bits=8 or a smaller block=, or skip= layers",
    "compute": "skip= the layers named, or store weights alone with mode='weights'",
}
"""Mode of a pass -> what to do where it ruins an output."""

MIXED = "leave layers in float that win most (cost_aware=True, slack=0.05), "


def of_runtime(model: Model, runtime: Target, reduced: bool) -> Warned:
    """Layers that are int8 in name only, norms that were not folded, sums that saturate on this CPU unless weights are
    `reduced`."""
    found: Warned = []
    for node in float_nodes(model) if runtime.reads_back else ():
        why = f" ({node.why})" if node.why else ""
        what = f"ONNX Runtime computes this {node.op} in float, from dequantized integers{why}: skip it"
        found.append(("TSR201", what, node.name))
    norm = next(
        (n for n in model.graph if n.op == "BatchNormalization" and n.operand(0).op == "DequantizeLinear"), None
    )
    if norm is not None:
        found.append(("TSR203", "a BatchNormalization between int8 layers stays float: simplify first", label(norm)))
    if lacks_vnni() and not reduced:
        found.append(("TSR202", "int8 sums may saturate on this CPU, which has no VNNI: try reduce_range=True", ""))
    return found


def of_samples(samples: Samples | None, limit: int) -> Warned:
    """Data that holds fewer samples than were asked for."""
    text = too_few(samples, limit) if samples is not None else ""
    return [("TSR204", text, "")] if text else []


def of_layers(decisions: Sequence[Decision]) -> Warned:
    """The worst of the layers whose results lose too much."""
    low = [d for d in decisions if d.decision == "int8" and d.sqnr_db is not None and d.sqnr_db < LOW_DB]
    if not low:
        return []
    worst = min(low, key=lambda d: d.sqnr_db or 0.0)
    what = f"{len(low)} results of layers keep less than {LOW_DB:.0f} dB in int8, the worst {worst.sqnr_db:.1f} dB"
    return [("TSR206", f"{what}: try slack=, gptq, or skip= of the first of them", worst.layer)]


def of_outputs(outputs: Sequence[Reached], precision: str, mode: str, slack: float | None = None) -> Warned:
    """The outputs that keep too little, the worst with the layers in which the error grows most. `slack` is None where
    no layer can be left in float for accuracy."""
    low = sorted((o for o in outputs if o.sqnr_db < LOW_DB), key=lambda o: o.sqnr_db)
    if not low:
        return []
    worst, *others = low
    also = f", {len(others)} more less than {LOW_DB:.0f} dB" if others else ""
    what = f"this output keeps {decibels(worst.sqnr_db)} in {precision}{also}; the error grows most {worst}"
    more = "" if slack is None else f"give a larger slack than {slack:g}, " if slack else MIXED
    return [("TSR207", f"{what}: {more}{WAYS[mode]}", worst.name)]


def for_other_runtimes() -> Warned:
    """A file that the runtime of the default target does not run."""
    refused = (
        "ONNX Runtime lacks kernels for bfloat16 on the CPU (target ort-cpu): this file is for others, such as OpenVINO"
    )
    measured = "what it keeps was computed in 32 bits, with every value rounded, and nothing was timed"
    return [("TSR208", f"{refused}; {measured}", "")]


def of_defaults(held: int) -> Warned:
    """Layers whose weights the caller of the network may replace."""
    if not held:
        return []
    what = f"weights of {held} layers are inputs with a default, as old files list them: load the model with"
    return [("TSR205", f"{what} freeze_defaults=True (--freeze-defaults) to quantize them", "")]
