"""Raising: a node at the opset of its file becomes one or a few nodes at the canonical opset that mean the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....ir import CANONICAL_OPSET, Node, UnsupportedError, Value, lookup
from .step import Step
from .table import DEPRECATED, NEWER, by_operator, listed

__all__ = ["raise_node"]

_ROWS = by_operator()
_NEWER = frozenset(listed(NEWER))


def raise_node(
    node: Node, version: int, used: Sequence[bool], infer: Callable[[Node], None] | None = None
) -> Sequence[Value]:
    """Raises an ai.onnx node from opset `version` to the canonical one, in its graph, and gives what stands for its
    outputs.

    `used[i]` says whether anything will read output i. `infer` is called for each canonical node in order. Raises
    UnsupportedError for a form that has no canonical equivalent, and for an operator that is newer than the canonical
    opset.
    """
    if version > CANONICAL_OPSET:
        _refuse_newer(node, version)
    rows, version = _ROWS.get(node.op, ()), min(version, DEPRECATED.get(node.op, version))
    if not any(row[0] > version for row in rows):
        if infer is not None:
            infer(node)
        return node.outputs
    step = Step(node, used)
    pending = next((row for row in rows if row[0] > version), None)
    while pending is not None:
        version, rule = pending
        rule(step)
        # A rule may have renamed the operator: the rows that follow are those of the new one.
        pending = next((row for row in _ROWS.get(node.op, ()) if row[0] > version), None)
    for made in (*step.before.new, node, *step.after.new):
        if infer is not None:
            infer(made)
    return step.results


def _refuse_newer(node: Node, version: int) -> None:
    """Refuses a newer form of an older operator; operators that are new after the canonical opset stay as they are."""
    theirs, ours = lookup(node.op, "", version), lookup(node.op, "", CANONICAL_OPSET)
    if theirs is None or ours is None or theirs.version == ours.version:
        return
    if (node.op, theirs.version) not in _NEWER:
        raise UnsupportedError(
            f"{node.op}-{theirs.version} is newer than opset {CANONICAL_OPSET}",
            where=node.where,
            do=f"export the model with opset {CANONICAL_OPSET} or lower",
        )
