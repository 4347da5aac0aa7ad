"""onnx_ir models in and out: the same program, the same memory, and passes inside its sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tersor
from tersor.ir import FileSlice, InvalidModelError, Model, ParityError, UsageError, parse, structural_hash

ir = pytest.importorskip("onnx_ir", reason="the extra `interop` is not installed")
passes = pytest.importorskip("onnx_ir.passes.common", reason="the extra `interop` is not installed")

NETWORK = """graph @net(%x: f32[N,3,8,8]) -> (logits) {
  @conv.weight : f32[16,3,3,3] = random(1)
  @bn.weight : f32[16] = random(2)
  @bn.bias : f32[16] = random(3)
  @bn.mean : f32[16] = random(4)
  @bn.var : f32[16] = [1,2,1,2,1,2,1,2,1,2,1,2,1,2,1,2]
  @fc.weight : f32[10,16] = random(6)
  @fc.bias : f32[10] = random(7)
  %0 = Conv(%x, @conv.weight) {pads=[1,1,1,1]} : f32[N,16,8,8]
  %1 = BatchNormalization(%0, @bn.weight, @bn.bias, @bn.mean, @bn.var) : f32[N,16,8,8]
  %2 = Relu(%1) : f32[N,16,8,8]
  %3 = GlobalAveragePool(%2) : f32[N,16,1,1]
  %4 = Flatten(%3) : f32[N,16]
  %5 = Gemm(%4, @fc.weight, @fc.bias) {transB=1} : f32[N,10]
  return %5
}"""

BRANCHES = """graph(%c: bool[], %x: f32[4,64]) -> (y) {
  @w : f32[4,64] = random(1)
  @v : f32[4,64] = random(2)
  %0 = If(%c, %x) captures 1 : f32[4,64] regions {
    then_branch = graph(%a: f32[4,64]) -> (p) {
      %1 = Add(%a, @v) : f32[4,64]
      return %1
    }
    else_branch = graph(%b: f32[4,64]) -> (q) {
      %2 = Mul(%b, @w) : f32[4,64]
      return %2
    }
  }
  return %0
}"""
UNCHECKED = tersor.Check(enabled=False)


@pytest.fixture
def network() -> Model:
    return Model(parse(NETWORK), source_opset=17)


@pytest.fixture
def file(network: Model, tmp_path: Path) -> Path:
    tersor.save(network, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def in_memory(file: Path) -> ir.Model:
    """The model of a file with its weights as arrays."""
    model = ir.load(file)
    for value in model.graph.initializers.values():
        value.const_value = ir.Tensor(np.array(value.const_value.numpy()), name=value.name)
    return model


def weight(model: Model, name: str) -> np.ndarray:
    return next(v.tensor.numpy() for v in model.graph.constants() if v.name == name)


def test_a_model_of_onnx_ir_is_read_as_its_file_is(file: Path):
    assert structural_hash(tersor.load(in_memory(file)).graph) == structural_hash(tersor.load(file).graph)


def test_arrays_are_shared_on_the_way_in(file: Path):
    given = in_memory(file)
    loaded = tersor.load(given)
    assert np.shares_memory(weight(loaded, "conv.weight"), given.graph.initializers["conv.weight"].const_value.numpy())


def test_arrays_are_shared_on_the_way_out(file: Path):
    model = in_memory(file)
    array = model.graph.initializers["conv.weight"].const_value.numpy()
    out = tersor.apply(tersor.load(model)).to_onnx_ir()
    assert np.shares_memory(out.graph.initializers["conv.weight"].const_value.numpy(), array)


def test_the_given_model_stays_as_it_is(file: Path):
    model = in_memory(file)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    tersor.apply(tersor.load(model), "simplify")
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_the_numbers_of_a_shared_array_cannot_be_written_through_the_model(file: Path):
    with pytest.raises(ValueError, match="read-only"):
        weight(tersor.load(in_memory(file)), "conv.weight")[0] = 0


def test_lazy_tensors_are_evaluated_only_when_their_numbers_are_needed(file: Path):
    model, calls = in_memory(file), []

    def numbers() -> ir.Tensor:
        calls.append(1)
        return ir.Tensor(np.full((16, 3, 3, 3), 0.5, np.float32))

    value = model.graph.initializers["conv.weight"]
    value.const_value = ir.LazyTensor(numbers, ir.DataType.FLOAT, ir.Shape([16, 3, 3, 3]), name="conv.weight")
    loaded = tersor.load(model)
    assert not calls
    assert (weight(loaded, "conv.weight") == 0.5).all()
    assert len(calls) == 1


def test_a_tensor_without_numbers_is_named_when_they_are_needed(file: Path):
    model = in_memory(file)

    def numbers() -> ir.Tensor:
        raise RuntimeError("this is a fake tensor")

    value = model.graph.initializers["conv.weight"]
    value.const_value = ir.LazyTensor(numbers, ir.DataType.FLOAT, ir.Shape([16, 3, 3, 3]), name="conv.weight")
    loaded = tersor.load(model)
    with pytest.raises(UsageError, match=r"conv\.weight"):
        weight(loaded, "conv.weight")


def test_external_tensors_stay_in_their_file(network: Model, tmp_path: Path):
    path = tmp_path / "net.onnx"
    tersor.save(network, path, external_data=True)
    loaded = tersor.load(ir.load(path))
    held = {v.name: v.tensor for v in loaded.graph.constants()}
    assert isinstance(held["conv.weight"], FileSlice)
    assert structural_hash(loaded.graph) == structural_hash(tersor.load(path).graph)


def test_external_tensors_outside_their_folder_are_refused(file: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16 * 3 * 3 * 3 * 4))
    (tmp_path / "models").mkdir()
    model = in_memory(file)
    model.graph.initializers["conv.weight"].const_value = ir.ExternalTensor(
        "../secret", 0, 1728, ir.DataType.FLOAT, shape=ir.Shape([16, 3, 3, 3]), name="conv.weight",
        base_dir=tmp_path / "models",
    )  # fmt: skip
    with pytest.raises(InvalidModelError, match="refused"):
        tersor.load(model)


def test_limits_hold_for_onnx_ir_too(file: Path):
    with pytest.raises(tersor.TersorError):
        tersor.load(in_memory(file), limits=tersor.Limits(nodes=2))


def test_branches_survive(tmp_path: Path):
    tersor.save(Model(parse(BRANCHES), source_opset=21), tmp_path / "m.onnx")
    given = tersor.load(tmp_path / "m.onnx")
    there = tersor.apply(tersor.load(ir.load(tmp_path / "m.onnx")), check=UNCHECKED).to_onnx_ir()
    assert structural_hash(tersor.load(there).graph) == structural_hash(given.graph)


@pytest.mark.parametrize("dtype", ["bf16", "f8e4m3fn", "i4", "u4", "f16", "bool", "i64", "str"])
def test_every_width_goes_out_and_comes_back_with_the_same_numbers(dtype: str):
    pair = {"bool": "true,false", "str": '"a","b"'}.get(dtype, "1,0")
    text = f"graph() -> (y) {{\n  @w : {dtype}[600] = [{','.join([pair] * 300)}]\n  return @w\n}}"
    wanted = parse(text).outputs[0].tensor.numpy().tolist()
    there = tersor.apply(Model(parse(text), source_opset=21), check=UNCHECKED).to_onnx_ir()
    assert there.graph.initializers["y"].const_value.shape == [600]
    assert tersor.load(there).graph.outputs[0].tensor.numpy().tolist() == wanted
    assert tersor.load(ir.from_proto(ir.to_proto(there))).graph.outputs[0].tensor.numpy().tolist() == wanted


def test_a_pass_runs_inside_a_sequence_of_onnx_ir(file: Path):
    model = in_memory(file)
    sequence = ir.passes.Sequential(
        passes.DeduplicateInitializersPass(), tersor.as_ir_pass("simplify"), passes.CheckerPass()
    )
    result = sequence(model)
    assert result.modified
    assert [n.op_type for n in result.model.graph] == ["Conv", "Relu", "ReduceMean", "Gemm"]
    assert [n.op_type for n in model.graph][1] == "BatchNormalization"
    tersor.verify(tersor.load(file), tersor.load(result.model))


def test_a_pass_that_changes_nothing_says_so_and_a_manager_stops(file: Path):
    once = tersor.as_ir_pass("simplify")(in_memory(file)).model
    manager = ir.passes.PassManager([tersor.as_ir_pass("simplify")], steps=3)
    result = manager(once)
    assert not result.modified
    assert structural_hash(tersor.load(result.model).graph) == structural_hash(tersor.load(once).graph)


def test_several_passes_with_options_are_one_pass(file: Path):
    made = tersor.as_ir_pass("simplify,prune(ratio=0.25)")
    assert repr(made).startswith("TersorPass(simplify")
    out = made(in_memory(file)).model
    assert out.graph.initializers["conv.weight"].shape == [12, 3, 3, 3]


def test_a_pass_that_there_is_not_is_refused_when_it_is_made():
    with pytest.raises(UsageError, match="no pass"):
        tersor.as_ir_pass("simplifyy")


def test_a_broken_contract_reaches_the_caller_through_onnx_ir(file: Path):
    exact = tersor.as_ir_pass("simplify", check=tersor.Check(tolerance=-1.0))
    with pytest.raises(ParityError):
        exact(in_memory(file))


def test_the_saved_file_of_the_result_runs_and_agrees(file: Path, tmp_path: Path):
    result = tersor.apply(tersor.load(in_memory(file)), "simplify")
    ir.save(result.to_onnx_ir(), tmp_path / "out.onnx")
    tersor.verify(tersor.load(file), tersor.load(tmp_path / "out.onnx"))
