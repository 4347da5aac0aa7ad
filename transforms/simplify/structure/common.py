"""Common subexpressions: two nodes that compute the same from the same operands become one."""

from __future__ import annotations

from collections.abc import Hashable, Set

from ....ir import Attribute, Graph, Node, Tensor, Value, fuse, lookup
from ....ir.rewrite import Allow, always
from ....ir.tensors import comes_from

SMALL = 4096
"""Constants up to this many bytes are compared by content; larger ones by identity, so that no weight is read from
disk.
"""


def merge_common(graph: Graph, keep: Set[int] = frozenset(), *, allow: Allow = always) -> int:
    """Merges equal nodes of the graph, and of each region by itself, where `allow` says so; gives how many went away.

    Parameters, tensors whose identities are in `keep`, are equal only to themselves: training makes others differ.
    """
    merged = 0
    known: dict[Hashable, Node] = {}
    for node in graph:
        for region in node.regions.values():
            merged += merge_common(region, keep, allow=allow)
        key = _key(node, keep)
        if key is None:
            continue
        twin = known.setdefault(key, node)
        if twin is node or not allow(node):
            continue
        for old, new in zip(node.outputs, twin.outputs, strict=True):
            old.replace_by(new)
        twin.loc = fuse(twin.loc, [node.loc], twin.loc.rule)
        node.erase()
        merged += 1
    return merged


def _key(node: Node, keep: Set[int]) -> Hashable | None:
    schema = lookup(node.op, node.domain)
    if schema is None or not schema.deterministic or node.regions:
        return None
    attrs = tuple(sorted((name, _attribute(value)) for name, value in node.attrs.items()))
    return node.domain, node.op, tuple(_operand(v, keep) for v in node.inputs), attrs, len(node.outputs)


def _operand(value: Value | None, keep: Set[int]) -> Hashable:
    if value is None or value.const is None:
        return value
    if keep and comes_from(value.const, keep):
        return value.const
    return value.const.digest if value.const.nbytes <= SMALL else value.const


def _attribute(value: Attribute) -> str:
    if isinstance(value, Tensor):
        return value.digest
    if isinstance(value, tuple):
        return "(" + ",".join(_attribute(v) for v in value) + ")"
    return repr(value)
