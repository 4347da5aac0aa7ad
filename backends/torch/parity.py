"""Whether an emitted module computes what the graph does, and the test file that repeats the check for the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Array, Dense, DType, Model, ParityError, Tensor, TersorError, UsageError
from ..compare import Difference, compare
from ..runners import Feeds, synthesize
from ..runners.rounded import runner_of

TOLERANCES = {DType.F64: 1e-4, DType.F32: 1e-4, DType.F16: 2e-2, DType.BF16: 5e-2}
QUANTIZED_TOLERANCE = 0.1
"""Where numbers are rounded to a grid inside, the last bit of a float may move one to its neighbour."""

GRID_OPERATORS = frozenset(
    ["QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "Round", "Floor", "Ceil"]
)

TEST = '''"""Compares {stem}.py with outputs recorded when it was written. Run it, or use pytest."""

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
TOLERANCE = {tolerance!r}  # largest error relative to the largest recorded number


def load_model() -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("{stem}", HERE / "{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def numbered(recorded: dict[str, torch.Tensor], kind: str) -> list[torch.Tensor]:
    return [recorded[f"{{kind}}.{{i}}"] for i in range(sum(k.startswith(kind) for k in recorded))]


def test_outputs_equal_the_recorded_ones() -> None:
    recorded = load_file(HERE / "{record}")
    with torch.no_grad():
        outputs = load_model()(*numbered(recorded, "input"))
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    expected = numbered(recorded, "output")
    assert len(outputs) == len(expected)
    for i, (output, wanted) in enumerate(zip(outputs, expected)):
        assert output.shape == wanted.shape and output.dtype == wanted.dtype
        if wanted.numel() and not torch.equal(output, wanted):
            same = (output == wanted) | (output.isnan() & wanted.isnan())
            error = torch.where(same, 0.0, (output.double() - wanted.double()).abs()).max()
            limit = TOLERANCE * wanted.double().nan_to_num(posinf=0, neginf=0).abs().max()
            print(f"output {{i}}: largest error {{error:.3g}}, allowed {{limit:.3g}}")
            assert error <= limit


if __name__ == "__main__":
    test_outputs_equal_the_recorded_ones()
    print("equal within the tolerance")
'''


@dataclass(frozen=True)
class Check:
    """The worst difference of any output, and one call's inputs and outputs for the record."""

    difference: Difference
    record: dict[str, Tensor]
    tolerance: float


def tolerance_of(model: Model, outputs: Mapping[str, Array]) -> float:
    """The largest error, relative to the largest output, that reassociation can explain."""
    nodes = list(model.graph.walk())
    if any(n.op in GRID_OPERATORS for n in nodes):
        return QUANTIZED_TOLERANCE
    kinds = {DType.of_numpy(a.dtype) for a in outputs.values()}
    kinds |= {t.dtype for v in model.graph.constants() if (t := v.tensor).count > 1}
    return max((TOLERANCES[k] for k in kinds if k in TOLERANCES), default=1e-4)


def check(model: Model, run: Callable[[Feeds], Mapping[str, Array]], samples: Sequence[Feeds] | None) -> Check:
    """Compares `run(feeds) -> outputs by name` with ONNX Runtime on given or made-up inputs.

    Raises ParityError where they differ or the module fails, UsageError where no inputs can be made up.
    """
    feeds = list(samples) if samples is not None else synthesize(model.graph, 1)
    if not feeds:
        raise UsageError(
            "there are no samples to compare the emitted module on", do="give at least one, or pass check=False"
        )
    reference = runner_of(model, optimize=False)
    worst: Difference | None = None
    record: dict[str, Tensor] = {}
    tolerance = 0.0
    for feed in feeds:
        try:
            wanted = reference.run(feed)
        except TersorError as error:
            raise UsageError(
                "the emitted module cannot be checked: the model itself does not run on these inputs",
                where=error.where,
                why=error.why,
                do="give samples that the model accepts, or pass check=False",
            ) from error
        tolerance = tolerance_of(model, wanted)
        try:
            found = run(feed)
        except TersorError as error:
            raise ParityError(
                "the emitted module does not run", why=error.why or error.what, do="emit ONNX instead, and report this"
            ) from error
        for name in model.graph.output_names:
            difference = compare(wanted[name], found[name])
            raise_if_different(name, wanted[name], found[name], difference, tolerance)
            worst = difference if worst is None or difference.max_error > worst.max_error else worst
        record = record or recorded(model, feed, wanted)
    assert worst is not None
    return Check(worst, record, tolerance)


def raise_if_different(name: str, wanted: Array, found: Array, difference: Difference, tolerance: float) -> None:
    integral = wanted.dtype.kind in "iub"
    exact = integral and tolerance < QUANTIZED_TOLERANCE
    wrong = difference.mismatch > 0 if exact else not difference.max_error <= tolerance
    if wanted.dtype != found.dtype or wrong:
        why = (
            difference.reason
            or f"the largest error is {difference.max_error:.3g} of the largest number, allowed is {tolerance:.3g}"
        )
        if wanted.dtype != found.dtype:
            why = f"its element type is {found.dtype}, not {wanted.dtype}"
        raise ParityError(
            "the emitted module computes something else",
            where=f"output {name!r}",
            why=why,
            do="report this; emit ONNX meanwhile",
        )


def recorded(model: Model, feed: Feeds, outputs: Mapping[str, Array]) -> dict[str, Tensor]:
    """Inputs and outputs by position."""
    given = [np.asarray(feed[v.name]) for v in model.graph.inputs if v not in model.graph.defaults]
    found = [outputs[n] for n in model.graph.output_names]
    return {
        f"{kind}.{i}": Dense(a) for kind, arrays in (("input", given), ("output", found)) for i, a in enumerate(arrays)
    }
