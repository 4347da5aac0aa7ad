"""Keys and values of earlier calls in front of new ones, which go to the next call, are an Attention's cache."""

from __future__ import annotations

from ....ir import Builder, Node, Value
from ....ir.rewrite import Result, decline, rule

K, V, MASK, PAST_KEY = 1, 2, 3, 4
LENGTH = 2


@rule("Attention")
def raise_cache(op: Builder, node: Node) -> Result:
    """Attention to earlier keys and values with new ones behind them, which the graph gives back, does that itself."""
    if any(v is not None for v in node.inputs[PAST_KEY:]) or any(v.users for v in node.outputs[1:]):
        return decline("it has a cache already")
    if node.int("is_causal") or any(node.int(name, -1) >= 0 for name in ("left_window_size", "right_window_size")):
        return decline("what a query sees depends on its place, which a cache moves")
    joined = [node.operand(i) for i in (K, V)]
    parts = [earlier_and_new(v) for v in joined]
    if any(p is None for p in parts):
        return decline("its keys and values are not earlier ones with new ones behind them")
    (past_key, key), (past_value, value) = (p for p in parts if p is not None)
    if joined[0] is joined[1] or not all(is_given_back(v, node) for v in joined):
        return decline("they are not given back, or needed for more than that")
    # There are as many keys as values, so that either of both lengths tells the other.
    pairs = [(past_key.shape, past_value.shape), (key.shape, value.shape)]
    if not any(a is not None and b is not None and a[LENGTH] == b[LENGTH] for a, b in pairs):
        return decline("keys and values are not known to be joined alike")
    inputs = [node.operand(0), key, value, node.input(MASK), past_key, past_value]
    made = op.node("Attention", inputs, node.attrs, outputs=3)
    assert isinstance(made, Node)
    for old, new in zip(joined, made.outputs[1:], strict=True):
        op.replace(old, new)
    return list(made.outputs[: len(node.outputs)])


def earlier_and_new(value: Value) -> tuple[Value, Value] | None:
    """The two operands of a Concat along the length of heads [batch, heads, length, size]."""
    node = value.node
    if node is None or node.op != "Concat" or node.domain or value.rank != 4 or len(node.inputs) != 2:
        return None
    return (node.operand(0), node.operand(1)) if node.int("axis") in (LENGTH, LENGTH - 4) else None


def is_given_back(value: Value, node: Node) -> bool:
    """True for a value that `node` uses, and beside it the end of the graph alone."""
    graph = node.graph
    return graph is not None and set(value.users) == {node, graph.exit}


RULES = (raise_cache,)
