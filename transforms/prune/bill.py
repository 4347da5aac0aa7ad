"""What a graph costs as a function of what is removed, without removing it.

The cost of a node is a product over the axes that it works along: a convolution's of its output's axes and the input
channels of its weight. So each node's share of a budget is a number times the shares of some axes that stay, and the
cost of any choice is known before surgery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir import Graph, Node, Value
from ..cost import bind_sizes, is_parameter, node_flops
from .atoms import Ids
from .axes import AxisMap

Flags = NDArray[np.bool_]
Axis = tuple[Value, int]


Price = Callable[[Sequence[float]], float]
"""The share of a cost that is left when these shares of the axes along which it falls are."""


@dataclass(frozen=True)
class Term:
    """A cost, and the places in `Bill.vectors` of the axes along which it falls.

    `node` is what it is for. It falls as the product of what stays of them, or as `price` says, which is given what
    stays of each of `axes`; None is an axis that keeps everything.
    """

    cost: float
    vectors: tuple[int, ...]
    price: Price | None = None
    axes: tuple[int | None, ...] = ()
    node: Node | None = None


class Bill:
    """Terms over axis vectors; `total(gone)` is what is left to pay when those classes are gone.

    `vectors` has for each axis the class of every index along it.
    """

    def __init__(
        self, axes: AxisMap | None = None, priced: Iterable[tuple[Node, float, Sequence[Axis], Price | None]] = ()
    ) -> None:
        self.vectors: list[Ids] = []
        known: dict[bytes, int] = {}
        self.terms: list[Term] = []
        for node, cost, along, price in priced:
            places: list[int | None] = []
            for value, axis in along:
                ids = axes[value, axis] if axes is not None and value in axes else None
                if axes is None or ids is None or not axes.is_active(ids):
                    places.append(None)
                    continue
                roots = axes.atoms.roots(ids)
                place = known.setdefault(roots.tobytes(), len(self.vectors))
                if place == len(self.vectors):
                    self.vectors.append(roots)
                places.append(place)
            self.terms.append(Term(cost, tuple(p for p in places if p is not None), price, tuple(places), node))

    def shares(self, gone: Flags) -> NDArray[np.float64]:
        """What stays of each vector."""
        return np.array([1 - gone[roots].mean() for roots in self.vectors])

    def total(self, gone: Flags) -> float:
        left = self.shares(gone)
        return sum(pay(term, left) for term in self.terms)


def pay(term: Term, shares: NDArray[np.float64]) -> float:
    cost = term.cost
    if term.price is not None:
        return cost * term.price([1.0 if place is None else float(shares[place]) for place in term.axes])
    for place in term.vectors:
        cost *= shares[place]
    return cost


def every(value: Value | None) -> list[Axis]:
    return [(value, axis) for axis in range(value.rank or 0)] if value is not None else []


def contraction(node: Node) -> list[Axis]:
    axis = 0 if node.op == "Gemm" and node.int("transA") else 1 if node.op == "Gemm" else -1
    return [*every(node.output), (node.operand(0), axis)]


ALONG: Mapping[str, Callable[[Node], Sequence[Axis]]] = {
    "Conv": lambda node: [*every(node.output), (node.operand(1), 1)],
    "ConvTranspose": lambda node: [*every(node.operand(0)), (node.operand(1), 1)],
    "MatMul": contraction,
    "Gemm": contraction,
    **dict.fromkeys(["LSTM", "GRU", "RNN"], lambda node: every(node.operand(2))),
}
"""Operator -> the axes over whose product its work goes; others work along all axes of their output."""


def along(node: Node) -> Sequence[Axis]:
    return ALONG.get(node.op, lambda n: every(n.output))(node) if not node.domain else every(node.output)


def flops(graph: Graph, axes: AxisMap) -> Bill:
    """Floating-point operations of one run."""
    sizes = bind_sizes(graph)
    return Bill(axes, [(node, float(node_flops(node, sizes)), along(node), None) for node in graph])


def parameters(graph: Graph, axes: AxisMap) -> Bill:
    """Elements of the weights."""
    return Bill(
        axes,
        [(next(iter(v.users)), float(v.tensor.count), every(v), None) for v in graph.constants() if is_parameter(v)],
    )
