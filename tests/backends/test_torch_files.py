"""What emission leaves on disk: everything when all is well, nothing when anything fails."""

import runpy
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from tersor.backends.torch import emit, parity
from tersor.backends.torch.weights import save_tensors
from tersor.ir import Dense, DType, Model, ParityError, UnsupportedError, UsageError, parse

TEXT = """
graph @net(%x: f32[N,4]) -> (y) {
  @fc.weight : f32[3,4] = random(1)
  @fc.bias : f32[3] = random(2)
  %y = Gemm(%x, @fc.weight, @fc.bias) {transB=1}
  return %y
}"""
UNKNOWN = 'graph (%x: f32[2]) -> (y) { %y = "acme.example"::Frobnicate(%x) : f32[2] return %y }'


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_folder_holds_code_weights_and_a_test_that_passes(tmp_path):
    emitted = emit(Model(parse(TEXT)), tmp_path / "net")
    assert [p.name for p in emitted.files] == ["model.py", "model.safetensors", "test_parity.py", "parity.safetensors"]
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == sorted(p.name for p in emitted.files)
    assert emitted.difference is not None
    assert emitted.difference.max_error < 1e-5
    done = subprocess.run(
        [sys.executable, "-W", "error", emitted.files[2]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_emitted_test_fails_when_the_weights_change(tmp_path):
    emitted = emit(Model(parse(TEXT)), tmp_path / "net")
    weights = {k: Dense(a + 0.1) for k, a in load_arrays(emitted.files[1]).items()}
    save_tensors(emitted.files[1], weights)
    with pytest.raises(AssertionError):
        runpy.run_path(str(emitted.files[2]), run_name="__main__")


def test_an_operator_without_a_row_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnsupportedError):
        emit(Model(parse(UNKNOWN)), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_emission_keeps_the_files_of_the_last_good_one(tmp_path, monkeypatch):
    emit(Model(parse(TEXT)), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UnsupportedError):
        emit(Model(parse(UNKNOWN)), tmp_path)
    monkeypatch.setattr(parity, "tolerance_of", lambda model, outputs: -1.0)
    with pytest.raises(ParityError) as caught:
        emit(Model(parse(TEXT.replace("random(1)", "random(9)"))), tmp_path)
    assert "output 'y'" in str(caught.value)
    assert contents(tmp_path) == before


def test_a_folder_that_was_made_for_a_failed_emission_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "tolerance_of", lambda model, outputs: -1.0)
    with pytest.raises(ParityError):
        emit(Model(parse(TEXT)), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_emission_is_deterministic(tmp_path):
    emit(Model(parse(TEXT)), tmp_path / "a")
    emit(Model(parse(TEXT)), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_without_a_check_nothing_but_code_and_weights_is_written_and_torch_is_not_imported(tmp_path):
    script = f"""
import sys
sys.modules["torch"] = None
from tersor.ir import Model, parse
from tersor.backends.torch import emit
emit(Model(parse({TEXT!r})), {str(tmp_path)!r}, check=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.py", "model.safetensors"]


def test_stem_and_class_name_can_be_chosen(tmp_path):
    for stem in ("first", "second"):
        emitted = emit(Model(parse(TEXT)), tmp_path, stem=stem, class_name="My classifier")
        assert emitted.module_class.__name__ == "MyClassifier"
        assert emitted.files[0].name == f"{stem}.py"
    assert len(list(tmp_path.iterdir())) == 8
    with pytest.raises(UsageError):
        emit(Model(parse(TEXT)), tmp_path, stem="../elsewhere")


def test_existing_files_are_kept_when_asked(tmp_path):
    emit(Model(parse(TEXT)), tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        emit(Model(parse(TEXT)), tmp_path, overwrite=False)


def test_places_that_cannot_be_written_to_are_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "missing" / "net"):
        with pytest.raises(UsageError):
            emit(Model(parse(TEXT)), folder)


def test_given_samples_are_what_the_module_is_compared_on(tmp_path):
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    emit(Model(parse(TEXT)), tmp_path, samples=[{"x": x}])
    assert np.array_equal(load_arrays(tmp_path / "parity.safetensors")["input.0"], x)


def test_half_precision_weights_are_written_as_they_are(tmp_path):
    text = TEXT.replace("f32", "f16")
    emitted = emit(Model(parse(text)), tmp_path)
    assert {a.dtype for a in load_arrays(emitted.files[1]).values()} == {np.dtype(np.float16)}


def test_every_element_type_is_written_as_the_safetensors_library_reads_it(tmp_path):
    arrays = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3), "d": np.array(1.5), "h": np.ones((2, 0), np.float16), "i": np.arange(3),
        "b": np.array([True, False]), "u": np.arange(5, dtype=np.uint8), "w": np.arange(4, dtype=np.uint16),
    }  # fmt: skip
    tensors = {k: Dense(a) for k, a in arrays.items()}
    tensors["bf"] = Dense(np.array([1.5, -2.0], ml_dtypes.bfloat16))
    save_tensors(tmp_path / "t.safetensors", tensors)
    found = load_file(tmp_path / "t.safetensors")
    assert found.pop("bf").tolist() == [1.5, -2.0]
    assert {k: v.numpy().tolist() for k, v in found.items()} == {k: a.tolist() for k, a in arrays.items()}
    assert {k: v.numpy().dtype for k, v in found.items()} == {k: a.dtype for k, a in arrays.items()}
    with pytest.raises(UnsupportedError):
        save_tensors(tmp_path / "u.safetensors", {"s": Dense(np.array(["a"], object), DType.STRING)})
    assert not (tmp_path / "u.safetensors").exists()


def test_inputs_with_a_default_become_part_of_the_module(tmp_path):
    text = """graph (%x: f32[2,3], %w: f32[3,4] = [1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0]) -> (y) {
      %y = MatMul(%x, %w) return %y }"""
    emitted = emit(Model(parse(text)), tmp_path)
    assert emitted.difference is not None
    assert list(load_arrays(emitted.files[1])) == ["w"]


def test_a_model_that_does_not_run_on_the_samples_says_so(tmp_path):
    text = "graph (%x: f32[N,M], %y: f32[K,L]) -> (z) { %z = MatMul(%x, %y) return %z }"
    samples = [{"x": np.ones((2, 3), np.float32), "y": np.ones((4, 5), np.float32)}]
    with pytest.raises(UsageError, match="cannot be checked") as caught:
        emit(Model(parse(text)), tmp_path, samples=samples)
    assert "check=False" in caught.value.do
    assert list(tmp_path.iterdir()) == []
