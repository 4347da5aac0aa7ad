"""Matrix products with a transposed table: the head of a language model that reads its embeddings once more.

The weight is a Transpose of a constant that others read as it is. A layer in int8 has integers of its own anyway, so
it is given the transposed table as a constant of its own; a layer that stays float goes on sharing.
"""

from __future__ import annotations

from ...ir import Graph, Node, Value, constant
from ...ir.tensors.lazy import transpose

PRODUCTS = ("MatMul", "Gemm")


def untie(graph: Graph) -> dict[Value, Node]:
    """Gives products their weights as constants; the Transpose that made each one stays, under that constant."""
    made: dict[Node, Value] = {}
    for node in graph:
        turn = node.operand(1).node if node.op in PRODUCTS else None
        if turn is None or turn.op != "Transpose" or turn.operand(0).const is None or turn.operand(0).rank != 2:
            continue
        if turn.ints("perm", (1, 0)) == (1, 0):
            table = turn.operand(0)
            if turn not in made:
                made[turn] = constant(transpose(table.tensor, [1, 0]), table.name)
            node.set_input(1, made[turn])
    return {value: turn for turn, value in made.items()}


def tie(graph: Graph, made: dict[Value, Node]) -> None:
    """Gives products that stayed float the shared table back, and erases what nobody reads any more."""
    tables = {turn.operand(0): value for value, turn in made.items() if turn.graph is not None}
    for turn in [n for n in graph if n.op == "Transpose" and n.operand(0) in tables]:
        value = tables[turn.operand(0)]
        for user in [n for n in value.users if n.graph is graph and n.op in PRODUCTS]:
            user.set_input(1, turn.output)
        if not turn.output.users:
            turn.erase()
