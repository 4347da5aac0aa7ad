"""A failure of a pass as a folder that runs again by itself, without the user's weights.

    graph.txt        the graph before the pass, in the text form
    case.json        the pass, its error, seeds, versions, and how every larger constant is made up
    tensors/         the constants themselves, only where the user asked for them
    culprit.txt      the rewrite that broke the outputs, where it was found
    repro.py         runs it again

Constants are replaced by seeded numbers of the same type, shape and range. What only says how to compute is kept:
single numbers, and short vectors of integers (shapes, axes) and booleans. Inputs that the user gave are made up too.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from platform import platform, python_version
from typing import Any

import numpy as np

from ..backends.files import explained
from ..backends.runners import Feeds
from ..ir import Array, Attribute, Dense, DType, Graph, InvalidModelError, Model, Placeholder, Tensor, parse, to_text
from ..ir.tensors.base import from_raw
from .base import Pass
from .bisect import Culprit

FORMAT = "tersor.reproducer/1"
KEPT_ELEMENTS = 64
LARGEST = 1 << 62
TELLING = (DType.I64, DType.I32, DType.BOOL)
"""Element types of shapes, axes and conditions."""

SCRIPT = '''"""Runs a failure of a pass again: python repro.py"""

import sys

from tersor.driver.reproduce import main

sys.exit(main(__file__))
'''

PACKAGES = ("tersor", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Case:
    """What a reproducer holds: the model before the pass, the pass by name and class, and what it was checked with."""

    model: Model
    pass_name: str
    pass_class: str
    options: dict[str, Any]
    feeds: list[Feeds]
    seed: int
    tolerance: float
    checked: bool
    error: str


def write(
    place: Path,
    done: Pass,
    model: Model,
    error: Exception,
    *,
    feeds: Sequence[Feeds],
    seed: int,
    tolerance: float,
    culprit: Culprit | None = None,
    weights: bool = False,
) -> Path:
    """Writes the folder below `place`, whole or not at all; gives its path, which is the same for the same failure.

    `model` is as it was before the pass. Raises UsageError where the place cannot be written.
    """
    made = _Stubs(weights)
    text = to_text(made.graph(model.graph))
    case = {
        "format": FORMAT,
        "pass": {"name": done.name, "class": f"{type(done).__module__}:{type(done).__qualname__}"},
        "options": {f.name: repr(getattr(done, f.name)) for f in fields(done)},
        "pipeline": str(done),
        "error": {"type": type(error).__name__, "message": str(error)},
        "seed": seed,
        "tolerance": tolerance,
        "feeds": [{name: made.recipe(Dense(np.asarray(array))) for name, array in feed.items()} for feed in feeds],
        "opset": model.opset,
        "source_opset": model.source_opset,
        "constants": made.recipes,
        "versions": {p: metadata.version(p) for p in PACKAGES} | {"python": python_version(), "system": platform()},
    }
    digest = blake2b(f"{text}{done}{type(error).__name__}".encode(), digest_size=6).hexdigest()
    final = place / f"{done.name}-{digest}"
    with explained(final):
        place.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".reproducer-", dir=place))
        try:
            (building / "graph.txt").write_text(text, encoding="utf-8")
            (building / "case.json").write_text(json.dumps(case, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            (building / "repro.py").write_text(SCRIPT, encoding="utf-8")
            if culprit is not None:
                text = f"{culprit.where}\n{culprit.difference}\n"
                (building / "culprit.txt").write_text(text, encoding="utf-8")
            made.save(building / "tensors")
            shutil.rmtree(final, ignore_errors=True)
            os.replace(building, final)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return final


def read(folder: Path) -> Case:
    """What `write` wrote. Raises InvalidModelError for anything else."""
    try:
        case: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        text = (folder / "graph.txt").read_text(encoding="utf-8")
        found = case["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModelError(f"{folder} is not a reproducer", why=str(error)) from error
    if found != FORMAT:
        raise InvalidModelError(
            f"{folder} is not a reproducer of this version", why=f"expected {FORMAT!r}, found {found!r}"
        )
    tensors = {digest: tensor(recipe, folder / "tensors") for digest, recipe in case["constants"].items()}
    graph = parse(text)
    _fill(graph, tensors)
    return Case(
        model=Model(graph, dict(case["opset"]), case["source_opset"]),
        pass_name=case["pass"]["name"],
        pass_class=case["pass"]["class"],
        options=case["options"],
        feeds=[{n: tensor(r, folder / "tensors").numpy() for n, r in feed.items()} for feed in case["feeds"]],
        seed=case["seed"],
        tolerance=case["tolerance"],
        checked=bool(case["feeds"]),
        error=case["error"]["type"],
    )


class _Stubs:
    """Made-up tensors in place of a graph's own; equal ones stay equal. `recipes` are how to make them, by digest."""

    def __init__(self, weights: bool) -> None:
        self.weights = weights
        self.recipes: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, Tensor] = {}
        self.known: dict[str, Tensor] = {}

    def graph(self, graph: Graph) -> Graph:
        copy = graph.clone()
        for value in copy.constants():
            value.const = self.stub(value.tensor)
        for inner in copy.graphs():
            inner.defaults = {value: self.stub(tensor) for value, tensor in inner.defaults.items()}
            for node in inner:
                node.attrs = {name: self.attribute(value) for name, value in node.attrs.items()}
        return copy

    def attribute(self, value: Attribute) -> Attribute:
        return self.stub(value) if isinstance(value, Tensor) else value

    def stub(self, original: Tensor) -> Tensor:
        if isinstance(original, Placeholder):
            return original
        digest = original.digest
        if digest not in self.known:
            recipe = self.recipe(original)
            made = original if "values" in recipe or self.weights else tensor(recipe, Path())
            self.known[digest] = made
            self.recipes[made.digest] = recipe
        return self.known[digest]

    def recipe(self, original: Tensor) -> dict[str, Any]:
        """How to make the tensor that stands for another one."""
        out: dict[str, Any] = {"dtype": original.dtype.label, "shape": list(original.shape)}
        if is_telling(original):
            return out | {"values": [_plain(v) for v in original.numpy().reshape(-1).tolist()]}
        if self.weights and original.dtype is not DType.STRING:
            self.kept[original.digest] = original
            return out | {"file": original.digest}
        low, high = _range(original)
        return out | {"low": low, "high": high, "seed": int(original.digest[:8], 16)}

    def save(self, folder: Path) -> None:
        for digest, kept in self.kept.items():
            folder.mkdir(exist_ok=True)
            with open(folder / f"{digest}.bin", "wb") as file:
                for block in kept.blocks():
                    file.write(block)


def is_telling(tensor: Tensor) -> bool:
    """True for what says how to compute rather than what was learnt: single numbers, short shapes, axes, conditions."""
    if tensor.dtype is DType.STRING or tensor.dtype.numpy.kind == "c":
        return False
    return tensor.count <= 1 or (tensor.dtype in TELLING and tensor.count <= KEPT_ELEMENTS)


def _plain(value: Any) -> bool | int | float:
    return value if isinstance(value, bool | int) else float(value)


def _range(tensor: Tensor) -> tuple[float, float]:
    """The smallest and the largest element, a block of rows at a time; (0, 1) where there is no such thing."""
    if tensor.dtype is DType.STRING or tensor.dtype.numpy.kind == "c" or not tensor.count:
        return 0.0, 1.0
    rows = max(1, (1 << 20) * tensor.shape[0] // tensor.count) if tensor.shape else 1
    parts = [tensor.numpy()] if not tensor.shape else [
        tensor.rows(a, min(a + rows, tensor.shape[0])) for a in range(0, tensor.shape[0], rows)
    ]  # fmt: skip
    wide = [np.asarray(p, np.float64) for p in parts]
    finite = [p[np.isfinite(p)] for p in wide]
    found = [p for p in finite if p.size]
    return (float(min(p.min() for p in found)), float(max(p.max() for p in found))) if found else (0.0, 1.0)


def tensor(recipe: Mapping[str, Any], folder: Path) -> Tensor:
    """The tensor that a recipe stands for."""
    dtype, shape = DType.of_label(recipe["dtype"]), tuple(recipe["shape"])
    if "values" in recipe:
        return Dense(np.array(recipe["values"]).astype(dtype.numpy).reshape(shape), dtype)
    if "file" in recipe:
        return Dense(from_raw((folder / f"{recipe['file']}.bin").read_bytes(), dtype, shape), dtype)
    return Dense(_drawn(dtype, shape, recipe), dtype)


def _drawn(dtype: DType, shape: tuple[int, ...], recipe: Mapping[str, Any]) -> Array:
    random = np.random.default_rng(recipe["seed"])
    low, high = recipe["low"], recipe["high"]
    if dtype is DType.STRING:
        return np.array([f"text {i}" for i in random.integers(0, 4, shape).reshape(-1)], object).reshape(shape)
    if dtype.is_integer or dtype is DType.BOOL:
        return random.integers(max(int(low), -LARGEST), min(int(high), LARGEST) + 1, shape).astype(dtype.numpy)
    return random.uniform(low, high, shape).astype(dtype.numpy)


def _fill(graph: Graph, tensors: Mapping[str, Tensor]) -> None:
    """Puts tensors in place of the hashes by which the text names them."""

    def filled(tensor: Tensor) -> Tensor:
        return tensors.get(tensor.digest, tensor) if isinstance(tensor, Placeholder) else tensor

    for value in graph.constants():
        value.const = filled(value.tensor)
    for inner in graph.graphs():
        inner.defaults = {value: filled(tensor) for value, tensor in inner.defaults.items()}
        for node in inner:
            node.attrs = {n: filled(v) if isinstance(v, Tensor) else v for n, v in node.attrs.items()}
