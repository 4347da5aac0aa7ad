"""The pass `prune`: removes channels from trained networks without being told where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from ...backends.runners import Feeds
from ...ir import Array, Model, UsageError, Value
from ...ir.inference import infer
from ..base import Context, Contract, Decision, Outcome, Pass
from ..select import Selection
from . import timetable
from .allocate import Choice, Market, Part
from .analysis import analyse, has_choice
from .axes import AxisMap, Heads, Layer
from .blocks import blocks, reason
from .budgets import RESOURCES, SLACK, Budget, Case, compete, keep_to
from .choose import Limits, choose
from .compensate import COMPENSATION
from .depth import remove
from .gradients import curvature
from .groups import Slot, families, slots
from .importance import IMPORTANCE, Evidence
from .kept import Kept
from .oracle import check
from .prepare import prepare, unshare
from .proof import feeds, proved, require, say_compensated
from .readers import Reader
from .readers import readers as readers_of
from .rounds import Job, Original, Proof, Round, goals, together
from .shortcuts import projected
from .statistics import Calibration, Moments, Watch
from .surgery import masked, operate, touched
from .worth import WORTH

Scope = Literal["auto", "local", "global", "optimal"]
SCOPES = ("auto", "local", "global", "optimal")
NORMS = ("strict", "semantic")
HEADS = ("auto", "heads", "dims")
Norms = Literal["strict", "semantic"]
FEW = 3
"""Layers that a message names."""
ONE = "all of it is one group"


@dataclass(frozen=True)
class Prune(Pass):
    """Structured pruning of coupled channel groups, checked by the mask oracle.

    The result computes what the original computes with the removed channels masked; that is proved first. `compensate`
    then changes what is left from calibration data, by a row of `COMPENSATION`: "auto" is least squares where there is
    data and nothing elsewhere, None is nothing. `ridge` holds least squares back, as a share of what is read squared.
    The result then is an approximation of the original, better than the masked one.

    `ratio` is the share of groups that go: of each family of interchangeable groups (scope "local"), or of all groups
    ranked together ("global"). Instead of it `flops`, `parameters` or `latency` may say what share stays: the ratio
    then follows ("local", "global"), or ("optimal", the default then) each family loses what costs the outputs least,
    as measured on calibration data, for what it saves. What cannot be kept is kept to as far as possible; the outcome's
    `missed` says so. `importance` names a criterion of `IMPORTANCE`. At least `1 - max_ratio` of each family stays, and
    a multiple of `multiple_of` groups where there are that many; "auto" is what the runtime computes at once, or half
    or a quarter of that, and the default under `latency`. With `rounds` part after part goes, and what is left is
    compensated and measured again in between. With `blocks` whole residual blocks go first where that costs the outputs
    less than channels would for what is saved. Where `norms` is "semantic", channels also go over which normalisations
    and means take statistics, and the masked original takes these over the channels that stay; where it is "strict",
    such channels stay. `heads` says whether attention loses whole "heads" or the same "dims" of every head; "auto"
    takes what leaves more to choose from. Only layers that match `only` and not `skip` lose channels of their own.
    """

    name: ClassVar[str] = "prune"
    contract: ClassVar[Contract] = "masked"

    ratio: float = 0.5
    importance: str = "l2"
    scope: Scope = "auto"
    flops: float | None = None
    parameters: float | None = None
    latency: float | None = None
    multiple_of: int | Literal["auto"] = 1
    max_ratio: float = 0.9
    norms: Norms = "strict"
    heads: Heads = "auto"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    compensate: str | None = "auto"
    ridge: float = 1e-3
    rounds: int = 1
    blocks: bool = False

    def __post_init__(self) -> None:
        self.require_known()
        budgets = {name: getattr(self, name) for name in RESOURCES if getattr(self, name) is not None}
        if len(budgets) > 1:
            raise UsageError(f"prune has {len(budgets)} budgets: {', '.join(budgets)}", do="give one of them")
        for name, share in budgets.items():
            if not 0 < share <= 1:
                raise UsageError(f"prune({name}={share}) is out of range", do="give the share that stays, such as 0.7")
        if self.scope == "optimal" and not budgets:
            raise UsageError(
                "prune(scope='optimal') has nothing to keep to", do=f"give a share of {', '.join(RESOURCES)} that stays"
            )
        if not 0 <= self.ratio < 1 or not 0 <= self.max_ratio < 1:
            raise UsageError(
                f"prune(ratio={self.ratio}, max_ratio={self.max_ratio}) is out of range",
                do="give shares from 0 up to, not including, 1",
            )
        if not 0 <= self.ridge < math.inf:
            raise UsageError(f"prune(ridge={self.ridge}) is out of range", do="give a share from 0 on, such as 0.001")
        if self.multiple_of != "auto" and (isinstance(self.multiple_of, str) or self.multiple_of < 1):
            raise UsageError(
                f"prune(multiple_of={self.multiple_of!r}) is out of range",
                do="give a number of channels from 1 on, or 'auto'",
            )
        if self.blocks and (not budgets or self.scope not in ("auto", "optimal")):
            raise UsageError(
                "prune(blocks=True) has nothing to weigh blocks and channels by",
                do=f"give a share of {', '.join(RESOURCES)} that stays, with the scope optimal",
            )
        if self.rounds < 1:
            raise UsageError(f"prune(rounds={self.rounds}) is out of range", do="give a number of rounds from 1 on")

    def require_known(self) -> None:
        """Raises UsageError for a name that no table has."""
        tables: dict[str, tuple[str | None, ...]] = {
            "importance": tuple(IMPORTANCE), "scope": SCOPES, "norms": NORMS, "heads": HEADS,
            "compensate": ("auto", None, *COMPENSATION),
        }  # fmt: skip
        for option, known in tables.items():
            value = getattr(self, option)
            if value not in known:
                named = "compensation" if option == "compensate" else option
                raise UsageError(f"prune has no {named} {value!r}", do=f"there are {', '.join(map(str, known))}")

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises ParityError when the pruned graph does not compute what the masked original does, and UsageError where
        calibration data is missing, empty or unfit, or no attention can lose the `heads` that were asked for.
        """
        data, method = self.calibration(context), self.method(context)
        infer(model.graph, context.fallback)
        before, timed = model.clone(), feeds(model, context)
        selection = Selection(model.graph, self.only, self.skip)
        prepare(model.graph, context.fallback)
        notes = self.fit(model, timed)
        job = Job(model, before, Original(model), selection, timed, context, data)
        done = [self.shallower(job)] if self.blocks else []
        self.compensated(job, done)
        for share, ratio in zip(self.shares(), goals(1 - self.ratio, self.rounds), strict=True):
            done.append(self.once(job, share, 1 - ratio))
            self.compensated(job, done)
        outcome = self.outcome(job, done, notes)
        if method is not None and outcome.checks:
            say_compensated(outcome, method, [each.proof.compensated for each in done if each.proof is not None][-1])
        return outcome

    def compensated(self, job: Job, done: Sequence[Round]) -> None:
        """Makes up for what the last round took."""
        method, proof = self.method(job.context), done[-1].proof if done else None
        if proof is not None and method is not None and job.data is not None:
            proof.compensated = COMPENSATION[method](proof.weaker, job.model, job.original.model, job.data, self.ridge)

    def shallower(self, job: Job) -> Round:
        """Takes out the residual blocks that cost the outputs less than channels would for what is saved."""
        case, budget = self.case(job, self.limits(0.0)), self.budget()
        assert budget is not None
        found = blocks(job.model.graph)
        free = [(block,) for block in found if not reason(block, job.selection)]
        scores = WORTH["linear"].score(job.model, free, job.data)
        parts = {Part(frozenset((b.add, *b.nodes)), score): b for (b,), score in zip(free, scores, strict=True)}
        chosen = [parts[part] for part in compete(budget, case, list(parts))]
        chosen = [b for b in found if b in chosen and not any(b.add in other.nodes for other in chosen)]
        if not chosen:
            return Round(Choice(np.zeros(0, np.int64)), [])
        dense = job.model.clone()
        decisions = [Decision.of(b.add, "removed", f"{len(b.nodes)} operators") for b in chosen]
        proof = remove(job.model, chosen, job.before, dense, job.timed)
        require(proof.comparison)
        proof.weaker = job.original.lack(job.model, proof.weaker)
        return Round(Choice(np.zeros(0, np.int64)), decisions, proof)

    def case(self, job: Job, limits: Limits) -> Case:
        """What there is to choose from in the model as it is now."""
        model, context = job.model, job.context
        unshare(model.graph)
        now = model.clone()
        axes = analyse(model.graph, job.selection, self.norms == "semantic", self.heads)
        self.require_heads(axes)
        found = slots(axes)
        context.progress("ranking channels", 0, None)
        evidence = self.evidence(model, axes, found, job.data, context.seed)
        scores = IMPORTANCE[self.importance].score(evidence)
        market = Market(axes, job.original.families(families(found)), found, scores, limits)
        rebuild = partial(self.analysed, now, job.selection)
        return Case(model, job.before, market, evidence, context, rebuild, job.timed)

    def once(self, job: Job, share: float, ratio: float) -> Round:
        """One round: what is left of the budget is `share`, and without one what is gone of the groups is `ratio`."""
        model, limits = job.model, self.limits(ratio)
        since = None if job.original.moved else job.before
        case = self.case(job, limits)
        axes, choice, now = case.market.axes, self.choose(case, share), model.clone()
        kept = Kept(axes, choice.dead)
        decisions = [decide(layer, kept, limits, job.original) for layer in axes.layers]
        if not any(touched(node, kept) for node in model.graph):
            return Round(choice, decisions)
        reference, weaker = masked(model, kept), job.original.affected(model, now, kept)
        operate(model.graph, kept)
        job.context.progress("comparing with the masked original", 0, None)
        comparison = check(since or now, reference, model, kept, job.timed)
        require(comparison)
        return Round(choice, decisions, Proof(comparison, reference, weaker))

    def outcome(self, job: Job, done: Sequence[Round], notes: list[str]) -> Outcome:
        """What all rounds did."""
        model, before = job.model, job.before
        removed = done[0].decisions if self.blocks else []
        decisions, missed = [*removed, *done[-1].decisions], self.missed(done[-1].choice, done[-1].decisions)
        proofs = [each.proof for each in done if each.proof is not None]
        if not proofs:
            if not notes:
                model.restore(before)
            return Outcome(decisions=decisions, notes=[*notes, "no channel was removed"], missed=missed)
        outcome = proved(before, proofs[-1].reference, model, together([each.comparison for each in proofs]))
        outcome.changed = sum(d.decision != "kept" for d in decisions)
        outcome.decisions, outcome.missed = decisions, missed
        outcome.notes += notes
        if removed:
            outcome.notes.append(f"{len(removed)} residual blocks removed")
        if self.rounds > 1:
            outcome.notes.append(f"{len(proofs)} rounds, each proved against the network before it, masked")
        return outcome

    def missed(self, choice: Choice, decisions: Sequence[Decision]) -> list[str]:
        """Why the best effort does not reach the budget, or nothing went; empty where it does."""
        budget, kept = self.budget(), [d for d in decisions if not d.decision.startswith("pruned")]
        if budget is not None and choice.left <= budget.share * (1 + SLACK):
            return []
        if len(kept) == len(decisions) and (self.ratio or budget is not None):
            first = (
                "; ".join(f"{d.layer}: {d.reason}" for d in kept[:FEW])
                or "the network has no layer that makes channels"
            )
            more = f"; and {len(kept) - FEW} more" if len(kept) > FEW else ""
            return [f"no channel was removed: {first}{more}"]
        if budget is None:
            return []
        return [
            f"{budget.resource}={budget.share:g} was not reached: {choice.left:.3f} is left with "
            f"max_ratio={self.max_ratio:g}, multiple_of={self.multiple_of} and {len(kept)} of {len(decisions)} layers "
            "that keep their channels"
        ]

    def method(self, context: Context) -> str | None:
        """The row of COMPENSATION that is used."""
        if self.compensate == "auto":
            return "least-squares" if context.samples is not None else None
        return self.compensate

    def calibration(self, context: Context) -> Calibration | None:
        """The samples, where there are any. Raises UsageError where an option needs them and there are none."""
        if context.samples is not None:
            return Calibration(context.samples, context.progress, context.seed)
        criterion = IMPORTANCE[self.importance].needs_data and f"importance={self.importance!r}"
        wants = criterion or (self.compensate not in (None, "auto") and f"compensate={self.compensate!r}")
        wants = wants or (self.blocks and "blocks=True") or (self.rounds > 1 and f"rounds={self.rounds}")
        if wants:
            raise UsageError(
                f"prune({wants}) needs calibration data",
                why="what layers read is measured on real inputs",
                do="give some with data=... (--data on the command line), or leave the option out",
            )
        return None

    def evidence(self, model: Model, axes: AxisMap, found: list[Slot], data: Calibration | None, seed: int) -> Evidence:
        """What the criterion looks at; the moments also where damage is to be measured."""
        moments, squares = dict[Reader, Moments](), dict[Value, Array]()
        criterion = IMPORTANCE[self.importance]
        reads = criterion.needs_data and not criterion.needs_gradients
        if data is not None and (reads or self.method_of_choice() == "optimal"):
            readers = readers_of(found)
            measured = data.moments(model, [Watch(r.node, r.node.output) for r in readers])
            moments = dict(zip(readers, measured, strict=True))
        if data is not None and criterion.needs_gradients:
            squares = curvature(model, data)
        return Evidence(found, axes.atoms.count, moments, seed, squares)

    def budget(self) -> Budget | None:
        return next((Budget(r, share) for r in RESOURCES if (share := getattr(self, r)) is not None), None)

    def method_of_choice(self) -> str:
        """The scope that is used."""
        return self.scope if self.scope != "auto" else "local" if self.budget() is None else "optimal"

    def shares(self) -> list[float]:
        """What share of the budget's resource may be left after each round; 1 without a budget."""
        budget = self.budget()
        return goals(budget.share if budget is not None else 1.0, self.rounds)

    def vector(self) -> bool:
        """Whether channels are to fill the runtime's vectors."""
        return self.multiple_of == "auto" or (self.latency is not None and self.multiple_of == 1)

    def limits(self, ratio: float) -> Limits:
        multiple = timetable.width() if isinstance(self.multiple_of, str) or self.vector() else self.multiple_of
        scope = "global" if self.scope == "global" else "local"
        return Limits(ratio, scope, multiple, self.max_ratio, parts=self.vector())

    def fit(self, model: Model, timed: Feeds) -> list[str]:
        """Where channels are to fill vectors, gives the graph the form that makes use of them; says so."""
        changed = projected(model, timed) if self.vector() else None
        if changed is None:
            return []
        model.restore(changed)
        return ["shortcuts without weights became convolutions of 1 x 1, which the runtime adds without reordering"]

    def analysed(self, model: Model, selection: Selection) -> tuple[Model, AxisMap]:
        """A copy of a prepared model, with its axes."""
        copy = model.clone()
        return copy, analyse(copy.graph, selection, self.norms == "semantic", self.heads)

    def require_heads(self, axes: AxisMap) -> None:
        """Raises UsageError where the user says what attention is to lose, and none can."""
        if self.heads == "auto" or any(has_choice(axes, ids) for ids in axes.attention.values()):
            return
        told = [f"{node.where}: {next(map(str, axes.atoms.reasons(ids)), ONE)}" for node, ids in axes.attention.items()]
        raise UsageError(
            f"prune(heads={self.heads!r}) finds no attention that can lose them",
            why="; ".join(told[:FEW]) or "the network has no Attention operator",
            do="run simplify in front, which finds attention that is written out, or leave the option out",
        )

    def choose(self, case: Case, share: float) -> Choice:
        """What goes, by ratio or by the share of the budget's resource that is to be left."""
        budget, market = self.budget(), case.market
        if budget is None:
            return Choice(choose(market.axes, market.families, market.slots, market.scores, market.limits))
        return keep_to(Budget(budget.resource, share), self.method_of_choice() == "optimal", case)


def decide(layer: Layer, kept: Kept, limits: Limits, original: Original) -> Decision:
    """What happened to the channels that a layer made, and why. Called before surgery, while sizes are those of the
    round before.
    """
    node, axes = layer.node, kept.axes
    stay, made = kept.count(node.output, layer.axis), original.made(layer)
    inputs = fewer_inputs(layer, kept, original)
    if isinstance(stay, int) and isinstance(made, int) and stay < made:
        return Decision.of(
            node, f"pruned {100 * (1 - stay / made):.0f} %", f"{stay} of {made} channels kept{inputs and '; ' + inputs}"
        )
    why = kept_because(axes, layer, limits)
    return Decision.of(
        node, "inputs pruned" if inputs else "kept", f"{inputs}; its own channels stay: {why}" if inputs else why
    )


def fewer_inputs(layer: Layer, kept: Kept, original: Original) -> str:
    """How many of the weight's other channels stay, where some went."""
    index = 0 if layer.node.op == "Gather" else 1
    weight = layer.node.operand(index)
    own = kept.axes[layer.node.output, layer.axis]
    for axis, there in enumerate(original.read(layer.node, index) if weight in kept.axes else ()):
        stay, ids = kept.count(weight, axis), kept.axes[weight, axis]
        if stay != there and ids is not own and (ids.size != own.size or bool((ids != own).any())):
            return f"{stay} of {there} inputs kept"
    return ""


def kept_because(axes: AxisMap, layer: Layer, limits: Limits) -> str:
    """Why a layer keeps all of its channels."""
    ids = axes[layer.node.output, layer.axis]
    if axes.is_active(ids):
        groups = np.unique(axes.atoms.roots(ids)).size
        return f"ratio {limits.ratio:g} in multiples of {limits.multiple_of} leaves all of its {groups} group(s)"
    reasons = axes.atoms.reasons(ids)
    return str(reasons[0]) if reasons else "it has none to spare"
