"""Constants, known shapes and control flow that is decided at compile time."""

from . import control
from .constants import BUDGET, Room, fold_constants

RULES = control.RULES
"""Exact at every level."""

__all__ = ["BUDGET", "RULES", "Room", "fold_constants"]
