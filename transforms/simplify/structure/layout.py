"""Chains of Reshape, Squeeze, Unsqueeze, Flatten and Transpose, written as the shortest chain that does the same.

One rule stands for what is usually many: two Reshapes or two Transposes in a row, a Squeeze of what was unsqueezed, a
Transpose that only moves axes of size 1, a last-two-axes transpose done on a flattened batch, windows split and joined
again. Sizes may be symbolic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Union

from ....ir import Attribute, Builder, Node, Size, Value
from ....ir.rewrite import Result, decline, rule
from ....ir.types import Shape
from .axes import LAYOUT, RESHAPING, Axes, Step

LONGEST = 8
"""Nodes of a chain that are looked at together."""

Target = tuple[str, Union[Value, list[int]], dict[str, Attribute]]
"""An operator that reshapes, its second operand and its attributes."""


@rule(*LAYOUT)
def compose_layout(op: Builder, node: Node) -> Result:
    """A chain of reshapings and Transposes is the shortest chain that does the same."""
    chain, best, gain = [node], None, (0, 0, False)
    vanishing = weight(node.op)
    while True:
        found = shortest(op, chain)
        if found is not None:
            cost = sum(weight("Reshape" if step.perm is None else "Transpose") for step, _ in found)
            won = (vanishing - cost, len(chain) - len(found), reshapes_first(found) and node.op != "Transpose")
            if vanishing >= cost and won > gain:
                best, gain = (chain[-1].operand(0), found), won
        above = chain[-1].operand(0)
        if above.node is None or above.op not in LAYOUT or above.node.domain or len(chain) == LONGEST:
            break
        if len(above.users) == 1 and vanishing == sum(weight(n.op) for n in chain):
            vanishing += weight(above.op)
        chain.append(above.node)
    if best is None:
        return decline("no shorter chain does the same")
    return build(op, *best)


def reshapes_first(steps: Sequence[tuple[Step, Target | None]]) -> bool:
    """True for a reshaping and then a Transpose, which is how heads are split: the canonical order."""
    return len(steps) == 2 and steps[0][1] is not None and steps[1][1] is None


def weight(op: str) -> int:
    """What a node counts for: of as many nodes those that only reshape are better, then those that transpose."""
    return {"Transpose": 11, "Gather": 12}.get(op, 10)


def shortest(op: Builder, chain: Sequence[Node]) -> list[tuple[Step, Target | None]] | None:
    """The shortest chain that can be written for `chain` (last node first), with the operands of its reshapings."""
    before, after = chain[-1].operand(0).shape, chain[0].output.shape
    if before is None or after is None or 0 in before or 0 in after:
        return None
    axes = Axes(before)
    plans: list[list[Step]]
    if all(node.op in RESHAPING and not node.domain for node in chain):
        plans = [[]] if before == after else [[Step(after)]]
    elif all(axes.follow(node) for node in reversed(chain)):
        plans = axes.plans(before, after)
    else:
        return None
    for plan in plans:
        steps = written(op, plan, before, chain)
        if steps is not None:
            return steps
    return None


def written(
    op: Builder, plan: Sequence[Step], before: Shape, chain: Iterable[Node]
) -> list[tuple[Step, Target | None]] | None:
    """The steps of a plan with the operands of its reshapings; None where a shape cannot be written."""
    steps: list[tuple[Step, Target | None]] = []
    for step in plan:
        if step.perm is not None:
            if step.perm != tuple(range(len(step.perm))):
                steps.append((step, None))
        elif step.shape != before:
            target = reshaping(op, before, step.shape, chain)
            if target is None:
                return None
            steps.append((step, target))
        before = step.shape
    return steps


def build(op: Builder, value: Value, steps: Iterable[tuple[Step, Target | None]]) -> Value:
    """Applies steps to a value."""
    for step, target in steps:
        value = op.Transpose(value, perm=step.perm or ()) if target is None else build_reshape(op, value, target)
    return value


def build_reshape(op: Builder, value: Value, target: Target) -> Value:
    """Applies one reshaping to a value."""
    return getattr(op, target[0])(value, target[1], **target[2])


def reshaping(op: Builder, before: Shape, after: Shape, known: Iterable[Node] = ()) -> Target | None:
    """How to give a tensor of shape `before` the shape `after`: Squeeze or Unsqueeze where these do, else a Reshape to
    a constant, else to a target that one of the nodes `known` has already. None where none of these can.
    """
    axes = ones_removed(before, after)
    if axes is not None:
        return "Squeeze", axes, {}
    axes = ones_removed(after, before)
    if axes is not None:
        return "Unsqueeze", axes, {}
    target = constant_target(before, after)
    if target is not None:
        return "Reshape", target, {}
    found = next((n for n in known if n.output.shape == after and _serves(op, n, before, after)), None)
    return None if found is None else ("Reshape", found.operand(1), found.attrs)


def ones_removed(before: Shape, after: Shape) -> list[int] | None:
    """The axes of size 1 that `before` has and `after` has not; None where they differ in more than that."""
    axes: list[int] = []
    place = 0
    for axis, size in enumerate(before):
        if place < len(after) and after[place] == size:
            place += 1
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return axes if place == len(after) and axes else None


def constant_target(before: Shape, after: Shape) -> list[int] | None:
    """The second operand of a Reshape as numbers: -1 for a single symbolic size, 0 for those that stay where they are.

    None where more than one would have to be computed.
    """
    symbolic = [axis for axis, size in enumerate(after) if not isinstance(size, int)]
    if len(symbolic) > 1:
        copied = {axis for axis in symbolic if axis < len(before) and before[axis] == after[axis]}
        symbolic = [axis for axis in symbolic if axis not in copied]
        if len(symbolic) > 1:
            return None
    return [size if isinstance(size, int) else -1 if axis in symbolic else 0 for axis, size in enumerate(after)]


def _serves(op: Builder, node: Node, before: Shape, after: Shape) -> bool:
    """True where the target of a Reshape means the same for a tensor of shape `before`: it copies no other size."""
    sizes: tuple[Size, ...] | None = op.sizes(node.operand(1)) if node.op == "Reshape" else None
    if sizes is None or (node.int("allowzero", 0) and 0 in sizes):
        return False
    return all(size != 0 or (axis < len(before) and before[axis] == after[axis]) for axis, size in enumerate(sizes))


RULES = (compose_layout,)
