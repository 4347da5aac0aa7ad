"""The cheapest split of a network into two precisions: a minimum cut.

Edges u -> w cost their capacity where u is in the fast precision and w in float. A value is converted once for all who
take it, hence an auxiliary node per value and direction (Greig, Porteous and Seheult 1989).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from ...ir import Node, Value

if TYPE_CHECKING:
    import networkx as nx

FAST, FLOAT = "fast", "float"

Cut = tuple[float, tuple[set[object], set[object]]]
"""What networkx gives: the cost, and the nodes on either side."""


def connect(network: nx.DiGraph[object], value: Value, maker: object, takers: Collection[Node], price: float) -> None:
    """The price of converting a value: once to the fast precision if one of `takers` wants it so, once to float if
    another user does.

    `maker` is the node that gives the value in whichever precision it is in, or the side that it is always given on.
    """
    for taker in takers:
        network.add_edge(taker, ("to fast", value), capacity=math.inf)
    if takers:
        network.add_edge(("to fast", value), maker, capacity=price)
    if maker == FLOAT:
        return
    network.add_edge(maker, ("to float", value), capacity=price)
    for user in value.users:
        network.add_edge(("to float", value), user if user in takers else FLOAT, capacity=math.inf)


def cheapest(network: nx.DiGraph[object]) -> tuple[float, set[object]]:
    """The cost of the cheapest split, and what is in the fast precision in it."""
    import networkx as nx

    cost, parts = cast(Cut, nx.minimum_cut(network, FAST, FLOAT))  # pyright: ignore[reportUnknownMemberType]
    return cost, parts[0]
