"""What is known before emission: types, and small integers that files compute instead of stating.

Exporters write shapes, pads and axes as little computations over constants. Rows need them as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from ...ir import Array, DType, Graph, Model, Node, Size, Tensor, TensorType, TersorError, Value, constant, lookup
from ...ir.builder import fold as fold_lazily
from ...ir.inference import infer
from ...ir.tensors import Lazy, comes_from, reshape
from ..runners import evaluate_node
from .tables import moved

SMALL_INTEGERS, SMALL_FLOATS = 4096, 16


def prepared(model: Model) -> tuple[Model, dict[Value, tuple[Size, ...]]]:
    """A copy with all types that can be known and small integers as constants, and the contents of sizes.

    Inputs that have a default become constants: what a caller of a module may override is its state_dict.
    """
    copy = model.clone()
    for value, tensor in copy.graph.defaults.items():
        value.replace_by(constant(tensor, value.name))
    kept = tuple(v for v in copy.graph.inputs if v not in copy.graph.defaults)
    copy.graph.defaults, copy.graph.entry.outputs = {}, kept
    for index, value in enumerate(kept):
        value.index = index
    inference = infer(copy.graph)
    contents = inference.contents
    held = {id(t) for t in copy.keys.values()}
    for graph in list(copy.graph.graphs()):
        moved(graph, inference.node, held)
        fold(graph, contents, held)
    return copy, contents


def fold(graph: Graph, contents: dict[Value, tuple[Size, ...]], held: Set[int] = frozenset()) -> None:
    """Replaces values whose numbers are known by constants, and drops the nodes that nobody needs any more.

    What is computed from tensors whose identities are in `held`, parameters, stays computed; views are expressions.
    """
    for node in graph:
        for value in node.outputs:
            array = known_array(value, contents)
            if array is not None and value.users:
                value.replace_by(constant(array, value.name))
        own = held and any(v is not None and v.const is not None and comes_from(v.const, held) for v in node.inputs)
        moved = moved_weights(node) if not own or node.op != "Concat" else None
        if moved is not None:
            node.output.replace_by(constant(moved, next(v.name for v in node.inputs if v is not None)))
        elif not own and is_foldable(node):
            try:
                arrays = evaluate_node(node)
            except TersorError:
                continue
            for value, array in zip(node.outputs, arrays, strict=True):
                if array is not None and isinstance(value.type, TensorType):
                    value.replace_by(constant(np.asarray(array, value.type.dtype.numpy), value.name))
    for node in reversed(graph):
        if not any(v.users for v in node.outputs):
            node.erase()


def moved_weights(node: Node) -> Tensor | None:
    """Constants that a node only reshapes, transposes or joins, as an expression over them."""
    if (
        node.domain
        or any(v is not None and v.const is None for v in node.inputs)
        or not isinstance(node.output.type, TensorType)
    ):
        return None
    operands = [v.tensor for v in node.inputs if v is not None]
    shape = node.output.type.static_shape
    if node.op in ("Unsqueeze", "Squeeze") and shape is not None:
        return reshape(operands[0], shape)
    if node.op == "Slice":
        return sliced(operands)
    return fold_lazily(node.op, operands, node.attrs) if node.op in ("Transpose", "Reshape", "Concat") else None


def sliced(operands: Sequence[Tensor]) -> Tensor | None:
    """A slice with steps of 1 as an expression (Slice-13)."""
    x, *bounds = operands
    starts, ends, axes, steps = [[int(i) for i in b.numpy()] for b in bounds] + [
        list(range(bounds[0].count)),
        [1] * bounds[0].count,
    ][len(bounds) - 2 :]
    if set(steps) != {1}:
        return None
    for start, end, axis in zip(starts, ends, axes, strict=True):
        first, last, _ = slice(start, end).indices(x.shape[axis])
        x = Lazy("slice", [x], axis=axis % x.rank, start=first, stop=max(first, last))
    return x


def known_array(value: Value, contents: dict[Value, tuple[Size, ...]]) -> Array | None:
    """The numbers of an integer vector or scalar, when all of them are known."""
    found = contents.get(value)
    if found is None or not isinstance(value.type, TensorType) or value.type.rank not in (0, 1):
        return None
    numbers = [n for n in found if isinstance(n, int)]
    if len(numbers) != len(found) or value.is_input:
        return None
    return np.array(numbers, value.type.dtype.numpy).reshape((len(numbers),) if value.type.rank else ())


def is_foldable(node: Node) -> bool:
    """True for a deterministic node over constants with small results: integers, and floats of single numbers, since
    others may be parameters, which have to stay themselves."""
    schema = lookup(node.op, node.domain)
    if schema is None or not schema.deterministic or node.regions or not any(v.users for v in node.outputs):
        return False
    if not all(v is None or (v.const is not None and v.tensor.count <= SMALL_INTEGERS) for v in node.inputs):
        return False
    if any(v.tensor.dtype.is_float and v.tensor.count > 1 for v in node.inputs if v is not None):
        return all(_is_small(v) and not v.is_float for v in node.outputs if v.users)
    return all(_is_small(v) for v in node.outputs if v.users)


def _is_small(value: Value) -> bool:
    if not isinstance(value.type, TensorType) or value.type.count is None:
        return False
    integral = value.type.dtype.is_integer or value.type.dtype is DType.BOOL
    return value.type.count <= (SMALL_INTEGERS if integral else SMALL_FLOATS)
