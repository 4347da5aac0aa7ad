"""Operators written out as several nodes become the one operator that they are."""

from ....ir.rewrite import Rule
from . import activations, attention, caching, causal, heads, masks, norms, recurrent, reductions, rotary, spatial

RULES: tuple[Rule, ...] = (
    *norms.RULES,
    *activations.RULES,
    *reductions.RULES,
    *spatial.RULES,
    *recurrent.RULES,
    *rotary.RULES,
    *attention.RULES,
    *masks.RULES,
    *causal.RULES,
    *caching.RULES,
    *heads.RULES,
)
"""Exact at every level: the backend writes them out again where the target lacks them."""

PROMISED: dict[str, tuple[Rule, ...]] = {
    **norms.PROMISED,
    masks.GUARD: (*attention.PROMISED[masks.GUARD], *masks.PROMISED[masks.GUARD]),
}
"""Rules that are exact only where a promise holds, by its name."""

__all__ = ["PROMISED", "RULES"]
