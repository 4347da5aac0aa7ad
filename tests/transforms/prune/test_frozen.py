"""What no rule covers stays as it is, and the report says which operator forbids it, where and why."""

from __future__ import annotations

import pytest
from tersor.ir import structural_hash
from tersor.transforms.base import Context, Decision, Outcome
from tersor.transforms.prune import Prune
from tersor.transforms.prune.analysis import analyse
from tersor.transforms.prune.prepare import prepare


def run(model, **options: object) -> Outcome:
    return Prune(**options).run(model, Context())  # pyright: ignore[reportArgumentType]


def stem(outcome: Outcome) -> Decision:
    """The decision on the first layer."""
    return outcome.decisions[0]


def network(body: str, constants: str = "", shape: str = "N,3,8,8") -> str:
    return f"""graph(%x: f32[{shape}]) -> (y) {{
      @stem : f32[8,3,1,1] = random(1)
      {constants}
      %a = Conv(%x, @stem)
      {body}
      return %y
    }}"""


HEAD = "@head : f32[5,8,1,1] = random(9)"
FORBIDDEN = {
    "the output of the graph": ("%y = Relu(%a)", "", "it is the output 'y'"),
    "a sum over neighbouring channels": (
        "%b = LRN(%a) {size=3} %y = ReduceMax(%b, i64[1]{1})",
        "",
        "sums over neighbouring channels",
    ),
    "an unknown operator": (
        "%b = com.acme::Magic(%a) : f32[N,8,8,8] %y = Conv(%b, @head)",
        HEAD,
        "Magic has no axis rule",
    ),
    "a softmax over channels": (
        "%b = Softmax(%a) {axis=1} %y = Conv(%b, @head)",
        HEAD,
        "statistics run over this axis",
    ),
    "a mean over channels": ("%y = ReduceMean(%a, i64[1]{1})", "", "it reduces over this axis"),
    "a maximum over channels": ("%y = ReduceMax(%a, i64[1]{1})", "", "it reduces over this axis"),
    "a sum over channels that are not zero": (
        "%b = Sigmoid(%a) %y = ReduceSum(%b, i64[1]{1})",
        "",
        "it reduces over this axis",
    ),
    "positions of channels": ("%y = ArgMax(%a) {axis=1}", "", "it gives positions along this axis"),
    "sorting channels": (
        "%b, %i = TopK(%a, i64[1]{8}) {axis=1} %y = Conv(%b, @head)",
        HEAD,
        "it sorts along this axis",
    ),
    "a strided slice of channels": (
        "%b = Slice(%a, i64[1]{0}, i64[1]{8}, i64[1]{1}, i64[1]{3}) %y = Conv(%b, @head)",
        "@head : f32[5,3,1,1] = random(9)",
        "it takes entries of this axis at distances of 3",
    ),
    "frequencies over channels": (
        "%u = Unsqueeze(%a, i64[1]{4}) %f = DFT(%u, _, i64[]{1}) %r = Gather(%f, i64[]{0}) {axis=4} "
        "%y = Conv(%r, @head)",
        HEAD,
        "its frequencies are made of all of this axis",
    ),
    "reflection of channels": (
        '%b = Pad(%a, i64[8]{0,1,0,0,0,1,0,0}) {mode="reflect"} %y = Conv(%b, @head)',
        "@head : f32[5,10,1,1] = random(9)",
        "it is padded along this axis",
    ),
    "indices of a pool": (
        "%b, %i = MaxPool(%a) {kernel_shape=[2,2]} %j = Cast(%i) {to=1} %c = Add(%b, %j) %y = Conv(%c, @head)",
        HEAD,
        "count through all channels",
    ),
    "control flow": (
        """%t = ReduceMax(%x) {keepdims=0} %q = Greater(%t, f32[]{0.0}) %b = If(%q, %a) captures 1 regions {
          then_branch = graph(%p: f32[N,8,8,8]) -> (r) { %r = Relu(%p) return %r }
          else_branch = graph(%p: f32[N,8,8,8]) -> (r) { return %p }
        } %y = Conv(%b, @head)""",
        HEAD,
        "If is control flow",
    ),
    "a size that is read": (
        "%n = Size(%a) %m = Cast(%n) {to=1} %b = Div(%a, %m) %y = Conv(%b, @head)",
        HEAD,
        "its size is read at run time",
    ),
    "a product of two tensors that are not zero where they are masked": (
        "%b = Sigmoid(%a) %c = Reshape(%b, i64[3]{0,8,64}) %d = Transpose(%c) {perm=[0,2,1]} %y = MatMul(%d, %c)",
        "",
        "removed channels of neither are zero",
    ),
    "division by a masked tensor": (
        "%b = Relu(%a) %c = Div(%a, %b) %y = Conv(%c, @head)",
        HEAD,
        "removed channels of its divisor would be zero",
    ),
    "a logarithm of masked channels": ("%b = Relu(%a) %c = Log(%b) %y = Conv(%c, @head)", HEAD, "is not finite"),
    "normalisation of all channels as one group": (
        "%b = GroupNormalization(%a, @g, @g) {num_groups=1} %y = Conv(%b, @head)",
        HEAD + " @g : f32[8] = random(3)",
        "statistics run over this axis",
    ),
    "layer normalisation": (
        "%b = Transpose(%a) {perm=[0,2,3,1]} %y = LayerNormalization(%b, @g)",
        "@g : f32[8] = random(3)",
        "statistics run over this axis",
    ),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_frozen(model, case: str):
    body, constants, why = FORBIDDEN[case]
    made = model(network(body, constants))
    outcome = run(made)
    assert stem(outcome).decision == "kept"
    assert why in stem(outcome).reason


def test_the_reason_names_the_operator_that_forbids_and_its_place(model):
    made = model(network("%b = Softmax(%a) {axis=1} : f32[N,8,8,8]   # attn @ net.py:9\n %y = Relu(%b)"))
    assert stem(run(made)).reason == "its statistics run over this axis [Softmax %b (attn (net.py:9))]"


def test_where_nothing_can_go_the_model_stays_and_the_report_says_so(model):
    made = model(network("%y = Relu(%a)"))
    before = structural_hash(made.graph)
    outcome = run(made)
    assert structural_hash(made.graph) == before
    assert outcome.notes == ["no channel was removed"]
    assert outcome.reference is None


def test_an_input_whose_default_the_caller_may_replace_is_no_weight(model):
    made = model("""graph(%x: f32[N,3,4,4], %w: f32[8,3,1,1] = random(1)) -> (y) {
      @v : f32[5,8,1,1] = random(2)
      %a = Conv(%x, %w)
      %y = Conv(%a, @v)
      return %y
    }""")
    assert "it is the input 'w', whose default the caller may replace" in stem(run(made)).reason


def test_integers_that_become_a_shape_are_not_channels(model):
    """The sizes of the last Reshape are joined at run time from a constant: cutting that constant would be a wrong
    shape.
    """
    made = model("""graph(%x: f32[N,T,6]) -> (y) {
      @w : f32[6,64] = random(1)
      %s = Shape(%x) {start=0, end=2}
      %t = Concat(%s, i64[2]{8,8}) {axis=0}
      %h = MatMul(%x, @w)
      %y = Reshape(%h, %t)
      return %y
    }""")
    assert stem(run(made)).decision == "kept"


def test_an_operand_that_a_row_does_not_look_at_is_frozen(model):
    """The indices of the last Gather have an axis for each channel of the stem; its rule reads only their number of
    axes.
    """
    made = model(network(
        """%b = Reshape(%a, i64[3]{0,8,64}) %i = ArgMax(%b) {axis=2, keepdims=0} %e = Gather(@table, %i)
           %y = ReduceMax(%e, i64[1]{1})""", "@table : f32[64,4] = random(3)"))  # fmt: skip
    assert stem(run(made)).decision == "kept"
    assert "Gather needs all of this operand" in stem(run(made)).reason


def test_symbolic_axes_are_frozen_without_allocating(model):
    made = model("graph(%x: f32[N,T,1000000]) -> (y) { %y = Relu(%x) return %y }")
    prepare(made.graph)
    axes = analyse(made.graph)
    assert axes.atoms.count < 10
    assert all(ids.ndim == 0 for ids in axes.of(made.graph.outputs[0]))
