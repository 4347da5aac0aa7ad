"""Attention in every form that exporters write: for each what becomes of it, what is left and why, and shared interiors."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner, ReferenceRunner, synthesize
from tersor.ir import Graph, Model, parse, skeleton
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.raising.attention import raise_attention, raise_attention_as_promised
from tersor.transforms.simplify.raising.masks import hide_rows_in_mask, soften_mask, widen_mask

Q, K, V = "%q: f32[B,2,S,8]", "%k: f32[B,2,T,8]", "%v: f32[B,2,T,8]"
LOWEST = "f32[]{-3.4028235e+38}"


def graph(body: str, *more: str, outputs: str = "y", operands: tuple[str, ...] = (Q, K, V)) -> str:
    return f"graph({', '.join((*operands, *more))}) -> ({outputs}) {{ {body} }}"


def parsed(text: str) -> Graph:
    made = parse(text)
    infer(made)
    return made


def written(scores: str = "%s", between: str = "", guard: bool = False, values: str = "%v", result: str = "%y") -> str:
    """The usual form: a scaled product, what happens to the scores, a softmax, and the product with the values."""
    guarded = """%n = IsNaN(%p) : bool[B,2,S,T] %g = Where(%n, f32[]{0.0}, %p) : f32[B,2,S,T]""" if guard else ""
    return f"""
        %t = Transpose(%k) {{perm=[0,1,3,2]}} : f32[B,2,8,T] %d = MatMul(%q, %t) : f32[B,2,S,T]
        %s = Div(%d, f32[]{{2.828427}}) : f32[B,2,S,T] {between}
        %p = Softmax({scores}) {{axis=-1}} : f32[B,2,S,T] {guarded}
        {result} = MatMul({"%g" if guard else "%p"}, {values}) : f32[B,2,S,8]"""


def attention(mask: str = "", before: str = "", attrs: str = "scale=0.35355338") -> str:
    operands = f"%q, %k, %v{', ' + mask if mask else ''}"
    return f"{before} %y = Attention({operands}) {{{attrs}}} : f32[B,2,S,8] return %y"


SCALES = {
    "quotient of the scores": written() + " return %y",
    "product of the scores": written().replace("Div(%d, f32[]{2.828427})", "Mul(f32[1]{0.35355338}, %d)")
    + " return %y",
    "roots on queries and keys": """
        %t = Transpose(%k) {perm=[0,1,3,2]} : f32[B,2,8,T]
        %a = Mul(%q, f32[]{0.59460354}) : f32[B,2,S,8] %b = Mul(%t, f32[]{0.59460354}) : f32[B,2,8,T]
        %s = MatMul(%a, %b) : f32[B,2,S,T] %p = Softmax(%s) {axis=-1} : f32[B,2,S,T]
        %y = MatMul(%p, %v) : f32[B,2,S,8] return %y""",
    "softmax counted from the front": written().replace("axis=-1", "axis=3") + " return %y",
}


@pytest.mark.parametrize("name", SCALES)
def test_factors_become_the_scale(check_rules, name: str):
    check_rules([raise_attention], graph(SCALES[name]), graph(attention()), fired=1)


def test_a_product_without_factors_has_the_scale_1(check_rules):
    body = written().replace("%s = Div(%d, f32[]{2.828427}) : f32[B,2,S,T]", "").replace("Softmax(%s)", "Softmax(%d)")
    check_rules([raise_attention], graph(body + " return %y"), graph(attention(attrs="scale=1.0")), fired=1)


def test_keys_that_come_transposed_with_their_heads_are_transposed_once(check_rules):
    body = written().replace("perm=[0,1,3,2]", "perm=[0,2,3,1]") + " return %y"
    after = attention(before="%t = Transpose(%k) {perm=[0,2,1,3]} : f32[B,2,T,8]").replace("%q, %k", "%q, %t")
    operands = (Q, "%k: f32[B,T,2,8]", V)
    check_rules([raise_attention], graph(body, operands=operands), graph(after, operands=operands), fired=1)


def test_keys_that_nothing_transposed_are_transposed(check_rules):
    body = written().replace("%t = Transpose(%k) {perm=[0,1,3,2]} : f32[B,2,8,T]", "%t = Neg(%k) : f32[B,2,8,T]")
    after = attention(before="%t = Neg(%k) : f32[B,2,8,T] %u = Transpose(%t) {perm=[0,1,3,2]} : f32[B,2,T,8]").replace(
        "%q, %k", "%q, %u"
    )
    operands = (Q, "%k: f32[B,2,8,T]", V)
    check_rules(
        [raise_attention], graph(body + " return %y", operands=operands), graph(after, operands=operands), fired=1
    )


def test_a_soft_cap_is_the_attentions(check_rules):
    between = """%c = Div(%s, f32[]{5.0}) : f32[B,2,S,T] %h = Tanh(%c) : f32[B,2,S,T]
        %e = Mul(%h, f32[]{5.0}) : f32[B,2,S,T]"""
    after = attention(attrs="scale=0.35355338, softcap=5.0")
    check_rules([raise_attention], graph(written("%e", between) + " return %y"), graph(after), fired=1)


def test_a_softmax_in_higher_precision_is_the_attentions(check_rules):
    body = f"""{written("%w", "%w = Cast(%s) {to=11} : f64[B,2,S,T]").replace("Softmax(%w) {axis=-1} : f32", "Softmax(%w) {axis=-1} : f64")}
        return %y""".replace("%y = MatMul(%p,", "%z = Cast(%p) {to=1} : f32[B,2,S,T] %y = MatMul(%z,")
    check_rules(
        [raise_attention], graph(body), graph(attention(attrs="scale=0.35355338, softmax_precision=11")), fired=1
    )


MASKED: dict[str, tuple[str, str, str, bool]] = {
    "added numbers behind a guard": ("%m: f32[B,1,S,T]", "%a = Add(%s, %m) : f32[B,2,S,T]", "%m", True),
    "numbers per head": ("%m: f32[2,S,T]", "%a = Add(%m, %s) : f32[B,2,S,T]", "%m", True),
    "booleans that hide with minus infinity": (
        "%b: bool[B,1,S,T]",
        "%m = Where(%b, f32[]{0.0}, f32[]{-inf}) : f32[B,1,S,T] %a = Add(%s, %m) : f32[B,2,S,T]", "%b", True),
    "selected scores": ("%b: bool[S,T]", "%a = Where(%b, %s, f32[]{-inf}) : f32[B,2,S,T]", "%b", True),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKED)
def test_masks_become_the_attentions(check_rules, name: str):
    operand, between, mask, guard = MASKED[name]
    before = graph(written("%a", between, guard=guard) + " return %y", operand)
    check_rules([raise_attention], before, graph(attention(mask), operand), fired=1)


FINITE = {
    "added": ("%b: bool[B,1,S,T]", f"""%m = Where(%b, f32[]{{0.0}}, {LOWEST}) : f32[B,1,S,T]
        %a = Add(%s, %m) : f32[B,2,S,T]""", "Where(%b, f32[]{0.0}, f32[]{-1.7e+38}) : f32[B,1,S,T]"),
    "selected": ("%b: bool[1,1,S,T]", f"%a = Where(%b, %s, {LOWEST}) : f32[B,2,S,T]",
        "Where(%b, f32[]{0.0}, f32[]{-1.7e+38}) : f32[1,1,S,T]"),
    "selected where hidden": ("%b: bool[B,1,S,T]", f"%a = Where(%b, {LOWEST}, %s) : f32[B,2,S,T]",
        "Where(%b, f32[]{-1.7e+38}, f32[]{0.0}) : f32[B,1,S,T]"),
}  # fmt: skip


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("name", FINITE)
def test_hiding_with_a_finite_number_stays_finite_and_above_the_lowest_number(check_rules, name: str, guard: bool):
    """Rows without keys are averages then; the random masks have such rows."""
    operand, between, mask = FINITE[name]
    before = graph(written("%a", between, guard=guard) + " return %y", operand)
    check_rules([raise_attention], before, graph(attention("%z", f"%z = {mask}"), operand), fired=1)


def test_booleans_that_tell_what_is_hidden_are_turned(check_rules):
    before = graph(
        written("%a", "%a = Where(%b, f32[]{-inf}, %s) : f32[B,2,S,T]", guard=True) + " return %y", "%b: bool[S,T]"
    )
    after = graph(attention("%z", "%z = Not(%b) : bool[S,T]"), "%b: bool[S,T]")
    check_rules([raise_attention], before, after, fired=1)


def test_a_bias_and_a_mask_are_one_mask(check_rules):
    between = f"""%m = Where(%b, f32[]{{0.0}}, {LOWEST}) : f32[B,1,1,T]
        %a = Add(%s, %r) : f32[B,2,S,T] %c = Add(%a, %m) : f32[B,2,S,T]"""
    more = ("%b: bool[B,1,1,T]", "%r: f32[1,2,S,T]")
    after = attention(
        "%c", "%m = Where(%b, f32[]{0.0}, f32[]{-1.7e+38}) : f32[B,1,1,T] %c = Add(%r, %m) : f32[B,2,S,T]"
    )
    check_rules(
        [raise_attention], graph(written("%c", between, guard=True) + " return %y", *more), graph(after, *more), fired=1
    )


def test_two_boolean_masks_are_one(check_rules):
    between = "%a = Where(%b, %s, f32[]{-inf}) : f32[B,2,S,T] %c = Where(%e, %a, f32[]{-inf}) : f32[B,2,S,T]"
    more = ("%b: bool[S,T]", "%e: bool[B,1,1,T]")
    after = attention("%z", "%z = And(%e, %b) : bool[B,1,S,T]")
    check_rules(
        [raise_attention], graph(written("%c", between, guard=True) + " return %y", *more), graph(after, *more), fired=1
    )


def test_one_head_of_keys_serves_all_queries(check_rules):
    operands = (Q, "%k: f32[B,1,T,8]", "%v: f32[B,1,T,8]")
    body = written().replace("f32[B,2,8,T]", "f32[B,1,8,T]") + " return %y"
    check_rules([raise_attention], graph(body, operands=operands), graph(attention(), operands=operands), fired=1)


HIDES_ROWS = "a row of its mask may hide everything, which is not a number there (no-fully-masked-rows)"
LEFT: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], str]] = {
    "a mask that may hide rows, without a guard": (
        written("%a", MASKED["booleans that hide with minus infinity"][1]), ("%b: bool[B,1,S,T]",), (Q, K, V), HIDES_ROWS),
    "numbers that may hide rows, without a guard": (
        written("%a", "%a = Add(%s, %m) : f32[B,2,S,T]"), ("%m: f32[B,1,1,T]",), (Q, K, V), HIDES_ROWS),
    "a mask for other samples": (
        written("%a", "%a = Add(%s, %m) : f32[B,2,S,T]", guard=True), ("%m: f32[C,1,S,T]",), (Q, K, V),
        "its mask is not known to fit scores and values"),
    "a mask that may add keys": (
        written("%a", "%a = Add(%s, %m) : f32[B,2,S,U]", guard=True).replace("%p = Softmax(%a) {axis=-1} : f32[B,2,S,T]", "%p = Softmax(%a) {axis=-1} : f32[B,2,S,U]").replace("[B,2,S,T] %g", "[B,2,S,U] %g").replace("%n = IsNaN(%p) : bool[B,2,S,T]", "%n = IsNaN(%p) : bool[B,2,S,U]").replace(": f32[B,2,S,T]\n        %y", ": f32[B,2,S,U]\n        %y"),
        ("%m: f32[S,U]",), (Q, K, V.replace("T", "U")), "its mask is not known to fit scores and values"),
    "a small penalty": (
        written("%a", "%a = Where(%b, %s, f32[]{-100.0}) : f32[B,2,S,T]"), ("%b: bool[S,T]",), (Q, K, V),
        "hidden scores are not far enough below the others"),
    "another batch": (
        written().replace("[B,2,8,T]", "[1,2,8,T]"), (), (Q, K.replace("B", "1"), V),
        "its batch sizes are not known to be equal"),
    "no axis for heads": (
        written().replace("B,2,", "B,").replace("[0,1,3,2]", "[0,2,1]"), (),
        ("%q: f32[B,S,8]", "%k: f32[B,T,8]", "%v: f32[B,T,8]"), "its heads are not on an axis of their own"),
    "a negative scale": (
        written().replace("f32[]{2.828427}", "f32[]{-2.828427}"), (), (Q, K, V), "its scale is not positive"),
    "scores that are no product": (
        written("%a", "%a = Relu(%s) : f32[B,2,S,T]"), (), (Q, K, V), "its scores are no product"),
    "a sum of no product": (
        written("%a", "%e = Relu(%s) : f32[B,2,S,T] %a = Add(%e, %m) : f32[B,2,S,T]"), ("%m: f32[S,T]",), (Q, K, V),
        "nothing that is added comes from a product"),
}  # fmt: skip


def test_a_mask_of_one_column_is_given_for_each_key(check_rules):
    body = written("%a", "%a = Add(%s, %m) : f32[B,2,S,T]", guard=True) + " return %y"
    wide = """%n = Shape(%k) {start=2, end=3} : i64[1] %e = Concat(i64[1]{1}, %n) {axis=0} : i64[2]
        %w = Expand(%m, %e) : f32[S,T]"""
    check_rules([raise_attention], graph(body, "%m: f32[S,1]"), graph(attention("%w", wide), "%m: f32[S,1]"), fired=1)


def test_a_mask_that_must_be_as_long_as_the_keys_or_have_one_column_is_given_for_each_key():
    """The product with the values takes no other number; Expand is right for both."""
    body = written("%a", "%a = Add(%s, %m) : f32[B,2,S,T]", guard=True) + " return %y"
    made = parsed(graph(body, "%m: f32[S,M]"))
    assert Rewriter([raise_attention]).run(made).fired == 1
    node = made.exit.operand(0).node
    assert node is not None
    mask = node.operand(3)
    assert mask.op == "Expand"
    assert mask.shape == (made.inputs[0].shape[2], made.inputs[1].shape[2])


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    body, more, operands, reason = LEFT[name]
    check_rules(
        [raise_attention], graph(body + " return %y", *more, operands=operands), None, fired=0, declined=[reason]
    )


@pytest.mark.parametrize(
    ("interior", "reason"),
    [("%p", "its first operand is no softmax that it alone uses"), ("%s", "its first operand is no softmax that it alone uses"),
     ("%d", "MatMul %d has other users")],
)  # fmt: skip
@pytest.mark.parametrize("use", ["return %y, {0}", "%o = Neg({0}) : f32[B,2,S,T] return %y, %o"])
def test_it_is_left_where_others_need_what_is_inside(check_rules, interior: str, reason: str, use: str):
    text = graph(f"{written()} {use.format(interior)}", outputs="y, z")
    check_rules([raise_attention], text, None, fired=0, declined=[reason])


def test_it_is_raised_where_others_use_the_keys_and_the_transposed_keys(check_rules):
    rest = " %o = Neg(%t) : f32[B,2,8,T] return %y, %o"
    before = graph(written() + rest, outputs="y, z")
    after = attention(before="%t = Transpose(%k) {perm=[0,1,3,2]} : f32[B,2,8,T]").replace(" return %y", rest)
    check_rules([raise_attention], before, graph(after, outputs="y, z"), fired=1)


@pytest.mark.parametrize(
    ("mask", "wide"), [("f32[B,1,1,T]", "f32[B,1,S,T]"), ("bool[1,T]", "bool[S,T]"), ("f32[T]", "f32[S,T]")]
)
def test_a_mask_for_all_queries_is_given_for_each(check_rules, mask: str, wide: str):
    """ONNX Runtime refuses the narrow form, so it is the reference that judges here."""
    lead = "i64[2]{1,1}, " if "B" in mask else ""
    sizes = f"%n = Shape(%q) {{start=2, end=3}} : i64[1] %c = Concat({lead}%n, i64[1]{{1}}) {{axis=0}} : i64[{4 if lead else 2}]"
    before = graph(attention("%m"), f"%m: {mask}")
    after = graph(attention("%z", f"{sizes} %z = Expand(%m, %c) : {wide}"), f"%m: {mask}")
    original, rewritten, expected = parsed(before), parsed(before), parsed(after)
    assert Rewriter([widen_mask]).run(rewritten, infer=infer(rewritten).node).fired == 1
    assert skeleton(rewritten) == skeleton(expected)
    feeds = synthesize(original, count=1, seed=1)[0]
    (reference,) = ReferenceRunner(Model(original)).run(feeds).values()
    (result,) = OrtRunner(Model(rewritten)).run(feeds).values()
    np.testing.assert_allclose(result, reference, atol=1e-5)


def test_a_mask_with_a_row_for_each_query_is_left(check_rules):
    text = graph(attention("%m"), "%m: f32[B,1,S,T]")
    check_rules([widen_mask], text, None, fired=0, declined=["its mask has a row for each query"])


def test_on_a_promise_a_mask_without_a_guard_hides_with_a_finite_number(check_rules):
    """The rules are run one after the other: what the first makes is the second's."""
    operand = "%m: f32[B,1,S,T]"
    before = graph(written("%a", "%a = Add(%s, %m) : f32[B,2,S,T]") + " return %y", operand)
    after = graph(attention("%z", "%z = Max(%m, f32[]{-1.7e+38}) : f32[B,1,S,T]"), operand)
    check_rules([raise_attention_as_promised, soften_mask], before, after, fired=2)


def test_on_a_promise_a_large_penalty_in_place_of_a_score_hides_it(check_rules):
    """Where a row had no keys, averages would be those of the penalties; the mask here lets each see itself."""
    operands, more = tuple(o.replace("S", "2").replace("T", "2") for o in (Q, K, V)), ("%b: bool[B,1,2,2]",)
    seen = "@d : bool[2,2] = [true,false,false,true] %m = Or(%b, @d) : bool[B,1,2,2]"
    body = written("%a", f"{seen} %a = Where(%m, %s, f32[]{{-1000000000.0}}) : f32[B,2,S,T]") + " return %y"
    before = graph(body.replace("S", "2").replace(",T]", ",2]").replace("2oftmax", "Softmax"), *more, operands=operands)
    text = attention("%z", f"{seen} %z = Where(%m, f32[]{{0.0}}, f32[]{{-1.7e+38}}) : f32[B,1,2,2]").replace("S", "2")
    reason = "hidden scores are not far enough below the others"
    check_rules([raise_attention], before, None, fired=0, declined=[reason])
    check_rules([raise_attention_as_promised], before, graph(text, *more, operands=operands), fired=1)


def test_on_a_promise_a_boolean_mask_becomes_numbers(check_rules):
    more = ("%b: bool[B,1,4,4]",)
    operands = tuple(o.replace("S", "4").replace("T", "4") for o in (Q, K, V))
    seen = "@d : bool[4,4] = [true,false,false,false,false,true,false,false,false,false,true,false,false,false,false,true] %m = Or(%b, @d) : bool[B,1,4,4]"
    before = attention("%m", seen).replace("S", "4")
    after = attention("%z", f"{seen} %z = Where(%m, f32[]{{0.0}}, f32[]{{-1.7e+38}}) : f32[B,1,4,4]").replace("S", "4")
    check_rules([soften_mask], graph(before, *more, operands=operands), graph(after, *more, operands=operands), fired=1)


def test_a_mask_that_hides_no_row_entirely_is_left(check_rules):
    operands = tuple(o.replace("S", "2").replace("T", "2") for o in (Q, K, V))
    text = attention("@m", "@m : bool[2,2] = [true,false,false,true]").replace("S", "2")
    reason = "its mask hides no row entirely"
    check_rules([soften_mask], graph(text, operands=operands), None, fired=0, declined=[reason])


HIDING = """%w = Where(%b, f32[]{0.0}, f32[]{-1.7e+38}) : f32[B,1,S,T] %h = ReduceMax(%w, i64[1]{-1}) : f32[B,1,S,1]
    %e = Exp(%h) : f32[B,1,S,1]"""
CLEARED = "%a = Attention(%q, %k, %v, %w) {scale=0.5} : f32[B,2,S,8] %y = Mul(%a, %e) : f32[B,2,S,8]"
SEEN = "%b: bool[B,1,S,T]"


def test_rows_that_are_cleared_by_the_best_of_their_mask_are_hidden_by_booleans(check_rules):
    after = graph("%y = Attention(%q, %k, %v, %b) {scale=0.5} : f32[B,2,S,8] return %y", SEEN)
    check_rules([hide_rows_in_mask], graph(f"{HIDING} {CLEARED} return %y", SEEN), after, fired=1)
    turned = CLEARED.replace("Mul(%a, %e)", "Mul(%e, %a)")
    check_rules([hide_rows_in_mask], graph(f"{HIDING} {turned} return %y", SEEN), after, fired=1)


def test_a_mask_that_is_given_for_each_query_is_so_as_booleans_too(check_rules):
    hiding, seen = HIDING.replace("B,1,S", "B,1,1"), "%b: bool[B,1,1,T]"
    wide = "%x = Expand(%{}, i64[4]{{1,1,3,1}}) : {}[B,1,3,T]"
    cleared = CLEARED.replace("%w)", "%x)")
    before = f"{hiding} {wide.format('w', 'f32')} {cleared} return %y".replace("S", "3").replace("3oft", "Soft")
    after = f"{wide.format('b', 'bool')} %y = Attention(%q, %k, %v, %x) {{scale=0.5}} : f32[B,2,3,8] return %y"
    operands = (Q.replace("S", "3"), K, V)
    check_rules([hide_rows_in_mask], graph(before, seen, operands=operands), graph(after, seen, operands=operands))


NOT_CLEARED = {
    "the factor is not whether its mask shows a key": f"{HIDING.replace('Exp(%h)', 'Sigmoid(%h)')} {CLEARED} return %y",
    "its mask is not chosen by booleans, or hides too little": f"{HIDING.replace('-1.7e+38', '-9.0')} {CLEARED} return %y",
    "the Attention has no heads or no mask, or more than that": f"{HIDING} {CLEARED.replace(', %w', '')} return %y",
}  # fmt: skip


@pytest.mark.parametrize("reason", NOT_CLEARED)
def test_what_does_not_clear_rows_stays_a_factor(check_rules, reason: str):
    check_rules([hide_rows_in_mask], graph(NOT_CLEARED[reason], SEEN), None, fired=0, declined=[reason])


def test_an_attention_that_others_need_keeps_its_factor(check_rules):
    before = graph(f"{HIDING} {CLEARED} return %y, %a", SEEN, outputs="y, z")
    check_rules([hide_rows_in_mask], before, None, fired=0, declined=["the Attention has other users"])


SHARED = ("%q: f32[B,2,3,S,8]", "%k: f32[B,2,1,T,8]", "%v: f32[B,2,1,T,8]")
ONE_AXIS = """%a = Reshape(%q, i64[4]{0,6,-1,8}) : f32[B,6,S,8] %b = Squeeze(%k, i64[1]{2}) : f32[B,2,T,8]
    %c = Squeeze(%v, i64[1]{2}) : f32[B,2,T,8]"""
TWO_AXES = "%y = Reshape(%e, i64[5]{0,2,3,-1,8}) : f32[B,2,3,S,8] return %y"


def shared(between: str = "", scores: str = "%d") -> str:
    """Heads that share keys and values on an axis of their own."""
    return f"""%t = Transpose(%k) {{perm=[0,1,2,4,3]}} : f32[B,2,1,8,T] %d = MatMul(%q, %t) : f32[B,2,3,S,T] {between}
        %p = Softmax({scores}) {{axis=-1}} : f32[B,2,3,S,T] %y = MatMul(%p, %v) : f32[B,2,3,S,8] return %y"""


def test_heads_that_share_keys_on_an_axis_of_their_own_come_on_one(check_rules):
    after = f"{ONE_AXIS} %e = Attention(%a, %b, %c) {{scale=1.0}} : f32[B,6,S,8] {TWO_AXES}"
    check_rules([raise_attention], graph(shared(), operands=SHARED), graph(after, operands=SHARED), fired=1)


SHARED_MASKS = {
    "for all heads": ("f32[B,1,1,S,T]", "%n = Squeeze(%m, i64[1]{2}) : f32[B,1,S,T]", "%n"),
    "for all": ("f32[S,T]", "", "%m"),
    "for each head of 5 queries": ("f32[2,3,5,T]", "%n = Reshape(%m, i64[3]{6,5,-1}) : f32[6,5,T]", "%n"),
}


@pytest.mark.parametrize("name", SHARED_MASKS)
def test_masks_of_heads_that_share_keys_lose_their_axis(check_rules, name: str):
    type_, flat, mask = SHARED_MASKS[name]
    # Numbers that hide no row: bounded from below.
    bounded = f"%m = Max(%mm, f32[]{{-9.0}}) : {type_}"
    before = shared(f"{bounded} %s = Add(%d, %m) : f32[B,2,3,S,T]", "%s")
    if flat:
        flat = flat.replace("%m", "%mm").replace("%n =", "%o =")
        shape = flat.split(" : ")[1]
        bounded, mask = f"{flat} %n = Max(%o, f32[]{{-9.0}}) : {shape}", "%n"
    after = f"{bounded} {ONE_AXIS} %e = Attention(%a, %b, %c, {mask}) {{scale=1.0}} : f32[B,6,S,8] {TWO_AXES}"
    if "5" in name:
        before, after, type_ = (text.replace(",S", ",5").replace("-1,8}", "5,8}") for text in (before, after, type_))
    operands = tuple(v.replace(",S", ",5") if "5" in name else v for v in SHARED)
    check_rules(
        [raise_attention],
        graph(before, f"%mm: {type_}", operands=operands),
        graph(after, f"%mm: {type_}", operands=operands),
        fired=1,
    )


def test_heads_that_share_keys_and_differ_in_their_masks_are_left(check_rules):
    body = shared("%m = Max(%mm, f32[]{-9.0}) : f32[3,S,T] %s = Add(%d, %m) : f32[B,2,3,S,T]", "%s")
    before = graph(body, "%mm: f32[3,S,T]", operands=SHARED)
    check_rules([raise_attention], before, None, fired=0, declined=["heads that share keys are masked differently"])


BEST = """%h = ReduceMax({0}, i64[1]{{-1}}) {{keepdims=1}} : f32[B,1,S,1]
    %g = Greater(%h, f32[]{{-inf}}) : bool[B,1,S,1]"""


def test_rows_whose_numbers_hide_everything_are_the_attentions(check_rules):
    low = f"%w = Max(%m, {LOWEST}) : f32[B,1,S,T] {BEST.format('%m')} %f = Cast(%g) {{to=1}} : f32[B,1,S,1]"
    body = f"""{low} %a = Attention(%q, %k, %v, %w) {{scale=0.5}} : f32[B,2,S,8]
        %y = Mul(%a, %f) : f32[B,2,S,8] return %y"""
    after = "%y = Attention(%q, %k, %v, %m) {scale=0.5} : f32[B,2,S,8] return %y"
    operand = "%m: f32[B,1,S,T]"
    check_rules([hide_rows_in_mask], graph(body, operand), graph(after, operand), fired=1)
    other = graph(body.replace("%w = Max(%m,", "%w = Max(%o,"), operand, "%o: f32[B,1,S,T]")
    reason = "its mask is not chosen by booleans, or hides too little"
    check_rules([hide_rows_in_mask], other, None, fired=0, declined=[reason])


def test_rows_that_are_cleared_before_the_values_are_the_attentions(check_rules):
    cleared = f"{BEST.format('%m')} %c = Where(%g, %p, f32[]{{0.0}}) : f32[B,2,S,T]"
    body = (
        written("%a", "%a = Add(%s, %m) : f32[B,2,S,T]")
        .replace("%y =", f"{cleared} %y =")
        .replace("(%p, %v)", "(%c, %v)")
    )
    check_rules(
        [raise_attention],
        graph(body + " return %y", "%m: f32[B,1,S,T]"),
        graph(attention("%m"), "%m: f32[B,1,S,T]"),
        fired=1,
    )
    other = body.replace("ReduceMax(%m,", "ReduceMax(%o,") + " return %y"
    reason = "rows are cleared by something else than its mask"
    check_rules(
        [raise_attention], graph(other, "%m: f32[B,1,S,T]", "%o: f32[B,1,S,T]"), None, fired=0, declined=[reason]
    )


@pytest.mark.parametrize("end", ["return %y, %s", "%z = Neg(%s) : f32[B,2,3,S,T] return %y, %z"])
def test_heads_that_share_keys_are_left_where_others_need_their_scores(check_rules, end: str):
    body = shared("%s = Add(%d, f32[]{1.0}) : f32[B,2,3,S,T]", "%s").replace("return %y", end)
    check_rules([raise_attention], graph(body, outputs="y, z", operands=SHARED), None, fired=0)
