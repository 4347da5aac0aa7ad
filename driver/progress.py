"""Progress bars on stderr, shown only on a terminal and only for work that has lasted a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

DELAY = 1.0


class Bars:
    """One bar per kind of work; `update` is what passes call (`transforms.base.Progress`)."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled and sys.stderr.isatty()
        self.started: dict[str, float] = {}
        self.tasks: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not self.enabled,
        )

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def update(self, label: str, done: int, total: int | None) -> None:
        """Shows that `done` of `total` units of `label` are done; the bar goes away when they all are."""
        if not self.enabled:
            return
        now = time.monotonic()
        if now - self.started.setdefault(label, now) < DELAY:
            return
        if label not in self.tasks:
            self.tasks[label] = self.progress.add_task(label, total=total)
        self.progress.update(self.tasks[label], completed=done, total=total, visible=total is None or done < total)
