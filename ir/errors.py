"""The errors that tersor raises on purpose: what happened, where in the user's model, why, and what to do about it."""

from __future__ import annotations


class TersorError(Exception):
    """Base of every deliberate error; printed as up to four lines, never with a traceback on the command line.

    `what` is one clause, `where` a node or file or what describes one when printed, `why` what was expected and found,
    `do` the way out.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: object = "", why: str = "", do: str = "") -> None:
        self.what, self.where, self.why, self.do = what, str(where), why, do
        super().__init__(what)

    def __str__(self) -> str:
        rows = [self.what]
        rows += [
            f"  {label:<5} {text}" for label, text in (("at", self.where), ("why", self.why), ("do", self.do)) if text
        ]
        return "\n".join(rows)


class UsageError(TersorError):
    """The caller asked for something that does not exist or does not fit together (exit code 2)."""

    exit_code = 2


class InvalidModelError(TersorError):
    """A file or graph breaks the rules of its format (exit code 3)."""


class UnsupportedError(TersorError):
    """A valid model holds something that the requested operation cannot express (exit code 3)."""


class LimitError(TersorError):
    """A model asks for more nodes, bytes or nesting than the limits allow (exit code 3)."""


class VerificationError(TersorError):
    """A graph breaks an invariant of the IR; the fault is in a pass or frontend, not in the user's model (exit code
    3).
    """


class ParityError(TersorError):
    """Outputs differ from the reference by more than the contract allows (exit code 4)."""

    exit_code = 4
