"""A quantized model as a module of floats."""

import numpy as np
import pytest
import torch
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import emit, to_module
from tersor.backends.torch.dequantized import dequantized
from tersor.ir import Model, parse
from torch import nn

QUANTIZED = """
graph @net(%x: f32[N,4]) -> (y) {
  @fc.weight : i8[3,4] = [1,-2,3,4,5,6,-7,8,9,10,11,-12]
  @fc.scale : f32[3] = [0.1,0.2,0.05]
  %q = QuantizeLinear(%x, f32[]{0.02}, u8[]{128})
  %d = DequantizeLinear(%q, f32[]{0.02}, u8[]{128})
  %w = DequantizeLinear(@fc.weight, @fc.scale) {axis=0}
  %y = Gemm(%d, %w) {transB=1}
  return %y
}"""


def test_weights_are_floats_in_modules_and_activations_are_not_rounded():
    model = Model(parse(QUANTIZED))
    module = to_module(model, dequantize=True)
    assert [type(m) for m in module.children()] == [nn.Linear]
    expected = np.array([[1, -2, 3, 4], [5, 6, -7, 8], [9, 10, 11, -12]]) * [[0.1], [0.2], [0.05]]
    torch.testing.assert_close(module.fc.weight, torch.tensor(expected, dtype=torch.float32))
    x = torch.tensor([[0.013, 0.4, -0.2, 0.1]])
    torch.testing.assert_close(module(x), x @ torch.tensor(expected.T, dtype=torch.float32))
    assert model.emitted == {}


def test_the_graph_stays_quantized_and_the_files_are_compared_in_floats(tmp_path):
    model = Model(parse(QUANTIZED))
    made = emit(model, tmp_path / "net", dequantize=True)
    assert made.difference is not None
    assert made.difference.max_error < 1e-6
    assert "quantize(" not in made.files[0].read_text()
    assert any(node.op == "QuantizeLinear" for node in model.graph)


@pytest.mark.parametrize("change", ["f32[]{0.03}, u8[]{128}", "f32[]{0.02}, u8[]{127}"])
def test_other_parameters_behind_a_quantization_are_kept(change):
    text = QUANTIZED.replace(
        "%d = DequantizeLinear(%q, f32[]{0.02}, u8[]{128})", f"%d = DequantizeLinear(%q, {change})"
    )
    found = dequantized(Model(parse(text)))
    assert [n.op for n in found.graph] == ["QuantizeLinear", "DequantizeLinear", "Gemm"]
    x = np.array([[0.1, 0.4, -0.2, 0.1]], np.float32)
    wanted, made = (OrtRunner(m).run({"x": x})["y"] for m in (Model(parse(text)), found))
    np.testing.assert_allclose(made, wanted, rtol=1e-5)


MOVED = """
graph @net(%x: f32[2,3,4,4]) -> (y) {
  @conv.weight_quantized : i8[2,4,1,1] = [1,-2,3,4,5,6,-7,8]
  %q = QuantizeLinear(%x, f32[]{0.02}, u8[]{128}) : u8[2,3,4,4]
  %p = Pad(%q, i64[8]{0,0,0,0,0,1,0,0}, u8[]{ZERO}) : u8[2,4,4,4]
  %t = Transpose(%p) {perm=[0,1,3,2]} : u8[2,4,4,4]
  %d = DequantizeLinear(%t, f32[]{0.02}, u8[]{128}) : f32[2,4,4,4]
  %w = DequantizeLinear(@conv.weight_quantized, f32[]{0.1}) : f32[2,4,1,1]
  %y = Conv(%d, %w) : f32[2,2,4,4]
  return %y
}"""


def test_what_moves_integers_moves_floats_instead():
    module = to_module(Model(parse(MOVED.replace("ZERO", "128"))), dequantize=True)
    assert set(module.state_dict()) == {"conv.weight"}
    x = torch.rand(2, 3, 4, 4)
    wanted = nn.functional.conv2d(nn.functional.pad(x, (0, 0, 0, 0, 0, 1)).transpose(2, 3), module.conv.weight)
    torch.testing.assert_close(module(x), wanted)


def test_padding_with_another_number_than_zero_keeps_its_steps(tmp_path):
    made = emit(Model(parse(MOVED.replace("ZERO", "7"))), tmp_path, dequantize=True)
    assert "def quantize(" in made.files[0].read_text()
