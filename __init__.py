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
    from . import testing
    from .backends.onnx import save
    from .driver.api import benchmark, load, verify
    from .driver.compress import apply, bisect, compress
    from .driver.data import data
    from .driver.explain import why
    from .driver.ir_pass import as_ir_pass
    from .driver.recipes import Recipe, recipe
    from .driver.result import Result
    from .frontends.onnx import Limits
    from .ir import Builder, Graph, Model, Node, TersorError, UsageError, Value, parse, to_text
    from .ir.rewrite import P, Rewriter, Rule, decline, rule
    from .transforms.base import Context, Decision, Outcome, Pass
    from .transforms.instruments import Instruments
    from .transforms.parity import Check
    from .transforms.prune import Prune, PruneDepth, PruneExperts
    from .transforms.quantize import Quantize
    from .transforms.rule_pass import RulePass
    from .transforms.select import Selection
    from .transforms.simplify import Simplify

_HOMES = {
    ".backends.onnx": ("save",),
    ".driver.api": ("benchmark", "load", "verify"),
    ".driver.compress": ("apply", "bisect", "compress"),
    ".driver.data": ("data",),
    ".driver.explain": ("why",),
    ".driver.ir_pass": ("as_ir_pass",),
    ".driver.recipes": ("Recipe", "recipe"),
    ".driver.result": ("Result",),
    ".frontends.onnx": ("Limits",),
    ".ir": ("Builder", "Graph", "Model", "Node", "TersorError", "UsageError", "Value", "parse", "to_text"),
    ".ir.rewrite": ("P", "Rewriter", "Rule", "decline", "rule"),
    ".transforms.base": ("Context", "Decision", "Outcome", "Pass"),
    ".transforms.instruments": ("Instruments",),
    ".transforms.parity": ("Check",),
    ".transforms.rule_pass": ("RulePass",),
    ".transforms.prune": ("Prune", "PruneDepth", "PruneExperts"),
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
    "Instruments",
    "Limits",
    "Model",
    "Node",
    "Outcome",
    "P",
    "Pass",
    "Prune",
    "PruneDepth",
    "PruneExperts",
    "Quantize",
    "Recipe",
    "Result",
    "Rewriter",
    "Rule",
    "RulePass",
    "Selection",
    "Simplify",
    "TersorError",
    "UsageError",
    "Value",
    "apply",
    "as_ir_pass",
    "benchmark",
    "bisect",
    "compress",
    "data",
    "decline",
    "load",
    "parse",
    "recipe",
    "rule",
    "save",
    "testing",
    "to_text",
    "verify",
    "why",
]


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module(".testing", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'tersor' has no attribute {name!r}")
    found = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
