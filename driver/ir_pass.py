"""tersor's passes as one pass of onnx_ir, for its pass sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..transforms.base import Pass
from ..transforms.parity import Check
from .compress import apply
from .data import Data
from .interop import bridge
from .passes import resolve

if TYPE_CHECKING:
    import onnx_ir  # pyright: ignore[reportMissingImports]


def as_ir_pass(
    *passes: Pass | str, data: Data | None = None, check: Check | None = None, seed: int = 0
) -> onnx_ir.passes.FunctionalPass:
    """Passes as one pass of onnx_ir, for its pass sequences; a new model that shares its tensors comes out.

    The arguments are those of `apply`: every step is verified and compared. Raises UsageError for passes that there are
    not and when onnx_ir is not installed; what goes wrong in a run is raised by it.
    """
    chosen = resolve(list(passes))
    frontend, backend = bridge("frontends"), bridge("backends")

    class TersorPass(frontend.onnx_ir.passes.FunctionalPass):
        """Runs the passes given and says whether one of them changed anything."""

        def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
            result = apply(frontend.load(model), *chosen, data=data, check=check, seed=seed)
            changed = any(step.outcome.changed for step in result.steps)
            return frontend.onnx_ir.passes.PassResult(backend.to_onnx_ir(result.model), modified=changed)

        def __repr__(self) -> str:
            return f"TersorPass({', '.join(map(str, chosen))})"

    return TersorPass()
