"""Saved files: what they hold, that they are complete or absent, and that weights stream through."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tersor.backends.files import PendingFile
from tersor.backends.onnx import save, stream, to_proto, writer
from tersor.backends.runners import OrtRunner
from tersor.ir import (
    DType,
    FileSlice,
    Graph,
    InvalidModelError,
    Lazy,
    MappedFile,
    Model,
    Tensor,
    UsageError,
    Value,
    parse,
    tensor,
)

X = np.linspace(-1, 1, 32, dtype=np.float32)


def model_of(*weights: Tensor) -> Model:
    """x @ w0 @ w1 ..., every weight 32 by 32."""
    graph = Graph("g")
    value = graph.add_input("x", tensor("f32", 32))
    for i, weight in enumerate(weights):
        constant = Value(f"w{i}", weight.type, const=weight)
        value = graph.add("MatMul", [value, constant], types=[tensor("f32", 32)]).output
    graph.set_outputs([value], ["y"])
    return Model(graph)


def small_model(factor: float = 1.0) -> Model:
    text = """graph(%x: f32[32]) -> (y) {
      @w : f32[32,32] = random(3)
      @s : str[1] = ["a"]
      %0 = MatMul(%x, @w) : f32[32]
      %y = Mul(%0, f32[]{FACTOR}) : f32[32]
      %k = Identity(@s) : str[1]
      return %y }"""
    return Model(parse(text.replace("FACTOR", str(factor))))


def mapped(path: Path, count: int = 2) -> list[FileSlice]:
    """Weights in a mapped file, at an odd offset."""
    content = np.random.default_rng(5).standard_normal((count, 32, 32)).astype(np.float32)
    path.write_bytes(b"abc" + content.tobytes())
    file = MappedFile(path)
    return [FileSlice(file, 3 + i * 4096, 4096, DType.F32, (32, 32)) for i in range(count)]


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_holds_what_the_proto_holds(tmp_path: Path) -> None:
    save(small_model(), tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == to_proto(small_model())
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)


def test_mapped_and_lazy_weights_are_written_with_their_numbers(tmp_path: Path) -> None:
    plain, other = mapped(tmp_path / "data.bin")
    model = model_of(plain, Lazy("transpose", [other], perm=(1, 0)), Lazy("mul", [plain, other]))
    save(model, tmp_path / "m.onnx")
    found = [numpy_helper.to_array(i) for i in onnx.load(tmp_path / "m.onnx").graph.initializer]
    assert np.array_equal(found[0], plain.numpy())
    assert np.array_equal(found[1], other.numpy().T)
    assert np.array_equal(found[2], plain.numpy() * other.numpy())


@pytest.mark.parametrize("external", [True, False])
def test_the_same_model_gives_the_same_bytes(tmp_path: Path, external: bool) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(small_model(), tmp_path / folder / "m.onnx", external_data=external)
    for name in entries(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_external_data_is_beside_the_model_at_aligned_offsets_and_small_weights_stay_inside(tmp_path: Path) -> None:
    weights = mapped(tmp_path / "data.bin", 3)
    save(model_of(*weights), tmp_path / "m.onnx", external_data=True)
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    for initializer in proto.graph.initializer:
        said = {e.key: e.value for e in initializer.external_data}
        assert said["location"] == "m.onnx.data"
        assert int(said["offset"]) % 64 == 0
        assert said["length"] == "4096"
    found = OrtRunner(tmp_path / "m.onnx").run({"x": X})["y"]
    assert np.array_equal(found, OrtRunner(model_of(*weights)).run({"x": X})["y"])
    save(small_model(), tmp_path / "n.onnx", external_data=True)
    inside = {i.name for i in onnx.load(tmp_path / "n.onnx", load_external_data=False).graph.initializer if i.raw_data}
    assert inside == {"constant"}


def test_large_weights_lie_on_page_boundaries(tmp_path: Path) -> None:
    model = Model(parse("graph() -> (a, b) { @w : f32[500] = random(1) @v : f32[20000] = random(2) return @w, @v }"))
    save(model, tmp_path / "m.onnx", external_data=True)
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    offsets = [int(e.value) for i in proto.graph.initializer for e in i.external_data if e.key == "offset"]
    assert offsets == [0, 4096]


def test_auto_chooses_external_data_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small_model(), tmp_path / "small.onnx")
    monkeypatch.setattr(writer, "EXTERNAL_FROM", 4000)
    save(small_model(), tmp_path / "large.onnx")
    assert entries(tmp_path) == ["large.onnx", "large.onnx.data", "small.onnx"]


def test_a_model_too_large_for_one_protobuf_message_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PROTOBUF_BYTES", 4000)
    with pytest.raises(UsageError, match="as one file"):
        save(small_model(), tmp_path / "m.onnx", external_data=False)
    assert entries(tmp_path) == []


def test_replacing_a_model_with_external_data_removes_the_data_that_only_it_used(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(small_model(1), path, external_data=True)
    save(small_model(2), path, external_data=True)
    assert entries(tmp_path) == ["m.onnx", "m.onnx.data.1"]
    save(small_model(3), path, external_data=True)
    assert entries(tmp_path) == ["m.onnx", "m.onnx.data"]
    save(small_model(4), path)
    assert entries(tmp_path) == ["m.onnx"]


def test_a_data_file_that_the_replaced_model_does_not_mention_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"something else")
    save(small_model(), tmp_path / "m.onnx", external_data=True)
    assert (tmp_path / "m.onnx.data").read_bytes() == b"something else"
    assert OrtRunner(tmp_path / "m.onnx").run({"x": X})["y"].shape == (32,)


@pytest.mark.parametrize("external", [True, False])
def test_a_model_can_be_saved_over_the_file_that_its_weights_are_mapped_from(tmp_path: Path, external: bool) -> None:
    path = tmp_path / "m.onnx"
    weights = mapped(path)
    expected = [w.numpy().copy() for w in weights]
    save(model_of(*weights), path, external_data=external)
    found = onnx.load(path).graph.initializer
    assert all(np.array_equal(numpy_helper.to_array(f), e) for f, e in zip(found, expected, strict=True))
    assert all(np.array_equal(w.numpy(), e) for w, e in zip(weights, expected, strict=True))


def test_a_mapped_file_that_was_written_to_stops_the_save(tmp_path: Path) -> None:
    model = model_of(*mapped(tmp_path / "data.bin"))
    with open(tmp_path / "data.bin", "ab") as file:
        file.write(b"more")
    with pytest.raises(InvalidModelError, match="changed while it was in use"):
        save(model, tmp_path / "m.onnx")
    assert entries(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("external", [True, False])
@pytest.mark.parametrize("failing", ["write", "fsync", "replace", "copy_file_range"])
def test_a_failure_leaves_the_old_file_whole_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, external: bool
) -> None:
    path = tmp_path / "m.onnx"
    model = model_of(*mapped(tmp_path / "data.bin"))
    save(small_model(), path, external_data=external)
    before = {name: (tmp_path / name).read_bytes() for name in entries(tmp_path)}

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, refuse)
    with pytest.raises(UsageError, match=r"m\.onnx cannot be written") as caught:
        save(model, path, external_data=external)
    assert "No space left" in caught.value.why
    assert {name: (tmp_path / name).read_bytes() for name in entries(tmp_path)} == before


def test_a_failure_between_the_two_renames_leaves_the_old_model_with_its_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    save(small_model(1), path, external_data=True)
    before = OrtRunner(path).run({"x": X})["y"]
    publish = PendingFile.publish

    def fail_for_the_model(self: PendingFile) -> None:
        if self.path == path:
            raise KeyboardInterrupt
        publish(self)

    monkeypatch.setattr(PendingFile, "publish", fail_for_the_model)
    with pytest.raises(KeyboardInterrupt):
        save(small_model(2), path, external_data=True)
    assert entries(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert np.array_equal(OrtRunner(path).run({"x": X})["y"], before)


def test_a_file_size_limit_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(small_model(1), path)
    before = path.read_bytes()
    script = f"""
        import resource
        from tersor.backends.onnx import save
        from tersor.ir import Model, UsageError, parse
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        graph = parse("graph() -> (y) {{ @w : f32[100000] = random(1) return @w }}")
        try:
            save(Model(graph), {str(path)!r})
        except UsageError as error:
            print(error.what)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == f"{path} cannot be written"
    assert path.read_bytes() == before
    assert entries(tmp_path) == ["m.onnx"]


def test_copying_falls_back_to_reading_where_the_kernel_cannot_copy_between_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = mapped(tmp_path / "data.bin")

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    save(model_of(*weights), tmp_path / "m.onnx")
    found = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert np.array_equal(numpy_helper.to_array(found[1]), weights[1].numpy())


def test_mapped_weights_reach_the_file_without_being_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = mapped(tmp_path / "data.bin")
    monkeypatch.setattr(MappedFile, "view", None)
    save(model_of(*weights), tmp_path / "m.onnx", external_data=True)
    assert (tmp_path / "m.onnx.data").stat().st_size == 2 * 4096


@pytest.mark.parametrize(
    ("place", "why"), [("missing/m.onnx", "there is no folder"), (".", "it is a folder"), ("m.onnx", "exists already")]
)  # fmt: skip
def test_a_place_that_cannot_take_the_file_is_a_usage_error(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "m.onnx").write_bytes(b"old")
    with pytest.raises(UsageError, match="cannot be written") as caught:
        save(small_model(), tmp_path / place, overwrite=False)
    assert why in caught.value.why
    assert (tmp_path / "m.onnx").read_bytes() == b"old"


def test_a_symbolic_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    save(small_model(), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    onnx.checker.check_model(tmp_path / "real.onnx")


def test_a_new_file_has_the_usual_permissions_and_a_replaced_one_keeps_its_own(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        save(small_model(), tmp_path / "m.onnx")
        assert (tmp_path / "m.onnx").stat().st_mode & 0o777 == 0o644
        (tmp_path / "m.onnx").chmod(0o640)
        save(small_model(), tmp_path / "m.onnx")
        assert (tmp_path / "m.onnx").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)


def test_a_weight_whose_blocks_do_not_add_up_never_becomes_a_file(tmp_path: Path) -> None:
    class Short(Tensor):
        def numpy(self) -> np.ndarray:
            return np.zeros(3, np.float32)

    model = model_of()
    model.graph.set_outputs([Value("w", tensor("f32", 4), const=Short(DType.F32, (4,)))], ["y"])
    with pytest.raises(Exception, match="has not as many bytes"):
        save(model, tmp_path / "m.onnx")
    assert entries(tmp_path) == []


def test_a_name_longer_than_a_temporary_name_may_be_can_be_saved(tmp_path: Path) -> None:
    name = "m" * 240 + ".onnx"
    save(small_model(), tmp_path / name)
    assert entries(tmp_path) == [name]
