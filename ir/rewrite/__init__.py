"""Patterns, rules and the worklist driver."""
from .statistics import RuleStatistics

__all__ = ["RuleStatistics"]
