"""Regions that decompositions make: loops over a count, branches on a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir import Builder, DType, Graph, Node, TensorType, Type, Value, constant

Turn = Callable[[Builder, Value, Sequence[Value], Sequence[Value]], Sequence[Value]]
"""Builds one turn: its index, what is carried into it and what it sees from outside to what is carried out of it."""

Branch = Callable[[Builder, Sequence[Value]], Sequence[Value]]


def loop(
    op: Builder, count: Value, carried: Sequence[Value], outer: Sequence[Value], turn: Turn, *, fixed: bool = False
) -> tuple[Value, ...]:
    """`count` turns; what a turn gives beyond what is carried on to the next one is stacked. The shapes of what is
    carried may change unless they are `fixed`.
    """
    index = Value("index", TensorType(DType.I64, ()))
    goes_on = Value("condition", TensorType(DType.BOOL, ()))
    inside = [Value(v.name, v.type if fixed else _carried(v.type)) for v in carried]
    seen = [Value(v.name, v.type) for v in outer]
    body = Graph("turn", [index, goes_on, *inside, *seen])
    results = turn(Builder(body, infer=op.infer, loc=op.loc), index, inside, seen)
    body.set_outputs([constant(np.array(True)), *results], ["goes_on", *[f"next_{i}" for i in range(len(results))]])
    made = op.node(
        "Loop", [count, None, *carried, *outer], outputs=len(results), regions={"body": body}, captures=len(outer)
    )
    assert isinstance(made, Node)
    return made.outputs


def _carried(type_: Type) -> Type:
    """What stays true of a carried value: its element type and rank."""
    return type_ if not isinstance(type_, TensorType) else TensorType(type_.dtype, None)


def branch(op: Builder, condition: Value, outer: Sequence[Value], yes: Branch, no: Branch) -> tuple[Value, ...]:
    """What one of two regions gives."""
    regions: dict[str, Graph] = {}
    count = 0
    for name, build in (("then_branch", yes), ("else_branch", no)):
        seen = [Value(v.name, v.type) for v in outer]
        regions[name] = Graph(name, seen)
        results = build(Builder(regions[name], infer=op.infer, loc=op.loc), seen)
        regions[name].set_outputs(results, [f"{name}_{i}" for i in range(len(results))])
        count = len(results)
    made = op.node("If", [condition, *outer], outputs=count, regions=regions, captures=len(outer))
    assert isinstance(made, Node)
    return made.outputs


def scan(
    op: Builder,
    states: Sequence[Value],
    items: Sequence[Value],
    outer: Sequence[Value],
    turn: Callable[[Builder, Sequence[Value], Sequence[Value], Sequence[Value]], Sequence[Value]],
    *,
    axis: int,
    reverse: bool = False,
) -> tuple[Value, ...]:
    """A turn for each slice of `items` along `axis`; what it gives beyond the next states is stacked along it."""
    inside = [Value(v.name, v.type) for v in states]
    slices = [Value(v.name, _slice(v.type, axis)) for v in items]
    seen = [Value(v.name, v.type) for v in outer]
    body = Graph("turn", [*inside, *slices, *seen])
    results = turn(Builder(body, infer=op.infer, loc=op.loc), inside, slices, seen)
    body.set_outputs(results, [f"next_{i}" for i in range(len(results))])
    stacked = len(results) - len(states)
    attrs = {
        "num_scan_inputs": len(items), "scan_input_axes": (axis,) * len(items), "scan_output_axes": (axis,) * stacked,
    }  # fmt: skip
    if reverse:
        attrs |= {"scan_input_directions": (1,) * len(items), "scan_output_directions": (1,) * stacked}
    made = op.node(
        "Scan", [*states, *items, *outer], attrs, outputs=len(results), regions={"body": body}, captures=len(outer)
    )
    assert isinstance(made, Node)
    return made.outputs


def _slice(type_: Type, axis: int) -> Type:
    if isinstance(type_, TensorType) and type_.shape is not None:
        return type_.with_shape((*type_.shape[:axis], *type_.shape[axis + 1 :]))
    return type_


def inlined(region: Graph, given: Sequence[Value], op: Builder) -> list[Value]:
    """A copy of a region's nodes where `op` builds, with `given` for its inputs; gives what it yields."""
    copy = region.clone()
    for old, new in zip(copy.inputs, given, strict=True):
        old.replace_by(new)
    results = list(copy.outputs)
    copy.exit.set_inputs(())
    for node in list(copy):
        node.unlink()
        op.graph.insert(node, op.before)
        op.new.append(node)
    return results
