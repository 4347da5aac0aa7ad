"""Raising: a node at the opset of its file becomes one or a few nodes at the canonical opset that mean the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....ir import CANONICAL_OPSET, Node, UnsupportedError, Value, lookup
from .newer import CHANGED
from .step import Rule, Step
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
    newer = _newer(node, version) if version > CANONICAL_OPSET else None
    if newer is not None:
        return _raised(Step(node, used), newer, infer)
    rows, version = _ROWS.get(node.op, ()), min(version, DEPRECATED.get(node.op, version))
    if not any(row[0] > version for row in rows):
        if infer is not None:
            infer(node)
        return node.outputs
    return _raised(Step(node, used), lambda step: _climb(step, version), infer)


def _raised(step: Step, rule: Rule, infer: Callable[[Node], None] | None) -> Sequence[Value]:
    rule(step)
    for made in (*step.before.new, step.node, *step.after.new):
        if infer is not None:
            infer(made)
    return step.results


def _climb(step: Step, version: int) -> None:
    node = step.node
    pending = next((row for row in _ROWS[node.op] if row[0] > version), None)
    while pending is not None:
        version, rule = pending
        rule(step)
        # A rule may have renamed the operator: the rows that follow are those of the new one.
        pending = next((row for row in _ROWS.get(node.op, ()) if row[0] > version), None)


def _newer(node: Node, version: int) -> Rule | None:
    """The rule for a newer form of an older operator, None where that means the same or where the operator itself is
    newer than the canonical opset. Raises UnsupportedError for other forms.
    """
    theirs, ours = lookup(node.op, "", version), lookup(node.op, "", CANONICAL_OPSET)
    if theirs is None or ours is None or theirs.version == ours.version:
        return None
    rule = CHANGED.get((node.op, theirs.version))
    if rule is None and (node.op, theirs.version) not in _NEWER:
        raise UnsupportedError(
            f"{node.op}-{theirs.version} is newer than opset {CANONICAL_OPSET}",
            where=node.where,
            do=f"export the model with opset {CANONICAL_OPSET} or lower",
        )
    return rule
