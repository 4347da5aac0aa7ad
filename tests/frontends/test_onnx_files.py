"""Files: mapped weights, external data and its dangers, and one clear error for each kind of bad input."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from tersor.frontends.onnx import Limits, load, wire
from tersor.ir import Dense, FileSlice, InvalidModelError, LimitError, Model, TersorError, UnsupportedError, UsageError

BIG = np.arange(1024, dtype=np.float32).reshape(32, 32)


def model_proto(weights: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """y = x @ w, with `w` above the size from which weights are mapped."""
    held = [numpy_helper.from_array(a, n) for n, a in (weights or {"w": BIG}).items()]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 32]) for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", held[0].name], ["y"])], "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def weight(model: Model) -> FileSlice | Dense:
    tensor = model.graph.constants()[0].tensor
    assert isinstance(tensor, (FileSlice, Dense))
    return tensor


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


# Mapped weights


def test_large_weights_stay_in_the_file(tmp_path: Path):
    path = saved(model_proto(), tmp_path / "m.onnx")
    tensor = weight(load(path))
    assert isinstance(tensor, FileSlice)
    assert path.read_bytes()[tensor.offset : tensor.offset + tensor.length] == BIG.tobytes()
    np.testing.assert_array_equal(tensor.numpy(), BIG)


@pytest.mark.parametrize("form", ["mmap=False", "bytes", "ModelProto"])
def test_other_sources_hold_their_weights_in_memory(form: str, tmp_path: Path):
    proto = model_proto()
    model = {
        "mmap=False": lambda: load(saved(proto, tmp_path / "m.onnx"), mmap=False),
        "bytes": lambda: load(proto.SerializeToString()),
        "ModelProto": lambda: load(proto),
    }[form]()
    assert isinstance(weight(model), Dense)
    np.testing.assert_array_equal(weight(model).numpy(), BIG)


def test_weights_of_constant_nodes_are_mapped_also_in_subgraphs(tmp_path: Path):
    value = numpy_helper.from_array(BIG, "v")
    inner = helper.make_node("Constant", [], ["k"], value=value)
    branch = helper.make_graph([inner], "b", [], [onnx.ValueInfoProto(name="k")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("If", ["b"], ["y"], then_branch=branch, else_branch=branch),
    ]
    inputs = [helper.make_tensor_value_info("b", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=n) for n in ("c", "y")])
    model = load(saved(helper.make_model(graph), tmp_path / "m.onnx"))
    tensors = [v.tensor for v in model.graph.constants()]
    assert len(tensors) == 3
    for tensor in tensors:
        assert isinstance(tensor, FileSlice)
        np.testing.assert_array_equal(tensor.numpy(), BIG)


def test_the_stripped_message_is_the_model_without_its_payloads():
    proto = model_proto({"w": BIG, "small": np.ones(3, np.float32)})
    data = proto.SerializeToString()
    stripped = wire.strip(memoryview(data))
    assert stripped is not None
    assert len(stripped.message) < len(data) - BIG.nbytes + 100
    parsed = onnx.ModelProto.FromString(stripped.message)
    assert stripped.find(parsed.graph.initializer[1].raw_data) is None
    found = stripped.find(parsed.graph.initializer[0].raw_data)
    assert found is not None
    parsed.graph.initializer[0].raw_data = data[found[0] : sum(found)]
    assert parsed == proto


def test_a_file_written_twice_over_is_parsed_as_protobuf_merges_it():
    """Fields of one message may come in several pieces, and the last of two values counts."""
    proto = model_proto()
    extra = onnx.ModelProto()
    extra.graph.initializer.append(numpy_helper.from_array(BIG + 1, "other"))
    extra.graph.node.append(helper.make_node("Add", ["y", "other"], ["z"]))
    extra.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    model = load(proto.SerializeToString() + extra.SerializeToString())
    assert [n.op for n in model.graph] == ["MatMul", "Add"]
    np.testing.assert_array_equal(model.graph.constants()[1].tensor.numpy(), BIG + 1)


def test_a_tensor_cannot_pass_for_a_marker():
    proto = model_proto({"w": BIG, "f": np.zeros(6, np.float32)})
    stripped = wire.strip(memoryview(proto.SerializeToString()))
    assert stripped is not None
    proto.graph.initializer[1].raw_data = stripped.token + bytes(8)
    proto.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, [6]))
    assert load(proto.SerializeToString()).graph.outputs[1].tensor.numpy().tobytes() == stripped.token + bytes(8)


def test_loading_reads_no_weights(tmp_path: Path):
    """A sparse file of 8 GB loads under an address space that could not hold a copy of it."""
    proto = model_proto()
    data = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    tensor = TensorProto(name="huge", data_type=TensorProto.UINT8, dims=[8 << 30])
    head = tensor.SerializeToString() + bytes([9 << 3 | 2]) + varint(8 << 30)
    body = bytes([5 << 3 | 2]) + varint(len(head) + (8 << 30)) + head
    with path.open("wb") as file:
        file.write(data + bytes([7 << 3 | 2]) + varint(len(body) + (8 << 30)) + body)
        file.truncate(file.tell() + (8 << 30))
    code = (
        "import resource, sys\nfrom tersor.frontends.onnx import load\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))\n"
        "print(len(load(sys.argv[1]).graph))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# External data


def external(folder: Path, location: str = "w.bin", *, write: bool = True, **entries: str | int) -> Path:
    """A model whose weight lies at `location`; `entries` replace those of external_data, None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    proto = model_proto()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 16, "length": BIG.nbytes, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    if write:
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(bytes(16) + BIG.tobytes())
    return saved(proto, folder / "m.onnx")


@pytest.mark.parametrize("location", ["w.bin", "weights/w.bin", "./w.bin"])
def test_external_data_are_mapped_where_they_lie(location: str, tmp_path: Path):
    tensor = weight(load(external(tmp_path, location)))
    assert isinstance(tensor, FileSlice)
    assert (tensor.file.path.name, tensor.offset) == ("w.bin", 16)
    np.testing.assert_array_equal(tensor.numpy(), BIG)


def test_external_data_are_copied_without_mmap(tmp_path: Path):
    path = external(tmp_path)
    model = load(path, mmap=False)
    (tmp_path / "w.bin").unlink()
    np.testing.assert_array_equal(weight(model).numpy(), BIG)


def test_a_model_found_through_a_link_finds_its_data_beside_the_real_file(tmp_path: Path):
    path = external(tmp_path / "v3")
    (tmp_path / "current.onnx").symlink_to(path)
    np.testing.assert_array_equal(weight(load(tmp_path / "current.onnx")).numpy(), BIG)


def test_the_layout_of_a_hugging_face_cache_loads(tmp_path: Path):
    repository = tmp_path / "models--org--name"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0123abcd" / "onnx"
    path = external(blobs)
    path.rename(blobs / "aaaa")
    (blobs / "w.bin").rename(blobs / "bbbb")
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").symlink_to("../../../blobs/aaaa")
    (snapshot / "w.bin").symlink_to("../../../blobs/bbbb")
    np.testing.assert_array_equal(weight(load(snapshot / "model.onnx")).numpy(), BIG)


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "sub/../../w.bin",
        "/etc/passwd",
        "C:\\w.bin",
        "..\\w.bin",
        "\\\\host\\share",
        "",
        "\0",
        "sub/..",
        ".",
    ],
)
def test_locations_that_leave_the_folder_are_refused(location: str, tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(bytes(16) + BIG.tobytes())
    with pytest.raises(InvalidModelError) as caught:
        load(external(tmp_path / "model", location, write=False))
    assert "'w'" in str(caught.value)


def escaping_link(folder: Path, outside: Path) -> None:
    (folder / "w.bin").symlink_to(outside)


def escaping_folder(folder: Path, outside: Path) -> None:
    (folder / "sub").symlink_to(outside.parent)


def hard_link(folder: Path, outside: Path) -> None:
    os.link(outside, folder / "w.bin")


def pipe(folder: Path, outside: Path) -> None:
    os.mkfifo(folder / "w.bin")


@pytest.mark.parametrize(
    ("trick", "location"),
    [(escaping_link, "w.bin"), (escaping_folder, "sub/secret"), (hard_link, "w.bin"), (pipe, "w.bin")],
)
def test_tricks_with_links_and_devices_are_refused(trick: Callable[[Path, Path], None], location: str, tmp_path: Path):
    secret = tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(bytes(16) + BIG.tobytes())
    path = external(tmp_path / "model", location, write=False)
    trick(path.parent, secret)
    with pytest.raises(InvalidModelError, match="are refused"):
        load(path)


def test_a_cache_of_another_repository_is_out_of_reach(tmp_path: Path):
    other = tmp_path / "models--other" / "blobs"
    other.mkdir(parents=True)
    (other / "cccc").write_bytes(bytes(16) + BIG.tobytes())
    snapshot = tmp_path / "models--org" / "snapshots" / "1"
    (tmp_path / "models--org" / "blobs").mkdir(parents=True)
    path = external(snapshot, write=False)
    (snapshot / "w.bin").symlink_to(other / "cccc")
    with pytest.raises(InvalidModelError, match="are refused"):
        load(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"length": 8},
        {"offset": 17},
        {"offset": -1},
        {"offset": "9" * 30},
        {"length": "0x10"},
        {"length": BIG.nbytes + 1},
    ],
    ids=str,
)
def test_offsets_and_lengths_that_do_not_fit_are_refused(entries: dict[str, str | int], tmp_path: Path):
    with pytest.raises(InvalidModelError) as caught:
        load(external(tmp_path, **entries))
    assert "'w'" in str(caught.value)


def test_missing_external_data_are_named_with_their_tensor(tmp_path: Path):
    with pytest.raises(InvalidModelError) as caught:
        load(external(tmp_path, write=False))
    assert caught.value.what == "external data are missing"
    assert "initializer 'w'" in caught.value.where
    assert str(tmp_path / "w.bin") in caught.value.why


def test_external_data_of_a_model_without_a_folder_are_a_usage_error(tmp_path: Path):
    with pytest.raises(UsageError, match="another file"):
        load(external(tmp_path).read_bytes())


# Sources that are no models

GRAPH = 7 << 3 | 2
BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, this is a note\n", "but text"),
    "onnx text": (b'<ir_version: 10, opset_import: ["" : 20]>\n', "but text"),
    "web page": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "failed download"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS pointer"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG image"),
    "zip": (b"PK\x03\x04" + bytes(40), "PyTorch checkpoint"),
    "pickle": (b"\x80\x02}q\x00.", "pickle"),
    "safetensors": (b"\x10\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32"}}', "safetensors"),
    "noise": (bytes(range(7, 256)), "not an ONNX model"),
    "zeros": (bytes(100), "not an ONNX model"),
    "a tensor": (numpy_helper.from_array(BIG[:1], "t").SerializeToString(), "holds no graph"),
    "no graph": (onnx.ModelProto(ir_version=10).SerializeToString(), "holds no graph"),
    "broken graph": (bytes([8, 10, GRAPH, 4, 0x0A, 2, 0xFF, 0xFF]), "damaged"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_what_is_not_a_model_is_named(kind: str, tmp_path: Path):
    data, message = BAD_FILES[kind]
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(InvalidModelError, match=message) as caught:
            load(source)
        assert "\n" not in caught.value.what
        assert caught.value.do
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_called_truncated(kept: float, tmp_path: Path):
    path = saved(model_proto(), tmp_path / "m.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InvalidModelError, match="truncated"):
        load(path)


def test_paths_that_lead_to_no_file_are_usage_errors(tmp_path: Path):
    saved(model_proto(), tmp_path / "m.onnx")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path / "none.onnx", "there is no file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "m.onnx" / "inside", "cannot be opened"),
        ("nul\0byte", "cannot be opened"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            load(path)
        assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"is a folder") as caught:
        load(tmp_path)
    assert "m.onnx" in caught.value.do


def test_a_source_of_another_type_is_a_usage_error():
    with pytest.raises(UsageError, match="from int"):
        load(3)  # pyright: ignore[reportArgumentType]


# Models that break the rules


def text(body: str, opset: int = 20) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "local" : 1]>\n{body}')


def tampered(
    change: Callable[[onnx.ModelProto], object], body: str = "g (float[N] x) => (float[N] y) { y = Relu(x) }"
) -> onnx.ModelProto:
    proto = text(body)
    change(proto)
    return proto


def attribute_of_another_kind(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", "much"))


INVALID: dict[str, tuple[onnx.ModelProto, type[TersorError], str]] = {
    "no opset": (tampered(lambda m: m.ClearField("opset_import")), InvalidModelError, "which opset"),
    "opset 0": (tampered(lambda m: setattr(m.opset_import[0], "version", 0)), InvalidModelError, "opset 0"),
    "future opset": (tampered(lambda m: setattr(m.opset_import[0], "version", 9999)), UnsupportedError, "opset 9999"),
    "no ai.onnx": (tampered(lambda m: m.opset_import.pop(0)), InvalidModelError, "does not say which version"),
    "no custom domain": (text("g (float[N] x) => (float[N] y) { y = other.Op(x) }"), InvalidModelError, "other operators"),
    "undefined value": (text("g (float[N] x) => (float[N] y) { y = Relu(z) }"), InvalidModelError, "'z' is used and never defined"),
    "undefined output": (text("g (float[N] x) => (float[N] z) { y = Relu(x) }"), InvalidModelError, "'z' is used and never defined"),
    "undefined inside": (
        text("g (bool c) => (float[N] y) { y = If (c) <then_branch = t () => (float[N] z) {}, else_branch = e () => (float[N] z) {}> }"),
        InvalidModelError, "'z' is used and never defined",
    ),
    "twice": (text("g (float[N] x) => (float[N] y) { y = Relu(x) y = Neg(x) }"), InvalidModelError, "'y' is defined twice"),
    "input again": (text("g (float[N] x) => (float[N] y) { y = Relu(x) x = Neg(y) }"), InvalidModelError, "'x' is defined twice"),
    "two inputs": (text("g (float[N] x, float[N] x) => (float[N] y) { y = Relu(x) }"), InvalidModelError, "two inputs"),
    "two outputs": (text("g (float[N] x) => (float[N] y, float[N] y) { y = Relu(x) }"), InvalidModelError, "two outputs"),
    "cycle": (text("g (float[N] x) => (float[N] y) { y = Add(x, z)  z = Relu(y) }"), InvalidModelError, "cycle"),
    "self": (text("g (float[N] x) => (float[N] y) { y = Add(x, y) }"), InvalidModelError, "cycle"),
    "unknown operator": (text("g (float[N] x) => (float[N] y) { y = Frobnicate(x) }"), InvalidModelError, "Frobnicate is not known"),
    "later operator": (text("g (float[N] x) => (float[N] y) { y = Gelu(x) }", 17), InvalidModelError, "Gelu is not an operator of opset 17"),
    "withdrawn operator": (text("g (float[N] x) => (float[N] y) { y = ImageScaler(x) }"), UnsupportedError, "taken out of ONNX"),
    "operands": (text("g (float[N] x) => (float[N] y) { y = Relu(x, x) }"), InvalidModelError, "does not fit its operator Relu-14"),
    "missing operand": (text("g (float[N] x) => (float[N] y) { y = Add(x, ) }"), InvalidModelError, "does not fit its operator Add-14"),
    "outputs": (text("g (float[N] x) => (float[N] y) { y, z = Relu(x) }"), InvalidModelError, "does not fit its operator Relu-14"),
    "attribute": (text("g (float[N] x) => (float[N] y) { y = Relu <axis = 1> (x) }"), InvalidModelError, "does not fit its operator"),
    "attribute kind": (tampered(attribute_of_another_kind, "g (float[N] x) => (float[N] y) { y = LeakyRelu(x) }"), InvalidModelError, "LeakyRelu-16"),
    "attribute twice": (text("g (float[N] x) => (float[N] y) { y = LeakyRelu <alpha = 0.5, alpha = 0.5> (x) }"), InvalidModelError, "given twice"),
    "old form of another domain": (
        parser.parse_model('<ir_version: 3, opset_import: ["" : 8, "ai.onnx.ml" : 1]> g (int64[N] x) => (string[N] y) { y = ai.onnx.ml.LabelEncoder <classes_strings = ["a"]> (x) }'),
        UnsupportedError, "LabelEncoder-1 of ai.onnx.ml",
    ),
    "required attribute": (text("g (float[N] x) => (float[N] y) { y = Cast(x) }"), InvalidModelError, "Cast-19"),
    "type code": (text("g (float[N] x) => (float[N] y) { y = Cast <to = 99> (x) }"), InvalidModelError, "make no sense"),
    "constant": (text("g () => (float y) { y = Constant () }"), InvalidModelError, "exactly one value"),
    "shapes": (text("g (float[3] x, float[4] z) => (float[N] y) { y = Add(x, z) }"), InvalidModelError, "do not fit together"),
    "element type": (tampered(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)), InvalidModelError, "element type"),
    "recursive function": (
        text('g (float[N] x) => (float[N] y) { y = local.f(x) }\n<domain: "local", opset_import: ["local" : 1]> f (a) => (b) { b = local.f(a) }'),
        LimitError, "nested more than",
    ),
    "call": (
        text('g (float[N] x) => (float[N] y) { y = local.f(x, x) }\n<domain: "local", opset_import: ["" : 20]> f (a) => (b) { b = Relu(a) }'),
        InvalidModelError, "call does not fit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", INVALID)
def test_a_broken_model_gives_one_clear_line(kind: str):
    proto, error, message = INVALID[kind]
    with pytest.raises(error, match=message) as caught:
        load(proto)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.what


def bad_tensor(**fields: object) -> onnx.ModelProto:
    proto = model_proto()
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(proto.graph.initializer[0], name)[:] = value
        else:
            setattr(proto.graph.initializer[0], name, value)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        bad_tensor(dims=[32, 33]),
        bad_tensor(dims=[-1, 32]),
        bad_tensor(dims=[2**40, 2**20]),
        bad_tensor(dims=[1] * 70),
        bad_tensor(raw_data=b""),
        bad_tensor(data_type=99),
        bad_tensor(data_type=TensorProto.STRING),
        bad_tensor(data_type=TensorProto.DOUBLE),
    ],
    ids=["shape", "negative", "huge", "rank", "empty", "unknown type", "string", "wider"],
)
def test_data_that_do_not_fit_a_tensor_are_refused_by_its_name(proto: onnx.ModelProto):
    for source in (proto, proto.SerializeToString()):
        with pytest.raises(TersorError) as caught:
            load(source)
        assert "initializer 'w'" in caught.value.where


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        ("g (int32[2] x) => (int32[2] y) { y = BitShift <direction: string = \"LEFT\"> (x, x) }", "operand 0 (X) is i32, which is none of"),
        ("g (float[2] x, float[1] i) => (float[1] y) { y = Gather(x, i) }", "operand 1 (indices) is f32, which is none of"),
        ("g (float[2] x, double[2] z) => (float[2] y) { y = Add(x, z) }", "operand 1 (B) is f64 and another one of the same type f32"),
        ("g (float[2] x, int64[2] z) => (float[4] y) { y = Concat <axis: int = 0> (x, z) }", "operand 1 (inputs) is i64 and another"),
    ],
)  # fmt: skip
def test_element_types_that_an_operator_does_not_take_are_refused(graph: str, why: str):
    with pytest.raises(InvalidModelError, match="does not fit its operator") as caught:
        load(text(graph))
    assert why in caught.value.why


@pytest.mark.parametrize("place", ["=> (float y) { y = Size(x) }", "=> (float z) <float y> { y = Size(x) z = Neg(y) }"])
def test_a_value_declared_with_another_element_type_than_it_has_is_refused(place: str):
    with pytest.raises(InvalidModelError, match="declared as f32 and computed as i64"):
        load(text(f"g (float[2] x) {place}"))


def test_operands_of_a_variadic_operator_may_differ_where_the_schema_says_so():
    proto = text(
        "g (int64 n, bool c, float[2] x, int64[1] k) => (float[2] y, int64[1] z) { y, z = Loop(n, c, x, k) "
        "<body = b (int64 i, bool d, float[2] a, int64[1] e) => (bool d2, float[2] a2, int64[1] e2) "
        "{ d2 = Identity(d) a2 = Neg(a) e2 = Neg(e) }> }"
    )
    assert [node.op for node in load(proto).graph] == ["Loop"]


# Limits


def chain(count: int) -> onnx.ModelProto:
    return text("g (float[N] x) => (float[N] y) { %s y = Relu(x) }" % " ".join(f"a{i} = Relu(x)" for i in range(count)))  # noqa: UP031


def test_a_model_with_more_nodes_than_allowed_is_refused():
    load(chain(9), limits=Limits(nodes=10))
    with pytest.raises(LimitError, match="more than 10 nodes"):
        load(chain(10), limits=Limits(nodes=10))


def test_functions_that_double_at_every_level_are_refused_before_they_fill_memory():
    functions = [
        f'<domain: "local", opset_import: ["" : 20, "local" : 1]> f{i} (a) => (c) {{ b = local.f{i + 1}(a)  c = local.f{i + 1}(b) }}'
        for i in range(40)
    ]
    functions.append('<domain: "local", opset_import: ["" : 20]> f40 (a) => (b) { b = Relu(a) }')
    proto = text("g (float[N] x) => (float[N] y) { y = local.f0(x) }\n" + "\n".join(functions))
    with pytest.raises(LimitError, match="more than 1000 nodes"):
        load(proto, limits=Limits(nodes=1000))


def test_weights_beyond_the_limit_are_refused(tmp_path: Path):
    path = saved(model_proto(), tmp_path / "m.onnx")
    load(path, limits=Limits(tensor_bytes=BIG.nbytes))
    with pytest.raises(LimitError, match="more than 4095 bytes"):
        load(path, limits=Limits(tensor_bytes=BIG.nbytes - 1))


def test_a_sparse_tensor_is_refused_before_it_is_written_out():
    values, indices = (
        numpy_helper.from_array(np.ones(1, np.float32), "w"),
        numpy_helper.from_array(np.zeros(1, np.int64), "i"),
    )
    sparse = helper.make_sparse_tensor(values, indices, [1 << 20, 1 << 20])
    graph = helper.make_graph([], "g", [], [onnx.ValueInfoProto(name="w")], sparse_initializer=[sparse])
    with pytest.raises(LimitError, match="sparse tensors"):
        load(helper.make_model(graph))


def nested(depth: int) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "inner", [], [onnx.ValueInfoProto(name="y")])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph.__class__())
        other = next(a.g for a in node.attribute if a.name == "else_branch")
        other.output.add(name="x")
        graph = helper.make_graph([node], "outer", [], [onnx.ValueInfoProto(name="y")])
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_subgraphs_nested_too_deep_are_refused():
    load(nested(5), limits=Limits(depth=5))
    with pytest.raises(LimitError, match="nested more than 5 deep"):
        load(nested(6), limits=Limits(depth=5))


def test_nesting_that_protobuf_cannot_parse_is_called_so():
    def field(number: int, payload: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(payload)) + payload

    graph = b""
    for _ in range(40):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    with pytest.raises(LimitError, match="nested too deep"):
        load(bytes([8, 10]) + field(7, graph))


# Damage


def test_no_damage_to_a_file_gives_anything_but_a_model_or_a_clear_error():
    sources = [
        model_proto({"w": np.ones((32, 8), np.float32)}).SerializeToString(),
        INVALID["undefined inside"][0].SerializeToString(),
        nested(2).SerializeToString(),
        text('g (float[N] x) => (float[N] y) { y = local.f(x) }\n<domain: "local", opset_import: ["" : 11]> f (a) => (b) { b = Softmax(a) }').SerializeToString(),
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    for _ in range(1500):
        data = bytearray(sources[rng.integers(len(sources))])
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        # Anything else than a TersorError fails the test.
        with contextlib.suppress(TersorError):
            load(bytes(data))
