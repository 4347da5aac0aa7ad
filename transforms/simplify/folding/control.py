"""Control flow that is decided at compile time."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir import Builder, Graph, Node, Value
from ....ir.rewrite import Result, decline, rule


@rule("If")
def inline_decided_branch(op: Builder, node: Node) -> Result:
    """If on a constant is the branch that it takes."""
    condition = node.operand(0).const
    if condition is None:
        return decline("its condition is not a constant")
    region = node.regions["then_branch" if bool(condition.item()) else "else_branch"]
    captured = [v for v in node.inputs[1:] if v is not None]
    return inline(op, region, captured)


def inline(op: Builder, region: Graph, arguments: Sequence[Value]) -> list[Value]:
    """Copies a region's nodes to where the builder stands, with `arguments` for its inputs; gives its results."""
    copy = region.clone()
    for inner, outer in zip(copy.inputs, arguments, strict=True):
        inner.replace_by(outer)
    results = list(copy.outputs)
    copy.exit.set_inputs([])
    for node in list(copy):
        node.unlink()
        op.graph.insert(node, op.before)
        op.new.append(node)
    return results


RULES = (inline_decided_branch,)
