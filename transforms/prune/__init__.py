"""Structured pruning."""

from .prune import Prune

__all__ = ["Prune"]
