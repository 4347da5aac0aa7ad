"""What holds for every model: used by the tests with few examples and by the benchmark with many."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from tersor.backends.compare import compare
from tersor.backends.onnx import save
from tersor.backends.runners import OrtRunner, synthesize
from tersor.frontends.onnx import load
from tersor.ir import CANONICAL_OPSET, Model, parse, structural_hash, to_text, verify
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify

TOLERANCE = 1e-4


def check_text(model: Model) -> None:
    """The text form reads back as the same graph and prints as the same text."""
    text = to_text(model.graph)
    weights = {v.tensor.digest: v.tensor for v in model.graph.constants()}
    again = parse(text)
    assert structural_hash(again) == structural_hash(model.graph), text
    assert to_text(again) == text
    assert {v.tensor.digest for v in again.constants()} == set(weights)


def check_file(model: Model) -> None:
    """A file at the canonical opset reads back as the same graph, and saving is deterministic."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        save(model, first, opset=CANONICAL_OPSET)
        again = load(first)
        verify(again.graph)
        assert structural_hash(again.graph) == structural_hash(model.graph), to_text(model.graph) + to_text(again.graph)
        save(again, second, opset=CANONICAL_OPSET)
        third = load(second)
        assert structural_hash(third.graph) == structural_hash(model.graph)
        save(model.clone(), second, opset=CANONICAL_OPSET)
        assert first.read_bytes() == second.read_bytes()


def simplified(model: Model) -> Model:
    copy = model.clone()
    Simplify().run(copy, Context())
    verify(copy.graph, after="simplify")
    return copy


def check_simplify(model: Model) -> None:
    """Simplifying twice is simplifying once."""
    once = simplified(model)
    assert structural_hash(simplified(once).graph) == structural_hash(once.graph), to_text(once.graph)


def check_outputs(model: Model) -> None:
    """The saved and the simplified model compute what the original computes."""
    feeds = synthesize(model.graph, count=2, seed=3)
    original = OrtRunner(model, optimize=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.onnx"
        save(model, path)
        others = [OrtRunner(path, optimize=False), OrtRunner(simplified(load(path)), optimize=False)]
        for feed in feeds:
            wanted = original.run(feed)
            for other in others:
                found = other.run(feed)
                assert list(found) == list(wanted)
                for name, array in wanted.items():
                    assert found[name].shape == array.shape
                    assert found[name].dtype == array.dtype
                    if array.dtype.kind != "f":
                        assert np.array_equal(found[name], array), name
                    elif array.size and np.isfinite(array).all():
                        assert compare(array, found[name]).max_error <= TOLERANCE, name


def check_all(model: Model) -> None:
    verify(model.graph)
    check_text(model)
    check_file(model)
    check_simplify(model)
    check_outputs(model)
