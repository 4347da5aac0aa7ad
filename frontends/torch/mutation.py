"""Which in-place operators of an exported graph can be read as pure ones.

`y = relu_(x)` means the same as `y = relu(x)` as long as nothing reads the old contents through another name afterwards: x itself is
fine, since it stands for y from there on; a view taken of x before, or the tensor that x is a view of, is not. Which tensors may share memory
follows from the alias annotations of the operators' schemas. Where the check fails, the program has to be made functional by torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node

FRESH = frozenset(
    [
        "linear", "matmul", "einsum", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "scaled_dot_product_attention", "softmax", "log_softmax",
        "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "upsample_nearest2d",
        "upsample_bilinear2d", "embedding", "lstm", "gru", "where", "pad", "stack", "std", "var", "one_hot",
    ]
)  # fmt: skip
"""Composite operators whose results never share memory with their operands, though a composite one might."""


def is_pure_in_effect(module: GraphModule) -> bool:
    """Whether each in-place operator may be lowered as the pure operator of the same name."""
    groups = Groups()
    order = {node: place for place, node in enumerate(_nodes(module))}
    last_read = {node: max((order[user] for user in node.users if user in order), default=-1) for node in order}
    for node, place in order.items():
        written = written_operands(node)
        for operand in written:
            for other in groups.of(operand):
                if other is not operand and last_read.get(other, -1) > place and order.get(other, -1) < place:
                    return False
        for source in shared_operands(node):
            groups.join(node, source)
    return True


def mutates(module: GraphModule) -> bool:
    """Whether any operator of the graph writes to an operand."""
    return any(written_operands(node) for node in _nodes(module))


def mutated_inputs(module: GraphModule) -> Iterator[tuple[Node, Node]]:
    """Pairs of an in-place operator and the graph input that it may write to."""
    groups = Groups()
    for node in _nodes(module):
        for operand in written_operands(node):
            yield from ((node, other) for other in groups.of(operand) if other.op == "placeholder")
        for source in shared_operands(node):
            groups.join(node, source)


def _nodes(module: GraphModule) -> Iterator[Node]:
    """The nodes in order; those of wrapped submodules are looked at by functionalization only."""
    yield from module.graph.nodes


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
    return [x for argument, x in _annotated(node) if argument.alias_info is not None and argument.alias_info.is_write]


def shared_operands(node: Node) -> list[Node]:
    """The operands whose memory the node's result may share."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return [x for x in node.all_input_nodes if node.op == "call_function"]
    aliased = [x for argument, x in _annotated(node) if argument.alias_info is not None]
    if aliased or target._schema.name.removeprefix("aten::") in FRESH:
        return aliased
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return list(node.all_input_nodes) if target.has_kernel_for_dispatch_key(composite) else []


def _annotated(node: Node) -> Iterator[tuple[Any, Node]]:
    """Tensor operands with their arguments in the schema."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return
    for place, argument in enumerate(target._schema.arguments):
        given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
        for item in given if isinstance(given, (list, tuple)) else (given,):
            if isinstance(item, Node):
                yield argument, item
