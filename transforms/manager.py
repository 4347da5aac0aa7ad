"""Runs passes one after the other; verification, comparison with the reference and timing are instruments around each.

After a pass the graph is verified and its outputs are compared with those before it (contract exact), with the masked
model that the pass names (masked), or measured only (approximate). A pass that breaks its contract is rolled back, and
the run stops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..backends.compare import Difference, compare
from ..backends.runners import Feeds, OrtRunner, ReferenceRunner, synthesize
from ..ir import Array, Model, ParityError, TersorError, UsageError, verify
from .base import Context, Outcome, Pass

TOLERANCE = 5e-5
"""Largest max|a - b| / max|reference| of an exact or masked pass in float32. ONNX Runtime's own optimisation levels
differ by up to 8e-6 in this norm on a 56-layer network, and folding changes the order of sums in every layer."""


@dataclass(frozen=True)
class Check:
    """How passes are compared with the reference: on `inputs` when given, else on `count` synthesized ones (typed,
    seeded).
    """

    inputs: Sequence[Feeds] | None = None
    count: int = 2
    tolerance: float = TOLERANCE
    enabled: bool = True

    def feeds(self, model: Model, seed: int) -> list[Feeds]:
        return list(self.inputs) if self.inputs is not None else synthesize(model.graph, count=self.count, seed=seed)

    @property
    def source(self) -> Literal["given", "synthetic"]:
        return "synthetic" if self.inputs is None else "given"


@dataclass(frozen=True)
class Parity:
    """The worst difference over outputs and inputs; `passed` is None where the contract sets no bound.

    `precision` is "double" where single precision was too coarse to decide.
    """

    against: str
    inputs: Literal["given", "synthetic"]
    difference: Difference
    output: str
    tolerance: float | None
    passed: bool | None
    values_compared: int
    precision: Literal["single", "double"] = "single"


@dataclass
class Step:
    """One pass as it ran."""

    done: Pass
    outcome: Outcome
    seconds: float
    nodes_before: int
    nodes: int
    parity: Parity | None
    model: Model = field(repr=False)


def run_passes(
    model: Model,
    passes: Sequence[Pass],
    context: Context,
    check: Check | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> list[Step]:
    """Runs the passes on `model` in place.

    Raises ParityError when an exact or masked pass changed the outputs, after rolling it back: `model` then is what it
    was before that pass. Errors of a pass itself also leave the model as it was before the pass.
    """
    check = check or Check()
    feeds = check.feeds(model, context.seed) if check.enabled and passes else []
    before = _reference(model, feeds, check) if feeds else []
    steps: list[Step] = []
    for done in passes:
        snapshot = model.clone()
        started = time.perf_counter()
        try:
            outcome = done.run(model, context)
            verify(model.graph, after=str(done))
            seconds = time.perf_counter() - started
            parity, before = _parity(done, outcome, snapshot, model, feeds, before, check) if feeds else (None, [])
        except (TersorError, KeyboardInterrupt):
            model.restore(snapshot)
            raise
        step = Step(done, outcome, seconds, len(snapshot.graph), len(model.graph), parity, model.clone())
        steps.append(step)
        if on_step is not None:
            on_step(step)
    return steps


def _reference(model: Model, feeds: Sequence[Feeds], check: Check) -> list[dict[str, Array]]:
    try:
        return outputs(model, feeds)
    except TersorError as error:
        if check.source == "given":
            raise
        raise UsageError(
            "the model cannot run on made-up inputs, so nothing could be checked",
            where=error.where,
            why=error.why or error.what,
            do="give inputs that it accepts (data=..., --data), or switch the check off "
            "(check=Check(enabled=False), --no-check)",
        ) from error


def outputs(model: Model, feeds: Sequence[Feeds]) -> list[dict[str, Array]]:
    """The model's outputs on each of the inputs, computed without ONNX Runtime's own rewriting."""
    runner = OrtRunner(model, optimize=False)
    return [runner.run(f) for f in feeds]


def _parity(
    done: Pass,
    outcome: Outcome,
    snapshot: Model,
    model: Model,
    feeds: Sequence[Feeds],
    before: list[dict[str, Array]],
    check: Check,
) -> tuple[Parity, list[dict[str, Array]]]:
    after = outputs(model, feeds)
    masked = outcome.reference if done.contract == "masked" else None
    worst, name = worst_difference(outputs(masked, feeds) if masked is not None else before, after)
    bounded = done.contract != "approximate"
    precision: Literal["single", "double"] = "single"
    if bounded and worst.max_error > check.tolerance:
        settled = in_double(masked or snapshot, model, feeds)
        if settled is not None:
            (worst, name), precision = settled, "double"
    passed = worst.max_error <= check.tolerance if bounded else None
    parity = Parity(
        against="the masked model" if masked is not None else "the model before this pass",
        inputs=check.source,
        difference=worst,
        output=name,
        tolerance=check.tolerance if bounded else None,
        passed=passed,
        values_compared=sum(len(a) for a in after),
        precision=precision,
    )
    if passed is False:
        raise ParityError(
            f"{done} changed what the model computes; it was rolled back",
            where=f"output {name!r}",
            why=f"max|a-b|/max|ref| is {worst.max_error:.3g}, expected at most {check.tolerance:.3g} "
            f"on {len(feeds)} {check.source} input(s) against {parity.against}, in {precision} precision",
            do="run without this pass, and please report it with the model",
        )
    return parity, after


def in_double(reference: Model, candidate: Model, feeds: Sequence[Feeds]) -> tuple[Difference, str] | None:
    """The worst difference in double precision; None where the reference evaluator cannot run the models.

    Single precision leaves some outputs open: of a sigmoid far below zero no digit is right in ONNX Runtime, though
    both models compute the same.
    """
    try:
        pair = [ReferenceRunner(m, double=True) for m in (reference, candidate)]
        first, second = ([runner.run(f) for f in feeds] for runner in pair)
    except TersorError:
        return None
    return worst_difference(first, second)


def worst_difference(
    reference: Sequence[dict[str, Array]], candidate: Sequence[dict[str, Array]]
) -> tuple[Difference, str]:
    """The largest difference over all inputs and outputs, and the output's name."""
    found = [(compare(r[k], c[k]), k) for r, c in zip(reference, candidate, strict=True) for k in r]
    return max(found, key=lambda pair: pair[0].max_error)
