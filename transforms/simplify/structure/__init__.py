"""Dead code, common subexpressions, no-ops, elementwise arithmetic, and families of data movement composed."""

from . import (
    arithmetic,
    booleans,
    branches,
    casts,
    comparisons,
    crossing,
    identities,
    layout,
    linear,
    movement,
    padding,
    passing,
    pieces,
    stacks,
    tables,
)
from .common import merge_common
from .dead import erase_dead

RULES = (
    *branches.RULES,
    *identities.RULES,
    *casts.RULES,
    *booleans.RULES,
    *arithmetic.RULES,
    *comparisons.RULES,
    *padding.RULES,
    *linear.RULES,
    *pieces.RULES,
    *tables.RULES,
    *stacks.RULES,
    *layout.RULES,
    *passing.RULES,
    *crossing.RULES,
    *movement.RULES,
)
"""Exact at every level: no parameter changes."""

DEPLOY_RULES = (*arithmetic.DEPLOY_RULES, *tables.DEPLOY_RULES, *crossing.DEPLOY_RULES)
"""Rules that change constants which may be parameters."""

__all__ = ["DEPLOY_RULES", "RULES", "erase_dead", "merge_common"]
