"""Shape inference side by side: python benchmarks/inference.py --models FOLDER [--origins] [--json FILE]

FOLDER holds exported .onnx files. Declared types of inner values and shapes of outputs are taken away first; then
tersor, `onnx.shape_inference` with data propagation and ONNX Runtime's symbolic tool (needs sympy) infer them again
from the inputs. A value is typed when its element type and rank are known, and fully typed when each size is a number
or an expression over the symbols of the inputs: an invented symbol does not count. Seconds are of the processor: those
of tersor include reading the file, raising and verifying; those of the others start from a ModelProto in memory and
include what copies of inline weights cost them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx
import tersor as ts
from onnx.shape_inference import infer_shapes
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from rich.console import Console
from rich.table import Table
from tersor.ir import TensorType
from tersor.ir.dims import Dim, free_symbols
from tersor.ir.types import ANY

NAME = re.compile(r"[A-Za-z_][\w.]*")
FUNCTIONS = frozenset(["floor", "ceiling", "ceil", "Max", "Min", "max", "min", "Mod"])
LARGE = 1024
"""Elements from which no inference looks at an initializer's numbers; those in data files are not read."""


@dataclass
class Score:
    """What one inference found in one model: numbers of values, and where the first unknown sizes came from."""

    values: int = 0
    typed: int = 0
    full: int = 0
    symbolic: int = 0
    seconds: float = 0.0
    error: str = ""
    untyped: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)

    def add(self, op: str, typed: bool, full: bool, symbolic: bool, first: bool) -> None:
        """Counts a value; `first` says that all operands of its node are fully typed."""
        self.values += 1
        self.typed += typed
        self.full += full
        self.symbolic += full and symbolic
        self.untyped[op] += not typed
        self.origins[op] += not full and first


def bare(path: Path) -> onnx.ModelProto:
    """The model without declared inner types and output shapes; of external data only what sizes may depend on."""
    model = onnx.load(path, load_external_data=False)
    for graph in graphs(model.graph):
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")
        for tensor in graph.initializer:
            count = 1
            for size in tensor.dims:
                count *= size
            if count < LARGE and tensor.data_location == onnx.TensorProto.EXTERNAL:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
    return model


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from graphs(inner)


def ours(model: onnx.ModelProto, folder: Path) -> Score:
    """From the file that the bare model is saved as: weights in data files stay there."""
    score = Score()
    path = folder / ".bare.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        started = time.process_time()
        graph = ts.load(path).graph
        score.seconds = time.process_time() - started
    finally:
        path.unlink()
    known = {s for v in graph.inputs if isinstance(v.type, TensorType) for s in symbols(v.type)}

    def full(type_: object) -> bool:
        return isinstance(type_, TensorType) and type_.shape is not None and symbols(type_) <= known

    for node in graph.walk():
        first = all(v is None or full(v.type) for v in node.inputs)
        for value in node.outputs:
            if value.users:
                type_ = value.type
                typed = type_ is not ANY and not (isinstance(type_, TensorType) and type_.shape is None)
                score.add(node.op, typed, full(type_), isinstance(type_, TensorType) and bool(symbols(type_)), first)
    return score


def symbols(type_: TensorType) -> set[object]:
    """The symbols in a shape."""
    return {s for size in type_.shape or () if isinstance(size, Dim) for s in free_symbols(size)}


def theirs(infer: Callable[[onnx.ModelProto], onnx.ModelProto | None]) -> Callable[[onnx.ModelProto, Path], Score]:
    """The score of an inference over protos."""

    def scored(model: onnx.ModelProto, folder: Path) -> Score:
        score = Score()
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        started = time.process_time()
        try:
            found = infer(copy)
        except Exception as error:
            score.error = f"{type(error).__name__}: {error}"[:80]
            found = None
        score.seconds = time.process_time() - started
        top = (found or model).graph
        known = {n for v in top.input for d in v.type.tensor_type.shape.dim for n in names(d.dim_param)}
        for graph in graphs(top):
            infos = {v.name: v.type for v in (*graph.value_info, *graph.output, *graph.input)}
            constants = {t.name for t in graph.initializer}
            for node in graph.node:
                first = all(not n or n in constants or is_full(infos.get(n), known) for n in node.input)
                for name in node.output:
                    if name and node.op_type != "Constant":
                        type_ = infos.get(name) if found is not None else None
                        score.add(node.op_type, is_typed(type_), is_full(type_, known), has_symbol(type_), first)
        return score

    return scored


def names(dimension: str) -> set[str]:
    """The symbols in the text of a size."""
    return set(NAME.findall(dimension)) - FUNCTIONS


def is_typed(type_: onnx.TypeProto | None) -> bool:
    """True when the element type and the rank are declared, and for what is no tensor."""
    if type_ is None:
        return False
    kind = type_.WhichOneof("value")
    return kind is not None and (
        kind != "tensor_type" or (type_.tensor_type.elem_type != 0 and type_.tensor_type.HasField("shape"))
    )


def is_full(type_: onnx.TypeProto | None, known: set[str]) -> bool:
    """True when every size is a number or made of symbols of the inputs."""
    if type_ is None or type_.WhichOneof("value") != "tensor_type" or not is_typed(type_):
        return False
    return all(
        d.HasField("dim_value") or (bool(d.dim_param) and names(d.dim_param) <= known)
        for d in type_.tensor_type.shape.dim
    )


def has_symbol(type_: onnx.TypeProto | None) -> bool:
    """True when a size is symbolic."""
    return type_ is not None and any(d.dim_param for d in type_.tensor_type.shape.dim)


TOOLS: dict[str, Callable[[onnx.ModelProto, Path], Score]] = {
    "tersor": ours,
    "onnx": theirs(lambda model: infer_shapes(model, data_prop=True)),
    "onnxruntime": theirs(
        lambda model: SymbolicShapeInference.infer_shapes(model, auto_merge=True, guess_output_rank=False)
    ),
}


def table(rows: Iterable[tuple[str, dict[str, Score]]]) -> Table:
    """One line per model: typed and fully typed values, seconds, for each tool."""
    made = Table("model", "values", *(f"{t} {what}" for t in TOOLS for what in ("typed", "full", "CPU s")))
    for name, scores in rows:
        cells: list[str] = []
        for score in scores.values():
            share = [f"{part / max(1, score.values):.1%}" for part in (score.typed, score.full)]
            cells += ["failed", "-"] if score.error else share
            cells.append(f"{score.seconds:.2f}")
        made.add_row(name, str(scores["tersor"].values), *cells)
    return made


def total(rows: list[tuple[str, dict[str, Score]]], tool: str) -> Score:
    """The sum over all models."""
    out = Score()
    for _, scores in rows:
        for name in ("values", "typed", "full", "symbolic", "seconds"):
            setattr(out, name, getattr(out, name) + getattr(scores[tool], name))
        out.untyped += scores[tool].untyped
        out.origins += scores[tool].origins
    return out


def main() -> None:
    """Measures every model of the folder and prints a table."""
    arguments = argparse.ArgumentParser(description="Compare shape inference on exported models.")
    arguments.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="a folder of .onnx files")
    arguments.add_argument("--origins", action="store_true", help="name the operators where sizes get lost")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = arguments.parse_args()
    rows: list[tuple[str, dict[str, Score]]] = []
    for path in sorted(options.models.glob("*.onnx")):
        model = bare(path)
        rows.append((path.stem, {tool: score(model, path.parent) for tool, score in TOOLS.items()}))
    rows.append(("all", {tool: total(rows, tool) for tool in TOOLS}))
    console = Console(width=160)
    console.print(table(rows))
    for name, scores in rows:
        for tool, score in scores.items():
            if score.error:
                console.print(f"{name}, {tool}: {score.error}", markup=False)
    for tool, score in rows[-1][1].items():
        console.print(f"{tool}: {score.symbolic} values with symbolic sizes fully typed")
        if options.origins:
            console.print(f"  without rank or dtype: {dict(+score.untyped)}\n  sizes lost at: {dict(+score.origins)}")
    if options.json:
        figures = {name: {tool: asdict(score) for tool, score in scores.items()} for name, scores in rows}
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
