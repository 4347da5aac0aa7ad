"""What torch_zoo.py measures of one architecture, in a process of its own."""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tersor as ts
import torch
from tersor.backends.compare import Comparison
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import emit, to_module
from tersor.frontends.torch import UnknownOperatorsError, from_exported
from tersor.ir import TersorError
from tersor.transforms.base import Context
from torch.export import Dim, ExportedProgram, export
from torch.utils import _pytree as pytree

TOLERANCES = {"float16": 1e-2, "bfloat16": 5e-2, "float64": 1e-4, "float32": 1e-4}
"""max|a - b| / max|a| by the element type of the module's weights; deep random networks amplify rounding."""

ROUNDS, SECONDS = 15, 5.0
"""The emitted and the original module run in turns at most so often and so long."""

Figures = dict[str, Any]


def figures(family: str, name: str, options: argparse.Namespace) -> Figures:
    """Everything about one architecture; what fails is said under "error" and its "stage"."""
    found: Figures = {}
    try:
        measure(family, name, options, found)
    except Exception as error:
        where = getattr(error, "where", "")
        found["error"] = f"{type(error).__name__}: {error}"[:1500] + (f" | {where}" if where else "")
    return found


def measure(family: str, name: str, options: argparse.Namespace, found: Figures) -> None:
    found["stage"] = "make"
    torch.manual_seed(0)
    module, arguments, dynamic = importlib.import_module("torch_zoo_models").FAMILIES[family][name]()
    randomize(module)
    torch.backends.mha.set_fastpath_enabled(False)
    wanted = pytree.tree_leaves(module(*arguments))
    found["stage"] = "export"
    program, taken = timed(lambda: exported(module, arguments, dynamic, options, found))
    found["export"] = asdict(taken)
    found["stage"] = "import"
    model = lowered(program, found)
    if not options.skip_peer:
        peer(program, found)
    if model is None:
        return
    found["nodes"] = nodes(model)
    found["stage"] = "run"
    feeds = fed(model, arguments)
    tolerance = TOLERANCES[str(next(iter(module.parameters())).dtype).removeprefix("torch.")]
    found["error_imported"] = distance(wanted, list(OrtRunner(model, optimize=False).run(feeds).values()))
    found["stage"] = "simplify"
    train, best = simplified(model, "train"), simplified(model, "deploy")
    found["nodes_simplified"] = nodes(best)
    found["stage"] = "save"
    found["error_saved"], _ = saved(best, feeds, wanted)
    found["error_train"], initializers = saved(train, feeds, wanted)
    found["lost"] = missing_of(program, initializers)
    found["equal"] = max(found[f"error_{k}"] for k in ("imported", "saved", "train")) <= tolerance
    found["stage"] = "done"
    emitted(module, arguments, train, feeds, wanted, program, found)
    found["emitted_equal"] = found.get("error_emitted", np.inf) <= tolerance


# The module


def randomize(module: torch.nn.Module) -> None:
    """Gives every parameter and statistic its own values: initial zeros and ones would be no-ops."""
    module.eval()
    for name, p in [*module.named_parameters(), *module.named_buffers()]:
        p.requires_grad_(False)
        if name.endswith("running_mean"):
            p.normal_(0, 0.1)
        elif name.endswith("running_var"):
            p.uniform_(0.7, 1.3)
        elif isinstance(p, torch.nn.Parameter) and p.is_floating_point() and p.numel() and p.min() == p.max():
            value = float(p.flatten()[0])
            if p.numel() <= 3:  # a number for the whole tensor: only zero would switch its branch off
                p.fill_(value or 0.3)
                continue
            made = torch.randn_like(p) * 0.02 if value == 0 else 1 + torch.randn_like(p) * 0.05
            p.copy_(made if value in (0, 1) else torch.rand_like(p) * 0.1 + 0.05)


def exported(
    module: torch.nn.Module, arguments: tuple[Any, ...], dynamic: Any, options: argparse.Namespace, found: Figures
) -> ExportedProgram:
    """With sizes symbolic where torch manages; else with fixed sizes."""

    def automatic(axes: Any) -> Any:
        return [automatic(a) for a in axes] if isinstance(axes, list) else dict.fromkeys(axes, Dim.AUTO)

    if not options.static:
        shapes = tuple(automatic(axes) for axes in dynamic)
        try:
            starred = "arguments" in module.forward.__code__.co_varnames
            program = export(module, arguments, dynamic_shapes=(shapes,) if starred else shapes, strict=False)
            found["symbols"] = len(program.range_constraints)
            return program
        except Exception as error:
            found["static"] = f"{type(error).__name__}: {error}"[:300]
    return export(module, arguments, strict=False)


# Time


@dataclass(frozen=True)
class Taken:
    """Seconds of this process' CPU time and of the clock. On a busy machine the former say more."""

    cpu: float
    wall: float


def timed(action: Callable[[], Any]) -> tuple[Any, Taken]:
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    made = action()
    return made, Taken(time.process_time() - cpu, time.perf_counter() - wall)


def warm_up(skip_peer: bool) -> None:
    """A small program through both exporters, so that neither is charged with importing its modules. The processes of
    the architectures are forked afterwards."""
    small = export(torch.nn.Linear(2, 2), (torch.ones(1, 2),), strict=False)
    lowered(small, {})
    if not skip_peer:
        peer(small, {})


def lowered(program: ExportedProgram, found: Figures) -> ts.Model | None:
    """Our own rules, from the program to a file; None, with the operators named, where rules are missing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model, reading = timed(lambda: from_exported(program))
        except UnknownOperatorsError as error:
            found["missing"] = list(error.operators)
            raise
        _, writing = timed(lambda: ts.save(model, Path(folder) / "model.onnx"))
    found["own"] = asdict(Taken(reading.cpu + writing.cpu, reading.wall + writing.wall))
    found["reading"] = asdict(reading)
    return model


def peer(program: ExportedProgram, found: Figures) -> None:
    """`torch.onnx.export` of the same program to a file, with its usual options."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            made, taken = timed(lambda: torch.onnx.export(program, (), path, dynamo=True, verbose=False))
        except Exception as error:
            found["peer_error"] = f"{type(error).__name__}: {error}"[:300]
            return
    found["peer"] = asdict(taken)
    found["peer_nodes"] = sum(1 for _ in made.model.graph)


# What was imported


def simplified(model: ts.Model, level: str) -> ts.Model:
    copy = model.clone()
    ts.Simplify(level=level).run(copy, Context())
    return copy


def nodes(model: ts.Model) -> int:
    return sum(1 for _ in model.graph.walk())


def fed(model: ts.Model, arguments: tuple[Any, ...]) -> dict[str, np.ndarray]:
    return {v.name: leaf.numpy() for v, leaf in zip(model.graph.inputs, tensors_of(arguments), strict=True)}


def tensors_of(arguments: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]


def saved(model: ts.Model, feeds: dict[str, np.ndarray], wanted: Sequence[Any]) -> tuple[float, set[str]]:
    """How far off ONNX Runtime is with the file that `save` writes, and the names of the file's weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ts.save(model, path)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        kept = {i.name for i in session.get_inputs()}
        found = session.run(None, {name: array for name, array in feeds.items() if name in kept})
        graph = onnx.load(path, load_external_data=False).graph
        return distance(wanted, list(found)), {i.name for i in graph.initializer}


def distance(wanted: Sequence[Any], found: Sequence[Any]) -> float:
    """The worst output's max|a - b| / max|a|; integers must be equal. Values that are no tensors are left out."""
    tensors = [w.float().numpy() if w.dtype is torch.bfloat16 else w.numpy() for w in wanted if torch.is_tensor(w)]
    if len(tensors) != len(found):
        raise AssertionError(f"{len(found)} outputs instead of {len(tensors)}")
    worst = 0.0
    for a, b in zip(tensors, found, strict=True):
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise AssertionError("torch itself gives numbers that are not finite")
        comparison = Comparison()
        comparison.update(a, np.asarray(b).astype(a.dtype))
        worst = max(worst, comparison.difference().max_error)
    return float(worst)


def missing_of(program: ExportedProgram, there: set[str]) -> list[str]:
    """Parameters that the program uses and `there` does not name; one of the names of a tied weight is enough."""
    inputs = program.graph_signature.inputs_to_parameters
    used = {inputs[n.name] for n in program.graph.nodes if n.op == "placeholder" and n.users and n.name in inputs}
    groups: dict[Any, list[str]] = {}
    for name in used:
        tensor = program.state_dict[name]
        groups.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return sorted(names[0] for names in groups.values() if not there.intersection(names))


# PyTorch source


def emitted(
    module: torch.nn.Module, arguments: tuple[Any, ...], model: ts.Model, feeds: dict[str, np.ndarray],
    wanted: Sequence[Any], program: ExportedProgram, found: Figures,
) -> None:  # fmt: skip
    """Emits the model and compares numbers, keys and speed with the original module."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = emit(model, Path(folder) / "emitted", samples=[feeds])
        except TersorError as error:
            found["emit_error"] = f"{type(error).__name__}: {error}"[:600]
            return
        found["lines"] = len(made.files[0].read_text("ascii").splitlines())
    copy = to_module(model)
    inputs = tensors_of(arguments)
    outputs = copy(*inputs)
    results = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    arrays = [r.float().numpy() if r.dtype is torch.bfloat16 else r.numpy() for r in results]
    found["error_emitted"] = distance(wanted, arrays)
    found["lost_keys"] = missing_of(program, set(copy.state_dict()))
    found["speed"] = relative_speed(lambda: module(*arguments), lambda: copy(*inputs))


def relative_speed(original: Callable[[], Any], candidate: Callable[[], Any]) -> float:
    """How many times faster the candidate is: the median ratio of CPU times of calls in turns, after two of each."""
    ratios: list[float] = []
    end = time.perf_counter() + SECONDS
    for turn in range(ROUNDS + 2):
        pair = (original, candidate) if turn % 2 else (candidate, original)
        taken: dict[Callable[[], Any], float] = {}
        for run in pair:
            started = time.thread_time()
            run()
            taken[run] = time.thread_time() - started
        if turn > 1:
            ratios.append(taken[original] / taken[candidate])
        if time.perf_counter() > end and len(ratios) > 4:
            break
    return statistics.median(ratios)
