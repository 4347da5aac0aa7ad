"""Reshapings and Transposes that meet across elementwise operators."""

from __future__ import annotations

from ....ir import Builder, Node, Value
from ....ir.inference.elementwise import BROADCASTING
from ....ir.rewrite import Result, decline, rule
from .axes import LAYOUT, RESHAPING
from .layout import build, shortest, weight

UNARY = frozenset(
    [
        "Abs", "Cast", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsNaN",
        "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin",
        "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
    ]
)  # fmt: skip
BINARY = frozenset(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Clip"])
REACH = 8
"""Elementwise operators between two reshapings or Transposes that are to meet."""


def passed(node: Node, rank: int) -> Value | None:
    """The operand of an elementwise operator whose other operands are single numbers, so that it does not matter how
    its elements are laid out; None for other nodes. The numbers have at most `rank` axes.
    """
    if node.domain or len(node.outputs) != 1:
        return None
    if node.op in UNARY:
        return node.operand(0)
    if node.op not in BINARY:
        return None
    tensors = [v for v in node.inputs if v is not None and (v.const is None or v.const.count != 1)]
    numbers = [v for v in node.inputs if v is not None and v.const is not None and v.const.count == 1]
    if len(tensors) != 1 or any(v.const is not None and v.const.rank > rank for v in numbers):
        return None
    return tensors[0]


@rule(*LAYOUT)
def meet_across_elementwise(op: Builder, node: Node) -> Result:
    """A reshaping or Transpose before elementwise operators and one behind them are fewer nodes behind them."""
    path: list[Node] = []
    value = node.operand(0)
    while value.node is not None and value.only_user is not None and len(path) < REACH:
        inner = passed(value.node, value.rank or 0)
        if inner is None:
            break
        path.append(value.node)
        value = inner
    upper: list[Node] = []
    while value.node is not None and value.op in LAYOUT and value.only_user is not None and not value.node.domain:
        upper.append(value.node)
        value = value.node.operand(0)
    if not path or not upper:
        return decline("no elementwise operators are between two reshapings or Transposes")
    if any(passed(n, value.rank or 0) is None for n in path):
        return decline("a number has more axes than the tensor")
    steps = shortest(op, [node, *upper])
    if steps is None:
        return decline("what they do together is not known")
    cost = sum(weight("Transpose" if target is None else "Reshape") for _, target in steps)
    if cost >= sum(weight(n.op) for n in (node, *upper)):
        return decline("together they are no fewer")
    for step in reversed(path):
        main = passed(step, value.rank or 0)
        value = op.value(step.op, [value if v is main else v for v in step.inputs], step.attrs)
    return build(op, value, steps)


@rule(*BROADCASTING, above=("Transpose",))
def transpose_result_instead_of_operands(op: Builder, node: Node) -> Result:
    """An elementwise operator on operands that are transposed alike is transposed itself."""
    above = [v.node if v is not None else None for v in node.inputs]
    moved = [n for n in above if n is not None and n.op == "Transpose" and not n.domain and n.output.only_user is node]
    if len(moved) < 2 or len(moved) != len(above):
        return decline("not all operands are Transposes that only it uses")
    rank = node.output.rank
    if rank is None or any(n.output.rank != rank for n in moved):
        return decline("ranks differ or are not known")
    perms = {n.ints("perm", tuple(reversed(range(rank)))) for n in moved}
    if len(perms) != 1:
        return decline("they are transposed differently")
    made = op.value(node.op, [n.operand(0) for n in moved], node.attrs)
    return op.Transpose(made, perm=perms.pop())


@rule(*BROADCASTING, above=sorted(RESHAPING))
def reshape_result_instead_of_operands(op: Builder, node: Node) -> Result:
    """An elementwise operator on operands of one shape that are reshaped alike is reshaped itself."""
    above = [v.node if v is not None and v.op in RESHAPING else None for v in node.inputs]
    moved = [n for n in above if n is not None and set(n.output.users) == {node}]
    if len(moved) != len(above) or len(set(moved)) < 2:
        return decline("not all operands are reshaped for it alone")
    sources, results = {n.operand(0).shape for n in moved}, {n.output.shape for n in moved}
    if len(sources) != 1 or len(results) != 1 or None in sources or None in results:
        return decline("they are not reshaped from one known shape to another")
    made = op.value(node.op, [n.operand(0) for n in moved], node.attrs)
    return op.value(moved[0].op, [made, *moved[0].inputs[1:]], moved[0].attrs)


RULES = (
    meet_across_elementwise,
    transpose_result_instead_of_operands,
    reshape_result_instead_of_operands,
)
