"""ONNX Runtime's profile: how long each kernel of the graph that it executes takes, run after run."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (ONNX Runtime and onnx.load come without types.)

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ...ir import Model
from .base import inputs_of
from .ort import OrtRunner, _options, session_of  # pyright: ignore[reportPrivateUsage]
from .taps import tapped

SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Kernel:
    """A node of the graph that is executed, after fusion and changes of layout: its name and operator, the names of the
    nodes that give its operands and of those that take its results, and the microseconds of each run.
    """

    name: str
    op: str
    makers: tuple[str, ...]
    users: tuple[str, ...]
    runs: tuple[int, ...]

    @property
    def microseconds(self) -> float:
        """The mean of the fastest quarter of the runs: other work on the machine only adds to them, and the runtime
        counts whole microseconds.
        """
        return fastest(self.runs)


def fastest(values: Sequence[float]) -> float:
    """The mean of the fastest quarter; 0 for no values."""
    ordered = sorted(values)[: -(-len(values) // 4)]
    return sum(ordered) / len(ordered) if ordered else 0.0


class Profiler(OrtRunner):
    """Runs a model on one thread and times each of its kernels; `kernels` ends it.

    Raises TersorError where ONNX Runtime refuses the model.
    """

    def __init__(self, model: Model) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tersor-")
        path = Path(self._folder.name)
        options = _options(True, 1)
        options.enable_profiling, options.profile_file_prefix = True, str(path / "profile")
        options.optimized_model_filepath = str(path / "executed.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "executed.data")
        copy = tapped(model, carry=True)
        self.inputs, self.names = inputs_of(model.graph), list(model.graph.output_names)
        self._taps, self._carried, self._weights = copy.taps, copy.carried, {}
        self.session = session_of(copy.model, None, sess_options=options)

    def kernels(self, block: int) -> list[Kernel]:
        """What was run, without the first of each `block` runs."""
        profile = Path(self.session.end_profiling())
        with self._folder as folder:
            executed = onnx.load(Path(folder) / "executed.onnx", load_external_data=False).graph
            events = json.loads(profile.read_text())
        times: dict[str, list[int]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(SUFFIX):
                times.setdefault(event["name"].removesuffix(SUFFIX), []).append(int(event["dur"]))
        makers = {value: node.name for node in executed.node for value in node.output}
        users: dict[str, list[str]] = {}
        for node in executed.node:
            for value in node.input:
                users.setdefault(value, []).append(node.name)
        return [
            Kernel(
                node.name,
                node.op_type,
                tuple(makers[v] for v in node.input if v in makers),
                tuple(name for v in node.output for name in users.get(v, ())),
                tuple(t for i, t in enumerate(times.get(node.name, ())) if i % block),
            )
            for node in executed.node
        ]
