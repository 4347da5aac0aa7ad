"""Loading, saving and editing ONNX models beside onnx and onnx_ir: python benchmarks/io.py [--folder F] [--only CASE]

Models are generated from a fixed seed. Every figure comes from a process of its own in which the libraries are imported
already: CPU seconds (user and system) of the operation alone, and by how much it raises the peak of resident memory
over that before it. Figures are medians; runs of the libraries are interleaved. Pages of a mapped file count as
resident while they are mapped in.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = ("tersor", "onnx_ir", "onnx")
MB = 1 << 20
TIMEOUT = 300
"""Seconds after which a measurement counts as failed."""

BLOCKS = 2000
REPLACED = ("Relu", "Softmax")
EXTERNAL_LAYERS, EXTERNAL_SHAPE = 32, (8192, 4096)


# Models


def encoder(folder: Path) -> Path:
    """Twelve BERT-base layers and the embedding of words, about 440 MB of weights inside the file."""
    import onnx

    path = folder / "encoder.onnx"
    random = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []

    def weight(name: str, *shape: int) -> str:
        array = random.standard_normal(shape, np.float32) * np.float32(0.02)
        weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    def integers(name: str, *numbers: int) -> str:
        weights.append(onnx.numpy_helper.from_array(np.asarray(numbers, np.int64), name))
        return name

    def node(op: str, *inputs: str, name: str, **attrs: Any) -> str:
        nodes.append(onnx.helper.make_node(op, inputs, [f"{name}_output_0"], name=f"{name}/{op}", **attrs))
        return f"{name}_output_0"

    def linear(x: str, scope: str, rows: int, columns: int) -> str:
        product = node("MatMul", x, weight(f"{scope}.weight", rows, columns), name=f"/{scope}/MatMul")
        return node("Add", product, weight(f"{scope}.bias", columns), name=f"/{scope}/Add")

    def norm(x: str, scope: str) -> str:
        weight(f"{scope}.weight", 768)
        weight(f"{scope}.bias", 768)
        return node("LayerNormalization", x, f"{scope}.weight", f"{scope}.bias", name=f"/{scope}", axis=-1)

    def constant(scope: str, number: float) -> str:
        weights.append(onnx.numpy_helper.from_array(np.asarray(number, np.float32), scope))
        return scope

    x = norm(node("Gather", weight("embeddings.word", 30522, 768), "input_ids", name="/embeddings"), "embeddings.norm")
    heads, flat = integers("heads", 0, 0, 12, 64), integers("flat", 0, 0, 768)
    for layer in range(12):
        scope = f"encoder.layer.{layer}"
        parts: dict[str, str] = {}
        for part in ("query", "key", "value"):
            projected = linear(x, f"{scope}.attention.{part}", 768, 768)
            split = node("Reshape", projected, heads, name=f"/{scope}/{part}/Reshape")
            perm = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
            parts[part] = node("Transpose", split, name=f"/{scope}/{part}/Transpose", perm=perm)
        scores = node("MatMul", parts["query"], parts["key"], name=f"/{scope}/scores")
        scaled = node("Div", scores, constant(f"{scope}.scale", 8.0), name=f"/{scope}/scaled")
        mixed = node("Softmax", scaled, name=f"/{scope}/softmax", axis=-1)
        context = node("MatMul", mixed, parts["value"], name=f"/{scope}/context")
        back = node("Transpose", context, name=f"/{scope}/back", perm=[0, 2, 1, 3])
        joined = node("Reshape", back, flat, name=f"/{scope}/joined")
        attended = node("Add", linear(joined, f"{scope}.output", 768, 768), x, name=f"/{scope}/residual")
        x = norm(attended, f"{scope}.attention.norm")
        wide = linear(x, f"{scope}.intermediate", 768, 3072)
        # GELU as exporters wrote it before opset 20.
        erf = node("Erf", node("Div", wide, constant(f"{scope}.root", 2**0.5), name=f"/{scope}/d"), name=f"/{scope}/e")
        one = node("Add", erf, constant(f"{scope}.one", 1.0), name=f"/{scope}/f")
        half = node("Mul", wide, constant(f"{scope}.half", 0.5), name=f"/{scope}/g")
        gelu = node("Mul", half, one, name=f"/{scope}/h")
        x = norm(node("Add", linear(gelu, f"{scope}.back", 3072, 768), x, name=f"/{scope}/i"), f"{scope}.norm")
    given = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    result = onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, ["batch", "sequence", 768])
    graph = onnx.helper.make_graph(nodes, "encoder", [given], [result], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    return path


def graph_20k(folder: Path) -> Path:
    """20000 nodes at opset 12, of which several forms differ from the newest ones, with small weights."""
    import onnx

    path = folder / "graph.onnx"
    nodes: list[Any] = []
    weights = [
        onnx.numpy_helper.from_array(np.full(shape, 0.5, np.float32), name)
        for name, shape in (("w", (32, 32)), ("b", (32,)), ("c", (1,)))
    ]

    def node(op: str, *inputs: str, **attrs: Any) -> str:
        name = f"{op}_{len(nodes)}"
        nodes.append(onnx.helper.make_node(op, inputs, [f"{name}_out"], name=name, **attrs))
        return f"{name}_out"

    x = "x"
    for _ in range(BLOCKS):
        y = node("Relu", node("Add", node("MatMul", x, "w"), "b"))
        y = node("Squeeze", node("Unsqueeze", y, axes=[1]), axes=[1])
        centred = node("Sub", y, node("ReduceMean", y, axes=[-1], keepdims=1))
        x = node("Add", node("Softmax", node("Mul", centred, "c"), axis=-1), x)
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 64, 32]) for n in ("x", x)]
    graph = onnx.helper.make_graph(nodes, "graph", infos[:1], infos[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 12)])
    model.ir_version = 7
    onnx.save(model, path)
    return path


def external(folder: Path) -> Path:
    """A chain of MatMuls with 4 GB of weights in a data file; zeros that take no disk, apart from the last layer's."""
    import onnx

    folder = folder / "external"
    folder.mkdir(exist_ok=True)
    path, data = folder / "external.onnx", "external.onnx.data"
    rows, columns = EXTERNAL_SHAPE
    length = 4 * rows * columns
    weights: list[Any] = []
    nodes: list[Any] = []
    for layer in range(EXTERNAL_LAYERS):
        shape = (rows, columns) if layer % 2 else (columns, rows)
        header = onnx.TensorProto(name=f"layer.{layer}.weight", data_type=1, dims=shape, data_location=1)
        for key, value in (("location", data), ("offset", layer * length), ("length", length)):
            header.external_data.add(key=key, value=str(value))
        weights.append(header)
        nodes.append(onnx.helper.make_node("MatMul", [f"h{layer}", header.name], [f"h{layer + 1}"], name=f"n{layer}"))
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", columns])
        for n in ("h0", f"h{EXTERNAL_LAYERS}")
    ]
    graph = onnx.helper.make_graph(nodes, "external", infos[:1], infos[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    with open(folder / data, "wb") as file:
        file.truncate(EXTERNAL_LAYERS * length)
        file.seek((EXTERNAL_LAYERS - 1) * length)
        file.write(np.random.default_rng(0).standard_normal(EXTERNAL_SHAPE, np.float32).tobytes())
    return path


MODELS: dict[str, Callable[[Path], Path]] = {"encoder": encoder, "graph": graph_20k, "external": external}
CHANGED = f"layer.{EXTERNAL_LAYERS - 1}.weight"


# Operations. Each takes the model's path and a folder to write to, prepares what is not measured, and gives what is.

Operation = Callable[[Path, Path], Callable[[], object]]


def tersor_operations() -> dict[str, Operation]:  # noqa: PLR0915  # one small function per operation
    from tersor.backends.onnx import save, to_proto
    from tersor.frontends.onnx import load
    from tersor.frontends.onnx.files import open_model
    from tersor.frontends.onnx.limits import DEFAULT, Account
    from tersor.frontends.onnx.reader import Reader
    from tersor.ir import Graph, Model, Node, TensorType, constant
    from tersor.ir.collection import no_collection
    from tersor.ir.types import DType

    def graph_of(path: Path) -> Graph:
        return load(path).graph

    def parse(path: Path, _: Path) -> Callable[[], object]:
        def run() -> None:
            with no_collection():  # as in `load`, whose inference and verification are left out here
                Reader(open_model(path, mmap=True), Account(DEFAULT)).model()

        return run

    def serialize(path: Path, _: Path) -> Callable[[], object]:
        model = load(path)
        return lambda: to_proto(model).SerializeToString()

    def clone(path: Path, _: Path) -> Callable[[], object]:
        model = load(path)
        return model.clone

    def replace(path: Path, _: Path) -> Callable[[], object]:
        graph = graph_of(path)

        def run() -> None:
            for node in list(graph):
                if node.op in REPLACED:
                    new = Node(node.op, node.inputs, dict(node.attrs), loc=node.loc)
                    new.output.name, new.output.type = node.output.name, node.output.type
                    graph.insert(new, before=node)
                    node.output.replace_by(new.output)
                    node.erase()

        return run

    def sort(path: Path, _: Path) -> Callable[[], object]:
        graph = graph_of(path)
        for node in list(graph)[::10]:
            node.unlink()
            graph.insert(node)
        return graph.sort

    def build(_path: Path, _: Path) -> Callable[[], object]:
        weights = [constant(np.full(shape, 0.5, np.float32), "w") for shape in ((32, 32), (32,))]
        type_ = TensorType(DType.F32, (1, 64, 32))

        def run() -> object:
            graph = Graph("built")
            x = graph.add_input("x", type_)
            for i in range(5 * BLOCKS):
                y = graph.add("MatMul", (x, weights[0]), types=(type_,), names=(f"m{i}",)).output
                x = graph.add("Softmax", (y,), {"axis": -1}, (type_,), names=(f"s{i}",)).output
            graph.set_outputs([x], ["y"])
            return Model(graph)

        return run

    def walk(path: Path, _: Path) -> Callable[[], object]:
        graph = graph_of(path)

        def run() -> int:
            edges = 0
            for node in graph:
                for value in node.inputs:
                    if value is not None and value.node is not None:
                        edges += 1
                for value in node.outputs:
                    for _user in value.users:
                        edges += 1
            return edges

        return run

    def edit(path: Path, out: Path) -> Callable[[], object]:
        def run() -> None:
            model = load(path)
            by_name = {v.name: v for v in model.graph.constants()}
            by_name["layer.0.weight"].name = "renamed"
            old = by_name[CHANGED]
            new = old * 2.0
            new.name = CHANGED
            old.replace_by(new)
            save(model, out / "edited.onnx")

        return run

    return {
        "load": lambda path, _: lambda: load(path),
        "load + save": lambda path, out: lambda: save(load(path), out / "saved.onnx"),
        "parse": parse,
        "parse, both raised": parse,
        "parse, inferred and checked": lambda path, _: lambda: load(path),
        "serialize": serialize,
        "clone": clone,
        "replace 4000 nodes": replace,
        "sort": sort,
        "build": build,
        "walk": walk,
        "load, edit, save": edit,
    }


def onnx_ir_operations() -> dict[str, Operation]:  # noqa: PLR0915  # one small function per operation
    import onnx_ir as ir
    import onnx_ir.passes.common as passes

    def serialize(path: Path, _: Path) -> Callable[[], object]:
        model = ir.load(path)
        return lambda: ir.to_proto(model).SerializeToString()

    def checked(path: Path, _: Path) -> Callable[[], object]:
        def run() -> None:
            model = ir.load(path)
            passes.ShapeInferencePass(data_prop=True)(model)
            passes.CheckerPass(full_check=False)(model)

        return run

    def raised(path: Path, _: Path) -> Callable[[], object]:
        from onnxscript import version_converter

        def run() -> None:
            version_converter.convert_version(ir.load(path), target_version=CONVERTED_TO)

        return run

    def clone(path: Path, _: Path) -> Callable[[], object]:
        model = ir.load(path)
        return model.clone

    def replace(path: Path, _: Path) -> Callable[[], object]:
        graph = ir.load(path).graph

        def run() -> None:
            for node in list(graph):
                if node.op_type in REPLACED:
                    new = ir.node(node.op_type, node.inputs, attributes=node.attributes, name=node.name)
                    ir.convenience.replace_nodes_and_values(graph, node, [node], [new], node.outputs, new.outputs)

        return run

    def sort(path: Path, _: Path) -> Callable[[], object]:
        graph = ir.load(path).graph
        for node in list(graph)[::10]:
            graph.remove(node)
            graph.append(node)
        return graph.sort

    def build(_path: Path, _: Path) -> Callable[[], object]:
        type_ = ir.TensorType(ir.DataType.FLOAT)
        shape = ir.Shape((1, 64, 32))
        weights = [
            ir.Value(name=f"w{i}", const_value=ir.tensor(np.full(s, 0.5, np.float32)))
            for i, s in enumerate(((32, 32), (32,)))
        ]

        def run() -> object:
            given = x = ir.Value(name="x", type=type_, shape=shape)
            nodes: list[Any] = []
            for i in range(5 * BLOCKS):
                y = ir.Value(name=f"m{i}", type=type_, shape=shape)
                nodes.append(ir.Node("", "MatMul", (x, weights[0]), outputs=(y,)))
                x = ir.Value(name=f"s{i}", type=type_, shape=shape)
                nodes.append(ir.Node("", "Softmax", (y,), [ir.AttrInt64("axis", -1)], outputs=(x,)))
            graph = ir.Graph([given], [x], nodes=nodes, initializers=weights, opset_imports={"": 26}, name="built")
            return ir.Model(graph, ir_version=10)

        return run

    def walk(path: Path, _: Path) -> Callable[[], object]:
        graph = ir.load(path).graph

        def run() -> int:
            edges = 0
            for node in graph:
                for value in node.inputs:
                    if value is not None and value.producer() is not None:
                        edges += 1
                for value in node.outputs:
                    for _use in value.uses():
                        edges += 1
            return edges

        return run

    def edit(path: Path, out: Path) -> Callable[[], object]:
        def run() -> None:
            model = ir.load(path)
            model.graph.initializers["layer.0.weight"].name = "renamed"
            changed = model.graph.initializers[CHANGED]
            changed.const_value = ir.tensor(changed.const_value.numpy() * np.float32(2), name=CHANGED)
            ir.save(model, out / "edited.onnx", external_data="edited.onnx.data")

        return run

    return {
        "load": lambda path, _: lambda: ir.load(path),
        "load + save": lambda path, out: lambda: ir.save(ir.load(path), out / "saved.onnx"),
        "parse": lambda path, _: lambda: ir.load(path),
        "parse, both raised": raised,
        "parse, inferred and checked": checked,
        "serialize": serialize,
        "clone": clone,
        "replace 4000 nodes": replace,
        "sort": sort,
        "build": build,
        "walk": walk,
        "load, edit, save": edit,
    }


def onnx_operations() -> dict[str, Operation]:
    import onnx
    import onnx.shape_inference
    import onnx.version_converter

    def serialize(path: Path, _: Path) -> Callable[[], object]:
        proto = onnx.load(path)
        return proto.SerializeToString

    def clone(path: Path, _: Path) -> Callable[[], object]:
        proto = onnx.load(path)
        return lambda: onnx.ModelProto.FromString(proto.SerializeToString())

    def raised(path: Path, _: Path) -> Callable[[], object]:
        return lambda: onnx.version_converter.convert_version(onnx.load(path), 26)

    def checked(path: Path, _: Path) -> Callable[[], object]:
        def run() -> None:
            proto = onnx.version_converter.convert_version(onnx.load(path), 26)
            onnx.checker.check_model(onnx.shape_inference.infer_shapes(proto, data_prop=True))

        return run

    def edit(path: Path, out: Path) -> Callable[[], object]:
        def run() -> None:
            proto = onnx.load(path)
            by_name = {t.name: t for t in proto.graph.initializer}
            by_name["layer.0.weight"].name = proto.graph.node[0].input[1] = "renamed"
            changed = by_name[CHANGED]
            array = onnx.numpy_helper.to_array(changed) * np.float32(2)
            changed.CopyFrom(onnx.numpy_helper.from_array(array, CHANGED))
            onnx.save(proto, out / "edited.onnx", save_as_external_data=True, location="edited.onnx.data")

        return run

    return {
        "load": lambda path, _: lambda: onnx.load(path),
        "load + save": lambda path, out: lambda: onnx.save(onnx.load(path), out / "saved.onnx"),
        "parse": raised,
        "parse, both raised": raised,
        "parse, inferred and checked": checked,
        "serialize": serialize,
        "clone": clone,
        "load, edit, save": edit,
    }


CONVERTED_TO = 25
"""The newest opset to which onnxscript's converter raises; tersor raises to the canonical one."""

OPERATIONS = {"tersor": tersor_operations, "onnx_ir": onnx_ir_operations, "onnx": onnx_operations}
GOALS: dict[str, dict[str, float]] = {
    "encoder": {"load": 8, "load + save": 3},
    "graph": {
        "parse": 2, "parse, both raised": 2, "parse, inferred and checked": 0, "serialize": 2, "clone": 4,
        "replace 4000 nodes": 4, "sort": 4, "build": 4, "walk": 2,
    },
    "external": {"load, edit, save": 0},
}  # fmt: skip
"""What is measured on each model, and how many times faster than onnx_ir it is meant to be. onnx_ir's "parse" leaves
the model at its own opset; onnxscript's converter raises it in "parse, both raised".
"""


# Measuring


def status(field: str) -> int:
    """Bytes of a field of this process's status (VmRSS, VmHWM)."""
    row = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(row.split()[1]) * 1024


def measure(library: str, operation: str, path: Path, out: Path) -> dict[str, float]:
    """Runs one operation here: CPU seconds and the rise of peak resident memory in bytes."""
    run = OPERATIONS[library]()[operation](path, out)
    gc.collect()  # what the preparation left for the collector is not part of the operation
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    before, start = status("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
    run()
    stop = resource.getrusage(resource.RUSAGE_SELF)
    peak = status("VmHWM")
    seconds = stop.ru_utime + stop.ru_stime - start.ru_utime - start.ru_stime
    return {"seconds": seconds, "added": peak - before, "peak": peak}


@dataclass
class Row:
    """One operation of one library on one model: medians."""

    model: str
    operation: str
    library: str
    seconds: float
    added: float
    peak: float


def in_process(arguments: Sequence[str]) -> str:
    command = [sys.executable, __file__, *arguments]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    if run.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {run.stderr[-2000:]}")
    return run.stdout


def measured(model: str, operation: str, libraries: Sequence[str], folder: Path, repeat: int) -> list[Row]:
    """One row per library; runs are interleaved, so that a busy machine hits all alike."""
    found: dict[str, list[dict[str, float]]] = {library: [] for library in libraries}
    for _ in range(repeat):
        for library in libraries:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                text = in_process(["--measure", library, operation, str(folder / f"{model}.path"), out])
            found[library].append(json.loads(text))
    return [
        Row(
            model,
            operation,
            library,
            *(statistics.median(r[key] for r in runs) for key in ("seconds", "added", "peak")),
        )
        for library, runs in found.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with the ratio of each library's seconds to tersor's."""
    ours = {(r.model, r.operation): r.seconds for r in rows if r.library == "tersor"}
    lines = ["| model | operation | library | CPU s | times tersor | goal | added MB | peak MB |", "|---" * 8 + "|"]
    for r in rows:
        goal = GOALS[r.model][r.operation] if r.library == "onnx_ir" else 0
        lines.append(
            f"| {r.model} | {r.operation} | {r.library} | {r.seconds:.3f} "
            f"| {r.seconds / max(ours.get((r.model, r.operation), r.seconds), 1e-3):.1f} | {goal or ''} "
            f"| {r.added / MB:.0f} | {r.peak / MB:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where models are kept between runs (6 GB, 10 GB while running)")
    parser.add_argument("--data", type=Path, help="not used: every model is generated")
    parser.add_argument("--only", choices=tuple(MODELS), action="append", help="measure these models only")
    parser.add_argument("--operation", action="append", help="measure these operations only")
    parser.add_argument("--library", choices=LIBRARIES, action="append", help="measure these libraries only")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--generate", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        library, operation, path, out = options.measure
        print(json.dumps(measure(library, operation, Path(Path(path).read_text()), Path(out))))
    elif options.generate:
        model, folder = options.generate
        Path(folder, f"{model}.path").write_text(str(MODELS[model](Path(folder))))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.folder or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            run(options, folder)


def run(options: argparse.Namespace, folder: Path) -> None:
    libraries = [n for n in options.library or LIBRARIES if importlib.util.find_spec(n)]
    rows: list[Row] = []
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for model in options.only or MODELS:
        if not (folder / f"{model}.path").exists():
            in_process(["--generate", model, str(folder)])
        for operation in GOALS[model]:
            if options.operation and operation not in options.operation:
                continue
            able = [n for n in libraries if operation in OPERATIONS[n]()]
            rows += measured(model, operation, able, folder, 1 if model == "external" else options.repeat)
            print("\n".join(table(rows[-len(able) :]).splitlines()[2:]), file=sys.stderr, flush=True)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([vars(r) for r in rows], indent=1))


if __name__ == "__main__":
    main()
