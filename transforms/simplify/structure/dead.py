"""Dead code: nodes whose outputs nobody uses."""

from __future__ import annotations

from ....ir import Graph, Node, lookup
from ....ir.rewrite import Allow, always


def erase_dead(graph: Graph, *, allow: Allow = always) -> int:
    """Erases nodes without users in the graph and its regions, each where `allow` says so; gives how many.

    An operator that no schema describes may have effects that a graph cannot show, so it stays.
    """
    erased = 0
    for node in reversed(graph):
        for region in node.regions.values():
            erased += erase_dead(region, allow=allow)
        if is_dead(node) and allow(node):
            node.erase()
            erased += 1
    return erased


def is_dead(node: Node) -> bool:
    """True for a node of a known operator whose outputs have no users."""
    return not any(v.users for v in node.outputs) and lookup(node.op, node.domain) is not None
