"""Routers of mixtures of experts, and what belongs to which expert, found from the graph and by experiment.

A router is a layer that gives one number per expert, over which Softmax or TopK chooses. What belongs to an expert is

* a part of a Concat that has as many rows as the expert was chosen times, whatever was chosen (tokens are sorted by
  expert): the network is run with made-up choices, and the rows are counted;
* a term of a sum that is zero where the expert is not chosen: zeros are followed from the router on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...backends.runners import Feeds, OrtRunner
from ...ir import Array, DType, Graph, Model, Node, TensorType, Value, constant, pairs
from ..matrices import input_axis
from .silence import Silence

RUNS = 8
"""Made-up choices with which parts are told apart."""

POINTWISE = frozenset(["Cast", "Identity", "Sigmoid", "Tanh", "Relu", "Softplus", "Swish"])
SCALED = frozenset(["Add", "Sub", "Mul", "Div"])


@dataclass(frozen=True, eq=False)
class Router:
    """`layer` gives one number per expert along the last axis; `chain` are the nodes from there to `choice`, a TopK, or
    a Softmax where all experts take part. Where other layers were merged into it, `part` is what a Split of its outputs
    gives. `why` says why its experts stay.
    """

    layer: Node
    chain: tuple[Node, ...]
    choice: Node
    experts: int
    chosen: int
    part: Value | None = None
    why: str = ""

    @property
    def start(self) -> int:
        """The place of the first expert's number among the layer's outputs."""
        split = self.part.node if self.part is not None else None
        before = split.outputs[: split.outputs.index(self.part)] if split is not None and self.part is not None else ()
        return sum(last(v) or 0 for v in before)

    @property
    def ids(self) -> Value | None:
        """Which experts were chosen."""
        return self.choice.outputs[1] if self.choice.op == "TopK" else None

    @property
    def softmax(self) -> Node | None:
        return next((n for n in (*self.chain, self.choice) if n.op == "Softmax"), None)


@dataclass
class Parts:
    """What goes with each expert: operands of Concats, and branches of sums; and the Gathers whose tables have an entry
    for every expert.
    """

    rows: dict[int, list[tuple[Node, Value]]] = field(default_factory=dict[int, list[tuple[Node, Value]]])
    terms: dict[int, list[Value]] = field(default_factory=dict[int, list[Value]])
    tables: list[Node] = field(default_factory=list[Node])

    def of(self, expert: int) -> list[Value]:
        return [*(value for _, value in self.rows.get(expert, [])), *self.terms.get(expert, [])]


def routers(graph: Graph) -> list[Router]:
    """The routers of the outermost graph, in its order."""
    found: list[Router] = []
    taken: set[Node] = set()
    for kind in ("TopK", "Softmax"):
        for node in graph:
            if node.op == kind and not node.domain and node not in taken:
                made = router(node)
                if made is not None:
                    found.append(made)
                    taken |= {*made.chain, node}
    places = {node: place for place, node in enumerate(graph)}
    layers = [each.layer for each in found]
    found = [
        replace(r, why="its layer is that of another router, too") if layers.count(r.layer) > 1 else r for r in found
    ]
    return sorted(found, key=lambda each: places[each.layer])


def router(choice: Node) -> Router | None:
    """The router that ends with a TopK or Softmax; None where it does not start at a layer."""
    x = choice.operand(0)
    size = last(x)
    if size is None or not along_last(choice):
        return None
    chain: list[Node] = []
    while x.node is not None and (passes(x.node) or (x.node.op == "Softmax" and along_last(x.node))):
        chain.append(x.node)
        x = next(v for v in x.node.inputs if v is not None and not v.is_const)
    part = x if x.node is not None and x.node.op == "Split" and along_last(x.node) else None
    layer = x.node if part is None or x.node is None else x.node.operand(0).node
    if layer is None or layer.op not in ("Gemm", "MatMul") or input_axis(layer) is None or size < 2:
        return None
    k = size
    if choice.op == "TopK":
        number = choice.operand(1)
        if number.const is None or not choice.int("largest", 1):
            return None
        k = int(number.const.item())
    chain.reverse()
    k = k if choice.op == "TopK" else 1
    return Router(layer, tuple(chain), choice, size, k, part, exposed(layer, part, chain, choice))


def last(value: Value) -> int | None:
    """The size of the last axis, where it is known."""
    size = value.shape[-1] if value.shape is not None and value.rank else None
    return size if isinstance(size, int) else None


def along_last(node: Node) -> bool:
    rank = node.output.rank
    return rank is not None and node.int("axis", -1) % rank == rank - 1


def passes(node: Node) -> bool:
    """Whether a node works on each expert's number by itself."""
    if node.domain:
        return False
    computed = [v for v in node.inputs if v is not None and not v.is_const]
    scaled = node.op in SCALED and len(computed) == 1 and node.output.type == computed[0].type
    return node.op in POINTWISE or scaled


def exposed(layer: Node, part: Value | None, chain: Sequence[Node], choice: Node) -> str:
    """Who else reads the numbers of all experts; '' where nobody does."""
    inside = {*chain, choice}
    if part is not None and layer.output.only_user is not part.node:
        return f"%{layer.output.name} is read by others"
    for value in (layer.output if part is None else part, *(node.output for node in chain)):
        for user in value.users:
            if user not in inside and not picks(user, choice):
                return f"%{value.name} is read by {user.where if user.outputs else 'the caller, as an output'}"
    weights = [v for node in (layer, *chain) for v in node.inputs if v is not None and v.is_const]
    shared = next((v for v in weights if v.tensor.count > 1 and v.only_user is None), None)
    return f"others use its constant @{shared.name}" if shared is not None else ""


def picks(user: Node, choice: Node) -> bool:
    """Whether a node takes the numbers of the chosen experts."""
    ids = choice.outputs[1] if choice.op == "TopK" else None
    return user.op == "GatherElements" and ids is not None and user.operand(1) is ids and along_last(user)


def zeros(each: Router, graph: Graph) -> Parts:
    """The terms of sums that are zero where an expert is not chosen, and the tables that are read by its number."""
    found = Parts()
    for expert in range(each.experts):
        silence = Silence(expert)
        if each.ids is not None:
            silence.never.add(each.ids)
        elif each.softmax is not None:
            silence.along[each.softmax.output] = each.softmax.int("axis", -1) % (each.softmax.output.rank or 1)
        found.terms[expert] = silence.terms(graph)
        found.tables = [n for n in silence.tables if n.operand(0).tensor.shape[n.int("axis")] == each.experts]
    return found


def experiment(model: Model, found: Sequence[Router], feeds: Feeds) -> list[Parts]:
    """The operands of Concats that have as many rows as an expert of a router was chosen, by running the network with
    made-up choices.
    """
    made = [Parts() for _ in found]
    joins = [n for n in model.graph if is_join(n)]
    ids = [r.ids for r in found]
    asked = [v for v in ids if v is not None]
    if not joins or not asked:
        return made
    sizes = dict(zip(asked, OrtRunner(model, taps=asked, optimize=False, once=True).run_taps(feeds), strict=True))
    random = np.random.default_rng(0)
    choices = [None if v is None else made_up(sizes[v], r.experts, random) for v, r in zip(ids, found, strict=True)]
    lengths = counted(model, ids, choices, joins, feeds)
    for router, parts, chosen in zip(found, made, choices, strict=True):
        if chosen is None:
            continue
        times = {tuple((chosen == e).reshape(RUNS, -1).sum(1).tolist()): e for e in range(router.experts)}
        if len(times) < router.experts:
            continue
        for (join, value), rows in lengths.items():
            if rows in times:
                parts.rows.setdefault(times[rows], []).append((join, value))
    return made


def is_join(node: Node) -> bool:
    """A Concat along rows of which only running tells how many there are."""
    if node.op != "Concat" or node.domain or not isinstance(node.output.type, TensorType):
        return False
    sizes = [v.shape for v in node.inputs if v is not None]
    first = node.int("axis") == 0 and node.output.is_float
    return first and all(s is not None and len(s) > 0 and not isinstance(s[0], int) for s in sizes)


def made_up(like: Array, experts: int, random: np.random.Generator) -> Array:
    """[runs, ...] choices: in every other run some experts are not chosen at all."""
    runs: list[Array] = []
    for run in range(RUNS):
        there = random.permutation(experts)[: experts if run % 2 == 0 else max(1, experts // 2)]
        runs.append(random.choice(there, like.shape).astype(like.dtype))
    return np.stack(runs)


def counted(
    model: Model, ids: Sequence[Value | None], choices: Sequence[Array | None], joins: Sequence[Node], feeds: Feeds
) -> dict[tuple[Node, Value], tuple[int, ...]]:
    """The rows of each operand of the Concats, run by run."""
    copy = model.clone()
    twins = pairs(model, copy)
    names = {*(v.name for v in model.graph.inputs)}
    name = next(n for n in (f"run{'_' * i}" for i in range(len(names) + 1)) if n not in names)
    run = copy.graph.add_input(name, TensorType(DType.I64, ()))
    for value, choice in zip(ids, choices, strict=True):
        if value is not None and choice is not None:
            node = twins[value].node
            assert node is not None
            pick = copy.graph.insert(Node("Gather", [constant(choice), run], {"axis": 0}), node.next)
            pick.output.type = value.type
            twins[value].replace_by(pick.output)
    operands = [(join, v) for join in joins for v in join.inputs if v is not None]
    runner = OrtRunner(copy, taps=[twins[v] for _, v in operands], optimize=False, once=True)
    seen = [[len(a) for a in runner.run_taps({**feeds, name: np.asarray(i)})] for i in range(RUNS)]
    return {key: tuple(column) for key, column in zip(operands, zip(*seen, strict=True), strict=True)}


def own_weights(values: Sequence[Value]) -> set[Value]:
    """The constants that only these values are computed from."""
    waiting, seen, found = list(values), set[Node](), set[Value]()
    while waiting:
        node = waiting.pop().node
        if node is None or node in seen:
            continue
        seen.add(node)
        found |= {v for v in node.inputs if v is not None and v.is_const and set(v.users) <= seen}
        waiting += [v for v in node.inputs if v is not None and all(user in seen for user in v.users)]
    return found
