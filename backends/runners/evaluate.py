"""One node of constants evaluated: by a numpy kernel where there is one, else by onnx's reference implementation.

What constant folding stands on.
"""

from __future__ import annotations

from ...ir import Array, Graph, Model, Node, Value
from .kernels import run_kernel
from .reference import ReferenceRunner


def evaluate_node(node: Node) -> list[Array | None]:
    """The node's outputs (None: omitted because nobody uses it), its operands being constants or missing.

    Raises TersorError where the reference implementation lacks the operator or refuses the operands.
    """
    quick = run_kernel(node)
    return [*quick] if quick is not None else evaluate_by_reference(node)


def evaluate_by_reference(node: Node) -> list[Array | None]:
    """As `evaluate_node`, always by the reference implementation."""
    graph = Graph("node")
    made: dict[Value, Value] = {}
    for value in node.inputs:
        if value is not None and value not in made:
            made[value] = graph.add_input(f"x{len(made)}", value.type)
    inputs = [None if v is None else made[v] for v in node.inputs]
    twin = graph.add(node.op, inputs, dict(node.attrs), [v.type for v in node.outputs], domain=node.domain)
    used = [v.index for v in node.outputs if v.users]
    graph.set_outputs([twin.outputs[i] for i in used], [f"y{i}" for i in used])
    feeds = {inner.name: outer.tensor.numpy() for outer, inner in made.items()}
    found = ReferenceRunner(Model(graph)).run(feeds)
    return [found.get(f"y{i}") for i in range(len(node.outputs))]
