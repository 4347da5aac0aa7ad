"""Writing through views: what an in-place operator does to the tensors that share memory with its operand.

After `x[:, 0].fill_(3)` the tensor x holds something else, and so does every other view of it. Where the operand is a
view, the tensor that it is a view of gets its new contents by the inverse of the view (a Slice is undone by joining the
parts around it, a Transpose by another one), up to the tensor that owns the memory; all other views are taken anew from
there when they are read next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

from ...ir import Value
from .lowering import Lowering, shape_of
from .shapes import movedim, select_scatter, slice_scatter, transpose

Inverse = Callable[..., Value]
"""(op, owner, contents, *the view's other arguments) -> the owner with these contents in the place of the view."""


def same_elements(op: Lowering, owner: Value, contents: Value, *_: object) -> Value:
    return op.reshape(contents, shape_of(owner))


def unpermute(op: Lowering, owner: Value, contents: Value, dims: list[int]) -> Value:
    return movedim(op, contents, list(range(len(dims))), dims)


def untranspose(op: Lowering, owner: Value, contents: Value, dim0: int = 0, dim1: int = -1) -> Value:
    return transpose(op, contents, dim0, dim1)


INVERSES: dict[str, Inverse] = {
    "aten.slice.Tensor": slice_scatter, "aten.select.int": select_scatter,
    "aten.view.default": same_elements, "aten.unsqueeze.default": same_elements, "aten.squeeze.default": same_elements,
    "aten.squeeze.dim": same_elements, "aten.squeeze.dims": same_elements, "aten.alias.default": same_elements,
    "aten.detach.default": same_elements, "aten.permute.default": unpermute, "aten.transpose.int": untranspose,
    "aten.t.default": untranspose,
}  # fmt: skip
"""Views that always share memory with their operand, unlike reshape, and how each is undone."""


def owner_of(node: Node) -> Node | None:
    """The node that this one is a view of, or the operand that it has overwritten; None where neither is certain."""
    target: Any = node.target
    found = node.args[0] if node.args else None
    if not isinstance(target, OpOverload) or not isinstance(found, Node):
        return None
    return found if target._schema.is_mutable or str(target) in INVERSES else None


def root_of(node: Node) -> Node:
    """The node that owns the memory, as far as that is certain."""
    owner = owner_of(node)
    while owner is not None:
        node = owner
        owner = owner_of(node)
    return node


class Views:
    """The views among the nodes lowered so far, and which of them hold contents from before a write."""

    def __init__(self) -> None:
        self.stale: set[Node] = set()
        self._children: dict[Node, list[Node]] = {}

    def add(self, node: Node) -> None:
        """Notes a lowered node."""
        owner = owner_of(node)
        if owner is not None:
            self._children.setdefault(owner, []).append(node)

    def chain(self, node: Node) -> list[Node]:
        """The node, what it is a view of, and so on."""
        out = [node]
        owner = owner_of(node)
        while owner is not None:
            out.append(owner)
            owner = owner_of(owner)
        return out

    def overwritten(self, chain: list[Node]) -> None:
        """Marks every view of the chain's last node as stale, but for the chain itself, which has its new contents."""
        open_nodes = [chain[-1]]
        while open_nodes:
            node = open_nodes.pop()
            children = self._children.get(node, ())
            open_nodes.extend(children)
            self.stale.update(children)
        self.stale.difference_update(chain)
