"""The pass `factorize`: weights as products of two smaller ones, where that saves most for what it costs.

A layer Y = W X becomes Y = U (U^T W) X with the first r directions U in which its outputs vary, the eigenvectors of
W G W^T with the Gram matrix G of its inputs. That is the best approximation of Y of rank r (activation-aware SVD);
without calibration data G is the identity, and it is the SVD of W. A convolution becomes one with r channels and one
of 1 x 1 behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Attribute, Dense, Model, Node, TensorType, UsageError, Value
from ..base import Context, Contract, Decision, Outcome, Pass
from ..cost import bind_sizes, graph_flops, node_flops, parameter_count
from ..matrices import FLAT_OPS, groups, input_axis, matrix, set_matrix
from ..select import Selection
from ..walk import Walk
from .compensate import Offset, correct_bias
from .damage import PROBES, deviation, some
from .obs import TINY
from .prepare import prepare
from .statistics import Calibration, Moments, Watch

RESOURCES = ("flops", "parameters")
HALVINGS = 60
SLACK = 1e-9


@dataclass(frozen=True)
class Factorize(Pass):
    """Low-rank factors for matrix products and convolutions, under a budget.

    `flops` or `parameters` is the share of these that stays. Each layer's rank is chosen together with the others': the
    error that its outputs are left with, weighted by what such an error does to the outputs of the network where there
    is calibration data, against what it saves. Only layers that match `only` and not `skip` are factorized.
    """

    name: ClassVar[str] = "factorize"
    contract: ClassVar[Contract] = "approximate"

    flops: float | None = None
    parameters: float | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in RESOURCES if getattr(self, name) is not None}
        if len(given) != 1:
            raise UsageError(
                f"factorize has {len(given)} budgets", do="give one share that stays, such as factorize(flops=0.7)"
            )
        for name, share in given.items():
            if not 0 < share <= 1:
                raise UsageError(
                    f"factorize({name}={share}) is out of range", do="give the share that stays, such as 0.7"
                )

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises UsageError where calibration data does not fit."""
        selection = Selection(model.graph, self.only, self.skip)
        prepare(model.graph, context.fallback)
        nodes = [n for n in model.graph if input_axis(n) is not None and groups(n) == 1]
        chosen = [n for n in nodes if not selection.reason(n) and len(n.operand(1).users) == 1]
        data = Calibration(context.samples, context.progress, context.seed) if context.samples is not None else None
        if data is None:
            factors = [Factors.of(node, None) for node in chosen]
        else:
            moments = data.moments(model, [Watch(n, n.output) for n in chosen])
            factors = weighted(model, [Factors.of(*pair) for pair in zip(chosen, moments, strict=True)], data)
        costs = {n: self.cost(n, model) for n in chosen}
        whole = self.total(model)
        goal = (self.flops or self.parameters or 1.0) * whole
        ranks = allocate(factors, [costs[f.node] for f in factors], goal - (whole - sum(costs.values())))
        decisions = [
            Decision.of(n, "kept", selection.reason(n) or "its weight is shared") for n in nodes if n not in costs
        ]
        for found, rank in zip(factors, ranks, strict=True):
            decisions.append(found.decide(rank))
            if rank is not None:
                found.apply(model, rank)
        left = self.total(model) / whole
        share = goal / whole
        missed = [f"the budget of {share:g} was not reached: {left:.3f} is left"] if left > share * (1 + 1e-6) else []
        return Outcome(
            changed=sum(rank is not None for rank in ranks),
            decisions=decisions,
            notes=[f"{sum(r is not None for r in ranks)} of {len(nodes)} layers have two factors; {left:.1%} is left"],
            missed=missed,
        )

    def total(self, model: Model) -> float:
        return float(graph_flops(model.graph) if self.flops is not None else parameter_count(model.graph))

    def cost(self, node: Node, model: Model) -> float:
        if self.flops is None:
            return float(node.operand(1).tensor.count)
        return float(node_flops(node, bind_sizes(model.graph)))


@dataclass(frozen=True)
class Factors:
    """A layer's weight [outputs, columns], the directions of its outputs [outputs, outputs], the strongest first, and
    the squared error at the network's outputs, or the layer's, when only the first r stay, for r = 0, 1, ...
    """

    node: Node
    weight: Array
    directions: Array
    damage: NDArray[np.float64]
    moments: Moments | None = None

    @staticmethod
    def of(node: Node, moments: Moments | None) -> Factors:
        (weight,) = matrix(node)
        gram = np.eye(weight.shape[1]) if moments is None else moments.gram(Offset.of(node) is not None)[0]
        strength, directions = np.linalg.eigh(weight @ gram @ weight.T)
        strength, directions = np.maximum(strength[::-1], 0), directions[:, ::-1]
        lost = np.r_[strength[::-1].cumsum()[::-1], 0.0] / max(float(strength.sum()), TINY)
        return Factors(node, weight, directions, lost, moments)

    @property
    def limit(self) -> int:
        """The largest rank that saves something."""
        outputs, columns = self.weight.shape
        return min(outputs, columns, math.ceil(outputs * columns / (outputs + columns)) - 1)

    def share(self, rank: int | None) -> float:
        """What a rank costs, as a share of the layer (None: it stays whole)."""
        outputs, columns = self.weight.shape
        return 1.0 if rank is None else rank * (outputs + columns) / (outputs * columns)

    def product(self, rank: int) -> Array:
        used = self.directions[:, :rank]
        return (used @ (used.T @ self.weight))[None]

    def decide(self, rank: int | None) -> Decision:
        full = min(self.weight.shape)
        if rank is None:
            return Decision.of(self.node, "kept", f"no rank under {full} is worth what it costs")
        return Decision.of(self.node, f"rank {rank}", f"of {full}; {self.share(rank):.0%} of its cost is left")

    def apply(self, model: Model, rank: int) -> None:
        """Puts a node with the second factor behind the layer, which keeps the first."""
        node, used = self.node, self.directions[:, :rank]
        if self.moments is not None:
            set_matrix(node, self.product(rank))
            correct_bias(node, self.moments)
        first, second = used.T @ self.weight, used
        weight, output, rest = node.operand(1), node.output, node.inputs[2:]
        inner = Value(f"{output.name}_low", low_type(node, rank))
        attrs: dict[str, Attribute] = {"transB": 1} if node.op == "Gemm" else {}
        inputs = [inner, factor(node, second, weight, "up"), *rest]
        behind = Node(node.op, inputs, attrs, [Value(output.name, output.type)], loc=node.loc)
        output.replace_by(behind.output)
        model.graph.insert(behind, before=node.next)
        head = Node(
            node.op, [node.operand(0), factor(node, first, weight, "down")],
            {**node.attrs, **attrs}, [inner], loc=node.loc,
        )  # fmt: skip
        model.graph.insert(head, before=behind)
        node.erase()


def low_type(node: Node, rank: int) -> TensorType:
    """The type between the factors."""
    kind = node.output.type
    assert isinstance(kind, TensorType)
    assert kind.shape is not None
    axis = len(kind.shape) - 1 if node.op in FLAT_OPS else 1
    return TensorType(kind.dtype, (*kind.shape[:axis], rank, *kind.shape[axis + 1 :]))


def factor(node: Node, array: Array, like: Value, suffix: str) -> Value:
    """A factor [outputs, columns] as a weight of the node's operator; `up` factors of convolutions are 1 x 1."""
    dtype, shape = like.tensor.dtype, like.tensor.shape
    if node.op == "MatMul":
        array = array.T
    elif node.op == "Conv":
        array = array.reshape(len(array), *(shape[1:] if suffix == "down" else (-1, *[1] * len(shape[2:]))))
    made = Dense(np.ascontiguousarray(array.astype(dtype.numpy)), dtype)
    return Value(f"{like.name}.{suffix}", made.type, const=made)


def weighted(model: Model, found: Sequence[Factors], data: Calibration) -> list[Factors]:
    """The damage of each layer in terms of the network's outputs, measured at half of the useful rank."""
    walk = Walk(model, lambda: some(data.samples, PROBES))
    expected, made = list(walk.outputs(model)), list[Factors]()
    for done, each in enumerate(found):
        data.progress("measuring what each layer is worth", done, len(found))
        rank = max(1, each.limit // 2)
        for _ in walk.step([], each.node):
            pass
        changed = model.clone()
        twin = dict(zip(model.graph, changed.graph, strict=True))[each.node]
        set_matrix(twin, each.product(rank))
        if each.moments is not None:
            correct_bias(twin, each.moments)
        scale = deviation(walk.outputs(changed), expected) / max(float(each.damage[rank]), TINY)
        made.append(replace(each, damage=each.damage * scale))
    return made


def allocate(found: Sequence[Factors], costs: Sequence[float], budget: float) -> list[int | None]:
    """The ranks with the least damage in all whose cost is at most `budget`, by one price for damage and cost; the
    smallest ranks where it cannot be kept.
    """
    options: list[list[int | None]] = [[None, *range(f.limit, 0, -1)] for f in found]
    damage = [np.array([0.0, *f.damage[f.limit : 0 : -1]]) for f in found]
    cost = [np.array([each * f.share(o) for o in ranks]) for f, each, ranks in zip(found, costs, options, strict=True)]

    def at(price: float) -> list[int]:
        return [int(np.argmin(d + price * c)) for d, c in zip(damage, cost, strict=True)]

    def total(places: Sequence[int]) -> float:
        return sum(float(c[p]) for c, p in zip(cost, places, strict=True))

    low, high = 0.0, 1.0 / max(TINY, min((float(c[-1]) for c in cost), default=1.0))
    while total(at(high)) > budget * (1 + SLACK) and high < 1e30:
        high *= 10
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if total(at(middle)) <= budget * (1 + SLACK) else (middle, high)
    places = [0] * len(found) if total([0] * len(found)) <= budget * (1 + SLACK) else at(high)
    return [o[p] for o, p in zip(options, places, strict=True)]
