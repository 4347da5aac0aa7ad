"""Constants, known shapes and control flow that is decided at compile time."""

from . import broadcasting, control, indices, sequences, targets
from .constants import BUDGET, Room, fold_constants
from .sizes import rebuild_sizes

RULES = (*control.RULES, *targets.RULES, *broadcasting.RULES, *indices.RULES, *sequences.RULES)
"""Exact at every level."""

__all__ = ["BUDGET", "RULES", "Room", "fold_constants", "rebuild_sizes"]
