"""What a raising rule works on: one node on its way from the opset of its file to the canonical one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import numpy as np

from ....ir import ANY, Attribute, Builder, DType, Node, Tensor, TensorType, UnsupportedError, Value, constant
from ....ir.tensors import Array, Dense


class Step:
    """A node that is being raised from one version of its operator to the next, in place.

    A rule changes `node`, which then has the form of the rule's version; `before` and `after` put canonical nodes
    around it, and `replace` says what stands for an output from then on. `used[i]` tells whether anything reads output
    i. Types of operands are known as far as the file declares them or inference got, so a rule must have a form that is
    right without them.
    """

    def __init__(self, node: Node, used: Sequence[bool]) -> None:
        self.end = node.next
        self.node, self.used = node, used
        self.results: list[Value] = list(node.outputs)

    @cached_property
    def before(self) -> Builder:
        """Makes nodes in front of the node."""
        assert self.node.graph is not None
        return Builder(self.node.graph, self.node, loc=self.node.loc)

    @cached_property
    def after(self) -> Builder:
        """Makes nodes behind the node and those that it made already."""
        assert self.node.graph is not None
        return Builder(self.node.graph, self.end, loc=self.node.loc)

    def made(self) -> list[Node]:
        """The node and those that were made around it, in order."""
        kept = vars(self)
        before, after = (kept[k].new if k in kept else () for k in ("before", "after"))
        return [*before, self.node, *after]

    def refuse(self, why: str, do: str = "export the model again with a newer opset") -> UnsupportedError:
        """The error for a form that has no canonical equivalent."""
        return UnsupportedError(f"this form of {self.node.op} cannot be raised", where=self.node.where, why=why, do=do)

    def pop(self, name: str) -> Attribute | None:
        """Takes an attribute away and gives its value, None where it was not set."""
        return self.node.attrs.pop(name, None)

    def put(self, index: int, operand: Value | None) -> None:
        """Sets operand `index`; operands that are missing in front of it are left out."""
        node = self.node
        if operand is not None and index == len(node.inputs):
            node.add_input(operand)
            return
        operands = list(node.inputs)
        operands += [None] * (index + 1 - len(operands))
        operands[index] = operand
        while operands and operands[-1] is None:
            operands.pop()
        node.set_inputs(operands)

    def replace(self, index: int, value: Value) -> None:
        """Makes `value` stand for output `index` of the original node; it takes over name and declared type."""
        old = self.results[index]
        value.name, value.type = old.name, old.type
        old.name, old.type = f"{old.name}/{self.node.op}", ANY
        self.results[index] = value

    def integers(self, numbers: Sequence[int]) -> Value:
        """An int64 vector."""
        return constant(_integers(tuple(numbers)))

    def number_like(self, number: float, like: Value) -> Value:
        """A scalar of the element type of `like`; the number is that of a float32 attribute."""
        exact: Array = np.asarray(number, np.float32)
        if isinstance(like.type, TensorType):
            dtype: DType = like.type.dtype
            return constant(Dense(exact.astype(dtype.numpy), dtype))
        return self.before.CastLike(constant(exact), like)


@lru_cache(maxsize=1024)
def _integers(numbers: tuple[int, ...]) -> Tensor:
    """Axes and pads are few different ones in a model; tensors do not change, so equal ones can be one."""
    return Dense(np.asarray(numbers, np.int64))


Rule = Callable[[Step], None]


def ints(value: Attribute | None) -> list[int]:
    """A list attribute as integers; nothing set is no integers."""
    return [int(v) for v in value] if isinstance(value, tuple) else []  # pyright: ignore[reportArgumentType]
