"""Operators written out as several nodes become the one operator that they are."""

from ....ir.rewrite import Rule

RULES: tuple[Rule, ...] = ()
"""Exact at every level: the backend writes them out again where the target lacks them."""

__all__ = ["RULES"]
