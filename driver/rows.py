"""The per-layer table and the rule table of a report, from what the passes decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..backends.runners import Feeds
from ..ir import Loc, Model, Node
from ..transforms.base import Decision, Rounded
from ..transforms.cost import bind_sizes, node_flops, node_parameters, stored, weights
from ..transforms.manager import Step
from ..transforms.select import label
from . import report

LAYERS = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "LSTM",
        "GRU",
        "RNN",
        "BatchNormalization",
        "LayerNormalization",
        "Attention",
    ]
)
"""Operators that are rows of the table."""

ROUNDED = ("scheme", "low", "high", "weight_sqnr_db", "alone_sqnr_db", "before_us", "after_us", "measured", "counts")
"""What a decision and the report call alike."""

SUCCESSORS = {
    "MatMul": ("MatMulInteger", "Gemm", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"),
    "Gemm": ("MatMulInteger", "MatMul", "QGemm"),
    "Conv": ("ConvInteger", "QLinearConv"),
    "ConvTranspose": ("Conv", "QLinearConv"),
    "LSTM": ("DynamicQuantizeLSTM",),
}
"""What may stand in a layer's place afterwards besides its own operator."""


WEIGHT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Operators whose weight is another operand than the second."""


def layer_rows(original: Model, steps: Sequence[Step], feed: Feeds) -> Iterator[report.Layer]:
    """One row per layer of the original: what became of it, why, and its figures before and after."""
    final = steps[-1].model if steps else original
    shapes = {k: (1, *v.shape[1:]) for k, v in feed.items() if v.ndim}
    sizes_before, sizes_after = bind_sizes(original.graph, shapes), bind_sizes(final.graph, shapes)
    decided = decisions_by_layer(steps)
    places = _places(final)
    for node in original.graph.walk():
        if node.op not in LAYERS:
            continue
        after = _heir(node, places)
        choices = decided.get(label(node), [])
        decision, reason, sqnr = _summary(node, after, choices)
        yield report.Layer(
            name=label(node),
            op=node.op,
            decision=decision,
            reason=reason,
            scope=node.loc.scope or None,
            source=node.loc.source or None,
            shape_before=shape_text(node),
            shape_after=shape_text(after) if after else None,
            parameters_before=node_parameters(node),
            parameters_after=node_parameters(after) if after else None,
            flops_before=node_flops(node, sizes_before),
            flops_after=node_flops(after, sizes_after) if after else None,
            bytes_before=_weight_bytes(node),
            bytes_after=_weight_bytes(after) if after else None,
            sqnr_db=sqnr,
            rounding=rounding([d.rounded for d in choices if d.rounded is not None]),
        )


def rounding(found: Sequence[Rounded]) -> report.Rounding | None:
    """How a layer is rounded at the end, as the report keeps it."""
    if not found:
        return None
    last = found[-1]
    low, high = last.seen or (None, None)
    values = {name: getattr(last, name) for name in ROUNDED}
    return report.Rounding(**values, seen_low=low, seen_high=high)


def decisions_by_layer(steps: Sequence[Step]) -> dict[str, list[Decision]]:
    """What each pass decided, by the layer's name, in order."""
    out: dict[str, list[Decision]] = {}
    for step in steps:
        for decision in step.outcome.decisions:
            out.setdefault(decision.layer, []).append(decision)
    return out


def _places(model: Model) -> dict[Loc, list[Node]]:
    places: dict[Loc, list[Node]] = {}
    for node in model.graph.walk():
        for loc in {leaf._replace(rule="", fused=()) for leaf in (node.loc, *node.loc.fused)}:
            places.setdefault(loc, []).append(node)
    return places


def _heir(node: Node, places: Mapping[Loc, list[Node]]) -> Node | None:
    found = places.get(node.loc._replace(rule="", fused=()), [])
    wanted = (node.op, *SUCCESSORS.get(node.op, ()))
    return next((n for n in found if n.op in wanted), None)


def _summary(node: Node, after: Node | None, decided: Sequence[Decision]) -> tuple[str, str, float | None]:
    if after is None:
        return "folded", "merged into its neighbour", None
    changes = [d for d in decided if d.decision not in ("kept", "fp32")] or list(decided[-1:])
    if not changes:
        return "kept", "no pass chose it", None
    reasons = dict.fromkeys(d.reason for d in decided if d.reason)
    sqnr = next((d.sqnr_db for d in reversed(decided) if d.sqnr_db is not None), None)
    return ", ".join(d.decision for d in changes), "; ".join(reasons), sqnr


def shape_text(node: Node) -> str:
    """The type of a layer's weight, or of its output where it has none."""
    weight = stored(node.input(WEIGHT.get(node.op, 1)))
    return repr(weight.type if weight is not None else node.output.type)


def _weight_bytes(node: Node) -> int:
    return sum(v.tensor.nbytes for v in weights(node))


def rule_rows(step: Step) -> tuple[report.Rule, ...]:
    """Rules of a step that did or declined something, busiest first."""
    rows = [(n, s) for n, s in step.outcome.rules.items() if s.hits or s.declined]
    rows.sort(key=lambda row: (-row[1].hits, row[0]))
    return tuple(
        report.Rule(name=n, tries=s.tries, hits=s.hits, declined=dict(s.declined), seconds=s.seconds) for n, s in rows
    )
