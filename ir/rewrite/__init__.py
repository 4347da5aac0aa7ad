"""Patterns, rules and the worklist driver."""
