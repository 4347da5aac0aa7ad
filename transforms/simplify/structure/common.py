"""Common subexpressions: two nodes that compute the same from the same operands become one."""

from __future__ import annotations

from collections.abc import Hashable

from ....ir import Attribute, Graph, Node, Tensor, Value, fuse, lookup

SMALL = 4096
"""Constants up to this many bytes are compared by content; larger ones by identity, so that no weight is read from
disk.
"""


def merge_common(graph: Graph) -> int:
    """Merges equal nodes of the graph, and of each region by itself; gives how many went away."""
    merged = 0
    known: dict[Hashable, Node] = {}
    for node in graph:
        for region in node.regions.values():
            merged += merge_common(region)
        key = _key(node)
        if key is None:
            continue
        twin = known.setdefault(key, node)
        if twin is node:
            continue
        for old, new in zip(node.outputs, twin.outputs, strict=True):
            old.replace_by(new)
        twin.loc = fuse(twin.loc, [node.loc], twin.loc.rule)
        node.erase()
        merged += 1
    return merged


def _key(node: Node) -> Hashable | None:
    schema = lookup(node.op, node.domain)
    if schema is None or not schema.deterministic or node.regions:
        return None
    attrs = tuple(sorted((name, _attribute(value)) for name, value in node.attrs.items()))
    return node.domain, node.op, tuple(_operand(v) for v in node.inputs), attrs, len(node.outputs)


def _operand(value: Value | None) -> Hashable:
    if value is None or value.const is None:
        return value
    return value.const.digest if value.const.nbytes <= SMALL else value.const


def _attribute(value: Attribute) -> str:
    if isinstance(value, Tensor):
        return value.digest
    if isinstance(value, tuple):
        return "(" + ",".join(_attribute(v) for v in value) + ")"
    return repr(value)
