"""What If, Loop and Scan need not do: compute what nobody uses, carry what does not change, give the same twice,
compute in each iteration or branch what can be computed once outside, or what is computed there already.
"""

from __future__ import annotations

from ....ir import Builder, DType, Graph, Node, Value
from ....ir.rewrite import Result, decline, rule
from .passing import UNARY
from .regions import REGIONAL, Parts, is_pure, is_same, needed

NEARBY = 4096
"""Nodes before one with regions among which another that computes the same is looked for."""


@rule(*REGIONAL)
def drop_unused_results(op: Builder, node: Node) -> Result:
    """A result that nobody uses is not computed; one that is carried goes when no other result needs it."""
    unused = {i for i, v in enumerate(node.outputs) if not v.users}
    if not unused or len(unused) == len(node.outputs):
        return decline("all of its results are used, or none")
    parts = Parts(node)
    carried = parts.carried
    if carried.count:
        body = parts.regions["body"]
        outputs = list(body.outputs)
        wanted = [*outputs[: carried.output], *(outputs[carried.output + i] for i in parts.results if i not in unused)]
        while True:
            found = needed(body, wanted)
            more = {i for i in unused if i < carried.count and body.inputs[carried.input + i] in found}
            if not more:
                break
            unused -= more
            wanted += [outputs[carried.output + i] for i in more]
    if not unused:
        return decline("what is carried for it is needed for other results")
    parts.drop_results(unused)
    return parts.made(op)


@rule(*REGIONAL)
def drop_unused_captures(op: Builder, node: Node) -> Result:
    """A value that no region uses is not captured; one that is captured twice is captured once."""
    parts = Parts(node)
    for place, value in enumerate(parts.captured):
        first = parts.captured.index(value)
        for region in parts.regions.values():
            inner = parts.inner(region, place)
            if value is not None and value.const is not None:
                inner.replace_by(value)
            elif first != place:
                inner.replace_by(parts.inner(region, first))
    regions = parts.regions.values()
    gone = {i for i in range(len(parts.captured)) if not any(parts.inner(region, i).users for region in regions)}
    if not gone:
        return decline("every captured value is used")
    parts.drop_captures(gone)
    return parts.made(op)


@rule("Loop", "Scan")
def capture_unchanged(op: Builder, node: Node) -> Result:
    """A value that is carried through all iterations unchanged is captured."""
    parts = Parts(node)
    carried, body = parts.carried, parts.regions["body"]
    unchanged = [i for i in range(carried.count) if body.outputs[carried.output + i] is body.inputs[carried.input + i]]
    if not unchanged or len(unchanged) == len(node.outputs):
        return decline("every value that it carries changes, or it gives nothing else")
    starts = {i: node.operand(carried.operand + i) for i in unchanged}
    inputs = {i: body.inputs[carried.input + i] for i in unchanged}
    for i, start in starts.items():
        inputs[i].replace_by(start if start.const is not None else parts.capture(start)["body"])
    parts.drop_results(unchanged)
    return [starts.get(i, value) for i, value in enumerate(parts.made(op))]


@rule(*REGIONAL)
def merge_equal_results(op: Builder, node: Node) -> Result:
    """Results that are the same value in every region are one; what all branches of an If pass on is that value."""
    parts = Parts(node)
    carried, regions = parts.carried, list(node.regions.values())
    results: list[Value | None] = list(node.outputs)
    known: dict[tuple[object, ...], int] = {}
    for place, value in enumerate(node.outputs):
        inner = tuple(region.outputs[carried.output + place] for region in regions)
        outer = {_outer(node, region, v) for region, v in zip(regions, inner, strict=True)}
        passed = outer.pop() if len(outer) == 1 else None
        if not value.users:
            continue
        if node.op == "If" and passed is not None:
            results[place] = passed
            continue
        axes = tuple(node.ints(name, ())[place - carried.count :][:1] for name in SCANNED) if node.op == "Scan" else ()
        key = (*inner, *axes, place < carried.count and node.operand(carried.operand + place))
        first = known.setdefault(key, place)
        results[place] = node.outputs[first]
    if results == list(node.outputs):
        return decline("no two of its results are the same value")
    return results


SCANNED = ("scan_output_axes", "scan_output_directions")


def _outer(node: Node, region: Graph, inner: Value) -> Value | None:
    """The captured value that an input of a region stands for."""
    if inner.node is not region.entry:
        return None
    place = inner.index - (len(region.inputs) - node.captures)
    return node.captured[place] if place >= 0 else None


@rule(*REGIONAL)
def reuse_outer_value(op: Builder, node: Node) -> Result:
    """What a region computes of captured values, and is computed outside already, is captured."""
    parts = Parts(node)
    found = 0
    for name, region in parts.regions.items():
        for inner in list(region):
            stands_for = {parts.inner(region, i): v for i, v in enumerate(parts.captured) if v is not None}
            twin = _twin(node, inner, stands_for) if is_pure(inner) else None
            if twin is None:
                continue
            for old, new in zip(inner.outputs, twin.outputs, strict=True):
                old.replace_by(parts.capture(new)[name])
            inner.erase()
            found += 1
    return parts.made(op) if found else decline("nothing that its regions compute is computed before it")


def _twin(node: Node, inner: Node, stands_for: dict[Value, Value]) -> Node | None:
    """A node before `node` that computes what a node in its region does."""
    sources = [stands_for.get(v) for v in inner.inputs if v is not None and v.const is None]
    if not sources or sources[0] is None or None in sources:
        return None
    twins = {user for user in sources[0].users if user.graph is node.graph and is_same(inner, user, stands_for)}
    place, steps = node.prev, 0
    while twins and place is not None and steps < NEARBY:
        if place in twins:
            return place
        place, steps = place.prev, steps + 1
    return None


@rule("If")
def hoist_from_branches(op: Builder, node: Node) -> Result:
    """What both branches compute of captured values is computed once before them."""
    parts = Parts(node)
    first, second = parts.regions["then_branch"], parts.regions["else_branch"]
    found = 0
    for left in list(first):
        if not is_pure(left) or not left.inputs:
            continue
        here = {parts.inner(first, i): v for i, v in enumerate(parts.captured) if v is not None}
        if any(v is not None and v.const is None and v not in here for v in left.inputs):
            continue
        across = {parts.inner(first, i): parts.inner(second, i) for i in range(len(parts.captured))}
        right = next((n for n in second if is_same(left, n, across)), None)
        if right is None:
            continue
        made = _outside(op, left, here)
        for place, value in enumerate(made.outputs):
            inner = parts.capture(value)
            left.outputs[place].replace_by(inner["then_branch"])
            right.outputs[place].replace_by(inner["else_branch"])
        left.erase()
        right.erase()
        found += 1
    return parts.made(op) if found else decline("its branches have nothing in common")


def _outside(op: Builder, inner: Node, stands_for: dict[Value, Value]) -> Node:
    """A node of a region, computed before it."""
    operands = [None if v is None else stands_for.get(v, v) for v in inner.inputs]
    made = Node(inner.op, operands, dict(inner.attrs), len(inner.outputs), domain=inner.domain, loc=inner.loc)
    for old, new in zip(inner.outputs, made.outputs, strict=True):
        new.name, new.type = old.name, old.type
    op.graph.insert(made, op.before)
    op.new.append(made)
    if op.infer is not None:
        op.infer(made)
    return made


TOTAL = frozenset([*UNARY, "Identity", "IsInf", "Shape", "Size"])
"""Operators that work for operands of every shape. A loop need not run at all, and then they must not fail."""
TOTAL_OF_TWO = frozenset(
    ["Add", "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or", "Sub", "Xor"]
)


@rule("Loop", "Scan")
def hoist_from_iterations(op: Builder, node: Node) -> Result:
    """What every iteration computes of captured values alone is computed once before all, where it cannot fail."""
    parts = Parts(node)
    body, found = parts.regions["body"], 0
    for inner in list(body):
        stands_for = {parts.inner(body, i): v for i, v in enumerate(parts.captured) if v is not None}
        varies = any(v is not None and v.const is None and v not in stands_for for v in inner.inputs)
        if varies or all(v is None or v.const is not None for v in inner.inputs) or not _never_fails(inner):
            continue
        made = _outside(op, inner, stands_for)
        inner.output.replace_by(parts.capture(made.output)["body"])
        inner.erase()
        found += 1
    return parts.made(op) if found else decline("all that it computes depends on the iteration, or could fail")


def _never_fails(node: Node) -> bool:
    """True for a node that gives something for all operands of the types that it has."""
    if node.domain or not is_pure(node) or len(node.outputs) != 1:
        return False
    if node.op in TOTAL:
        return node.operand(0).dtype not in (None, DType.STRING)
    if node.op not in TOTAL_OF_TWO or len(node.inputs) != 2:
        return False
    first, second = node.operand(0).shape, node.operand(1).shape
    if first is None or second is None:
        return False
    return all(a in (b, 1) or b == 1 for a, b in zip(reversed(first), reversed(second), strict=False))


RULES = (
    drop_unused_results,
    drop_unused_captures,
    capture_unchanged,
    merge_equal_results,
    reuse_outer_value,
    hoist_from_branches,
    hoist_from_iterations,
)
