"""Structured pruning."""

from .factorize import Factorize
from .prune import Prune

__all__ = ["Factorize", "Prune"]
