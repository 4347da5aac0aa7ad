"""Choosing layers by pattern: `only` and `skip` match a node's name, its module scope or its operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..ir import Graph, Node, UsageError

SHOWN = 8


class Selection:
    """Nodes that match one of `only` (all, when it is empty) and none of `skip`.

    A pattern is a shell pattern ("layer1.*", "Conv") or a plain path (module scope or a name with slashes), which
    also selects everything below it.
    Raises UsageError for a pattern that matches no node of the graph: a typo must not be a silent no-op.
    """

    def __init__(self, graph: Graph, only: Sequence[str] = (), skip: Sequence[str] = ()) -> None:
        self.only, self.skip = tuple(only), tuple(skip)
        for option, patterns in (("only", self.only), ("skip", self.skip)):
            for pattern in patterns:
                if not any(matches(node, pattern) for node in graph.walk()):
                    raise UsageError(
                        f"{option} pattern {pattern!r} matches nothing",
                        why="it is compared with node names, module scopes and operators, "
                        f"such as {examples(graph.walk())}",
                        do="list the layers with: tersor inspect MODEL",
                    )

    def __contains__(self, node: Node) -> bool:
        return self.reason(node) == ""

    def reason(self, node: Node) -> str:
        """Why a node is not selected; '' when it is."""
        for pattern in self.skip:
            if matches(node, pattern):
                return f"skipped by pattern {pattern!r}"
        if self.only and not any(matches(node, p) for p in self.only):
            return f"not among only={list(self.only)}"
        return ""


def matches(node: Node, pattern: str) -> bool:
    """True when the pattern selects the node by name, scope or operator; locations that were fused into it count
    too.
    """
    if fnmatchcase(node.op, pattern) or fnmatchcase(label(node), pattern):
        return True
    for loc in (node.loc, *node.loc.fused):
        if loc.origin and (fnmatchcase(loc.origin, pattern) or loc.origin.lstrip("/").startswith(pattern + "/")):
            return True
        if loc.scope and (fnmatchcase(loc.scope, pattern) or loc.scope.startswith(pattern + ".")):
            return True
    return False


def label(node: Node) -> str:
    """What a person calls the node: its module scope, else its name in the file, else its first output's name."""
    return node.loc.scope or node.loc.origin or (node.outputs[0].name if node.outputs else "") or node.op


def examples(nodes: Iterable[Node]) -> str:
    """A few names to show in a message."""
    found = list(dict.fromkeys(label(node) for node in nodes))
    return ", ".join(repr(n) for n in found[:SHOWN]) + (" ..." if len(found) > SHOWN else "")
