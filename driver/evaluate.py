"""The user's own metrics: a function that is given a way to run the model and gives a score, or one score per
sample.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.runners import Feeds
from ..ir import Array, TersorError, UsageError
from ..transforms.manager import place
from .report import Metric

Run = Callable[[Feeds], dict[str, Array]]
Evaluate = Callable[[Run], Any]


def score(evaluate: Evaluate, run: Run, name: str) -> Metric:
    """The metric of a model: the mean with a 95 % interval where the function gives one score per sample (at least
    two).

    The interval is mean +- 1.96 standard errors, cut to [0, 1] for scores that are all 0 or 1.
    """
    try:
        found = evaluate(run)
    except TersorError:
        raise
    except Exception as error:  # it is the user's code, which may raise anything
        do = "try the function on its own; it is given a way to run the model"
        raise UsageError(f"metric {name!r} failed", why=place(error), do=do) from error
    try:
        values = np.asarray(found, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        what = type(found).__name__
        raise UsageError(f"metric {name!r} is not a number", why=f"the function returned {what}: {error}") from error
    if not values.size or not bool(np.isfinite(values).all()):
        raise UsageError(f"metric {name!r} is not a number", why=f"the function returned {values.tolist()[:5]}")
    mean = float(values.mean())
    if values.size == 1:
        return Metric(value=mean)
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(values.size)
    low, high = mean - half, mean + half
    if bool(np.isin(values, (0.0, 1.0)).all()):
        low, high = max(0.0, low), min(1.0, high)
    return Metric(value=mean, low=low, high=high)


class Traceless(importlib.machinery.SourceFileLoader):
    """Leaves no compiled form in the user's folder."""

    def set_data(self, path: str, data: object, **_: object) -> None:
        """Where a compiled form would be written."""


def load_function(reference: str) -> tuple[str, Evaluate]:
    """(name, function) from `file.py:name`; the file runs as the user's own code. Raises UsageError when it is not
    there.
    """
    path_text, _, name = reference.rpartition(":")
    path = Path(path_text)
    if not path_text or not name.isidentifier():
        raise UsageError(f"not a function: {reference!r}", do="write it as FILE.py:NAME")
    if not path.is_file():
        raise UsageError(f"no such file: {path}", where=reference)
    if path.suffix != ".py":
        raise UsageError(f"{path} is no Python file", where=reference, do="give a file that ends in .py")
    loader = Traceless(f"_user_{path.stem}", str(path))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(loader.name, loader, origin=str(path)))
    module.__file__ = str(path)
    try:
        loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} cannot be imported", why=place(error)) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{path} has no function called {name!r}")
    return name, function


def scores(evaluate: Mapping[str, Evaluate], run: Run) -> dict[str, Metric]:
    """All metrics of one model."""
    return {name: score(function, run, name) for name, function in evaluate.items()}
