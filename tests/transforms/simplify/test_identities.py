"""Operations that change nothing: for each rule what it removes, what it leaves and why, shared and output
interiors.
"""

import pytest
from tersor.ir.rewrite import Rule
from tersor.transforms.simplify.folding import control
from tersor.transforms.simplify.structure import identities


def one(body: str, inputs: str = "%x: f32[N,4,6]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ @w : f32[4,6] = random(1) {body} }}"


REMOVED: dict[str, tuple[Rule, str]] = {
    "identity": (identities.drop_identity, "%a = Identity(%x)"),
    "dropout": (identities.drop_dropout, "%a = Dropout(%x, f32[]{0.5})"),
    "dropout told not to train": (identities.drop_dropout, "%a = Dropout(%x, f32[]{0.5}, bool[]{false})"),
    "plus zero": (identities.drop_neutral_operand, "%a = Add(f32[]{0.0}, %x)"),
    "minus zero": (identities.drop_neutral_operand, "%a = Sub(%x, f32[1]{0.0})"),
    "times one": (identities.drop_neutral_operand, "%a = Mul(%x, f32[]{1.0})"),
    "divided by one": (identities.drop_neutral_operand, "%a = Div(%x, f32[]{1.0})"),
    "to the first power": (identities.drop_neutral_operand, "%a = Pow(%x, f32[]{1.0})"),
    "cast to its own type": (identities.drop_cast_to_same_type, "%a = Cast(%x) {to=1}"),
    "transpose that keeps the order": (identities.drop_identity_transpose, "%a = Transpose(%x) {perm=[0,1,2]}"),
    "reshape to its own shape": (identities.drop_shape_noop, "%a = Reshape(%x, i64[3]{0,0,0})"),
    "slice of everything": (identities.drop_shape_noop, "%a = Slice(%x, i64[1]{0}, i64[1]{9}, i64[1]{1})"),
    "expand to its own shape": (identities.drop_shape_noop, "%a = Expand(%x, i64[2]{4,6})"),
    "padding by nothing": (identities.drop_empty_pad, "%a = Pad(%x, i64[6]{0,0,0,0,0,0})"),
    "concatenation of one": (identities.drop_single_operand, "%a = Concat(%x) {axis=1}"),
}


@pytest.mark.parametrize("name", REMOVED)
def test_it_is_removed(check_rules, name: str):
    rule, body = REMOVED[name]
    check_rules([rule], one(f"{body} : f32[N,4,6] %b = Neg(%a) : f32[N,4,6] return %b"),
                one("%b = Neg(%x) : f32[N,4,6] return %b"), fired=1)  # fmt: skip


@pytest.mark.parametrize("name", REMOVED)
def test_it_is_removed_where_others_use_its_operand_and_its_result(check_rules, name: str):
    rule, body = REMOVED[name]
    before = one(f"{body} : f32[N,4,6] %b = Add(%a, %x) : f32[N,4,6] %c = Mul(%a, %b) : f32[N,4,6] return %c")
    check_rules([rule], before, one("%b = Add(%x, %x) : f32[N,4,6] %c = Mul(%x, %b) : f32[N,4,6] return %c"), fired=1)


@pytest.mark.parametrize("name", REMOVED)
def test_it_is_removed_where_its_result_is_an_output(check_rules, name: str):
    rule, body = REMOVED[name]
    check_rules([rule], one(f"%r = Neg(%x) : f32[N,4,6] {body.replace('%x', '%r')} : f32[N,4,6] return %a, %r", outputs="y, z"),
                one("%r = Neg(%x) : f32[N,4,6] return %r, %r", outputs="y, z"), fired=1)  # fmt: skip


LEFT: dict[str, tuple[Rule, str, str]] = {
    "dropout whose mask is used": (
        identities.drop_dropout, "%a, %m = Dropout(%x) : f32[N,4,6], bool[N,4,6] %b = Not(%m) : bool[N,4,6] return %b", "its mask is used"),
    "zero that broadcasts": (
        identities.drop_neutral_operand, "@z : f32[2,1,1,1] = [0,0] %a = Add(%x, @z) : f32[2,N,4,6] return %a", "it broadcasts or its shape is not known"),
    "zero minus x": (identities.drop_neutral_operand, "%a = Sub(f32[]{0.0}, %x) : f32[N,4,6] return %a", "no neutral operand"),
    "cast to another type": (identities.drop_cast_to_same_type, "%a = Cast(%x) {to=11} : f64[N,4,6] return %a", "it changes the element type"),
    "transpose": (identities.drop_identity_transpose, "%a = Transpose(%x) {perm=[1,0,2]} : f32[4,N,6] return %a", "it reorders axes"),
    "reshape": (identities.drop_shape_noop, "%a = Reshape(%x, i64[2]{-1,24}) : f32[N,24] return %a", "the shape changes or is not known"),
    "backward slice": (
        identities.drop_shape_noop, "%a = Slice(%x, i64[1]{-1}, i64[1]{-9}, i64[1]{1}, i64[1]{-1}) : f32[N,4,6] return %a", "it may run backwards"),
    "padding": (identities.drop_empty_pad, "%a = Pad(%x, i64[6]{0,0,1,0,0,1}) : f32[N,4,8] return %a", "it pads"),
    "concatenation of two": (identities.drop_single_operand, "%a = Concat(%x, %x) {axis=1} : f32[N,8,6] return %a", "it has several operands"),
    "relu of a difference": (
        identities.merge_relus, "%s = Sub(%x, @w) : f32[N,4,6] %a = Relu(%s) : f32[N,4,6] return %a", "its operand may be negative"),
    "reshape that copies sizes": (
        identities.merge_reshapes, "%r = Reshape(%x, i64[2]{-1,24}) : f32[N,24] %a = Reshape(%r, i64[3]{0,6,4}) : f32[N,6,4] return %a",
        "the second copies a size from its operand"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rule, body, reason = LEFT[name]
    check_rules([rule], one(body), None, fired=0, declined=[reason])


def test_dropout_that_may_train_is_left(check_rules):
    text = one("%a = Dropout(%x, f32[]{0.0}, %t) : f32[N,4,6] return %a", inputs="%x: f32[N,4,6], %t: bool[]")
    check_rules([identities.drop_dropout], text, None, declined=["training_mode may be true"])


def test_two_reshapes_are_one(check_rules):
    body = "%a = Reshape(%x, i64[2]{-1,24}) : f32[N,24] %b = Reshape(%a, i64[3]{-1,6,4}) : f32[N,6,4] return %b"
    check_rules(
        [identities.merge_reshapes], one(body), one("%b = Reshape(%x, i64[3]{-1,6,4}) : f32[N,6,4] return %b"), fired=1
    )


@pytest.mark.parametrize("rest", ["%c = Neg(%a) : f32[N,24] return %b, %c", "return %b, %a"])
def test_a_reshape_that_others_need_is_not_merged(check_rules, rest: str):
    body = "%a = Reshape(%x, i64[2]{-1,24}) : f32[N,24] %b = Reshape(%a, i64[3]{-1,6,4}) : f32[N,6,4] "
    check_rules([identities.merge_reshapes], one(body + rest, outputs="y, z"), None, fired=0)


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Softmax", "HardSigmoid"])
def test_relu_of_what_is_never_negative_is_removed(check_rules, op: str):
    body = f"%a = {op}(%x) : f32[N,4,6] %b = Relu(%a) : f32[N,4,6] return %b, %a"
    check_rules(
        [identities.merge_relus],
        one(body, outputs="y, z"),
        one(f"%a = {op}(%x) : f32[N,4,6] return %a, %a", outputs="y, z"),
        fired=None,
    )


BRANCH = """graph(%x: f32[2], %c: bool[]) -> (y) {{
  %i = If({condition}, %x) captures 1 : f32[2] regions {{
    then_branch = graph(%p: f32[2]) -> (r) {{ %q = Neg(%p) : f32[2] return %q }}
    else_branch = graph(%p: f32[2]) -> (r) {{ return %p }}
  }}
  %o = Exp(%i) : f32[2]
  return %o
}}"""


@pytest.mark.parametrize(
    ("condition", "after"), [("true", "%q = Neg(%x) : f32[2] %o = Exp(%q)"), ("false", "%o = Exp(%x)")]
)
def test_if_on_a_constant_is_its_branch(check_rules, condition: str, after: str):
    expected = f"graph(%x: f32[2], %c: bool[]) -> (y) {{ {after} : f32[2] return %o }}"
    check_rules([control.inline_decided_branch], BRANCH.format(condition=f"bool[]{{{condition}}}"), expected, fired=1)


def test_if_on_an_input_stays(check_rules):
    check_rules(
        [control.inline_decided_branch],
        BRANCH.format(condition="%c"),
        None,
        declined=["its condition is not a constant"],
    )


def test_if_on_a_constant_is_inlined_where_its_result_is_shared_and_an_output(check_rules):
    before = (
        BRANCH.format(condition="bool[]{true}").replace("-> (y)", "-> (y, z)").replace("return %o", "return %o, %i")
    )
    after = "graph(%x: f32[2], %c: bool[]) -> (y, z) { %q = Neg(%x) : f32[2] %o = Exp(%q) : f32[2] return %o, %q }"
    check_rules([control.inline_decided_branch], before, after, fired=1)
