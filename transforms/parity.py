"""Comparing what two models compute, and what of it a pass may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..backends.compare import Difference, compare
from ..backends.runners import DoubleRunner, Feeds, synthesize
from ..backends.runners.rounded import runner_of
from ..ir import Array, Model, TersorError

TOLERANCE = 5e-5
"""Largest max|a - b| / max|reference| of an exact or masked pass in float32. ONNX Runtime's own optimisation levels
differ by up to 8e-6 in this norm on a 56-layer network, and folding changes the order of sums in every layer."""

Outputs = list[dict[str, Array]]
Precision = Literal["single", "double"]


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
    precision: Precision = "single"


@dataclass(frozen=True)
class Divergence:
    """The worst difference of an output, and the precision in which it was found."""

    difference: Difference
    output: str
    precision: Precision = "single"

    def __str__(self) -> str:
        return f"max|a-b|/max|ref| of output {self.output!r} is {self.difference.max_error:.3g}"


def outputs(model: Model, feeds: Sequence[Feeds]) -> Outputs:
    """The model's outputs on each of the inputs, computed without ONNX Runtime's own rewriting."""
    runner = runner_of(model, optimize=False)
    return [runner.run(f) for f in feeds]


def worst_difference(reference: Outputs, candidate: Outputs) -> tuple[Difference, str]:
    """The largest difference over all inputs and outputs, and the output's name."""
    found = [(compare(r[k], c[k]), k) for r, c in zip(reference, candidate, strict=True) for k in r]
    return max(found, key=lambda pair: pair[0].max_error)


def diverged(
    reference: Model, expected: Outputs, model: Model, found: Outputs, feeds: Sequence[Feeds], tolerance: float | None
) -> Divergence:
    """The worst difference of a model's outputs from those expected of `reference`.

    Beyond `tolerance` it is settled in double precision: single precision leaves some outputs open. Of a sigmoid far
    below zero no digit is right in ONNX Runtime, though both models compute the same.
    """
    worst = Divergence(*worst_difference(expected, found))
    if tolerance is not None and worst.difference.max_error > tolerance:
        settled = in_double(reference, model, feeds)
        if settled is not None:
            return Divergence(*settled, precision="double")
    return worst


def in_double(reference: Model, candidate: Model, feeds: Sequence[Feeds]) -> tuple[Difference, str] | None:
    """The worst difference in double precision; None where the models cannot be computed in it."""
    try:
        pair = [DoubleRunner(m) for m in (reference, candidate)]
        first, second = ([runner.run(f) for f in feeds] for runner in pair)
    except TersorError:
        return None
    return worst_difference(first, second)
