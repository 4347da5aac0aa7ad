"""What the caller of the frontend may react to. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir import UnsupportedError

if TYPE_CHECKING:
    import torch


class UnknownOperatorsError(UnsupportedError):
    """A program uses operators that have neither a row nor a decomposition that helps.

    `operators` are their ATen names; `program` is the exported program as it was given, for another exporter to try.
    """

    def __init__(
        self, error: UnsupportedError, operators: tuple[str, ...], program: torch.export.ExportedProgram
    ) -> None:
        super().__init__(error.what, where=error.where, why=error.why, do=error.do)
        self.operators, self.program = operators, program
