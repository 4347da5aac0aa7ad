"""The axis-rule table: a row per operator of ai.onnx. An operator without a row freezes everything that it touches."""

from __future__ import annotations

from . import (
    attention,
    einsum,
    elementwise,
    indexing,
    layout,
    linear,
    norms,
    parts,
    quantized,
    recurrent,
    reductions,
    shapes,
)
from .row import Rule

RULES: dict[str, Rule] = {
    **elementwise.ROWS,
    **linear.ROWS,
    **attention.ROWS,
    **einsum.ROWS,
    **recurrent.ROWS,
    **norms.ROWS,
    **reductions.ROWS,
    **layout.ROWS,
    **parts.ROWS,
    **indexing.ROWS,
    **quantized.ROWS,
    **shapes.ROWS,
}

__all__ = ["RULES", "Rule"]
