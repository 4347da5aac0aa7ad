"""What is done around each pass besides running it: printing, looking for the culprit, keeping what failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backends.files import explained, write_text
from ..ir import Model, UsageError, to_text
from .base import Pass
from .bisect import changes

ALL = "all"


@dataclass(frozen=True)
class Instruments:
    """Which graphs are printed, and what happens when a pass fails.

    `print_before`, `print_after`, `print_changed` (what a pass changed) and `print_on_failure` (the graph as the pass
    left it) take names of passes, or "all"; the text goes to stderr, or into files of `folder`. With `bisect` the
    rewrite is looked for that broke an exact pass. Failures of a pass are written into folders below `reproducers`
    that run again by themselves (None: they are not), with numbers made up for the weights unless
    `reproducer_weights`.
    """

    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    print_changed: tuple[str, ...] = ()
    print_on_failure: tuple[str, ...] = ()
    folder: Path | None = None
    bisect: bool = True
    reproducers: Path | None = None
    reproducer_weights: bool = False

    def check(self, passes: Sequence[Pass]) -> None:
        """Raises UsageError for a name that none of the passes has."""
        names = [done.name for done in passes]
        for option in ("print_before", "print_after", "print_changed", "print_on_failure"):
            for name in getattr(self, option):
                if name != ALL and name not in names:
                    raise UsageError(
                        f"{option} asks for {name!r}, which is not run",
                        why=f"the passes are {', '.join(dict.fromkeys(names)) or 'none'}",
                        do="give the name of one, or all",
                    )

    def before(self, index: int, done: Pass, model: Model) -> str:
        """To be called before a pass; gives the text that `after` compares with, '' where nobody asks for it."""
        if chosen(self.print_before, done):
            self.print(index, done, "before", to_text(model.graph))
        return to_text(model.graph) if chosen(self.print_changed, done) else ""

    def after(self, index: int, done: Pass, model: Model, before: str) -> None:
        """To be called after a pass that went well."""
        if chosen(self.print_after, done):
            self.print(index, done, "after", to_text(model.graph))
        if chosen(self.print_changed, done):
            self.print(index, done, "changed", changes(before, to_text(model.graph)) or "nothing changed")

    def failed(self, index: int, done: Pass, model: Model) -> None:
        """To be called with the model as a pass that failed left it."""
        if chosen(self.print_on_failure, done):
            try:
                text = to_text(model.graph)
            except Exception as error:  # the graph may be in any state
                text = f"the graph cannot be printed: {type(error).__name__}: {error}"
            self.print(index, done, "failure", text)

    def print(self, index: int, done: Pass, moment: str, text: str) -> None:
        if self.folder is None:
            sys.stderr.write(f"# {moment} {done}\n{text.rstrip()}\n")
            return
        path = self.folder / f"{index + 1:02d}-{done.name}-{moment}.txt"
        with explained(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text.rstrip() + "\n")


def chosen(names: Sequence[str], done: Pass) -> bool:
    """True where a pass is asked for by name, or all are."""
    return ALL in names or done.name in names
