"""Every row of the lowering: from an ATen overload to the function that lowers it."""

from __future__ import annotations

from . import (
    activations,
    attention,
    creation,
    elementwise,
    indexing,
    linear,
    normalization,
    numbers,
    ordering,
    recurrent,
    reductions,
    shapes,
    spatial,
)
from .lowering import Rows
from .spectral import COMPLEX_ROWS

ROWS: Rows = {
    **elementwise.ROWS,
    **activations.ROWS,
    **linear.ROWS,
    **normalization.ROWS,
    **spatial.ROWS,
    **shapes.ROWS,
    **indexing.ROWS,
    **creation.ROWS,
    **reductions.ROWS,
    **ordering.ROWS,
    **attention.ROWS,
    **recurrent.ROWS,
    **numbers.ROWS,
}

NAMES = ROWS.keys() | COMPLEX_ROWS.keys()
"""Every operator that has a row, for real or for complex numbers."""
