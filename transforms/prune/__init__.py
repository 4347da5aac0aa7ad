"""Structured pruning."""

from .depth import PruneDepth
from .experts import PruneExperts
from .factorize import Factorize
from .prune import Prune
from .sparsify import Sparsify

__all__ = ["Factorize", "Prune", "PruneDepth", "PruneExperts", "Sparsify"]
