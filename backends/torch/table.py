"""The table of the PyTorch emitter: a row per operator, by (domain, operator)."""

from __future__ import annotations

from . import (
    control,
    elementwise,
    indexing,
    inplace,
    layers,
    losses,
    quantized,
    recurrent,
    reductions,
    resizing,
    selection,
    shaping,
    spectral,
    windows,
)
from .emitter import Row

FAMILIES = (
    elementwise, inplace, reductions, shaping, indexing, selection, resizing, windows, spectral, layers, losses,
    recurrent, quantized, control,
)  # fmt: skip

TABLE: dict[tuple[str, str], Row] = {("", op): row for family in FAMILIES for op, row in family.ROWS.items()}
