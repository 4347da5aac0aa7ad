"""Einsum as the operator that it is: a matrix product, a product, a sum or a Transpose.

Constant operands are transposed for nothing. An operand that is computed needs a Transpose, which is only worth it
where it meets another one that it is composed with: the number of nodes never grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ....ir import Builder, Node, Value
from ....ir.rewrite import Result, decline, rule


@dataclass(frozen=True)
class Equation:
    """The letters of each operand and of the result (Einsum-12)."""

    terms: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class Form:
    """An operator, its operands with the order of letters that each must have, and the order of its result."""

    op: str
    operands: tuple[tuple[Value, str, str], ...]
    result: str
    sums: str = ""


def parse(text: str, ranks: Sequence[int | None]) -> Equation | str:
    """The equation without spaces and with its result written out."""
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = tuple(left.split(","))
    if "." in text:
        return "its equation has an ellipsis"
    if any(len(set(t)) != len(t) for t in (*terms, right)) or any(
        len(t) != rank for t, rank in zip(terms, ranks, strict=True)
    ):
        return "its equation takes a diagonal"
    letters = "".join(terms)
    return Equation(terms, right if arrow else "".join(sorted(c for c in set(letters) if letters.count(c) == 1)))


def forms(equation: Equation, operands: Sequence[Value]) -> Iterator[Form]:
    """The operators that compute the equation, whatever Transposes they need."""
    out = equation.result
    if len(operands) == 1:
        (x,), (term,) = operands, equation.terms
        kept = "".join(c for c in term if c in out)
        yield Form("ReduceSum" if kept != term else "Transpose", ((x, term, term),), kept, without(term, out))
        return
    for order in ((0, 1), (1, 0)):
        (x, y), (a, b) = (operands[i] for i in order), (equation.terms[i] for i in order)
        summed = "".join(c for c in a if c in b and c not in out)
        left, right = without(a, b), without(b, a)
        batch = "".join(c for c in out if c in a and c in b)
        if any(c not in out for c in left + right):
            return
        left, right = sorted_as(left, out), sorted_as(right, out)
        if not summed:
            yield Form("Mul", ((x, a, sorted_as(a, out)), (y, b, sorted_as(b, out))), out)
        elif len(summed) == 1 and len(right) <= 1 and (not batch or (len(left) == 1 == len(right))):
            yield Form("MatMul", ((x, a, batch + left + summed), (y, b, batch + summed + right)), batch + left + right)


def without(letters: str, others: str) -> str:
    return "".join(c for c in letters if c not in others)


def sorted_as(letters: str, order: str) -> str:
    return "".join(c for c in order if c in letters)


def cost(form: Form, node: Node, out: str) -> int | None:
    """Nodes more than one that a form takes; None where it does not compute the equation."""
    extra = 0
    for value, have, want in form.operands:
        if form.op == "Mul" and not out.endswith(want):
            return None
        if have != want and not value.is_const:
            absorbed = value.op == "Transpose" and value.only_user is node
            extra += 0 if absorbed else 1
    if form.result != out and form.op != "Transpose":
        user = node.output.only_user
        extra += 0 if user is not None and user.op == "Transpose" else 1
    return extra


@rule("Einsum")
def write_einsum_as_operator(op: Builder, node: Node) -> Result:
    """An Einsum that is a matrix product, a product, a sum or a Transpose is that operator."""
    operands = [v for v in node.inputs if v is not None]
    shapes = [v.shape for v in operands]
    if len(operands) > 2 or any(s is None for s in shapes) or not all(v.is_float for v in operands):
        return decline("it has more than two operands, or their ranks are not known")
    equation = parse(node.str("equation"), [v.rank for v in operands])
    if isinstance(equation, str):
        return decline(equation)
    sizes = [dict(zip(t, s, strict=True)) for t, s in zip(equation.terms, shapes, strict=True) if s is not None]
    if len(sizes) == 2 and any(sizes[0][c] != sizes[1][c] for c in sizes[0] if c in sizes[1]):
        return decline("its operands broadcast, or their sizes are not known to agree")
    priced = [(n, f) for f in forms(equation, operands) if (n := cost(f, node, equation.result)) is not None]
    if not priced:
        return decline("it is no product of two matrices")
    extra, form = min(priced, key=lambda pair: pair[0])
    if extra > 0:
        return decline("it would need Transposes")
    return built(op, form, equation.result)


def built(op: Builder, form: Form, out: str) -> Value:
    """The form's nodes."""
    values = [
        value if have == want else op.Transpose(value, perm=[have.index(c) for c in want])
        for value, have, want in form.operands
    ]
    if form.op == "ReduceSum":
        letters = form.operands[0][1]
        made = op.ReduceSum(values[0], [letters.index(c) for c in form.sums], keepdims=0)
    elif form.op == "Transpose":
        made = values[0]
    else:
        product = op.node(form.op, values)
        made = product.output if isinstance(product, Node) else product
    return made if form.result == out else op.Transpose(made, perm=[form.result.index(c) for c in out])


RULES = (write_einsum_as_operator,)
