"""What became of the int8 layers: which ones ONNX Runtime still computes in float, and how much error each has."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (ONNX Runtime and onnx.load come without types.)

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from ...backends.compare import Comparison
from ...backends.onnx import save
from ...backends.runners import OrtRunner, Samples
from ...backends.runners.rounded import runner_of
from ...ir import Array, Model, Value
from ..samples import few
from .placement import CONNECTORS

FLOAT_KERNELS = frozenset(["Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"])
SIGNAL_SAMPLES = 4
"""Calibration samples on which the error of each layer is measured."""

SIGNAL_ELEMENTS = 1 << 15
"""Elements of a layer's result that are compared for each feed, evenly spread: sums over more say the same."""


def optimised(model: Model) -> onnx.GraphProto:
    """The graph that ONNX Runtime executes on this machine, without its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        save(model, path / "model.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(path / "optimised.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimised.data")
        ort.InferenceSession(str(path / "model.onnx"), options, providers=["CPUExecutionProvider"])
        return onnx.load(path / "optimised.onnx", load_external_data=False).graph


@dataclass(frozen=True)
class FloatNode:
    """A quantized node that ONNX Runtime computes in float all the same; `why` is "" where the reason is not known."""

    name: str
    op: str
    why: str


def float_nodes(model: Model) -> list[FloatNode]:
    """The quantized nodes that reached no integer kernel in ONNX Runtime's optimised graph: those with weights from a
    DequantizeLinear, and others between DequantizeLinear and QuantizeLinear nodes on all sides.
    """
    return _Executed(optimised(model)).float_nodes()


class _Executed:
    """An optimised graph, with the maker and the users of each value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def float_nodes(self) -> list[FloatNode]:
        found: list[FloatNode] = []
        for node in self.graph.node:
            if node.op_type in FLOAT_KERNELS and self.is_restored(node.input[1]):
                found.append(FloatNode(node.name, node.op_type, self.why_layer(node)))
            elif node.op_type in CONNECTORS and self.is_between(node):
                found.append(FloatNode(node.name, node.op_type, ""))
        return found

    def is_restored(self, name: str) -> bool:
        """True for what a DequantizeLinear gives, transposed or not."""
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Transpose":
            maker = self.makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    def is_between(self, node: onnx.NodeProto) -> bool:
        operands = node.input if CONNECTORS[node.op_type].every else node.input[:1]
        users = [user.op_type for name in node.output for user in self.users.get(name, ())]
        return bool(users) and set(users) == {"QuantizeLinear"} and all(self.is_restored(name) for name in operands)

    def why_layer(self, node: onnx.NodeProto) -> str:
        """The first thing about a layer that its integer kernel does not take."""
        if not self.is_restored(node.input[0]):
            return "its input is not quantized"
        if len(node.input) > 2 and node.input[2] and not self.is_restored(node.input[2]):
            return "its bias is float"
        if any(a.name == "activation" for a in node.attribute):
            return "an activation was fused into the float kernel first"
        users = {user.op_type for user in self.users.get(node.output[0], ())}
        if node.op_type in ("Conv", "FusedConv") and users != {"QuantizeLinear"}:
            what = ", ".join(sorted(users - {"QuantizeLinear"})) or "the end of the graph"
            return f"its result goes to {what} before it is quantized again"
        return ""


def signals(runner: OrtRunner, model: Model, samples: Samples) -> Iterator[list[Array]]:
    """For each feed that errors are measured on, the taps of a runner of the model, as `spread` takes them."""
    for feed in few(model.graph, samples, SIGNAL_SAMPLES):
        yield [spread(array) for array in runner.run_taps(feed)]


def signal_to_noise(
    wanted: Iterable[Sequence[Array]], model: Model, values: Sequence[Value], samples: Samples
) -> list[float | None]:
    """SQNR in dB of every one of the values in `model` against what is `wanted` of it (see `signals`).

    The error of a value includes that of all before it. One without any error has None, one that became NaN or infinite
    -inf; where the shape depends on values and is another one, nothing is compared.
    """
    found = signals(runner_of(model, taps=values), model, samples)
    compared = [Comparison() for _ in values]
    for expected, arrays in zip(wanted, found, strict=True):
        for comparison, a, b in zip(compared, expected, arrays, strict=True):
            if a.shape == b.shape:
                comparison.update(a, b)
    errors = [c.difference().sqnr_db for c in compared]
    return [sqnr if sqnr < math.inf else None for sqnr in errors]


def spread(array: Array) -> Array:
    """At most SIGNAL_ELEMENTS elements; the step is odd, so that it does not fall in with the sizes of rows."""
    step = -(-array.size // SIGNAL_ELEMENTS) | 1
    return array.reshape(-1)[::step] if array.size > SIGNAL_ELEMENTS else array


def lacks_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True on an x64 Linux machine whose CPU says that it has none of the instructions that multiply u8 by i8 without
    saturating."""
    if not cpuinfo.is_file():
        return False
    flags = next((row for row in cpuinfo.read_text().splitlines() if row.startswith("flags")), "")
    return bool(flags) and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags.split())
