"""Graphs as ONNX: exact interface, unique names, regions with outer names, locations, and what a file says besides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tersor.backends.onnx import to_proto
from tersor.backends.runners import OrtRunner
from tersor.ir import Dense, DType, EmptyList, Graph, InvalidModelError, Loc, Model, constant, fresh, parse, tensor

F32 = tensor("f32", 2)


def proto_of(text: str, **fields: object) -> onnx.ModelProto:
    proto = to_proto(Model(parse(text), **fields))  # pyright: ignore[reportArgumentType]
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(text: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    return OrtRunner(Model(parse(text))).run(feeds)


X = np.array([1, -2], np.float32)


def test_an_input_that_is_an_output_passes_through_an_identity() -> None:
    text = "graph(%x: f32[2]) -> (y) { return %x }"
    assert [n.op_type for n in proto_of(text).graph.node] == ["Identity"]
    assert run(text, x=X)["y"].tolist() == X.tolist()


def test_an_input_that_is_an_output_of_the_same_name_needs_no_node() -> None:
    graph = Graph("g")
    graph.set_outputs([graph.add_input("x", F32)], ["x"])
    assert not to_proto(Model(graph)).graph.node
    assert OrtRunner(Model(graph)).run({"x": X})["x"].tolist() == X.tolist()


def test_one_value_can_be_several_outputs() -> None:
    found = run("graph(%x: f32[2]) -> (a, b, c) { %0 = Neg(%x) : f32[2] return %0, %0, %0 }", x=X)
    assert [found[n].tolist() for n in "abc"] == [[-1, 2]] * 3


def test_a_constant_can_be_an_output_and_an_operand() -> None:
    text = "graph(%x: f32[2]) -> (k, y) { @k : f32[2] = [3.0,4.0] %y = Add(%x, @k) : f32[2] return @k, %y }"
    found = run(text, x=X)
    assert (found["k"].tolist(), found["y"].tolist()) == ([3, 4], [4, 2])
    assert len(proto_of(text).graph.node) == 1


def test_inputs_and_outputs_keep_their_names_and_inner_values_give_way() -> None:
    graph = parse(
        """graph(%x: f32[2]) -> (y, w) {
             @w : f32[2] = [1.0,2.0]
             %x_1 = Add(%x, @w) : f32[2]
             %y = Neg(%x_1) : f32[2]
             %z = Abs(%y) : f32[2]
             return %z, %y }"""
    )
    proto = to_proto(Model(graph))
    assert [o.name for o in proto.graph.output] == ["y", "w"]
    assert proto.graph.initializer[0].name == "w_1"
    assert OrtRunner(Model(graph)).run({"x": X})["y"].tolist() == [2, 0]


def test_an_output_named_as_another_input_is_refused() -> None:
    graph = parse("graph(%x: f32[2]) -> (x) { %0 = Neg(%x) : f32[2] return %0 }")
    with pytest.raises(InvalidModelError, match="name of another input or output"):
        to_proto(Model(graph))


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_an_interface_name_that_onnx_cannot_hold_is_refused(name: str) -> None:
    graph = Graph("g")
    graph.set_outputs([graph.add("Neg", [graph.add_input(name, F32)], types=[F32]).output], ["y"])
    with pytest.raises(InvalidModelError, match="cannot hold the name"):
        to_proto(Model(graph))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=6, max_size=6), st.sampled_from(["x", "y", "w"]))
def test_whatever_the_hints_are_names_are_unique_and_the_interface_exact(hints: list[str], clash: str) -> None:
    graph = Graph(hints[0])
    value = graph.add_input("x", F32)
    for hint in (*hints, clash, clash, "", ""):
        weight = constant(np.ones(2, np.float32), hint)
        node = graph.add("Add", [value, weight], types=[F32], names=[hint], loc=Loc(scope=hint, origin=hint))
        value = node.output
    graph.set_outputs([value], ["y"])
    proto = to_proto(Model(graph))
    names = [v.name for v in proto.graph.input] + [i.name for i in proto.graph.initializer]
    names += [o for n in proto.graph.node for o in n.output]
    assert len(set(names)) == len(names)
    assert len({n.name for n in proto.graph.node}) == len(proto.graph.node)
    onnx.checker.check_model(proto)
    assert OrtRunner(Model(graph)).run({"x": X})["y"].tolist() == [11, 8]


BRANCHES = """
graph(%x: f32[2], %c: bool[]) -> (y, z) {
  @k : f32[2] = [5.0,6.0]
  %0 = Neg(%x) : f32[2]
  %y, %z = If(%c, %0, %x) captures 2 : f32[2], f32[2] regions {
    then_branch = graph(%a: f32[2], %b: f32[2]) -> (p, q) { return %a, @k }
    else_branch = graph(%a: f32[2], %b: f32[2]) -> (p, q) { %p = Add(%a, %b) : f32[2] return %p, %p }
  }
  return %y, %z }"""


def test_regions_name_what_they_capture_and_have_no_inputs_for_it() -> None:
    branches = {a.name: a.g for a in proto_of(BRANCHES).graph.node[1].attribute}
    assert not branches["then_branch"].input
    assert not branches["else_branch"].input
    assert list(branches["else_branch"].node[0].input) == ["0", "x"]


def test_a_branch_that_yields_captured_values_constants_and_one_value_twice_runs() -> None:
    taken, other = (run(BRANCHES, x=X, c=np.array(c)) for c in (True, False))
    assert (taken["y"].tolist(), taken["z"].tolist()) == ([-1, 2], [5, 6])
    assert (other["y"].tolist(), other["z"].tolist()) == ([0, 0], [0, 0])


def test_a_small_constant_that_a_branch_yields_stands_in_the_branch() -> None:
    then = proto_of(BRANCHES).graph.node[1].attribute[0].g
    assert [n.op_type for n in then.node] == ["Identity", "Constant"]


def test_a_loop_keeps_its_own_inputs_beside_what_it_captures() -> None:
    found = run(
        """graph(%n: i64[], %x: f32[2]) -> (y, all) {
             %y, %all = Loop(%n, _, %x, %x) {} captures 1 : f32[2], f32[*] regions {
               body = graph(%i: i64[], %go: bool[], %s: f32[2], %a: f32[2]) -> (go2, s2, row) {
                 %t = Add(%s, %a) : f32[2]
                 return %go, %t, %s
               }
             }
             return %y, %all }""",
        n=np.array(3),
        x=X,
    )
    assert found["y"].tolist() == [4, -8]
    assert found["all"].tolist() == [[1, -2], [2, -4], [3, -6]]


def test_nested_regions_see_values_of_the_outermost_graph() -> None:
    found = run(
        """graph(%x: f32[2], %c: bool[]) -> (y) {
             @k : f32[2] = [1.0,1.0]
             %y = If(%c, %x, %c) captures 2 : f32[2] regions {
               then_branch = graph(%a: f32[2], %d: bool[]) -> (o) {
                 %o = If(%d, %a) captures 1 : f32[2] regions {
                   then_branch = graph(%e: f32[2]) -> (o) { %o = Add(%e, @k) : f32[2] return %o }
                   else_branch = graph(%e: f32[2]) -> (o) { return %e }
                 }
                 return %o
               }
               else_branch = graph(%a: f32[2], %d: bool[]) -> (o) { return %a }
             }
             return %y }""",
        x=X,
        c=np.array(True),
    )
    assert found["y"].tolist() == [2, -1]


def test_outputs_that_nobody_uses_are_left_out_only_where_the_schema_allows() -> None:
    proto = proto_of(
        """graph(%x: f32[1,1,4,4], %s: f32[6]) -> (y, b) {
             %y, %i = MaxPool(%x) {kernel_shape=[2,2]} : f32[1,1,3,3], i64[1,1,3,3]
             %a, %b, %c = Split(%s) {num_outputs=3} : f32[2], f32[2], f32[2]
             return %y, %b }"""
    )
    assert [len(n.output) for n in proto.graph.node] == [1, 3]


def test_a_missing_operand_between_others_is_an_empty_name_and_at_the_end_nothing() -> None:
    graph = parse(
        "graph(%x: f32[2]) -> (y) { %y = Clip(%x, _, f32[]{1.0}) : f32[2] %z = Clip(%y, _, _) : f32[2] return %z }"
    )
    nodes = to_proto(Model(graph)).graph.node
    assert list(nodes[0].input)[:2] == ["x", ""]
    assert len(nodes[1].input) == 1


def test_an_input_with_a_default_is_an_input_and_an_initializer() -> None:
    graph = Graph("g")
    value = graph.add_input("x", F32, Dense(np.array([7, 8], np.float32)))
    graph.set_outputs([graph.add("Neg", [value], types=[F32]).output], ["y"])
    runner = OrtRunner(Model(graph))
    assert runner.run({})["y"].tolist() == [-7, -8]
    assert runner.run({"x": X})["y"].tolist() == [-1, 2]


def test_sizes_without_a_name_stay_unset_and_expressions_are_written_as_text() -> None:
    graph = Graph("g")
    value = graph.add_input("x", tensor("f32", "batch size", fresh(), 3))
    n = tensor("f32", "N").shape[0]
    other = graph.add_input("z", tensor("f32", 2 * n + 1))
    graph.set_outputs([value, other], ["y", "w"])
    first, second = to_proto(Model(graph)).graph.input
    dims = first.type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch size"
    assert not dims[1].HasField("dim_param")
    assert not dims[1].HasField("dim_value")
    assert dims[2].dim_value == 3
    assert second.type.tensor_type.shape.dim[0].dim_param == "2*N+1"


def test_types_of_outputs_that_no_schema_tells_are_written() -> None:
    graph = parse("graph(%x: f32[2]) -> (y) { %0 = my.domain::Op(%x) : f32[N,4] %y = Neg(%0) : f32[N,4] return %y }")
    proto = to_proto(Model(graph, {"": 26, "my.domain": 3}))
    assert [v.name for v in proto.graph.value_info] == ["0"]
    assert {o.domain: o.version for o in proto.opset_import}["my.domain"] == 3


def test_types_that_follow_from_unknown_types_or_replaceable_sizes_are_written() -> None:
    graph = parse(
        """graph(%x: f32[2,6], %s: i64[2] = [3,4]) -> (y) {
             %0 = Identity(%s) : i64[2]
             %1 = Reshape(%x, %0) : f32[3,4]
             %2 = Neg(%1) : f32[3,4]
             %3 = my.domain::Op(%2) : ?
             %4 = DequantizeLinear(%3, f32[]{0.5}, i8[]{1}) : f32[3,4]
             %y = Neg(%4) : f32[3,4]
             return %y }"""
    )
    proto = to_proto(Model(graph, {"": 26, "my.domain": 3}))
    assert [v.name for v in proto.graph.value_info] == ["0", "1", "4"]


def test_types_of_inner_values_are_written_when_asked_for() -> None:
    model = Model(parse("graph(%x: f32[N]) -> (y) { %0 = Abs(%x) : f32[N] %y = Neg(%0) : f32[N] return %y }"))
    assert not to_proto(model).graph.value_info
    proto = to_proto(model, value_info=True)
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.value_info] == ["0"]


def test_a_domain_that_only_a_node_mentions_is_imported() -> None:
    graph = parse("graph(%x: f32[2]) -> (y) { %y = com.microsoft::Gelu(%x) : f32[2] return %y }")
    proto = to_proto(Model(graph))
    assert {o.domain: o.version for o in proto.opset_import}["com.microsoft"] == 1


def test_the_ir_version_is_the_lowest_that_the_opset_and_the_element_types_need() -> None:
    text = "graph(%x: f32[2]) -> (y) { %y = Neg(%x) : f32[2] return %y }"
    assert proto_of(text, source_opset=13).ir_version == 7
    graph = Graph("g")
    graph.set_outputs([constant(Dense(np.array([1, -1], np.int8), DType.I4))], ["y"])
    assert to_proto(Model(graph, source_opset=13), 21).ir_version == 10


def test_everything_that_a_model_says_of_itself_is_kept() -> None:
    graph = parse("graph @net(%x: f32[2]) -> (y) { %y = Neg(%x) : f32[2] return %y }")
    graph.doc = "a graph"
    model = Model(graph, metadata={"a": "b"}, doc="a model", producer="me", producer_version="1", domain="d", version=7)
    proto = to_proto(model)
    assert (proto.doc_string, proto.producer_name, proto.producer_version) == ("a model", "me", "1")
    assert (proto.domain, proto.model_version, proto.graph.name, proto.graph.doc_string) == ("d", 7, "net", "a graph")
    assert [(p.key, p.value) for p in proto.metadata_props] == [("a", "b")]


def test_where_a_node_comes_from_is_written_as_its_name_and_metadata() -> None:
    graph = Graph("g")
    value = graph.add_input("x", F32)
    loc = Loc(scope="layer1.relu", source="net.py:3", origin="relu_1", metadata=(("k", "v"),))
    value = graph.add("Relu", [value], types=[F32], loc=loc).output
    value = graph.add("Neg", [value], types=[F32], loc=Loc(scope="layer2")).output
    graph.set_outputs([value], ["y"])
    first, second = to_proto(Model(graph)).graph.node
    assert first.name == "relu_1"
    assert {p.key: p.value for p in first.metadata_props} == {
        "k": "v", "pkg.tersor.scope": "layer1.relu", "pkg.tersor.source": "net.py:3",
    }  # fmt: skip
    assert second.name == "layer2/Neg"


def test_what_an_exporter_says_of_a_place_is_not_said_twice() -> None:
    graph = Graph("g")
    loc = Loc(scope="layer1", metadata=(("pkg.torch.onnx.name_scopes", "['', 'layer1', 'relu']"),))
    graph.set_outputs([graph.add("Relu", [graph.add_input("x", F32)], types=[F32], loc=loc).output], ["y"])
    (node,) = to_proto(Model(graph)).graph.node
    assert [p.key for p in node.metadata_props] == ["pkg.torch.onnx.name_scopes"]


ATTRIBUTES = {
    "int": 3, "float": 0.1, "str": "é", "bytes": b"\xff", "ints": (1, 2), "floats": (0.5, 2.0), "strs": ("a", "b"),
    "none": EmptyList("FLOATS"), "tensor": Dense(np.arange(3)), "tensors": (Dense(np.ones(2)),),
    "type": tensor("f32", 2, "N"),
    "types": (tensor("i8", 1),),
}  # fmt: skip


def test_attributes_of_every_kind_keep_kind_and_value() -> None:
    graph = Graph("g")
    node = graph.add("Op", [graph.add_input("x", F32)], dict(ATTRIBUTES), [F32], domain="d")
    graph.set_outputs([node.output], ["y"])
    found = {a.name: a for a in to_proto(Model(graph, {"": 26, "d": 1})).graph.node[0].attribute}
    kinds = [onnx.AttributeProto.AttributeType.Name(a.type) for a in found.values()]
    assert kinds == [
        "INT", "FLOAT", "STRING", "STRING", "INTS", "FLOATS", "STRINGS", "FLOATS", "TENSOR", "TENSORS", "TYPE_PROTO",
        "TYPE_PROTOS",
    ]  # fmt: skip
    assert found["str"].s == "é".encode()
    assert found["bytes"].s == b"\xff"
    assert list(found["floats"].floats) == [0.5, 2.0]
    assert onnx.numpy_helper.to_array(found["tensor"].t).tolist() == [0, 1, 2]
    assert found["type"].tp.tensor_type.shape.dim[1].dim_param == "N"


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.STRING])
def test_weights_of_every_element_type_are_read_back_by_onnx(dtype: DType) -> None:
    array = np.array([2 if dtype is DType.F8E8M0 else 0, 1, 1]).astype(dtype.numpy)
    graph = Graph("g")
    graph.set_outputs([constant(Dense(array, dtype), "w")], ["y"])
    proto = to_proto(Model(graph))
    assert proto.graph.initializer[0].data_type == dtype.code
    found = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    assert found.astype(np.complex128).tolist() == array.astype(np.complex128).tolist()


def test_strings_scalars_and_empty_tensors_are_weights_too() -> None:
    graph = Graph("g")
    values = [constant(np.array(["a", "ü"], object)), constant(np.float32(3)), constant(np.zeros((0, 3), np.float32))]
    graph.set_outputs(values, ["s", "k", "e"])
    onnx.checker.check_model(to_proto(Model(graph)), full_check=True)
    found = OrtRunner(Model(graph)).run({})
    assert found["s"].tolist() == ["a", "ü"]
    assert found["k"].shape == ()
    assert found["e"].shape == (0, 3)
