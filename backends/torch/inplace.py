"""Activations in place, as layers are written by hand: a pass over memory less.

Only where the operand is memory of its own that nothing else needs, its maker's gradient included, and was made in the
same module: what a caller handed in is the caller's.
"""

from __future__ import annotations

from ...ir import Node
from .code import Code, call
from .emitter import Emitter, Row
from .placement import scope_of

FRESH = frozenset(
    ["Conv", "ConvTranspose", "MatMul", "Gemm", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
     "Add", "Sub"]
)  # fmt: skip
"""Operators whose result is no view and takes no part in their own gradient."""


def activation(function: str, node: Node, e: Emitter, *more: float) -> Code:
    """A call of one of those functions that can work in place."""
    place = {"inplace": True} if overwrites(node, e) else {}
    return call(function, e.tensor(node.operand(0)), *more, **place)


def plain(function: str) -> Row:
    return lambda node, e: activation(function, node, e)


def overwrites(node: Node, e: Emitter) -> bool:
    """True where the operand was made in the same module, for this node alone."""
    operand, scope = node.operand(0), scope_of(node)
    made = operand.node
    if not scope or made is None or made.domain or made.op not in FRESH or operand.only_user is not node:
        return False
    container = scope.rpartition(".")[0] if e.placement.populations[scope] == 1 else scope
    within = scope_of(made)
    return not container or within == container or within.startswith(f"{container}.")


ROWS: dict[str, Row] = {
    op: plain(f) for op, f in {"Relu": "F.relu", "HardSwish": "F.hardswish", "Mish": "F.mish"}.items()
}
