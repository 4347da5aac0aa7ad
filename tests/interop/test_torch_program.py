"""torch's ONNXProgram in and out."""

from __future__ import annotations

import numpy as np
import pytest
import tersor

pytest.importorskip("onnxscript", reason="the extra `interop` is not installed")
torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)).eval()
    sample = torch.randn(3, 16)
    return module, sample, torch.onnx.export(module, (sample,), dynamo=True, verbose=False)


def test_a_program_is_read_with_the_parameters_of_the_module(exported):
    module, _, program = exported
    loaded = tersor.load(program)
    arrays = [v.tensor.numpy() for v in loaded.graph.constants()]
    assert any(np.shares_memory(a, module[0].weight.detach().numpy()) for a in arrays)


def test_a_compressed_program_runs_with_torch_tensors(exported):
    module, sample, program = exported
    result = tersor.apply(tersor.load(program), "simplify")
    (found,) = result.to_program()(sample)
    assert torch.allclose(found, module(sample), atol=1e-5)


def test_a_program_is_saved_by_its_own_method(exported, tmp_path):
    _, _, program = exported
    result = tersor.apply(tersor.load(program), "simplify")
    result.to_program().save(tmp_path / "m.onnx")
    tersor.verify(result.model, tersor.load(tmp_path / "m.onnx"))
