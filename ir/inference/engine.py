"""One forward pass that gives every value its type, and the same for a single new node after a rewrite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dims import Size, fresh
from ..errors import InvalidModelError
from ..graph import Graph, Node, Value
from ..types import AnyType, DType, Shape, TensorType, Type, sizes_in
from . import contraction, creation, elementwise, indexing, movement, recurrent, reduction, sequences, windows
from .contents import Contents, Entries, tracked_count
from .elements import element_types
from .merging import merged, merged_shape
from .operands import Answer, Mismatch, Partial, Rule, Unknown, is_fresh
from .propagation import PROPAGATION
from .regions import REGIONS

Fallback = Callable[[Node], Sequence[Type] | None]
"""Types of the outputs of a node that no rule covers, or None."""

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **movement.RULES,
    **contraction.RULES,
    **windows.RULES,
    **reduction.RULES,
    **indexing.RULES,
    **creation.RULES,
    **recurrent.RULES,
    **sequences.RULES,
}


STANDARD = ("", "ai.onnx")


def infer(graph: Graph, fallback: Fallback | None = None) -> Inference:
    """Sets the type of every value of a graph and its regions; see `Inference`. Raises InvalidModelError."""
    return Inference(graph, fallback).run()


class Inference:
    """Types of a graph's values, from the types of its inputs and constants and from what its nodes mean.

    What a rule finds refines the type that is there: an unknown size takes the declared one, and a size that a rule
    can only call by a fresh symbol takes a declared number or name. Where the two contradict each other the rule is
    right, because files declare wrong types for inner values and outputs and run all the same. Operands that
    contradict each other make the model invalid, unless their types rest on such declarations or the node is in a
    region, which may never run.

    With `refresh` old types are not believed where something before them changed: run it after a pass that changes
    shapes. Nodes that no rule covers keep their types.
    """

    def __init__(self, graph: Graph, fallback: Fallback | None = None, *, refresh: bool = False) -> None:
        self.graph, self.fallback, self.refresh = graph, fallback, refresh
        self.facts = Contents()
        self._doubtful: set[Value] = set()
        self._changed: set[Value] = set()
        self._promised: dict[Value, Entries | None] = {}
        self._refined = 0
        self.ranks_may_change = False
        """Set while a loop's body is inferred again with wider types; a pass that `refresh` follows keeps ranks."""

    @property
    def changes(self) -> int:
        """How often a type or known elements changed so far: a run that adds nothing found nothing new."""
        return self._refined + self.facts.changes

    @property
    def contents(self) -> dict[Value, tuple[Size, ...]]:
        """The elements of integer and boolean tensors of rank 0 and 1 that are known entirely; booleans as 0 and 1."""
        return self.facts.known

    def contents_of(self, value: Value) -> tuple[Size, ...] | None:
        """The elements of one such tensor, constants included; None where one of them is not known."""
        self.facts.of(value)
        return self.facts.known.get(value)

    def run(self) -> Inference:
        """Infers the whole graph. Raises InvalidModelError where operands of a node do not fit together."""
        for node in self.graph:
            self.node(node)
        return self

    def node(self, node: Node) -> None:
        """Infers the outputs of one node, whose operands have types already. Raises InvalidModelError as `run` does."""
        answers, types = self._answers(node)
        stale = self.refresh and any(v in self._changed for v in node.inputs)
        doubtful = any(v in self._doubtful for v in node.inputs) if self._doubtful else False
        for index, value in enumerate(node.outputs):
            answer = answers[index] if answers is not None and index < len(answers) else None
            old = value.type
            new = self._applied(old, answer, types[index], stale and answers is not None)
            if new is not old and new != old:
                value.type = new
                self._refined += 1
                if self.refresh:
                    self._changed.add(value)
            elif stale and tracked_count(value) is not None:
                self._changed.add(value)
            if doubtful or _rests_on_declaration(old, new, answer):
                self._doubtful.add(value)
            elif self._doubtful:
                self._doubtful.discard(value)
        self._propagate(node)

    def _answers(self, node: Node) -> tuple[Sequence[Answer] | None, Sequence[DType | None]]:
        """What is known of each output (None where neither rule nor fallback covers the node), and element types."""
        types: Sequence[DType | None] = (None,) * len(node.outputs)
        try:
            types = element_types(node)
            rule, regions = (RULES.get(node.op), REGIONS.get(node.op)) if node.domain in STANDARD else (None, None)
            if rule is not None:
                answer = rule(node, self.facts)
            elif regions is not None and node.regions:
                answer = regions(self, node)
            else:
                found = self.fallback(node) if self.fallback is not None else None
                return None if found is None else [_foreign(t, node) for t in found], types
            return answer if isinstance(answer, list) else [answer], types
        except Unknown:
            return [], types
        except (Mismatch, ValueError, IndexError, ZeroDivisionError) as error:
            inside = node.graph is not None and node.graph.parent is not None
            if inside or any(v in self._doubtful for v in node.inputs):
                return [], types
            misfit = isinstance(error, Mismatch)
            raise InvalidModelError(
                "a node's operands do not fit together" if misfit else "a node's attributes make no sense",
                where=node.where,
                why=f"{error}; operands are {', '.join('none' if v is None else repr(v) for v in node.inputs)}",
                do="check the node in the model that was given",
            ) from error

    def _applied(self, old: Type, answer: Answer, dtype: DType | None, stale: bool) -> Type:
        """The type of an output from its old type and what a rule says of it."""
        if answer is not None and not isinstance(answer, tuple):
            return answer if stale else merged(old, answer)
        before = old.shape if isinstance(old, TensorType) else None
        dtype = dtype or (old.dtype if isinstance(old, TensorType) else None)
        if dtype is None:
            return old
        if stale and before is not None:
            before = None if answer is not None or self.ranks_may_change else _emptied(before)
        shape = before if answer is None else merged_shape(before, answer)
        if isinstance(old, TensorType) and old.dtype is dtype and old.shape is shape:
            return old
        return TensorType(dtype, shape)

    def _propagate(self, node: Node) -> None:
        """Records the elements of small outputs."""
        rule = PROPAGATION.get(node.op) if not node.domain else None
        if rule is None and not self._promised and not self.facts.entries:
            return
        tracked = rule is not None and any(tracked_count(v) is not None for v in node.outputs)
        try:
            found = rule(node, self.facts) if rule is not None and tracked else None
        except (ValueError, IndexError, TypeError):  # a node that cannot run, in a region or about to be refused
            found = None
        rows = found if isinstance(found, list) else [found]
        for index, value in enumerate(node.outputs):
            entries = rows[index] if index < len(rows) else None
            self._record(value, self._promised.pop(value, entries))

    def _record(self, value: Value, entries: Entries | None) -> None:
        if entries is not None:
            self.facts.set(value, entries)
        elif value in self.facts.entries:
            self.facts.forget(value)

    # For regions

    def region(self, region: Graph) -> None:
        """Infers a region's nodes; its inputs are bound."""
        for node in region:
            self.node(node)

    def bind(self, value: Value, type_: Type, entries: Entries | None = None) -> None:
        """Gives an input of a region the type and elements of what is passed to it."""
        new = type_ if self.refresh and not isinstance(type_, AnyType) else merged(value.type, type_)
        if new != value.type:
            value.type = new
            if self.refresh:
                self._changed.add(value)
        self._record(value, entries)

    def promise(self, value: Value, entries: Entries | None) -> None:
        """Elements of a node's output that its region rule found."""
        self._promised[value] = entries


def _emptied(shape: Shape) -> Shape:
    """A shape of which only the rank is still believed."""
    return tuple(fresh() for _ in shape)


def _rests_on_declaration(old: Type, new: Type, answer: Answer) -> bool:
    """True where sizes of a type are there that no rule gave."""
    if not isinstance(old, TensorType) or not isinstance(new, TensorType) or old.shape is None or new.shape is None:
        return False
    inferred: Partial | None = answer if isinstance(answer, tuple) else getattr(answer, "shape", None)
    if inferred is new.shape or inferred == new.shape:
        return False
    if inferred is None or len(inferred) != len(new.shape):
        return any(not is_fresh(d) for d in new.shape)
    return any(found != size and not is_fresh(size) for size, found in zip(new.shape, inferred, strict=True))


def _foreign(type_: Type, node: Node) -> Answer:
    """A fallback's type without the fresh symbols that it made up."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return None if isinstance(type_, AnyType) else type_
    known = {d for v in node.inputs if v is not None for d in sizes_in(v.type)}
    if all(not is_fresh(d) or d in known for d in type_.shape):
        return type_
    return type_.with_shape(tuple(d if not is_fresh(d) or d in known else fresh() for d in type_.shape))
