"""Bringing two types of one value together: what was declared and what a rule found, or what two branches yield."""

from __future__ import annotations

from ..dims import Dim, Size, fresh
from ..types import ANY, AnyType, OptionalType, SequenceType, Shape, TensorType, Type
from .operands import Partial, is_fresh

MAX_TEXT = 240
"""Longer sizes count as unknown: nothing downstream could use them, and they would grow with every node."""


def merged_size(old: Size | None, new: Size | None, keep_fresh: bool = False) -> Size:
    """The better of a declared and an inferred size.

    A size in which a fresh symbol occurs yields to a number or a name. Otherwise the inferred size wins, also over a
    different number: it follows from the graph's inputs, which a declaration may contradict but not change. Where
    both are fresh the inferred one wins (it relates the value to others) unless `keep_fresh` says that the rule has
    just made it up.
    """
    if isinstance(new, Dim) and len(str(new)) > MAX_TEXT:
        new = None
    if new is None:
        return fresh() if old is None else old
    if old is not None and is_fresh(new) and (keep_fresh or not is_fresh(old)):
        return old
    return new


def merged_shape(old: Shape | None, new: Partial, keep_fresh: bool = False) -> Shape:
    """A shape from a rule's answer, completed by a declared one of the same rank and by fresh symbols."""
    if old is not None and old == new:
        return old
    if old is None or len(old) != len(new):
        return tuple([b if isinstance(b, int) else merged_size(None, b) for b in new])
    return tuple([merged_size(a, b, keep_fresh) for a, b in zip(old, new, strict=True)])


def merged(old: Type, new: Type) -> Type:
    """The better of a declared and an inferred type; the inferred one decides its kind and element type."""
    if isinstance(new, AnyType):
        return old
    if isinstance(new, TensorType):
        if not isinstance(old, TensorType):
            return new
        shape = old.shape if new.shape is None else merged_shape(old.shape, new.shape, keep_fresh=True)
        return TensorType(new.dtype, shape)
    for kind in (SequenceType, OptionalType):
        if isinstance(new, kind) and isinstance(old, kind):
            return kind(merged(old.element, new.element))
    return new


def unified(a: Type, b: Type) -> Type:
    """What is true of both types: sizes that differ become unknown, then ranks, then everything."""
    if a == b:
        return a
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        if a.dtype is not b.dtype:
            return ANY
        if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
            return TensorType(a.dtype, None)
        return TensorType(a.dtype, tuple(x if x == y else fresh() for x, y in zip(a.shape, b.shape, strict=True)))
    for kind in (SequenceType, OptionalType):
        if isinstance(a, kind) and isinstance(b, kind):
            element = unified(a.element, b.element)
            return ANY if isinstance(element, AnyType) else kind(element)
    return ANY


def blurred(type_: Type, known: frozenset[Dim] = frozenset()) -> Type:
    """The type with a new unknown for each size that a fresh symbol occurs in, apart from `known` ones.

    For what leaves the place where its fresh symbols mean something: an element of a sequence, an iteration of a loop.
    """
    if isinstance(type_, TensorType) and type_.shape is not None:
        if not any(is_fresh(d) and d not in known for d in type_.shape):
            return type_
        return type_.with_shape(tuple(fresh() if is_fresh(d) and d not in known else d for d in type_.shape))
    for kind in (SequenceType, OptionalType):
        if isinstance(type_, kind):
            return kind(blurred(type_.element, known))
    return type_
