"""Inner values of large networks, a stage at a time: each is computed once, and memory holds no more than a stage's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from ...ir import Array, DType, Model, Node, TensorType, Value, pairs
from .base import Feeds, Runner
from .taps import free


@dataclass
class Part:
    """What a stage runs: the nodes, the values of earlier stages that they read, and those that it has to give."""

    nodes: set[Node] = field(default_factory=set[Node])
    given: dict[Value, None] = field(default_factory=dict[Value, None])
    made: list[Value] = field(default_factory=list[Value])


def in_stages(
    model: Model, feeds: Feeds, stages: Sequence[Sequence[Value]], runner: Callable[[Model], Runner]
) -> Iterator[list[Array]]:
    """The numbers of each stage's values in turn, for one input; they are values of the outermost graph.

    `runner` makes a runner of a part of the model, which goes on from what earlier parts have computed. What no value
    needs is not computed, and what no later stage needs is let go. Raises as the runners do.
    """
    defaults = {v: tensor.numpy() for v, tensor in model.graph.defaults.items()}
    inputs = defaults | {v: feeds[v.name] for v in model.graph.inputs if v.name in feeds}
    parts = plan(model, stages)
    held: dict[Value, Array] = {}
    for wanted, part in zip(stages, parts, strict=True):
        held = {v: held[v] for v in part.given}
        if part.made:
            held.update(zip(part.made, run(model, part, feeds, held, runner), strict=True))
        yield [v.const.numpy() if v.const is not None else held[v] if v in held else inputs[v] for v in wanted]


def plan(model: Model, stages: Sequence[Sequence[Value]]) -> list[Part]:
    """What each stage runs. A value that cannot be fed to a part is computed anew by each part that needs it."""
    place = {node: index for index, node in enumerate(model.graph)}
    last = [max((place[v.node] for v in wanted if v.node in place), default=-1) for wanted in stages]
    starts = [-1, *accumulate(last, max)][: len(stages)]
    found: list[Part] = []
    later: dict[Value, None] = {}
    for wanted, start in zip(reversed(stages), reversed(starts), strict=True):
        part = Part()
        targets = dict.fromkeys(v for v in (*wanted, *later) if v.node in place)
        pending = list(targets)
        while pending:
            value = pending.pop()
            if value.node is None or value.node not in place or value.node in part.nodes:
                continue
            if place[value.node] <= start and can_be_fed(value):
                part.given[value] = None
            else:
                part.nodes.add(value.node)
                pending += [v for v in value.node.inputs if v is not None]
        part.made = [v for v in targets if v not in part.given]
        found.append(part)
        later = part.given
    return found[::-1]


def can_be_fed(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype is not DType.STRING


def run(
    model: Model, part: Part, feeds: Feeds, held: dict[Value, Array], runner: Callable[[Model], Runner]
) -> list[Array]:
    """The values that a part makes."""
    copy = model.clone()
    graph = copy.graph
    nodes, twins = list(zip(model.graph, graph, strict=True)), pairs(model, copy)
    fed: dict[str, Array] = {}
    names = {*(v.name for v in graph.inputs)}
    for value, array in held.items():
        if not any(user in part.nodes for user in value.users):
            continue
        name = free(f"held_{len(fed)}", names)
        fed[name] = array
        type_ = TensorType(DType.of_numpy(array.dtype), array.shape)
        twins[value].replace_by(graph.add_input(name, type_))
    graph.set_outputs([twins[v] for v in part.made], [f"made_{index}" for index in range(len(part.made))])
    for old, new in reversed(nodes):
        if old not in part.nodes:
            new.erase()
    return list(runner(copy).run({**feeds, **fed}).values())
