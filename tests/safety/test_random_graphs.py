"""Random typed graphs keep what every graph promises; benchmarks/fuzz.py tries many more of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tersor.backends.runners import synthesize
from tersor.ir import Model, verify
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.simplify import RULES

sys.path.insert(0, str(Path(__file__).parent))  # modules that tests and benchmarks share, in no package
import graphs
import motifs
import properties

few = settings(max_examples=17, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@few
@given(graphs.models())
def test_text_and_files_keep_the_structural_hash_and_are_deterministic(model: Model):
    verify(model.graph)
    properties.check_text(model)
    properties.check_file(model)


@few
@given(graphs.models())
def test_simplifying_twice_is_simplifying_once(model: Model):
    properties.check_simplify(model)


@few
@given(graphs.models())
def test_saved_and_simplified_models_compute_the_same(model: Model):
    properties.check_outputs(model)


@few
@given(graphs.models(most=4, growers=motifs.MOTIFS))
def test_chains_that_rules_look_for_compute_the_same_once_simplified(model: Model):
    properties.check_outputs(model)


@few
@given(graphs.models(most=2, growers=motifs.MOTIFS))
def test_every_rule_by_itself_keeps_the_outputs(model: Model):
    feeds = synthesize(model.graph, count=1, seed=5)
    for _ in properties.check_rules([Rewriter([r]) for r in RULES["deploy"]], model, feeds):
        pass


def test_the_generator_makes_every_operator_that_it_knows():
    made: set[str] = set()

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(graphs.models(most=6))
    def collect(model: Model) -> None:
        made.update(node.op for node in model.graph.walk())

    collect()
    assert made >= {
        "Conv",
        "Gemm",
        "MatMul",
        "If",
        "Reshape",
        "Transpose",
        "Concat",
        "Slice",
        "Cast",
        "ReduceMean",
        "Softmax",
    }


def test_a_property_that_does_not_hold_is_found():
    @settings(max_examples=50, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(graphs.models(), st.just(None))
    def never_adds(model: Model, _: None) -> None:
        assert all(node.op != "Add" for node in model.graph)

    with pytest.raises(AssertionError):
        never_adds()
