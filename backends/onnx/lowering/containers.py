"""Sequences and optionals: SequenceMap as a loop (opset 17), and what asks for an optional and gets something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, Node, SequenceType, TensorType, Value, constant
from .form import Inexpressible
from .loops import inlined, loop


def sequence_map(node: Node, op: Builder) -> Sequence[Value | None]:
    """A loop that puts what the body makes of the elements at the end of sequences (SequenceMap-17)."""
    own = node.operands
    operands = [v for v in own if v is not None]
    captured = [v for v in node.inputs[len(own) :] if v is not None]
    empty: list[Value] = []
    for value in node.outputs:
        element = value.type.element if isinstance(value.type, SequenceType) else None
        if not isinstance(element, TensorType):
            raise Inexpressible("the element type of a sequence that it makes is not known")
        empty.append(op.SequenceEmpty(dtype=element.dtype.code))
        empty[-1].type = SequenceType(TensorType(element.dtype, None))

    def turn(body: Builder, i: Value, carried: Sequence[Value], outer: Sequence[Value]) -> list[Value]:
        given = [
            body.SequenceAt(inner, i) if isinstance(v.type, SequenceType) else inner
            for v, inner in zip(operands, outer, strict=False)
        ]
        results = inlined(node.regions["body"], [*given, *outer[len(operands) :]], body)
        return [body.SequenceInsert(s, v) for s, v in zip(carried, results, strict=True)]

    return list(loop(op, op.SequenceLength(operands[0]), empty, [*operands, *captured], turn))


def is_no_optional(node: Node) -> bool:
    """True where the operand is missing, a tensor or a sequence, which older opsets did not take."""
    value = node.input(0)
    return value is None or isinstance(value.type, (TensorType, SequenceType))


def optional_has_element(node: Node, _: Builder) -> Sequence[Value | None]:
    return [constant(np.array(node.input(0) is not None))]


def optional_get_element(node: Node, op: Builder) -> Sequence[Value | None]:
    return [op.Identity(node.operand(0))]


def is_sequence(node: Node) -> bool:
    return isinstance(node.operand(0).type, SequenceType)


def identity_of_sequence(node: Node, op: Builder) -> Sequence[Value | None]:
    """A sequence from which the element that has just been put in is taken out again (Identity-14)."""
    x = node.operand(0)
    element = x.type.element if isinstance(x.type, SequenceType) else None
    if not isinstance(element, TensorType):
        raise Inexpressible("the element type of its sequence is not known")
    one_more = op.SequenceInsert(x, constant(np.zeros((), element.dtype.numpy)))
    one_more.type = x.type
    return [op.SequenceErase(one_more)]
