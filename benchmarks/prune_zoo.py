"""Structured pruning of real architectures: python benchmarks/prune_zoo.py [--family NAME...] [--only PATTERN...]

Half of all channels, heads and hidden units of the architectures of torch_zoo.py go, through the PyTorch frontend; with
--onnx FOLDER those of the networks in its files `*.onnx`, folders within included (inputs in `*.npz` beside them, keys
`set0__<input>`; made up where there is none). Nothing is said about heads or layers. Every architecture has a process
of its own with a time limit, and so has torch-pruning (--peer, where it is installed: same ratio, magnitude, only the
layers that make the network's outputs ignored). Figures are kept in --results, and what is there is not measured again
(--again and --failed do).

Half of the residual blocks and half of the experts go as well, each by a pass of its own on the whole network.

exact: every value equals that of the original with the removed channels masked, statistics included; semantic: with
statistics over the channels that are left; refused: less than half of the parameters of Conv, MatMul, Gemm and their
like shrank, or a reason; wrong: another function; nothing: no such parameters; unreadable: no valid model, or one that
needs what is not here; crashed: an error that is not explained. `moved` is how far masking moves the original's
outputs: under 1e-2 the row proves nothing. torch-pruning's result is compared with its own masked original in the same
two ways.

--report prints the results as Markdown; --shim as in torch_zoo.py.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import runpy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import tersor as ts
import torch
from children import forked
from tersor.backends.runners import OrtRunner, synthesize
from tersor.ir import Dense, Model, Node, ParityError, TersorError, Value
from tersor.transforms.base import Context, Pass
from tersor.transforms.cost import graph_flops, stored
from tersor.transforms.prune import Prune, PruneDepth, PruneExperts
from tersor.transforms.prune.rules.semantic import MASKED_STATISTICS
from tersor.transforms.quantize.qoperator import has_qoperators, to_qdq
from torch.utils import _pytree as pytree
from torch_zoo_measure import distance, exported, fed, randomize

Figures = dict[str, Any]

WEIGHTED = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "Einsum": (0, 1), "LSTM": (1, 2),
    "GRU": (1, 2), "RNN": (1, 2), "QLinearConv": (3,), "ConvInteger": (1,), "MatMulInteger": (0, 1),
}  # fmt: skip
"""Operands that are weights, by operator."""

MODES = ("strict", "semantic")
BESIDES: Mapping[str, Pass] = {
    "depth": PruneDepth(ratio=0.5, importance="magnitude", compensate=None), "experts": PruneExperts(ratio=0.5),
}  # fmt: skip
NORMS = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization")
MOVED, CLOSE, ENOUGH = 1e-2, 1e-3, 0.5


# One architecture


def of_torch(family: str, name: str, options: argparse.Namespace, found: Figures) -> None:
    path = options.keep / family / f"{name}.onnx" if options.keep else None
    if path is not None and path.with_suffix(".npz").exists():
        samples = np.load(path.with_suffix(".npz"))
        measure(ts.load(path), {key: samples[key] for key in samples.files}, options, found)
        return
    module, arguments, dynamic = made(family, name, options.head)
    found["stage"] = "export"
    program = exported(module, arguments, dynamic, options, found)
    found["stage"] = "import"
    model = ts.load(program)
    feeds = fed(model, arguments)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ts.save(model, path, external_data=False)
        np.savez(path.with_suffix(".npz"), **feeds)  # pyright: ignore[reportArgumentType]
    if not options.export:
        measure(model, feeds, options, found)


class Headed(torch.nn.Module):
    """A network whose outputs go through a layer of ten classes each, so that their channels are nobody's business."""

    def __init__(self, module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.module = module.eval()
        self.heads = torch.nn.ModuleList(self.head(x) for x in floats(module(*arguments)))

    def head(self, x: torch.Tensor) -> torch.nn.Module:
        return torch.nn.Conv2d(x.shape[1], 10, 1) if x.ndim == 4 else torch.nn.Linear(x.shape[-1], 10)

    def forward(self, *arguments: Any) -> Any:
        return [head(x) for head, x in zip(self.heads, floats(self.module(*arguments)), strict=True)]


def floats(results: Any) -> list[torch.Tensor]:
    """The tensors of floats with channels among results."""
    return [t for t in pytree.tree_leaves(results) if torch.is_tensor(t) and t.is_floating_point() and t.ndim > 1]


def made(family: str, name: str, head: bool = False) -> tuple[torch.nn.Module, tuple[Any, ...], Any]:
    """The module with weights that let a wrong channel show: no two alike, products about as large as their inputs."""
    from torch_zoo_models import FAMILIES

    torch.manual_seed(0)
    module, arguments, dynamic = FAMILIES[family][name]()
    if head:
        module = Headed(module, arguments)
    randomize(module)
    for parameter in module.parameters():
        if parameter.ndim >= 2 and parameter[0].numel() > 1 and parameter.is_floating_point():
            usual = math.prod(parameter.shape[1:]) ** -0.5
            if 0 < float(parameter.std()) < usual / 1.2:
                parameter.mul_(usual / parameter.std())
        while parameter.ndim == 1 and parameter.dtype is torch.float32 and parameter.unique().numel() < len(parameter):
            parameter.add_(torch.randn_like(parameter) * 1e-3)
    torch.backends.mha.set_fastpath_enabled(False)
    return module, arguments, dynamic


def of_file(path: Path, options: argparse.Namespace, found: Figures) -> None:
    found["stage"] = "import"
    model = ts.load(path, freeze_defaults=True)
    if has_qoperators(model.graph):
        to_qdq(model.graph)
    shake(model)
    found["stage"] = "inputs"
    measure(model, inputs_of(path, model), options, found)


def inputs_of(path: Path, model: Model) -> Mapping[str, Any]:
    """What the original runs on: what stands beside the file, else made-up numbers."""
    if path.with_suffix(".npz").exists():
        samples = np.load(path.with_suffix(".npz"))
        return {k.removeprefix("set0__"): samples[k] for k in samples.files if k.startswith("set0__")}
    (feeds,) = synthesize(model.graph)
    OrtRunner(model, optimize=False).run(feeds)
    return feeds


def shake(model: Model) -> None:
    """Gives the vectors of normalisations, and biases, that are all equal their own values, and weights their size."""
    random = np.random.default_rng(0)
    for node in model.graph:
        for index, value in enumerate(node.inputs):
            tensor = None if value is None else value.const
            if value is None or tensor is None or not tensor.dtype.is_float or tensor.count < 4 or not index:
                continue
            numbers = tensor.numpy()
            if tensor.rank > 1 and node.op in WEIGHTED and len(value.users) == 1:
                inputs = math.prod(tensor.shape[1:]) if node.op == "Conv" else tensor.shape[-2]
                factor = max(1.0, 1 / (max(float(numbers.std()), 1e-9) * inputs**0.5))
                value.const = Dense((numbers * factor).astype(numbers.dtype), tensor.dtype)
                continue
            if tensor.rank != 1:
                continue
            if np.ptp(numbers) == 0 and (node.op in NORMS or node.op in ("Conv", "Gemm")):
                noise = random.standard_normal(numbers.shape) * (0.02 if numbers[0] == 0 else 0.05)
                value.const = Dense((numbers + noise).astype(numbers.dtype), tensor.dtype)


def measure(model: Model, feeds: Mapping[str, Any], options: argparse.Namespace, found: Figures) -> None:
    found["stage"] = "simplify"
    ts.Simplify().run(model, Context())
    found["parameters"] = sum(v.tensor.count for v in model.graph.constants() if v.tensor.dtype.is_float)
    found["weights"] = sum(v.tensor.count for v in weights(model) if v.tensor.count > 1)
    for mode in MODES:
        found["stage"] = mode
        found[mode] = {}
        try:
            pruned(model.clone(), mode, feeds, options, found[mode])
        except ParityError as error:
            found[mode]["wrong"] = f"{error} | {getattr(error, 'where', '')} | {getattr(error, 'why', '')}"[:400]
        except Exception as error:
            found[mode] |= explained(error)
            if options.traceback:
                raise
        if not any("statistics" in why or "reduces" in why for why in found[mode].get("frozen", {})):
            break
    for name, chosen in BESIDES.items():
        found["stage"] = name
        found[name] = besides(model.clone(), chosen, feeds)
    found["stage"] = "done"


def explained(error: Exception) -> Figures:
    """An error that says what to do about it ("failed"), or another one ("crashed")."""
    told = isinstance(error, TersorError)
    text = f"{type(error).__name__}: {error} | {getattr(error, 'where', '')} | {getattr(error, 'why', '')}"
    return {"failed" if told else "crashed": " ".join(text.split())[:600]}


def besides(model: Model, chosen: Pass, feeds: Mapping[str, Any]) -> Figures:
    """What the passes do that remove whole blocks and whole experts."""
    started = time.process_time()
    try:
        outcome = chosen.run(model, Context(samples=[dict(feeds)]))
    except ParityError as error:
        return {"wrong": f"{error} | {getattr(error, 'why', '')}"[:400]}
    except Exception as error:
        return explained(error)
    row: Figures = {"seconds": time.process_time() - started, "gone": outcome.changed, "of": len(outcome.decisions)}
    row["whys"] = dict(collections.Counter(d.reason.split(" (")[0] for d in outcome.decisions if d.decision == "kept"))
    if outcome.reference is not None:
        check = outcome.checks["mask_oracle"]
        row |= {"kept": check.parameters[1] / check.parameters[0], "worst": check.worst, "moved": check.changed}
    return row


def pruned(model: Model, mode: str, feeds: Mapping[str, Any], options: argparse.Namespace, row: Figures) -> None:
    flops = graph_flops(model.graph)
    before = list(OrtRunner(model, optimize=False).run(feeds).values())
    started = time.process_time()
    chosen = Prune(ratio=options.ratio, norms=mode, compensate=None)  # pyright: ignore[reportArgumentType]
    outcome = chosen.run(model, Context(samples=[dict(feeds)]))
    row["seconds"] = time.process_time() - started
    row["frozen"] = frozen(outcome.decisions)
    row["kept"], row["flops"], row["shrunk"], row["layers"] = 1.0, 1.0, 0.0, 1.0
    if outcome.reference is None:
        return
    check = outcome.checks["mask_oracle"]
    row["kept"] = check.parameters[1] / check.parameters[0]
    row["flops"] = graph_flops(model.graph) / flops
    row["moved"], row["worst"] = check.changed, check.worst
    row["shrunk"], row["layers"] = shrunk(outcome.reference, model)
    row["saved"] = off_when_saved(model, outcome.reference, before, feeds)


def off_when_saved(model: Model, reference: Model, before: Sequence[Any], feeds: Mapping[str, Any]) -> float:
    """How far ONNX Runtime is off with the file that is saved, beside the masked original: as a share of the largest
    number there, or in the original's output, of which masking may leave next to nothing (a Sigmoid of -10).
    """
    masked = OrtRunner(reference, optimize=False).run(feeds).values()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ts.save(model, path)
        found = OrtRunner(ts.load(path)).run(feeds).values()
    return max(off(*each) for each in zip(masked, found, before, strict=True))


def off(wanted: Any, got: Any, before: Any) -> float:
    """max|a - b| / max|a|, and infinite for other shapes, for what is not equal and no float, and for infinities."""
    a, b = (v.astype(np.float32) if v.dtype.kind == "V" else v for v in (np.asarray(wanted), np.asarray(got)))
    if a.shape == b.shape and np.array_equal(a, b):
        return 0.0
    if a.shape != b.shape or a.dtype.kind != "f":
        return math.inf
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return math.inf
    scale = max(float(np.abs(v[np.isfinite(v)]).max(initial=0)) for v in (a, np.asarray(before).astype(a.dtype)))
    return float(np.abs(a - b)[finite].max(initial=0)) / (scale or 1.0)


def frozen(decisions: Sequence[Any]) -> dict[str, int]:
    """How many layers kept their own channels, by operator and reason."""
    found: collections.Counter[str] = collections.Counter()
    for decision in decisions:
        if decision.decision in ("kept", "inputs pruned"):
            found[f"{decision.op}: {decision.reason.split('channels stay: ')[-1]}"] += 1
    return dict(found.most_common())


def shrunk(reference: Model, model: Model) -> tuple[float, float]:
    """Of the parameters of weighted operators: the share in weights that became smaller, and the share that is left."""
    before, after = weights(reference), weights(model)
    sizes = [(a.tensor.count, b.tensor.count) for a, b in zip(before, after, strict=True) if a.tensor.count > 1]
    whole = max(1, sum(a for a, _ in sizes))
    return sum(a for a, b in sizes if b < a) / whole, sum(b for _, b in sizes) / whole


def weights(model: Model) -> list[Value]:
    nodes: Iterator[Node] = (n for n in model.graph if n.op in WEIGHTED and n.loc.rule != MASKED_STATISTICS)
    values = (stored(n.input(i)) for n in nodes for i in WEIGHTED[n.op])
    return [v for v in values if v is not None]


# torch-pruning


def of_peer(family: str, name: str, options: argparse.Namespace, found: Figures) -> None:
    """Its result, and what the original computes with the channels masked that it removed."""
    import copy

    import torch_pruning  # pyright: ignore[reportMissingImports]

    module, arguments, _ = made(family, name, options.head)
    original = copy.deepcopy(module)
    for each in (module, original):
        for parameter in each.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    outputs = makers(module, arguments)
    with torch.enable_grad():
        started = time.perf_counter()
        pruner = torch_pruning.pruner.BasePruner(
            module, arguments, importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=options.ratio, ignored_layers=outputs,
        )  # fmt: skip
        pruner.step()
        found["seconds"] = time.perf_counter() - started
    for each in (module, original):
        each.requires_grad_(requires_grad=False)
    count = {key: sum(p.numel() for p in m.parameters()) for key, m in (("a", original), ("b", module))}
    found["kept"] = count["b"] / count["a"]
    got = [t for t in pytree.tree_leaves(module(*arguments)) if torch.is_tensor(t)]
    dense = [t for t in pytree.tree_leaves(original(*arguments)) if torch.is_tensor(t)]
    for key, exact in (("exact", True), ("semantic", False)):
        masked = copy.deepcopy(original)
        hide(masked, module, exact)
        wanted = [t for t in pytree.tree_leaves(masked(*arguments)) if torch.is_tensor(t)]
        same = all(a.shape == b.shape for a, b in zip(wanted, got, strict=True))
        found[key] = distance(wanted, [t.numpy() for t in got]) if same else float("inf")
        if exact:
            found["moved"] = distance(dense, [t.numpy() for t in wanted])


def makers(module: torch.nn.Module, arguments: tuple[Any, ...]) -> list[torch.nn.Module]:
    """The layers whose results are outputs of the network, functions without weights in between."""
    results: dict[int, torch.nn.Module] = {}

    def note(layer: torch.nn.Module, given: Any, result: Any) -> None:
        if not torch.is_tensor(result):
            return
        if list(layer.parameters()):
            results[result.data_ptr()] = layer
        elif given and torch.is_tensor(given[0]) and given[0].data_ptr() in results:
            results[result.data_ptr()] = results[given[0].data_ptr()]

    layers = [m for m in module.modules() if not list(m.children())]
    handles = [layer.register_forward_hook(note) for layer in layers]
    outputs = [t for t in pytree.tree_leaves(module(*arguments)) if torch.is_tensor(t)]
    for handle in handles:
        handle.remove()
    return [results[t.data_ptr()] for t in outputs if t.data_ptr() in results]


def hide(masked: torch.nn.Module, pruned: torch.nn.Module, exact: bool) -> None:
    """Zeros wherever the pruned module has nothing any more, found by the numbers that are still there.

    Unless `exact`, normalisations over the last axis take their statistics over what is left.
    """
    left = dict(pruned.named_parameters())
    for name, parameter in masked.named_parameters():
        smaller = left.get(name)
        if smaller is None or smaller.shape == parameter.shape:
            continue
        keep = torch.ones_like(parameter)
        for axis, kept in enumerate(places(parameter, smaller)):
            one = torch.zeros(parameter.shape[axis])
            one[kept] = 1
            keep *= one.reshape([-1 if a == axis else 1 for a in range(parameter.ndim)])
        if not exact and parameter.ndim == 1:
            owner = masked.get_submodule(name.rpartition(".")[0])
            if "Norm" in type(owner).__name__ and "Batch" not in type(owner).__name__:
                statistics_of(owner, keep.bool())
        parameter.mul_(keep)


def places(whole: torch.Tensor, part: torch.Tensor) -> list[torch.Tensor]:
    """The indices along each axis of `whole` that `part` has, by its numbers: nearly all of them occur once, so the
    indices that most of them are found at are those.
    """
    order = whole.flatten().argsort()
    at = order[torch.searchsorted(whole.flatten()[order], part.flatten()).clamp(max=whole.numel() - 1)]
    if not torch.equal(whole.flatten()[at], part.flatten()):
        raise AssertionError("a parameter has numbers that the original does not have")
    found = zip(torch.unravel_index(at, whole.shape), whole.shape, part.shape, strict=True)
    return [torch.bincount(axis, minlength=size).topk(left).indices.sort().values for axis, size, left in found]


def statistics_of(norm: torch.nn.Module, keep: torch.Tensor) -> None:
    """A normalisation over the last axis that looks at some of its entries and gives zero for the others."""
    forward, kept = norm.forward, torch.nonzero(keep).flatten()
    small = dict[str, torch.Tensor]()
    for key, parameter in norm.named_parameters(recurse=False):
        small[key] = parameter[kept].clone()

    def of_kept(x: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        held = dict(norm.named_parameters(recurse=False))
        for key, value in small.items():
            setattr(norm, key, torch.nn.Parameter(value, requires_grad=False))
        if hasattr(norm, "normalized_shape"):
            norm.normalized_shape = (len(kept),)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        axis = 1 if "2d" in type(norm).__name__.lower() else -1
        result = forward(x.index_select(axis, kept), *rest, **named)
        for key, value in held.items():
            setattr(norm, key, value)
        return torch.zeros_like(x).index_copy(axis, kept, result)

    norm.forward = of_kept


# All of them


def child(sender: Connection, work: Callable[[Figures], None]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    found: Figures = {}
    with torch.no_grad():
        try:
            found["stage"] = "make"
            work(found)
        except Exception as error:
            if os.environ.get("TRACEBACK"):
                import traceback

                traceback.print_exc()
            found |= explained(error)
            found["error"] = found.get("failed") or found["crashed"]
    sender.send(found)


def state(found: Figures) -> str:
    """exact, semantic, wrong, refused, idle (masking moved nothing), nothing (to prune), unreadable or crashed."""
    parts = [found[m] for m in (*MODES, *BESIDES) if m in found]
    modes = [found[m] for m in MODES if m in found]
    if "error" in found and not modes:
        return "unreadable" if "failed" in found or found["stage"] in ("make", "export") else "crashed"
    if any("wrong" in part or part.get("saved", 0) > CLOSE for part in parts):
        return "wrong"
    if "error" in found or any("crashed" in part for part in parts):
        return "crashed"
    if not found.get("weights", 1):
        return "nothing"
    for name, mode in zip(MODES, modes, strict=False):
        if mode.get("shrunk", 0) >= ENOUGH:
            return ("exact" if name == "strict" else name) if mode["moved"] > MOVED else "idle"
    return "refused"


def state_of_peer(found: Figures | None) -> str:
    if not found:
        return ""
    if "error" in found:
        return "crashed"
    if found["kept"] > 0.999:
        return "refused"
    return "exact" if found["exact"] < CLOSE else "semantic" if found["semantic"] < CLOSE else "wrong"


def cells(name: str, found: Figures) -> list[str]:
    def figures(mode: Figures) -> str:
        if "kept" not in mode:
            return mode.get("wrong") or mode.get("crashed") or mode.get("failed") or ""
        return f"{mode['kept']:.3f} / {mode.get('layers', math.nan):.3f} / {mode['flops']:.3f} / {mode['shrunk']:.2f}"

    def removed(row: Figures) -> str:
        if "kept" in row:
            return f"{row['gone']}: {row['kept']:.3f}"
        return row.get("wrong") or row.get("crashed") or row.get("failed") or ""

    modes = [found.get(m, {}) for m in MODES]
    moved = [m["moved"] for m in modes if "moved" in m]
    seconds = [m["seconds"] for m in modes if "seconds" in m]
    peer = found.get("peer") or {}
    theirs = f"{state_of_peer(peer)} {peer['kept']:.3f}" if "kept" in peer else state_of_peer(peer)
    return [
        name, state(found), *map(figures, modes), f"{min(moved):.2g}" if moved else "",
        f"{max(seconds):.1f}" if seconds else found.get("error", ""), *(removed(found.get(n, {})) for n in BESIDES),
        theirs,
    ]  # fmt: skip


def report(results: Mapping[str, Mapping[str, Figures]]) -> Iterator[str]:
    for family, rows in results.items():
        counts = collections.Counter(state(f) for f in rows.values())
        yield f"\n## {family}: {', '.join(f'{n} {kind}' for kind, n in counts.most_common())} of {len(rows)}\n"
        peers = collections.Counter(state_of_peer(f.get("peer")) for f in rows.values() if f.get("peer"))
        if peers:
            yield f"torch-pruning: {', '.join(f'{n} {kind}' for kind, n in peers.most_common())}\n"
        for mode in MODES:
            kept = [f[mode]["kept"] for f in rows.values() if "kept" in f.get(mode, {})]
            if kept:
                yield f"parameters kept, {mode}: median {statistics.median(kept):.3f} of {len(kept)}\n"
        yield (
            "| architecture | result | strict: parameters kept / of the layers alone / FLOPs kept / share of "
            "weights that shrank | semantic "
            "| moved | CPU s | blocks gone: parameters kept | experts | torch-pruning |\n"
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        )
        for name, found in rows.items():
            yield f"| {' | '.join(c.replace('|', '/')[:160] for c in cells(name, found))} |"
        yield "\nAxes that stay whole, by the layers whose own channels they are:\n"
        reasons: collections.Counter[str] = collections.Counter()
        for found in rows.values():
            last = next((found[m]["frozen"] for m in MODES[::-1] if "frozen" in found.get(m, {})), {})
            for why in {w.split(" [")[0] for w in last}:
                reasons[why] += 1
        for why, count in reasons.most_common(25):
            yield f"* {count} networks: {why}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="*", default=None, help="torchvision, timm, transformers (default: all)")
    parser.add_argument("--only", "--models", nargs="*", default=["*"], help="patterns of architecture names")
    parser.add_argument("--onnx", type=Path, help="a folder of files to prune instead")
    parser.add_argument("--keep", type=Path, help="a folder for imported networks, so that they are exported once")
    parser.add_argument("--export", action="store_true", help="fill --keep and measure nothing")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--peer", action="store_true", help="torch-pruning, too")
    parser.add_argument("--head", action="store_true", help="with a layer of ten classes behind every output")
    parser.add_argument("--static", action="store_true", help="export with fixed sizes")
    parser.add_argument("--again", action="store_true", help="measure what is in the results, too")
    parser.add_argument("--failed", action="store_true", help="measure again what was refused or wrong")
    parser.add_argument("--report", action="store_true", help="print the results as Markdown and measure nothing")
    parser.add_argument("--results", type=Path, default=Path("prune_zoo.json"))
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one architecture")
    parser.add_argument("--traceback", action="store_true", help="show where an error is from")
    parser.add_argument("--shim", type=Path, help="a Python file to run first")
    options = parser.parse_args()
    results: dict[str, dict[str, Figures]] = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.report:
        print("\n".join(report(results)))
        return
    if options.traceback:
        os.environ["TRACEBACK"] = "1"
    declared = runpy.run_path(str(options.shim)) if options.shim else {}  # lives as long as what it declares
    for family, name, work, peer in jobs(options):
        if not any(fnmatch(name, pattern) for pattern in options.only):
            continue
        rows = results.setdefault(family, {})
        old = rows.get(name)
        if old is None or options.again or (options.failed and state(old) not in ("exact", "semantic")):
            rows[name] = forked(child, work, timeout=options.timeout) | {"peer": (old or {}).get("peer")}
        if options.peer and peer is not None and not rows[name].get("peer"):
            rows[name]["peer"] = forked(child, peer, timeout=options.timeout)
        options.results.write_text(json.dumps(results, indent=1))
        print("  ".join(cells(name, rows[name])), flush=True)
    declared.clear()


def jobs(options: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[Figures], None], Any]]:
    """(family, name, what measures tersor, what measures the peer)."""
    if options.onnx:
        for path in sorted(options.onnx.rglob("*.onnx")):
            name = str(path.relative_to(options.onnx).with_suffix(""))
            yield "onnx", name, lambda found, p=path: of_file(p, options, found), None
        return
    from torch_zoo_models import FAMILIES

    for family in options.family or FAMILIES:
        __import__(family)
        for name in FAMILIES[family]:
            label = f"{family}, with a head" if options.head else family
            yield (
                label, name, lambda found, f=family, n=name: of_torch(f, n, options, found),
                lambda found, f=family, n=name: of_peer(f, n, options, found),
            )  # fmt: skip


if __name__ == "__main__":
    main()
