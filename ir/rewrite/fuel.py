"""Optimization fuel: how many rewrites a run may still do.

Turning it down one by one is how the rewrite is found that breaks something: the steps of a run are the same for any
amount of fuel, up to the one where it is used up. A sweep over the whole graph is one of them; where it asks before
each of its changes, these can be turned down in the last sweep too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..graph import Node
from ..locations import NOWHERE, Loc
from .statistics import RuleStatistics

BeforeLast = Callable[[Sequence[Node]], None]
Allow = Callable[[Node | None], bool]
"""What a sweep asks before each change: `Fuel.change`."""


def always(node: Node | None = None) -> bool:
    """Allows every change."""
    return True


@dataclass(frozen=True)
class Firing:
    """One rewrite: the rule or sweep, the node that it matched as a person reads it, and where that came from.

    A sweep over the whole graph has no node, one of its changes may have.
    """

    rule: str
    node: str = ""
    loc: Loc = NOWHERE


class Fuel:
    """Counts rewrites up to `limit`; None: as many as there are. `last` is the one that used the last unit up.

    Where that is a sweep, it may do `changes` of its changes, None for all of them, and `changed` is how many it did;
    with a number `last` is the last of these. `before_last` is called right before `last`, with the nodes that its rule
    has made so far.
    """

    __slots__ = ("before_last", "changed", "changes", "last", "limit", "spent")

    def __init__(
        self, limit: int | None = None, before_last: BeforeLast | None = None, changes: int | None = None
    ) -> None:
        self.limit: float = math.inf if limit is None else limit
        self.before_last, self.changes = before_last, changes
        self.spent, self.changed = 0, 0
        self.last: Firing | None = None

    @property
    def empty(self) -> bool:
        return self.spent >= self.limit

    def burn(self, rule: str, node: Node | None = None, made: Sequence[Node] = ()) -> None:
        """Counts a firing of a rule at `node`, or a sweep. The graph is still as it was, but for the new nodes `made`
        that nothing uses yet.
        """
        self.spent += 1
        if self.spent == self.limit:
            self.last = Firing(rule) if node is None else Firing(rule, node.where, node.loc)
            if self.before_last is not None and (node is not None or self.changes is None):
                self.before_last(made)

    def change(self, node: Node | None = None) -> bool:
        """Asked by a sweep before each of its changes, with the node that it is about: whether it may be done.

        Once the answer is no it stays so until the sweep ends.
        """
        if self.spent != self.limit:
            return True
        if self.changed == self.changes:
            return False
        self.changed += 1
        if self.changed == self.changes and self.last is not None:
            self.last = self.last if node is None else Firing(self.last.rule, node.where, node.loc)
            if self.before_last is not None:
                self.before_last(())
        return True

    def sweep(self, name: str, run: Callable[[], int], rows: dict[str, RuleStatistics]) -> int:
        """Runs something that changes the whole graph at once, as one rewrite; nothing, and 0, without fuel.

        `run` gives how much it changed, and asks `change` before each change if these can be told apart; `rows` get its
        statistics.
        """
        if self.empty:
            return 0
        row = rows.setdefault(name, RuleStatistics())
        self.burn(name)
        started = time.perf_counter()
        hits = run()
        row.tries, row.hits, row.seconds = row.tries + 1, row.hits + hits, row.seconds + time.perf_counter() - started
        return hits
