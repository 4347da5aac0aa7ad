"""Linear algebra over weights: what inference does not need apart becomes one operator."""

from . import affine, before, directions, einsum, products, projections, scales, uniform

RULES = (
    *uniform.RULES,
    *einsum.RULES,
    *affine.RULES,
    *scales.RULES,
    *before.RULES,
    *products.RULES,
    *projections.RULES,
    *directions.RULES,
)
"""Level "deploy" only: parameters change."""

__all__ = ["RULES"]
