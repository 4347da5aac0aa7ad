"""Which layers are worth int8: a model of time on one core, and the cheapest split of a network into int8 and float.

The time of a network is the sum over its layers, in the precision of each, plus that of a QuantizeLinear where a float
value enters the int8 part and of a DequantizeLinear where one leaves it. The cheapest assignment is a minimum cut
between "int8" and "float" (Greig, Porteous and Seheult 1989), with auxiliary nodes per value, since a value is
converted once for all who take it. Small, depthwise and isolated layers fall out by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir import Graph, Node, Value
from ..cost import Sizes, node_flops, static_shape
from . import cut
from .cut import FAST, FLOAT
from .layers import Layer
from .placement import data, may_connect, results

if TYPE_CHECKING:
    import networkx as nx

RATES = {
    "dense": (60.0, 170.0),
    "shallow": (60.0, 75.0),
    "grouped": (38.0, 24.0),
    "depthwise": (9.0, 10.0),
    "matrix": (50.0, 170.0),
}
"""GFLOP/s in float and in int8 per kind of layer. Like all figures here: medians measured with ONNX Runtime 1.31 on one
core with AVX-512 VNNI; their ratios matter, not their size."""

SHALLOW = 8
"""Convolutions of fewer input channels than this spend their time gathering pixels, not multiplying."""

CALL = (2.0, 2.5)
"""Microseconds that a layer takes beside its arithmetic, in float and in int8."""

CONVERSION = (1.5, 0.3e-3)
"""Microseconds of a QuantizeLinear or DequantizeLinear: per call and per element."""


@dataclass(frozen=True)
class Times:
    """Modelled microseconds of a layer."""

    float: float
    int8: float


def times(layer: Layer, sizes: Sizes) -> Times:
    """The modelled time of a layer in both precisions, conversions not counted."""
    flops = node_flops(layer.node, sizes)
    slow, fast = (flops / (1e3 * rate) for rate in RATES[kind(layer)])
    return Times(CALL[0] + slow, CALL[1] + fast)


def kind(layer: Layer) -> str:
    """The row of `RATES` for a layer."""
    if layer.node.op != "Conv":
        return "matrix"
    if layer.node.int("group") == 1:
        return "dense" if layer.weight.tensor.shape[1] >= SHALLOW else "shallow"
    return "depthwise" if layer.weight.tensor.shape[1] == 1 else "grouped"


def not_worth(graph: Graph, chosen: Mapping[Node, Layer], sizes: Sizes) -> dict[Node, str]:
    """The layers that are better left in float, each with the reason."""
    known = {node: times(layer, sizes) for node, layer in chosen.items()}
    _, kept = cheapest(graph, chosen, sizes)
    return {
        node: f"int8 would not pay here: {t.int8:.0f} us against {t.float:.0f} us, without conversions"
        for node, t in known.items()
        if node not in kept
    }


def cheapest(
    graph: Graph, chosen: Mapping[Node, Layer], sizes: Sizes, floats: Collection[Node] = ()
) -> tuple[float, set[Node]]:
    """The modelled microseconds of the fastest assignment in which the layers `floats` are float, and the layers that
    are int8 in it.
    """
    known = {node: times(layer, sizes) for node, layer in chosen.items()}
    network = _network(graph, chosen, known, sizes)
    for node in floats:
        network.add_edge(node, FLOAT, capacity=math.inf)
    cost, fast = cut.cheapest(network)
    return cost, {node for node in chosen if node in fast}


def _network(
    graph: Graph, chosen: Mapping[Node, Layer], known: Mapping[Node, Times], sizes: Sizes
) -> nx.DiGraph[object]:
    """Edges u -> w cost their capacity where u is in int8 and w in float."""
    import networkx as nx

    network: nx.DiGraph[object] = nx.DiGraph()
    for node, t in known.items():
        network.add_edge(FAST, node, capacity=t.float)
        network.add_edge(node, FLOAT, capacity=t.int8)
    free = {node for node in graph if node in chosen or may_connect(node)}
    takers: dict[Value, list[Node]] = {}
    for node in free:
        for value in [chosen[node].input] if node in chosen else data(node):
            takers.setdefault(value, []).append(node)
    makers = {v: node for node in free if node.op not in ("Gemm", "MatMul") for v in results(node)}
    for value in dict.fromkeys((*takers, *makers)):
        cut.connect(network, value, makers.get(value, FLOAT), takers.get(value, []), _conversion(value, sizes))
    return network


def _conversion(value: Value, sizes: Sizes) -> float:
    return CONVERSION[0] + CONVERSION[1] * math.prod(static_shape(value, sizes) or (0,))
