"""The pass `prune_experts`: whole experts of mixtures of experts, with their rows of the router."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...backends.runners import Feeds, OrtRunner
from ...ir import Array, DType, Model, Node, TensorType, UsageError, Value, constant
from ...ir.inference import Inference
from ...ir.tensors import take
from ..base import Context, Contract, Decision, Outcome, Pass
from ..select import Selection
from ..simplify.structure import erase_dead
from .blocks import cut
from .choose import share
from .obs import TINY
from .oracle import Pair, compared
from .proof import feeds, proved
from .routers import Parts, Router, experiment, last, own_weights, routers, zeros
from .rules.row import set_integers
from .rules.semantic import builder
from .statistics import Calibration

IMPORTANCES = ("auto", "routing", "magnitude")
Kept = Mapping[Router, Array]
"""The experts of each router that stay."""


@dataclass(frozen=True)
class PruneExperts(Pass):
    """Experts that matter least go, checked by the mask oracle.

    The result computes what the original computes when the router's number of each removed expert is minus infinity;
    that is proved. `ratio` is the share of each router's experts that go, or `count` their number; as many as it
    chooses stay. `importance` is "routing", how often an expert is chosen on calibration data, with what weight where
    that is known; or "magnitude", the size of its weights; "auto" takes the first where there is data. Only routers
    that match `only` and not `skip` lose experts.
    """

    name: ClassVar[str] = "prune_experts"
    contract: ClassVar[Contract] = "masked"

    ratio: float = 0.25
    count: int | None = None
    importance: str = "auto"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise UsageError(
                f"prune_experts(ratio={self.ratio}) is out of range", do="give a share from 0 up to, not including, 1"
            )
        if self.count is not None and self.count < 0:
            raise UsageError(f"prune_experts(count={self.count}) is out of range", do="give a number from 0 on")
        if self.importance not in IMPORTANCES:
            raise UsageError(
                f"prune_experts has no importance {self.importance!r}", do=f"there are {', '.join(IMPORTANCES)}"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises ParityError when the smaller graph does not compute what the masked original does, and UsageError
        where calibration data is missing, empty or unfit.
        """
        data = self.calibration(context)
        original, selection = model.clone(), Selection(model.graph, self.only, self.skip)
        Inference(model.graph, context.fallback).run()
        found, timed = routers(model.graph), feeds(original, context)
        parts = belongings(model, found, timed)
        whys = {r: why(r, parts[r], selection) for r in found}
        free = [r for r in found if not whys[r]]
        scores = self.scores(model, {r: parts[r] for r in free}, data)
        kept = {r: self.keep(r, scores[r]) for r in free}
        kept = {r: left for r, left in kept.items() if len(left) < r.experts}
        decisions = [self.decide(r, kept.get(r), whys[r]) for r in found]
        missed = self.missed(free, kept, decisions)
        if not kept:
            model.restore(original)
            return Outcome(decisions=decisions, notes=["no expert was removed"], missed=missed)
        reference = model.clone()
        twins = dict(zip(model.graph, reference.graph, strict=True))
        for each, left in kept.items():
            silence(each, left, twins)
        layers = {each.layer.output: rows(each, left) for each, left in kept.items()}
        renumbered = {each: shrink(model, each, left) for each, left in kept.items()}
        for each, left in kept.items():
            remove(parts[each], set(range(each.experts)) - {int(e) for e in left})
            shorten(model, parts[each].tables, each.experts, left)
        erase_dead(model.graph)
        context.progress("comparing with the masked original", 0, None)
        comparison = compared(original, reference, model, paired(model, twins, kept, renumbered, layers), timed)
        gone = sum(each.experts - len(left) for each, left in kept.items())
        outcome = proved(original, reference, model, comparison)
        outcome.changed, outcome.decisions, outcome.missed = gone, decisions, missed
        outcome.notes[0] = f"{gone} experts of {len(kept)} routers removed; {outcome.notes[0]}"
        return outcome

    def calibration(self, context: Context) -> Calibration | None:
        if context.samples is not None:
            return Calibration(context.samples, context.progress, context.seed)
        if self.importance == "routing":
            raise UsageError(
                "prune_experts(importance='routing') needs calibration data",
                why="what routers choose is measured on real inputs",
                do="give some with data=... (--data on the command line), or leave the option out",
            )
        return None

    def scores(self, model: Model, parts: Mapping[Router, Parts], data: Calibration | None) -> dict[Router, Array]:
        """What each expert is worth."""
        if data is not None and self.importance != "magnitude":
            return routing(model, list(parts), data)
        return {each: magnitude(each, of) for each, of in parts.items()}

    def keep(self, router: Router, scores: Array) -> Array:
        """The experts that stay, in order; as many as are chosen, at least."""
        wanted = share(self.ratio, router.experts) if self.count is None else self.count
        gone = max(0, min(wanted, router.experts - max(1, router.chosen)))
        return np.sort(np.argsort(scores, kind="stable")[gone:])

    def decide(self, router: Router, left: Array | None, why: str) -> Decision:
        if left is None:
            told = why or f"{router.chosen} of {router.experts} experts are chosen, none is asked to go"
            return Decision.of(router.layer, "kept", told)
        gone = [e for e in range(router.experts) if e not in left]
        return Decision.of(
            router.layer, f"{len(gone)} experts removed", f"{len(left)} of {router.experts} stay; without {gone}"
        )

    def missed(self, free: Sequence[Router], kept: Kept, decisions: Sequence[Decision]) -> list[str]:
        """Why fewer experts went than was asked for."""
        if not (self.ratio if self.count is None else self.count):
            return []
        if not kept:
            told = "; ".join(f"{d.layer}: {d.reason}" for d in decisions[:3]) or "the network has no router"
            return [f"no expert was removed: {told}"]
        short = [
            r for r in free if self.count is not None and r.experts - len(kept.get(r, range(r.experts))) < self.count
        ]
        return [f"count={self.count} was not reached by {len(short)} routers, which choose too many"] if short else []


def belongings(model: Model, found: Sequence[Router], timed: Feeds) -> dict[Router, Parts]:
    """What goes with each expert of each router."""
    counted = experiment(model, [r for r in found if not r.why], timed)
    rows = dict(zip([r for r in found if not r.why], counted, strict=True))
    made: dict[Router, Parts] = {}
    for each in found:
        made[each] = Parts() if each.why else zeros(each, model.graph)
        made[each].rows = rows[each].rows if each in rows else {}
    return made


def why(router: Router, parts: Parts, selection: Selection) -> str:
    """Why a router's experts stay; '' where some may go."""
    if router.why:
        return router.why
    told = [selection.reason(node) for node in (router.layer, *router.chain, router.choice)]
    skipped = next((each for each in told if each.startswith("skipped")), "")
    if skipped or all(told):
        return skipped or told[0]
    if router.experts <= max(1, router.chosen):
        return f"it chooses {router.chosen} of {router.experts} experts"
    lacking = [e for e in range(router.experts) if not parts.of(e) and not parts.tables]
    if lacking:
        return f"what belongs to expert {lacking[0]} alone could not be told"
    return ""


def routing(model: Model, found: Sequence[Router], data: Calibration) -> dict[Router, Array]:
    """How often each expert is chosen over the samples, or what weight it has where a Softmax says so."""
    made = {each: np.zeros(each.experts) for each in found}
    taps = [v for each in found for v in each.choice.outputs[:2]]
    runner = OrtRunner(model, taps=taps, optimize=False)
    for sample in data.feeds():
        seen = dict(zip(taps, runner.run_taps(sample), strict=True))
        for each in found:
            values = seen[each.choice.outputs[0]].astype(np.float64)
            if each.ids is None:
                made[each] += values.reshape(-1, each.experts).sum(0)
                continue
            weights = values if each.softmax is not None else np.ones_like(values)
            np.add.at(made[each], seen[each.ids].reshape(-1), weights.reshape(-1))
    return made


def magnitude(router: Router, parts: Parts) -> Array:
    """The sum of |W| over an expert's own weights, each relative to its mean over the experts."""
    owned = [[v.tensor.numpy() for v in own_weights(parts.of(e)) if v.is_float] for e in range(router.experts)]
    for node in parts.tables:
        table = np.moveaxis(node.operand(0).tensor.numpy(), node.int("axis"), 0)
        owned = [[*each, row] for each, row in zip(owned, table, strict=True)]
    sizes = [sorted(float(np.linalg.norm(w.astype(np.float64))) for w in each) for each in owned]
    if len({len(each) for each in sizes}) != 1 or not sizes[0]:
        return np.array([sum(each) for each in sizes])
    table = np.array(sizes)
    return (table / np.maximum(table.mean(0), TINY)).sum(1)


def silence(router: Router, left: Array, twins: Mapping[Node, Node]) -> None:
    """Gives the removed experts minus infinity in the masked model, whose nodes are the twins."""
    stays = np.zeros(router.experts, np.bool_)
    stays[left] = True
    for node in {router.softmax: None, router.choice: None}:
        if node is not None:
            twin = twins[node]
            kind = twin.operand(0).type
            assert isinstance(kind, TensorType)
            least = constant(np.asarray(-np.inf, kind.dtype.numpy))
            twin.set_input(0, builder(twin).Where(constant(stays), twin.operand(0), least))


def shrink(model: Model, router: Router, left: Array) -> dict[Value, Value]:
    """Takes the removed experts' numbers out of a router. What it chooses is counted as before for everything behind
    it: gives the value in front of that, and the one that has taken its place.
    """
    layer, places = router.layer, rows(router, left)
    for index, value in enumerate(layer.inputs[1:], start=1):
        if value is not None and (index == 1 or value.tensor.shape[-1:] == (last(layer.output),)):
            axis = 0 if index == 1 and layer.op == "Gemm" and layer.int("transB") else -1
            layer.set_input(index, taken(value, places, axis))
    narrow(layer.output, len(places))
    if router.part is not None and router.part.node is not None:
        narrow(router.part, len(left))
        router.part.node.attrs.pop("num_outputs", None)
        sizes = [last(v) or 0 for v in router.part.node.outputs]
        set_integers(router.part.node, 1, sizes)
    for node in router.chain:
        for index, value in enumerate(node.inputs):
            if value is not None and value.is_const and value.tensor.shape[-1:] == (router.experts,):
                node.set_input(index, taken(value, left, -1))
        narrow(node.output, len(left))
    if router.ids is None:
        narrow(router.choice.output, len(left))
        return {router.choice.output: spread(model, router, left)}
    old = router.ids
    table = constant(left.astype(np.int64))
    node = Node("Gather", [old, table], {"axis": 0}, loc=router.choice.loc)
    node.set_inputs([table, old])
    model.graph.insert(node, router.choice.next)
    node.output.type = old.type
    for user in list(old.users):
        if user is not node and not (user.op == "GatherElements" and user.operand(0) in outputs(router)):
            for index, value in enumerate(user.inputs):
                if value is old:
                    user.set_input(index, node.output)
    return {old: node.output}


def outputs(router: Router) -> set[Value]:
    """The values that hold a number for each expert."""
    first = router.layer.output if router.part is None else router.part
    return {first, *(node.output for node in router.chain)}


def rows(router: Router, left: Array) -> Array:
    """What stays of the layer's outputs."""
    total, stop = last(router.layer.output) or 0, router.start + router.experts
    return np.r_[np.arange(router.start), router.start + left, np.arange(stop, total)]


def spread(model: Model, router: Router, left: Array) -> Value:
    """The probabilities at the places of all experts, zeros for those that are gone."""
    narrow_ = router.choice.output
    rank = narrow_.rank or 1
    pads = constant(np.asarray([0] * (2 * rank - 1) + [1], np.int64))
    padded = Node("Pad", [narrow_, pads], {"mode": "constant"}, loc=router.choice.loc)
    places = np.full(router.experts, len(left))
    places[left] = np.arange(len(left))
    wide = Node("Gather", [padded.output, constant(places.astype(np.int64))], {"axis": rank - 1}, loc=router.choice.loc)
    kind = narrow_.type
    assert isinstance(kind, TensorType)
    assert kind.shape is not None
    padded.output.type = kind.with_shape((*kind.shape[:-1], len(left) + 1))
    wide.output.type = kind.with_shape((*kind.shape[:-1], router.experts))
    narrow_.replace_by(wide.output)
    padded.set_input(0, narrow_)
    after = router.choice.next
    model.graph.insert(padded, after)
    model.graph.insert(wide, after)
    return wide.output


def taken(value: Value, left: Array, axis: int) -> Value:
    tensor = take(value.tensor, left, axis % value.tensor.rank)
    return Value(value.name, tensor.type, const=tensor)


def narrow(value: Value, size: int) -> None:
    """The type of a value whose last axis has another size."""
    assert isinstance(value.type, TensorType)
    assert value.type.shape is not None
    value.type = value.type.with_shape((*value.type.shape[:-1], size))


def remove(parts: Parts, gone: Iterable[int]) -> None:
    """Takes what belongs to the removed experts out of Concats and sums."""
    for expert in gone:
        for join, value in parts.rows.get(expert, []):
            join.set_inputs([v for v in join.inputs if v is not value])
        cut(parts.terms.get(expert, []))


def shorten(model: Model, tables: Sequence[Node], experts: int, left: Array) -> None:
    """Takes the removed experts' entries out of tables."""
    places = np.zeros(experts, np.int64)
    places[left] = np.arange(len(left))
    for node in tables:
        index = node.operand(1)
        assert isinstance(index.type, TensorType)
        fewer = Node("Gather", [constant(places), index], {"axis": 0}, loc=node.loc)
        fewer.output.type = index.type.with_dtype(DType.I64)
        model.graph.insert(fewer, node)
        node.set_inputs([taken(node.operand(0), left, node.int("axis")), fewer.output])


def paired(
    model: Model,
    twins: Mapping[Node, Node],
    kept: Kept,
    renumbered: Mapping[Router, Mapping[Value, Value]],
    layers: Mapping[Value, Array],
) -> list[Pair]:
    """Every tensor that is still computed, with its counterpart in the masked model: the numbers of the experts that
    stay, those of the routers' `layers`, and what is chosen as it was counted there.
    """
    narrowed = {v: left for each, left in kept.items() for v in outputs(each)}
    narrowed |= {each.choice.output: left for each, left in kept.items() if each.ids is None}
    narrowed |= layers
    again = {old: new for each in renumbered.values() for old, new in each.items()}
    counted = {each.ids for each in kept}
    found: list[Pair] = []
    for node in model.graph:
        if node not in twins:
            continue
        for value, reference in zip(node.outputs, twins[node].outputs, strict=True):
            kind = reference.type
            if not isinstance(kind, TensorType) or kind.dtype is DType.STRING or not value.users:
                continue
            if value not in counted:
                places = {(value.rank or 1) - 1: narrowed[value]} if value in narrowed else {}
                found.append(Pair(reference, value, places, node.where))
            if value in again:
                found.append(Pair(reference, again[value], {}, node.where))
    return found
