"""Exact rewrites that put a graph into the form that the axis rules expect.

What is computed from known sizes becomes constant, a Resize names only the axes that it resizes, known ones among sizes
that are read or computed are stated, and a constant that several operands share is given to each of them separately, so
that each may lose other channels. Surgery joins again what stayed equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir import Graph, Node, Value, constant
from ...ir.inference import Fallback, Inference
from ..simplify.folding.constants import Room, evaluated, known_shape, reshape_to_constant, result_bytes
from ..simplify.structure import erase_dead
from .axes import SIZES, pinned

SIZES_BYTES = 1024
"""What is computed from sizes is no larger than this."""


def prepare(graph: Graph, fallback: Fallback | None = None) -> None:
    """All of them, in place; types are inferred on the way."""
    inference = Inference(graph, fallback)
    inference.run()
    fold_sizes(graph, inference)
    inference.run()
    for node in graph:
        if node.op == "Resize" and not node.domain:
            narrow_resize(node, inference)
        elif node.op in SIZES and not node.domain:
            pin_sizes(node, inference)
    for node in [n for n in graph if n.op == "Shape" and not n.domain]:
        pin_shape(node, inference)
    erase_dead(graph)
    unshare(graph)


def fold_sizes(graph: Graph, inference: Inference) -> None:
    """Makes known sizes, pads and scales constants: the numbers of the original, whatever is removed later.

    Weights are left alone, so that none is stored twice.
    """
    room = Room(graph)
    for node in graph:
        size = result_bytes(node)
        results = known_shape(node, inference)
        if results is None and size is not None and size <= SIZES_BYTES and node.op != "Identity":
            results = evaluated(node, SIZES_BYTES, room)
        if results is None:
            reshape_to_constant(node, inference)
            continue
        for old, tensor in zip(node.outputs, results, strict=True):
            if old.users:
                old.replace_by(constant(tensor, old.name))


def narrow_resize(node: Node, inference: Inference) -> None:
    """Leaves out the axes whose size a Resize states without changing it: so it does not forbid pruning them."""
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


def pin_sizes(node: Node, inference: Inference) -> None:
    """States the known ones among computed sizes: Where(known, sizes, computed). An axis that an Expand leaves as it is
    counts as 1.
    """
    index = SIZES[node.op]
    sizes, shape = node.input(index), node.output.shape
    if sizes is None or sizes.is_const or shape is None or sizes.shape is None or pinned(sizes) is not None:
        return
    (count,) = sizes.shape
    if not isinstance(count, int) or count > len(shape):
        return
    known = [size if isinstance(size, int) else None for size in shape[len(shape) - count :]]
    if node.op == "Expand":
        before = (*[None] * (len(shape) - (node.operand(0).rank or 0)), *(node.operand(0).shape or ()))
        known = [
            1 if size is not None and size == old else size
            for size, old in zip(known, before[len(shape) - count :], strict=True)
        ]
    if all(size is None for size in known):
        return
    made = stated_sizes(node, known, node)
    made.set_input(2, sizes)
    inference.node(made)
    node.set_input(index, made.output)


def stated_sizes(node: Node, known: Sequence[int | None], before: Node) -> Node:
    """Where(known, sizes, ?) in front of a node, with the location of `node`."""
    assert node.graph is not None
    stated = constant(np.asarray([-1 if size is None else size for size in known], np.int64))
    which = constant(np.asarray([size is not None for size in known]))
    return node.graph.insert(Node("Where", [which, stated, stated], loc=node.loc), before)


def pin_shape(node: Node, inference: Inference) -> None:
    """States the known ones among sizes that are read, so that whoever computes with them goes on with those of the
    original.
    """
    found = inference.contents_of(node.output)
    readers = [(n, i) for n in node.output.users for i, v in enumerate(n.inputs) if v is node.output and not states(n)]
    if not readers or found is None or not any(isinstance(size, int) for size in found):
        return
    assert node.next is not None
    made = stated_sizes(node, [size if isinstance(size, int) else None for size in found], node.next)
    made.set_input(2, node.output)
    inference.node(made)
    for reader, index in readers:
        reader.set_input(index, made.output)


def states(node: Node) -> bool:
    """Whether a node states the known ones among computed sizes."""
    return node.op == "Where" and pinned(node.output) is not None


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
