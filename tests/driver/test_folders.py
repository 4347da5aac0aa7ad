"""Folders as Hugging Face tools write them, and sessions of a result in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tersor
from tersor.backends.onnx import file_bytes
from tersor.backends.runners import ort
from tersor.driver.cli import main
from tersor.ir import Dense, Lazy, Model, TersorError, UsageError, constant, parse, structural_hash

KEPT = {"config.json": "{}", "tokenizer.json": "{}", "vocab.txt": "a\nb\n", "spiece.model": "x", "LICENSE": "y"}
LEFT = {"pytorch_model.bin": "w", "model.safetensors.index.json": "{}", ".gitattributes": "", "report.json": "{}"}


@pytest.fixture
def hub(network: Model, tmp_path: Path) -> Path:
    """A folder with model.onnx and external data, configuration and tokenizer, and weights of another framework."""
    place = tmp_path / "hub"
    place.mkdir()
    tersor.save(network, place / "model.onnx", external_data=True)
    for name, text in (KEPT | LEFT).items():
        (place / name).write_text(text)
    return place


def test_a_folder_with_one_model_is_loaded(hub: Path, network: Model):
    assert structural_hash(tersor.load(hub).graph) == structural_hash(tersor.load(hub / "model.onnx").graph)
    (hub / "model.onnx").rename(hub / "encoder.onnx")
    assert len(tersor.load(str(hub)).graph) == len(network.graph)


def test_of_several_models_the_one_with_the_usual_name_is_taken(hub: Path, network: Model):
    tersor.save(network, hub / "model_quantized.onnx")
    assert len(tersor.load(hub).graph) == len(network.graph)


def test_the_model_may_lie_in_a_folder_called_onnx(hub: Path, network: Model):
    (hub / "onnx").mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        (hub / name).rename(hub / "onnx" / name)
    assert len(tersor.load(hub).graph) == len(network.graph)


def test_a_folder_that_does_not_say_which_model_is_meant_is_refused_with_their_names(hub: Path, network: Model):
    tersor.save(network, hub / "decoder.onnx")
    (hub / "model.onnx").rename(hub / "encoder.onnx")
    with pytest.raises(UsageError, match=r"decoder\.onnx, encoder\.onnx"):
        tersor.load(hub)


def test_the_new_folder_has_the_model_and_what_says_how_to_use_it(hub: Path, tmp_path: Path):
    result = tersor.apply(tersor.load(hub), "simplify")
    written = result.save_folder(tmp_path / "new" / "place", like=hub)
    assert {p.name for p in (tmp_path / "new" / "place").iterdir()} == {"model.onnx", *KEPT}
    assert {p.name for p in written} == {"model.onnx", *KEPT}
    assert all((tmp_path / "new" / "place" / n).read_text() == text for n, text in KEPT.items())
    tersor.verify(tersor.load(hub), tersor.load(tmp_path / "new" / "place"))


def test_a_folder_may_be_written_over_itself(hub: Path):
    original = tersor.load(hub, mmap=False)
    tersor.apply(tersor.load(hub), "simplify").save_folder(hub, like=hub)
    assert (hub / "vocab.txt").read_text() == KEPT["vocab.txt"]
    tersor.verify(original, tersor.load(hub))


def test_what_is_no_folder_is_refused_before_anything_is_written(hub: Path, tmp_path: Path):
    result = tersor.apply(tersor.load(hub))
    with pytest.raises(UsageError, match="not a folder"):
        result.save_folder(tmp_path / "new", like=hub / "model.onnx")
    assert not (tmp_path / "new").exists()


def test_compress_keeps_configuration_and_tokenizer(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["compress", str(hub), "-o", str(out), "--runs", "0", "--quiet"]) == 0
    assert {p.name for p in out.iterdir()} == {"model.onnx", "report.html", "report.json", "lock.json", *KEPT}
    assert main(["compress", str(hub), "-o", str(out), "--runs", "0"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_size_of_a_file_is_known_without_writing_it(network: Model, tmp_path: Path):
    tersor.save(network, tmp_path / "net.onnx")
    assert file_bytes(network) == (tmp_path / "net.onnx").stat().st_size


def test_a_model_too_large_for_one_message_is_measured():
    weight = Lazy("mul", [Dense(np.zeros((30_000, 1), np.float32)), Dense(np.zeros((1, 30_000), np.float32))])
    graph = parse("graph(%x: f32[30000]) -> (y) {\n  %0 = Relu(%x) : f32[30000]\n  return %0\n}")
    graph.set_outputs([*graph.outputs, constant(weight, "w")], ["y", "w"])
    assert file_bytes(Model(graph)) > 2**31


@pytest.mark.parametrize("limit", [0, ort.IN_MEMORY_BYTES], ids=["through a folder", "in memory"])
def test_a_result_runs_as_a_session(network: Model, limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ort, "IN_MEMORY_BYTES", limit)
    result = tersor.apply(network, "simplify")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = result.session(sess_options=options)
    assert isinstance(session, onnxruntime.InferenceSession)
    feed = result.feeds[0]
    (found,) = session.run(["logits"], dict(feed))
    assert np.allclose(found, ort.OrtRunner(network).run(feed)["logits"], atol=1e-5)
    assert session.get_session_options().intra_op_num_threads == 1


def test_what_the_runtime_refuses_is_a_message(network: Model):
    result = tersor.apply(network)
    result.model = Model(parse("graph(%x: f32[4]) -> (y) {\n  %0 = com.foo::Op(%x) : f32[4]\n  return %0\n}"))
    with pytest.raises(TersorError, match="cannot load"):
        result.session()
