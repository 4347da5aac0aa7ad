"""Models in bfloat16 run in 32 bits with every value rounded: what comes out is what bfloat16 itself gives."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner, ReferenceRunner
from tersor.backends.runners.rounded import RoundedRunner, computes_in_bfloat16, runner_of
from tersor.ir import Model, TersorError, parse

BF16 = ml_dtypes.bfloat16
X = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)

CHAIN = """
graph @g(%x: f32[4,16]) -> (y) {
  @b : bf16[16] = random(1)
  %1 = Cast(%x) {to=16} : bf16[4,16]
  %2 = Add(%1, @b) : bf16[4,16]
  %3 = Mul(%2, %2) : bf16[4,16]
  %4 = Cast(%3) {to=1} : f32[4,16]
  return %4
}
"""


def by_hand(x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The chain in ml_dtypes, which rounds each result."""
    narrow = x.astype(BF16) + b
    return (narrow * narrow).astype(np.float32)


@pytest.mark.parametrize("optimize", [False, True])
def test_each_value_is_rounded_once_as_bfloat16_is(optimize: bool):
    model = Model(parse(CHAIN))
    b = next(v for v in model.graph.constants()).tensor.numpy()
    found = RoundedRunner(model, optimize=optimize).run({"x": X})["y"]
    assert np.array_equal(found, by_hand(X, b))
    single = (X + b.astype(np.float32)) ** 2
    assert not np.allclose(found, single, rtol=1e-3), "it would not be seen if nothing were rounded"


def test_products_are_added_up_in_32_bits_and_rounded_as_the_reference_evaluator_does():
    model = Model(
        parse("""
        graph @g(%x: f32[4,16]) -> (y) {
          @w : bf16[16,8] = random(1)
          %1 = Cast(%x) {to=16} : bf16[4,16]
          %2 = MatMul(%1, @w) : bf16[4,8]
          %3 = Cast(%2) {to=1} : f32[4,8]
          return %3
        }
        """)
    )
    found, reference = (runner(model).run({"x": X})["y"] for runner in (RoundedRunner, ReferenceRunner))
    w = next(v for v in model.graph.constants()).tensor.numpy().astype(np.float64)
    exact = X.astype(BF16).astype(np.float64) @ w
    assert np.array_equal(found, exact.astype(np.float32).astype(BF16).astype(np.float32))
    assert compare(exact, found).sqnr_db >= compare(exact, reference).sqnr_db > 35


def test_the_model_itself_is_not_changed_and_taps_inputs_and_outputs_are_in_bfloat16():
    model = Model(
        parse("""
        graph @g(%x: bf16[4,16]) -> (y) {
          %1 = Neg(%x) : bf16[4,16]
          %2 = Add(%1, %x) : bf16[4,16]
          %3 = Sub(%2, %1) : bf16[4,16]
          return %3
        }
        """)
    )
    runner = RoundedRunner(model, taps=[next(iter(model.graph)).output])
    for given in (X, X.astype(BF16)):
        found = runner.run({"x": given})["y"]
        assert found.dtype == BF16
        assert np.array_equal(found, X.astype(BF16))
    assert np.array_equal(runner.run_taps({"x": X})[0], -X.astype(BF16).astype(np.float32))
    assert {v.dtype.label for n in model.graph for v in n.outputs if v.dtype} == {"bf16"}


def test_values_within_branches_are_rounded_too():
    model = Model(
        parse("""
        graph @g(%x: f32[4,16], %c: bool[]) -> (y) {
          @b : bf16[16] = random(1)
          %1 = Cast(%x) {to=16} : bf16[4,16]
          %2 = If(%c, %1) captures 1 : bf16[4,16] regions {
            then_branch = graph (%a: bf16[4,16]) -> (m) {
              %3 = Add(%a, @b) : bf16[4,16]
              %4 = Mul(%3, %3) : bf16[4,16]
              return %4
            }
            else_branch = graph (%d: bf16[4,16]) -> (n) {
              %5 = Neg(%d) : bf16[4,16]
              return %5
            }
          }
          %6 = Cast(%2) {to=1} : f32[4,16]
          return %6
        }
        """)
    )
    b = next(v for v in model.graph.constants()).tensor.numpy()
    runner = RoundedRunner(model)
    assert np.array_equal(runner.run({"x": X, "c": np.array(True)})["y"], by_hand(X, b))
    assert np.array_equal(runner.run({"x": X, "c": np.array(False)})["y"], -X.astype(BF16).astype(np.float32))


def test_only_what_the_runtime_lacks_kernels_for_is_run_in_this_way():
    stored = Model(
        parse("""
        graph @g(%x: f32[4,16]) -> (y) {
          @w : bf16[16,8] = random(1)
          %1 = Cast(@w) {to=1} : f32[16,8]
          %2 = MatMul(%x, %1) : f32[4,8]
          return %2
        }
        """)
    )
    assert not computes_in_bfloat16(stored)
    assert type(runner_of(stored)) is OrtRunner
    assert type(runner_of(Model(parse(CHAIN)))) is RoundedRunner
    with pytest.raises(TersorError, match="cannot load"):
        OrtRunner(Model(parse(CHAIN)))
