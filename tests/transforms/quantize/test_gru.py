"""Dynamic int8 of GRU: the same results but for rounding, an integer kernel for the product, and what stays and why."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, parse, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Quantize, gru
from tersor.transforms.quantize.report import optimised

TEXT = """
graph @g(%x: f32[T,{batch},12], %h: f32[{d},{batch},16]) -> (y, last) {{
  @w : f32[{d},48,12] = random(1)
  @r : f32[{d},48,16] = random(2)
  @b : f32[{d},96] = random(3)
  %y, %last = GRU(%x, @w, @r, {bias}, _, {start}) {{hidden_size=16, direction="{direction}", linear_before_reset=1}}
      : f32[T,{d},{batch},16], f32[{d},{batch},16]  # gru
  return %y, %last
}}
"""


def text(direction: str = "forward", bias: str = "@b", start: str = "%h", batch: str = "2") -> str:
    return TEXT.format(direction=direction, bias=bias, start=start, d=1 + (direction == "bidirectional"), batch=batch)


def feed(source: str) -> dict[str, np.ndarray]:
    rng, d = np.random.default_rng(0), 2 if "bidirectional" in source else 1
    shapes = {"x": (5, 2, 12), "h": (d, 2, 16)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of any size are taken."""
    monkeypatch.setattr(gru, "LEAST_PRODUCT", 0)


def quantized(source: str, **options: object) -> tuple[Model, Outcome]:
    model = Model(parse(source))
    outcome = Quantize(mode="dynamic", **options).run(model, Context(samples=[feed(source)]))  # type: ignore[arg-type]
    verify(model.graph)
    return model, outcome


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("others", [{}, {"bias": "_"}, {"start": "_"}, {"start": "_", "batch": "N"}], ids=str)
def test_every_result_is_that_of_the_float_layer_but_for_rounding(small: None, direction: str, others: dict[str, str]):
    source = text(direction, **others)
    model, outcome = quantized(source)
    assert outcome.changed == 1
    expected, found = OrtRunner(Model(parse(source))).run(feed(source)), OrtRunner(model).run(feed(source))
    assert list(found) == ["y", "last"]
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert compare(value, found[name]).sqnr_db > 25


def test_the_product_runs_in_an_integer_kernel_and_its_weight_is_stored_as_integers(small: None):
    model, outcome = quantized(text())
    kernels = {node.op_type for node in optimised(model).node}
    assert "DynamicQuantizeMatMul" in kernels
    assert "GRU" not in kernels
    assert {v.name: v.tensor.dtype.label for v in model.graph.constants()}["w_quantized"] == "i8"
    (only,) = outcome.decisions
    assert (only.op, only.decision) == ("GRU", "int8")
    assert only.sqnr_db is not None
    assert only.rounded is not None
    assert only.rounded.scheme == "u8 at run time x i8 per channel"


def test_both_directions_share_the_integers_of_their_input(small: None):
    model, _ = quantized(text("bidirectional"))
    assert [n.op for n in model.graph].count("DynamicQuantizeLinear") == 1


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("linear_before_reset=1", "linear_before_reset=0", "two products"),
        ("linear_before_reset=1", "linear_before_reset=1, clip=3.0", "clips"),
        ("hidden_size=16,", 'hidden_size=16, activations=["Relu", "Tanh"],', "other activations"),
        ("_, %h)", "@n, %h)", "lengths"),
    ],
)
def test_forms_that_are_not_covered_stay_and_say_why(small: None, old: str, new: str, why: str):
    source = text().replace(old, new).replace("@b :", "@n : i32[2] = [5, 3]\n  @b :")
    model, outcome = quantized(source)
    assert why in outcome.decisions[0].reason
    assert [n.op for n in model.graph] == ["GRU"]


def test_a_small_product_stays_because_it_would_take_longer():
    model, outcome = quantized(text())
    assert "would not pay" in outcome.decisions[0].reason
    assert [n.op for n in model.graph] == ["GRU"]
