"""Normalizations written out become operators: for each form what it becomes, what is left and why, and that a value in
between which others need keeps the form as it is.
"""

import pytest
from tersor.ir import Graph, Model, parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule, RuleStatistics
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify
from tersor.transforms.simplify.raising import norms as n

T = "f32[N,S,8]"
IMAGE = "f32[N,12,4,W]"


def one(body: str, type_: str = T, outputs: str = "y") -> str:
    """A graph; ` ;` stands for the type that most values have, ` !` for that type with 1 for what is reduced."""
    reduced = "f32[N,12,1,1]" if type_ == IMAGE else "f32[N,S,1]"
    text = body.replace(" ;", f" : {type_}").replace(" !", f" : {reduced}")
    constants = (
        "@w : f32[8] = random(1) @b : f32[8] = random(2) @c : f32[12,1,1] = random(3) @d : f32[12,1,1] = random(4)"
    )
    return f"graph(%x: {type_}) -> ({outputs}) {{ {constants} {text} }}"


def over(axes: str) -> dict[str, str]:
    """The statistics over `axes`: the mean square of x, the centred value and its variance."""
    last = f"i64[{axes.count(',') + 1}]{{{axes}}}"
    square = f"%i = Pow(%x, f32[]{{2.0}}) ; %v = ReduceMean(%i, {last}) ! %e = Add(%v, f32[]{{1e-06}}) ! "
    return {
        "square": square,
        "centred": f"%m = ReduceMean(%x, {last}) ! %i = Sub(%x, %m) ; %q = Pow(%i, f32[]{{2.0}}) ; "
        f"%v = ReduceMean(%q, {last}) ! %e = Add(%v, f32[]{{1e-05}}) ! ",
        "products": f"%m = ReduceMean(%x, {last}) ! %i = Sub(%x, %m) ; %q = Mul(%i, %i) ; "
        f"%v = ReduceMean(%q, {last}) ! %e = Add(f32[]{{1e-05}}, %v) ! ",
    }


LAST, SPACE = over("-1"), over("2,3")
ONES, MANY = "f32[8]{1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0}", ",".join(["1"] * 80)
PLAIN = f"LayerNormalization(%x, {ONES}) {{axis=-1, epsilon=1e-05}} ;"
RMS = f"RMSNormalization(%x, {ONES}) {{axis=-1, epsilon=1e-06}} ;"
UNITS = "@o : f32[12] = [1,1,1,1,1,1,1,1,1,1,1,1] @z : f32[12] = [0,0,0,0,0,0,0,0,0,0,0,0] "
SPLIT = "@o : f32[3] = [1,1,1] @z : f32[3] = [0,0,0] "
GROUPS = "%g = Reshape(%x, i64[3]{0,3,-1}) : f32[N,3,16*W] "
BACK = "%s = Shape(%x) : i64[4] %a = Reshape(%i, %s) ;"
GROUPED = "GroupNormalization(%x, @o, @z) {num_groups=3, epsilon=1e-05} ;"

RAISED: dict[str, tuple[Rule, str, str, str]] = {
    "layer norm with a power": (
        n.raise_centred_normalization, T, LAST["centred"] + "%r = Sqrt(%e) ! %a = Div(%i, %r) ;", f"%a = {PLAIN}"),
    "layer norm with a product and a reciprocal": (
        n.raise_centred_normalization, T,
        LAST["products"] + "%s = Sqrt(%e) ! %r = Reciprocal(%s) ! %a = Mul(%i, %r) ;", f"%a = {PLAIN}"),
    "layer norm with a power of -1/2": (
        n.raise_centred_normalization, T, LAST["centred"] + "%r = Pow(%e, f32[]{-0.5}) ! %a = Mul(%r, %i) ;",
        f"%a = {PLAIN}"),
    "instance norm": (
        n.raise_centred_normalization, IMAGE, SPACE["centred"] + "%r = Sqrt(%e) ! %a = Div(%i, %r) ;",
        UNITS + "%a = InstanceNormalization(%x, @o, @z) {epsilon=1e-05} ;"),
    "rms norm with a quotient": (
        n.raise_rms_normalization, T, LAST["square"] + "%r = Sqrt(%e) ! %a = Div(%x, %r) ;", f"%a = {RMS}"),
    "rms norm with one over the root": (
        n.raise_rms_normalization, T, LAST["square"] + "%s = Sqrt(%e) ! %r = Div(f32[]{1.0}, %s) ! %a = Mul(%x, %r) ;",
        f"%a = {RMS}"),
    "rms norm with a sum": (
        n.raise_rms_normalization, T, "%i = ReduceSumSquare(%x, i64[1]{2}) ! %e = Add(%i, f32[]{8e-6}) ! %r = Sqrt(%e) ! "
        "%a = Div(%x, %r) ;", RMS.replace("1.0", "0.35355338").join(["%a = ", ""])),
    "rms norm with a sum that is divided by the number of squares": (
        n.raise_rms_normalization, T, "%i = ReduceSumSquare(%x, i64[1]{2}) ! %v = Div(%i, f32[]{8.0}) ! "
        "%e = Add(%v, f32[]{1e-6}) ! %r = Sqrt(%e) ! %a = Div(%x, %r) ;", f"%a = {RMS}"),
    "layer norm with a sum that is multiplied by the share of a square": (
        n.raise_centred_normalization, T, "%m = ReduceMean(%x, i64[1]{-1}) ! %i = Sub(%x, %m) ; "
        "%q = ReduceSumSquare(%i, i64[1]{-1}) ! %v = Mul(%q, f32[]{0.125}) ! %e = Add(%v, f32[]{1e-5}) ! "
        "%r = Sqrt(%e) ! %a = Div(%i, %r) ;", f"%a = {PLAIN}"),
    "scale of a layer norm": (
        n.scale_normalization, T, f"%i = {PLAIN} %a = Mul(@w, %i) ;",
        "%a = LayerNormalization(%x, @w) {axis=-1, epsilon=1e-05} ;"),
    "scale of an rms norm": (
        n.scale_normalization, T, f"@t : f32[1,1,8] = random(5) %i = {RMS} %a = Mul(%i, @t) ;",
        "@t : f32[8] = random(5) %a = RMSNormalization(%x, @t) {axis=-1, epsilon=1e-06} ;"),
    "scale of one number": (
        n.scale_normalization, T, f"%i = {RMS} %a = Mul(%i, f32[]{{0.25}}) ;", f"%a = {RMS.replace('1.0', '0.25')}"),
    "scale of an instance norm": (
        n.scale_normalization, IMAGE, UNITS + "%i = InstanceNormalization(%x, @o, @z) ; %a = Mul(%i, @c) ;",
        UNITS + "@f : f32[12] = random(3) %a = InstanceNormalization(%x, @f, @z) ;"),
    "bias of a layer norm": (
        n.shift_normalization, T, "%i = LayerNormalization(%x, @w) {axis=-1} ; %a = Add(%i, @b) ;",
        "%a = LayerNormalization(%x, @w, @b) {axis=-1} ;"),
    "bias of a group norm": (
        n.shift_normalization, IMAGE, UNITS + "%i = GroupNormalization(%x, @o, @z) {num_groups=3} ; %a = Add(%i, @d) ;",
        UNITS + "@f : f32[12] = random(4) %a = GroupNormalization(%x, @o, @f) {num_groups=3} ;"),
    "scale and bias as a batch norm": (
        n.affine_normalization, IMAGE, UNITS + "@k : f32[12] = random(5) @h : f32[12] = random(6) "
        "%i = GroupNormalization(%x, @o, @z) {num_groups=3} ; "
        "%a = BatchNormalization(%i, @k, @h, @z, @o) {epsilon=0.0} ;",
        "@k : f32[12] = random(5) @h : f32[12] = random(6) %a = GroupNormalization(%x, @k, @h) {num_groups=3} ;"),
    "group norm of instances": (
        n.raise_group_normalization, IMAGE,
        SPLIT + GROUPS + "%i = InstanceNormalization(%g, @o, @z) {epsilon=1e-05} : f32[N,3,16*W] " + BACK,
        UNITS + f"%a = {GROUPED}"),
    "group norm of layers": (
        n.raise_group_normalization, "f32[N,12,4,5]", f"@o : f32[80] = [{MANY}] " "%g = Reshape(%x, i64[3]{0,3,-1}) : f32[N,3,80] "
        "%i = LayerNormalization(%g, @o) {axis=-1, epsilon=1e-05} : f32[N,3,80] " + BACK, UNITS + f"%a = {GROUPED}"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAISED)
def test_the_form_becomes_one_operator(check_rules, name: str):
    rule, type_, body, after = RAISED[name]
    check_rules([rule], one(body + " return %a", type_), one(after + " return %a", type_), fired=1)


@pytest.mark.parametrize("name", RAISED)
def test_the_form_stays_where_a_value_in_between_is_used_elsewhere(check_rules, name: str):
    rule, type_, body, _ = RAISED[name]
    shown = body + " %y = Cos(%i) return %a, %y"
    check_rules([rule], one(shown, type_, outputs="y, z"), None, fired=0)


@pytest.mark.parametrize("name", RAISED)
def test_the_form_stays_where_a_value_in_between_is_an_output(check_rules, name: str):
    rule, type_, body, _ = RAISED[name]
    check_rules([rule], one(body + " return %a, %i", type_, outputs="y, z"), None, fired=0)


ROOT = "%r = Sqrt(%e) ! "
LEFT: dict[str, tuple[Rule, str, str, str]] = {
    "a centred value that others use": (
        n.raise_centred_normalization, T, LAST["centred"] + ROOT + "%h = Div(%i, %r) ; %a = Add(%h, %i) ; return %a",
        "the centred value has other users"),
    "two axes": (
        n.raise_centred_normalization, T,
        LAST["centred"].replace("%q, i64[1]{-1}) ! %e", "%q, i64[1]{1}) : f32[N,1,8] %e") + "%f = Sqrt(%e) "
        "%a = Div(%i, %f) ; return %a", "mean and variance run over different axes"),
    "channels in front": (
        n.raise_rms_normalization, IMAGE, over("1")["square"].replace("!", ": f32[N,1,4,W]")
        + "%r = Sqrt(%e) : f32[N,1,4,W] %a = Div(%x, %r) ; return %a", "its statistics do not run over the last axes"),
    "an epsilon for each channel": (
        n.raise_rms_normalization, T, LAST["square"].replace("%v, f32[]{1e-06}) !", "%v, @w) ;") + "%r = Sqrt(%e) ; "
        "%a = Div(%x, %r) ; return %a", "epsilon is not one number"),
    "a size that is not known": (
        n.raise_rms_normalization, "f32[N,S,D]", LAST["square"] + "%r = Sqrt(%e) ! %a = Div(%x, %r) ; return %a",
        "the sizes of the axes that it normalises are not known"),
    "double precision": (
        n.raise_rms_normalization, T.replace("f32", "f64"),
        (LAST["square"] + "%r = Sqrt(%e) ! %a = Div(%x, %r) ; return %a").replace("f32", "f64").replace("!", ": f64[N,S,1]"),
        "it is computed in f64, not in single precision"),
    "a scale that is there": (
        n.scale_normalization, T, "%i = LayerNormalization(%x, @b) ; %a = Mul(%i, @w) ; return %a",
        "the normalization has a scale of its own"),
    "a factor for each position": (
        n.scale_normalization, T, f"%i = {PLAIN} %f = ReduceMax(%x, i64[1]{{2}}) ! %a = Mul(%i, %f) ; return %a",
        "the factor is not shaped like its scale"),
    "a factor for each channel of an image": (
        n.scale_normalization, IMAGE, UNITS + "@h : f32[4,1] = random(7) %i = InstanceNormalization(%x, @o, @z) ; "
        "%a = Mul(%i, @h) ; return %a", "the factor is not shaped like its scale"),
    "a bias that is there": (
        n.shift_normalization, T, "%i = LayerNormalization(%x, @w, @b) ; %a = Add(%i, @b) ; return %a",
        "the normalization has a bias of its own"),
    "a bias behind an rms norm": (
        n.shift_normalization, T, f"%i = {RMS} %a = Add(%i, @b) ; return %a", "it has no bias"),
    "a sum with the operand": (
        n.shift_normalization, T, "%i = LayerNormalization(%x, @w) ; %a = Add(%i, %x) ; return %a",
        "the summand is not shaped like its bias"),
    "a batch norm that normalises": (
        n.affine_normalization, IMAGE, UNITS + "%i = GroupNormalization(%x, @o, @z) {num_groups=3} ; "
        "%a = BatchNormalization(%i, @o, @z, @z, @o) {epsilon=0.1} ; return %a", "its statistics change something"),
    "groups of another shape": (
        n.raise_group_normalization, IMAGE, SPLIT + GROUPS + "%i = InstanceNormalization(%g, @o, @z) : f32[N,3,16*W] "
        "%a = Reshape(%i, i64[3]{0,12,-1}) : f32[N,12,4*W] return %a",
        "it does not give back the shape of its operand, or not in single precision"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(name: str):
    rule, type_, body, reason = LEFT[name]
    _, rows = rewritten([rule], one(body, type_))
    assert (rows[rule.name].hits, list(rows[rule.name].declined)) == (0, [reason])


def rewritten(rules: list[Rule], text: str) -> tuple[Graph, dict[str, RuleStatistics]]:
    graph = parse(text)
    inference = infer(graph)
    return graph, Rewriter(rules).run(graph, infer=inference.node, sizes=inference.contents_of).statistics


LLAMA = """graph(%x: f16[N,S,8]) -> (y) {
  @w : f16[8] = random(1)
  %c = Cast(%x) {to=1} : f32[N,S,8]
  %p = Pow(%c, f32[]{2.0}) : f32[N,S,8]
  %m = ReduceMean(%p, i64[1]{-1}) : f32[N,S,1]
  %e = Add(%m, f32[]{1e-06}) : f32[N,S,1]
  %s = Sqrt(%e) : f32[N,S,1]
  %r = Reciprocal(%s) : f32[N,S,1]
  %n = Mul(%c, %r) : f32[N,S,8]
  %h = Cast(%n) {to=10} : f16[N,S,8]
  %y = Mul(@w, %h) : f16[N,S,8]
  return %y
}"""


def test_a_norm_in_half_precision_that_computes_in_single_precision_is_one_operator(check_rules):
    after = """graph(%x: f16[N,S,8]) -> (y) {
      @w : f16[8] = random(1)
      %y = RMSNormalization(%x, @w) {axis=-1, epsilon=1e-06} : f16[N,S,8]
      return %y
    }"""
    check_rules(n.RULES, LLAMA, after, fired=3)


def test_a_norm_that_is_cast_to_another_type_is_left(check_rules):
    text = (
        LLAMA.replace("f16[8]", "f64[8]")
        .replace("to=10} : f16", "to=11} : f64")
        .replace("Mul(@w, %h) : f16", "Mul(@w, %h) : f64")
    )
    _, rows = rewritten(list(n.RULES), text)
    assert list(rows["narrow_normalization"].declined) == ["it is cast to another type than it came from"]


def test_scale_and_bias_of_every_step_come_together(check_rules):
    body = LAST["centred"] + "%r = Sqrt(%e) ! %h = Div(%i, %r) ; %g = Mul(%h, @w) ; %a = Add(@b, %g) ; return %a"
    after = "%a = LayerNormalization(%x, @w, @b) {axis=-1, epsilon=1e-05} ; return %a"
    check_rules(n.RULES, one(body), one(after), fired=3)


NORMALIZED = "%i = ReduceL2(%x, i64[1]{-1}) ! %b1 = Max(%i, f32[]{1e-12}) ! %a = Div(%x, %b1) ; return %a"


def test_division_by_the_length_needs_a_promise(check_rules):
    promised = n.PROMISED["no-zero-vectors"]
    assert not set(promised) & set(n.RULES)
    check_rules(promised, one(NORMALIZED), one("%a = LpNormalization(%x) {axis=2, p=2} ; return %a"), fired=1)
    _, rows = rewritten(list(promised), one(NORMALIZED.replace("1e-12", "0.1")))
    assert list(rows["raise_lp_normalization"].declined) == ["the length is bounded by more than nearly zero"]
    check_rules(promised, one(NORMALIZED + ", %i", outputs="y, z"), None, fired=0)
    check_rules(
        promised, one(NORMALIZED.replace("return %a", "%o = Cos(%i) ! return %a, %o"), outputs="y, z"), None, fired=0
    )


SCALED = {
    "a quotient of scale and root": "%k = Div(@w, %r) ; %a = Mul(%i, %k) ;",
    "a product of scale and one over the root": "%o = Reciprocal(%r) ! %k = Mul(%o, @w) ; %a = Mul(%k, %i) ;",
    "a scaled value over the root": "%k = Mul(%i, @w) ; %a = Div(%k, %r) ;",
    "a scaled value times one over the root": "%k = Mul(@w, %i) ; %o = Reciprocal(%r) ! %a = Mul(%k, %o) ;",
}
BEHIND = "%n = Div(%i, %r) ; %a = Mul(%n, @w) ;"


@pytest.mark.parametrize("name", SCALED)
def test_a_scale_in_front_of_the_root_comes_behind_it(check_rules, name: str):
    start = LAST["centred"] + "%r = Sqrt(%e) ! "
    before, after = (one(f"{start}{text} return %a") for text in (SCALED[name], BEHIND))
    check_rules([n.scale_after_root], before, after, fired=1)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("end", ["return %a, %k", "%y = Cos(%k) return %a, %y"])
def test_a_scale_stays_in_front_of_the_root_where_others_need_it_there(check_rules, name: str, end: str):
    text = one(f"{LAST['centred']}%r = Sqrt(%e) ! {SCALED[name]} {end}", outputs="y, z")
    check_rules([n.scale_after_root], text, None, fired=0)


def test_a_scale_that_broadcasts_stays_in_front_of_the_root(check_rules):
    text = one(f"@u : f32[2,1,1,8] = random(9) {LAST['centred']}%r = Sqrt(%e) ! %k = Mul(%i, @u) : f32[2,N,S,8] "
               "%a = Div(%k, %r) : f32[2,N,S,8] return %a")  # fmt: skip
    check_rules([n.scale_after_root], text, None, fired=0, declined=["its operands broadcast"])


FACTOR = "%m = ReduceMean(%x, i64[1]{-1}) {keepdims=1} ! %k = Sigmoid(@w) : f32[8] "
SHIFTED = {
    "a bias less the scaled mean": "%p = Mul(%x, %k) ; %q = Mul(%m, %k) ; %t = Sub(@b, %q) ; %a = Add(%p, %t) ;",
    "a scaled value less the scaled mean": "%p = Mul(%k, %x) ; %q = Mul(%m, %k) ; %t = Sub(%p, %q) ; %a = Add(%t, @b) ;",
}
CENTRED = "%t = Sub(%x, %m) ; %q = Mul(%t, %k) ; %a = Add(%q, @b) ;"


@pytest.mark.parametrize("name", SHIFTED)
def test_the_mean_is_taken_away_before_scaling(check_rules, name: str):
    before, after = (one(f"{FACTOR}{text} return %a") for text in (SHIFTED[name], CENTRED))
    check_rules([n.centre_before_scaling], before, after, fired=1)


@pytest.mark.parametrize("interior", ["%p", "%q", "%t"])
@pytest.mark.parametrize("end", ["return %a, {0}", "%y = Cos({0}) return %a, %y"])
@pytest.mark.parametrize("name", SHIFTED)
def test_a_scaled_mean_stays_where_others_need_a_part(check_rules, name: str, interior: str, end: str):
    text = one(f"{FACTOR}{SHIFTED[name]} {end.format(interior)}", outputs="y, z")
    check_rules([n.centre_before_scaling], text, None, fired=0)


def test_the_scaled_mean_of_something_else_stays(check_rules):
    text = one(f"%o = Cos(%x) ; {FACTOR.replace('(%x,', '(%o,')}{SHIFTED['a bias less the scaled mean']} return %a")
    check_rules([n.centre_before_scaling], text, None, fired=0)


def test_a_sum_of_squares_divided_by_another_number_is_left(check_rules):
    _, _, body, _ = RAISED["rms norm with a sum that is divided by the number of squares"]
    reason = "the sum of squares is not divided by their number"
    text = one(body.replace("8.0", "9.0") + " return %a")
    check_rules([n.raise_rms_normalization], text, None, fired=0, declined=[reason])


def test_a_layer_norm_of_keras_is_one_operator(check_rules):
    """Its bias is taken together with the scaled mean, its scale with the root."""
    body = f"""{LAST["products"]} %s = Sqrt(%e) ! %r = Reciprocal(%s) ! %k = Mul(%r, @w) ;
        %p = Mul(%x, %k) ; %y = Mul(%m, %k) ; %t = Sub(@b, %y) ; %z = Add(%p, %t) ; return %z"""
    after = "%a = LayerNormalization(%x, @w, @b) {axis=-1, epsilon=1e-05} ; return %a"
    made = parse(one(body))
    Simplify().run(Model(made), Context())
    expected = parse(one(after))
    infer(expected)
    assert [node.op for node in made] == [node.op for node in expected]
