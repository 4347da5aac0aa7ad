"""Weights that are mostly zeros in files: when they are sparse initializers, and that they come back as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tersor.backends.onnx import save, to_proto
from tersor.backends.runners import OrtRunner
from tersor.frontends.onnx import load
from tersor.ir import Dense, DType, Model, Tensor, Value, structural_hash
from tersor.ir.tensors import Sparse, sparse

SHAPE = (24, 40)
FEED = {"x": np.random.default_rng(2).standard_normal((8, 24)).astype(np.float32)}
BIAS = np.random.default_rng(3).standard_normal((8, 40)).astype(np.float32)
NETWORK = """graph(%x: f32[8,24]) -> (y) {
  @w : f32[24,40]
  @b : f32[8,40]
  %1 = MatMul(%x, @w)
  %y = Add(%1, @b)
  return %y
}"""


def mostly_zeros(share: float = 0.9, dtype: type = np.float32) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.where(random.random(SHAPE) < share, 0, random.standard_normal(SHAPE) * 9).astype(dtype)


def kept_sparse(array: np.ndarray) -> Tensor:
    tensor = sparse(Dense(array))
    assert tensor is not None
    return tensor


def weight(model: Model) -> Value:
    return next(n for n in model.graph if n.op == "MatMul").operand(1)


@pytest.fixture
def network(model: Callable[..., Model]) -> Model:
    made = model(NETWORK, w=mostly_zeros(), b=BIAS)
    weight(made).const = kept_sparse(mostly_zeros())
    return made


@pytest.mark.parametrize(
    ("dtype", "zeros", "smaller"),
    [
        (np.float32, 0.6, False), (np.float32, 0.75, True), (np.float16, 0.75, False), (np.float16, 0.85, True),
        (np.int8, 0.85, False), (np.int8, 0.95, True), (np.float64, 0.55, True),
    ],
)  # fmt: skip
def test_a_tensor_is_kept_sparse_only_where_its_numbers_and_their_places_take_fewer_bytes(
    dtype: type, zeros: float, smaller: bool
):
    tensor = Dense(mostly_zeros(zeros, dtype))
    made = sparse(tensor)
    assert (made is not None) == smaller
    if made is not None:
        assert made.same_as(tensor)
        assert made.stored_bytes == made.values.nbytes + made.indices.nbytes < tensor.nbytes


def test_negative_zeros_are_numbers_like_others():
    array = np.zeros(SHAPE, np.float32)
    array[3, 5] = -0.0
    assert np.signbit(kept_sparse(array).numpy()[3, 5])


def test_strings_and_numbers_narrower_than_a_byte_stay_dense():
    assert sparse(Dense(np.full(SHAPE, "", object))) is None
    assert sparse(Dense(np.zeros(SHAPE, np.int8), DType.I4)) is None


def test_rows_of_a_sparse_tensor_are_those_of_the_dense_one():
    array = mostly_zeros()
    tensor = kept_sparse(array)
    assert np.array_equal(tensor.rows(5, 9), array[5:9])
    assert tensor.rows(24, 24).shape == (0, 40)


def test_places_beyond_the_shape_are_no_sparse_tensor():
    with pytest.raises(ValueError, match="do not fit"):
        Sparse(np.ones(1, np.float32), np.asarray([6]), DType.F32, (2, 3))


def test_what_would_not_fit_into_a_model_file_is_written_out(network: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tersor.backends.onnx.writer.EXTERNAL_FROM", 100)
    proto = to_proto(network)
    assert not proto.graph.sparse_initializer
    assert structural_hash(load(proto).graph) == structural_hash(network.graph)


@pytest.mark.parametrize("external", [False, True])
def test_a_sparse_weight_becomes_a_sparse_initializer_and_comes_back(network: Model, external: bool, tmp_path: Path):
    path = tmp_path / "m.onnx"
    save(network, path, external_data=external)
    proto = onnx.load(path, load_external_data=False)
    assert [t.values.name for t in proto.graph.sparse_initializer] == ["w"]
    assert [t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL] == ["b"] * external
    assert proto.ir_version >= 6
    onnx.checker.check_model(path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < BIAS.nbytes + 0.5 * mostly_zeros().nbytes
    again = load(path)
    assert structural_hash(again.graph) == structural_hash(network.graph)
    assert isinstance(weight(again).tensor, Sparse)
    save(again, tmp_path / "again.onnx", external_data=external)
    assert external or (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_runtimes_compute_the_same_with_it(network: Model):
    import onnxruntime

    session = onnxruntime.InferenceSession(to_proto(network).SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = FEED["x"] @ mostly_zeros() + BIAS
    np.testing.assert_allclose(np.asarray(session.run(None, FEED)[0]), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(OrtRunner(network).run(FEED)["y"], wanted, rtol=1e-5, atol=1e-5)


def test_what_the_interface_shows_is_written_out(model: Callable[..., Model]):
    made = model(
        "graph(%x: f32[24,40]) -> (y, w) {\n  @w : f32[24,40]\n  %y = Relu(%x)\n  return %y, @w\n}", w=mostly_zeros()
    )
    zeros = kept_sparse(mostly_zeros())
    made.graph.outputs[1].const = zeros
    made.graph.defaults[made.graph.inputs[0]] = zeros
    proto = to_proto(made)
    assert not proto.graph.sparse_initializer
    assert {t.name for t in proto.graph.initializer} == {"x", "w"}
    found = OrtRunner(made).run({})
    assert np.array_equal(found["w"], mostly_zeros())


def test_places_that_are_not_in_order_are_read_as_a_dense_tensor(network: Model):
    proto = to_proto(network)
    held = proto.graph.sparse_initializer[0]
    places = np.frombuffer(held.indices.raw_data, np.int64)[::-1]
    values = np.frombuffer(held.values.raw_data, np.float32)[::-1]
    held.indices.raw_data, held.values.raw_data = places.tobytes(), values.tobytes()
    again = load(proto)
    assert structural_hash(again.graph) == structural_hash(network.graph)
    assert isinstance(weight(again).tensor, Dense)
