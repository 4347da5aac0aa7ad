"""What every shape rule uses: reading operands, normalising axes, broadcasting, and the two ways of giving up.

A rule maps a node to what it knows of its outputs. A size that it cannot compute is None in its answer; a rank that
it cannot compute is `Unknown`; operands that contradict each other are a `Mismatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Union

from ..dims import Call, Dim, Size, at_least, floordiv
from ..graph import Node, Value
from ..types import Shape, TensorType, Type
from .contents import Contents

Partial = tuple[Union[Size, None], ...]
"""A shape in which None stands for a size that the rule does not know."""

Answer = Union[Partial, Type, None]
"""What a rule knows of one output: its shape (the element type comes from the schema), its whole type, or nothing."""

Rule = Callable[[Node, Contents], Union[Answer, list[Answer]]]
"""A list answers for each output in order; anything else answers for the first."""

MAX_TERMS = 32


class Unknown(Exception):
    """Not enough is known of the operands to tell even the rank."""


class Mismatch(Exception):
    """Operands contradict each other or the attributes: the node cannot run."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(f"expected {expected}, found {found}")


def shape_of(node: Node, index: int) -> Shape:
    """The shape of operand `index`. Raises Unknown where it is missing or of unknown rank."""
    value = node.input(index)
    if value is None or not isinstance(value.type, TensorType) or value.type.shape is None:
        raise Unknown
    return value.type.shape


def shape_or_none(value: Value | None) -> Shape | None:
    """The shape of an operand that need not be there or be known."""
    return value.shape if value is not None else None


def shape_of_rank(node: Node, index: int, rank: int) -> Shape:
    """The shape of operand `index`, which must have `rank` axes."""
    shape = shape_of(node, index)
    if len(shape) != rank:
        raise Mismatch(f"operand {index} of rank {rank}", f"rank {len(shape)}")
    return shape


def normalized_axis(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises Mismatch where it is not in [-rank, rank)."""
    if not -rank <= axis < rank:
        raise Mismatch(f"an axis between {-rank} and {rank - 1}", str(axis))
    return axis % rank


def normalized_axes(axes: Iterable[int], rank: int) -> list[int]:
    """Axes counted from the front, in the order given. Raises Mismatch for one that is out of range or repeated."""
    out = [normalized_axis(a, rank) for a in axes]
    if len(set(out)) != len(out):
        raise Mismatch("different axes", str(out))
    return out


def vector_length(value: Value | None) -> int | None:
    """The number of elements of a rank-1 operand, where it is known."""
    shape = shape_or_none(value)
    return shape[0] if shape is not None and len(shape) == 1 and isinstance(shape[0], int) else None


def is_fresh(size: Size) -> bool:
    """True where a fresh symbol is part of the size: it means nothing outside this graph."""
    return isinstance(size, Dim) and size.has_fresh


def agree(sizes: Iterable[Size | None], what: str) -> Size | None:
    """The most telling of sizes that are equal whenever the node runs. Raises Mismatch where two known ones differ."""
    best: Size | None = None
    for size in sizes:
        if size is None or size is best:
            continue
        if isinstance(best, int):
            if isinstance(size, int) and size != best:
                raise Mismatch(f"{what} {best}", str(size))
        elif best is None or isinstance(size, int) or (is_fresh(best) and not is_fresh(size)):
            best = size
    return best


def is_capped(size: Size | None, other: Size | None) -> bool:
    """True for min(k, other) with a number k of at least 1: it is 0 or 1 only where `other` is, or where k is 1."""
    if not isinstance(size, Dim) or not isinstance(other, Dim) or len(size.terms) != 1:
        return False
    (atoms, factor) = size.terms[0]
    if factor != 1 or len(atoms) != 1 or not isinstance(atoms[0], Call) or atoms[0].function != "min":
        return False
    a, b = atoms[0].args
    return (a is other and isinstance(b, int) and b >= 1) or (b is other and isinstance(a, int) and a >= 1)


def broadcast_size(a: Size | None, b: Size | None) -> Size | None:
    """The size of an axis that broadcasts `a` against `b`: equal sizes stay, 1 yields to the other.

    A symbol may turn out to be 1, so of two different symbols only one that is at least 2 settles the result; an
    integer other than 1 always does. A symbol against a slice of as much of it as there is (`S` against `min(512,
    S)`) stays as well.
    """
    if a is b or b == 1 or is_capped(b, a):
        return a
    if a == 1 or is_capped(a, b):
        return b
    if isinstance(a, int) and isinstance(b, int):
        if a != b:
            raise Mismatch(f"sizes that broadcast against {a}", str(b))
        return a
    for size in (a, b):
        if isinstance(size, int) or (size is not None and at_least(size, 2)):
            return size
    return None


def broadcast(shapes: Sequence[Partial]) -> Partial:
    """The common shape of operands under ONNX's multidirectional (numpy) broadcasting."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    rank = max(len(s) for s in shapes)
    out: list[Size | None] = [1] * rank
    for shape in shapes:
        start = rank - len(shape)
        for i, size in enumerate(shape):
            out[start + i] = broadcast_size(out[start + i], size)
    return tuple(out)


def volume(sizes: Iterable[Size | None]) -> Size | None:
    """The product of sizes; None where one is unknown or the product would be unwieldy."""
    out: Size = 1
    for size in sizes:
        if size is None or (
            isinstance(out, Dim) and isinstance(size, Dim) and len(out.terms) * len(size.terms) > MAX_TERMS
        ):
            return None
        out = out * size
    return out


def ceildiv(a: Size, b: int) -> Size:
    """a / b rounded up, b positive."""
    return floordiv(a + (b - 1), b)


def same_shape(node: Node, contents: Contents) -> Answer:
    """The shape of the first operand."""
    return shape_of(node, 0)


def vector_entries(value: Value | None, contents: Contents) -> tuple[Size | None, ...]:
    """The entries of a vector operand, unknown ones as None. Raises Unknown where not even their number is known."""
    found = contents.of(value)
    if found is not None:
        return found
    length = vector_length(value)
    if length is None:
        raise Unknown
    return (None,) * length
