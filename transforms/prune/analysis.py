"""Forward passes of the axis rules over a graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir import Graph, Node, Value
from ..select import Selection
from .atoms import Ids, Reason
from .axes import AxisMap, Frozen, Heads
from .groups import slots
from .rules import RULES
from .rules.attention import POLICY

ON_INTEGERS = frozenset(["QLinearConv", "QLinearMatMul"])
TRIALS = 3
"""Forward passes with other factors, at most."""


def analyse(graph: Graph, selection: Selection | None = None, semantic: bool = False, heads: Heads = "auto") -> AxisMap:
    """The atoms of every value of the outermost graph, tied and frozen by its operators, its interface and the user's
    selection. Where `semantic`, channels over which statistics are taken may go; attention loses `heads`.

    Where an axis is split (groups and positions, heads and dimensions) one factor is chosen before it is known what
    becomes of it. One that froze later is given up for another, as long as more weights can shrink then.

    Regions are not looked into: a node that has some freezes what it touches. The graph has to be prepared (`prepare`).
    """
    best = forward(graph, selection, semantic, heads, {})
    tried: dict[tuple[Node, int], set[int]] = {}
    for _ in range(TRIALS):
        others = regretted(best, tried)
        if not others:
            break
        kept = {place: choice.factor for place, choice in best.choices.items()}
        trial = forward(graph, selection, semantic, heads, kept | others)
        if shrinkable(trial) > shrinkable(best):
            best = trial
    return best


def regretted(axes: AxisMap, tried: dict[tuple[Node, int], set[int]]) -> dict[tuple[Node, int], int]:
    """Another factor for every choice that froze, one that was not tried there before; at first for those alone that
    froze because attention is to lose the other one, since the rest may have followed them.
    """
    found: dict[tuple[Node, int], int] = {}
    for place, choice in axes.choices.items():
        done = tried.setdefault(place, set())
        done.add(choice.factor)
        other = next((factor for factor in choice.others if factor not in done), None)
        if other is not None and not has_choice(axes, choice.ids):
            found[place] = other
    asked = {place: other for place, other in found.items() if against_policy(axes, axes.choices[place].ids)}
    for place, other in (asked or found).items():
        tried[place].add(other)
    return asked or found


def against_policy(axes: AxisMap, ids: Ids) -> bool:
    return any(reason.why in POLICY.values() for reason in axes.atoms.reasons(ids))


def has_choice(axes: AxisMap, ids: Ids) -> bool:
    """Whether some of the atoms may go and others stay: not so when all are one group."""
    return axes.is_active(ids) and np.unique(axes.atoms.roots(ids)).size > 1


def shrinkable(axes: AxisMap) -> float:
    """How many weights have something that may go, each as a share of its axis, summed over axes."""
    return sum(
        slot.constant.tensor.count * slot.active.size / slot.roots.size
        for slot in slots(axes)
        if np.unique(slot.roots).size > 1
    )


def forward(
    graph: Graph, selection: Selection | None, semantic: bool, heads: Heads, wanted: Mapping[tuple[Node, int], int]
) -> AxisMap:
    """One pass of the rules, with the factors that are wanted where axes are split."""
    axes = AxisMap(semantic, wanted, heads)
    for value in graph.inputs:
        replaceable = "whose default the caller may replace unless it is made a constant (freeze_defaults)"
        why = replaceable if value in graph.defaults else "whose size the caller sets"
        axes.bind(
            value, [axes.atoms.frozen(Reason("", "", f"it is the input {value.name!r}, {why}"))] * (value.rank or 0)
        )
    for node in graph:
        visit(node, axes)
    for value, name in zip(graph.exit.inputs, graph.output_names, strict=True):
        assert value is not None
        for ids in axes.of(value):
            axes.atoms.freeze(ids, Reason("", "", f"it is the output {name!r}"))
    if selection is not None:
        select(axes, selection)
    return axes


def visit(node: Node, axes: AxisMap) -> None:
    """Applies the node's row.

    Without one everything that the node touches is frozen, and so it is on a form that the row does not cover. An
    operand that the row does not look at (sizes, indices, limits) is frozen, too.
    """
    rule = RULES.get(node.op) if node.domain in ("", "ai.onnx") else None
    if node.regions:
        axes.kill(node, f"{node.op} is control flow")
    elif rule is None:
        hint = "; the pass to_qdq in front makes pairs of it that have one" if node.op in ON_INTEGERS else ""
        axes.kill(node, f"{node.op} has no axis rule{hint}")
    elif (value := of_unknown_rank(node)) is not None:
        axes.kill(node, f"the rank of %{value.name} is not known")
    else:
        axes.looked_at.clear()
        try:
            rule.tie(node, axes)
        except Frozen as found:
            axes.kill(node, str(found))
        for value in node.inputs:
            if value is not None and not value.is_const and value not in axes.looked_at:
                axes.freeze_axes(value, range(value.rank or 0), node, f"{node.op} needs all of this operand")


def of_unknown_rank(node: Node) -> Value | None:
    """A value of the node that is no tensor, or one of unknown rank."""
    used = (*node.inputs, *(v for v in node.outputs if v.users))
    return next((v for v in used if v is not None and v.rank is None), None)


def select(axes: AxisMap, selection: Selection) -> None:
    """Freezes the channels of the layers that the user left out. A layer that only follows others' channels is no
    obstacle to `only`.
    """
    for layer in axes.layers:
        why = selection.reason(layer.node)
        if why and not (layer.follows and why.startswith("not among")):
            axes.freeze(axes[layer.node.output, layer.axis], layer.node, why)
