"""Random typed graphs keep what every graph promises; benchmarks/fuzz.py tries many more of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tersor.ir import Model, verify


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    full = f"tersor_tests_safety_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).parent / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


graphs, properties = beside("graphs"), beside("properties")
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
    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    @given(graphs.models(), st.just(None))
    def never_adds(model: Model, _: None) -> None:
        assert all(node.op != "Add" for node in model.graph)

    with pytest.raises(AssertionError):
        never_adds()
