"""Random networks stay what they are through every pass that makes them smaller; benchmarks/network_fuzz.py tries more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tersor.ir import Model

sys.path.insert(0, str(Path(__file__).parent))  # modules that tests and benchmarks share, in no package
import properties
from networks import networks

few = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", properties.SMALLER)
def test_a_smaller_network_keeps_its_interface_and_computes_what_it_promises(name: str):
    @few
    @given(networks())
    def holds(model: Model) -> None:
        properties.check_smaller(model, name)

    holds()
