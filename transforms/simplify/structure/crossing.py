"""Transposes before operators along axes: what such an operator does along an axis of the result it can do along the
axis of the operand that this one was. Two Transposes meet so, one vanishes under a reduction, and several become one.
"""

from __future__ import annotations

from collections.abc import Callable

from ....ir import Builder, Node, Value, constant
from ....ir.rewrite import Result, decline, rule
from ....ir.tensors import reshape, transpose
from .layout import build_reshape, reshaping
from .passing import BINARY, passed
from .spans import integers

Order = tuple[int, ...]
"""A permutation: axis i of the result is axis order[i] of the operand."""

REACH = 8
"""Operators between two Transposes that are to meet."""

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
SELECTIONS = ("ArgMax", "ArgMin")


def order_of(value: Value | None) -> Order | None:
    """The order of a Transpose's axes; None for other values."""
    node = None if value is None or value.op != "Transpose" else value.node
    rank = None if node is None else node.output.rank
    return None if node is None or rank is None else node.ints("perm", tuple(reversed(range(rank))))


Rest = tuple[list[Value | list[int] | None], dict[str, int]]
"""The other operands of an operator, and attributes that change."""


def _along(node: Node, order: Order) -> Rest | None:
    """One axis in an attribute."""
    return [*node.inputs[1:]], {"axis": order[node.int("axis") % len(order)]}


def _gathered(node: Node, order: Order) -> Rest | None:
    return _along(node, order) if node.operand(1).rank == 1 else None


def _kept(node: Node, order: Order) -> Rest | None:
    return _along(node, order) if node.int("keepdims", 1) else None


def _reduced(node: Node, order: Order) -> Rest | None:
    axes = integers(node.input(1))
    if not node.int("keepdims", 1) or not axes:
        return None
    return [sorted(order[axis % len(order)] for axis in axes)], {}


def _sliced(node: Node, order: Order) -> Rest | None:
    starts = node.operand(1)
    count = starts.shape[0] if starts.shape else None
    axes = integers(node.input(3))
    if node.input(3) is None and isinstance(count, int):
        axes = tuple(range(count))
    if axes is None:
        return None
    return [starts, node.input(2), [order[axis % len(order)] for axis in axes], *node.inputs[4:]], {}


def _padded(node: Node, order: Order) -> Rest | None:
    pads, axes = integers(node.input(1)), integers(node.input(3))
    if node.input(3) is None:
        axes = tuple(range(len(order)))
    if pads is None or axes is None:
        return None
    low, high = [0] * len(order), [0] * len(order)
    for place, axis in enumerate(axes):
        low[order[axis % len(order)]], high[order[axis % len(order)]] = pads[place], pads[place + len(axes)]
    return [[*low, *high], *node.inputs[2:3]], {}


def _last(node: Node, order: Order) -> Rest | None:
    """A product with a matrix, or a norm along the last axis, where that is the last one on both sides."""
    shape = node.operand(1).shape
    if order[-1] != len(order) - 1 or shape is None or len(shape) != (2 if node.op == "MatMul" else 1):
        return None
    if node.op != "MatMul" and node.int("axis") % len(order) != len(order) - 1:
        return None
    return [*node.inputs[1:]], {}


CROSSED: dict[str, Callable[[Node, Order], Rest | None]] = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along),
    **dict.fromkeys(SELECTIONS, _kept),
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(("MatMul", "LayerNormalization", "RMSNormalization"), _last),
    "Gather": _gathered,
    "Slice": _sliced,
    "Pad": _padded,
}
"""Operator -> its other operands and attributes on the operand of a Transpose instead of its result, of the same rank;
None where it cannot be said.
"""


def beside_constants(node: Node) -> Value | None:
    """The operand of an elementwise operator whose other operands are constants."""
    if node.op not in BINARY or node.domain:
        return None
    computed = [v for v in node.inputs if v is not None and v.const is None]
    return computed[0] if len(computed) == 1 else None


def turned(value: Value, order: Order, *, anew: bool) -> Value | None:
    """A constant that is broadcast against the result of a Transpose, so that it fits its operand; None where it would
    have to be written in another shape and may not be (`anew`).
    """
    rank, shape = len(order), value.tensor.shape
    if len(shape) > rank:
        return None
    full = ((1,) * (rank - len(shape))) + tuple(shape)
    moved = tuple(full[order.index(axis)] for axis in range(rank))
    places = [axis for axis in range(rank) if full[axis] != 1]
    if all(order[axis] == axis for axis in places):
        return value
    if not anew or value.tensor.nbytes > LARGEST:
        return None
    tensor = transpose(reshape(value.tensor, full), [order.index(axis) for axis in range(rank)])
    assert tensor.shape == moved
    return constant(tensor, value.name)


LARGEST = 1 << 16
"""Bytes of a constant that is written in another shape: others may use it as it is."""


def crossed(op: Builder, node: Node, value: Value, order: Order, *, anew: bool) -> Value | None:
    """What a node gives of `value` in place of `value` transposed, up to the same Transpose."""
    main = beside_constants(node) or passed(node, len(order))
    if main is not None:
        operands = [v if v is None else value if v is main else turned(v, order, anew=anew) for v in node.inputs]
        if any(new is None and old is not None for new, old in zip(operands, node.inputs, strict=True)):
            return None
        made = op.node(node.op, operands, node.attrs)
    else:
        found = CROSSED[node.op](node, order)
        if found is None:
            return None
        made = op.node(node.op, [value, *found[0]], {**node.attrs, **found[1]})
    return made.output if isinstance(made, Node) else made


@rule("Transpose")
def meet_across_axes(op: Builder, node: Node) -> Result:
    """A Transpose before operators along axes, such as Softmax, Slice, Pad, a reduction or a product with weights, and
    one behind them are one behind them, or none.
    """
    return _met(op, node, anew=False)


@rule("Transpose")
def meet_across_constants(op: Builder, node: Node) -> Result:
    """So do Transposes with sums and products with constants between them, which then have another shape."""
    return _met(op, node, anew=True)


def _met(op: Builder, node: Node, *, anew: bool) -> Result:
    path: list[Node] = []
    value = node.operand(0)
    while value.node is not None and value.only_user is not None and len(path) < REACH:
        main = beside_constants(value.node) or passed(value.node, value.rank or 0)
        if main is None and (value.op not in CROSSED or any(v.users for v in value.node.outputs if v is not value)):
            break
        path.append(value.node)
        value = main or value.node.operand(0)
    order, behind = order_of(value), order_of(node.output)
    if order is None or behind is None or value.only_user is None:
        return decline("no operators along axes are between two Transposes")
    if all(passed(step, len(order)) is not None for step in path):
        return decline("no operators along axes are between two Transposes")
    assert value.node is not None
    made: Value | None = value.node.operand(0)
    for step in reversed(path):
        made = crossed(op, step, made, order, anew=anew)
        if made is None:
            return decline("along which axes an operator between them works is not known")
    both = tuple(order[axis] for axis in behind)
    return made if both == tuple(range(len(both))) else op.Transpose(made, perm=both)


@rule(*REDUCTIONS, *SELECTIONS, "Gather", above=["Transpose"])
def reduce_before_transpose(op: Builder, node: Node) -> Result:
    """A reduction, or the choice of one entry, of what is transposed needs no Transpose where the remaining axes are in
    their old order.
    """
    value = node.operand(0)
    order, after = order_of(value), node.output.shape
    if order is None or value.only_user is None or value.node is None or after is None:
        return decline("its operand is no Transpose that it alone uses")
    source = value.node.operand(0)
    axes = (node.int("axis"),) if node.op in (*SELECTIONS, "Gather") else integers(node.input(1))
    if not axes or source.shape is None or (node.op == "Gather" and node.operand(1).rank != 0):
        return decline("its axes are not known, or it takes several entries")
    gone = sorted(order[axis % len(order)] for axis in axes)
    rest = [axis for axis in order if axis not in gone]
    if rest != sorted(rest):
        return decline("the remaining axes are in another order")
    kept = node.op != "Gather" and bool(node.int("keepdims", 1))
    shape = tuple(1 if a in gone else s for a, s in enumerate(source.shape) if kept or a not in gone)
    target = None if shape == after else reshaping(op, shape, after)
    if shape != after and target is None:
        return decline("its shape cannot be written")
    operands = [source, *node.inputs[1:]] if node.op in (*SELECTIONS, "Gather") else [source, gone]
    attrs = {**node.attrs, "axis": gone[0]} if node.op in (*SELECTIONS, "Gather") else node.attrs
    made = op.value(node.op, operands, attrs)
    return made if target is None else build_reshape(op, made, target)


@rule("Concat", above=["Transpose"])
def transpose_joined_instead_of_parts(op: Builder, node: Node) -> Result:
    """A Concat of operands that are transposed alike is transposed itself."""
    orders = {order_of(v) for v in node.inputs}
    order = next(iter(orders))
    if len(node.inputs) < 2 or len(orders) != 1 or order is None:
        return decline("its operands are not all transposed alike")
    if any(v is None or set(v.users) != {node} for v in node.inputs):
        return decline("a Transpose has other users")
    sources = [v.node.operand(0) for v in node.inputs if v is not None and v.node is not None]
    return op.Transpose(op.Concat(*sources, axis=order[node.int("axis") % len(order)]), perm=order)


@rule("Split", above=["Transpose"])
def split_before_transpose(op: Builder, node: Node) -> Result:
    """A Split of what is transposed, all of whose parts are transposed again, is one of what was there before."""
    value = node.operand(0)
    order = order_of(value)
    if order is None or value.only_user is None or value.node is None:
        return decline("its operand is no Transpose that it alone uses")
    users = [user for made in node.outputs for user in made.users]
    if not users or any(user.op != "Transpose" or user.domain for user in users):
        return decline("a part is used otherwise than transposed")
    attrs = {**node.attrs, "axis": order[node.int("axis") % len(order)]}
    made = op.node("Split", [value.node.operand(0), *node.inputs[1:]], attrs, outputs=len(node.outputs))
    assert isinstance(made, Node)
    return [
        op.Transpose(part, perm=order) if old.users else None
        for part, old in zip(made.outputs, node.outputs, strict=True)
    ]


@rule("MatMul", above=["Transpose"])
def transpose_product_instead_of_factors(op: Builder, node: Node) -> Result:
    """The product of two transposed matrices is the transposed product of both in the other order."""
    orders = [order_of(v) for v in node.inputs]
    order = orders[0]
    if order is None or order != orders[1] or len(order) < 3:
        return decline("its operands are not both transposed alike, or are matrices")
    if order != swapped(len(order)):
        return decline("more than rows and columns are exchanged")
    if any(set(v.users) != {node} for v in node.inputs if v is not None):
        return decline("a Transpose has other users")
    left, right = (v.node.operand(0) for v in node.inputs if v is not None and v.node is not None)
    return op.Transpose(op.MatMul(right, left), perm=order)


def swapped(rank: int) -> Order:
    """The order that exchanges the last two axes."""
    return (*range(rank - 2), rank - 1, rank - 2)


RULES = (
    meet_across_axes,
    reduce_before_transpose,
    transpose_joined_instead_of_parts,
    split_before_transpose,
    transpose_product_instead_of_factors,
)
"""Exact at every level."""

DEPLOY_RULES = (meet_across_constants,)
"""Rules that give constants, which may be parameters, another shape."""
