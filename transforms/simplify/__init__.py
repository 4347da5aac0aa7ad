"""Simplification: folding constants and shapes, dead and common subexpressions, identities, BatchNormalization into
weights.
"""

from .common import merge_common
from .constants import fold_constants
from .dead import erase_dead
from .simplify import RULES, Simplify

__all__ = ["RULES", "Simplify", "erase_dead", "fold_constants", "merge_common"]
