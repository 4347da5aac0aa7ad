"""Rewriting: patterns, rules and the worklist driver. The rules themselves live where they are used."""

from .driver import Rewriter, RewriteResult
from .explain import Explainer, Explanation, Survey
from .fuel import Allow, Firing, Fuel, always
from .patterns import P, Pattern, is_scalar, match_node
from .rules import Declined, Result, Rule, decline, rule
from .statistics import RuleStatistics

__all__ = [
    "Allow",
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
    "always",
    "decline",
    "is_scalar",
    "match_node",
    "rule",
]
