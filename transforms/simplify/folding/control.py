"""Control flow that is decided at compile time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, Dense, Graph, Node, TensorType, Value, constant, lookup
from ....ir.inference.merging import blurred
from ....ir.rewrite import Declined, Result, decline, rule


@rule("If")
def inline_decided_branch(op: Builder, node: Node) -> Result:
    """If on a constant is the branch that it takes."""
    condition = node.operand(0).const
    if condition is None:
        return decline("its condition is not a constant")
    region = node.regions["then_branch" if bool(condition.item()) else "else_branch"]
    captured = [v for v in node.inputs[1:] if v is not None]
    return inline(op, region, captured)


def inline(op: Builder, region: Graph, arguments: Sequence[Value], *, again: bool = False) -> list[Value]:
    """Copies a region's nodes to where the builder stands, with `arguments` for its inputs; gives its results.

    `again`: the region is copied several times, so a size that has no name in it is another one in each copy.
    """
    copy = region.clone()
    for inner, outer in zip(copy.inputs, arguments, strict=True):
        inner.replace_by(outer)
    results = list(copy.outputs)
    copy.exit.set_inputs([])
    for node in list(copy):
        node.unlink()
        op.graph.insert(node, op.before)
        op.new.append(node)
        if again:
            for value in node.outputs:
                value.type = blurred(value.type)
        if op.infer is not None:
            op.infer(node)
    return results


WORK = 4096
"""Nodes that unrolling may make, before what becomes constant is folded away."""


@rule("Loop")
def unroll_loop(op: Builder, node: Node) -> Result:
    """A Loop of a known number of iterations is its body that many times, where this takes no more nodes once what does
    not depend on run time is folded (Loop-25).
    """
    body, count = node.regions["body"], iterations(op, node)
    if count is None:
        return decline("the number of its iterations is not known")
    outer = node.inputs[2:]
    given = [v for v in outer if v is not None]
    if len(given) != len(outer):
        return decline("a value that it carries is missing")
    carried, captured = given[: len(given) - node.captures], given[len(given) - node.captures :]
    scanned = len(body.outputs) - 1 - len(carried)
    live = live_nodes(body, [True, True, *(v.is_const for v in given)], len(carried), 2, 1)
    if not pays(body, count, live, scanned):
        return decline("its iterations would take more nodes")
    stacks: list[list[Value]] = [[] for _ in range(scanned)]
    for index in range(count):
        step, goes_on = constant(np.asarray(index, np.int64)), constant(np.asarray(True))
        results = inline(op, body, [step, goes_on, *carried, *captured], again=True)
        carried = results[1 : 1 + len(carried)]
        for stack, value in zip(stacks, results[1 + len(carried) :], strict=True):
            stack.append(value)
    return finished(op, node, carried, [(s, 0) for s in stacks])


def iterations(op: Builder, node: Node) -> int | None:
    """How often the body runs, where a constant says so and no iteration can end it."""
    limit, start, body = node.input(0), node.input(1), node.regions["body"]
    first = None if start is None else op.sizes(start)
    if first == (0,):
        return 0
    count = op.sizes(limit)
    if count is None or not isinstance(count[0], int) or (start is not None and first != (1,)):
        return None
    goes_on = body.outputs[0]
    while goes_on.node is not None and goes_on.op == "Identity":
        goes_on = goes_on.node.operand(0)
    keeps = goes_on is body.inputs[1] or (goes_on.const is not None and bool(goes_on.const.item()))
    return max(count[0], 0) if keeps or count[0] <= 1 else None


def live_nodes(body: Graph, known: Sequence[bool], carried: int, first_in: int, first_out: int) -> int:
    """How many of a body's nodes depend on run time: inputs that are not `known`, and carried values that become so."""
    varying = {v for v, constant_ in zip(body.inputs, known, strict=True) if not constant_}
    while True:
        nodes = 0
        for node in body:
            schema = lookup(node.op, node.domain)
            fixed = schema is not None and schema.deterministic and not node.regions
            if not fixed or any(v in varying for v in node.inputs):
                varying.update(node.outputs)
                nodes += 1 + sum(1 for region in node.regions.values() for _ in region.walk())
        more = {
            body.inputs[first_in + i]
            for i in range(carried)
            if body.outputs[first_out + i] in varying and body.inputs[first_in + i] not in varying
        }
        if not more:
            return nodes
        varying |= more


def pays(body: Graph, count: int, live: int, ends: int) -> bool:
    """True where the iterations take no more nodes than the loop; a single one has no loop to run."""
    size = sum(1 for _ in body.walk())
    return count <= 1 or (count * size <= WORK and count * (live + ends if live else 0) <= size)


def finished(
    op: Builder, node: Node, carried: Sequence[Value], stacks: Sequence[tuple[list[Value], int]]
) -> list[Value | None] | Declined:
    """The results of a loop: carried values, then those of all iterations stacked along an axis."""
    results: list[Value | None] = list(carried)
    for values, axis in stacks:
        made = node.outputs[len(results)]
        if not made.users:
            results.append(None)
        elif values:
            parts = [op.Unsqueeze(v, [axis]) for v in values]
            results.append(parts[0] if len(parts) == 1 else op.Concat(*parts, axis=axis))
        else:
            shape = made.type.static_shape if isinstance(made.type, TensorType) else None
            if shape is None or not isinstance(made.type, TensorType):
                return decline("the shape of what no iteration makes is not known")
            results.append(constant(Dense(np.zeros(shape, made.type.dtype.numpy), made.type.dtype)))
    return results


@rule("Scan")
def unroll_scan(op: Builder, node: Node) -> Result:
    """A Scan over a known number of entries is its body that many times, where this takes no more nodes (Scan-25)."""
    body, scanned = node.regions["body"], node.int("num_scan_inputs")
    given = [v for v in node.inputs if v is not None]
    states = len(given) - scanned - node.captures
    carried, sources, captured = given[:states], given[states : states + scanned], given[states + scanned :]
    axes = node.ints("scan_input_axes", ()) or (0,) * scanned
    sizes = {v.shape[a] if v.shape is not None else None for v, a in zip(sources, axes, strict=True)}
    count = next(iter(sizes))
    if len(given) != len(node.inputs) or len(sizes) != 1 or not isinstance(count, int) or count < 1:
        return decline("the number of its iterations is not known")
    ends = body.outputs[states:]
    live = live_nodes(body, [v.is_const for v in given], states, 0, 0)
    if not pays(body, count, live, len(ends) + sum(not v.is_const for v in sources)):
        return decline("its iterations would take more nodes")
    backwards = node.ints("scan_input_directions", ()) or (0,) * scanned
    stacks: list[list[Value]] = [[] for _ in ends]
    for index in range(count):
        places = [count - 1 - index if back else index for back in backwards]
        entries = [entry(op, v, place, axis) for v, place, axis in zip(sources, places, axes, strict=True)]
        results = inline(op, body, [*carried, *entries, *captured], again=True)
        carried = results[:states]
        for stack, value in zip(stacks, results[states:], strict=True):
            stack.append(value)
    out_axes = node.ints("scan_output_axes", ()) or (0,) * len(ends)
    reverse = node.ints("scan_output_directions", ()) or (0,) * len(ends)
    ordered = [s[::-1] if back else s for s, back in zip(stacks, reverse, strict=True)]
    return finished(op, node, carried, list(zip(ordered, out_axes, strict=True)))


def entry(op: Builder, value: Value, place: int, axis: int) -> Value:
    """One entry of a tensor along an axis, which goes away."""
    size = value.shape[axis] if value.shape is not None else None
    return (
        op.Squeeze(value, [axis]) if size == 1 else op.Gather(value, constant(np.asarray(place, np.int64)), axis=axis)
    )


RULES = (inline_decided_branch, unroll_loop, unroll_scan)
