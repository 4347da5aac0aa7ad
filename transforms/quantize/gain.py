"""Which layers are worth int8: what each takes in either precision, and the cheapest split of a network into both.

The time of a network is the sum over its layers, in the precision of each, plus that of a QuantizeLinear where a float
value enters the int8 part and of a DequantizeLinear where one leaves it. The cheapest assignment is a minimum cut
between "int8" and "float" (Greig, Porteous and Seheult 1989), with auxiliary nodes per value, since a value is
converted once for all who take it. Small, depthwise and isolated layers fall out by themselves. Times are those of a
model, or measured (see `measured`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...ir import Graph, Node, Value
from ..cost import Sizes, node_flops, static_shape
from . import cut
from .cut import FAST, FLOAT
from .images import phases
from .layers import Integer, Layer, Product, weighted
from .placement import IMAGE_RANK, ORT, Target, data, may_connect, results
from .products import MARGIN, at, paces

if TYPE_CHECKING:
    import networkx as nx

RATES = {
    "dense": (60.0, 170.0),
    "shallow": (60.0, 75.0),
    "grouped": (38.0, 24.0),
    "depthwise": (9.0, 10.0),
    "matrix": (50.0, 170.0),
    "transposed": (45.0, 280.0),
}
"""GFLOP/s in float and in int8 per kind of layer; for a transposed convolution in int8, of its phases. Like all figures
here: medians measured with ONNX Runtime 1.31 on one core with AVX-512 VNNI; their ratios matter, not their size."""

SHALLOW = 8
"""Convolutions of fewer input channels than this spend their time gathering pixels, not multiplying."""

CALL = (2.0, 2.5)
"""Microseconds that a layer takes beside its arithmetic, in float and in int8."""

HYSTERESIS = 0.05
"""Measured times turn what the model of time says only where they win more than this share: noise must not."""


@dataclass(frozen=True)
class Times:
    """Microseconds of a layer."""

    float: float
    int8: float


@dataclass(frozen=True)
class Price:
    """Microseconds of a conversion: per call and per element."""

    call: float
    element: float


MOVED = 2e-3
"""Microseconds for each number that the phases of a transposed convolution put into its place."""

CONVERSION = Price(1.5, 0.3e-3)


@dataclass(frozen=True)
class Costs:
    """What a network takes: each layer, and each operator that may connect layers, in either precision (none where it
    takes the same in both), and a conversion of `images` and of other values.
    """

    times: Mapping[Node, Times]
    sizes: Sizes
    images: Price = CONVERSION
    others: Price = CONVERSION
    measured: bool = False

    @property
    def word(self) -> str:
        return "measured" if self.measured else "modelled"

    def conversion(self, value: Value) -> float:
        """Microseconds of converting a value."""
        price = self.images if value.rank == IMAGE_RANK else self.others
        return price.call + price.element * math.prod(static_shape(value, self.sizes) or (0,))

    def said(self, node: Node) -> str:
        """The times of a layer in words; '' where none are known."""
        t = self.times.get(node)
        return f"{t.int8:.0f} us against {t.float:.0f} us {self.word}" if t else ""

    def under(self, names: Mapping[Node, Node]) -> Costs:
        """The same with other nodes in the place of some."""
        return replace(self, times={names.get(node, node): t for node, t in self.times.items()})

    def leaning(self, layers: Collection[Node], int8: Collection[Node], by: float = HYSTERESIS) -> Costs:
        """The same with layers a little cheaper in the precision that they have where `int8` are those in int8."""
        less, now = 1 - by, dict(self.times)
        for node in layers:
            t = now[node]
            now[node] = Times(t.float, t.int8 * less) if node in int8 else Times(t.float * less, t.int8)
        return replace(self, times=now)


def group(node: Node, layer: Integer | None) -> list[Node]:
    """The nodes that a layer or connector takes the place of: itself, the Add of its bias, and a Relu or Clip that
    vanishes into its result."""
    adder = layer.adder if isinstance(layer, Layer) else None
    last = results(node)[0].node if adder is None else None
    found = (node, adder, last)
    return list(dict.fromkeys(n for n in found if n is not None))


def modelled(chosen: Mapping[Node, Integer], sizes: Sizes, target: Target = ORT) -> Costs:
    """What these layers take by the model; products alone for a target that is not modelled otherwise."""
    known = {n: layer for n, layer in chosen.items() if target.modelled or isinstance(layer, Product)}
    return Costs({node: times(layer, sizes, target) for node, layer in known.items()}, sizes)


def times(layer: Integer, sizes: Sizes, target: Target = ORT) -> Times:
    """The modelled time of a layer in both precisions, conversions not counted."""
    if isinstance(layer, Product):
        return Times(*paces(layer, sizes, target.products))
    flops = node_flops(layer.node, sizes)
    slow, fast = (flops / (1e3 * rate) for rate in RATES[kind(layer)])
    form = phases(layer.node) if layer.node.op == "ConvTranspose" else None
    if form is not None:
        more = form.stride**2 * math.prod(form.taps) / math.prod(layer.weight.tensor.shape[2:])
        fast = more * fast + MOVED * math.prod(static_shape(layer.node.output, sizes) or (0,))
    return Times(CALL[0] + slow, CALL[1] + fast)


def kind(layer: Layer) -> str:
    """The row of `RATES` for a layer."""
    if layer.node.op == "ConvTranspose":
        return "transposed"
    if layer.node.op != "Conv":
        return "matrix"
    if layer.node.int("group") == 1:
        return "dense" if layer.weight.tensor.shape[1] >= SHALLOW else "shallow"
    return "depthwise" if layer.weight.tensor.shape[1] == 1 else "grouped"


def not_worth(graph: Graph, chosen: Mapping[Node, Integer], costs: Costs) -> dict[Node, str]:
    """The layers that are better left in float, each with the reason."""
    return _floats(graph, chosen, costs, ())


def products_not_worth(graph: Graph, chosen: Mapping[Node, Integer], costs: Costs) -> dict[Node, str]:
    """The products of computed matrices that are better left in float where all layers with weights are in int8,
    whatever these take."""
    layers = weighted(chosen)
    return _floats(graph, chosen, costs, layers) if len(layers) < len(chosen) else {}


def _floats(graph: Graph, chosen: Mapping[Node, Integer], costs: Costs, held: Collection[Node]) -> dict[Node, str]:
    """What is float in the cheapest assignment in which the layers `held` are int8, each with the reason."""
    if costs.measured:
        _, usual = cheapest(graph, chosen, modelled(chosen, costs.sizes), int8=held)
        _, kept = cheapest(graph, chosen, costs.leaning(chosen, usual), int8=held)
    else:
        products = [node for node, layer in chosen.items() if isinstance(layer, Product)]
        _, kept = cheapest(graph, chosen, costs.leaning(products, (), MARGIN), int8=held)
    return {
        node: f"int8 would not pay here: {at(layer, costs.sizes)}{costs.said(node)}, without conversions"
        for node, layer in chosen.items()
        if node not in kept
    }


def forms_not_worth(chosen: Mapping[Node, Integer], costs: Costs) -> dict[Node, str]:
    """The layers whose other form, which has an int8 kernel, takes no less than theirs in float, each with the
    reason."""
    found = {node: costs.times[node] for node in chosen if node.op == "ConvTranspose" and node in costs.times}
    return {
        node: f"convolutions of its phases would not pay: {costs.said(node)}"
        for node, t in found.items()
        if t.int8 >= t.float
    }


def cheapest(
    graph: Graph,
    chosen: Mapping[Node, Integer],
    costs: Costs,
    floats: Collection[Node] = (),
    int8: Collection[Node] = (),
) -> tuple[float, set[Node]]:
    """The microseconds of the fastest assignment in which the layers `floats` are float and `int8` are int8, and the
    layers that are int8 in it.
    """
    network = _network(graph, chosen, costs)
    for node in floats:
        network.add_edge(node, FLOAT, capacity=math.inf)
    for node in int8:
        network.add_edge(FAST, node, capacity=math.inf)
    cost, fast = cut.cheapest(network)
    return cost, {node for node in chosen if node in fast}


def _network(graph: Graph, chosen: Mapping[Node, Integer], costs: Costs) -> nx.DiGraph[object]:
    """Edges u -> w cost their capacity where u is in int8 and w in float."""
    import networkx as nx

    network: nx.DiGraph[object] = nx.DiGraph()
    network.add_nodes_from((FAST, FLOAT))
    free = {node for node in graph if node in chosen or may_connect(node)}
    for node in free:
        t = costs.times.get(node)
        if t is not None:
            network.add_edge(FAST, node, capacity=t.float)
            network.add_edge(node, FLOAT, capacity=t.int8)
    takers: dict[Value, list[Node]] = {}
    for node in free:
        for value in chosen[node].operands if node in chosen else data(node):
            takers.setdefault(value, []).append(node)
    makers = {v: node for node in free if node.op not in ("Gemm", "MatMul") for v in results(node)}
    for value in dict.fromkeys((*takers, *makers)):
        cut.connect(network, value, makers.get(value, FLOAT), takers.get(value, []), costs.conversion(value))
    return network
