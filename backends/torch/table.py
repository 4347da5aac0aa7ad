"""The table of the PyTorch emitter: a row per operator, by (domain, operator)."""

from __future__ import annotations

from . import control, elementwise, indexing, layers, quantized, recurrent, reductions, resizing, shaping, windows
from .emitter import Row

FAMILIES = (elementwise, reductions, shaping, indexing, resizing, windows, layers, recurrent, quantized, control)

TABLE: dict[tuple[str, str], Row] = {("", op): row for family in FAMILIES for op, row in family.ROWS.items()}
