"""tersor: a compiler for trained neural networks.

    import tersor as ts

    model = ts.load("model.onnx")
    result = ts.compress(model, "size<=0.3x", data=ts.data("calibration.npz"), methods="simplify,prune(ratio=0.3),int8")
    print(result)
    result.save("small.onnx")

Names are imported when they are first used: importing tersor imports neither torch nor ONNX Runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .backends.onnx import save
    from .driver.api import benchmark, load, verify
    from .driver.compress import apply, compress
    from .driver.data import data
    from .driver.ir_pass import as_ir_pass
    from .driver.result import Result
    from .frontends.onnx import Limits
    from .ir import Builder, Graph, Model, Node, TersorError, UsageError, Value, parse, to_text
    from .ir.rewrite import P, Rewriter, decline, rule
    from .transforms.base import Context, Decision, Outcome, Pass
    from .transforms.manager import Check
    from .transforms.prune import Prune
    from .transforms.quantize import Quantize
    from .transforms.select import Selection
    from .transforms.simplify import Simplify

_HOMES = {
    ".backends.onnx": ("save",),
    ".driver.api": ("benchmark", "load", "verify"),
    ".driver.compress": ("apply", "compress"),
    ".driver.data": ("data",),
    ".driver.ir_pass": ("as_ir_pass",),
    ".driver.result": ("Result",),
    ".frontends.onnx": ("Limits",),
    ".ir": ("Builder", "Graph", "Model", "Node", "TersorError", "UsageError", "Value", "parse", "to_text"),
    ".ir.rewrite": ("P", "Rewriter", "decline", "rule"),
    ".transforms.base": ("Context", "Decision", "Outcome", "Pass"),
    ".transforms.manager": ("Check",),
    ".transforms.prune": ("Prune",),
    ".transforms.quantize": ("Quantize",),
    ".transforms.select": ("Selection",),
    ".transforms.simplify": ("Simplify",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Builder",
    "Check",
    "Context",
    "Decision",
    "Graph",
    "Limits",
    "Model",
    "Node",
    "Outcome",
    "P",
    "Pass",
    "Prune",
    "Quantize",
    "Result",
    "Rewriter",
    "Selection",
    "Simplify",
    "TersorError",
    "UsageError",
    "Value",
    "apply",
    "as_ir_pass",
    "benchmark",
    "compress",
    "data",
    "decline",
    "load",
    "parse",
    "rule",
    "save",
    "to_text",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tersor' has no attribute {name!r}")
    found = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
