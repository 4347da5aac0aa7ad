"""Runs a failure of a pass again, from the folder that was written when it happened (transforms/reproducer.py)."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

from ..frontends.onnx import fallback
from ..ir import TersorError, UsageError
from ..transforms.base import Context, Pass
from ..transforms.manager import run_passes
from ..transforms.options import make
from ..transforms.parity import Check
from ..transforms.reproducer import Case, read
from .passes import available


def main(script: str) -> int:
    """What `repro.py` does: prints the failure and gives its exit code; 0 where the pass works now."""
    try:
        case = read(Path(script).parent)
        rerun(case)
    except TersorError as error:
        print("\n".join([f"tersor: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return error.exit_code
    print(f"{case.pass_name} works now: it failed with {case.error} when this was written")
    return 0


def rerun(case: Case) -> None:
    """Runs the pass on the model before it, checked as it was then. Raises what it raises."""
    samples = case.feeds or None
    check = Check(inputs=case.feeds, tolerance=case.tolerance, enabled=case.checked)
    context = Context(samples=samples, seed=case.seed, fallback=fallback)
    run_passes(case.model.clone(), [pass_in(case)], context, check)


def pass_in(case: Case) -> Pass:
    """The pass of a case, by its class, else by its name. Raises UsageError where it is not installed here."""
    options = {name: ast.literal_eval(text) for name, text in case.options.items()}
    registry = available()
    kind = registry.get(case.pass_name)
    if kind is None or class_name(kind) != case.pass_class:
        kind = imported(case.pass_class) or kind
    if kind is None:
        raise UsageError(
            f"the pass {case.pass_name!r} cannot be found",
            why=f"it was {case.pass_class}, which cannot be imported here",
            do="run where that module can be imported: set PYTHONPATH, or install its package",
        )
    return make(kind, options)


def class_name(kind: type[Pass]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def imported(name: str) -> type[Pass] | None:
    """A pass by `module:class`, or None where there is none."""
    module, _, path = name.partition(":")
    try:
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, Pass) else None
