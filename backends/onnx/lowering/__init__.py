"""From the canonical opset down to an older one: decompositions in the IR, then the older spelling of what remains."""

from .descent import (
    OLDEST_OPSET,
    expressible,
    lowered,
    lowest,
    lowest_without_decomposition,
    newest_needed,
    spelled,
    stand_in,
)
from .form import Form
from .resizing import resampled

__all__ = [
    "OLDEST_OPSET", "Form", "expressible", "lowered", "lowest", "lowest_without_decomposition",
    "newest_needed", "resampled", "spelled", "stand_in",
]  # fmt: skip
