"""Operators with regions: branches, loops and scans.

A region is inferred with the types and contents of what it captures. Sizes that a loop's body changes from one
iteration to the next are unknown inside it, and a fresh symbol that a body makes says nothing outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..dims import Size, fresh
from ..graph import Graph, Node, Value
from ..types import ANY, AnyType, DType, SequenceType, TensorType, Type, sizes_in
from .contents import Contents
from .merging import blurred, merged, merged_size, unified
from .operands import Answer, Unknown, normalized_axis

if TYPE_CHECKING:
    from .engine import Inference

RegionRule = Callable[["Inference", Node], list[Answer]]
MAX_ROUNDS = 6


def if_(engine: Inference, node: Node) -> list[Answer]:
    """The types of the branch that a known condition selects, else what both branches have in common (If-25)."""
    condition = engine.facts.scalar(node.input(0))
    branches = [node.regions["then_branch"], node.regions["else_branch"]]
    for branch in branches:
        bind_captures(engine, node, branch)
        engine.region(branch)
    if isinstance(condition, int):
        branches = [branches[0 if condition else 1]]
    out: list[Answer] = []
    results = [b.outputs for b in branches]
    for index, value in enumerate(node.outputs):
        yielded = [values[index] for values in results if index < len(values)]
        if not yielded:
            out.append(None)
            continue
        types = [v.type for v in yielded]
        out.append(types[0] if len(types) == 1 else unified(types[0], types[1]))
        contents = {engine.facts.of(v) for v in yielded}
        engine.promise(value, contents.pop() if len(contents) == 1 else None)
    return out


def bind_captures(engine: Inference, node: Node, region: Graph) -> None:
    """Gives a region's last inputs the types and contents of the operands that it captures."""
    if not node.captures:
        return
    for outer, inner in zip(node.inputs[-node.captures :], region.inputs[-node.captures :], strict=True):
        if outer is not None:
            engine.bind(inner, outer.type, engine.facts.of(outer))


def loop(engine: Inference, node: Node) -> list[Answer]:
    """Carried values as they are in every iteration, then the scanned ones stacked (Loop-25)."""
    body = node.regions["body"]
    carried = len(node.inputs) - 2 - node.captures
    engine.bind(body.inputs[0], TensorType(DType.I64, ()))
    engine.bind(body.inputs[1], TensorType(DType.BOOL, ()))
    bind_captures(engine, node, body)
    initial = [ANY if v is None else v.type for v in node.inputs[2 : 2 + carried]]
    final = iterate(engine, body, body.inputs[2 : 2 + carried], initial, 1)
    count = trip_count(engine.facts, node, body)
    stacked = [stack(v.type, 0, count, node) for v in body.outputs[1 + carried :]]
    return [*final, *stacked]


def trip_count(facts: Contents, node: Node, body: Graph) -> Size | None:
    """The number of iterations, where nothing but the trip count ends the loop."""
    start = node.input(1)
    always = start is None or facts.scalar(start) == 1
    goes_on = body.outputs[0]
    while goes_on.node is not None and goes_on.op == "Identity":
        goes_on = goes_on.node.operand(0)
    keeps = goes_on is body.inputs[1] or facts.scalar(goes_on) == 1
    count = facts.scalar(node.input(0))
    return merged_size(None, count) if always and keeps and count is not None else None


def scan(engine: Inference, node: Node) -> list[Answer]:
    """States as they are in every iteration, then the scanned outputs stacked along their axes (Scan-25)."""
    body = node.regions["body"]
    scanned = node.int("num_scan_inputs")
    states = len(node.inputs) - scanned - node.captures
    axes = node.ints("scan_input_axes", ()) or (0,) * scanned
    count: Size | None = None
    for index in range(scanned):
        outer = node.operand(states + index)
        inner, length = element_along(outer.type, axes[index])
        engine.bind(body.inputs[states + index], inner)
        count = merged_size(count, length) if length is not None else count
    bind_captures(engine, node, body)
    initial = [ANY if v is None else v.type for v in node.inputs[:states]]
    final = iterate(engine, body, body.inputs[:states], initial, 0)
    results = body.outputs[states:]
    places = node.ints("scan_output_axes", ()) or (0,) * len(results)
    return [*final, *(stack(v.type, axis, count, node) for v, axis in zip(results, places, strict=False))]


def element_along(type_: Type, axis: int) -> tuple[Type, Size | None]:
    """A tensor's type without an axis, and that axis's size."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return (type_.with_shape(None) if isinstance(type_, TensorType) else ANY), None
    axis = normalized_axis(axis, len(type_.shape))
    return type_.with_shape((*type_.shape[:axis], *type_.shape[axis + 1 :])), type_.shape[axis]


def stack(type_: Type, axis: int, count: Size | None, node: Node) -> Answer:
    """The results of all iterations along a new axis."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return TensorType(type_.dtype, None) if isinstance(type_, TensorType) else None
    type_ = outside(type_, node)
    assert isinstance(type_, TensorType)
    assert type_.shape is not None
    axis = normalized_axis(axis, len(type_.shape) + 1)
    size = fresh() if count is None else count
    return type_.with_shape((*type_.shape[:axis], size, *type_.shape[axis:]))


def outside(type_: Type, node: Node) -> Type:
    """A type that a body yields, seen from outside: fresh symbols mean something there only if an operand has them."""
    known = frozenset(d for v in node.inputs if v is not None for d in sizes_in(v.type))
    return blurred(type_, known)


def iterate(
    engine: Inference, body: Graph, inputs: Sequence[Value], initial: Sequence[Type], first: int
) -> list[Answer]:
    """Infers a body until the carried types are the same before and after; they are what is true in every iteration.

    `first` is the position of the first carried value among the body's outputs. Once a type has been widened, what was
    found with the narrower one is not believed any more.
    """
    state, open_sizes = [merged(v.type, t) for v, t in zip(inputs, initial, strict=True)], set[Size]()
    before = engine.refresh, engine.ranks_may_change
    try:
        for turn in range(MAX_ROUNDS):
            for value, type_ in zip(inputs, state, strict=True):
                engine.bind(value, type_)
            engine.region(body)
            after = [v.type for v in body.outputs[first : first + len(inputs)]]
            wider = [widened(a, b, open_sizes) for a, b in zip(state, after, strict=True)]
            if wider == state:
                break
            state = wider if turn < MAX_ROUNDS - 2 else [without_shape(t) for t in wider]
            engine.refresh = engine.ranks_may_change = True
    finally:
        engine.refresh, engine.ranks_may_change = before
    return [settled(t, open_sizes) for t in state]


def widened(before: Type, after: Type, open_sizes: set[Size]) -> Type:
    """What holds before and after an iteration; sizes that change become open."""
    if not isinstance(before, TensorType) or not isinstance(after, TensorType) or before.dtype is not after.dtype:
        return unified(before, after)
    if before.shape is None or after.shape is None or len(before.shape) != len(after.shape):
        return before.with_shape(None)
    sizes: list[Size] = []
    for a, b in zip(before.shape, after.shape, strict=True):
        if a == b or a in open_sizes:
            sizes.append(a)
            continue
        size = fresh()
        open_sizes.add(size)
        sizes.append(size)
    return before.with_shape(tuple(sizes))


def without_shape(type_: Type) -> Type:
    return type_.with_shape(None) if isinstance(type_, TensorType) else ANY


def settled(type_: Type, open_sizes: set[Size]) -> Answer:
    """A carried type after the last iteration: open sizes are new unknowns."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return None if isinstance(type_, AnyType) else type_
    return type_.with_shape(tuple(fresh() if d in open_sizes else d for d in type_.shape))


def sequence_map(engine: Inference, node: Node) -> list[Answer]:
    """The body once per element; its results in sequences (SequenceMap-17)."""
    body = node.regions["body"]
    operands = node.operands
    for index, (outer, inner) in enumerate(zip(operands, body.inputs, strict=False)):
        if outer is None:
            raise Unknown
        type_ = outer.type
        if isinstance(type_, SequenceType):
            type_ = blurred(type_.element)
        elif index == 0:
            raise Unknown
        engine.bind(inner, type_)
    bind_captures(engine, node, body)
    engine.region(body)
    return [None if isinstance(v.type, AnyType) else SequenceType(outside(v.type, node)) for v in body.outputs]


REGIONS: dict[str, RegionRule] = {"If": if_, "Loop": loop, "Scan": scan, "SequenceMap": sequence_map}
