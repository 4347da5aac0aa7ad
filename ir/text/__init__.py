"""The text form of a graph: what tests compare, what printing shows, what a reproducer holds."""

from .parser import parse, parse_type
from .printer import skeleton, to_text

__all__ = ["parse", "parse_type", "skeleton", "to_text"]
