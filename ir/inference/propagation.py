"""How the known elements of small integer tensors follow from those of operands: one row per operator.

A row gives the elements of the first output, or a list with those of each output, in C order. What integer arithmetic
would need the sign or the range of a symbol for is left open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Union

import numpy as np

from ..dims import Size, at_least, exact_div, floordiv, maximum, minimum, mod
from ..graph import Node, Value
from ..tensors import Tensor
from ..types import DType, TensorType
from .contents import MAX_ENTRIES, Contents, Entries, Grid, as_grid
from .creation import range_length
from .elements import element_type
from .movement import shape_slice
from .operands import shape_or_none, volume

Propagation = Callable[[Node, Contents], Union[Entries, list[Entries], None]]


def flat(grid: Grid) -> Entries:
    """A grid's entries in C order."""
    return tuple(grid.reshape(-1).tolist())


def static_shape(value: Value | None) -> tuple[int, ...] | None:
    """A tensor's shape where every size is a number."""
    return value.type.static_shape if value is not None and isinstance(value.type, TensorType) else None


# Elementwise


def aligned(node: Node, contents: Contents) -> list[Entries] | None:
    """The operands' elements broadcast against each other; None where an operand is unknown altogether."""
    grids: list[Grid] = []
    for value in node.inputs:
        grid = contents.grid(value)
        if grid is None:
            return None
        grids.append(grid)
    return [flat(g) for g in np.broadcast_arrays(*grids)]


def elementwise(function: Callable[..., Size | None]) -> Propagation:
    """The function of the operands' elements, one by one; unknown where one of them is."""

    def rule(node: Node, contents: Contents) -> Entries | None:
        found = aligned(node, contents)
        if found is None:
            return None
        return tuple(None if None in xs else function(*xs) for xs in zip(*found, strict=True))

    return rule


def folded(function: Callable[[Size, Size], Size]) -> Propagation:
    """A function of two elements over any number of operands."""
    return elementwise(lambda *xs: reduce(function, xs))


def by(choose: Callable[[Node], Callable[..., Size | None]]) -> Propagation:
    """Elementwise by a function that depends on the node."""
    return lambda node, contents: elementwise(choose(node))(node, contents)


def quotient(node: Node) -> Callable[[Size, Size], Size | None]:
    """Integers round towards zero (Div-14); of floats only exact quotients are tracked."""
    dtype = element_type(node.output)
    return exact_div if dtype is None or dtype.is_float else truncated_quotient


def truncated_quotient(a: Size, b: Size) -> Size | None:
    """Floor division is the same for numbers of at least 0."""
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    return floordiv(a, b) if at_least(a, 0) and at_least(b, 1) else None


def remainder(node: Node) -> Callable[[Size, Size], Size | None]:
    """The remainder has the divisor's sign, or with `fmod` the dividend's (Mod-13)."""
    return truncated_remainder if node.int("fmod") else floored_remainder


def floored_remainder(a: Size, b: Size) -> Size | None:
    if isinstance(a, int) and isinstance(b, int):
        return a % b if b else None
    return mod(a, b) if at_least(b, 1) else None


def truncated_remainder(a: Size, b: Size) -> Size | None:
    if isinstance(a, int) and isinstance(b, int):
        return (abs(a) % abs(b)) * (-1 if a < 0 else 1) if b else None
    return mod(a, b) if at_least(a, 0) and at_least(b, 1) else None


def absolute(a: Size) -> Size | None:
    return a if at_least(a, 0) else -a if at_least(0, a) else None


def equal(a: Size, b: Size) -> int | None:
    if a == b:
        return 1
    return 0 if at_least(a, b + 1) or at_least(b, a + 1) else None


def less(a: Size, b: Size) -> int | None:
    return 1 if at_least(b, a + 1) else 0 if at_least(a, b) else None


def less_or_equal(a: Size, b: Size) -> int | None:
    return 1 if at_least(b, a) else 0 if at_least(a, b + 1) else None


def greater(a: Size, b: Size) -> int | None:
    return less(b, a)


def greater_or_equal(a: Size, b: Size) -> int | None:
    return less_or_equal(b, a)


def negation(a: Size) -> Size:
    return 1 - a


def logical(function: Callable[[bool, bool], bool]) -> Propagation:
    """A function of truth values that are both known."""

    def both(a: Size, b: Size) -> int | None:
        return int(function(bool(a), bool(b))) if isinstance(a, int) and isinstance(b, int) else None

    return elementwise(both)


def where(node: Node, contents: Contents) -> Entries | None:
    """Elements of the second operand where the first is true, else of the third (Where-16)."""
    found = aligned(node, contents)
    return None if found is None else tuple(selected(*xs) for xs in zip(*found, strict=True))


def selected(condition: Size | None, yes: Size | None, no: Size | None) -> Size | None:
    if isinstance(condition, int):
        return yes if condition else no
    return yes if yes == no else None


def cast(node: Node, contents: Contents) -> Entries | None:
    """The same numbers; what the new type cannot hold exactly is dropped where they are stored (Cast-25)."""
    entries = contents.of(node.operand(0))
    if entries is None or element_type(node.output) is not DType.BOOL:
        return entries
    return tuple(None if x is None else truth(x) for x in entries)


def truth(x: Size) -> int | None:
    return int(bool(x)) if isinstance(x, int) else 1 if at_least(x, 1) or at_least(-1, x) else None


def clip(node: Node, contents: Contents) -> Entries | None:
    """Elements between two scalars, either of which may be missing (Clip-13)."""
    entries = contents.of(node.operand(0))
    for index, function in ((1, maximum), (2, minimum)):
        if entries is None or node.input(index) is None:
            continue
        bound = contents.scalar(node.operand(index))
        entries = None if bound is None else tuple(None if x is None else function(x, bound) for x in entries)
    return entries


# Movement


def unchanged(node: Node, contents: Contents) -> Entries | None:
    """The first operand's elements in order."""
    return contents.of(node.operand(0))


def transpose(node: Node, contents: Contents) -> Entries | None:
    """Elements in the order of the permuted axes (Transpose-25)."""
    grid = contents.grid(node.operand(0))
    return None if grid is None else flat(grid.transpose(node.ints("perm", tuple(reversed(range(grid.ndim))))))


def concat(node: Node, contents: Contents) -> Entries | None:
    """The operands one after the other, unknown ones of known size included (Concat-13)."""
    grids: list[Grid] = []
    for value in node.inputs:
        grid = contents.grid(value)
        if grid is None:
            shape = static_shape(value)
            if shape is None or math.prod(shape) > MAX_ENTRIES:
                return None
            grid = np.full(shape, None, object)
        grids.append(grid)
    return flat(np.concatenate(grids, node.int("axis")))


def gather(node: Node, contents: Contents) -> Entries | None:
    """The slices at the indices (Gather-13)."""
    data, indices = contents.grid(node.operand(0)), contents.integers(node.operand(1))
    if data is None or indices is None:
        return None
    axis = node.int("axis") % data.ndim
    if not all(-data.shape[axis] <= i < data.shape[axis] for i in indices):
        return None
    return flat(
        np.take(data, np.array(indices, np.int64), axis)
    )  # the order of elements does not depend on the indices' shape


def slice_(node: Node, contents: Contents) -> Entries | None:
    """Python slices of the named axes (Slice-13)."""
    data = contents.grid(node.operand(0))
    starts, ends = contents.integers(node.operand(1)), contents.integers(node.operand(2))
    if data is None or starts is None or ends is None:
        return None
    axes = contents.integers(node.input(3)) if node.input(3) is not None else tuple(range(len(starts)))
    steps = contents.integers(node.input(4)) if node.input(4) is not None else (1,) * len(starts)
    if axes is None or steps is None:
        return None
    window = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = data.shape[axis]
        if step < 0:
            last = max(end + size if end < 0 else end, -1)
            window[axis] = slice(start, None if last < 0 else last, step)
        else:
            window[axis] = slice(start, end, step)
    return flat(data[tuple(window)])


def split(node: Node, contents: Contents) -> list[Entries] | None:
    """Consecutive pieces, as long as the outputs' types say (Split-18)."""
    data = contents.grid(node.operand(0))
    shapes = [static_shape(v) for v in node.outputs]
    if data is None:
        return None
    axis = node.int("axis") % data.ndim
    out: list[Entries] = []
    start = 0
    for shape in shapes:
        if shape is None:
            return None
        out.append(flat(np.take(data, range(start, min(start + shape[axis], data.shape[axis])), axis)))
        start += shape[axis]
    return out


def expand(node: Node, contents: Contents) -> Entries | None:
    """The data broadcast to the output's shape (Expand-13)."""
    data, shape = contents.grid(node.operand(0)), static_shape(node.output)
    return None if data is None or shape is None else flat(np.broadcast_to(data, shape))


def tile(node: Node, contents: Contents) -> Entries | None:
    """The data repeated (Tile-13)."""
    data, repeats = contents.grid(node.operand(0)), contents.integers(node.operand(1))
    if data is None or repeats is None or not 0 <= math.prod(repeats) * data.size <= MAX_ENTRIES:
        return None
    return flat(np.tile(data, repeats))


# Making numbers


def shape(node: Node, contents: Contents) -> Entries | None:
    """The operand's sizes (Shape-25)."""
    found = shape_or_none(node.operand(0))
    return None if found is None else found[shape_slice(node)]


def size(node: Node, contents: Contents) -> Entries | None:
    """The number of elements (Size-25)."""
    found = shape_or_none(node.operand(0))
    return None if found is None else (volume(found),)


def constant_of_shape(node: Node, contents: Contents) -> Entries | None:
    """One number throughout (ConstantOfShape-25)."""
    wanted = static_shape(node.output)
    if wanted is None or math.prod(wanted) > MAX_ENTRIES:
        return None
    value = node.attr("value")
    number = value.numpy().reshape(-1).tolist()[0] if isinstance(value, Tensor) and value.count == 1 else 0
    return (int(number),) * math.prod(wanted) if math.isfinite(number) and number == math.floor(number) else None


def constant(node: Node, contents: Contents) -> Entries | None:
    """The integers in the attribute (Constant-25)."""
    value = node.attr("value")
    if not isinstance(value, Tensor) or value.count > MAX_ENTRIES or not value.dtype.is_integer:
        return None
    return tuple(int(x) for x in value.numpy().reshape(-1).tolist())


def range_(node: Node, contents: Contents) -> Entries | None:
    """start, start + delta, ... (Range-11)."""
    start, limit, delta = (contents.scalar(node.operand(i)) for i in range(3))
    length = range_length(start, limit, delta)
    if start is None or delta is None or not isinstance(length, int) or length > MAX_ENTRIES:
        return None
    return tuple(start + i * delta for i in range(length))


def non_zero(node: Node, contents: Contents) -> Entries | None:
    """The indices of elements that are not zero (NonZero-13)."""
    entries = contents.integers(node.operand(0))
    grid = None if entries is None else as_grid(entries, node.operand(0).type)
    if grid is None or grid.ndim == 0:
        return None
    return tuple(int(i) for row in np.nonzero(grid.astype(bool)) for i in row.tolist())


def reduction(function: Callable[[Sequence[Size]], Size | None]) -> Propagation:
    """A whole vector to one number."""

    def rule(node: Node, contents: Contents) -> Entries | None:
        data = contents.whole(node.operand(0))
        rank_one = len(shape_or_none(node.operand(0)) or ()) == 1
        if not data or not rank_one or (node.int("noop_with_empty_axes") and not contents.integers(node.input(1))):
            return None
        return (function(data),)

    return rule


def add(a: Size, b: Size) -> Size:
    return a + b


def subtract(a: Size, b: Size) -> Size:
    return a - b


def negative(a: Size) -> Size:
    return -a


def multiply(a: Size, b: Size) -> Size | None:
    return volume([a, b])


PROPAGATION: dict[str, Propagation] = {
    "Abs": elementwise(absolute),
    "Add": elementwise(add),
    "And": logical(lambda a, b: a and b),
    "Cast": cast,
    "CastLike": cast,
    "Ceil": unchanged,
    "Clip": clip,
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Div": by(quotient),
    "Equal": elementwise(equal),
    "Expand": expand,
    "Flatten": unchanged,
    "Floor": unchanged,
    "Gather": gather,
    "Greater": elementwise(greater),
    "GreaterOrEqual": elementwise(greater_or_equal),
    "Identity": unchanged,
    "Less": elementwise(less),
    "LessOrEqual": elementwise(less_or_equal),
    "Max": folded(maximum),
    "Min": folded(minimum),
    "Mod": by(remainder),
    "Mul": elementwise(multiply),
    "Neg": elementwise(negative),
    "NonZero": non_zero,
    "Not": elementwise(negation),
    "Or": logical(lambda a, b: a or b),
    "Range": range_,
    "ReduceMax": reduction(lambda xs: reduce(maximum, xs)),
    "ReduceMin": reduction(lambda xs: reduce(minimum, xs)),
    "ReduceProd": reduction(volume),
    "ReduceSum": reduction(lambda xs: reduce(add, xs)),
    "Reshape": unchanged,
    "Round": unchanged,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "Split": split,
    "Squeeze": unchanged,
    "Sub": elementwise(subtract),
    "Sum": folded(add),
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unchanged,
    "Where": where,
    "Xor": logical(lambda a, b: a != b),
}
