"""Export pipelines with the real packages: python benchmarks/interop.py [--model FILE] [--folder FOLDER] [--large]

--model is an ONNX file for the checks of onnx_ir (without it one with 100 MB of weights is made up), --folder what
optimum-onnx wrote (configuration, tokenizer, model), --large also runs 2.2 GB of weights as a session. Needs
`tersor[interop]`, and torch for the program. The folder is opened with optimum where that is installed, else with
transformers' tokenizer and ONNX Runtime; the line says which. Times are of the processor; memory is what the peak rises
above the start.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as ir_passes
import tersor as ts
from rich.console import Console
from rich.table import Table
from tersor.backends.compare import compare
from tersor.backends.onnx import to_proto
from tersor.frontends.onnx import bridge
from tersor.ir import Builder, Model, TensorType, constant, structural_hash, symbol
from tersor.ir.types import DType

T = TypeVar("T")
TOLERANCE = 1e-4
SENTENCES = ["A cat sits on the mat.", "Compilers rewrite programs, one rule after the other."]


@dataclass(frozen=True)
class Cost:
    """Seconds of the processor, and MB that the peak of resident memory rose (0 where the system does not tell)."""

    seconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.megabytes:.0f} MB"


def measured(function: Callable[[], T]) -> tuple[T, Cost]:
    """What the function gives, and what it cost."""
    gc.collect()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    before, started = resident("VmRSS"), time.process_time()
    found = function()
    return found, Cost(time.process_time() - started, max(0.0, resident("VmHWM") - before))


def resident(field: str) -> float:
    """A field of /proc/self/status in MB."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def made_up(megabytes: int) -> Model:
    """A chain of square matrix products with that many megabytes of weights."""
    width = 1024
    x = ts.Value("x", TensorType(DType.F32, (symbol("N"), width)))
    graph = ts.Graph("chain", [x])
    build, value = Builder(graph), x
    random = np.random.default_rng(0)
    for layer in range(max(1, megabytes * (1 << 20) // (4 * width * width))):
        weight = random.standard_normal((width, width), np.float32) / np.float32(width**0.5)
        value = build.Tanh(build.MatMul(value, constant(weight, f"layer{layer}.weight")))
    graph.set_outputs([value], ["y"])
    return Model(graph, source_opset=17)


def in_memory(path: Path) -> ir.Model:
    """The file as onnx_ir with every weight as an array."""
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype is not ir.DataType.STRING:
            value.const_value = ir.Tensor(np.array(value.const_value.numpy()), value.const_value.dtype, name=value.name)
    return model


def close(expected: Sequence[Any], found: Sequence[Any]) -> str:
    """The worst difference in words. Raises AssertionError beyond the tolerance."""
    worst = max(compare(np.asarray(a), np.asarray(b)).max_error for a, b in zip(expected, found, strict=True))
    assert worst <= TOLERANCE, f"the outputs differ by {worst:.3g}"
    return f"max error {worst:.1g}"


def onnx_ir_in(path: Path) -> tuple[str, str]:
    """Reading a model of onnx_ir, and the same through a ModelProto."""
    model = in_memory(path)
    loaded, cost = measured(lambda: bridge.load(model))
    arrays = [v.tensor.numpy() for v in loaded.graph.constants() if v.tensor.nbytes >= 1 << 16]
    given = [v.const_value.numpy() for v in model.graph.initializers.values() if v.const_value is not None]
    shared = sum(any(np.shares_memory(a, g) for g in given if g.nbytes == a.nbytes) for a in arrays)
    assert structural_hash(loaded.graph) == structural_hash(ts.load(path).graph)
    _, other = measured(lambda: ts.load(ir.to_proto(model)))
    return f"same graph as from the file, {shared} of {len(arrays)} large weights shared", f"{cost}; by proto {other}"


def onnx_ir_out(path: Path) -> tuple[str, str]:
    """Giving a result to onnx_ir, and the same through a ModelProto."""
    result = ts.apply(ts.load(in_memory(path)), "simplify")
    out, cost = measured(result.to_onnx_ir)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "out.onnx"
        ir.save(out, saved, external_data="out.data")
        parity = ts.verify(result.original, ts.load(saved))
    _, other = measured(lambda: ir.from_proto(to_proto(result.model)))
    return f"saved by onnx_ir, max error {parity.max_error:.1g}", f"{cost}; by proto {other}"


def pass_in_sequence(path: Path) -> tuple[str, str]:
    """`as_ir_pass` between passes of onnx_ir."""
    model = in_memory(path)
    sequence = ir.passes.Sequential(
        ir_passes.DeduplicateInitializersPass(), ts.as_ir_pass("simplify"), ir_passes.CheckerPass()
    )
    result, cost = measured(lambda: sequence(model))
    parity = ts.verify(ts.load(path), ts.load(result.model))
    nodes = f"{len(list(model.graph))} to {len(list(result.model.graph))} nodes"
    return f"{nodes}, modified={result.modified}, checker passed, max error {parity.max_error:.1g}", str(cost)


def program() -> tuple[str, str]:
    """torch's exporter, compressed, called with tensors."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True).eval()
    sample = torch.randn(2, 16, 256)
    exported = torch.onnx.export(layer, (sample,), dynamo=True, verbose=False)
    assert exported is not None
    result, cost = measured(lambda: ts.apply(ts.load(exported), "simplify").to_program())
    with torch.no_grad():
        words = close([layer(sample)], [result(sample)[0]])
    return f"called with torch tensors, {words}", str(cost)


def hub_folder(source: Path) -> tuple[str, str]:
    """A folder of optimum, its weights moved to a data file: simplified, and opened by what opens such folders."""
    with tempfile.TemporaryDirectory() as place:
        given, new = Path(place) / "given", Path(place) / "new"
        ts.apply(ts.load(source)).save_folder(given, like=source)
        ts.save(ts.load(source), given / "model.onnx", external_data=True)
        result, cost = measured(lambda: ts.apply(ts.load(given), "simplify"))
        written = result.save_folder(new, like=given)
        words = close([*embeddings(source), *embeddings(given)], [*embeddings(new), *embeddings(new)])
    return f"{len(written)} files, opened with {opener()}, {words}", str(cost)


def opener() -> str:
    """Which package opens the folder."""
    return "optimum" if find_spec("optimum") else "transformers' tokenizer and ONNX Runtime"


def embeddings(folder: Path) -> list[np.ndarray]:
    """The last hidden state of two sentences, from nothing but the folder."""
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="np")
    if opener() == "optimum":
        from optimum.onnxruntime import ORTModelForFeatureExtraction  # pyright: ignore[reportMissingImports]

        model = ORTModelForFeatureExtraction.from_pretrained(folder)
        return [np.asarray(model(**tokens).last_hidden_state)]
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {i.name: tokens[i.name] for i in session.get_inputs()}
    return [np.asarray(session.run(None, feeds)[0])]


def session(megabytes: int) -> tuple[str, str]:
    """ONNX Runtime on a result that was never saved by the user."""
    model = made_up(megabytes)
    result = ts.apply(model, check=ts.Check(enabled=False))
    made, cost = measured(result.session)
    x = np.random.default_rng(1).standard_normal((2, 1024), np.float32)
    expected = x
    for value in (v.tensor.numpy() for v in model.graph.constants()):
        expected = np.tanh(expected @ value)
    words = close([expected], made.run(None, {"x": x}))
    return f"{sum(v.tensor.nbytes for v in model.graph.constants()) / 1e9:.2f} GB of weights, {words}", str(cost)


def main() -> None:
    """Runs the checks and prints one line each; a failed one ends the run."""
    arguments = argparse.ArgumentParser(description="Export pipelines with the real packages.")
    arguments.add_argument("--model", type=Path, metavar="FILE", help="an ONNX file")
    arguments.add_argument("--folder", type=Path, metavar="FOLDER", help="what optimum-onnx wrote")
    arguments.add_argument("--large", action="store_true", help="also a session with 2.2 GB of weights")
    options = arguments.parse_args()
    table = Table("pipeline", "checked", "cost")
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or Path(folder) / "made_up.onnx"
        if not options.model:
            ts.save(made_up(100), path)
        table.add_row("onnx_ir.Model in", *onnx_ir_in(path))
        table.add_row("onnx_ir.Model out", *onnx_ir_out(path))
        table.add_row("as_ir_pass in a sequence", *pass_in_sequence(path))
    if find_spec("torch"):
        table.add_row("ONNXProgram in and out", *program())
    if options.folder:
        table.add_row("Hugging Face folder", *hub_folder(options.folder))
    for megabytes in (100, *([2200] if options.large else [])):
        table.add_row("session from memory", *session(megabytes))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
