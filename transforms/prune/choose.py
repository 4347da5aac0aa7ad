"""Choosing the groups that go: ratios, rankings and the constraints on what stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .atoms import Ids
from .axes import AxisMap
from .groups import Family, Slot
from .importance import Scores

Scope = Literal["local", "global"]
Flags = NDArray[np.bool_]

SMALL = 8
"""Families of fewer groups are ranked together with their neighbours: a share of three groups is no share."""


@dataclass(frozen=True)
class Limits:
    """How much goes. `ratio` is the share of groups: of each family, or of all of them where `scope` is "global".

    No family loses more than `max_ratio`. A family of at least `multiple_of` groups keeps a multiple of that many, or
    all; so does every axis of a weight. With `parts` half or a quarter of that many may stay, too.
    """

    ratio: float
    scope: Scope = "local"
    multiple_of: int = 1
    max_ratio: float = 0.9
    parts: bool = False

    def least(self, size: int, gone: int = 0) -> int:
        """How many groups have to stay of a family that has `size` and lost `gone` in earlier rounds."""
        return max(1, size + gone - share(self.max_ratio, size + gone))

    def kept(self, size: int, wanted: int, gone: int = 0) -> int:
        """How many groups of such a family stay, when `wanted` should: the nearest number that is allowed."""
        return min([*self.allowed(size, gone), size], key=lambda n: (abs(n - wanted), -n))

    def allowed(self, size: int, gone: int = 0) -> list[int]:
        """The numbers of groups that may stay of such a family if it loses some, ascending."""
        return [n for n in range(self.least(size, gone), size) if self.fits(n)]

    def fits(self, count: int) -> bool:
        """Whether that many may stay."""
        multiple = self.multiple_of
        return count % multiple == 0 or (self.parts and 0 < count < multiple and 4 * count in (multiple, 2 * multiple))


def share(ratio: float, size: int) -> int:
    """That share of `size`, rounded down, where 0.3 of 10 is 3 although the product in binary is a little less."""
    return int(ratio * size + 1e-9)


@dataclass(frozen=True)
class Pool:
    """Families that are ranked together."""

    families: tuple[Family, ...]

    @property
    def classes(self) -> Ids:
        return np.sort(np.concatenate([f.classes for f in self.families]))

    @property
    def size(self) -> int:
        return sum(f.size for f in self.families)

    @property
    def gone(self) -> int:
        """Groups that went in earlier rounds."""
        return sum(f.gone for f in self.families)

    def may_lose(self, ratio: float) -> int:
        """How many more groups may go when that share of all that there were is gone."""
        return max(0, share(ratio, self.size + self.gone) - self.gone)


def choose(axes: AxisMap, found: Sequence[Family], slots: Sequence[Slot], scores: Scores, limits: Limits) -> Ids:
    """The roots of the classes to remove, lowest scores first. No axis of any value is left empty."""
    pools = pooled(found)
    gone = np.zeros(axes.atoms.count, np.bool_)
    if limits.scope == "global":
        for pool, keep in zip(pools, globally(pools, scores, limits), strict=True):
            gone[ranked(pool.classes, scores)[: pool.size - limits.kept(pool.size, keep, pool.gone)]] = True
    else:
        for pool in pools:
            gone[locally(pool, scores, limits)] = True
    revive_empty(axes, gone, scores)
    round_up(slots, gone, scores, limits)
    return np.flatnonzero(gone)


def locally(pool: Pool, scores: Scores, limits: Limits) -> Ids:
    """The classes of one pool that go: the lowest ones, as long as no slot loses more than its share."""
    order, ratio = ranked(pool.classes, scores), min(limits.ratio, limits.max_ratio)
    if len(pool.families) == 1:
        return order[: pool.size - limits.kept(pool.size, pool.size - pool.may_lose(ratio), pool.gone)]
    slots = {id(slot): slot for family in pool.families for slot in family.slots}
    times = {key: dict(zip(*np.unique(slot.roots, return_counts=True), strict=True)) for key, slot in slots.items()}
    allowed = {key: -(-ratio * sum(times[key].get(c, 0) for c in pool.classes) // 1) for key in slots}
    touching = {int(c): [id(slot) for slot in family.slots] for family in pool.families for c in family.classes}
    dead: list[int] = []
    for each in order.tolist():
        if all(allowed[key] >= times[key][each] for key in touching[each]):
            dead.append(each)
            for key in touching[each]:
                allowed[key] -= times[key][each]
    return np.asarray(dead[: pool.may_lose(ratio)], np.int64)


def ranked(classes: Ids, scores: Scores) -> Ids:
    """Classes by score, the lowest first; equal ones in their order."""
    return classes[np.argsort(scores[classes], kind="stable")]


def pooled(found: Sequence[Family]) -> list[Pool]:
    """Each family for itself; small families that meet in a slot are one pool.

    Channel shuffles and dense connections give nearly every group a set of slots of its own.
    """
    pools = [Pool((f,)) for f in found if f.size >= SMALL]
    small = [f for f in found if f.size < SMALL]
    leader = list(range(len(small)))

    def root(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[int, int] = {}
    for i, family in enumerate(small):
        for slot in family.slots:
            leader[root(i)] = root(first.setdefault(id(slot), i))
    joined: dict[int, list[Family]] = {}
    for i, family in enumerate(small):
        joined.setdefault(root(i), []).append(family)
    return [*pools, *(Pool(tuple(parts)) for parts in joined.values())]


def globally(pools: Sequence[Pool], scores: Scores, limits: Limits) -> list[int]:
    """How many groups of each pool stay when all are ranked together and no pool goes beyond `max_ratio`."""
    left, least = [p.size for p in pools], [limits.least(p.size, p.gone) for p in pools]
    owner = np.repeat(np.arange(len(pools)), left)
    classes = np.concatenate([*(p.classes for p in pools), np.zeros(0, np.int64)])
    gone = sum(p.gone for p in pools)
    budget = max(0, share(limits.ratio, classes.size + gone) - gone)
    for position in np.argsort(scores[classes], kind="stable").tolist():
        pool = int(owner[position])
        if budget and left[pool] > least[pool]:
            left[pool] -= 1
            budget -= 1
    return left


def revive_empty(axes: AxisMap, gone: Flags, scores: Scores) -> None:
    """Takes back the best class of every axis that would be left with nothing."""
    vectors = {id(ids): ids for _, bound in axes.items() for ids in bound if ids.size and ids.ndim}
    for ids in vectors.values():
        roots = axes.atoms.roots(ids)
        if gone[roots].all():
            gone[roots[np.argmax(scores[roots])]] = False


def round_up(slots: Sequence[Slot], gone: Flags, scores: Scores, limits: Limits) -> None:
    """Takes back classes, best first, until every axis of a weight keeps a multiple, or everything."""
    waiting = list(slots) if limits.multiple_of > 1 else []
    while waiting:
        changed = False
        for slot in waiting:
            dead = ranked(np.unique(slot.roots[gone[slot.roots]]), scores)[::-1]
            for best in dead:
                if limits.fits(int((~gone[slot.roots]).sum())):
                    break
                gone[best] = False
                changed = True
        if not changed:
            return
