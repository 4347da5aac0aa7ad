"""Tensors of indices that count along their axes: a Gather with them takes everything in order, and comparisons with
them may be decided.

Exporters write `mask[arange(batch)[:, None], arange(length)]` as ranges, products and a Gather over the flattened mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Builder, DType, Node, Placeholder, Size, Tensor, TensorType, Value
from ....ir.builder import Sizes
from ....ir.dims import at_least
from ....ir.rewrite import Result, decline, rule
from ....ir.types import Shape
from .targets import reshape_target

DEPTH = 16
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Counting:
    """A tensor of integers whose elements are `offset` plus, for each axis, its stride times the index."""

    shape: Shape
    strides: tuple[Size, ...]
    offset: Size = 0
    source: Value | None = None
    """The Range that it is a reshaping or a repetition of."""

    @property
    def constant(self) -> Size | None:
        """The number that all elements are, where they are all the same."""
        return self.offset if all(s == 0 for s in self.strides) else None

    def bounds(self) -> tuple[Size | None, Size | None]:
        """The smallest and the largest element a tensor of these strides may have; None where it is open."""
        low = self.offset if all(at_least(s, 0) for s in self.strides) else None
        high = self.offset if all(at_least(0, s) for s in self.strides) else None
        return low, high


def counting(value: Value, sizes: Sizes, depth: int = DEPTH) -> Counting | None:
    """How a tensor of integers counts, where it does."""
    shape = value.shape
    if shape is None or not isinstance(value.type, TensorType) or value.type.dtype not in (DType.I32, DType.I64):
        return None
    known = sizes(value) if all(d == 1 for d in shape) and len(shape) < 2 else None
    if known is not None and len(known) == 1:
        return Counting(shape, (0,) * len(shape), known[0])
    node = value.node
    if node is None or node.domain or not depth:
        return None if value.const is None else counting_constant(value.const, shape)
    if node.op == "Range":
        start, step = (counting(node.operand(i), sizes, depth - 1) for i in (0, 2))
        return None if start is None or step is None else Counting(shape, (step.offset,), start.offset, value)
    if node.op in ARITHMETIC:
        a, b = (counting(node.operand(i), sizes, depth - 1) for i in (0, 1))
        return None if a is None or b is None else arithmetic(node.op, stretched(a, shape), stretched(b, shape))
    if node.op in ("Expand", "Identity", "Cast", *RESHAPES):
        inner = counting(node.operand(0), sizes, depth - 1)
        if inner is None:
            return None
        return stretched(inner, shape) if node.op in ("Expand", "Identity", "Cast") else rearranged(inner, shape)
    return None


ARITHMETIC = ("Add", "Sub", "Mul")
READ = 1 << 16
"""Constants of more elements are not looked at."""


def counting_constant(tensor: Tensor, shape: Shape) -> Counting | None:
    """How the elements of a constant count, where they do."""
    if not 0 < tensor.count <= READ or isinstance(tensor, Placeholder):
        return None
    array = tensor.numpy().astype(np.int64)
    first = array.reshape(-1)[0]
    strides = [int(array.take(1, axis).reshape(-1)[0] - first) if d > 1 else 0 for axis, d in enumerate(array.shape)]
    grid = sum((stride * axis for stride, axis in zip(strides, np.indices(array.shape), strict=True)), first)
    return Counting(shape, tuple(strides), int(first)) if np.array_equal(array, grid) else None


def stretched(a: Counting, shape: Shape) -> Counting:
    """The tensor broadcast to a shape."""
    padding = len(shape) - len(a.shape)
    strides = (*(0,) * padding, *(0 if d == 1 else s for d, s in zip(a.shape, a.strides, strict=True)))
    return Counting(shape, strides, a.offset, a.source)


def rearranged(a: Counting, shape: Shape) -> Counting | None:
    """The tensor with axes of size 1 put in or left out."""
    kept = [(d, s) for d, s in zip(a.shape, a.strides, strict=True) if d != 1]
    if [d for d, _ in kept] != [d for d in shape if d != 1]:
        return None
    strides = iter([s for _, s in kept])
    return Counting(shape, tuple(0 if d == 1 else next(strides) for d in shape), a.offset, a.source)


def arithmetic(op: str, a: Counting, b: Counting) -> Counting | None:
    """The sum, the difference, or the product with one number."""
    if op == "Mul":
        number, other = (a.constant, b) if a.constant is not None else (b.constant, a)
        if number is None:
            return None
        return Counting(a.shape, tuple(s * number for s in other.strides), other.offset * number)
    sign = 1 if op == "Add" else -1
    strides = tuple(x + y * sign for x, y in zip(a.strides, b.strides, strict=True))
    return Counting(a.shape, strides, a.offset + b.offset * sign)


def takes_all_in_order(indices: Counting, count: Size) -> bool:
    """True where the elements in C order are 0, 1, ... up to `count`."""
    step: Size = 1
    for size, stride in zip(reversed(indices.shape), reversed(indices.strides), strict=True):
        if size == 1:
            continue
        if stride != step:
            return False
        step = step * size
    return indices.offset == 0 and step == count


def reshaped(op: Builder, data: Value, wanted: Sequence[Size]) -> Value | None:
    """A tensor's elements in order in another shape, from the first of the tensors that it is a reshaping of for which
    the target is constant.
    """
    source: Value | None = data
    while source is not None:
        target = reshape_target(source.shape, wanted)
        if target is not None and source.shape is not None:
            return op.Reshape(source, list(target))
        node = source.node
        source = node.operand(0) if node is not None and node.op in RESHAPES and not node.domain else None
    return None


@rule("Gather")
def reshape_instead_of_gather(op: Builder, node: Node) -> Result:
    """A Gather of all entries of an axis in order is a reshaping."""
    data, indices = node.operand(0), node.operand(1)
    if data.shape is None or not data.shape or indices.is_const:
        return decline("its operand's shape is not known, or its indices are a constant")
    axis = node.int("axis", 0) % len(data.shape)
    found = counting(indices, op.sizes)
    if found is None or not takes_all_in_order(found, data.shape[axis]):
        return decline("it does not take everything in order")
    made = reshaped(op, data, (*data.shape[:axis], *found.shape, *data.shape[axis + 1 :]))
    return made if made is not None else decline("several sizes are not those of its operand")


@rule("GatherND")
def reshape_instead_of_gather_nd(op: Builder, node: Node) -> Result:
    """A GatherND whose indices along each axis count through it is a reshaping; along an axis of another size they are
    those of a Gather.
    """
    data, joined = node.operand(0), node.operand(1).node
    if data.shape is None or joined is None or node.operand(1).op != "Concat" or node.int("batch_dims", 0):
        return decline("its indices are not joined from those of each axis")
    shape = joined.output.shape
    if shape is None or joined.int("axis") % len(shape) != len(shape) - 1 or len(joined.inputs) != shape[-1]:
        return decline("its indices are not joined from those of each axis")
    places = [counting(v, op.sizes) if v is not None else None for v in joined.inputs]
    taken = [axis_counted(p) if p is not None else None for p in places]
    used = [a for a in taken if a is not None]
    if len(used) != len(taken) or used != sorted(set(used)):
        return decline("it does not take everything in order")
    if any(size != 1 and axis not in used for axis, size in enumerate(shape[:-1])):
        return decline("it repeats entries")
    rest = data.shape[len(used) :]
    parts = [(i, p) for i, p in enumerate(places) if p is not None and shape[used[i]] != data.shape[i]]
    for axis, place in parts:
        if place.source is None:
            return decline("it takes a part of an axis by computed indices")
        data = op.Gather(data, place.source, axis=axis)
    made = reshaped(op, data, (*shape[:-1], *rest))
    return made if made is not None else decline("several sizes are not those of its operand")


def axis_counted(indices: Counting) -> int | None:
    """The axis along which indices are 0, 1, ..., where they do not change along others."""
    moving = [i for i, s in enumerate(indices.strides) if s != 0]
    return moving[0] if len(moving) == 1 and indices.offset == 0 and indices.strides[moving[0]] == 1 else None


@rule("Gather")
def slice_rows_of_table(op: Builder, node: Node) -> Result:
    """Rows of a constant table at a slice of constant indices are a slice of the rows at all of these."""
    table, cut = node.operand(0), node.operand(1).node
    if table.const is None or cut is None or node.operand(1).op != "Slice" or node.int("axis", 0):
        return decline("it does not take rows of a constant table at a slice of indices")
    indices = cut.operand(0)
    if indices.const is None or table.only_user is not node or indices.tensor.count > table.tensor.shape[0]:
        return decline("the indices are no constant, or the rows at all of them take more than the table")
    axes = op.sizes(cut.input(3)) if cut.input(3) is not None else tuple(range(len(op.sizes(cut.operand(1)) or ())))
    rank = indices.tensor.rank
    known = [a % rank for a in axes or () if isinstance(a, int)]
    rows = op.Gather(table, indices)
    if not known or len(known) != len(axes or ()) or rows.const is None:
        return decline("the axes of the slice are not known")
    return op.Slice(rows, cut.operand(1), cut.operand(2), known, *cut.inputs[4:])


@rule("ScatterND")
def scatter_everything(op: Builder, node: Node) -> Result:
    """A ScatterND of all entries of the first axis in order is its updates."""
    data, indices, updates = (node.operand(i) for i in range(3))
    if node.str("reduction", "none") != "none" or data.shape is None or indices.rank != 2:
        return decline("it adds to what is there, or its indices are not a column")
    found = counting(indices, op.sizes)
    if found is None or found.strides[0] != 1 or found.offset != 0 or indices.shape != (data.shape[0], 1):
        return decline("it does not replace everything in order")
    return updates if updates.type == data.type else decline("it does not replace everything in order")


COMPARISONS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual"}


def decided(node: Node, sizes: Sizes) -> bool | None:
    """What a comparison of tensors that count gives for all elements, None where this is open."""
    a, b = (counting(node.operand(i), sizes) for i in (0, 1))
    shape = node.output.shape
    if a is None or b is None or shape is None:
        return None
    difference = arithmetic("Sub", stretched(a, shape), stretched(b, shape))
    if difference is None:
        return None
    low, high = difference.bounds()
    if node.op in ("Less", "GreaterOrEqual"):
        yes = low is not None and at_least(low, 0)
        no = high is not None and at_least(-1, high)
    else:
        yes = low is not None and at_least(low, 1)
        no = high is not None and at_least(0, high)
    if not yes and not no:
        return None
    return yes if node.op.startswith("Greater") else no


RULES = (reshape_instead_of_gather, reshape_instead_of_gather_nd, slice_rows_of_table, scatter_everything)
