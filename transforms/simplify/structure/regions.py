"""If, Loop and Scan as nodes whose regions can be changed: in copies, from which the node is then made anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ....ir import Attribute, Builder, Graph, Node, Value, lookup
from ....ir.attributes import same
from .dead import erase_dead

REGIONAL = ("If", "Loop", "Scan")


@dataclass(frozen=True)
class Carried:
    """Where the values that iterations pass on are: the first of them among the operands, the body's inputs and its
    outputs, and how many they are. An If carries none.
    """

    operand: int = 0
    input: int = 0
    output: int = 0
    count: int = 0

    @staticmethod
    def of(node: Node) -> Carried:
        if node.op == "Loop":
            return Carried(2, 2, 1, len(node.operands) - 2)
        if node.op == "Scan":
            return Carried(count=len(node.operands) - node.int("num_scan_inputs"))
        return Carried()


class Parts:
    """The regions of a node in copies, its operands, what they capture, and which of its results it still has."""

    def __init__(self, node: Node) -> None:
        self.node, self.carried = node, Carried.of(node)
        self.regions: dict[str, Graph] = {name: region.clone() for name, region in node.regions.items()}
        self.operands, self.captured = list(node.operands), list(node.captured)
        self.results = list(range(len(node.outputs)))

    def inner(self, region: Graph, place: int) -> Value:
        """The input of a region that stands for a captured value."""
        return region.inputs[len(region.inputs) - len(self.captured) + place]

    def capture(self, value: Value) -> dict[str, Value]:
        """The inputs that stand for an outer value, by region."""
        if value not in self.captured:
            self.captured.append(value)
            for region in self.regions.values():
                region.add_input(value.name, value.type)
        place = self.captured.index(value)
        return {name: self.inner(region, place) for name, region in self.regions.items()}

    def drop_results(self, gone: Collection[int]) -> None:
        """Leaves out results that nobody uses, with what is carried for them, and what the regions compute for them."""
        carried = self.carried
        passed = {i for i in gone if i < carried.count}
        for region in self.regions.values():
            keep = [i for i in range(len(region.outputs)) if i - carried.output not in gone]
            region.set_outputs([region.outputs[i] for i in keep], [region.output_names[i] for i in keep])
            erase_dead(region)
            drop_inputs(region, {carried.input + i for i in passed})
        self.operands = [v for i, v in enumerate(self.operands) if i - carried.operand not in passed]
        self.results = [i for i in self.results if i not in gone]

    def drop_captures(self, gone: Collection[int]) -> None:
        """Leaves out captured values that no region uses."""
        for region in self.regions.values():
            first = len(region.inputs) - len(self.captured)
            drop_inputs(region, {first + place for place in gone})
        self.captured = [v for place, v in enumerate(self.captured) if place not in gone]

    def made(self, op: Builder) -> list[Value | None]:
        """The node anew, as a value for each of the old one's results; None for those that it no longer has."""
        for region in self.regions.values():
            erase_dead(region)
        node = op.node(
            self.node.op, [*self.operands, *self.captured], self.attributes(), outputs=len(self.results),
            regions=self.regions, captures=len(self.captured),
        )  # fmt: skip
        assert isinstance(node, Node)
        out: list[Value | None] = [None] * len(self.node.outputs)
        for place, value in zip(self.results, node.outputs, strict=True):
            out[place] = value
        return out

    def attributes(self) -> dict[str, Attribute]:
        """The attributes; those of a Scan that go by its stacked results name one for each that is left."""
        attrs = dict(self.node.attrs)
        for name in ("scan_output_axes", "scan_output_directions"):
            given = attrs.get(name)
            if self.node.op == "Scan" and isinstance(given, tuple):
                stacked = [i - self.carried.count for i in self.results if i >= self.carried.count]
                attrs[name] = tuple(n for i, n in enumerate(given) if i in stacked)  # pyright: ignore
        return attrs


def drop_inputs(region: Graph, gone: Collection[int]) -> None:
    """Removes inputs that nothing uses."""
    region.entry.outputs = tuple(v for i, v in enumerate(region.inputs) if i not in gone)
    for index, value in enumerate(region.inputs):
        value.index = index


def needed(region: Graph, wanted: Sequence[Value]) -> set[Value]:
    """All that the wanted values are computed from, they included; nodes that may have effects are needed too."""
    effects = [v for n in region if lookup(n.op, n.domain) is None for v in (*n.inputs, *n.outputs)]
    seen, pending = set[Value](), [*wanted, *(v for v in effects if v is not None)]
    while pending:
        value = pending.pop()
        if value not in seen:
            seen.add(value)
            pending += [v for v in value.node.inputs if v is not None] if value.node is not None else []
    return seen


def is_same(inner: Node, outer: Node, stands_for: Mapping[Value, Value]) -> bool:
    """True where two nodes compute the same, of what the first one's operands stand for."""
    if (inner.op, inner.domain, len(inner.inputs), len(inner.outputs)) != (
        outer.op, outer.domain, len(outer.inputs), len(outer.outputs),
    ):  # fmt: skip
        return False
    if inner.attrs.keys() != outer.attrs.keys() or outer.regions:
        return False
    if not all(same(value, outer.attrs[name]) for name, value in inner.attrs.items()):
        return False
    return all(_is_same_value(a, b, stands_for) for a, b in zip(inner.inputs, outer.inputs, strict=True))


SMALL = 4096


def _is_same_value(inner: Value | None, outer: Value | None, stands_for: Mapping[Value, Value]) -> bool:
    if inner is None or outer is None:
        return inner is outer
    if inner.const is not None and outer.const is not None:
        small = inner.tensor.nbytes <= SMALL and outer.tensor.nbytes <= SMALL
        return inner.const is outer.const or (small and inner.tensor.same_as(outer.tensor))
    return inner.const is None and stands_for.get(inner) is outer


def is_pure(node: Node) -> bool:
    """True for a node of a known operator that gives the same every time."""
    schema = lookup(node.op, node.domain)
    return schema is not None and schema.deterministic and not node.regions
