"""Which in-place operators of an exported graph can be lowered as they are.

`y = relu_(x)` means the same as `y = relu(x)` as long as nothing reads the old contents through another name
afterwards: x itself is fine, since it stands for y from there on; a view taken of x before, or the tensor that x is a
view of, is fine where the relation is certain (see `views`). Which tensors may share memory follows from the alias
annotations of the operators' schemas. Where the check fails, the program has to be made functional by torch.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from .views import root_of

FRESH = frozenset(
    [
        "linear", "matmul", "einsum", "embedding", "scaled_dot_product_attention", "lstm", "gru",
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "softmax", "log_softmax",
        "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "upsample_nearest2d", "upsample_bilinear2d", "pad", "where", "stack", "std", "var", "one_hot",
        "repeat_interleave", "diff",
    ]
)  # fmt: skip
"""Composite operators whose results never share memory with their operands, though a composite one might."""


@dataclass(frozen=True)
class Mutations:
    """What the in-place operators of a graph do: whether all that they change is known (`certain`), and which write to
    a graph input, as pairs of operator and input (`inputs`)."""

    certain: bool = True
    inputs: tuple[tuple[Node, Node], ...] = ()


@dataclass(frozen=True)
class Effects:
    """Of an operator: which arguments it writes to, and with which its result may share memory (None: with any)."""

    written: tuple[tuple[int, str], ...]
    shared: tuple[tuple[int, str], ...] | None


def mutations(module: GraphModule) -> Mutations:
    """Looks at one graph; those of wrapped submodules are graphs of their own."""
    if not mutates(module):
        return Mutations()
    groups = Groups()
    order = {node: place for place, node in enumerate(module.graph.nodes)}
    certain, inputs = True, []
    for node, place in order.items():
        for operand in written_operands(node):
            for other in groups.of(operand):
                if other.op == "placeholder":
                    inputs.append((node, other))
                read_later = any(order[user] > place for user in other.users)
                certain = certain and (not read_later or root_of(other) is root_of(operand))
        for source in shared_operands(node):
            groups.join(node, source)
    return Mutations(certain, tuple(inputs))


def mutates(module: GraphModule) -> bool:
    """Whether any operator of the graph writes to an operand."""
    targets = {node.target for node in module.graph.nodes if node.op == "call_function"}
    return any(isinstance(t, OpOverload) and t._schema.is_mutable for t in targets)


class Groups:
    """Nodes that may share memory (union by moving the smaller list)."""

    def __init__(self) -> None:
        self._groups: dict[Node, list[Node]] = {}

    def of(self, node: Node) -> list[Node]:
        return self._groups.setdefault(node, [node])

    def join(self, a: Node, b: Node) -> None:
        large, small = self.of(a), self.of(b)
        if large is small:
            return
        if len(large) < len(small):
            large, small = small, large
        large += small
        for node in small:
            self._groups[node] = large


def written_operands(node: Node) -> list[Node]:
    """The operands that an operator writes to, by its schema."""
    target: Any = node.target
    return list(_operands(node, effects(target).written)) if isinstance(target, OpOverload) else []


def shared_operands(node: Node) -> list[Node]:
    """The operands whose memory the node's result may share."""
    target: Any = node.target
    if target is operator.getitem and is_own_tensor(node):
        return []
    if not isinstance(target, OpOverload):
        return list(node.all_input_nodes) if node.op == "call_function" else []
    shared = effects(target).shared
    return list(node.all_input_nodes) if shared is None else list(_operands(node, shared))


def is_own_tensor(item: Node) -> bool:
    """Whether a picked result has memory of its own: its operator makes new tensors, and nobody else picks it."""
    source, index = item.args[0], item.args[1]
    if not isinstance(source, Node) or not isinstance(source.target, OpOverload) or effects(source.target).shared != ():
        return False
    return sum(user.args[1:] == (index,) for user in source.users) == 1 and not effects(source.target).written


@lru_cache(maxsize=4096)
def effects(target: OpOverload) -> Effects:
    """What an operator's schema says; a composite operator without annotations may return an operand as it is."""
    noted = [(i, a.name, a.alias_info) for i, a in enumerate(target._schema.arguments) if a.alias_info is not None]
    written = tuple((i, name) for i, name, info in noted if info.is_write)
    if noted or target._schema.name.removeprefix("aten::") in FRESH:
        return Effects(written, tuple((i, name) for i, name, _ in noted))
    return Effects((), None if is_composite(target) else ())


def is_composite(target: OpOverload) -> bool:
    """Whether torch computes the operator with other operators, whatever the device."""
    return target.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


def _operands(node: Node, places: Iterable[tuple[int, str]]) -> Iterator[Node]:
    for place, name in places:
        given = node.args[place] if place < len(node.args) else node.kwargs.get(name)
        for item in given if isinstance(given, (list, tuple)) else (given,):
            if isinstance(item, Node):
                yield item
