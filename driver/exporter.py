"""PyTorch's own ONNX exporter, for a whole program that the PyTorch frontend has no rules for."""

from __future__ import annotations

import warnings
from typing import Any

from ..frontends.torch import UnknownOperatorsError
from ..ir import Model
from .interop import bridge


class FallbackWarning(UserWarning):
    """A model did not come in by tersor's own rules."""


def from_stock_exporter(found: UnknownOperatorsError) -> Model:
    """The program that `found` could not take in, by way of `torch.onnx.export`; warns with the operators' names.

    Parameters may lose their names, and nodes their module and line. Raises `found` where the exporter is not installed
    or fails, too.
    """
    import torch

    try:
        made: Any = torch.onnx.export(found.program, dynamo=True, verbose=False)
        model = bridge("frontends").load(made.model)
    except Exception as error:
        said = str(error).strip().splitlines()
        why = f"torch.onnx.export fails, too: {said[0] if said else type(error).__name__}"
        found.why = f"{found.why}; {why}" if found.why else why
        raise found from error
    names = ", ".join(found.operators)
    warnings.warn(
        f"PyTorch's stock exporter wrote this model, since tersor has no rule for {names}: "
        "names of parameters, modules and lines may be lost",
        FallbackWarning,
        stacklevel=2,
    )
    return model
