"""Why a rule fires or not: the failing part of the pattern, the reason of the rule, and the model left alone."""

from __future__ import annotations

import json

import pytest
import tersor
from tersor.driver.cli import main
from tersor.ir import UsageError, parse, structural_hash, to_text
from tersor.ir.rewrite import P, decline, rule

x, w, c = P.var("x"), P.const("w"), P.const("c")


@rule(P.MatMul(P.Mul(x, c), w).named("product"))
def scale_into_matmul(op, x, c, w, product):
    """For tests: a factor before a constant matrix."""
    if c.tensor.count != 1:
        return decline("the factor is not a single number")
    return op.MatMul(x, w * c.tensor.item())


@rule(P.Softmax(x, axis=-1))
def last_axis_only(op, x):
    return op.Softmax(x)


@rule("Reshape")
def looks_around(op, node):
    """Asks for everything that a rule may ask for."""
    made = op.Relu(node.operand(0))
    if made.rank != 2:
        return decline(f"the new node's rank is {made.rank}")
    if op.sizes(node.operand(1)) is None:
        return decline("the target is not known")
    return decline(f"in its graph: {op.graph is node.graph}; to {op.sizes(node.operand(1))}")


TEXT = """graph(%x: f32[N,8]) -> (y, z) {
  @w : f32[8,4] = random(1)
  %scaled = Mul(%x, f32[]{0.125}) : f32[N,8]   # block.scale @ net.py:7
  %first = MatMul(%scaled, @w) : f32[N,4]   # block.first @ net.py:8
  %second = MatMul(%scaled, @w) : f32[N,4]
  %soft = Softmax(%first) {axis=0} : f32[N,4]
  %shape = Shape(%x) : i64[2]
  %again = Reshape(%x, %shape) : f32[N,8]
  return %soft, %again
}"""


def model(text: str = TEXT) -> tersor.Model:
    return tersor.Model(parse(text))


def test_a_shared_interior_value_is_named_with_who_else_uses_it():
    answer = str(tersor.why(scale_into_matmul, model(), "first"))
    assert answer == (
        "scale_into_matmul does not match MatMul %first (block.first (net.py:8)): operand 0 of MatMul %first "
        "(block.first (net.py:8)): Mul %scaled (block.scale (net.py:7)) has other users: MatMul %second"
    )


def test_an_operand_of_another_kind_is_named_with_what_was_expected_and_found():
    text = TEXT.replace("MatMul(%scaled, @w) : f32[N,4]\n", "MatMul(%x, @w) : f32[N,4]\n")
    answer = tersor.why(scale_into_matmul, model(text), "second")
    assert answer.why == "operand 0 of MatMul %second: expected Mul, found the input %x: f32[N,8]"


def test_a_variable_that_must_be_a_constant_is_named():
    text = TEXT.replace("MatMul(%scaled, @w) : f32[N,4]\n", "MatMul(%scaled, %x) : f32[N,8]\n")
    answer = tersor.why(scale_into_matmul, model(text), "second")
    assert "'w' must be a constant, found the input %x" in answer.why or "has other users" in answer.why


def test_an_attribute_is_named_with_its_value_and_the_one_expected():
    assert tersor.why(last_axis_only, model(), "soft").why == "Softmax %soft has axis=0, expected -1"


def test_the_rules_own_reason_is_given():
    text = TEXT.replace("f32[]{0.125}", "@c").replace("@w :", "@c : f32[8] = random(2)\n  @w :", 1)
    text = text.replace("MatMul(%scaled, @w) : f32[N,4]\n", "Relu(%x) : f32[N,8]\n")
    answer = tersor.why(scale_into_matmul, model(text), "first")
    assert (answer.verdict, answer.why) == ("declines", "the factor is not a single number")


def test_a_rule_is_asked_with_types_sizes_and_the_graph_around_it():
    assert tersor.why(looks_around, model(), "again").why == "in its graph: True; to (N, 8)"


def test_a_rule_that_raises_is_an_answer_too():
    @rule("Softmax")
    def careless(op, node):
        return node.operand(5)

    answer = tersor.why(careless, model(), "soft")
    assert answer.verdict == "fails"
    assert "has no operand 5" in answer.why


def test_the_model_is_left_as_it_is():
    subject = model()
    before = to_text(subject.graph), structural_hash(subject.graph)
    users = [dict(v.users) for n in subject.graph for v in n.outputs]
    for each in (scale_into_matmul, last_axis_only, looks_around):
        tersor.why(each, subject)
    assert (to_text(subject.graph), structural_hash(subject.graph)) == before
    assert [dict(v.users) for n in subject.graph for v in n.outputs] == users


def test_rules_are_explained_inside_regions():
    text = """graph(%x: f32[2], %c: bool[]) -> (y) {
      %i = If(%c, %x) captures 1 : f32[2] regions {
        then_branch = graph(%p: f32[2]) -> (r) { %q = Softmax(%p) {axis=0} : f32[2] return %q }
        else_branch = graph(%p: f32[2]) -> (r) { return %p }
      }
      return %i
    }"""
    assert tersor.why(last_axis_only, model(text), "q").why == "Softmax %q has axis=0, expected -1"


def test_a_summary_counts_where_it_fires_and_why_it_does_not():
    summary = str(tersor.why(scale_into_matmul, model()))
    assert summary.startswith("scale_into_matmul: 2 nodes at which it can start (MatMul)")
    assert "2 x operand 0 of MatMul: Mul has other users: MatMul" in summary


def test_a_node_of_another_operator_says_where_the_rule_starts():
    assert tersor.why(last_axis_only, model(), "shape").why == "it starts at Softmax"


@pytest.mark.parametrize("name", ["block.first", "first", "Mat*", "firs*"])
def test_nodes_are_found_by_scope_value_name_operator_and_pattern(name: str):
    assert "MatMul %first" in str(tersor.why(scale_into_matmul, model(), name))


def test_unknown_names_are_errors_with_close_ones():
    with pytest.raises(UsageError, match="did you mean 'first'"):
        tersor.why(scale_into_matmul, model(), "frist")
    with pytest.raises(UsageError, match="did you mean 'merge_reshapes'"):
        tersor.why("merge_reshape", model())


def test_the_command_line_explains_one_node_and_the_whole_model(folder, capsys):
    network = str(folder / "net.onnx")
    assert main(["explain", "fold_batchnorm_into_linear", network, "--at", "BatchNormalization"]) == 0
    assert "fires at BatchNormalization" in capsys.readouterr().out
    assert main(["explain", "merge_relus", network, "--json"]) == 0
    assert {a["verdict"] for a in json.loads(capsys.readouterr().out)} == {"declines"}
    assert main(["explain", "merge_relu", network]) == 2
    assert "merge_relus" in capsys.readouterr().err


def test_the_command_line_lists_the_rules(capsys):
    assert main(["passes", "--rules", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["drop_identity"] == "Identity(x) is x."


def test_the_command_line_prints_statistics_graphs_and_bisects(folder, capsys):
    network = str(folder / "net.onnx")
    assert main(["simplify", network, "-o", str(folder / "s.onnx"), "--stats", "--print-after", "simplify"]) == 0
    shown = capsys.readouterr()
    assert "fold_batchnorm_into_linear" in shown.out
    assert "# after simplify" in shown.err
    assert main(["simplify", network, "-o", str(folder / "t.onnx"), "--bisect"]) == 0
    assert "no rewrite breaks" in capsys.readouterr().out
    assert not (folder / "t.onnx").exists()
    assert main(["simplify", network, "-o", str(folder / "t.onnx"), "--print-after", "prune"]) == 2
