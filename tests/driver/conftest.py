"""A small trained-like network as an ONNX file, and calibration data for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tersor
from tersor.ir import Model, parse
from tersor.ir.inference import infer

NETWORK = """graph @net(%x: f32[N,3,8,8]) -> (logits) {
  @conv1.weight : f32[16,3,3,3] = random(1)
  @bn.weight : f32[16] = random(2)
  @bn.bias : f32[16] = random(3)
  @bn.mean : f32[16] = random(4)
  @bn.var : f32[16] = [1,2,1,2,1,2,1,2,1,2,1,2,1,2,1,2]
  @conv2.weight : f32[16,16,3,3] = random(5)
  @fc.weight : f32[10,16] = random(6)
  @fc.bias : f32[10] = random(7)
  %0 = Conv(%x, @conv1.weight) {pads=[1,1,1,1]} : f32[N,16,8,8]   # conv1 @ net.py:3
  %1 = BatchNormalization(%0, @bn.weight, @bn.bias, @bn.mean, @bn.var) : f32[N,16,8,8]   # bn @ net.py:4
  %2 = Relu(%1) : f32[N,16,8,8]   # relu @ net.py:5
  %3 = Conv(%2, @conv2.weight) {pads=[1,1,1,1]} : f32[N,16,8,8]   # conv2 @ net.py:6
  %4 = Relu(%3) : f32[N,16,8,8]   # relu2 @ net.py:7
  %5 = GlobalAveragePool(%4) : f32[N,16,1,1]   # pool @ net.py:8
  %6 = Flatten(%5) : f32[N,16]   # flatten @ net.py:9
  %7 = Gemm(%6, @fc.weight, @fc.bias) {transB=1} : f32[N,10]   # fc @ net.py:10
  return %7
}"""


@pytest.fixture
def network() -> Model:
    graph = parse(NETWORK)
    infer(graph)
    return Model(graph, source_opset=17)


@pytest.fixture
def folder(tmp_path: Path, network: Model) -> Path:
    """A folder with net.onnx, calib.npz (40 samples) and metric.py."""
    tersor.save(network, tmp_path / "net.onnx")
    samples = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=samples)
    (tmp_path / "metric.py").write_text(
        "import numpy as np\n"
        "def positive(run):\n"
        "    x = np.random.default_rng(1).standard_normal((20, 3, 8, 8)).astype(np.float32)\n"
        "    return (run({'x': x})['logits'][:, 0] > 0).astype(np.float32)\n"
    )
    return tmp_path
