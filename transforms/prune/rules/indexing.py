"""Operators that pick or place elements by computed indices: what is indexed stays, other axes pass."""

from __future__ import annotations

from ....ir import Node
from ..axes import AxisMap, Frozen, shape, static
from .row import Rule

INDEXED = "it is indexed"


def gather_nd(node: Node, axes: AxisMap) -> None:
    """Slices of the data at index tuples: the axes behind these pass (GatherND-13)."""
    x, index = node.operand(0), node.operand(1)
    batch = node.int("batch_dims")
    first = batch + static(index, -1)
    axes.freeze_axes(x, range(first), node, INDEXED)
    axes.freeze_axes(index, range(len(shape(index))), node, INDEXED)
    places = [axes.frozen(node, INDEXED)] * (len(shape(index)) - 1)
    axes.bind(node.output, [*places, *axes.of(x)[first:]])
    axes.hush(node.output, x in axes.quiet)


def scatter_nd(node: Node, axes: AxisMap) -> None:
    """Updates at index tuples: the axes behind these pass and are tied (ScatterND-18)."""
    x, index, updates = (node.operand(i) for i in range(3))
    first, places = static(index, -1), len(shape(index)) - 1
    axes.freeze_axes(x, range(first), node, INDEXED)
    axes.freeze_axes(index, range(places + 1), node, INDEXED)
    axes.freeze_axes(updates, range(places), node, INDEXED)
    bound = list(axes.of(x))
    for axis in range(first, len(shape(x))):
        bound[axis] = axes.tie(axes[x, axis], axes[updates, axis - first + places])
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet and updates in axes.quiet)


def gather_elements(node: Node, axes: AxisMap) -> None:
    """An index for every element of the result: it follows the axes that pass (GatherElements-13)."""
    x, index = node.operand(0), node.operand(1)
    axis = node.int("axis") % len(shape(x))
    axes.freeze_axes(x, [axis], node, INDEXED)
    for other in range(len(shape(x))):
        if other != axis and shape(x)[other] != shape(index)[other]:
            axes.freeze_axes(x, [other], node, INDEXED)
            axes.freeze_axes(index, [other], node, INDEXED)
    axes.freeze_axes(index, [axis], node, INDEXED)
    bound = [
        axes.frozen(node, INDEXED) if a == axis else axes.tie(axes[x, a], axes[index, a]) for a in range(len(shape(x)))
    ]
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet)


def scatter_elements(node: Node, axes: AxisMap) -> None:
    """An index for every update, which says where along one axis it goes: the others pass and are tied
    (ScatterElements-18).
    """
    x, index, updates = (node.operand(i) for i in range(3))
    axis = node.int("axis", 0) % len(shape(x))
    bound = list(axes.of(x))
    for other in range(len(shape(x))):
        if other == axis or shape(x)[other] != shape(index)[other]:
            for value in (x, index, updates):
                axes.freeze_axes(value, [other], node, INDEXED)
        else:
            bound[other] = axes.tie(axes.tie(bound[other], axes[updates, other]), axes[index, other])
    axes.bind(node.output, bound)
    axes.hush(node.output, x in axes.quiet and updates in axes.quiet)


def triangle(node: Node, axes: AxisMap) -> None:
    """Compares positions along the last two axes (Trilu-14)."""
    x = node.operand(0)
    axes.freeze_axes(x, [-2, -1], node, "it compares positions along this axis")
    axes.bind(node.output, axes.of(x))
    axes.hush(node.output, x in axes.quiet)


def one_hot(node: Node, axes: AxisMap) -> None:
    """A new axis for the classes (OneHot-11)."""
    if axes.active_axes(node.operand(0)):
        raise Frozen("indices stay")
    axes.bind_frozen(node.output, node, INDEXED)


ROWS: dict[str, Rule] = {
    "GatherND": Rule(gather_nd),
    "ScatterND": Rule(scatter_nd),
    "GatherElements": Rule(gather_elements),
    "ScatterElements": Rule(scatter_elements),
    "Trilu": Rule(triangle),
    "OneHot": Rule(one_hot),
}
