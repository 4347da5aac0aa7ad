"""How simplify grows: models of 2.2 GB and 4 GB, and graphs of 2000 and 20000 nodes. See benchmarks/simplify.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Child = Callable[..., dict[str, Any]]

MB = 1 << 20
WIDTH = 4096
LARGE = {"2.2 GB": 35, "4 GB": 64}
"""Name -> layers, each of which has one weight of 64 MB."""

LIMIT = 600
"""Megabytes of resident memory in which they are to be simplified."""

SIZES = (2000, 20000)
SLOWER = 1.5
"""How much more a node of the larger graph may cost."""


def large_model(folder: Path, layers: int) -> Path:
    """Products with a scale and a shift behind each, which fold into its weight; every third is taken transposed.

    The weights are in a data file of zeros that take no disk, but for the last layer's.
    """
    path, data = folder / "large.onnx", "large.onnx.data"
    length = 4 * WIDTH * WIDTH
    weights: list[Any] = []
    nodes: list[Any] = []

    def node(op: str, *inputs: str, **attrs: Any) -> str:
        nodes.append(onnx.helper.make_node(op, inputs, [f"v{len(nodes)}"], name=f"n{len(nodes)}", **attrs))
        return f"v{len(nodes) - 1}"

    x = "x"
    for layer in range(layers):
        header = onnx.TensorProto(name=f"layer.{layer}.weight", data_type=1, dims=(WIDTH, WIDTH), data_location=1)
        for key, value in (("location", data), ("offset", layer * length), ("length", length)):
            header.external_data.add(key=key, value=str(value))
        weights.append(header)
        for name in ("scale", "shift"):
            vector = np.random.default_rng(layer).standard_normal(WIDTH).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(vector, f"layer.{layer}.{name}"))
        weight = node("Transpose", header.name, perm=[1, 0]) if layer % 3 == 2 else header.name
        scaled = node("Mul", node("MatMul", x, weight), f"layer.{layer}.scale")
        x = node("Relu", node("Add", scaled, f"layer.{layer}.shift"))
    path.write_bytes(_model(nodes, weights, x, ["batch", WIDTH]).SerializeToString())
    with open(folder / data, "wb") as file:
        file.truncate(layers * length)
        file.seek((layers - 1) * length)
        file.write(np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32).tobytes())
    return path


def wide_graph(folder: Path, size: int) -> Path:
    """A graph of `size` nodes: blocks as the legacy exporter writes them, with sizes computed from shapes."""
    path = folder / f"graph{size}.onnx"
    nodes: list[Any] = []
    arrays = {
        "w": np.full((32, 32), 0.01, np.float32), "b": np.full(32, 0.1, np.float32), "half": np.float32(0.5),
        "root": np.float32(2**0.5), "one": np.float32(1), "0": np.int64(0), "1": np.int64(1), "axes": np.array([0]),
        "rest": np.array([4, 8]), "flat": np.array([32]), "square": np.float32(2), "e": np.float32(1e-5),
    }  # fmt: skip
    weights = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()]

    def node(op: str, *inputs: str, **attrs: Any) -> str:
        nodes.append(onnx.helper.make_node(op, inputs, [f"v{len(nodes)}"], name=f"n{len(nodes)}", **attrs))
        return f"v{len(nodes) - 1}"

    def target(x: str, tail: str) -> str:
        shape = node("Shape", x)
        sizes = [node("Unsqueeze", node("Gather", shape, i, axis=0), "axes") for i in ("0", "1")]
        return node("Concat", *sizes, tail, axis=0)

    x = "x"
    while len(nodes) < size:
        centred = node("Sub", x, node("ReduceMean", x, axes=[-1], keepdims=1))
        spread = node("Add", node("ReduceMean", node("Pow", centred, "square"), axes=[-1], keepdims=1), "e")
        y = node("Add", node("Mul", node("Div", centred, node("Sqrt", spread)), "b"), "b")
        y = node("Add", node("MatMul", y, "w"), "b")
        y = node("Transpose", node("Reshape", y, target(y, "rest")), perm=[0, 2, 1, 3])
        y = node("Transpose", y, perm=[0, 2, 1, 3])
        y = node("Reshape", y, target(x, "flat"))
        y = node("Mul", node("Mul", y, "half"), node("Add", node("Erf", node("Div", y, "root")), "one"))
        x = node("Add", node("Mul", y, "b"), x)
    path.write_bytes(_model(nodes, weights, x, ["batch", "length", 32]).SerializeToString())
    return path


def _model(nodes: list[Any], weights: list[Any], result: str, shape: list[Any]) -> onnx.ModelProto:
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("x", result)]
    graph = onnx.helper.make_graph(nodes, "graph", infos[:1], infos[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def large(child: Child) -> str:
    """Peak of resident memory and CPU seconds for each large model, and whether the weights were folded into."""
    lines: list[str] = []
    for name, layers in LARGE.items():
        with tempfile.TemporaryDirectory() as folder:
            source, target = large_model(Path(folder), layers), Path(folder) / "out.onnx"
            row = child("simplify_tools.py", "tersor", "simplify", str(source), str(target))
            if "error" in row:
                lines.append(f"* MISSED: {name}: {row['error']}")
                continue
            left = child("simplify_judge.py", "-", str(target))
            met = "met" if row["rss_peak"] < LIMIT else "MISSED"
            lines.append(
                f"* {met}: {name} in {row['rss_peak']:.0f} MB ({row['rss_before']:.0f} MB of it imports), "
                f"{row['cpu']:.1f} s CPU, {left['nodes']} of {4 * layers + layers // 3} nodes left"
            )
    return "\n".join(lines)


def linear(child: Child) -> str:
    """CPU and tries of rules per node at both sizes."""
    per_node: list[tuple[float, float]] = []
    lines: list[str] = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            source = wide_graph(Path(folder), size)
            rows = [
                child("simplify_tools.py", "tersor", "simplify", str(source), f"{folder}/out{i}.onnx") for i in range(2)
            ]
            if any("error" in row for row in rows):
                return f"* MISSED: {size} nodes: {next(row['error'] for row in rows if 'error' in row)}"
            count = child("simplify_judge.py", "-", str(source))["nodes"]
            cpu, tries = min(row["cpu"] for row in rows), rows[0]["tries"]
            per_node.append((cpu / count, tries / count))
            lines.append(
                f"* {count} nodes: {cpu:.2f} s CPU, {cpu / count * 1e6:.0f} us and {tries / count:.2f} tries a node"
            )
    for what, small, big in zip(("CPU", "tries"), *per_node, strict=True):
        met = "met" if big <= SLOWER * small else "MISSED"
        lines.append(f"* {met}: {what} a node at {SIZES[1]} nodes is {big / small:.2f} times that at {SIZES[0]}")
    return "\n".join(lines)
