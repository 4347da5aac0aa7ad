"""Inference as a whole: what it believes, what it corrects, and how it is used after rewrites."""

from __future__ import annotations

import pytest
from tersor.ir import (
    ANY,
    Builder,
    Graph,
    InvalidModelError,
    Node,
    TensorType,
    Type,
    Value,
    constant,
    fresh,
    parse,
    parse_type,
    symbol,
    tensor,
    to_text,
)
from tersor.ir.inference import Inference, infer


def run(text: str) -> Graph:
    graph = parse(text)
    infer(graph)
    return graph


def last(graph: Graph) -> str:
    return str(graph.outputs[0].type)


# What is declared and what is inferred


def test_an_unknown_size_takes_the_declared_one() -> None:
    assert last(run("graph (%x: f32[N,3]) -> (y) { %y = NonZero(%x) : i64[2,K]\n return %y }")) == "i64[2,K]"


def test_a_named_size_is_not_replaced_by_a_fresh_one() -> None:
    graph = run("graph (%x: f32[?0,3]) -> (y) { %y = Relu(%x) : f32[batch,3]\n return %y }")
    assert last(graph) == "f32[batch,3]"


def test_a_number_is_not_replaced_by_a_fresh_symbol() -> None:
    assert last(run("graph (%x: f32[?0,3]) -> (y) { %y = Relu(%x) : f32[8,3]\n return %y }")) == "f32[8,3]"


def test_a_declared_fresh_symbol_stays_the_same_object() -> None:
    graph = parse("graph (%x: f32[N,3]) -> (y) { %y = NonZero(%x) : i64[2,?0]\n return %y }")
    before = graph.outputs[0].type
    infer(graph)
    assert graph.outputs[0].type == before


def test_a_wrong_declaration_of_an_inner_value_yields_to_the_rule() -> None:
    graph = run("graph (%x: f32[N,3]) -> (y) { %y = Relu(%x) : i64[8,5,7]\n return %y }")
    assert last(graph) == "f32[N,3]"


def test_a_number_that_was_baked_in_yields_to_the_symbol_that_the_rule_knows() -> None:
    graph = run("graph (%x: f32[N,3]) -> (y) { %y = Concat(%x, %x) {axis=0} : f32[2,3]\n return %y }")
    assert last(graph) == "f32[2*N,3]"


def test_an_operator_without_a_rule_keeps_its_types() -> None:
    graph = run('graph (%x: f32[N,3]) -> (y) { %y = "com.acme"::Thing(%x) : f32[N,7]\n %z = Relu(%y)\n return %z }')
    assert last(graph) == "f32[N,7]"


def test_an_operator_of_another_domain_is_not_taken_for_the_standard_one() -> None:
    graph = run('graph (%x: f32[N,3]) -> (y) { %y = "com.acme"::Relu(%x)\n return %y }')
    assert graph.outputs[0].type == ANY


def test_inferring_twice_changes_nothing() -> None:
    graph = run("""graph (%x: f32[N,3], %a: i64[1]) -> (y) {
      %n = NonZero(%x)
      %t = Transpose(%n)
      %s = Slice(%x, %a, i64[1]{5}, i64[1]{0})
      %c = Compress(%s, bool[3]{true,false,true}) {axis=1}
      %q = SequenceConstruct(%n, %t)
      %y = SequenceAt(%q, i64[]{0})
      return %y
    }""")
    before = [v.type for n in graph for v in n.outputs]
    infer(graph)
    assert [v.type for n in graph for v in n.outputs] == before


def test_an_operand_that_rests_on_a_declaration_is_no_reason_to_refuse_a_model() -> None:
    graph = run("""graph (%x: f32[N,3]) -> (y) {
      %u = "com.acme"::Thing(%x) : f32[N,4]
      %y = Add(%x, %u) : f32[N,3]
      %z = Relu(%y)
      return %z
    }""")
    assert last(graph) == "f32[N,3]"


def test_operands_that_follow_from_the_inputs_are() -> None:
    with pytest.raises(InvalidModelError, match="do not fit together"):
        run("graph (%x: f32[N,3], %u: f32[N,4]) -> (y) { %r = Relu(%u)\n %y = Add(%x, %r)\n return %y }")


def test_a_malformed_attribute_is_an_error_about_the_model() -> None:
    with pytest.raises(InvalidModelError, match="make no sense") as error:
        run("graph (%x: f32[N,3]) -> (y) { %y = Cast(%x) {to=999}\n return %y }")
    assert "999" in error.value.why


def test_sizes_that_grow_beyond_use_become_unknown() -> None:
    names = [f"a_rather_long_name_of_a_size_{i}" for i in range(12)]
    inputs = ", ".join(f"%x{i}: f32[{n}]" for i, n in enumerate(names))
    operands = ", ".join(f"%x{i}" for i in range(12))
    graph = run(f"graph ({inputs}) -> (y) {{ %y = Concat({operands}) {{axis=0}}\n return %y }}")
    assert last(graph).startswith("f32[?")


# The fallback


def test_the_fallback_answers_for_operators_without_a_rule() -> None:
    graph = parse('graph (%x: f32[N,3]) -> (y) { %y = "com.acme"::Thing(%x)\n %z = Relu(%y)\n return %z }')
    asked: list[str] = []

    def fallback(node: Node) -> list[Type]:
        asked.append(node.op)
        return [tensor("f16", "N", 7)]

    infer(graph, fallback)
    assert last(graph) == "f16[N,7]"
    assert asked == ["Thing"]


def test_unknown_sizes_from_the_fallback_do_not_replace_known_ones() -> None:
    graph = parse('graph (%x: f32[N,3]) -> (y) { %y = "com.acme"::Thing(%x) : f32[N,?0]\n return %y }')
    before = graph.outputs[0].type
    infer(graph, lambda node: [TensorType(before.dtype, (fresh(), fresh()))])  # type: ignore[union-attr]
    assert graph.outputs[0].type == before


def test_a_fallback_that_knows_nothing_changes_nothing() -> None:
    graph = parse('graph (%x: f32[N,3]) -> (y) { %y = "com.acme"::Thing(%x) : f32[N,?0]\n return %y }')
    before = to_text(graph)
    infer(graph, lambda node: None)
    assert to_text(graph) == before


# After changes

CHAIN = """graph (%x: f32[N,16]) -> (y) {
  @w : f32[16,8]
  @v : f32[8,4]
  %a = MatMul(%x, @w) : f32[N,8]
  %b = Relu(%a) : f32[N,8]
  %s = Shape(%b) : i64[2]
  %c = Reshape(%b, %s) : f32[N,8]
  %d = "com.acme"::Thing(%x) : f32[N,5]
  %e = MatMul(%c, @v) : f32[N,4]
  return %e, %d
}"""


def pruned() -> Graph:
    graph = parse(CHAIN.replace("(y)", "(y, d)"))
    for node in graph:
        if node.op == "MatMul":
            first = node.output.name == "a"
            shape = (16, 6) if first else (6, 4)
            node.set_input(1, Value("w", tensor("f32", *shape), const=placeholder(shape)))
    return graph


def placeholder(shape: tuple[int, ...]):
    from tersor.ir import DType, Placeholder

    return Placeholder(DType.F32, shape)


def test_refreshing_recomputes_every_type_that_a_change_reaches() -> None:
    graph = pruned()
    inference = Inference(graph, refresh=True).run()
    found = {v.name: str(v.type) for n in graph for v in n.outputs}
    assert found == {"a": "f32[N,6]", "b": "f32[N,6]", "s": "i64[2]", "c": "f32[N,6]", "d": "f32[N,5]", "e": "f32[N,4]"}
    (shape,) = (n.output for n in graph if n.op == "Shape")
    assert inference.contents_of(shape) == (symbol("N"), 6)


def test_refreshing_forgets_a_declared_size_that_depends_on_what_changed() -> None:
    graph = parse("""graph (%x: f32[N,16], %t: i64[2]) -> (y) {
      @w : f32[16,6]
      %a = MatMul(%x, @w) : f32[N,8]
      %y = Reshape(%a, %t) : f32[2,8]
      return %y
    }""")
    Inference(graph, refresh=True).run()
    assert 8 not in (graph.outputs[0].shape or ())
    assert graph.outputs[0].rank == 2


def test_refreshing_keeps_declared_sizes_that_nothing_changed() -> None:
    graph = parse("graph (%x: f32[N,16], %t: i64[2]) -> (y) { %y = Reshape(%x, %t) : f32[M,8]\n return %y }")
    Inference(graph, refresh=True).run()
    assert last(graph) == "f32[M,8]"


def test_a_new_node_is_inferred_as_it_is_built() -> None:
    graph = run("graph (%x: f32[N,3]) -> (y) { %y = Relu(%x)\n return %y }")
    inference = infer(graph)
    (relu,) = graph
    op = Builder(graph, relu, infer=inference.node)
    shape = op.Shape(graph.inputs[0])
    flat = op.Reshape(graph.inputs[0], op.Concat(op.Gather(shape, [0]), constant([3, 1]), axis=0))
    assert flat.type == parse_type("f32[N,3,1]")
    assert inference.contents_of(shape) == (symbol("N"), 3)


def test_elements_of_a_node_whose_operands_were_replaced_are_computed_anew() -> None:
    graph = run("graph (%x: f32[N,3], %z: f32[M,4]) -> (y) { %y = Shape(%x)\n return %y }")
    inference = infer(graph)
    (node,) = graph
    node.set_input(0, graph.inputs[1])
    inference.node(node)
    assert inference.contents_of(node.output) == (symbol("M"), 4)
