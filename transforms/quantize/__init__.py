"""Int8: observers and calibration, scales, placement of quantized values, and the pass that uses them."""

from .calibrate import calibrate
from .equalize import Equalize
from .half import Half
from .observers import OBSERVERS, Observer, Range
from .qoperator import ToQdq, ToQOperator
from .quantize import Quantize
from .rounding import AdaRound, Gptq
from .smooth import Smooth

__all__ = [
    "OBSERVERS",
    "AdaRound",
    "Equalize",
    "Gptq",
    "Half",
    "Observer",
    "Quantize",
    "Range",
    "Smooth",
    "ToQOperator",
    "ToQdq",
    "calibrate",
]
