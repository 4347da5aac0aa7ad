"""Each invariant of the IR is checked, and the message shows the graph around the culprit."""

import numpy as np
import pytest
from tersor.ir import Graph, Node, Value, VerificationError, constant, parse, tensor, verify

TEXT = """
graph @g(%x: f32[2,3], %c: bool[]) -> (y) {
  %a = Relu(%x) : f32[2,3]
  %b = LeakyRelu(%a) {alpha=0.5} : f32[2,3]
  %i = If(%c, %b) captures 1 : f32[2,3] regions {
    then_branch = graph(%p: f32[2,3]) -> (r) { %q = Relu(%p) : f32[2,3] return %q }
    else_branch = graph(%p: f32[2,3]) -> (r) { return %p }
  }
  return %i
}
"""


def broken(graph: Graph, invariant: int) -> str:
    with pytest.raises(VerificationError, match=f"invariant {invariant}") as caught:
        verify(graph, after="a pass")
    assert "after a pass" in caught.value.what
    return caught.value.why


def test_a_good_graph_passes():
    verify(parse(TEXT))


def test_1_a_value_is_defined_where_it_says():
    graph = parse(TEXT)
    next(iter(graph)).output.index = 1
    assert "does not say" in broken(graph, 1)


def test_1_a_value_without_a_definition():
    graph = parse(TEXT)
    next(iter(graph)).set_input(0, Value("ghost", tensor("f32", 2, 3)))
    assert "neither defined nor a constant" in broken(graph, 1)


def test_2_users_count_uses():
    graph = parse(TEXT)
    relu = next(iter(graph))
    relu.output.users[next(iter(relu.output.users))] = 5
    broken(graph, 2)


def test_3_definitions_come_first():
    graph = parse(TEXT)
    relu, leaky, _ = graph
    relu.unlink()
    graph.insert(relu)
    message = broken(graph, 3)
    assert "before it is defined" in message
    assert "> %b" in message, "the culprit is marked in the graph around it"
    assert leaky.op in message


def test_4_regions_see_nothing_from_outside():
    graph = parse(TEXT)
    *_, branch = graph
    inner = next(iter(branch.regions["then_branch"]))
    inner.set_input(0, graph.inputs[0])
    assert "another graph" in broken(graph, 4)


def test_5_a_constant_has_its_tensors_type():
    graph = parse(TEXT)
    wrong = constant(np.zeros(3, np.float32))
    wrong.type = tensor("f32", 4)
    next(iter(graph)).set_input(0, wrong)
    broken(graph, 5)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({"beta": 1.0}, "no attribute 'beta'"), ({"alpha": 1}, "is INT, expected FLOAT")],
)
def test_6_attributes_fit_the_schema(attrs: dict[str, float], message: str):
    graph = parse(TEXT)
    _, leaky, _ = graph
    leaky.attrs = dict(attrs)
    assert message in broken(graph, 6)


def test_6_arity_fits_the_schema():
    graph = parse(TEXT)
    x = graph.inputs[0]
    graph.insert(Node("Relu", [x, x], outputs=[Value("z", x.type)]))
    assert "2 operands" in broken(graph, 6)


def test_6_a_required_attribute_is_there():
    graph = parse(TEXT)
    x = graph.inputs[0]
    graph.insert(Node("Cast", [x], outputs=[Value("z", x.type)]))
    assert "'to' is missing" in broken(graph, 6)


def test_7_output_names_are_unique():
    graph = parse(TEXT)
    graph.set_outputs([graph.inputs[0], graph.inputs[0]], ["y", "y"])
    broken(graph, 7)


def test_4_a_branch_has_no_inputs_but_its_captures():
    graph = parse(TEXT)
    *_, branching = graph
    branching.regions["then_branch"].add_input("extra", tensor("f32", 2, 3))
    assert "branch 'then_branch' has 2 inputs" in broken(graph, 4)
