"""What each rule did in a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class RuleStatistics:
    """Counts of one rule: nodes at which it was tried, firings, reasons for declining, and seconds spent in it."""

    tries: int = 0
    hits: int = 0
    declined: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0

    def add(self, other: RuleStatistics) -> None:
        """Adds another run's counts."""
        self.tries += other.tries
        self.hits += other.hits
        self.declined += other.declined
        self.seconds += other.seconds
