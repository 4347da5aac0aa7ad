"""Int8: observers and calibration, scales, placement of quantized values, and the pass that uses them."""

from .calibrate import calibrate
from .equalize import Equalize
from .observers import OBSERVERS, Observer, Range
from .quantize import Quantize
from .rounding import AdaRound, Gptq
from .smooth import Smooth

__all__ = ["OBSERVERS", "AdaRound", "Equalize", "Gptq", "Observer", "Quantize", "Range", "Smooth", "calibrate"]
