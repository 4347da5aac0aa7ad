"""Products with constant matrices: a product and its bias, factors and transposes of a Gemm, identity matrices, and
products one after the other.
"""

from __future__ import annotations

import numpy as np

from ....ir import Builder, Node, Tensor, Value, constant
from ....ir.rewrite import P, Result, decline, rule
from ....ir.tensors import Lazy, binary, reshape, transpose
from .channels import LARGEST, is_shared, known, scaled
from .linear import bias_name, named

x, w, b = P.var("x"), P.var("w"), P.var("b")


@rule(P.Add(P.MatMul(x, w).named("product"), P.const("b")))
def write_as_gemm(op: Builder, x: Value, w: Value, b: Value, product: Node) -> Result:
    """A product of two matrices plus a constant row is a Gemm."""
    shape = product.output.shape  # the sum's own may be that of the row, against which one column broadcasts
    if x.rank != 2 or w.rank != 2 or shape is None or len(shape) != 2 or not x.is_float:
        return decline("it is not a product of two matrices")
    columns = shape[1]
    if b.tensor.shape not in ((columns,), (1, columns)):
        return decline("the summand is not one constant per column")
    return op.Gemm(x, w, constant(reshape(b.tensor, (b.tensor.count,)), b.name))


@rule("Gemm")
def fold_gemm_factors(op: Builder, node: Node) -> Result:
    """alpha and beta of a Gemm are part of constant operands (Gemm-13)."""
    weight, bias = node.operand(1), node.input(2)
    alpha, beta = node.float("alpha"), node.float("beta")
    w, c = known(weight), known(bias)
    inputs, attrs = list(node.inputs), dict(node.attrs)
    if alpha != 1.0 and w is not None and not is_shared(weight):
        inputs[1] = named(scaled(w, np.full((), alpha)), weight)
        attrs.pop("alpha", None)
    if beta != 1.0 and c is not None and bias is not None and not is_shared(bias):
        inputs[2] = named(scaled(c, np.full((), beta)), bias)
        attrs.pop("beta", None)
    if inputs == list(node.inputs):
        return decline("it has no factor, or its operands are no constants of its own")
    made = op.node("Gemm", inputs, attrs)
    return made.output if isinstance(made, Node) else made


TRANSPOSED = ("transA", "transB")


@rule("Gemm", above=["Transpose"])
def transpose_in_gemm(op: Builder, node: Node) -> Result:
    """A Gemm transposes its operands itself."""
    inputs, attrs = list(node.inputs), dict(node.attrs)
    for index, name in enumerate(TRANSPOSED):
        value = node.operand(index)
        if value.op == "Transpose" and swaps(value.node) and value.node is not None and value.only_user is node:
            inputs[index] = value.node.operand(0)
            attrs[name] = 1 - node.int(name)
    if inputs == list(node.inputs):
        return decline("neither operand is a matrix that is transposed for it alone")
    made = op.node("Gemm", inputs, attrs)
    return made.output if isinstance(made, Node) else made


@rule("MatMul", above=["Transpose"])
def transpose_in_product(op: Builder, node: Node) -> Result:
    """A product of matrices of which one is transposed is a Gemm, which transposes it itself."""
    values = [node.operand(0), node.operand(1)]
    turned = [v.op == "Transpose" and swaps(v.node) and v.only_user is node for v in values]
    if not any(turned) or any(v.rank != 2 for v in values) or not node.output.is_float:
        return decline("it is no product of two matrices of which one is transposed for it alone")
    inputs = [v.node.operand(0) if t and v.node is not None else v for v, t in zip(values, turned, strict=True)]
    return op.Gemm(*inputs, **{name: 1 for name, t in zip(TRANSPOSED, turned, strict=True) if t})


def swaps(node: Node | None) -> bool:
    """True for a Transpose that exchanges two axes of a matrix."""
    return node is not None and node.ints("perm", (1, 0)) == (1, 0)


@rule("MatMul")
def drop_identity_product(op: Builder, node: Node) -> Result:
    """A product with the identity matrix is the other operand."""
    for index in (1, 0):
        tensor = known(node.operand(index))
        if tensor is None:
            continue
        if tensor.rank != 2 or tensor.shape[0] != tensor.shape[1] or tensor.count > LARGEST:
            return decline("its constant is not an identity matrix")
        other, size = node.operand(1 - index), tensor.shape[0]
        if (other.rank or 0) < 2 or other.shape != node.output.shape:
            return decline("its constant is not an identity matrix")
        begins = size and bool((tensor.rows(0, 1) == np.eye(1, size)).all())  # most end here, after one row
        if not begins or not bool((tensor.numpy() == np.eye(size)).all()):
            return decline("its constant is not an identity matrix")
        return other
    return decline("it has no constant operand")


inner = P.MatMul(x, P.const("first"))


@rule(P.MatMul(inner | P.Add(inner, P.const("c")), P.const("second")).named("outer"))
def multiply_matrices(op: Builder, x: Value, first: Value, second: Value, c: Value | None, outer: Node) -> Result:
    """(x A + c) B is x (A B) + c B, where A B is no larger than A and B together: not for factors of low rank."""
    a, b = known(first), known(second)
    if a is None or b is None or a.rank != 2 or b.rank != 2:
        return decline("a factor is not a matrix of floats")
    if a.dtype is not b.dtype or is_shared(first) or is_shared(second):
        return decline("a factor is used elsewhere too")
    if a.shape[0] * b.shape[1] > a.count + b.count:
        return decline("the product is larger than both factors")
    if c is not None and c.tensor.shape != (a.shape[1],):
        return decline("the summand between them is not one per channel")
    product = op.MatMul(x, named(Lazy("matmul", [a, b]), second))
    if c is None:
        return product
    return op.Add(product, named(row_times(c.tensor, b), None, bias_name(second)))


def row_times(row: Tensor, matrix: Tensor) -> Tensor:
    """A vector times a matrix, as a vector."""
    return reshape(Lazy("matmul", [reshape(row, (1, row.count)), matrix]), (matrix.shape[1],))


gemm_inner = P.Gemm(x, P.const("first"), P.opt_const("c")).named("inner")


@rule(P.Gemm(gemm_inner, P.const("second"), P.opt_const("d")).named("outer"))
def multiply_gemms(
    op: Builder, x: Value, first: Value, second: Value, c: Value | None, d: Value | None, inner: Node, outer: Node
) -> Result:
    """Two Gemms with constant matrices are one, where its matrix is no larger than both together."""
    if any(n.float(name) != 1.0 for n in (inner, outer) for name in ("alpha", "beta")) or outer.int("transA"):
        return decline("one has a factor or transposes what the other computes")
    a = transpose(first.tensor, (1, 0)) if inner.int("transB") else first.tensor
    b = transpose(second.tensor, (1, 0)) if outer.int("transB") else second.tensor
    if is_shared(first) or is_shared(second):
        return decline("a factor is used elsewhere too")
    if a.shape[0] * b.shape[1] > a.count + b.count:
        return decline("the product is larger than both factors")
    if any(v is not None and v.tensor.shape not in ((n,), (1, n)) for v, n in ((c, b.shape[0]), (d, b.shape[1]))):
        return decline("a summand is not one per column")
    product = Lazy("matmul", [a, b])
    weight = named(transpose(product, (1, 0)) if outer.int("transB") else product, second)
    summand = None if d is None else reshape(d.tensor, (d.tensor.count,))
    if c is not None:
        moved = row_times(reshape(c.tensor, (c.tensor.count,)), b)
        summand = moved if summand is None else binary("add", summand, moved)
    attrs = {"transA": inner.int("transA"), "transB": outer.int("transB")}
    if summand is None:
        return op.Gemm(x, weight, **attrs)
    return op.Gemm(x, weight, named(summand, d, bias_name(second)), **attrs)


@rule(
    P.Conv(P.Conv(x, P.const("first"), P.opt_const("c")).named("inner"), P.const("second"), P.opt_const("d")).named(
        "outer"
    )
)
def multiply_convolutions(
    op: Builder, x: Value, first: Value, second: Value, c: Value | None, d: Value | None, inner: Node, outer: Node
) -> Result:
    """A convolution of a 1x1 convolution is one, where its weight is no larger and nothing is padded in between."""
    a, b = first.tensor, second.tensor
    if any(n.int("group", 1) != 1 for n in (inner, outer)) or any(size != 1 for size in a.shape[2:]):
        return decline("the first is not 1x1, or one has groups")
    if any(s != 1 for s in inner.ints("strides", ())) or any(inner.ints("pads", ())):
        return decline("the first one pads or skips positions")
    pads = any(outer.ints("pads", ())) or outer.str("auto_pad") not in ("NOTSET", "VALID")
    if inner.str("auto_pad") not in ("NOTSET", "VALID") or (pads and c is not None):
        return decline("the first one's bias is not there in the second one's padding")
    if is_shared(first) or is_shared(second):
        return decline("a weight is used elsewhere too")
    kernel = int(np.prod(b.shape[2:]))
    if b.shape[0] * a.shape[1] * kernel > a.count + b.count:
        return decline("the product is larger than both weights")
    rows = reshape(transpose(b, (0, *range(2, b.rank), 1)), (b.shape[0] * kernel, b.shape[1]))
    product = Lazy("matmul", [rows, reshape(a, a.shape[:2])])
    order = (0, b.rank - 1, *range(1, b.rank - 1))
    weight = transpose(reshape(product, (b.shape[0], *b.shape[2:], a.shape[1])), order)
    summand = None if d is None else d.tensor
    if c is not None:
        per_tap = reshape(Lazy("matmul", [rows, reshape(c.tensor, (c.tensor.count, 1))]), (b.shape[0], kernel))
        moved = reshape(Lazy("sum", [per_tap], axes=(1,)), (b.shape[0],))
        summand = moved if summand is None else binary("add", summand, moved)
    operands = [x, named(weight, second)]
    if summand is not None:
        operands.append(named(summand, d, bias_name(second)))
    made = op.node("Conv", operands, outer.attrs)
    return made.output if isinstance(made, Node) else made


RULES = (
    drop_identity_product,
    multiply_matrices,
    multiply_gemms,
    multiply_convolutions,
    fold_gemm_factors,
    transpose_in_gemm,
    transpose_in_product,
    write_as_gemm,
)
