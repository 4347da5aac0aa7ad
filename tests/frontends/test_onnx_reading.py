"""What becomes of a ModelProto: interface, constants, subgraphs, functions, locations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from tersor.frontends.onnx import fallback, load
from tersor.ir import (
    DType,
    Graph,
    InvalidModelError,
    Loc,
    Model,
    Node,
    SequenceType,
    TensorType,
    Value,
    symbol,
    tensor,
)


def read(text: str, *initializers: onnx.TensorProto) -> Model:
    """A model in ONNX's own text form."""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20, "custom" : 3]>\n{text}')
    proto.graph.initializer.extend(initializers)
    return load(proto)


def nodes(graph: Graph) -> list[str]:
    return [node.op for node in graph]


def held(model: Model, name: str) -> np.ndarray:
    return next(v for v in model.graph.constants() if v.name == name).tensor.numpy()


# Interface


def test_names_order_types_and_symbolic_sizes_of_the_interface_are_kept():
    model = read("g (float[N, 3] b, int64[2] a) => (float[N, 3] z, float[N, 3] y) { y = Relu(b)  z = Neg(b) }")
    assert [(v.name, v.type) for v in model.graph.inputs] == [("b", tensor("f32", "N", 3)), ("a", tensor("i64", 2))]
    assert model.graph.output_names == ["z", "y"]
    assert [v.type for v in model.graph.outputs] == [tensor("f32", "N", 3)] * 2


def test_sizes_that_others_add_up_to_are_sums():
    names = ["past", "length", "past + length", "length+past", "past*2", "batch-size", "past  length"]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, names)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info], [onnx.ValueInfoProto(name="y")])
    shape = load(helper.make_model(graph)).graph.inputs[0].shape
    past, length = symbol("past"), symbol("length")
    assert shape is not None
    assert shape[:5] == (past, length, past + length, past + length, 2 * past)
    assert shape[5:] == (symbol("batch-size"), symbol("past  length"))


def test_sizes_without_a_name_are_all_different():
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, "?", "?"])
    info.type.tensor_type.shape.dim[0].dim_value = -1
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info], [onnx.ValueInfoProto(name="y")])
    shape = load(helper.make_model(graph)).graph.inputs[0].shape
    assert shape is not None
    assert len(set(shape)) == 4


def test_an_input_without_a_shape_has_an_unknown_rank():
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info], [onnx.ValueInfoProto(name="y")])
    assert load(helper.make_model(graph)).graph.inputs[0].type == TensorType(DType.F32, None)


def test_sequences_are_typed():
    model = read("g (seq(float[N]) s, int64 i) => (float[M] y) { y = SequenceAt(s, i) }")
    assert model.graph.inputs[0].type == SequenceType(tensor("f32", "N"))


def test_what_a_file_says_about_itself_is_kept():
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17, "custom" : 3]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    )
    proto.producer_name, proto.producer_version, proto.domain = "maker", "1.2", "org.example"
    proto.model_version, proto.doc_string, proto.graph.doc_string = 7, "about", "about the graph"
    helper.set_model_props(proto, {"license": "MIT"})
    model = load(proto)
    assert (model.producer, model.producer_version, model.domain, model.version) == ("maker", "1.2", "org.example", 7)
    assert (model.doc, model.graph.doc, model.metadata) == ("about", "about the graph", {"license": "MIT"})
    assert (model.opset, model.source_opset) == ({"": 26, "custom": 3}, 17)


def test_an_initializer_is_a_constant_with_its_name():
    weight = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    model = read("g (float[N, 3] x) => (float[N, 3] y) { y = MatMul(x, w) }", weight)
    assert [(v.name, v.type) for v in model.graph.constants()] == [("w", tensor("f32", 3, 3))]


def test_an_initializer_that_is_an_input_is_a_default_and_no_constant():
    weight = numpy_helper.from_array(np.full(3, 2, np.float32), "w")
    model = read("g (float[3] x, float[3] w) => (float[3] y) { y = Add(x, w) }", weight)
    _, w = model.graph.inputs
    assert model.graph.defaults[w].numpy().tolist() == [2, 2, 2]
    assert model.graph.constants() == []


def test_an_output_may_be_an_input_or_a_constant():
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    model = read("g (float[2] x) => (float[2] x, float[2] w) { y = Relu(x) }", weight)
    assert [v.is_const for v in model.graph.outputs] == [False, True]


def test_missing_operands_and_outputs_are_none_and_unnamed():
    model = read("g (float[4] x) => (float[4] y) { y, mask = Dropout(x, , ) }")
    (node,) = model.graph
    assert (len(node.inputs), len(node.outputs)) == (1, 2)
    model = read("g (float[4] x, float high) => (float[4] y) { y = Clip(x, , high) }")
    (node,) = model.graph
    assert node.inputs[1] is None


def test_nodes_in_any_order_are_sorted():
    model = read("g (float[4] x) => (float[4] y) { y = Neg(b)  b = Abs(a)  a = Relu(x) }")
    assert nodes(model.graph) == ["Relu", "Abs", "Neg"]


def test_names_that_are_not_utf8_are_read_with_escapes():
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N] x) => (float[N] abcdef) { abcdef = Relu(x) }'
    )
    model = load(proto.SerializeToString().replace(b"abcdef", b"caf\xe9\xe9f"))
    assert model.graph.output_names == ["caf\\xe9\\xe9f"]


# Attributes


def attribute(**attrs: Any) -> Any:
    node = helper.make_node("Anything", ["x"], ["y"], domain="custom", **attrs)
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [onnx.ValueInfoProto(name="y")]
    proto = helper.make_model(helper.make_graph([node], "g", *infos), opset_imports=[helper.make_opsetid("custom", 1)])
    return next(iter(load(proto).graph)).attrs["a"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(3, 3), (0.1, 0.1), ("text", "text"), (b"\xff\xfe", b"\xff\xfe"), ([1, 2], (1, 2)), ([0.1, 0.2], (0.1, 0.2)), (["a", "b"], ("a", "b"))],
)  # fmt: skip
def test_attributes_are_plain_values(given: Any, wanted: Any):
    found = attribute(a=given)
    assert (found, type(found)) == (wanted, type(wanted))


def test_an_empty_list_remembers_its_kind():
    made = onnx.AttributeProto(name="a", type=onnx.AttributeProto.FLOATS)
    node = helper.make_node("Anything", ["x"], ["y"], domain="custom")
    node.attribute.append(made)
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [onnx.ValueInfoProto(name="y")]
    proto = helper.make_model(helper.make_graph([node], "g", *infos), opset_imports=[helper.make_opsetid("custom", 1)])
    assert next(iter(load(proto).graph)).attrs["a"].kind == "FLOATS"  # pyright: ignore


def test_tensor_and_type_attributes_are_kept():
    assert attribute(a=numpy_helper.from_array(np.arange(3), "t")).numpy().tolist() == [0, 1, 2]
    assert attribute(a=helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 2])).shape == (symbol("N"), 2)


def test_a_custom_operator_stays_with_its_domain_and_version():
    model = read("g (float[4] x) => (float[4] y) { y = custom.Strange <level = 2> (x) }")
    (node,) = model.graph
    assert (node.op, node.domain, node.attrs, model.opset["custom"]) == ("Strange", "custom", {"level": 2}, 3)


# Constants


@pytest.mark.parametrize(
    ("attr", "wanted", "dtype"),
    [
        ("value_int = 3", 3, DType.I64),
        ("value_ints = [1, 2]", [1, 2], DType.I64),
        ("value_float = 0.5", 0.5, DType.F32),
        ("value_floats = [0.5, 1.5]", [0.5, 1.5], DType.F32),
        ('value_string = "a"', "a", DType.STRING),
        ('value_strings = ["a", "b"]', ["a", "b"], DType.STRING),
        ("value = int32[2] {4, 5}", [4, 5], DType.I32),
    ],
)
def test_constant_nodes_of_every_form_become_constants(attr: str, wanted: Any, dtype: DType):
    model = read(
        f"g () => (c) {{ c = Constant <{attr}> () }}".replace(
            "=> (c)", f"=> ({'string' if dtype is DType.STRING else 'float'} c)"
        )
    )
    (value,) = model.graph.outputs
    assert (value.tensor.dtype, value.tensor.numpy().tolist(), value.name) == (dtype, wanted, "c")


def sparse(indices: np.ndarray, dims: list[int], name: str = "") -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.asarray([5, 6], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(indices.astype(np.int64), "i"), dims)


@pytest.mark.parametrize("indices", [np.asarray([1, 5]), np.asarray([[0, 1], [1, 2]])], ids=["flat", "coordinates"])
def test_sparse_constants_and_initializers_are_written_out(indices: np.ndarray):
    node = helper.make_node("Constant", [], ["c"], sparse_value=sparse(indices, [2, 3]))
    add = helper.make_node("Add", ["c", "w"], ["y"])
    graph = helper.make_graph(
        [node, add], "g", [], [onnx.ValueInfoProto(name="y")], sparse_initializer=[sparse(indices, [2, 3], "w")]
    )
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    for name in ("c", "w"):
        assert held(model, name).tolist() == [[0, 5, 0], [0, 0, 6]]


FLAT = np.arange(-3, 3)


@pytest.mark.parametrize("code", [d.code for d in DType if d is not DType.STRING], ids=lambda c: DType.of_code(c).label)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_a_tensor_of_every_element_type_is_read_from_both_kinds_of_field(code: int, raw: bool):
    dtype = DType.of_code(code)
    array = np.abs(FLAT) if not dtype.is_signed or dtype in (DType.F8E8M0, DType.I2) else FLAT
    array = array + (dtype is DType.F8E8M0)  # which has no zero
    array = (array % 2 if dtype in (DType.I2, DType.BOOL) else array).astype(dtype.numpy).reshape(2, 3)
    if raw:
        proto = numpy_helper.from_array(array, "w")
    else:
        proto = helper.make_tensor("w", code, (2, 3), array.reshape(-1).tolist())
        assert not proto.HasField("raw_data")
    graph = helper.make_graph([], "g", [], [onnx.ValueInfoProto(name="w")], [proto])
    found = load(helper.make_model(graph)).graph.outputs[0].tensor
    assert found.dtype is dtype
    np.testing.assert_array_equal(found.numpy(), array)


# Subgraphs


def test_what_a_branch_captures_becomes_an_operand_and_a_region_input():
    model = read("""
        g (bool c, float[N] x, float[N] z) => (float[N] y) {
          h = Relu(x)
          y = If (c) <then_branch = t () => (float[N] a) { a = Add(h, z) }, else_branch = e () => (float[N] b) { b = Neg(h) }>
        }""")
    *_, node = model.graph
    assert (node.captures, [v.name for v in node.inputs if v]) == (2, ["c", "h", "z"])
    for region in node.regions.values():
        assert [v.name for v in region.inputs] == ["h", "z"]
        assert [v.type for v in region.inputs] == [tensor("f32", "N")] * 2


def test_constants_are_used_in_branches_without_being_captured():
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    model = read(
        "g (bool c) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] w) {}, else_branch = e () => (float[2] b) { b = Neg(w) }> }",
        weight,
    )
    (node,) = model.graph
    assert node.captures == 0
    assert node.regions["then_branch"].outputs[0].is_const


def test_a_value_that_only_an_inner_branch_needs_passes_through_the_outer_one():
    model = read("""
        g (bool c, float[2] x) => (float[2] y) {
          y = If (c) <
            then_branch = t () => (float[2] a) {
              a = If (c) <then_branch = tt () => (float[2] p) { p = Relu(x) }, else_branch = ee () => (float[2] q) { q = Abs(x) }>
            },
            else_branch = e () => (float[2] b) { b = Constant <value = float[2] {1, 2}> () }>
        }""")
    (outer,) = model.graph
    (inner,) = outer.regions["then_branch"]
    assert [v.name for v in outer.inputs if v] == ["c", "c", "x"]
    assert [v.name for v in inner.inputs if v] == ["c", "x"]
    assert all(v.node is outer.regions["then_branch"].entry for v in inner.inputs if v)


def test_a_name_of_a_subgraph_hides_the_same_name_outside():
    model = read("""
        g (bool c, float[2] x, float[2] a) => (float[2] y) {
          y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, else_branch = e () => (float[2] b) { b = Neg(x) }>
        }""")
    (node,) = model.graph
    assert [v.name for v in node.inputs if v] == ["c", "x"]


def test_old_operators_in_subgraphs_are_raised():
    proto = parser.parse_model("""<ir_version: 8, opset_import: ["" : 11]>
        g (bool c, float[2, 3] x) => (float[2, 1, 3] y) {
          y = If (c) <then_branch = t () => (float[2, 1, 3] a) { a = Unsqueeze <axes = [1]> (x) },
                      else_branch = e () => (float[2, 1, 3] b) { b = Unsqueeze <axes = [1]> (x) }>
        }""")
    (node,) = load(proto).graph
    for region in node.regions.values():
        (inner,) = region
        assert inner.operand(1).tensor.numpy().tolist() == [1]


BRANCHES = """
g (bool c, float[2] x) => (float[2] y) {
  y = If (c) <then_branch = t (float[2] w) => (float[2] a) { a = Add(x, w) }, else_branch = e () => (float[2] b) { b = Neg(x) }>
}"""


def branching() -> tuple[onnx.ModelProto, onnx.GraphProto]:
    """An If whose first branch lists `w` among its inputs, and that branch."""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>\n{BRANCHES}')
    return proto, next(a.g for a in proto.graph.node[0].attribute if a.name == "then_branch")


def test_initializers_that_a_branch_lists_as_inputs_are_constants():
    proto, branch = branching()
    branch.initializer.append(numpy_helper.from_array(np.asarray([3, 4], np.float32), "w"))
    node = next(iter(load(proto).graph))
    assert node.captures == 1
    assert [len(region.inputs) for region in node.regions.values()] == [1, 1]
    assert [v.name for v in node.regions["then_branch"].constants()] == ["w"]


def test_a_branch_with_an_input_that_nothing_gives_is_refused():
    with pytest.raises(InvalidModelError, match="a branch has the input 'w'"):
        load(branching()[0])


def test_a_loop_keeps_its_formal_inputs_in_front_of_what_it_captures():
    model = read("""
        g (int64 n, bool c, float[2] x, float[2] k) => (float[2] y) {
          y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) => (bool go, float[2] t) { t = Add(s, k) }>
        }""")
    (node,) = model.graph
    assert [v.name for v in node.regions["body"].inputs] == ["i", "go", "s", "k"]
    assert node.captures == 1


def test_sizes_named_inside_a_loop_are_not_the_sizes_of_that_name_outside():
    model = read("""
        g (int64 n, bool c, float[N] x) => (float[M] y) {
          y = Loop (n, c, x) <body = b (int64 i, bool go, float[N] s) => (bool go, float[P] t) { t = Concat<axis = 0>(s, s) }>
        }""")
    (node,) = model.graph
    assert node.regions["body"].inputs[2].shape != (symbol("N"),)


# Functions


TWICE = """
    <domain: "local", opset_import: ["" : 20]> twice (a) => (b) { m = Relu(a)  b = Add(m, m) }"""


def call(body: str, functions: str, opset: int = 20) -> Model:
    return load(parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "local" : 1]>\n{body}\n{functions}'))


def test_function_calls_are_inlined_under_unique_names():
    model = call("g (float[N] x) => (float[N] y) { h = local.twice(x)  y = local.twice(h) }", TWICE)
    assert nodes(model.graph) == ["Relu", "Add", "Relu", "Add"]
    names = [n.output.name for n in model.graph]
    assert names == ["h/m", "h", "y/m", "y"]
    assert model.graph.outputs[0].type == tensor("f32", "N")


def test_functions_that_call_functions_are_inlined_too():
    outer = '<domain: "local", opset_import: ["" : 20, "local" : 1]> four (a) => (c) { b = local.twice(a)  c = local.twice(b) }'
    model = call("g (float[N] x) => (float[N] y) { y = local.four(x) }", TWICE + outer)
    assert nodes(model.graph) == ["Relu", "Add"] * 2


def test_a_function_body_has_the_opset_that_it_imports():
    function = '<domain: "local", opset_import: ["" : 11]> widen (a) => (b) { b = Unsqueeze <axes = [0]> (a) }'
    (node,) = call("g (float[N] x) => (float[1, N] y) { y = local.widen(x) }", function).graph
    assert node.operand(1).tensor.numpy().tolist() == [0]


def test_attribute_references_take_the_call_s_value_else_the_default_else_nothing():
    function = '<domain: "local", opset_import: ["" : 20]> leak <alpha: float = 0.25> (a) => (b) { b = LeakyRelu <alpha: float = @alpha> (a) }'
    given, default = call(
        "g (float[N] x) => (float[N] y) { h = local.leak <alpha = 0.5> (x)  y = local.leak(h) }", function
    ).graph
    assert (given.attrs, default.attrs) == ({"alpha": 0.5}, {"alpha": 0.25})
    function = '<domain: "local", opset_import: ["" : 20]> leak <alpha> (a) => (b) { b = LeakyRelu <alpha: float = @alpha> (a) }'
    (node,) = call("g (float[N] x) => (float[N] y) { y = local.leak(x) }", function).graph
    assert node.attrs == {}


def test_a_constant_of_a_function_may_be_an_attribute_reference():
    function = '<domain: "local", opset_import: ["" : 20]> add <by> (a) => (c) { b = Constant <value_float: float = @by> ()  c = Add(a, b) }'
    (node,) = call("g (float[N] x) => (float[N] y) { y = local.add <by = 2.5> (x) }", function).graph
    assert node.operand(1).tensor.item() == 2.5


def test_an_operand_that_a_call_leaves_out_is_missing_inside():
    function = '<domain: "local", opset_import: ["" : 20]> cut (a, low, high) => (b) { b = Clip(a, low, high) }'
    (node,) = call("g (float[N] x) => (float[N] y) { y = local.cut(x) }", function).graph
    assert len(node.inputs) == 1


def test_a_function_that_yields_its_input_disappears():
    function = '<domain: "local", opset_import: ["" : 20]> same (a, b) => (b) { c = Relu(a) }'
    model = call("g (float[N] x, float[N] z) => (float[N] y) { h = local.same(x, z)  y = Neg(h) }", function)
    assert next(reversed(model.graph)).operand(0) is model.graph.inputs[1]


def test_a_subgraph_in_a_function_captures_from_the_function():
    function = """<domain: "local", opset_import: ["" : 20]> choose (c, a) => (y) {
        m = Relu(a)
        y = If (c) <then_branch = t () => (p) { p = Neg(m) }, else_branch = e () => (q) { q = Abs(a) }>
    }"""
    model = call("g (bool c, float[N] x) => (float[N] y) { y = local.choose(c, x) }", function)
    *_, node = model.graph
    assert [v.name for v in node.inputs if v] == ["c", "y/m", "x"]


def test_operators_that_onnx_defines_as_functions_stay_operators():
    assert nodes(read("g (float[N] x) => (float[N] y) { y = Gelu(x) }").graph) == ["Gelu"]


# Locations


def place(name: str, op: str = "Relu", **metadata: str) -> Loc:
    node = helper.make_node(op, ["x"], ["y"], name=name)
    for key, value in metadata.items():
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [onnx.ValueInfoProto(name="y")]
    return next(iter(load(helper.make_model(helper.make_graph([node], "g", *infos))).graph)).loc


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("/layer1/layer1.0/relu/Relu", "layer1.0.relu"),
        ("/features/features.0/features.0.1/Relu_3", "features.0.1"),
        ("/encoder/layer.0/output/Relu", "encoder.layer.0.output"),
        ("/Relu", ""),
        ("Relu_12", ""),
        ("/layer1/Something", ""),
    ],
)
def test_names_of_the_tracing_exporter_tell_the_module(name: str, scope: str):
    loc = place(name)
    assert (loc.scope, loc.origin) == (scope, name)


def test_metadata_of_the_export_based_exporter_tell_module_and_line():
    trace = 'File "/home/me/net.py", line 30, in forward\n  x\nFile "/v/site-packages/torch/nn/modules/activation.py", line 9, in forward'
    loc = place("node_relu", name_scopes="['', 'layer1', 'layer1.0', 'relu']", stack_trace=trace)
    assert (loc.scope, loc.source, loc.origin) == ("layer1.0", "net.py:30", "node_relu")
    assert dict(loc.metadata)["pkg.torch.onnx.stack_trace"] == trace


def test_odd_metadata_are_kept_and_tell_nothing():
    for text in ("[", "['a'", "__import__('os')", "[1, 2]", "3"):
        loc = place("n", name_scopes=text)
        assert (loc.scope, loc.metadata) == ("", (("pkg.torch.onnx.name_scopes", text),))


def test_nodes_of_a_function_say_which_call_they_come_from():
    proto = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20, "local" : 1]> g (float[N] x) => (float[N] y) {{ y = local.twice(x) }}{TWICE}'
    )
    proto.graph.node[0].name = "block/one"
    assert [n.loc.scope for n in load(proto).graph] == ["block/one"] * 2


# Types


def test_declared_types_are_used_where_inference_knows_less():
    declared = "g (float[N] x) => (float[N] y) <float[N, 5] h> { h = custom.Strange(x)  y = custom.Other(h) }"
    first, second = read(declared).graph
    assert (first.output.type, second.output.type) == (tensor("f32", "N", 5), tensor("f32", "N"))


def test_the_fallback_gives_types_of_operators_from_onnx_s_own_inference():
    x = Value("x", tensor("f32", "N", 4, 6))
    shape = load_constant(np.asarray([0, 24], np.int64))
    node = Node("Reshape", [x, shape])
    found = fallback(node)
    assert found is not None
    assert found[0] == tensor("f32", "N", 24)


def test_the_fallback_never_raises():
    x = Value("x", tensor("f32", "N"))
    for node in (
        Node("Strange", [x]),
        Node("Relu", []),
        Node("Conv", [x, x], {"kernel_shape": (0,)}),
        Node("Cast", [x], {"to": 1000}),
        Node("Strange", [x], domain="custom"),
    ):
        found = fallback(node)
        assert found is None or len(found) == 1


def load_constant(array: np.ndarray) -> Value:
    graph = helper.make_graph([], "g", [], [onnx.ValueInfoProto(name="w")], [numpy_helper.from_array(array, "w")])
    return load(helper.make_model(graph)).graph.outputs[0]
