"""Optimization fuel: how many rewrites a run may still do.

Turning it down one by one is how the rewrite is found that breaks something: the steps of a run are the same for any
amount of fuel, up to the one where it is used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..graph import Node
from ..locations import NOWHERE, Loc


@dataclass(frozen=True)
class Firing:
    """One rewrite: the rule or sweep, the node that it matched as a person reads it, and where that came from.

    A sweep over the whole graph has no node.
    """

    rule: str
    node: str = ""
    loc: Loc = NOWHERE


class Fuel:
    """Counts rewrites up to `limit`; None: as many as there are. `last` is the one that used the last unit up."""

    __slots__ = ("last", "limit", "spent")

    def __init__(self, limit: int | None = None) -> None:
        self.limit: float = math.inf if limit is None else limit
        self.spent = 0
        self.last: Firing | None = None

    @property
    def empty(self) -> bool:
        return self.spent >= self.limit

    def burn(self, rule: str, node: Node) -> None:
        """Counts a firing of a rule at `node`, which is still as it was."""
        self.spent += 1
        if self.spent == self.limit:
            self.last = Firing(rule, node.where, node.loc)

    def sweep(self, name: str, run: Callable[[], int]) -> int:
        """Runs something that changes the whole graph at once, as one rewrite; nothing, and 0, without fuel."""
        if self.empty:
            return 0
        self.spent += 1
        if self.spent == self.limit:
            self.last = Firing(name)
        return run()
