"""Raising: a node at the opset of its file becomes one or a few nodes at the canonical opset that mean the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from ....ir import CANONICAL_OPSET, Node, UnsupportedError, Value, lookup
from .newer import CHANGED
from .step import Rule, Step
from .table import DEPRECATED, NEWER, by_operator, listed

__all__ = ["changes_after", "raise_node"]

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
    step = Step(node, used)
    newer = _newer(node, version) if version > CANONICAL_OPSET else None
    if newer is not None:
        newer(step)
    else:
        _climb(step, min(version, DEPRECATED.get(node.op, version)))
    for made in step.made():
        if infer is not None:
            infer(made)
    return step.results


@lru_cache(maxsize=4096)
def changes_after(op: str, version: int) -> bool:
    """True where a node of opset `version` may need raising, or be refused."""
    return version > CANONICAL_OPSET or _next_row(op, min(version, DEPRECATED.get(op, version))) is not None


def _climb(step: Step, version: int) -> None:
    node = step.node
    pending = _next_row(node.op, version)
    while pending is not None:
        version, rule = pending
        rule(step)
        # A rule may have renamed the operator: the rows that follow are those of the new one.
        pending = _next_row(node.op, version)


@lru_cache(maxsize=4096)
def _next_row(op: str, version: int) -> tuple[int, Rule] | None:
    """The first change of an operator after `version` that asks for something."""
    return next((row for row in _ROWS.get(op, ()) if row[0] > version), None)


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
