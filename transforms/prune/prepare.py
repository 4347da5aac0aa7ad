"""Exact rewrites that put a graph into the form that the axis rules expect.

Constants and known sizes are folded, a Resize names only the axes that it resizes, and a constant that several operands
share is given to each of them separately, so that each may lose other channels. Surgery joins again what stayed equal.
"""

from __future__ import annotations

import numpy as np

from ...ir import Graph, Node, Value, constant
from ...ir.inference import Fallback, Inference
from ..simplify.constants import fold_constants
from ..simplify.dead import erase_dead


def prepare(graph: Graph, fallback: Fallback | None = None) -> None:
    """All of them, in place; types are inferred on the way.

    Folding gives what is computed from sizes the numbers of the original, whatever is removed later.
    """
    inference = Inference(graph, fallback)
    inference.run()
    fold_constants(graph, inference)
    inference.run()
    for node in graph:
        if node.op == "Resize" and not node.domain:
            narrow_resize(node, inference)
    erase_dead(graph)
    unshare(graph)


def narrow_resize(node: Node, inference: Inference) -> None:
    """Leaves out the axes whose size a Resize states without changing it, so that the statement does not forbid pruning
    them.
    """
    x, sizes = node.operand(0), node.input(3)
    shape = x.shape
    if sizes is None or shape is None or node.input(1) is not None:
        return
    axes = [a % len(shape) for a in node.ints("axes", range(len(shape)))]
    known = inference.contents_of(sizes)
    stretches = node.str("keep_aspect_ratio_policy") == "stretch"
    if known is None or not stretches:
        return
    resized = [i for i, a in enumerate(axes) if known[i] != shape[a]]
    if not resized or len(resized) == len(axes):
        return
    node.attrs["axes"] = tuple(axes[i] for i in resized)
    wanted = [known[i] for i in resized]
    if all(isinstance(size, int) for size in wanted):
        node.set_input(3, constant(np.asarray(wanted, np.int64), sizes.name))
        return
    assert node.graph is not None
    pick = node.graph.insert(
        Node("Gather", [sizes, constant(np.asarray(resized, np.int64))], {"axis": 0}, loc=node.loc), node
    )
    inference.node(pick)
    node.set_input(3, pick.output)


def unshare(graph: Graph) -> None:
    """Gives each operand a constant of its own; the tensors stay shared."""
    taken: set[Value] = set()
    for part in graph.graphs():
        for node in (*part, part.exit):
            for index, value in enumerate(node.inputs):
                if value is None or value.const is None or value.const.count < 2:
                    continue
                if value in taken:
                    node.set_input(index, Value(value.name, value.type, const=value.const))
                taken.add(value)
