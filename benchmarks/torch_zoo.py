"""PyTorch in, over real architectures: python benchmarks/torch_zoo.py [--family NAME...] [--only PATTERN...]

Needs torch, torchvision, timm and transformers; weights are random, nothing is downloaded. Each architecture is
exported in a process of its own with a time limit; figures are kept in --results, and what is there is not measured
again (--again does). Per architecture: whether our own rules lower it, whether outputs equal torch's (ONNX Runtime
without optimizations on what was imported, with them on what is saved after `simplify`), nodes after `simplify`,
parameter names kept at level "train", and the time from the ExportedProgram beside `torch.onnx.export` of the same
program in the same process (--skip-peer leaves that out; a small program warms both up).

--shim FILE is run before torchvision is imported: it may declare operators that a torchvision without its compiled part
lacks.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx
import onnxruntime
import tersor as ts
import torch
from tersor.backends.compare import Comparison
from tersor.backends.runners import OrtRunner
from tersor.frontends.torch import from_exported
from tersor.transforms.base import Context
from torch.export import Dim, ExportedProgram, export
from torch.utils import _pytree as pytree

TOLERANCES = {"float16": 1e-2, "bfloat16": 5e-2, "float64": 1e-4, "float32": 1e-4}
"""max|a - b| / max|a| by the element type of the module's weights; deep random networks amplify rounding."""

Figures = dict[str, Any]


# One architecture


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
    started = time.perf_counter()
    program = exported(module, arguments, dynamic, options, found)
    found["export_seconds"] = time.perf_counter() - started
    found["stage"] = "import"
    warm_up(options.skip_peer)
    model = imported(program, found)
    found["nodes"] = nodes(model)
    found["stage"] = "run"
    feeds = fed(model, arguments)
    tolerance = TOLERANCES[str(next(iter(module.parameters())).dtype).removeprefix("torch.")]
    found["error_imported"] = distance(wanted, list(OrtRunner(model, optimize=False).run(feeds).values()))
    found["stage"] = "simplify"
    train = simplified(model, "train")
    found["lost"] = lost_names(program, train)
    best = simplified(model, "deploy")
    found["nodes_simplified"] = nodes(best)
    found["stage"] = "save"
    found["error_saved"] = distance(wanted, saved(best, feeds))
    found["error_train"] = distance(wanted, saved(train, feeds))
    found["equal"] = max(found[f"error_{k}"] for k in ("imported", "saved", "train")) <= tolerance
    found["stage"] = "peer"
    if not options.skip_peer:
        found["peer_seconds"] = peer(program, found)
    found["stage"] = "done"


def randomize(module: torch.nn.Module) -> None:
    """Gives every parameter and statistic its own values: initial zeros and ones would be no-ops."""
    module.eval()
    for name, p in [*module.named_parameters(), *module.named_buffers()]:
        p.requires_grad_(False)
        if name.endswith("running_mean"):
            p.normal_(0, 0.1)
        elif name.endswith("running_var"):
            p.uniform_(0.7, 1.3)
        elif isinstance(p, torch.nn.Parameter) and p.is_floating_point() and p.numel() > 3 and p.min() == p.max():
            value = float(p.flatten()[0])
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


def imported(program: ExportedProgram, found: Figures) -> ts.Model:
    """The median of three imports; falling back shows in warnings."""
    seconds: list[float] = []
    model = None
    for _ in range(3):
        gc.collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            started = time.perf_counter()
            model = ts.load(program)
            seconds.append(time.perf_counter() - started)
        fallen = [str(w.message) for w in caught if "fall" in str(w.message) and "stock exporter" in str(w.message)]
        if fallen:
            found["fell_back"] = fallen[0]
            break
    assert model is not None
    found["seconds"] = statistics.median(seconds)
    return model


def warm_up(skip_peer: bool) -> None:
    small = export(torch.nn.Linear(2, 2), (torch.ones(1, 2),), strict=False)
    from_exported(small)
    if not skip_peer:
        peer(small, {})


def peer(program: ExportedProgram, found: Figures) -> float | None:
    """Seconds of `torch.onnx.export`; None where it fails."""
    started = time.perf_counter()
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False)
        found["peer_nodes"] = sum(1 for _ in made.model.graph) if made is not None else None
    except Exception as error:
        found["peer_error"] = f"{type(error).__name__}: {error}"[:300]
        return None
    return time.perf_counter() - started


def simplified(model: ts.Model, level: str) -> ts.Model:
    copy = model.clone()
    ts.Simplify(level=level).run(copy, Context())
    return copy


def nodes(model: ts.Model) -> int:
    return sum(1 for _ in model.graph.walk())


def fed(model: ts.Model, arguments: tuple[Any, ...]) -> dict[str, np.ndarray]:
    leaves = [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
    return {v.name: leaf.numpy() for v, leaf in zip(model.graph.inputs, leaves, strict=True)}


def saved(model: ts.Model, feeds: dict[str, np.ndarray]) -> list[Any]:
    """What ONNX Runtime computes from the file that `save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ts.save(model, path)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        kept = {i.name for i in session.get_inputs()}
        return list(session.run(None, {name: array for name, array in feeds.items() if name in kept}))


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


def lost_names(program: ExportedProgram, model: ts.Model) -> list[str]:
    """Parameters that the program uses and the model does not name; one of the names of a tied weight is enough."""
    proto = written(model)
    there = {i.name for i in proto.graph.initializer}
    inputs = program.graph_signature.inputs_to_parameters
    used = {inputs[n.name] for n in program.graph.nodes if n.op == "placeholder" and n.users and n.name in inputs}
    groups: dict[Any, list[str]] = {}
    for name in used:
        tensor = program.state_dict[name]
        groups.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return sorted(names[0] for names in groups.values() if not there.intersection(names))


def written(model: ts.Model) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ts.save(model, path)
        return onnx.load(path, load_external_data=False)


# All of them


def child(sender: Connection, family: str, name: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with torch.no_grad():
        sender.send(figures(family, name, options))


def isolated(family: str, name: str, options: argparse.Namespace) -> Figures:
    """The figures from a process of its own, which ends at the time limit."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(sender, family, name, options), daemon=True)
    process.start()
    sender.close()
    try:
        if receiver.poll(options.timeout):
            return receiver.recv()
        return {"stage": "timeout", "error": f"no end after {options.timeout} s"}
    except EOFError:
        return {"stage": "crash", "error": "the process died"}
    finally:
        process.kill()
        process.join()


def row(name: str, found: Figures) -> str:
    state = "fell back" if "fell_back" in found else "own rules" if "seconds" in found else "refused"
    if "error" in found:
        return f"{name:34} {state:9} {found['stage']}: {found['error'][:400]}"
    errors = " ".join(f"{found[f'error_{k}']:.1e}" for k in ("imported", "saved", "train"))
    ratio = found.get("peer_seconds")
    speed = f"{ratio / found['seconds']:5.0f}x" if ratio else ""
    lost = f" LOST {len(found['lost'])}: {found['lost'][:3]}" if found["lost"] else ""
    equal = "equal" if found["equal"] else "DIFFERS"
    return (
        f"{name:34} {state:9} {equal} {errors}  {found['nodes']:5} -> {found['nodes_simplified']:4} nodes "
        f"{found['seconds'] * 1e3:7.1f} ms {speed}{lost}"
    )


def summary(family: str, rows: dict[str, Figures]) -> str:
    count = len(rows)
    own = sum("seconds" in f and "fell_back" not in f for f in rows.values())
    equal = sum(bool(f.get("equal")) for f in rows.values())
    kept = sum("lost" in f and not f["lost"] for f in rows.values())
    ratios = [f["peer_seconds"] / f["seconds"] for f in rows.values() if f.get("peer_seconds") and f.get("seconds")]
    line = f"{family}: {own}/{count} by own rules, {equal}/{count} equal, {kept}/{count} keep all names"
    if ratios:
        line += f", {statistics.median(ratios):.0f}x faster than the stock exporter (median of {len(ratios)})"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="*", help="torchvision, timm, transformers (default: all)")
    parser.add_argument("--only", nargs="*", default=["*"], help="patterns of architecture names")
    parser.add_argument("--skip-peer", action="store_true", help="do not time torch.onnx.export")
    parser.add_argument("--static", action="store_true", help="export with fixed sizes")
    parser.add_argument("--again", action="store_true", help="measure what is in the results, too")
    parser.add_argument("--failed", action="store_true", help="measure again what did not end well")
    parser.add_argument("--list", action="store_true", help="show the results and measure nothing")
    parser.add_argument("--results", type=Path, default=Path("torch_zoo.json"))
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one architecture")
    parser.add_argument("--shim", type=Path, help="a Python file to run first")
    options = parser.parse_args()
    declared = runpy.run_path(str(options.shim)) if options.shim else {}  # lives as long as what it declares
    from torch_zoo_models import FAMILIES

    results: dict[str, dict[str, Figures]] = json.loads(options.results.read_text()) if options.results.exists() else {}
    for family in options.family or FAMILIES:
        rows = results.setdefault(family, {})
        importlib.import_module(family)
        for name in FAMILIES[family]:
            if not any(fnmatch(name, pattern) for pattern in options.only):
                continue
            if not options.list and wants(rows.get(name), options):
                rows[name] = isolated(family, name, options)
                options.results.write_text(json.dumps(results, indent=1))
            if name in rows:
                print(row(name, rows[name]), flush=True)
        print(summary(family, rows), flush=True)
    declared.clear()


def wants(found: Figures | None, options: argparse.Namespace) -> bool:
    """True when an architecture has to be measured."""
    if found is None or options.again:
        return True
    bad = "error" in found or not found.get("equal") or found.get("lost") or "fell_back" in found
    return bool(bad and options.failed) or (not options.skip_peer and "peer_seconds" not in found and not bad)


if __name__ == "__main__":
    main()
