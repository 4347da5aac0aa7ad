"""The forms in which an instance meets a rule: as it is, with symbolic sizes, with interior values that others use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..backends.runners import Feeds, plan
from ..ir import ANY, Array, Graph, Node, TensorType, TersorError, Value, symbol
from ..ir.inference import infer

ONLOOKERS = ("Sin", "Abs", "Neg", "Identity")
"""Operators of which one becomes another user of an interior value: the first that the rule does not ask for."""


@dataclass
class Variant:
    """A graph with the feeds on which it is run. `kind` names the form, for messages and for the report."""

    kind: str
    graph: Graph
    feeds: list[Feeds] = field(repr=False)


def feeds_of(
    graph: Graph,
    random: np.random.Generator,
    spans: Mapping[str, tuple[int, int]],
    sizes: Mapping[str, int] | None = None,
    count: int = 2,
) -> list[Feeds]:
    """Inputs for a graph: normal floats, some of them zero in every second feed; integers that are not zero."""
    fillings = plan(graph, sizes)
    out: list[Feeds] = []
    for turn in range(count):
        feed: dict[str, Array] = {}
        for filling in fillings:
            span = spans.get(filling.name)
            if span is not None:
                feed[filling.name] = random.integers(*span, filling.shape).astype(filling.dtype.numpy)
            elif filling.dtype.is_integer and "indexes" not in filling.why:
                sign = random.choice([-1, 1], filling.shape) if filling.dtype.is_signed else 1
                feed[filling.name] = (random.integers(1, 4, filling.shape) * sign).astype(filling.dtype.numpy)
            else:
                array = filling.draw(random)
                if turn % 2 and filling.dtype.is_float:
                    array = np.where(random.random(array.shape) < 0.15, 0, array * 2).astype(array.dtype)
                feed[filling.name] = array
        out.append(feed)
    return out


def variants(
    graph: Graph, spans: Mapping[str, tuple[int, int]], random: np.random.Generator, avoid: frozenset[str]
) -> Iterator[Variant]:
    """The forms of one instance. `avoid` are operators that no form adds, because the rule is about them."""
    plain = feeds_of(graph, random, spans)
    yield Variant("as drawn", graph.clone(), plain)
    yield from shared(graph, plain, random, avoid)
    yield from dynamic(graph, plain, spans, random)


def interior(graph: Graph) -> list[Value]:
    """Values between nodes of the outermost graph that are not outputs already."""
    return [v for node in graph for v in node.outputs if v.users and not v.is_output]


def shared(graph: Graph, feeds: list[Feeds], random: np.random.Generator, avoid: frozenset[str]) -> Iterator[Variant]:
    """An interior value that is an output too, and one that another node uses too."""
    count = len(interior(graph))
    if not count:
        return
    place = int(random.integers(count))
    copy = graph.clone()
    value = interior(copy)[place]
    copy.set_outputs([*copy.outputs, value], [*copy.output_names, "interior"])
    yield Variant("interior value is an output", copy, feeds)
    copy = graph.clone()
    value = interior(copy)[place]
    real = value.is_float
    names = [op for op in (ONLOOKERS if real else ("Identity",)) if op not in avoid]
    if names:
        node = copy.insert(Node(names[0], [value], {}, [Value("onlooker", value.type)]))
        copy.set_outputs([*copy.outputs, node.output], [*copy.output_names, "onlooker"])
        yield Variant("interior value has another user", copy, feeds)


def dynamic(
    graph: Graph, feeds: list[Feeds], spans: Mapping[str, tuple[int, int]], random: np.random.Generator
) -> Iterator[Variant]:
    """Symbolic first sizes, all sizes symbolic, and unknown ranks; run with the old sizes and with others."""
    static = {v.name: v.shape for v in graph.inputs if v.shape and all(isinstance(s, int) for s in v.shape)}
    if not static:
        return
    first = {shape[0] for shape in static.values()}
    for kind, chosen in (
        ("first sizes symbolic", first),
        ("all sizes symbolic", {s for t in static.values() for s in t}),
    ):
        copy = retyped(graph, lambda axis, size, kind=kind, chosen=chosen: (
            symbol(f"n{size}") if size in chosen and (axis == 0 or kind.startswith("all")) else size
        ))  # fmt: skip
        if copy is None:
            continue
        old = {f"n{size}": size for size in chosen}
        other = {
            name: size if random.random() < 0.5 else int(random.choice([1, size + 1])) for name, size in old.items()
        }
        yield Variant(kind, copy, [*feeds, *feeds_of(copy, random, spans, other, 1)])
    copy = retyped(graph, None)
    if copy is not None:
        yield Variant("ranks unknown", copy, feeds)


def retyped(graph: Graph, size: object) -> Graph | None:
    """A copy whose inputs have other sizes, all other types inferred anew; None where that contradicts itself.

    `size` gives the new size for (axis, size); None makes the ranks unknown.
    """
    copy = graph.clone()
    for value in copy.inputs:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            shape = None if size is None else tuple(size(a, s) for a, s in enumerate(value.type.shape))  # pyright: ignore
            value.type = TensorType(value.type.dtype, shape)
    for node in copy.walk():
        for value in node.outputs:
            value.type = ANY
    try:
        infer(copy)
    except TersorError:
        return None
    return copy
