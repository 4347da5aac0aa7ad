"""A form: how a node is spelled at an opset, and the edits that many rows share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ....ir import Node, Value
from ....ir.attributes import Attribute


class Inexpressible(Exception):
    """A node has no spelling at an opset; the text says what of it is too new."""


@dataclass
class Form:
    """How a node is spelled: the operator's name, the operands without captures, and the attributes."""

    node: Node
    op: str
    operands: list[Value | None]
    attrs: dict[str, Attribute]

    def operand(self, index: int) -> Value | None:
        return self.operands[index] if index < len(self.operands) else None

    def integers(self, index: int, what: str) -> list[int] | None:
        """The numbers of a constant operand; None where it is missing. Raises Inexpressible where it is computed."""
        value = self.operand(index)
        if value is None:
            return None
        if value.const is None:
            raise Inexpressible(f"its {what} are computed")
        return [int(i) for i in value.const.numpy().reshape(-1).tolist()]

    def rank(self, index: int = 0) -> int:
        """The rank of an operand. Raises Inexpressible where it is not known."""
        value = self.operand(index)
        if value is None or value.rank is None:
            raise Inexpressible("the rank of its operand is not known")
        return value.rank


FormRule = Callable[[Form], None]


def form_of(node: Node) -> Form:
    """The canonical form, to be edited."""
    return Form(node, node.op, list(node.operands), dict(node.attrs))


def without(*names: str, unless: Callable[[Attribute], bool] = lambda _: True) -> FormRule:
    """The attributes did not exist; a node can be written only where `unless` says that their value means nothing."""

    def rule(form: Form) -> None:
        for name in names:
            value = form.node.attr(name)
            if value is not None and not unless(value):
                raise Inexpressible(f"{name}={value!r} does not exist there")
            form.attrs.pop(name, None)

    return rule


def equal_to(default: Attribute) -> Callable[[Attribute], bool]:
    return lambda value: value == default


def all_ones(value: Attribute) -> bool:
    return isinstance(value, tuple) and all(v == 1 for v in value)


def only(name: str, *values: str) -> FormRule:
    """The attribute knew these values alone."""

    def rule(form: Form) -> None:
        value = form.node.attr(name)
        if value is not None and value not in values:
            raise Inexpressible(f"{name}={value!r} does not exist there")

    return rule


def without_operand(index: int, what: str) -> FormRule:
    """The operand did not exist."""

    def rule(form: Form) -> None:
        if form.operand(index) is not None:
            raise Inexpressible(f"{what} does not exist there")
        del form.operands[index:]

    return rule


def with_operand(index: int, what: str) -> FormRule:
    """The operand could not be left out."""

    def rule(form: Form) -> None:
        if form.operand(index) is None:
            raise Inexpressible(f"{what} cannot be left out there")

    return rule


def all_of(*rules: FormRule) -> FormRule:
    def rule(form: Form) -> None:
        for each in rules:
            each(form)

    return rule


def axes_attribute(form: Form) -> None:
    """`axes` was an attribute; leaving it out meant all axes (Squeeze, Unsqueeze and ReduceSum-13, Reduce*-18)."""
    axes = form.integers(1, "axes")
    if not axes and form.node.int("noop_with_empty_axes", 0):
        raise Inexpressible("noop_with_empty_axes does not exist there")
    form.attrs.pop("noop_with_empty_axes", None)
    del form.operands[1:]
    if axes:
        form.attrs["axes"] = tuple(axes)
