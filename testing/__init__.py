"""Testing rewrite rules: random instances of a rule's pattern, checked for everything that a rule must hold."""

from .check import RuleReport, check_rule

__all__ = ["RuleReport", "check_rule"]
