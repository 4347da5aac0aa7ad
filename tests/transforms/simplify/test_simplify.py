"""The pass simplify as a whole: folding with a budget, shapes, common and dead nodes, levels."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tersor.ir import Model, UsageError, parse, skeleton, structural_hash
from tersor.transforms.base import Context
from tersor.transforms.manager import run_passes
from tersor.transforms.simplify import PROMISES, Simplify


def simplified(model: Model, **options: object) -> Model:
    run_passes(model, [Simplify(**options)], Context())  # pyright: ignore[reportArgumentType]
    return model


def becomes(graph, model, before: str, after: str, **options: object) -> None:
    assert skeleton(simplified(model(before), **options).graph) == skeleton(graph(after))


def test_constants_are_folded(graph, model):
    becomes(
        graph, model,
        """graph(%x: f32[2,3]) -> (y) {
          @a : f32[3] = [1,2,3]
          %0 = Add(@a, f32[]{1.0}) : f32[3]
          %1 = Sin(%0) : f32[3]
          %2 = Add(%x, %1) : f32[2,3]
          return %2
        }""",
        "graph(%x: f32[2,3]) -> (y) { @a : f32[3] %2 = Add(%x, @a) : f32[2,3] return %2 }",
    )  # fmt: skip


def test_a_flattening_computed_from_shapes_becomes_a_constant_reshape(graph, model):
    becomes(
        graph, model,
        """graph(%x: f32[N,4,6]) -> (y) {
          %s = Shape(%x) : i64[3]
          %n = Gather(%s, i64[1]{0}) : i64[1]
          %t = Concat(%n, i64[1]{24}) {axis=0} : i64[2]
          %r = Reshape(%x, %t) : f32[N,24]
          return %r
        }""",
        "graph(%x: f32[N,4,6]) -> (y) { %r = Reshape(%x, i64[2]{-1,24}) : f32[N,24] return %r }",
    )  # fmt: skip


def test_shapes_that_do_not_depend_on_inputs_sizes_are_constants(graph, model):
    becomes(
        graph, model,
        """graph(%x: f32[N,4,6]) -> (y) {
          %s = Shape(%x) {start=1} : i64[2]
          %c = Cast(%s) {to=1} : f32[2]
          %p = ReduceProd(%c) {keepdims=0} : f32[]
          %r = Div(%x, %p) : f32[N,4,6]
          return %r
        }""",
        "graph(%x: f32[N,4,6]) -> (y) { %r = Div(%x, f32[]{24.0}) : f32[N,4,6] return %r }",
    )  # fmt: skip


def test_equal_nodes_are_merged_and_unused_ones_erased(graph, model):
    becomes(
        graph, model,
        """graph(%x: f32[2]) -> (y) {
          %a = Exp(%x) : f32[2]
          %b = Exp(%x) : f32[2]
          %c = Cos(%a) : f32[2]
          %d = Cos(%b) : f32[2]
          %e = Mul(%c, %d) : f32[2]
          %unused = Sin(%e) : f32[2]
          return %e
        }""",
        "graph(%x: f32[2]) -> (y) { %a = Exp(%x) : f32[2] %c = Cos(%a) : f32[2] %e = Mul(%c, %c) : f32[2] return %e }",
    )  # fmt: skip


def test_random_numbers_are_neither_merged_nor_folded(model):
    text = """graph(%x: f32[2]) -> (y) {
      %a = RandomNormal() {shape=[2]} : f32[2]
      %b = RandomNormal() {shape=[2]} : f32[2]
      %c = Add(%a, %b) : f32[2]
      %d = Sub(%c, %c) : f32[2]
      %e = Add(%x, %d) : f32[2]
      return %e
    }"""
    assert [n.op for n in simplified(model(text)).graph].count("RandomNormal") == 2


def test_nodes_of_unknown_operators_stay_even_when_unused(model):
    subject = model(
        "graph(%x: f32[2]) -> (y) { %a = my.ops::Log(%x) : f32[2] %b = my.ops::Log(%x) : f32[2] return %x }"
    )
    Simplify().run(subject, Context())
    assert len(subject.graph) == 2


def test_a_quantized_weight_stays_quantized(model):
    text = """graph(%x: f32[1,2]) -> (y) {
      @w : i8[2,2] = [1,2,3,4]
      %d = DequantizeLinear(@w, f32[]{0.5}, i8[]{0}) : f32[2,2]
      %y = MatMul(%x, %d) : f32[1,2]
      return %y
    }"""
    assert [n.op for n in simplified(model(text)).graph] == ["DequantizeLinear", "MatMul"]


def test_a_node_whose_result_would_be_large_is_left(model):
    text = "graph(%x: f32[1]) -> (y) { %0 = ConstantOfShape(i64[2]{1000,1000}) : f32[1000,1000] %1 = Mul(%x, %0) : f32[1000,1000] return %1 }"
    assert [n.op for n in simplified(model(text)).graph] == ["ConstantOfShape", "Mul"]
    assert [n.op for n in simplified(model(text), budget=8_000_000).graph] == ["Mul"]


def test_a_bomb_is_not_evaluated():
    """A terabyte asked for by a few bytes: refused to fold under a limit on memory, and in no time."""
    code = """
import resource
from tersor.ir import Model, parse
from tersor.ir.inference import infer
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify
graph = parse("graph() -> (y) { %0 = ConstantOfShape(i64[1]{1000000000000}) : f32[1000000000000] %1 = Neg(%0) : f32[1000000000000] return %1 }")
infer(graph)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
Simplify().run(Model(graph), Context())
print(len(graph))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr


def test_regions_are_simplified_too(model):
    text = """graph(%x: f32[2], %c: bool[]) -> (y) {
      %i = If(%c, %x) captures 1 : f32[2] regions {
        then_branch = graph(%p: f32[2]) -> (r) { %q = Identity(%p) : f32[2] %s = Add(f32[]{1.0}, f32[]{2.0}) : f32[] %t = Mul(%q, %s) : f32[2] return %t }
        else_branch = graph(%p: f32[2]) -> (r) { %q = Sin(%p) : f32[2] %u = Sin(%p) : f32[2] %t = Add(%q, %u) : f32[2] return %t }
      }
      return %i
    }"""
    (branch,) = simplified(model(text)).graph
    assert [n.op for n in branch.regions["then_branch"]] == ["Mul"]
    assert [n.op for n in branch.regions["else_branch"]] == ["Sin", "Add"]


CONV_BN = """graph(%x: f32[N,3,8,8]) -> (y) {
  @w : f32[4,3,3,3] = random(1)
  @g : f32[4] = random(2)
  @v : f32[4] = [1,2,3,4]
  %a = Conv(%x, @w) : f32[N,4,6,6]   # block.conv
  %b = BatchNormalization(%a, @g, @g, @g, @v) : f32[N,4,6,6]   # block.bn
  %c = Identity(%b) : f32[N,4,6,6]
  return %c
}"""


def test_level_train_keeps_parameters_apart(model):
    assert [n.op for n in simplified(model(CONV_BN), level="train").graph] == ["Conv", "BatchNormalization"]


def test_level_deploy_folds_them_and_remembers_where_they_came_from(model):
    (conv,) = simplified(model(CONV_BN)).graph
    assert conv.loc.scope == "block.conv"
    assert {leaf.scope for leaf in conv.loc.fused} == {"block.conv", "block.bn"}
    assert conv.operand(1).name == "w"


def test_simplifying_again_changes_nothing(model):
    subject = simplified(model(CONV_BN))
    before = structural_hash(subject.graph)
    assert Simplify().run(subject, Context()).changed == 0
    assert structural_hash(subject.graph) == before


def test_statistics_say_which_rules_fired(model):
    (step,) = run_passes(model(CONV_BN), [Simplify()], Context())
    hits = {name: row.hits for name, row in step.outcome.rules.items() if row.hits}
    assert hits == {"fold_batchnorm_into_linear": 1, "drop_identity": 1}


@pytest.mark.parametrize("options", [{"level": "fast"}, {"budget": -1}])
def test_options_that_do_not_exist_are_refused(options: dict[str, object]):
    with pytest.raises(UsageError):
        Simplify(**options)  # pyright: ignore[reportArgumentType]


def test_an_input_with_a_default_is_no_constant(model):
    text = "graph(%x: f32[2], %k: f32[] = [2.0]) -> (y) { %0 = Exp(%k) : f32[] %1 = Mul(%x, %0) : f32[2] return %1 }"
    assert [n.op for n in simplified(model(text)).graph] == ["Exp", "Mul"]


def doubling(rows: str, count: int) -> str:
    """A graph of `count` steps over a constant of 64 kB; `rows` makes %a<j> from %a<i>."""
    steps = "\n".join(rows.format(i=i, j=i + 1) for i in range(count)).replace("%a0)", "@w)").replace("%a0,", "@w,")
    return f"graph() -> (y) {{ @w : f32[16384] = random(1)\n{steps}\n%y = ReduceMax(%a{count}) {{keepdims=0}} : ?\nreturn %y }}"


@pytest.mark.parametrize(
    "rows",
    [
        "%b{i} = Neg(%a{i}) : ?\n%c{i} = Abs(%a{i}) : ?\n%a{j} = Concat(%b{i}, %c{i}) {{axis=0}} : ?",
        "%a{j} = Add(%a{i}, %a{i}) : ?",
    ],
    ids=["size", "work"],
)
def test_folding_stays_bounded_where_every_node_doubles_what_it_would_take(rows: str):
    graph = parse(doubling(rows, 40))
    Simplify().run(Model(graph), Context())
    held = [v.tensor for v in graph.constants()]
    assert sum(t.nbytes for t in held) < 32 << 20
    assert all(t.numpy().nbytes == t.nbytes for t in held)


def test_a_promise_that_nothing_depends_on_is_refused():
    with pytest.raises(UsageError, match="nothing depends on a promise 'no-rain'"):
        Simplify(assume="no-rain")


def test_rules_that_rest_on_a_promise_come_first_and_only_when_it_is_given():
    promised = PROMISES["no-fully-masked-rows"]
    assert not set(promised) & set(Simplify().chosen)
    assert Simplify(assume="no-fully-masked-rows").chosen[: len(promised)] == promised
    assert Simplify(assume=("no-fully-masked-rows", "no-zero-vectors")).promises == (
        "no-fully-masked-rows",
        "no-zero-vectors",
    )
