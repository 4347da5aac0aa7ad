"""What is known before emission: types, and small integers that files compute instead of stating.

Exporters write shapes, pads and axes as little computations over constants. Rows need them as numbers.
"""

from __future__ import annotations

import numpy as np

from ...ir import DType, Graph, Model, Node, Size, TensorType, TersorError, Value, constant, lookup
from ...ir.inference import infer
from ..runners import evaluate_node

SMALL_INTEGERS, SMALL_FLOATS = 4096, 16


def prepared(model: Model) -> tuple[Model, dict[Value, tuple[Size, ...]]]:
    """A copy with every type that can be known and with small constant integers as constants, and the contents of sizes."""
    copy = model.clone()
    contents = infer(copy.graph).contents
    for graph in copy.graph.graphs():
        fold(graph, contents)
    return copy, contents


def fold(graph: Graph, contents: dict[Value, tuple[Size, ...]]) -> None:
    """Replaces values whose numbers are known by constants, and drops the nodes that nobody needs any more."""
    for node in graph:
        for value in node.outputs:
            array = known_array(value, contents)
            if array is not None and value.users:
                value.replace_by(constant(array, value.name))
        if is_foldable(node):
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


def known_array(value: Value, contents: dict[Value, tuple[Size, ...]]) -> np.ndarray | None:  # pyright: ignore[reportMissingTypeArgument]
    """The numbers of an integer vector or scalar, when all of them are known."""
    found = contents.get(value)
    if found is None or not isinstance(value.type, TensorType) or value.type.rank not in (0, 1):
        return None
    numbers = [n for n in found if isinstance(n, int)]
    if len(numbers) != len(found) or value.is_input:
        return None
    return np.array(numbers, value.type.dtype.numpy).reshape((len(numbers),) if value.type.rank else ())


def is_foldable(node: Node) -> bool:
    """True for a deterministic node over constants with small results, integers above all: floats may be parameters."""
    schema = lookup(node.op, node.domain)
    if schema is None or not schema.deterministic or node.regions or not any(v.users for v in node.outputs):
        return False
    if not all(v is None or (v.const is not None and v.tensor.count <= SMALL_INTEGERS) for v in node.inputs):
        return False
    return all(_is_small(v) for v in node.outputs if v.users)


def _is_small(value: Value) -> bool:
    if not isinstance(value.type, TensorType) or value.type.count is None:
        return False
    integral = value.type.dtype.is_integer or value.type.dtype is DType.BOOL
    return value.type.count <= (SMALL_INTEGERS if integral else SMALL_FLOATS)
