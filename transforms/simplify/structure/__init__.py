"""Dead code, common subexpressions, no-ops, and families of data movement composed."""

from . import identities
from .common import merge_common
from .dead import erase_dead

RULES = identities.RULES
"""Exact at every level: no parameter changes."""

__all__ = ["RULES", "erase_dead", "merge_common"]
