"""Matrix products and convolutions. Weights stay the module's own tensors; what ONNX wants transposed is a lazy view of
them."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from ...ir import DType, Size, Value, fresh
from ...ir.attributes import shortest
from ...ir.dims import product
from .elementwise import scaled, typed_like_out
from .lowering import Lowering, Row, Rows, dtype_of, rank_of, shape_of, typed


def linear(op: Lowering, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x @ weight.T + bias for weight [out, in]: Gemm for a matrix x, else MatMul with the transposed weight and Add."""
    if rank_of(x) == rank_of(weight) == 2:
        return op.Gemm(x, weight, *([] if bias is None else [bias]), transB=1)
    product = op.MatMul(x, op.transposed(weight) if rank_of(weight) == 2 else weight)
    return product if bias is None else op.Add(product, bias)


def matmul(op: Lowering, a: Value, b: Value) -> Value:
    return op.MatMul(a, b)


def addmm(op: Lowering, x: Value, a: Value, b: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    """beta * x + alpha * (a @ b) for matrices."""
    if rank_of(a) == 2 and dtype_of(a).is_float:
        return op.Gemm(a, b, x, **gemm_factors(beta=beta, alpha=alpha))
    product = scaled(op, typed_like_out(op, op.MatMul(a, b)), alpha)
    return op.Add(scaled(op, x, beta), product)


def gemm_factors(**factors: Any) -> dict[str, float]:
    return {name: shortest(f) for name, f in factors.items() if f != 1}


def outer(op: Lowering, a: Value, b: Value) -> Value:
    return op.Mul(op.unsqueeze(a, [1]), op.unsqueeze(b, [0]))


def einsum(op: Lowering, equation: str, tensors: Sequence[Value], path: object = None) -> Value:
    """Axes that "..." stands for get letters: runtimes want as many in each operand."""
    ranks = [rank_of(x) for x in tensors]
    return op.Einsum(*[op.cast(x, op.out.dtype) for x in tensors], equation=spelled(equation, ranks))


def spelled(equation: str, ranks: Sequence[int]) -> str:
    """An equation without "...": where operands of these ranks have differing numbers of such axes, they are the last
    ones of the same letters."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    counts = {r - len(t) + 3 for t, r in zip(terms, ranks, strict=True) if "..." in t}
    if len(counts) < 2 and all("..." in t for t in terms):
        return equation
    free = [c for c in ascii_letters if c not in equation]
    letters = "".join(free[: max(counts, default=0)])

    def spell(term: str, rank: int) -> str:
        count = rank - len(term) + 3
        return term.replace("...", letters[len(letters) - count :])

    named = ",".join(spell(t, r) if "..." in t else t for t, r in zip(terms, ranks, strict=True))
    if arrow:
        return f"{named}->{result.replace('...', letters)}"
    every = "".join(t.replace("...", "") for t in terms)
    return f"{named}->{letters}{''.join(sorted(c for c in set(every) if every.count(c) == 1))}"


def bilinear(op: Lowering, a: Value, b: Value, weight: Value, bias: Value | None = None) -> Value:
    """a @ weight[o] @ b for each output o, over the last axes."""
    dtype, shape = op.out.dtype, op.out_shape
    out, left, right = shape_of(weight)
    turned = typed(op.Transpose(weight, perm=[1, 0, 2]), dtype, [left, out, right])
    rows = op.MatMul(a, op.reshape(turned, [left, product([out, right])]))
    wide = op.reshape(typed(rows, dtype, [*shape[:-1], product([out, right])]), [*shape[:-1], out, right])
    weighted = typed(op.Mul(wide, op.unsqueeze(b, [rank_of(b) - 1])), dtype, [*shape, right])
    made = op.ReduceSum(weighted, [len(shape)], keepdims=0)
    return made if bias is None else op.Add(typed(made, dtype, shape), bias)


def determinant(op: Lowering, x: Value) -> Value:
    return op.Det(x)


def grouped_product(op: Lowering, x: Value, weight: Value, offsets: Value | None = None, *others: object) -> Value:
    """Rows of a matrix in groups, each group times a matrix of its own; `offsets` are where groups end."""
    if offsets is None or any(o is not None for o in others) or (rank_of(x), rank_of(weight)) != (2, 3):
        op.decline("only groups of rows are covered")
    groups, width, out = op.ints(shape_of(weight))
    if groups == 1:
        return op.MatMul(x, op.squeeze(weight, [0]))
    ends = op.Split(op.cast(offsets, DType.I64), axis=0, num_outputs=groups, outputs=groups)
    matrices = op.Split(weight, axis=0, num_outputs=groups, outputs=groups)
    start, parts = op.operand([0]), list[Value]()
    for end, own in zip(ends, matrices, strict=True):
        rows = typed(op.Slice(x, start, typed(end, DType.I64, [1]), [0]), dtype_of(x), [fresh(), width])
        matrix = op.squeeze(typed(own, dtype_of(weight), [1, width, out]), [0])
        parts.append(typed(op.MatMul(rows, matrix), dtype_of(x), [shape_of(rows)[0], out]))
        start = end
    return op.Concat(*parts, axis=0)


def weight_norm(op: Lowering, v: Value, g: Value, dim: int = 0) -> Value:
    """v with each slice along `dim` scaled to the length g."""
    dtype, shape = dtype_of(v), shape_of(v)
    axes = [a for a in range(len(shape)) if dim == -1 or a != dim % len(shape)]
    kept = [1 if a in axes else d for a, d in enumerate(shape)]
    factor = op.Div(g, typed(op.ReduceL2(v, axes), dtype, kept))
    return op.Mul(v, typed(factor, dtype, kept))


def convolution(
    op: Lowering, x: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:  # fmt: skip
    """The cross-correlation of [N, C, ...] (or [C, ...]) with weight [out, C / groups, ...]."""
    kernel = op.ints(shape_of(weight)[2:])
    rank = len(kernel)
    dilations = op.ints(dilation, rank)
    attrs = {
        "kernel_shape": kernel, "strides": op.ints(stride, rank), "pads": pads_of(op, padding, kernel, dilations),
        "dilations": dilations, "group": groups,
    }  # fmt: skip
    batched = rank_of(x) == rank + 2
    made = op.Conv(x if batched else op.unsqueeze(x, [0]), weight, *([] if bias is None else [bias]), **attrs)
    return made if batched else op.squeeze(typed(made, op.out.dtype, [1, *op.out_shape]), [0])


def pads_of(op: Lowering, padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """ONNX pads: all begins, then all ends. "same" puts the odd one at the end, "valid" pads nothing."""
    if padding == "valid":
        return [0] * (2 * len(kernel))
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        return [*(t // 2 for t in totals), *(t - t // 2 for t in totals)]
    return op.ints(padding, len(kernel)) * 2


def transposed_convolution(
    op: Lowering, x: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    """The gradient of a convolution with weight [C, out / groups, ...]."""
    kernel = op.ints(shape_of(weight)[2:])
    rank = len(kernel)
    attrs = {
        "kernel_shape": kernel, "strides": op.ints(stride, rank), "pads": op.ints(padding, rank) * 2,
        "output_padding": op.ints(output_padding, rank), "dilations": op.ints(dilation, rank), "group": groups,
    }  # fmt: skip
    batched = rank_of(x) == rank + 2
    made = op.ConvTranspose(x if batched else op.unsqueeze(x, [0]), weight, *([] if bias is None else [bias]), **attrs)
    return made if batched else op.squeeze(typed(made, op.out.dtype, [1, *op.out_shape]), [0])


def any_convolution(
    op: Lowering, x: Value, weight: Value, bias: Value | None, stride: Sequence[Size], padding: Sequence[Size],
    dilation: Sequence[Size], transposed: bool, output_padding: Sequence[Size], groups: int,
) -> Value:  # fmt: skip
    if transposed:
        return transposed_convolution(op, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolution(op, x, weight, bias, stride, padding, dilation, groups)


def of_ranks(row: Row, pattern: str) -> Rows:
    """One row for the overloads of 1, 2 and 3 spatial axes."""
    return {pattern.format(rank): row for rank in (1, 2, 3)}


ROWS: Rows = {
    "aten.linear.default": linear,
    "aten.matmul.default": matmul, "aten.mm.default": matmul, "aten.bmm.default": matmul, "aten.mv.default": matmul,
    "aten.dot.default": matmul, "aten.vdot.default": matmul,
    "aten.addmm.default": addmm, "aten.baddbmm.default": addmm, "aten.addmv.default": addmm,
    "aten.outer.default": outer, "aten.einsum.default": einsum, "aten.bilinear.default": bilinear,
    "aten.linalg_det.default": determinant, "aten.det.default": determinant,
    **of_ranks(convolution, "aten.conv{}d.default"), **of_ranks(convolution, "aten.conv{}d.padding"),
    "aten.conv_transpose1d.default": transposed_convolution, **of_ranks(transposed_convolution,
    "aten.conv_transpose{}d.input"),
    "aten.convolution.default": any_convolution,
    "aten._weight_norm.default": weight_norm, "aten._grouped_mm.default": grouped_product,
    "transformers.grouped_mm_fallback.default": grouped_product,
}  # fmt: skip
