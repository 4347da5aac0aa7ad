"""One protocol over ONNX Runtime, the reference evaluator and PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import save
from tersor.backends.runners import OrtRunner, ReferenceRunner, Runner, TorchRunner, ort, synthesize
from tersor.ir import Model, TersorError, UsageError, Value, parse, to_text

NETWORK = """
graph(%x: f32[N,3,8,8], %g: f32[N,1,1,1]) -> (y, z) {
  @w : f32[4,3,3,3] = random(7)
  %0 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,4,8,8]
  %1 = Relu(%0) : f32[N,4,8,8]
  %2 = Mul(%1, %g) : f32[N,4,8,8]
  %3 = GlobalAveragePool(%2) : f32[N,4,1,1]
  return %2, %3
}"""


@pytest.fixture
def model() -> Model:
    return Model(parse(NETWORK))


def values(model: Model) -> list[Value]:
    return [n.output for n in model.graph]


RUNNERS = {
    "onnxruntime": OrtRunner,
    "onnxruntime, not optimized": lambda m, taps=(): OrtRunner(m, taps=taps, optimize=False),
    "reference": ReferenceRunner,
}


@pytest.mark.parametrize("name", RUNNERS)
def test_outputs_come_by_name_and_taps_in_order(model: Model, name: str) -> None:
    conv, relu, _, pooled = values(model)
    weight = model.graph.constants()[0]
    taps = [relu, model.graph.inputs[1], weight, conv, relu, pooled]
    runner: Runner = RUNNERS[name](model, taps=taps)
    feeds = synthesize(model.graph)[0]
    found = runner.run_taps(feeds)
    outputs = runner.run(feeds)
    assert list(outputs) == ["y", "z"]
    assert np.array_equal(found[0], found[4])
    assert np.array_equal(found[0], np.maximum(found[3], 0))
    assert np.array_equal(found[1], feeds["g"])
    assert np.array_equal(found[2], weight.tensor.numpy())
    assert np.array_equal(found[5], outputs["z"])


def test_runners_agree(model: Model) -> None:
    feeds = synthesize(model.graph)[0]
    first, *others = [make(model).run(feeds) for make in RUNNERS.values()]
    for other in others:
        assert all(compare(first[name], other[name]).max_error < 1e-6 for name in first)


def test_a_tap_changes_neither_the_model_nor_its_outputs(model: Model) -> None:
    before = to_text(model.graph)
    runner = OrtRunner(model, taps=values(model))
    assert to_text(model.graph) == before
    assert list(runner.run(synthesize(model.graph)[0])) == ["y", "z"]


def test_a_tap_of_an_output_whose_operator_omits_it_makes_it_appear() -> None:
    model = Model(
        parse(
            """graph(%x: f32[1,1,4,4]) -> (y) {
                 %y, %i = MaxPool(%x) {kernel_shape=[2,2]} : f32[1,1,3,3], i64[1,1,3,3] return %y }"""
        )
    )
    (pool,) = model.graph
    found = OrtRunner(model, taps=[pool.outputs[1]]).run_taps(synthesize(model.graph)[0])
    assert found[0].dtype == np.int64


def test_a_tap_may_bear_a_name_that_the_interface_has() -> None:
    model = Model(parse("graph(%tap_0: f32[2]) -> (y) { %0 = Neg(%tap_0) : f32[2] %y = Abs(%0) : f32[2] return %y }"))
    found = OrtRunner(model, taps=[values(model)[0]]).run_taps({"tap_0": np.ones(2, np.float32)})
    assert found[0].tolist() == [-1, -1]


def test_a_tap_of_another_graph_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="no value of the outermost graph"):
        OrtRunner(model, taps=values(Model(parse(NETWORK))))


WRONG = {
    "name": ({"x": np.zeros((1, 3, 8, 8), np.float32), "h": np.zeros(1)}, ["no input 'h'", "'g' is missing"]),
    "element type": (
        {"x": np.zeros((1, 3, 8, 8)), "g": np.zeros((1, 1, 1, 1), np.float32)}, ["'x' is f64, not f32"],
    ),
    "size": (
        {"x": np.zeros((1, 3, 8, 9), np.float32), "g": np.zeros((1, 1, 1, 1), np.float32)},
        ["'x' has the shape [1, 3, 8, 9], not [N, 3, 8, 8]"],
    ),
    "rank": (
        {"x": np.zeros((3, 8, 8), np.float32), "g": np.zeros((1, 1, 1, 1), np.float32)},
        ["'x' has the shape [3, 8, 8]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("make", [OrtRunner, ReferenceRunner])
def test_feeds_that_do_not_fit_are_refused_with_what_was_expected_and_found(
    model: Model, make: type[Runner], case: str
) -> None:
    feeds, messages = WRONG[case]
    with pytest.raises(UsageError) as caught:
        make(model).run(feeds)  # pyright: ignore[reportCallIssue]
    for message in (*messages, "expected x: f32[N,3,8,8], g: f32[N,1,1,1]; found x: "):
        assert message in caught.value.why


def test_what_the_runtime_refuses_is_an_error_that_names_the_node() -> None:
    model = Model(
        parse("graph(%x: f32[2]) -> (y) { %y = my.domain::Op(%x) : f32[2] return %y }"), {"": 26, "my.domain": 1}
    )
    for make in (OrtRunner, ReferenceRunner):
        with pytest.raises(TersorError, match="cannot load the model"):
            make(model)
    model = Model(parse("graph(%x: f32[N], %z: f32[M]) -> (y) { %0 = Add(%x, %z) : f32[K] return %0 }"))
    with pytest.raises(TersorError, match="cannot run the model") as caught:
        OrtRunner(model).run({"x": np.zeros(2, np.float32), "z": np.zeros(3, np.float32)})
    assert caught.value.where == "node Add"


def test_a_product_of_halves_behind_a_transpose_on_which_the_runtime_would_die() -> None:
    model = Model(
        parse("""graph(%x: f16[3,2,4]) -> (y) {
          @w : f16[4,5] = random(1)
          %t = Transpose(%x) {perm=[1,0,2]} : f16[2,3,4]
          %y = MatMul(%t, @w) : f16[2,3,5]
          return %y
        }""")
    )
    (feeds,) = synthesize(model.graph)
    (w,) = (v.tensor.numpy() for v in model.graph.constants())
    wanted = feeds["x"].transpose(1, 0, 2).astype(np.float32) @ w.astype(np.float32)
    np.testing.assert_allclose(OrtRunner(model).run(feeds)["y"], wanted, rtol=1e-2, atol=1e-2)


def test_element_types_that_numpy_lacks_pass_in_and_out() -> None:
    model = Model(parse("graph(%x: bf16[2]) -> (y) { %y = Cast(%x) {to=17} : f8e4m3fn[2] return %y }"))
    found = OrtRunner(model).run({"x": np.array([1.5, -2], ml_dtypes.bfloat16)})["y"]
    assert found.dtype == ml_dtypes.float8_e4m3fn
    assert found.astype(np.float32).tolist() == [1.5, -2]


@pytest.mark.parametrize("shape", [(300, 7), (7, 300), (1, 300), (300, 1), (128, 256)])
def test_a_transposed_matrix_is_copied_into_rows(shape: tuple[int, int]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for source in (array, array.T, array[::2].T, array[:, ::-1]):
        found = ort.in_rows(source)
        assert found.flags.c_contiguous
        assert np.array_equal(found, source)


def test_a_large_model_reaches_the_runtime_through_a_file(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = synthesize(model.graph)[0]
    expected = OrtRunner(model).run(feeds)["y"]
    monkeypatch.setattr(ort, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(ort, "to_proto", None)
    assert np.array_equal(OrtRunner(model).run(feeds)["y"], expected)


def test_a_runner_for_one_call_hands_its_weights_over_where_they_are(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = NETWORK.replace(
        "@w : f32[4,3,3,3] = random(7)", "@w : f32[4,3,3,3] = random(7)\n  @weight_0 : f32[4,1,1] = random(8)"
    )
    shared = Model(parse(text.replace("%1 = Relu(%0)", "%b = Add(%0, @weight_0)\n  %1 = Relu(%b)")))
    before, feeds = to_text(shared.graph), synthesize(shared.graph)[0]
    expected = OrtRunner(shared, taps=values(shared)[:1]).run_taps(feeds), OrtRunner(shared).run(feeds)
    monkeypatch.setattr(ort, "LARGE", 2)
    runner = OrtRunner(shared, taps=values(shared)[:1], once=True)
    assert {i.name for i in runner.session.get_inputs()} == {"x", "g", "weight_0", "weight_1"}
    assert [i.name for i in runner.inputs] == ["x", "g"]
    np.testing.assert_allclose(runner.run_taps(feeds)[0], expected[0][0], rtol=1e-5, atol=1e-6)
    for name, array in runner.run(feeds).items():
        np.testing.assert_allclose(array, expected[1][name], rtol=1e-5, atol=1e-6)
    assert to_text(shared.graph) == before


def test_a_saved_file_runs_by_its_path(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path / "m.onnx")
    runner = OrtRunner(tmp_path / "m.onnx")
    feeds = synthesize(model.graph)[0]
    assert np.array_equal(runner.run(feeds)["y"], OrtRunner(model).run(feeds)["y"])
    assert [str(i) for i in runner.inputs] == ["x: f32[N,3,8,8]", "g: f32[N,1,1,1]"]
    with pytest.raises(UsageError, match="there is no file"):
        OrtRunner(tmp_path / "other.onnx")


def test_a_module_runs_on_named_arguments_and_its_results_get_names() -> None:
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def forward(self, x, y):
            return {"sum": x + y, "parts": [x, (y,)]}

    feeds = {"y": np.full(2, 2, np.float32), "x": np.ones(2, np.float32)}
    found = TorchRunner(Module()).run(feeds)
    assert {n: a.tolist() for n, a in found.items()} == {"sum": [3, 3], "parts_0": [1, 1], "parts_1_0": [2, 2]}
    named = TorchRunner(Module(), inputs=["x", "y"], outputs=["a", "b", "c"])
    assert list(named.run(feeds)) == ["a", "b", "c"]
    assert named.run_taps(feeds) == []
    with pytest.raises(TersorError, match="outputs that were named"):
        TorchRunner(Module(), outputs=["a"]).run(feeds)
    with pytest.raises(UsageError, match="inputs do not fit"):
        named.run({"x": feeds["x"]})


def test_an_error_inside_a_module_is_ours() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TersorError, match="PyTorch cannot run the module"):
        TorchRunner(torch.nn.Linear(3, 2), inputs=["x"]).run({"x": np.zeros((2, 4), np.float32)})


def test_bfloat16_passes_through_a_module() -> None:
    torch = pytest.importorskip("torch")
    found = TorchRunner(torch.nn.Identity(), inputs=["x"]).run({"x": np.array([1.5], ml_dtypes.bfloat16)})["output_0"]
    assert found.dtype == ml_dtypes.bfloat16
    assert float(found[0]) == 1.5


def test_runners_are_there_without_torch() -> None:
    script = "import sys, tersor.backends.runners; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
