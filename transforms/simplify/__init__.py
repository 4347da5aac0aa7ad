"""Simplification."""
