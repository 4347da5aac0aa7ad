"""Rewriting: patterns, rules and the worklist driver. The rules themselves live where they are used."""

from .driver import Rewriter, RewriteResult
from .explain import Explainer, Explanation, Survey
from .fuel import Firing, Fuel
from .patterns import P, Pattern, is_scalar, match_node
from .rules import Declined, Result, Rule, decline, rule
from .statistics import RuleStatistics

__all__ = [
    "Declined",
    "Explainer",
    "Explanation",
    "Firing",
    "Fuel",
    "P",
    "Pattern",
    "Result",
    "RewriteResult",
    "Rewriter",
    "Rule",
    "RuleStatistics",
    "Survey",
    "decline",
    "is_scalar",
    "match_node",
    "rule",
]
