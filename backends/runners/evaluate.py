"""One node of constants evaluated: by a numpy kernel where there is one, else by onnx's reference implementation.

What constant folding stands on.
"""

from __future__ import annotations

import numpy as np

from ...ir import Array, DType, Graph, Model, Node, TensorType, Type, Value
from .kernels import Operands, run_kernel
from .reference import ReferenceRunner


def evaluate_node(node: Node) -> list[Array | None]:
    """The node's outputs (None: omitted because nobody uses it), its operands being constants or missing.

    Raises TersorError where the reference implementation lacks the operator or refuses the operands.
    """
    quick = run_kernel(node)
    return [*quick] if quick is not None else evaluate_by_reference(node)


def evaluate_by_reference(node: Node) -> list[Array | None]:
    """As `evaluate_node`, always by the reference implementation."""
    return run_by_reference(node, [None if v is None else v.tensor.numpy() for v in node.inputs])


def run_by_reference(node: Node, operands: Operands) -> list[Array | None]:
    """The outputs of a node for these operands (None: missing), by the reference implementation; raises as it does."""
    graph = Graph("node")
    made: dict[Value, Value] = {}
    feeds: dict[str, Array] = {}
    for value, array in zip(node.inputs, operands, strict=True):
        if value is not None and array is not None and value not in made:
            made[value] = graph.add_input(f"x{len(made)}", type_of(array, value.type))
            feeds[made[value].name] = array
    inputs = [None if v is None else made[v] for v in node.inputs]
    twin = graph.add(
        node.op, inputs, dict(node.attrs), [v.type for v in node.outputs], domain=node.domain,
        regions={k: r.clone() for k, r in node.regions.items()}, captures=node.captures,
    )  # fmt: skip
    used = [v.index for v in node.outputs if v.users]
    graph.set_outputs([twin.outputs[i] for i in used], [f"y{i}" for i in used])
    found = ReferenceRunner(Model(graph)).run(feeds)
    return [found.get(f"y{i}") for i in range(len(node.outputs))]


def type_of(array: Array, declared: Type) -> Type:
    """The type of an array; what is none (a sequence) has the declared one."""
    return TensorType(DType.of_numpy(array.dtype), array.shape) if isinstance(array, np.ndarray) else declared
