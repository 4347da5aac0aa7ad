"""What a run gives back: the model, what was measured, and ways to save and use it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..backends.onnx import Opset, save
from ..backends.runners import Feeds, session_of
from ..ir import Model, UsageError
from ..transforms.manager import Step
from . import folders, report
from .files import save_text
from .interop import bridge
from .table import step_table

if TYPE_CHECKING:
    import onnx_ir  # pyright: ignore[reportMissingImports]
    import onnxruntime
    import torch

    from ..backends.torch import Emitted


@dataclass
class Result:
    """A compressed model with its history.

    `model` is the result, `original` what it was made from, `steps` what each pass did, `record` everything that was
    measured (`report.json`), `feeds` the inputs on which the outputs were compared.
    """

    model: Model
    original: Model
    steps: list[Step]
    record: report.Report
    feeds: Sequence[Feeds]

    @property
    def met(self) -> bool | None:
        """Whether the goal was met and passes reached what their options ask for; None without a goal, or when
        something that it asks for was not measured.
        """
        return False if self.missed else self.record.goal.met if self.record.goal else None

    @property
    def missed(self) -> list[str]:
        """What options of passes asked for and the best effort did not reach."""
        return [f"{step.done.name}: {why}" for step in self.steps for why in step.outcome.missed]

    @property
    def why(self) -> str:
        """The verdict in words."""
        verdicts = [*self.missed, *([self.record.goal.verdict] if self.record.goal else [])]
        return "; ".join(verdicts) or "no goal was set"

    @property
    def parity(self) -> report.Parity | None:
        """The distance of the result's outputs from the original's."""
        return self.record.steps[-1].distance

    def save(self, path: str | os.PathLike[str], *, opset: Opset = None) -> None:
        """Writes the model as ONNX, atomically; `opset` is a version, "best", or None for the model's own.

        Raises UsageError when the path cannot be written.
        """
        save(self.model, path, opset=opset)

    def save_folder(
        self, path: str | os.PathLike[str], *, like: str | os.PathLike[str], opset: Opset = None
    ) -> list[Path]:
        """Writes the model as `model.onnx` into a folder, with the configuration and tokenizer of the folder `like`.

        `like` is what a Hugging Face tool wrote and the model was loaded from. Gives the files written. Raises
        UsageError when `like` is no folder or the new one cannot be written.
        """
        copied = folders.copy(folders.companions(like), path)
        place = Path(path) / "model.onnx"
        self.save(place, opset=opset)
        return [place, *copied]

    def session(self, *, opset: Opset = None, **options: Any) -> onnxruntime.InferenceSession:
        """The result in ONNX Runtime, from memory; `options` are those of `onnxruntime.InferenceSession`."""
        return session_of(self.model, opset, **options)

    def to_onnx_ir(self, *, opset: Opset = None) -> onnx_ir.Model:
        """The result as onnx_ir, weights shared. Raises UsageError when onnx_ir is not installed."""
        return bridge("backends").to_onnx_ir(self.model, opset)

    def to_program(self, *, opset: Opset = None) -> torch.onnx.ONNXProgram:
        """The result as what `torch.onnx.export(..., dynamo=True)` gives, weights shared."""
        return bridge("backends").to_program(self.model, opset)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes the report: JSON or one self-contained HTML file, by the path's suffix."""
        kind = report_kind(Path(path))
        save_text(path, self.record.to_json() if kind == ".json" else report.render(self.record))

    def emit_pytorch(self, folder: str | os.PathLike[str], *, dequantize: bool = False) -> Emitted:
        """Writes `model.py`, `model.safetensors` and a parity test into a folder, compared with the model first.

        `dequantize` writes a quantized model as one of floats: weights are the numbers that the integers stand for.
        """
        from ..backends.torch import emit

        return emit(self.model, folder, dequantize=dequantize)

    def to_torch(self) -> torch.nn.Module:
        """The result as a module that computes the same and can be trained."""
        from ..backends.torch import to_module

        return to_module(self.model)

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=160, record=True)
        console.print(step_table(self.record))
        return "\n".join([console.export_text().rstrip(), *([self.why] if self.record.goal else [])])


def report_kind(path: Path) -> str:
    """The suffix by which a report is written. Raises UsageError for one that says nothing."""
    if path.suffix not in (".json", ".html"):
        raise UsageError(
            f"a report cannot be written as {path.suffix or 'a file without a suffix'!r}", do="use .json or .html"
        )
    return path.suffix
