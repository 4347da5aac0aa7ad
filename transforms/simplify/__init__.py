"""Simplification: folding constants and shapes, dead and common subexpressions, identities, composed data movement,
weights folded together, operators raised to single ones.
"""

from .folding import fold_constants
from .simplify import PROMISES, RULES, Simplify
from .structure import erase_dead, merge_common

__all__ = ["PROMISES", "RULES", "Simplify", "erase_dead", "fold_constants", "merge_common"]
