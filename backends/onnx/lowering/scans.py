"""Scan as a Loop, for opsets whose Scan had a batch axis of its own (before 9)."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir import Builder, Node, Value
from .loops import inlined, loop
from .operands import indices, scalar, shape_of, size_of


def scan_as_loop(node: Node, op: Builder) -> Sequence[Value | None]:
    """A loop that gathers a slice of each scanned operand; what it stacks goes to its axis (Scan-9)."""
    own, captured = node.operands, node.captured
    count = node.int("num_scan_inputs")
    states, items = ([v for v in part if v is not None] for part in (own[:-count], own[-count:]))
    seen = [v for v in captured if v is not None]
    axes, backward = (node.ints(f"scan_input_{n}", (0,) * count) for n in ("axes", "directions"))
    axes = [a % len(shape_of(v)) if a < 0 else a for a, v in zip(axes, items, strict=True)]
    length = size_of(op, items[0], axes[0])

    def turn(body: Builder, i: Value, carried: Sequence[Value], outer: Sequence[Value]) -> list[Value]:
        behind = body.Sub(body.Sub(outer[count], scalar(1)), i) if any(backward) else i
        slices = [
            body.Gather(v, behind if back else i, axis=axis)
            for v, axis, back in zip(outer[:count], axes, backward, strict=True)
        ]
        given = [*carried[: len(states)], *slices, *outer[count + 1 :]]
        return [*carried[len(states) :], *inlined(node.regions["body"], given, body)]

    # The first Loop had to carry something.
    made = loop(op, length, states or [length], [*items, length, *seen], turn, fixed=True)
    made = made if states else made[1:]
    results: list[Value | None] = list(made[: len(states)])
    stacked = len(made) - len(states)
    places, turned = (node.ints(f"scan_output_{n}", (0,) * stacked) for n in ("axes", "directions"))
    for old, new, axis, back in zip(node.outputs[len(states) :], made[len(states) :], places, turned, strict=True):
        y = op.Gather(new, op.Sub(op.Sub(length, scalar(1)), indices(op, length)), axis=0) if back else new
        results.append(_moved(op, y, axis % len(shape_of(old)), len(shape_of(old))) if axis else y)
    return results


def _moved(op: Builder, x: Value, axis: int, rank: int) -> Value:
    """The first axis as another one."""
    perm = list(range(1, rank))
    perm.insert(axis, 0)
    return op.Transpose(x, perm=perm)
