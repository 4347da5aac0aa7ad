"""The ONNX reference evaluator: slow, in numpy, close to the specification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir import Array, Model, TersorError, Value
from ..onnx import to_proto
from ..onnx.lowering import newest_needed
from .base import Feeds, NamedRunner, check_feeds, inputs_of
from .taps import tapped


class ReferenceRunner(NamedRunner):
    """Runs a model at the canonical opset in `onnx.reference`; `taps` are values of the outermost graph.

    Raises TersorError where the evaluator cannot load or run the model.
    """

    def __init__(self, model: Model, taps: Sequence[Value] = ()) -> None:
        from onnx.reference import ReferenceEvaluator  # importing it takes longer than most models need it

        self.inputs, self.names = inputs_of(model.graph), list(model.graph.output_names)
        copy = tapped(model, taps)
        self._taps = copy.taps
        try:
            self._evaluator = ReferenceEvaluator(to_proto(copy.model, newest_needed(copy.model)))
        except TersorError:
            raise
        except Exception as error:
            raise TersorError("the reference evaluator cannot load the model", why=_one_line(error)) from error

    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        arrays = {name: array if isinstance(array, list) else np.asarray(array) for name, array in feeds.items()}
        arrays = check_feeds(self.inputs, arrays)
        try:
            with np.errstate(all="ignore"):
                return self._evaluator.run(names, arrays)  # pyright: ignore[reportReturnType]
        except Exception as error:
            raise TersorError("the reference evaluator cannot run the model", why=_one_line(error)) from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
