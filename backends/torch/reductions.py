"""Rows for reductions, rankings and cumulative operators."""

from __future__ import annotations

from collections.abc import Callable

from ...ir import Node
from .code import Code, Piece, call, form, infix, method
from .emitter import Emitter, Result, Row, Unpacked
from .members import TORCH_TYPES


def axes_of(node: Node, e: Emitter) -> tuple[int, ...] | None:
    """The axes of a reduction; None for all of them. Refuses axes that are not constant."""
    value = node.input(1)
    if value is None:
        return None
    axes = e.static(value)
    if axes is None:
        e.refuse(node, "its axes are not constant")
    return axes or None


def computed_axes(node: Node, e: Emitter) -> Code | None:
    """Axes that are known when the model runs; none given means all of them to PyTorch, too."""
    value = node.input(1)
    if value is None or e.static(value) is not None:
        return None
    count = (e.resolve(value).shape or (None,))[0]
    some = isinstance(count, int) and count > 0
    e.need(some or not node.int("noop_with_empty_axes"), node, "it may have no axes, and is nothing then")
    return form("tuple({0}.tolist())", e.tensor(value))


def reduction(express: Callable[[Code, Piece, bool], Code]) -> Row:
    """`express(x, axes, keepdims)`; axes is one number, several, or all of them by number."""

    def row(node: Node, e: Emitter) -> Code | None:
        keep, computed = bool(node.int("keepdims")), computed_axes(node, e)
        if computed is not None:
            return express(e.tensor(node.operand(0)), computed, keep)
        axes = axes_of(node, e)
        if axes is None and node.int("noop_with_empty_axes"):
            return e.alias(node.output, node.operand(0))
        if axes is None:
            axes = tuple(range(e.need_rank(node, node.operand(0))))
        if not axes:
            return express(e.tensor(node.operand(0)), (), keep)
        return express(e.tensor(node.operand(0)), axes[0] if len(axes) == 1 else axes, keep)

    return row


def torch_reduction(name: str, **more: Piece) -> Row:
    def express(x: Code, axes: Piece, keep: bool) -> Code:
        options: dict[str, Piece] = {"dim": axes, **({"keepdim": True} if keep else {}), **more}
        return method(x, name, **options)

    return reduction(express)


def nonempty(row: Row) -> Row:
    """PyTorch has no extreme of nothing."""

    def checked(node: Node, e: Emitter) -> Result:
        e.need(0 not in (e.resolve(node.operand(0)).shape or ()), node, "its operand is empty")
        return row(node, e)

    return checked


def total(node: Node, e: Emitter) -> Result:
    """ReduceSum keeps the element type, torch.sum widens integers."""
    dtype = e.dtype(node.operand(0))
    more: dict[str, Piece] = {} if dtype is None or dtype.is_float else {"dtype": e.torch_type(node.operand(0))}
    return torch_reduction("sum", **more)(node, e)


def product(node: Node, e: Emitter) -> Code | None:
    """torch.prod takes one axis at a time."""
    axes, keep = axes_of(node, e), bool(node.int("keepdims"))
    if axes is None and node.int("noop_with_empty_axes"):
        return e.alias(node.output, node.operand(0))
    rank = e.need_rank(node, node.operand(0))
    x = e.tensor(node.operand(0))
    for axis in sorted((a % rank for a in (axes if axes is not None else range(rank))), reverse=True):
        x = method(x, "prod", dim=axis, **({"keepdim": True} if keep else {}), **_kept_type(node, e))
    return x


def _kept_type(node: Node, e: Emitter) -> dict[str, Piece]:
    dtype = e.dtype(node.operand(0))
    return {} if dtype is None or dtype.is_float else {"dtype": e.torch_type(node.operand(0))}


def sum_square(x: Code, axes: Piece, keep: bool) -> Code:
    return method(method(x, "square"), "sum", dim=axes, keepdim=keep)


def arg_extreme(name: str) -> Row:
    def row(node: Node, e: Emitter) -> Code:
        axis, keep = node.int("axis"), bool(node.int("keepdims"))
        x = e.tensor(node.operand(0))
        options: dict[str, Piece] = {"dim": axis, **({"keepdim": True} if keep else {})}
        if node.int("select_last_index"):
            last = form(f"{{0}}.shape[{axis}] - 1", e.tensor(node.operand(0)), level=13)
            return infix("-", last, method(method(x, "flip", axis), name, **options))
        return method(x, name, **options)

    return row


def top_k(node: Node, e: Emitter) -> Result:
    """torch.topk may order equal elements in any way (TopK-24 gives the lower index first)."""
    options: dict[str, Piece] = {} if node.int("axis") == -1 else {"dim": node.int("axis")}
    if not node.int("largest"):
        options["largest"] = False
    return Unpacked(call(e.helper("top_k"), e.tensor(node.operand(0)), e.integer(node.operand(1)), **options))


def cumulative(name: str) -> Row:
    """CumSum and CumProd; exclusive ones shift the input by one, reverse ones flip around."""

    def row(node: Node, e: Emitter) -> Code:
        axis, x = e.integer(node.operand(1)), e.tensor(node.operand(0))
        if node.int("reverse"):
            x = method(x, "flip", axis)
        if node.int("exclusive"):
            first = method(x, "narrow", axis, 0, 1)
            start = call("torch.zeros_like" if name == "cumsum" else "torch.ones_like", first)
            rest = method(x, "narrow", axis, 0, form("{0}.shape[{1}] - 1", e.tensor(node.operand(0)), axis))
            x = call("torch.cat", (start, rest), dim=axis)
        x = method(x, name, dim=axis, **_kept_type(node, e))
        return method(x, "flip", axis) if node.int("reverse") else x

    return row


def softmax(function: str) -> Row:
    return lambda node, e: call(function, e.tensor(node.operand(0)), dim=node.int("axis"))


def hardmax(node: Node, e: Emitter) -> Code:
    """One at the first largest element along the axis, else zero."""
    x, axis = e.tensor(node.operand(0)), node.int("axis")
    index = method(x, "argmax", dim=axis, keepdim=True)
    return method(call("torch.zeros_like", x), "scatter", axis, index, 1.0)


def einsum(node: Node, e: Emitter) -> Code:
    equation = node.str("equation")
    e.need(all(c.isalpha() or c in ",.-> " for c in equation) and equation.isascii(), node, "its equation is malformed")
    return call("torch.einsum", equation.replace(" ", ""), *[e.tensor(v) for v in node.inputs])


def non_zero(node: Node, e: Emitter) -> Code:
    e.need(e.dtype(node.operand(0)) in TORCH_TYPES, node, "its operand's element type is not one of PyTorch's")
    return method(call("torch.nonzero", e.tensor(node.operand(0))), "t")


ROWS: dict[str, Row] = {
    "ReduceSum": total,
    "ReduceMean": torch_reduction("mean"),
    "ReduceMax": nonempty(torch_reduction("amax")),
    "ReduceMin": nonempty(torch_reduction("amin")),
    "ReduceProd": product,
    "ReduceL1": reduction(lambda x, axes, keep: method(method(x, "abs"), "sum", dim=axes, keepdim=keep)),
    "ReduceL2": reduction(lambda x, axes, keep: method(sum_square(x, axes, keep), "sqrt")),
    "ReduceSumSquare": reduction(sum_square),
    "ReduceLogSum": reduction(lambda x, axes, keep: method(method(x, "sum", dim=axes, keepdim=keep), "log")),
    "ReduceLogSumExp": torch_reduction("logsumexp"),
    "ArgMax": arg_extreme("argmax"),
    "ArgMin": arg_extreme("argmin"),
    "TopK": top_k,
    "CumSum": cumulative("cumsum"),
    "CumProd": cumulative("cumprod"),
    "Softmax": softmax("torch.softmax"),
    "LogSoftmax": softmax("torch.log_softmax"),
    "Hardmax": hardmax,
    "Einsum": einsum,
    "NonZero": non_zero,
}
