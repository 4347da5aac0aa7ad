"""Element types, containers, functions, regions, custom domains and what a file says of itself, read and written again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from tersor.backends.onnx import save
from tersor.frontends.onnx import load
from tersor.ir import DType, structural_hash

HEAD = '<ir_version: 13, opset_import: ["" : 25, "ai.onnx.ml" : 5, "custom" : 3]>\n'


def round_trip(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model read and written; both read as the same graph, and the interface is the same bytes."""
    model = load(proto)
    save(model, folder / "again.onnx", opset=next(o.version for o in proto.opset_import if not o.domain))
    again = onnx.load(folder / "again.onnx")
    assert structural_hash(load(folder / "again.onnx").graph) == structural_hash(model.graph)
    for kind in ("input", "output"):
        before, after = getattr(proto.graph, kind), getattr(again.graph, kind)
        assert [(v.name, v.type) for v in before] == [(v.name, v.type) for v in after]
    return again


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.STRING], ids=lambda d: d.label)
def test_weights_of_every_element_type_keep_their_bits(dtype: DType, tmp_path: Path):
    raw = np.random.default_rng(1).integers(0, 2, dtype.file_bytes(6), np.uint8).tobytes()
    weight = TensorProto(name="w", data_type=dtype.code, dims=[6], raw_data=raw)
    info = helper.make_tensor_value_info("y", dtype.code, [6])
    node = helper.make_node("Identity", ["w"], ["y"])
    graph = helper.make_graph([node], "g", [], [info], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)])
    (found,) = round_trip(proto, tmp_path).graph.initializer
    assert (found.data_type, list(found.dims)) == (dtype.code, [6])
    np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(weight))


def test_string_weights_are_kept(tmp_path: Path):
    weight = helper.make_tensor("w", TensorProto.STRING, [3], ["a", "", "é😀"])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "g", [],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [3])], [weight],
    )  # fmt: skip
    (found,) = round_trip(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)]), tmp_path
    ).graph.initializer
    assert list(found.string_data) == list(weight.string_data)


BODIES = {
    "sequence": "g (seq(float[N]) s, int64 i) => (float[N] y) { y = SequenceAt (s, i) }",
    "optional": "g (optional(float[2]) o) => (bool y) { y = OptionalHasElement (o) }",
    "optional of a sequence": "g (optional(seq(float[2])) o) => (seq(float[2]) y) { y = OptionalGetElement (o) }",
    "map": "g (map(int64, float) m) => (float[1,3] y) { y = ai.onnx.ml.CastMap <map_form = \"SPARSE\", max_map = 3> (m) }",
    "ai.onnx.ml": "g (float[N,2] x) => (float[N,2] y) { y = ai.onnx.ml.Scaler <offset = [1.0, 2.0], scale = [0.5, 0.25]> (x) }",
    "custom": "g (float[N,2] x) => (float[K] y) { y = custom.Mystery <a = 1, b = [0.5], c = \"s\"> (x, , x) }",
    "if": "g (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Neg (x) }, else_branch = e () => (float[2] b) { b = Abs (x) }> }",
    "loop": "g (int64 n, bool c, float[2] x, float[2] k) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool d, float[2] a) => (bool d2, float[2] a2) { d2 = Identity (d) a2 = Add (a, k) }> }",
    "scan": "g (float[2] x, float[5,2] z, float[2] k) => (float[2] y, float[5,2] ys) { y, ys = Scan <num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] a2, float[2] s) { t = Add (a, e) a2 = Mul (t, k) s = Identity (a2) }> (x, z) }",
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
def test_containers_regions_and_other_domains_are_kept(kind: str, tmp_path: Path):
    proto = parser.parse_model(HEAD + BODIES[kind])
    again = round_trip(proto, tmp_path)
    assert [(n.domain, n.op_type, list(n.input)) for n in again.graph.node] == [
        (n.domain, n.op_type, list(n.input)) for n in proto.graph.node
    ]
    wanted = {o.domain: o.version for o in proto.opset_import}
    assert {o.domain: o.version for o in again.opset_import} == wanted


def test_what_a_file_says_of_itself_is_written_again(tmp_path: Path):
    proto = parser.parse_model(
        HEAD + "g (float[N] b, float[N] a) => (float[N] z, float[N] y) { y = Neg (a) z = Neg (b) }"
    )
    proto.producer_name, proto.producer_version, proto.domain, proto.model_version = "maker", "1.2", "org.example", 7
    proto.doc_string, proto.graph.doc_string = "about the model", "about the graph"
    helper.set_model_props(proto, {"key": "value", "<b>": '"quoted"\n'})
    again = round_trip(proto, tmp_path)
    for name in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(again, name) == getattr(proto, name)
    assert again.graph.doc_string == proto.graph.doc_string
    assert list(again.metadata_props) == list(proto.metadata_props)
