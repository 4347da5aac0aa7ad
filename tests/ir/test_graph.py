"""The graph keeps its def-use chains exact through every operation."""

import numpy as np
import pytest
from tersor.ir import Graph, Model, VerificationError, constant, parse, structural_hash, tensor, verify

TWO_STEPS = """
graph @g(%x: f32[N,4]) -> (y) {
  %a = Relu(%x) : f32[N,4]
  %b = Add(%a, %a) : f32[N,4]
  return %b
}
"""


def nodes(graph: Graph) -> list[str]:
    return [node.op for node in graph]


def test_a_value_counts_each_use_of_each_user():
    graph = parse(TWO_STEPS)
    relu, add = graph
    assert relu.output.users == {add: 2}
    assert add.output.users == {graph.exit: 1}


def test_replacing_a_value_moves_every_use_also_the_graph_output():
    graph = parse(TWO_STEPS)
    relu, add = graph
    add.output.replace_by(relu.output)
    assert graph.outputs == (relu.output,)
    assert relu.output.users == {add: 2, graph.exit: 1}


def test_erasing_a_node_that_is_used_is_refused():
    relu, _ = parse(TWO_STEPS)
    with pytest.raises(VerificationError, match="cannot be erased"):
        relu.erase()


def test_erasing_nodes_during_iteration_visits_the_rest():
    graph = parse(TWO_STEPS)
    graph.outputs = graph.inputs
    seen = []
    for node in reversed(graph):
        seen.append(node.op)
        node.erase()
    assert seen == ["Add", "Relu"]
    assert len(graph) == 0
    assert not graph.inputs[0].users.keys() - {graph.exit}


def test_setting_one_operand_keeps_the_other_uses():
    graph = parse(TWO_STEPS)
    relu, add = graph
    add.set_input(1, graph.inputs[0])
    assert relu.output.users == {add: 1}
    assert graph.inputs[0].users == {relu: 1, add: 1}
    verify(graph)


def test_sorting_puts_definitions_first_and_finds_cycles():
    graph = parse(TWO_STEPS)
    relu, add = graph
    relu.unlink()
    graph.insert(relu)
    assert not graph.is_sorted()
    graph.sort()
    assert nodes(graph) == ["Relu", "Add"]
    relu.set_input(0, add.output)
    with pytest.raises(VerificationError, match="cycle"):
        graph.sort()


def test_a_clone_is_independent_and_shares_tensors():
    graph = parse(TWO_STEPS.replace("Add(%a, %a)", "Add(%a, f32[]{2.0})"))
    copy = graph.clone()
    assert structural_hash(copy) == structural_hash(graph)
    assert copy.constants()[0].tensor is graph.constants()[0].tensor
    next(iter(copy)).attrs["alpha"] = 1.0
    assert not next(iter(graph)).attrs


def test_the_hash_does_not_depend_on_the_order_of_captures_nor_on_an_identity_that_is_only_yielded():
    one = parse("""
      graph(%c: bool[], %a: f32[3], %b: f32[3]) -> (y) {
        %y = If(%c, %a, %b) captures 2 : f32[3] regions {
          then_branch = graph(%p: f32[3], %q: f32[3]) -> (t) { %t = Sub(%p, %q) : f32[3] return %t }
          else_branch = graph(%p: f32[3], %q: f32[3]) -> (e) { return %p }
        }
        return %y }""")
    other = parse("""
      graph(%c: bool[], %a: f32[3], %b: f32[3]) -> (y) {
        %y = If(%c, %b, %a) captures 2 : f32[3] regions {
          then_branch = graph(%q: f32[3], %p: f32[3]) -> (t) { %t = Sub(%p, %q) : f32[3] return %t }
          else_branch = graph(%q: f32[3], %p: f32[3]) -> (e) { %e = Identity(%p) : f32[3] return %e }
        }
        return %y }""")
    assert structural_hash(one) == structural_hash(other)
    other.entry.next.set_inputs([other.inputs[0], other.inputs[1], other.inputs[2]])
    assert structural_hash(one) != structural_hash(other)


def test_restoring_a_snapshot_undoes_a_pass_and_can_be_done_again():
    model = Model(parse(TWO_STEPS))
    snapshot = model.clone()
    before = structural_hash(model.graph)
    for _ in range(2):
        model.graph.outputs = model.graph.inputs
        model.restore(snapshot)
        assert structural_hash(model.graph) == before
        verify(model.graph)


def test_arithmetic_between_constants_is_lazy_and_rounded_once():
    a, b = constant(np.float32([1, 2, 3]), "a"), constant(np.float32([4, 5, 6]), "b")
    made = (a * b + 1.0) / a
    assert made.name == "a"
    np.testing.assert_array_equal(
        made.tensor.numpy(), ((np.float64([4, 10, 18]) + 1) / np.float64([1, 2, 3])).astype(np.float32)
    )


def test_arithmetic_on_a_computed_value_is_refused():
    graph = parse(TWO_STEPS)
    with pytest.raises(ValueError, match="not a constant"):
        graph.inputs[0] * 2.0


def test_missing_attributes_have_the_schemas_default():
    graph = Graph("g")
    x = graph.add_input("x", tensor("f32", 1, 2, 3, 3))
    node = graph.add("LeakyRelu", [x], types=[x.type])
    assert node.attr("alpha") == pytest.approx(0.01)
    assert node.float("alpha") == node.attr("alpha")
    assert node.attr("beta") is None
    with pytest.raises(ValueError, match="attribute 'beta' is None"):
        node.float("beta")


def test_networkx_sees_the_dataflow():
    view = parse(TWO_STEPS).to_networkx()
    assert [n.op for n in view.nodes] == ["<entry>", "Relu", "Add", "<exit>"]
    assert view.number_of_edges() == 3


def test_freezing_defaults_makes_constants_of_overridable_inputs():
    graph = parse("graph(%k: f32[2] = [1,2], %x: f32[2]) -> (y, z) { %a = Add(%x, %k) : f32[2] return %a, %k }")
    assert graph.freeze_defaults() == 1
    verify(graph)
    assert [v.name for v in graph.inputs] == ["x"]
    assert [v.name for v in graph.constants()] == ["k"]
    assert graph.freeze_defaults() == 0
