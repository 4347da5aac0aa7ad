"""Loading, comparing and timing models: the small functions of the public face."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from ..backends.runners import Feeds, OrtRunner
from ..backends.runners.rounded import computes_in_bfloat16, runner_of
from ..frontends.onnx import Limits
from ..frontends.onnx import load as load_onnx
from ..ir import Model, ParityError, UsageError
from ..transforms.samples import single
from ..transforms.select import label
from . import measure, report
from .compress import parity_feeds
from .data import Data
from .folders import model_in
from .interop import bridge, onnx_ir_model
from .rows import LAYERS, shape_text

if TYPE_CHECKING:
    import onnx
    import onnx_ir  # pyright: ignore[reportMissingImports]
    import torch

Source = Union[
    str, os.PathLike[str], bytes, "onnx.ModelProto", "onnx_ir.Model", "torch.onnx.ONNXProgram",
    "torch.export.ExportedProgram", tuple[Any, ...], Model,
]  # fmt: skip
VERIFY_TOLERANCE = 1e-4


def load(model: Source, *, limits: Limits | None = None, mmap: bool = True, freeze_defaults: bool = False) -> Model:
    """A model from an ONNX file, bytes or ModelProto, from a folder with one ONNX model (as Hugging Face tools write
    them), from onnx_ir or torch's ONNXProgram, from an ExportedProgram, or a tuple (module, args, kwargs, shapes).

    Of the tuple the last two may be left out. Tensors of onnx_ir are shared. Weights of a file stay in it, mapped;
    mmap=False copies them, for files that are replaced in place. Old files list weights among the inputs, with
    defaults; freeze_defaults=True makes constants of them, which can then be folded, pruned and quantized. A program
    with operators that tersor has no rules for comes by way of PyTorch's own exporter, with a warning. Raises
    UsageError for a missing file or another kind of object, InvalidModelError for a file that is broken or breaks a
    limit, UnsupportedError for an operator that cannot be taken in.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, tuple):
        return _load_module(*model)
    if "torch" in sys.modules:
        import torch

        if isinstance(model, torch.export.ExportedProgram):
            from ..frontends.torch import from_exported

            return _or_exported(lambda: from_exported(model))
        if isinstance(model, torch.nn.Module):
            raise UsageError("a module needs example arguments", do="call load((module, (example_input,)))")
    if (held := onnx_ir_model(model)) is not None:
        loaded = bridge("frontends").load(held, limits=limits or Limits(), mmap=mmap)
    else:
        if isinstance(model, str | os.PathLike) and os.path.isdir(model):
            model = model_in(model) or model
        loaded = load_onnx(model, limits=limits or Limits(), mmap=mmap)  # pyright: ignore[reportArgumentType]  # the rest
    if freeze_defaults:
        loaded.graph.freeze_defaults()
    return loaded


def _load_module(module: Any = None, args: Any = None, kwargs: Any = None, shapes: Any = None, *more: Any) -> Model:
    from ..frontends.torch import from_module

    if args is None or more:
        raise UsageError(
            "not a module with arguments", do="call load((module, args, kwargs, dynamic_shapes)), the last two optional"
        )
    return _or_exported(lambda: from_module(module, args, kwargs, dynamic_shapes=shapes))


def _or_exported(lower: Callable[[], Model]) -> Model:
    """What our own rules give, or PyTorch's own exporter for a whole program that has operators unknown to them."""
    from ..frontends.torch import UnknownOperatorsError

    try:
        return lower()
    except UnknownOperatorsError as unknown:
        from .exporter import from_stock_exporter

        return from_stock_exporter(unknown)


def verify(
    reference: Model, candidate: Model, data: Data | None = None, *, tolerance: float = VERIFY_TOLERANCE, seed: int = 0
) -> report.Parity:
    """The worst difference between the outputs of two models, on `data` or on synthesized inputs (typed, seeded).

    tolerance: the largest max|a - b| / max|reference|. Raises ParityError beyond it, UsageError when the interfaces
    differ.
    """
    _same_interface(reference, candidate)
    bound = data.bound(reference.graph) if data is not None else None
    feeds = parity_feeds(reference, bound, seed)
    difference = measure.distance(map(runner_of(reference).run, feeds), runner_of(candidate), feeds)
    parity = measure.as_parity(
        difference,
        kind="verify",
        against="the reference",
        inputs="given" if bound is not None else "synthetic",
        tolerance=tolerance,
    )
    if not parity.passed:
        raise ParityError(
            "the models differ",
            why=f"max|a-b|/max|ref| is {difference.max_error:.3g}, expected at most {tolerance:.3g}, "
            f"on {len(feeds)} {parity.inputs} input(s); SQNR {difference.sqnr_db:.1f} dB",
            do="raise --tolerance if this is what you expect (a quantized model differs)",
        )
    return parity


def _same_interface(a: Model, b: Model) -> None:
    for what, left, right in (
        ("inputs", [v.name for v in a.graph.inputs], [v.name for v in b.graph.inputs]),
        ("outputs", a.graph.output_names, b.graph.output_names),
    ):
        if left != right:
            raise UsageError(
                f"the models have different {what}", why=f"{left} and {right}", do="compare models of one interface"
            )


def benchmark(
    models: Model | Sequence[Model], data: Data | None = None, *, runs: int = measure.RUNS, seed: int = 0
) -> list[report.Latency]:
    """Latency of one model, or of several interleaved in one run (ratios are to the first), on one thread of ONNX
    Runtime.

    The input is the first of `data`, else a synthesized one; one sample where the batch size is open. Raises UsageError
    for a model that computes in bfloat16.
    """
    several = [models] if isinstance(models, Model) else list(models)
    if any(map(computes_in_bfloat16, several)):
        raise UsageError(
            "ONNX Runtime does not compute in bfloat16 on the CPU",
            why="it has no kernels for it, so that there is nothing to time",
            do="time the file in the runtime that it is for",
        )
    feed: Feeds = parity_feeds(several[0], data.bound(several[0].graph) if data is not None else None, seed)[0]
    return measure.latencies([OrtRunner(m) for m in several], single(several[0].graph, feed), runs, lambda *_: None)


def describe(model: Model) -> Mapping[str, Any]:
    """What `tersor inspect` shows: interface, figures, operators by count, layers with the shape of their weight."""
    operators: dict[str, int] = {}
    for node in model.graph.walk():
        name = f"{node.domain}::{node.op}" if node.domain else node.op
        operators[name] = operators.get(name, 0) + 1
    return {
        "name": model.graph.name,
        "opset": model.source_opset or None,
        "inputs": {v.name: repr(v.type) for v in model.graph.inputs},
        "outputs": {n: repr(v.type) for n, v in zip(model.graph.output_names, model.graph.outputs, strict=True)},
        **measure.static_figures(model, None),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        "layers": [
            {"name": label(node), "op": node.op, "shape": shape_text(node)}
            for node in model.graph.walk()
            if node.op in LAYERS
        ],
    }
