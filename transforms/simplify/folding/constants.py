"""Folding of constants and of shapes, bounded by the size of the result.

Sizes come from types before anything is evaluated: a node of a hundred bytes can ask for gigabytes. A result is folded
when it is small, or no larger than the constants that it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from ....backends.runners import evaluate_node
from ....ir import (
    Array,
    Dense,
    DType,
    Graph,
    Lazy,
    Node,
    Size,
    Tensor,
    TensorType,
    TersorError,
    Value,
    constant,
    lookup,
)
from ....ir.inference import Inference
from ....ir.rewrite import Allow, always
from ....ir.tensors import comes_from, spilled
from .lazily import unevaluated
from .targets import constant_target

BUDGET = 1 << 16
"""Bytes that a folded result may have even where its operands are smaller."""

KEPT = frozenset(["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Identity"])
"""Folding the first three would undo a quantization that somebody chose; an Identity is the value itself."""


ROOM = 8 << 20
"""Bytes by which folding may make a model larger, beyond the size of its own constants."""


STEPS = 64
"""Operations that an unevaluated constant may take: what it shares with itself is computed again at each use, so that a
chain of Add(x, x) would double the work at each node."""


EAGER = 1 << 16
"""Bytes up to which operands and results are computed at once; beyond that as an expression where there is one."""

LARGE = 16 << 20
"""Bytes that a result may have which is computed at once."""

SPILLED = 1 << 18
"""Bytes from which on a result waits in a temporary file for being written, not in memory."""


class Room:
    """What is left of the bytes by which folding may make a graph larger.

    A result that is no larger than its operands can still be twice the largest of them, and a chain of such nodes
    doubles at each: 40 nodes would ask for terabytes.
    """

    def __init__(self, graph: Graph) -> None:
        total = sum(v.tensor.nbytes for v in graph.constants())
        self.left, self.spare, self.beyond = ROOM + total, total // 100, total * 3 // 200

    def duplicate(self, size: int) -> bool:
        """True where `size` bytes that are held in another form too still fit: a hundredth of all constants."""
        if size > self.spare:
            return False
        self.spare -= size
        return True

    def exceed(self, size: int) -> bool:
        """True where `size` bytes beyond the budget of one result still fit: a small part of all constants, so that a
        mask of a large model is folded and its file hardly grows.
        """
        if size > self.beyond:
            return False
        self.beyond -= size
        return True

    def take(self, size: int, operands: Sequence[Tensor]) -> bool:
        """True where a result of `size` bytes still fits; it counts for as much as it exceeds its largest operand."""
        growth = max(0, size - max((t.nbytes for t in operands), default=0))
        if growth > self.left:
            return False
        self.left -= growth
        return True


def fold_constants(
    graph: Graph,
    inference: Inference,
    budget: int = BUDGET,
    room: Room | None = None,
    keep: Set[int] = frozenset(),
    *,
    allow: Allow = always,
) -> int:
    """Replaces values whose contents are known by constants, in the graph and its regions; gives how many nodes were
    folded. `room` bounds what several calls fold together. What is computed from tensors whose identities are in
    `keep`, parameters, stays computed. `allow` is asked before each node.
    """
    room = room or Room(graph)
    folded, derived = 0, derived_values(graph)
    for node in graph:
        for region in node.regions.values():
            folded += fold_constants(region, inference, budget, room, keep, allow=allow)
        if not any(v.users for v in node.outputs):
            continue
        if keep and any(v is not None and v.const is not None and comes_from(v.const, keep) for v in node.inputs):
            continue
        results = evaluated(node, budget, room, derived) or known_shape(node, inference)
        if results is not None and allow(node):
            for old, tensor in zip(node.outputs, results, strict=True):
                if old.users:
                    old.replace_by(constant(tensor, old.name))
            folded += 1
    return folded


def derived_values(graph: Graph) -> set[Value]:
    """The values that depend on constants alone."""
    found: set[Value] = set()
    for node in graph:
        schema = lookup(node.op, node.domain)
        if schema is None or not schema.deterministic or node.regions or node.op in KEPT:
            continue
        if all(v is None or v.is_const or v in found for v in node.inputs):
            found.update(node.outputs)
    return found


def evaluated(node: Node, budget: int, room: Room, derived: Set[Value] = frozenset()) -> list[Tensor] | None:
    """The outputs of a node of constants, or None where it has others, is not deterministic, is too large or cannot be
    evaluated. `derived` holds values that will be constants too.
    """
    schema = lookup(node.op, node.domain)
    if schema is None or not schema.deterministic or node.regions or node.op in KEPT or truncates_an_average(node):
        return None
    operands = [v.const for v in node.inputs if v is not None]
    constants = [t for t in operands if t is not None]
    if len(constants) != len(operands) or any(type(t).__name__ == "Placeholder" for t in constants):
        return None
    size = result_bytes(node)
    different = list({id(t): t for t in constants}.values())
    if size is None:
        return None
    excess = size - max(budget, sum(t.nbytes for t in different))
    if (excess > 0 and not room.exceed(excess)) or not room.take(size, different):
        return None
    if size > EAGER and not room.duplicate(min(size, staying(node, derived))):
        return None
    if max(size, *(t.nbytes for t in different), 0) > EAGER:
        lazily = unevaluated(node)
        if lazily is not None:
            return [t if _steps(t) <= STEPS else held(t.numpy(), t.dtype) for t in lazily]
    if size > LARGE:
        return None
    try:
        arrays = evaluate_node(node)
    except TersorError:
        return None
    if not all(_is_as_said(a, v) for a, v in zip(arrays, node.outputs, strict=True)):
        return None
    return [_tensor(a, v) for a, v in zip(arrays, node.outputs, strict=True)]


def _is_as_said(array: Array | None, value: Value) -> bool:
    """False for an evaluation that contradicts the shape of the operator's result: the reference has such ones."""
    shape = value.shape
    if array is None or shape is None:
        return True
    found = np.asarray(array).shape
    return len(shape) == len(found) and all(a == b for a, b in zip(shape, found, strict=True) if isinstance(a, int))


def truncates_an_average(node: Node) -> bool:
    """True for a Resize that interpolates integers: where a weighted average is nearly whole, its last digit, which
    differs between runtimes, decides what it is cut to.
    """
    return node.op == "Resize" and not node.operand(0).is_float and node.str("mode", "nearest") != "nearest"


def staying(node: Node, derived: Set[Value]) -> int:
    """Bytes of the node's operands that somebody needs even when every node of constants is folded."""
    needed = {
        v: v.tensor.nbytes
        for v in node.inputs
        if v is not None and not all(o is None or o.is_const or o in derived for user in v.users for o in user.inputs)
    }
    return sum(needed.values())


def _steps(tensor: Tensor) -> int:
    """How many operations the evaluation of a tensor takes."""
    return 1 + sum(_steps(t) for t in tensor.operands) if isinstance(tensor, Lazy) else 0


def _tensor(array: Array | None, value: Value) -> Tensor:
    dtype = value.dtype
    if array is None:
        return Dense(np.zeros(0, np.float32), dtype)
    return held(array, dtype or DType.of_numpy(array.dtype))


def held(array: Array, dtype: DType) -> Tensor:
    """A tensor of the numbers: in memory where they are few."""
    if array.nbytes > SPILLED:
        return spilled(array, dtype)
    return Dense(array if array.flags.owndata else array.copy(), dtype)


def result_bytes(node: Node) -> int | None:
    """Bytes of all outputs in use, or None where a type is not static."""
    total = 0
    for value in node.outputs:
        if not value.users:
            continue
        count = value.type.count if isinstance(value.type, TensorType) else None
        if count is None or not isinstance(value.type, TensorType):
            return None
        total += value.type.dtype.file_bytes(count)
    return total


def known_shape(node: Node, inference: Inference) -> list[Tensor] | None:
    """The output as a constant where propagation of sizes knows all its integers (Shape and what is computed from
    it).
    """
    if len(node.outputs) != 1 or not isinstance(node.output.type, TensorType):
        return None
    sizes = inference.contents_of(node.output)
    if sizes is None or not all(isinstance(s, int) for s in sizes):
        return None
    shape = node.output.type.static_shape
    return None if shape is None else [_integers(sizes, node.output.type.dtype, shape)]


def _integers(sizes: tuple[Size, ...], dtype: DType, shape: tuple[int, ...]) -> Tensor:
    return Dense(np.array(sizes, dtype.numpy).reshape(shape), dtype)


def reshape_to_constant(node: Node, inference: Inference) -> None:
    """Gives a Reshape to sizes that are known, symbolically too, a constant target."""
    if node.op != "Reshape" or node.domain or node.operand(1).is_const:
        return
    wanted = inference.contents_of(node.operand(1))
    target = None if wanted is None else constant_target(node, wanted)
    if target is not None:
        node.attrs = {name: value for name, value in node.attrs.items() if name != "allowzero"}
        node.set_input(1, constant(_integers(target, DType.I64, (len(target),))))
