"""What pruning in several rounds has to remember: the original, and what is left of it.

Each round measures again, in what the rounds before left. What it is compensated towards is still the original, of
which a layer makes fewer channels with every round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...backends.runners import Feeds
from ...ir import Model, Node, Size
from ..base import Context, Decision
from ..matrices import input_axis
from ..select import Selection
from .allocate import Choice
from .atoms import Ids
from .axes import Layer
from .compensate import Affected, affected
from .groups import Family, Place
from .kept import Kept
from .oracle import Comparison
from .statistics import Calibration, Watch


@dataclass
class Round:
    """What one round did: the choice and, where something went, what the oracle said of that."""

    choice: Choice
    decisions: list[Decision]
    proof: Proof | None = None


@dataclass
class Proof:
    """The oracle's report, the masked model that it is about, what may make up for that, and how many nodes did."""

    comparison: Comparison
    reference: Model
    weaker: Affected
    compensated: int = 0


class Original:
    """The model before the first round. Its nodes are those of the model that is pruned, in the same order."""

    def __init__(self, model: Model) -> None:
        self.model = model.clone()
        self.twins = dict(zip(model.graph, self.model.graph, strict=True))
        self.left: dict[Node, dict[int, Ids]] = {}
        self.moved: set[Node] = set()
        self.sizes: dict[frozenset[Place], int] = {}

    def families(self, found: Sequence[Family]) -> list[Family]:
        """The families of a round, which know how many of theirs went before. Compensation may have given them new
        operands, which do not count.
        """
        if not self.sizes:
            self.sizes = {family.places: family.size for family in found}
        first = frozenset[Place]().union(*self.sizes)
        return [replace(f, gone=max(0, self.sizes.get(f.places & first, 0) - f.size)) for f in found]

    def affected(self, model: Model, before: Model, kept: Kept) -> Affected:
        """What compensation may change after this round and the ones before, beside the original's values. Called
        before surgery on `model`, of which `before` is a copy.
        """
        now = affected(model, before, kept)
        self.moved.update(watch.node for watch in (*now.layers, *now.norms))
        for node in model.graph:
            self.lose(node, kept)
        return self.watched(model)

    def lack(self, model: Model, found: Affected) -> Affected:
        """The same once whole parts are gone; `found` is what is behind them."""
        self.moved.update(watch.node for watch in (*found.layers, *found.norms))
        return self.watched(model)

    def watched(self, model: Model) -> Affected:
        moved = [node for node in model.graph if node in self.moved]
        return Affected(
            [Watch(n, self.twins[n].output, self.left.get(n, {})) for n in moved if input_axis(n) is not None],
            [Watch(n, self.twins[n].operand(0), self.left.get(n, {})) for n in moved if input_axis(n) is None],
        )

    def lose(self, node: Node, kept: Kept) -> None:
        """Remembers what a layer still makes of what the original's makes."""
        if input_axis(node) is None and node.op != "BatchNormalization":
            return
        known = self.left.setdefault(node, {})
        for axis, left in kept.changed(node.output).items():
            known[axis] = known.get(axis, np.arange(kept.axes[node.output, axis].size))[left]

    def made(self, layer: Layer) -> Size:
        """How many channels a layer made."""
        return (self.twins[layer.node].output.shape or ())[layer.axis]

    def read(self, node: Node, index: int) -> tuple[Size, ...]:
        """The shape of an operand."""
        return self.twins[node].operand(index).shape or ()


@dataclass(frozen=True)
class Job:
    """What all rounds share: the model that changes, a copy of it as the user gave it, and what is measured with."""

    model: Model
    before: Model
    original: Original
    selection: Selection
    timed: Feeds
    context: Context
    data: Calibration | None


def goals(share: float, rounds: int) -> list[float]:
    """What may be left after each round: every one takes as much as the others."""
    return [1 - (1 - share) * done / rounds for done in range(1, rounds + 1)]


def together(found: Sequence[Comparison]) -> Comparison:
    """The oracle's reports of all rounds as one."""
    worst = max(found, key=lambda each: each.worst)
    return replace(
        worst,
        values=sum(each.values for each in found),
        settled=sum(each.settled for each in found),
        changed=max(each.changed for each in found),
        parameters=(found[0].parameters[0], found[-1].parameters[1]),
        passed=all(each.passed for each in found),
    )
