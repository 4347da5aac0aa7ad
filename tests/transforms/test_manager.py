"""The pass manager holds passes to their contracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tersor.ir import Model, ParityError, UsageError, VerificationError, constant, structural_hash
from tersor.transforms.base import Context, Outcome, Pass
from tersor.transforms.manager import run_passes
from tersor.transforms.options import parse_pipeline
from tersor.transforms.parity import Check

TEXT = "graph(%x: f32[N,4]) -> (y) { @w : f32[4,4] = random(1) %a = MatMul(%x, @w) : f32[N,4] %b = Relu(%a) : f32[N,4] return %b }"


@dataclass(frozen=True)
class Scale(Pass):
    """Multiplies the weight: exact for a factor of one only."""

    name: ClassVar[str] = "scale"
    contract: ClassVar = "exact"

    factor: float = 1.0

    def run(self, model: Model, context: Context) -> Outcome:
        node = next(iter(model.graph))
        node.set_input(1, node.operand(1) * self.factor)
        return Outcome(changed=1)


@dataclass(frozen=True)
class Approximate(Scale):
    name: ClassVar[str] = "approximate"
    contract: ClassVar = "approximate"


@dataclass(frozen=True)
class Masked(Scale):
    """Doubles the weight and says that the reference has it doubled too."""

    name: ClassVar[str] = "masked"
    contract: ClassVar = "masked"

    def run(self, model: Model, context: Context) -> Outcome:
        super().run(model, context)
        return Outcome(changed=1, reference=model.clone())


@dataclass(frozen=True)
class Careless(Pass):
    """Leaves a broken graph."""

    name: ClassVar[str] = "careless"
    contract: ClassVar = "exact"

    def run(self, model: Model, context: Context) -> Outcome:
        node = next(iter(model.graph))
        node.unlink()
        model.graph.insert(node)
        return Outcome()


def test_an_exact_pass_that_keeps_the_function_passes(model):
    (step,) = run_passes(model(TEXT), [Scale()], Context())
    assert step.parity is not None
    assert step.parity.passed is True
    assert step.parity.inputs == "synthetic"


def test_an_exact_pass_that_changes_the_function_is_rolled_back_and_named(model):
    subject = model(TEXT)
    with pytest.raises(ParityError, match=r"scale\(factor=1.5\) changed what the model computes"):
        run_passes(subject, [Approximate(factor=3.0), Scale(factor=1.5)], Context())
    expected = model(TEXT)
    run_passes(expected, [Approximate(factor=3.0)], Context())
    assert structural_hash(subject.graph) == structural_hash(expected.graph)


def test_an_approximate_pass_is_measured_but_not_stopped(model):
    (step,) = run_passes(model(TEXT), [Approximate(factor=1.5)], Context())
    assert step.parity is not None
    assert step.parity.passed is None
    assert step.parity.difference.max_error == pytest.approx(0.5, rel=1e-3)


def test_a_masked_pass_is_compared_with_the_masked_model(model):
    (step,) = run_passes(model(TEXT), [Masked(factor=2.0)], Context())
    assert step.parity is not None
    assert step.parity.passed is True
    assert step.parity.against == "the masked model"


def test_each_pass_is_compared_with_what_was_before_it_not_with_the_start(model):
    first, second = run_passes(model(TEXT), [Approximate(factor=3.0), Scale()], Context())
    assert first.parity is not None
    assert second.parity is not None
    assert second.parity.difference.max_error == 0


def test_a_pass_that_breaks_an_invariant_is_named_and_rolled_back(model):
    subject = model(TEXT)
    before = structural_hash(subject.graph)
    with pytest.raises(VerificationError, match="after careless"):
        run_passes(subject, [Careless()], Context())
    assert structural_hash(subject.graph) == before


def test_without_a_check_nothing_is_run(model):
    (step,) = run_passes(model(TEXT), [Scale(factor=2.0)], Context(), Check(enabled=False))
    assert step.parity is None


def test_given_inputs_are_used_and_said(model):
    inputs = [{"x": np.ones((1, 4), np.float32)}]
    (step,) = run_passes(model(TEXT), [Scale()], Context(), Check(inputs=inputs))
    assert step.parity is not None
    assert step.parity.inputs == "given"


def test_steps_keep_the_model_as_it_was_after_each_pass(model):
    first, second = run_passes(model(TEXT), [Approximate(factor=2.0), Approximate(factor=2.0)], Context())
    weights = [next(iter(s.model.graph)).operand(1).tensor.numpy() for s in (first, second)]
    np.testing.assert_allclose(weights[1], weights[0] * 2)


@dataclass(frozen=True)
class Reassociate(Pass):
    """(a + b) + c becomes a + (b + c): exact by contract, another rounding in single precision."""

    name: ClassVar[str] = "reassociate"
    contract: ClassVar = "exact"

    def run(self, model: Model, context: Context) -> Outcome:
        (x,) = model.graph.inputs
        first, second = model.graph
        b, c = first.operand(1), second.operand(1)
        first.set_inputs([b, c])
        second.set_inputs([x, first.output])
        return Outcome(changed=1)


def test_what_single_precision_leaves_open_is_decided_in_double(model):
    text = "graph(%x: f32[4]) -> (y) { @b : f32[4] = [1e8,1e8,1e8,1e8] @c : f32[4] = [-1e8,-1e8,-1e8,-1e8] %a = Add(%x, @b) : f32[4] %d = Add(%a, @c) : f32[4] return %d }"
    (step,) = run_passes(model(text), [Reassociate()], Context())
    assert step.parity is not None
    assert step.parity.precision == "double"
    assert step.parity.passed is True


PASSES: dict[str, type[Pass]] = {"scale": Scale, "approximate": Approximate}


def test_a_pipeline_reads_back_as_it_prints():
    passes = parse_pipeline("scale,approximate(factor=2.5)", PASSES)
    assert passes == [Scale(), Approximate(factor=2.5)]
    assert ",".join(str(p) for p in passes) == "scale,approximate(factor=2.5)"


@pytest.mark.parametrize(
    "text", ["scal", "scale(", "scale(2.0)", "scale(factr=1)", "scale(factor=open('x'))", "scale.run()", "1"]
)
def test_a_pipeline_that_makes_no_sense_is_refused_and_never_run(text: str):
    with pytest.raises(UsageError):
        parse_pipeline(text, PASSES)


def test_constants_named_by_a_pass_keep_their_name():
    assert (constant(np.float32([1.0]), "w") * 2.0).name == "w"
