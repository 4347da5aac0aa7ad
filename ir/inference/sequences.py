"""Sequences, optional values and text.

The element of a sequence's type holds for every element. A fresh symbol in it stands for a size of one element only,
so whoever takes an element out gets a new unknown instead.
"""

from __future__ import annotations

from ..dims import Size, fresh
from ..graph import Node
from ..types import ANY, AnyType, DType, OptionalType, SequenceType, TensorType, Type
from .contents import Contents
from .elements import element_type
from .merging import blurred, unified
from .operands import Answer, Mismatch, Rule, Unknown, is_fresh, normalized_axis, shape_of, shape_or_none


def _sequence(node: Node) -> Type:
    """The element type of the sequence in operand 0. Raises Unknown where it is no known sequence."""
    type_ = node.operand(0).type
    if isinstance(type_, OptionalType):
        type_ = type_.element
    if not isinstance(type_, SequenceType):
        raise Unknown
    return type_.element


def _inserted(element: Type, other: Type) -> Answer:
    """A sequence of `element` once `other` is in it; nothing is said where one of them is not known."""
    if isinstance(element, AnyType) or isinstance(other, AnyType):
        return None
    return SequenceType(unified(element, other))


def sequence_at(node: Node, contents: Contents) -> Answer:
    """One element (SequenceAt-11)."""
    return blurred(_sequence(node))


def sequence_construct(node: Node, contents: Contents) -> Answer:
    """A sequence of the operands (SequenceConstruct-11)."""
    element = node.operand(0).type
    for value in node.inputs[1:]:
        element = ANY if value is None or isinstance(value.type, AnyType) else unified(element, value.type)
    return None if isinstance(element, AnyType) else SequenceType(element)


def sequence_empty(node: Node, contents: Contents) -> Answer:
    """A sequence of tensors of any shape (SequenceEmpty-11)."""
    return SequenceType(TensorType(DType.of_code(node.int("dtype", DType.F32.code)), None))


def sequence_insert(node: Node, contents: Contents) -> Answer:
    """The sequence with one more element (SequenceInsert-11)."""
    return _inserted(_sequence(node), node.operand(1).type)


def sequence_erase(node: Node, contents: Contents) -> Answer:
    """The sequence with one element less (SequenceErase-11)."""
    return SequenceType(_sequence(node))


def scalar(node: Node, contents: Contents) -> Answer:
    """One number, whatever the operand."""
    return ()


def split_to_sequence(node: Node, contents: Contents) -> Answer:
    """Pieces along `axis`, which is dropped where pieces are single and `keepdims` is 0 (SplitToSequence-24)."""
    shape, dtype = shape_of(node, 0), element_type(node.operand(0))
    if dtype is None:
        raise Unknown
    axis = normalized_axis(node.int("axis"), len(shape))
    if node.input(1) is None:
        middle: tuple[Size, ...] = (1,) if node.int("keepdims") else ()
        return SequenceType(TensorType(dtype, (*shape[:axis], *middle, *shape[axis + 1 :])))
    pieces = set(contents.of(node.input(1)) or (None,))
    whole = shape_or_none(node.input(1)) == (1,) or (len(pieces) == 1 and shape_or_none(node.input(1)) != ())
    known = next(iter(pieces)) if whole else None
    return SequenceType(TensorType(dtype, (*shape[:axis], fresh() if known is None else known, *shape[axis + 1 :])))


def concat_from_sequence(node: Node, contents: Contents) -> Answer:
    """Elements along `axis`, or along a new axis there (ConcatFromSequence-11)."""
    element = _sequence(node)
    if not isinstance(element, TensorType) or element.shape is None:
        return TensorType(element.dtype, None) if isinstance(element, TensorType) else None
    shape = tuple(None if is_fresh(d) else d for d in element.shape)
    if node.int("new_axis"):
        axis = normalized_axis(node.int("axis"), len(shape) + 1)
        return (*shape[:axis], None, *shape[axis:])
    axis = normalized_axis(node.int("axis"), len(shape))
    return (*shape[:axis], None, *shape[axis + 1 :])


def optional(node: Node, contents: Contents) -> Answer:
    """The operand's type, or the one in the attribute, made optional (Optional-15)."""
    inner = node.operand(0).type if node.input(0) is not None else node.attr("type")
    if inner is None or isinstance(inner, (AnyType, int, float, str, bytes, tuple)):
        return None
    return OptionalType(inner)  # pyright: ignore[reportArgumentType]  # a type attribute, as the schema says


def optional_get_element(node: Node, contents: Contents) -> Answer:
    """What the optional holds; anything else passes through (OptionalGetElement-18)."""
    type_ = node.operand(0).type
    inner = type_.element if isinstance(type_, OptionalType) else type_
    return None if isinstance(inner, AnyType) else inner


def string_normalizer(node: Node, contents: Contents) -> Answer:
    """The input's shape, or with stop words any number of strings (StringNormalizer-10)."""
    shape = shape_of(node, 0)
    return (*shape[:-1], None) if node.attr("stopwords") else shape


def string_split(node: Node, contents: Contents) -> list[Answer]:
    """Parts along a new last axis, and how many each string has (StringSplit-20)."""
    shape = shape_of(node, 0)
    return [(*shape, None), shape]


def tf_idf_vectorizer(node: Node, contents: Contents) -> Answer:
    """One column per n-gram index (TfIdfVectorizer-9)."""
    shape = shape_of(node, 0)
    if len(shape) not in (1, 2):
        raise Mismatch("an input of rank 1 or 2", f"rank {len(shape)}")
    return (*shape[:-1], max(node.ints("ngram_indexes"), default=-1) + 1)


def image_decoder(node: Node, contents: Contents) -> Answer:
    """[height, width, channels] (ImageDecoder-20)."""
    return (None, None, 1 if node.str("pixel_format") == "Grayscale" else 3)


RULES: dict[str, Rule] = {
    "ConcatFromSequence": concat_from_sequence,
    "ImageDecoder": image_decoder,
    "Optional": optional,
    "OptionalGetElement": optional_get_element,
    "OptionalHasElement": scalar,
    "SequenceAt": sequence_at,
    "SequenceConstruct": sequence_construct,
    "SequenceEmpty": sequence_empty,
    "SequenceErase": sequence_erase,
    "SequenceInsert": sequence_insert,
    "SequenceLength": scalar,
    "SplitToSequence": split_to_sequence,
    "StringNormalizer": string_normalizer,
    "StringSplit": string_split,
    "TfIdfVectorizer": tf_idf_vectorizer,
}
