"""What a user has to know of a quantized model that its table of layers does not say: the warnings TSR201 to TSR206.

Each function gives (code, text, where), in the order in which they are told.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...backends.runners import Samples
from ...ir import Model
from ..base import Decision
from ..samples import too_few
from ..select import label
from .placement import Target
from .report import float_nodes, lacks_vnni

Warned = list[tuple[str, str, str]]

LOW_DB = 10.0
"""SQNR below which the result of a layer is worth a warning."""


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


def of_defaults(held: int) -> Warned:
    """Layers whose weights the caller of the network may replace."""
    if not held:
        return []
    what = f"weights of {held} layers are inputs with a default, as old files list them: load the model with"
    return [("TSR205", f"{what} freeze_defaults=True (--freeze-defaults) to quantize them", "")]
