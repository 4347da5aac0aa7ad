"""Shape arithmetic as Python integers: which nodes over sizes become expressions instead of tensor operations.

A row takes the node and its operands as `Sizes` and gives the result, or None to leave the node to the tensor
operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...ir import DType, Node, TensorType
from .code import Code, call, form, infix, literal, negative
from .emitter import SIZE_ELEMENTS, Emitter, Sizes


def sizes_of(node: Node, e: Emitter) -> Sizes | None:
    """The node's output as sizes, or None when it is not shape arithmetic."""
    if node.op == "Shape":
        return shape(node, e)
    if node.op == "Size":
        return size(node, e)
    row = ROWS.get(node.op)
    if row is None or len(node.outputs) != 1:
        return None
    operands = [e.known(v) if v is not None else None for v in node.inputs]
    if any(o is None and v is not None for o, v in zip(operands, node.inputs, strict=True)):
        return None
    if all(v is not None and e.const(v) is not None for v in node.inputs):
        return None
    return row(node, [o for o in operands if o is not None])


def shape(node: Node, e: Emitter) -> Sizes | None:
    """The sizes of a tensor, or some of them (Shape-25)."""
    value = e.resolve(node.operand(0))
    rank = e.rank(value)
    if rank is None or value in e.sizes:
        return None
    axes = range(rank)[slice(node.int("start"), node.int("end") if node.attr("end") is not None else None)]
    return Sizes(tuple(e.size(value, a) for a in axes), 1)


def size(node: Node, e: Emitter) -> Sizes | None:
    value = e.resolve(node.operand(0))
    static = value.type.count if isinstance(value.type, TensorType) else None
    if value in e.sizes:
        return None
    return Sizes((literal(static) if static is not None else form("{0}.numel()", e.tensor(value)),), 0)


def constant_of(item: Code) -> int | None:
    """The number that an expression is, or None."""
    text = item.parts[0] if len(item.parts) == 1 else None
    return int(text) if isinstance(text, str) and text.lstrip("-").isdigit() else None


def constants_of(sizes: Sizes) -> list[int] | None:
    found = [constant_of(i) for i in sizes.items]
    return None if None in found else [i for i in found if i is not None]


def broadcast(operands: Sequence[Sizes]) -> list[tuple[Code, ...]] | None:
    """The elements of the operands side by side, or None when their lengths differ."""
    length = max(len(o.items) if o.rank else 1 for o in operands)
    if any(o.rank and len(o.items) not in (1, length) for o in operands):
        return None
    return list(zip(*[o.items * (length if len(o.items) == 1 else 1) for o in operands], strict=True))


def elementwise(compute: Callable[[int, int], int], express: Callable[[Code, Code], Code | None]) -> Row:
    """A binary operator: computed where both elements are numbers."""

    def row(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
        pairs = broadcast(operands)
        if len(operands) != 2 or pairs is None or any(o.dtype is DType.BOOL for o in operands):
            return None
        made: list[Code] = []
        for a, b in pairs:
            x, y = constant_of(a), constant_of(b)
            if x is not None and y is not None and (y or node.op in ("Add", "Sub", "Mul", "Min", "Max")):
                item: Code | None = literal(compute(x, y))
            else:
                item = express(a, b)
            if item is None:
                return None
            made.append(item)
        return Sizes(tuple(made), max(o.rank for o in operands), operands[0].dtype)

    return row


def truncated(a: int, b: int) -> int:
    """Integer division as ONNX does it: towards zero."""
    return math.trunc(a / b) if abs(a) < 1 << 52 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def add(a: Code, b: Code) -> Code:
    if constant_of(a) == 0:
        return b
    return a if constant_of(b) == 0 else infix("+", a, b)


def multiply(a: Code, b: Code) -> Code:
    if constant_of(a) == 1:
        return b
    return a if constant_of(b) == 1 else infix("*", a, b)


def divide(a: Code, b: Code) -> Code | None:
    if constant_of(b) == 1:
        return a
    return None if a.signed or b.signed or constant_of(b) == 0 else infix("//", a, b)


def remainder(a: Code, b: Code) -> Code | None:
    return None if a.signed or b.signed or constant_of(b) == 0 else infix("%", a, b)


def concat(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    if any(o.rank != 1 for o in operands):
        return None
    items = tuple(i for o in operands for i in o.items)
    return Sizes(items, 1, operands[0].dtype) if len(items) <= SIZE_ELEMENTS else None


def gather(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    data, index = operands
    wanted = constants_of(index)
    if wanted is None or data.rank != 1 or any(not -len(data.items) <= i < len(data.items) for i in wanted):
        return None
    return Sizes(tuple(data.items[i] for i in wanted), index.rank, data.dtype)


def slice_(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    numbers = [constants_of(o) for o in operands[1:]]
    if any(n is None or len(n) != 1 for n in numbers) or len(operands) != len(node.inputs):
        return None
    start, end, axis, step = [n[0] for n in numbers if n] + [0, 1][len(numbers) - 2 :]
    if axis not in (0, -1) or step == 0:
        return None
    length = len(operands[0].items)
    stop: int | None = end
    if step < 0:
        start, stop = min(start, length - 1), None if end < -length else end
    return Sizes(operands[0].items[slice(start, stop, step)], 1, operands[0].dtype)


def to_vector(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    """Unsqueeze of a scalar."""
    axes = constants_of(operands[1]) if len(operands) == 2 else None
    return Sizes(operands[0].items, 1, operands[0].dtype) if operands[0].rank == 0 and axes in ([0], [-1]) else None


def to_scalar(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    """Squeeze of a vector of one."""
    return Sizes(operands[0].items, 0, operands[0].dtype) if len(operands[0].items) == 1 else None


def reshape(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    wanted = constants_of(operands[1])
    if wanted == []:
        return Sizes(operands[0].items, 0, operands[0].dtype)
    return Sizes(operands[0].items, 1, operands[0].dtype) if wanted in ([-1], [len(operands[0].items)]) else None


def cast(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    to = DType.of_code(node.int("to"))
    integers = (DType.I64, DType.I32)
    return Sizes(operands[0].items, operands[0].rank, to) if to in integers and operands[0].dtype in integers else None


def product(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    if len(operands) > 1 and constants_of(operands[1]) != [0]:
        return None
    total = literal(1)
    for item in operands[0].items:
        total = multiply(total, item)
    return Sizes((total,), 1 if node.int("keepdims") else 0, operands[0].dtype)


def negate(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    items = [constant_of(i) for i in operands[0].items]
    made = tuple(negative(c) if n is None else literal(-n) for c, n in zip(operands[0].items, items, strict=True))
    return Sizes(made, operands[0].rank, operands[0].dtype)


def same(node: Node, operands: Sequence[Sizes]) -> Sizes | None:
    return operands[0]


def extreme(function: str) -> Callable[[Code, Code], Code]:
    return lambda a, b: Code(call(function, a, b).parts, signed=a.signed and b.signed)


Row = Callable[[Node, Sequence[Sizes]], "Sizes | None"]

ROWS: dict[str, Row] = {
    "Add": elementwise(lambda a, b: a + b, add),
    "Sub": elementwise(lambda a, b: a - b, lambda a, b: a if constant_of(b) == 0 else infix("-", a, b)),
    "Mul": elementwise(lambda a, b: a * b, multiply),
    "Div": elementwise(truncated, divide),
    "Mod": elementwise(lambda a, b: a % b, remainder),
    "Min": elementwise(min, extreme("min")),
    "Max": elementwise(max, extreme("max")),
    "Concat": concat,
    "Gather": gather,
    "Slice": slice_,
    "Unsqueeze": to_vector,
    "Squeeze": to_scalar,
    "Reshape": reshape,
    "Cast": cast,
    "ReduceProd": product,
    "Neg": negate,
    "Identity": same,
}
"""Operators on sizes (vectors and scalars of integers)."""
