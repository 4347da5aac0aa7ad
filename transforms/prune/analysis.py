"""One forward pass of the axis rules over a graph."""

from __future__ import annotations

from ...ir import Graph, Node, Value
from ..select import Selection
from .atoms import Reason
from .axes import AxisMap, Frozen
from .rules import RULES


def analyse(graph: Graph, selection: Selection | None = None, semantic: bool = False) -> AxisMap:
    """The atoms of every value of the outermost graph, tied and frozen by its operators, its interface and the user's
    selection. Where `semantic`, channels over which statistics are taken may go.

    Regions are not looked into: a node that has some freezes what it touches. The graph has to be prepared (`prepare`).
    """
    axes = AxisMap(semantic)
    for value in graph.inputs:
        why = "whose default the caller may replace" if value in graph.defaults else "whose size the caller sets"
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
        axes.kill(node, f"{node.op} has no axis rule")
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
