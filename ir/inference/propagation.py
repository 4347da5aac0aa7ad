"""How the known elements of small integer tensors follow from those of operands: one row per operator.

A row gives the elements of the first output, or a list with those of each output. Integer arithmetic that would depend on the sign or
the range of a symbol is left open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Union

from ..dims import Size, at_least, exact_div, floordiv, maximum, minimum, mod
from ..graph import Node
from ..tensors import Tensor
from ..types import DType
from .contents import MAX_ENTRIES, Contents, Entries
from .creation import range_length
from .elements import element_type
from .movement import shape_slice
from .operands import shape_or_none, vector_length, volume

Propagation = Callable[[Node, Contents], Union[Entries, list[Entries], None]]
Binary = Callable[[Size, Size], Union[Size, None]]


# Elementwise


def aligned(node: Node, contents: Contents) -> list[Entries] | None:
    """The operands' elements, single ones repeated to the length of the others; None where an operand is unknown altogether."""
    found: list[Entries] = []
    for value in node.inputs:
        entries = contents.of(value)
        if entries is None:
            return None
        found.append(entries)
    count = max((len(e) for e in found if len(e) != 1), default=1)
    if any(len(e) not in (1, count) for e in found):
        return None
    return [e * count if len(e) == 1 else e for e in found]


def elementwise(function: Callable[..., Size | None]) -> Propagation:
    """The function of the operands' elements, one by one; unknown where one of them is."""

    def rule(node: Node, contents: Contents) -> Entries | None:
        found = aligned(node, contents)
        if found is None:
            return None
        return tuple(None if None in xs else function(*xs) for xs in zip(*found, strict=True))

    return rule


def folded(function: Binary) -> Propagation:
    """A function of two elements over any number of operands."""

    def over(*xs: Size) -> Size | None:
        return reduce(lambda a, b: None if a is None else function(a, b), xs[1:], xs[0])  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType, reportUnknownArgumentType]

    return elementwise(over)


def divide(node: Node, contents: Contents) -> Entries | None:
    """Integers round towards zero, which floor division does only for numbers of at least 0; floats must divide exactly (Div-14)."""
    dtype = element_type(node.output)
    exactly = dtype is None or dtype.is_float
    return elementwise(exact_quotient if exactly else truncated_quotient)(node, contents)  # pyright: ignore[reportReturnType]


def exact_quotient(a: Size, b: Size) -> Size | None:
    return exact_div(a, b)


def truncated_quotient(a: Size, b: Size) -> Size | None:
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    return floordiv(a, b) if at_least(a, 0) and at_least(b, 1) else None


def modulo(node: Node, contents: Contents) -> Entries | None:
    """The remainder has the divisor's sign, or with `fmod` the dividend's (Mod-13)."""
    return elementwise(truncated_remainder if node.int("fmod") else floored_remainder)(node, contents)  # pyright: ignore[reportReturnType]


def floored_remainder(a: Size, b: Size) -> Size | None:
    if isinstance(a, int) and isinstance(b, int):
        return a % b if b else None
    return mod(a, b) if at_least(b, 1) else None


def truncated_remainder(a: Size, b: Size) -> Size | None:
    if isinstance(a, int) and isinstance(b, int):
        return int(math.copysign(abs(a) % abs(b), a)) if b else None
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


def logical_not(a: Size) -> Size | None:
    return 1 - a


def logical(function: Callable[[bool, bool], bool]) -> Propagation:
    def both(a: Size, b: Size) -> int | None:
        return int(function(bool(a), bool(b))) if isinstance(a, int) and isinstance(b, int) else None

    return elementwise(both)


def where(node: Node, contents: Contents) -> Entries | None:
    """Elements of the second operand where the first is true, else of the third (Where-16)."""
    found = aligned(node, contents)
    if found is None:
        return None
    return tuple(
        (yes if c else no) if isinstance(c, int) else (yes if yes == no else None) for c, yes, no in zip(*found, strict=True)
    )


def cast(node: Node, contents: Contents) -> Entries | None:
    """The same numbers; what the new type cannot hold exactly is dropped where they are stored (Cast-25)."""
    entries = contents.of(node.operand(0))
    if entries is None or element_type(node.output) is not DType.BOOL:
        return entries
    return tuple(None if x is None else _truth(x) for x in entries)


def _truth(x: Size) -> int | None:
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


def concat(node: Node, contents: Contents) -> Entries | None:
    """The operands' elements one after the other, unknown ones of known number included (Concat-13)."""
    out: list[Size | None] = []
    for value in node.inputs:
        entries = contents.of(value)
        if entries is None:
            length = vector_length(value)
            if length is None or length > MAX_ENTRIES:
                return None
            entries = (None,) * length
        out += entries
    return tuple(out)


def gather(node: Node, contents: Contents) -> Entries | None:
    """The elements at the indices (Gather-13)."""
    data, indices = contents.of(node.operand(0)), contents.of(node.operand(1))
    shape = shape_or_none(node.operand(0))
    if data is None or indices is None or shape is None or len(shape) != 1:
        return None
    return tuple(data[i] if isinstance(i, int) and -len(data) <= i < len(data) else None for i in indices)


def slice_(node: Node, contents: Contents) -> Entries | None:
    """A Python slice of a vector (Slice-13)."""
    data = contents.of(node.operand(0))
    start, end = (contents.scalar(node.operand(i)) for i in (1, 2))
    step = 1 if node.input(4) is None else contents.scalar(node.operand(4))
    if data is None or not isinstance(start, int) or not isinstance(end, int) or not isinstance(step, int) or step < 1:
        return None
    return data[start:end:step]


def split(node: Node, contents: Contents) -> list[Entries] | None:
    """Consecutive pieces of a vector, as long as the outputs' types say (Split-18)."""
    data = contents.of(node.operand(0))
    lengths = [vector_length(v) for v in node.outputs]
    if data is None or None in lengths:
        return None
    out: list[Entries] = []
    start = 0
    for length in lengths:
        assert length is not None
        out.append(data[start : start + length])
        start += length
    return out


def expand(node: Node, contents: Contents) -> Entries | None:
    """A single element repeated, or the vector itself (Expand-13)."""
    data, length = contents.of(node.operand(0)), vector_length(node.output)
    if data is None or length is None or length > MAX_ENTRIES:
        return data
    return data * length if len(data) == 1 else data


def tile(node: Node, contents: Contents) -> Entries | None:
    """The vector repeated (Tile-13)."""
    data, repeats = contents.of(node.operand(0)), contents.scalar(node.operand(1))
    if data is None or not isinstance(repeats, int) or not 0 <= repeats * len(data) <= MAX_ENTRIES:
        return None
    return data * repeats


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
    lengths = contents.integers(node.operand(0))
    if lengths is None or not 0 <= math.prod(lengths) <= MAX_ENTRIES:
        return None
    value = node.attr("value")
    number = value.numpy().reshape(-1).tolist()[0] if isinstance(value, Tensor) and value.count == 1 else 0
    return (int(number),) * math.prod(lengths) if number == math.floor(number) else None


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


def reduction(function: Callable[[Sequence[Size]], Size | None]) -> Propagation:
    """A whole vector to one number."""

    def rule(node: Node, contents: Contents) -> Entries | None:
        data = contents.whole(node.operand(0))
        if not data or (node.int("noop_with_empty_axes") and node.input(1) is None):
            return None
        return (function(data),)

    return rule


def total(sizes: Sequence[Size]) -> Size:
    return reduce(lambda a, b: a + b, sizes)


def add(a: Size, b: Size) -> Size:
    return a + b


def subtract(a: Size, b: Size) -> Size:
    return a - b


def multiply(a: Size, b: Size) -> Size | None:
    return volume([a, b])


def negative(a: Size) -> Size:
    return -a


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
    "Div": divide,
    "Equal": elementwise(equal),
    "Expand": expand,
    "Floor": unchanged,
    "Gather": gather,
    "Greater": elementwise(lambda a, b: less(b, a)),
    "GreaterOrEqual": elementwise(lambda a, b: less_or_equal(b, a)),
    "Identity": unchanged,
    "Less": elementwise(less),
    "LessOrEqual": elementwise(less_or_equal),
    "Max": folded(maximum),
    "Min": folded(minimum),
    "Mod": modulo,
    "Mul": elementwise(multiply),
    "Neg": elementwise(negative),
    "Not": elementwise(logical_not),
    "Or": logical(lambda a, b: a or b),
    "Range": range_,
    "ReduceMax": reduction(lambda xs: reduce(maximum, xs)),
    "ReduceMin": reduction(lambda xs: reduce(minimum, xs)),
    "ReduceProd": reduction(volume),
    "ReduceSum": reduction(total),
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
    "Transpose": unchanged,
    "Unsqueeze": unchanged,
    "Where": where,
    "Xor": logical(lambda a, b: a != b),
}
