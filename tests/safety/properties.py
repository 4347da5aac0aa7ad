"""What holds for every model: used by the tests with few examples and by the benchmark with many."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import hypothesis
import numpy as np
from tersor.backends.compare import compare
from tersor.backends.onnx import save
from tersor.backends.runners import Feeds, OrtRunner, ReferenceRunner, Runner, synthesize
from tersor.backends.runners.rounded import runner_of
from tersor.frontends.onnx import fallback, load
from tersor.ir import CANONICAL_OPSET, Array, Model, TersorError, parse, structural_hash, to_text, verify
from tersor.ir.inference import Inference
from tersor.ir.rewrite import Rewriter, Rule
from tersor.transforms.base import Context, Pass
from tersor.transforms.prune import Prune, PruneDepth
from tersor.transforms.quantize import Half, Quantize
from tersor.transforms.simplify import Simplify

LONG = hypothesis.settings(
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    report_multiple_bugs=False,
    verbosity=hypothesis.Verbosity.quiet,
)
"""How hypothesis draws where it does so for minutes, and where failures are reported by whoever asks."""

TOLERANCE, NARROW = 1e-4, 4e-3
LARGE = 1e3
"""Outputs of trained networks are smaller; behind a sum of large ones little is left of what is small."""

CANCELLED = 1e-6
"""What may be left of numbers of moderate size that cancel each other, in an output that has no larger ones."""


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
    wanted = computed(model, feeds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.onnx"
        save(model, path)
        for other in (path, simplified(load(path))):
            check_same(wanted, computed(other, feeds))


def computed(model: Model | Path, feeds: Sequence[Feeds]) -> list[dict[str, Array]]:
    """The outputs as ONNX Runtime computes them without rewriting anything itself; where it has no kernel for an
    operator's types, as the reference implementation does.
    """
    runner: Runner
    try:
        runner = OrtRunner(model, optimize=False)
    except TersorError:
        if isinstance(model, Path):
            raise
        runner = ReferenceRunner(model)
    return [runner.run(feed) for feed in feeds]


def check_same(wanted: Sequence[dict[str, Array]], found: Sequence[dict[str, Array]]) -> None:
    """The same names, shapes and types; the same integers, and floats up to rounding where all of them are finite."""
    for before, after in zip(wanted, found, strict=True):
        assert list(after) == list(before)
        for name, array in before.items():
            if isinstance(array, list):  # a sequence
                assert len(after[name]) == len(array), name
                for index, (a, b) in enumerate(zip(array, after[name], strict=True)):
                    check_array(f"{name}[{index}]", np.asarray(a), np.asarray(b))
            else:
                check_array(name, array, after[name])


def check_array(name: str, before: Array, after: Array) -> None:
    assert after.shape == before.shape, name
    assert after.dtype == before.dtype, name
    if before.dtype.kind != "f":
        assert np.array_equal(after, before), name
    elif before.size and np.isfinite(before).all():
        found = compare(before, after)
        bound = NARROW if before.dtype == np.float16 else TOLERANCE
        assert found.max_error <= bound or found.max_abs <= CANCELLED, f"{name}: {found}"


def check_rules(rules: Sequence[Rewriter], model: Model, feeds: Sequence[Feeds]) -> Iterator[tuple[Rule, int]]:
    """Each rule by itself keeps the outputs and comes to an end; yields it and how often it fired, or raises with the
    rule's name in a note.
    """
    wanted = computed(model, feeds)
    present = {node.op for node in model.graph.walk()}
    copy, inference = _inferred(model)
    for rewriter in rules:
        if present.isdisjoint(rewriter.index):
            continue
        (rule,) = rewriter.rules
        try:
            result = rewriter.run(copy.graph, infer=inference.node, sizes=inference.contents_of)
            assert not result.exhausted, "it does not come to an end"
            if result.fired:
                verify(copy.graph, after=rule.name)
                check_same(wanted, computed(copy, feeds))
                copy, inference = _inferred(model)
        except Exception as error:
            error.add_note(rule.name)
            raise
        yield rule, result.fired


def _inferred(model: Model) -> tuple[Model, Inference]:
    copy = model.clone()
    return copy, Inference(copy.graph, fallback).run()


def check_all(model: Model) -> None:
    verify(model.graph)
    check_text(model)
    check_file(model)
    check_simplify(model)
    check_outputs(model)


SMALLER: Mapping[str, tuple[Pass, float | None]] = {
    "half of all channels": (Prune(), None),
    "channels by chance": (Prune(ratio=0.4, importance="random", scope="global"), None),
    "statistics over what stays": (Prune(norms="semantic", multiple_of=2), None),
    "half of the residual blocks": (PruneDepth(ratio=0.5), None),
    "a budget": (Prune(flops=0.6, importance="obs"), -math.inf),
    "static int8": (Quantize(), 15.0),
    "one scale per weight": (Quantize(per_channel=False), 10.0),
    "operators on integers": (Quantize(form="qoperator"), 15.0),
    "another runtime's places": (Quantize(target="openvino-cpu"), 15.0),
    "mixed precision": (Quantize(observer="auto", correct_bias=True, cost_aware=True, slack=0.1), 15.0),
    "dynamic int8": (Quantize(mode="dynamic"), 15.0),
    "4 bits of weights": (Quantize(mode="weights", bits=4, block=16), 5.0),
    "half precision": (Half(mode="compute"), 40.0),
    "bfloat16": (Half(mode="compute", dtype="bfloat16"), 12.0),
}
"""Passes that make networks smaller, and the least SQNR in dB of their outputs; None for those that keep to a masked
original, which is compared then."""


def check_smaller(model: Model, name: str) -> bool:
    """The pass leaves a network that runs and has the same interface; its outputs equal those of the masked original,
    or are as close as such rounding is on random numbers. False where the network gives out numbers that no precision
    is for.
    """
    chosen, bound = SMALLER[name]
    feeds = synthesize(model.graph, count=4, seed=1)
    wanted = computed(model, feeds)
    if not all(np.isfinite(a).all() and np.abs(a).max(initial=0) < LARGE for each in wanted for a in each.values()):
        return False
    copy = simplified(model)
    outcome = chosen.run(copy, Context(samples=feeds))
    verify(copy.graph, after=name)
    runner = runner_of(copy)
    found = [runner.run(feed) for feed in feeds]
    if bound is None and outcome.contract != "approximate":
        check_same(computed(outcome.reference, feeds) if outcome.reference is not None else wanted, found)
        return True
    for before, after in zip(wanted, found, strict=True):
        for key, array in before.items():
            assert after[key].shape == array.shape, key
            assert np.isfinite(after[key]).all(), key
            noise = compare(array, after[key]).sqnr_db if array.size else math.inf
            assert bound is None or noise >= bound, f"{key}: {noise:.1f} dB"
    return True
