"""How many channels each part of the network loses under a budget of FLOPs, parameters or time.

Scope "local" takes the same ratio everywhere and "global" the same threshold of the score, each searched for until the
budget is kept. "optimal" is greedy: again and again the pool whose next channels cost the least damage at the outputs
for what they save, as in a knapsack whose curves are convex. What is saved is always counted with what is gone already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...ir import Node
from .atoms import Ids
from .axes import AxisMap
from .bill import Bill, Flags, Term, pay
from .choose import Limits, Pool, choose, locally, pooled, ranked, revive_empty, round_up
from .damage import Curve
from .groups import Family, Slot
from .importance import Scores

STEPS = 64
"""A pool goes in about this many steps."""
AHEAD = 8
"""Steps that are looked ahead, so that a dear one with a cheap one behind it is no wall."""
SEARCHES = 12
"""Halvings of the range in which a ratio is looked for."""
SLACK = 1e-9


@dataclass(frozen=True)
class Choice:
    """The roots of the classes that go, and the share of the resource that is left by the bill."""

    dead: Ids
    left: float = 1.0


@dataclass(frozen=True)
class Market:
    """What there is to choose from: everything that choosing needs besides a budget."""

    axes: AxisMap
    families: Sequence[Family]
    slots: Sequence[Slot]
    scores: Scores
    limits: Limits
    bill: Bill = field(default_factory=Bill)

    def flags(self, dead: Ids) -> Flags:
        gone = np.zeros(self.axes.atoms.count, np.bool_)
        gone[dead] = True
        return gone

    def left(self, dead: Ids) -> float:
        """The share of the resource that stays."""
        return self.bill.total(self.flags(dead)) / max(self.bill.total(self.flags(np.zeros(0, np.int64))), SLACK)


def by_ratio(market: Market, share: float) -> Choice:
    """The smallest ratio at which the budget is kept, or the largest one there is where it cannot be."""

    def at(ratio: float) -> Choice:
        limits = replace(market.limits, ratio=ratio)
        dead = choose(market.axes, market.families, market.slots, market.scores, limits)
        return Choice(dead, market.left(dead))

    low, high = 0.0, market.limits.max_ratio
    best = at(high)
    if best.left > share + SLACK:
        return best
    for _ in range(SEARCHES):
        middle = (low + high) / 2
        found = at(middle)
        if found.left <= share + SLACK:
            best, high = found, middle
        else:
            low = middle
    return best


def orders(market: Market) -> list[Ids]:
    """The classes of each pool in the order in which they may go."""
    found: list[Ids] = []
    for pool in pooled(market.families):
        if len(pool.families) == 1:
            order = ranked(pool.classes, market.scores)
        else:
            limits = [replace(market.limits, ratio=step / 16) for step in range(1, 16)]
            together = np.concatenate([*(locally(pool, market.scores, each) for each in limits), np.zeros(0, np.int64)])
            order = together[np.sort(np.unique(together, return_index=True)[1])]
        found.append(order)
    return found


Curves = Callable[[Sequence[Ids]], Sequence[Curve]]


def optimal(market: Market, share: float, curves: Curves) -> Choice:
    """The greedy choice under the budget; everything that may go where it cannot be kept."""
    ladders = ladders_of(market, curves)
    whole, goal = market.bill.total(market.flags(np.zeros(0, np.int64))), share
    state = State(market.bill, ladders)
    choice = Choice(np.zeros(0, np.int64), 1.0)
    for _ in range(SEARCHES):
        state.descend(goal * whole)
        gone = market.flags(np.concatenate([*(state.gone(i) for i in range(len(ladders))), np.zeros(0, np.int64)]))
        revive_empty(market.axes, gone, market.scores)
        round_up(market.slots, gone, market.scores, market.limits)
        dead = np.flatnonzero(gone)
        choice = Choice(dead, market.left(dead))
        if choice.left <= share + SLACK or state.exhausted:
            break
        goal -= choice.left - share
    return choice


def ladders_of(market: Market, curves: Curves) -> list[Ladder]:
    """A ladder for each pool of which something may go."""
    going = [(p, order) for p, order in zip(pooled(market.families), orders(market), strict=True) if len(order)]
    found = curves([order for _, order in going])
    return [Ladder(*pool, curve, market) for pool, curve in zip(going, found, strict=True)]


def wholes(market: Market, share: float, curves: Curves, parts: Sequence[Part]) -> list[Part]:
    """The parts that go as a whole where they compete with channels under one budget."""
    state = State(market.bill, ladders_of(market, curves), parts)
    state.descend(share * state.total)
    return state.cut


class Ladder:
    """The steps in which one pool goes: how many classes are gone at each, the damage, and what each vector lost."""

    def __init__(self, pool: Pool, order: Ids, curve: Curve, market: Market) -> None:
        self.order = order
        limits, size = market.limits, pool.size
        counts = sorted({size - n for n in limits.allowed(size, pool.gone) if size - n <= min(len(order), size - 1)})
        stride = -(-len(counts) // STEPS) or 1
        self.counts = [0, *(counts[::-1][::stride][::-1])]
        self.damage = curve[self.counts]
        rank = np.full(market.axes.atoms.count, len(order))
        rank[order] = np.arange(len(order))
        self.lost: dict[int, np.ndarray] = {}
        for place, roots in enumerate(market.bill.vectors):
            times = np.bincount(rank[roots], minlength=len(order) + 1)[: len(order)]
            if times.any():
                self.lost[place] = np.r_[0, np.cumsum(times)][self.counts] / roots.size


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the network that may go as a whole: its nodes, and the damage."""

    nodes: frozenset[Node]
    damage: float


class State:
    """How far down each ladder is, what stays of each vector, and which parts are gone as a whole."""

    def __init__(self, bill: Bill, ladders: Sequence[Ladder], parts: Sequence[Part] = ()) -> None:
        self.bill, self.ladders, self.parts = bill, ladders, parts
        self.cut, self.without = list[Part](), set[Node | None]()
        self.at = [0] * len(ladders)
        self.shares = np.ones(len(bill.vectors))
        self.total = sum(t.cost for t in bill.terms)
        self.terms = [[t for t in bill.terms if set(t.vectors) & set(ladder.lost)] for ladder in ladders]
        self.best: list[tuple[float, int, float] | None] = [self.next(i) for i in range(len(ladders))]

    @property
    def exhausted(self) -> bool:
        return not any(self.best)

    def gone(self, i: int) -> Ids:
        return self.ladders[i].order[: self.ladders[i].counts[self.at[i]]]

    def after(self, i: int, step: int) -> np.ndarray:
        shares = self.shares.copy()
        for place, lost in self.ladders[i].lost.items():
            shares[place] -= lost[step] - lost[self.at[i]]
        return shares

    def next(self, i: int) -> tuple[float, int, float] | None:
        """The step of a ladder with the least damage for what it saves: (damage per cost, step, cost)."""
        ladder, now = self.ladders[i], self.at[i]
        before = self.cost(self.terms[i], self.shares)
        found: list[tuple[float, int, float]] = []
        for step in range(now + 1, min(now + AHEAD, len(ladder.counts) - 1) + 1):
            shares = self.after(i, step)
            saved = before - self.cost(self.terms[i], shares)
            if saved > 0:
                found.append((float(ladder.damage[step] - ladder.damage[now]) / saved, step, saved))
        return min(found, default=None)

    def cost(self, terms: Iterable[Term], shares: np.ndarray) -> float:
        return sum(pay(t, shares) for t in terms if t.node not in self.without)

    def whole(self, part: Part, needed: float) -> tuple[float, float]:
        """What a part costs for what it saves, of which no more counts than is `needed`, and what it saves. Damage that
        was done inside of it is undone.
        """
        saved = self.cost((t for t in self.bill.terms if t.node in part.nodes), self.shares)
        undone = sum(
            float(ladder.damage[at])
            for ladder, at, terms in zip(self.ladders, self.at, self.terms, strict=True)
            if at and all(t.node in part.nodes for t in terms)
        )
        return (max(part.damage - undone, 0.0) / min(saved, needed) if saved > 0 else np.inf), saved

    def descend(self, goal: float) -> None:
        """Takes steps until the bill is at most `goal` or no step is left."""
        while self.total > goal * (1 + SLACK):
            steps = [(best[0], i) for i, best in enumerate(self.best) if best]
            needed = self.total - goal
            parts = [(*self.whole(part, needed), part) for part in self.parts if not part.nodes <= self.without]
            rate, i = min(steps, default=(np.inf, -1))
            least = min(parts, key=lambda each: each[0], default=None)
            if least is not None and least[0] < rate:
                self.take_out(least[2], least[1])
            elif i >= 0:
                self.step(i)
            else:
                return

    def step(self, i: int) -> None:
        """Takes the best step of a ladder."""
        _, step, saved = self.best[i] or (0.0, 0, 0.0)
        self.shares = self.after(i, step)
        self.at[i], self.total = step, self.total - saved
        touched = set(self.ladders[i].lost)
        for j, terms in enumerate(self.terms):
            if j == i or any(touched & set(t.vectors) for t in terms):
                self.best[j] = self.next(j)

    def take_out(self, part: Part, saved: float) -> None:
        self.cut.append(part)
        self.without |= part.nodes
        self.total -= saved
        self.best = [self.next(i) for i in range(len(self.ladders))]
