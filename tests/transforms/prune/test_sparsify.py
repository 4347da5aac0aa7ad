"""Zeros among weights: how many, in which pattern, and what makes up for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Model, UsageError, verify
from tersor.ir.tensors import Sparse
from tersor.transforms import matrices
from tersor.transforms.base import Context
from tersor.transforms.manager import run_passes
from tersor.transforms.prune import Sparsify

NETWORK = """graph(%x: f32[4,8,7,7]) -> (y) {
  @w0 : f32[12,8,3,3]
  @b0 : f32[12]
  @w1 : f32[12,4,1,1]
  @w2 : f32[12,10]
  %a = Conv(%x, @w0, @b0) : f32[4,12,5,5]   # first
  %b = Relu(%a) : f32[4,12,5,5]
  %c = Conv(%b, @w1) {group=3} : f32[4,12,5,5]   # grouped
  %d = ReduceMean(%c, i64[2]{2,3}) {keepdims=0} : f32[4,12]
  %y = MatMul(%d, @w2) : f32[4,10]   # last
  return %y
}"""


@pytest.fixture
def network(model: Callable[..., Model]) -> Model:
    draw = np.random.default_rng(0).standard_normal
    shapes = {"w0": (12, 8, 3, 3), "b0": (12,), "w1": (12, 4, 1, 1), "w2": (12, 10)}
    return model(NETWORK, **{name: draw(shape).astype(np.float32) for name, shape in shapes.items()})


def samples(count: int = 8) -> list[Feeds]:
    """Channels that say much the same, so that some can stand in for others."""
    random = np.random.default_rng(1)
    mixed = [random.standard_normal((4, 3, 7, 7)) for _ in range(count)]
    mix = np.random.default_rng(2).standard_normal((8, 3))
    return [{"x": np.einsum("kc,nchw->nkhw", mix, x).astype(np.float32)} for x in mixed]


def run(model: Model, data: list[Feeds] | None = None, **options: object) -> dict[str, np.ndarray]:
    """The matrices of the layers afterwards."""
    run_passes(model, [Sparsify(**options)], Context(samples=data))  # pyright: ignore[reportArgumentType]
    verify(model.graph)
    return {n.operand(1).name: matrices.matrix(n) for n in model.graph if matrices.input_axis(n) is not None}


@pytest.mark.parametrize("data", [None, samples()])
def test_a_share_of_each_layers_weights_is_zero(network: Model, data: list[Feeds] | None):
    for weight in run(network, data, ratio=0.5).values():
        assert np.mean(weight == 0) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("data", [None, samples()])
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:5"])
def test_a_pattern_holds_in_every_group_of_inputs(network: Model, pattern: str, data: list[Feeds] | None):
    zeros, every = map(int, pattern.split(":"))
    for weight in run(network, data, pattern=pattern).values():
        whole = weight.shape[-1] // every * every
        parts = (weight[..., :whole] == 0).reshape(-1, every)
        assert (parts.sum(1) == zeros).all()


@pytest.mark.parametrize("options", [{"ratio": 0.6}, {"pattern": "2:4"}])
def test_with_data_other_weights_make_up_for_the_zeros(network: Model, options: dict[str, object]):
    plain, original, unseen = network.clone(), network.clone(), samples(9)[-1]
    run(plain, **options)
    run(network, samples(), **options)
    wanted, found, without = (OrtRunner(m).run(unseen)["y"] for m in (original, network, plain))
    assert np.square(found - wanted).mean() < 0.8 * np.square(without - wanted).mean()


def test_layers_that_are_left_out_keep_their_weights(network: Model):
    before = matrices.matrix(next(iter(network.graph)))
    assert (run(network, skip=("first",))["w0"] == before).all()


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"ratio": -0.5}, {"pattern": "4:2"}, {"pattern": "half"}])
def test_what_makes_no_sense_is_refused(options: dict[str, object]):
    with pytest.raises(UsageError, match=r"out of range|no pattern"):
        Sparsify(**options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("stored", ["sparse", "dense"])
def test_mostly_zeros_become_sparse_tensors_unless_unwanted(network: Model, stored: str):
    run(network, ratio=0.9, stored=stored)
    held = {n.operand(1).name: n.operand(1).tensor for n in network.graph if matrices.input_axis(n) is not None}
    assert {name for name, tensor in held.items() if isinstance(tensor, Sparse)} == set(
        held if stored == "sparse" else ()
    )


def test_half_of_the_weights_as_zeros_is_no_reason_for_sparse_tensors(network: Model):
    run(network, ratio=0.5)
    assert not any(isinstance(v.tensor, Sparse) for v in network.graph.constants())


def test_another_storage_is_refused():
    with pytest.raises(UsageError, match="stored"):
        Sparsify(stored="packed")  # pyright: ignore[reportArgumentType]
