"""Activations written out become operators: for each form what it becomes, what is left and why, and that a value in
between which others need keeps the form as it is.
"""

import pytest
from tersor.ir import Graph, parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule, RuleStatistics
from tersor.transforms.simplify.raising import activations as a

T = "f32[N,4,6]"


def one(body: str, inputs: str = f"%x: {T}", outputs: str = "y") -> str:
    """A graph; `=` stands for the type that most values have."""
    return f"graph({inputs}) -> ({outputs}) {{ @w : f32[4,1] = random(1) {body.replace(' ;', f' : {T}')} }}"


CUBIC = "%p = Pow(%x, f32[]{3.0}) ; %q = Mul(%p, f32[]{0.044715}) ; %i = Add(%x, %q) ; "
ARGUMENT = CUBIC + "%s = Mul(%i, f32[]{0.7978846}) ; %t = Tanh(%s) ; %u = Add(%t, f32[]{1.0}) ; "
ERF = "%s = Div(%x, f32[]{1.4142135}) ; %i = Erf(%s) ; %u = Add(%i, f32[]{1.0}) ; "
CLIPPED = "%b = Add(%x, f32[]{3.0}) ; %i = Clip(%b, f32[]{0.0}, f32[]{6.0}) ; "
EXP = "%n = Neg(%x) ; %i = Exp(%n) ; %u = Add(%i, f32[]{1.0}) ; "
SELU = "%i = Elu(%x) {alpha=1.6732632} ; %a = Mul(%i, f32[]{1.050701}) ;"

RAISED: dict[str, tuple[Rule, str, str]] = {
    "gelu of x (1 + erf) times a half": (a.raise_gelu, ERF + "%m = Mul(%x, %u) ; %a = Mul(%m, f32[]{0.5}) ;", "Gelu(%x)"),
    "gelu of half of (1 + erf)": (a.raise_gelu, ERF + "%m = Mul(f32[]{0.5}, %u) ; %a = Mul(%x, %m) ;", "Gelu(%x)"),
    "gelu of half of x": (a.raise_gelu, ERF + "%m = Div(%x, f32[]{2.0}) ; %a = Mul(%u, %m) ;", "Gelu(%x)"),
    "gelu of x times the square root of a half": (
        a.raise_gelu, "%s = Mul(f32[1]{0.70710677}, %x) ; %i = Erf(%s) ; %m = Mul(%i, f32[]{0.5}) ; "
        "%u = Add(f32[]{0.5}, %m) ; %a = Mul(%u, %x) ;", "Gelu(%x)"),
    "gelu of the complement of the other end": (
        a.raise_gelu, "%s = Mul(%x, f32[]{-0.70710677}) ; %i = Erf(%s) ; %u = Sub(f32[]{1.0}, %i) ; "
        "%m = Mul(%x, %u) ; %a = Mul(%m, f32[]{0.5}) ;", "Gelu(%x)"),
    "gelu by tanh of a power": (
        a.raise_tanh_gelu, ARGUMENT + "%m = Mul(%x, f32[]{0.5}) ; %a = Mul(%m, %u) ;", 'Gelu(%x) {approximate="tanh"}'),
    "gelu by tanh of products": (
        a.raise_tanh_gelu, "%p = Mul(%x, f32[]{0.044715}) ; %q = Mul(%p, %x) ; %i = Add(%q, f32[]{1.0}) ; "
        "%r = Mul(%x, f32[]{0.7978846}) ; %s = Mul(%r, %i) ; %t = Tanh(%s) ; %u = Add(%t, f32[]{1.0}) ; "
        "%m = Mul(%x, f32[]{0.5}) ; %a = Mul(%m, %u) ;", 'Gelu(%x) {approximate="tanh"}'),
    "gelu by sigmoid of the same cubic": (
        a.raise_tanh_gelu, "%p = Mul(%x, %x) ; %q = Mul(%p, f32[]{0.0713548162726}) ; %i = Add(%q, f32[]{1.5957691216}) ; "
        "%r = Mul(%x, %i) ; %s = Sigmoid(%r) ; %a = Mul(%x, %s) ;", 'Gelu(%x) {approximate="tanh"}'),
    "sigmoid": (a.raise_sigmoid, EXP + "%a = Div(f32[]{1.0}, %u) ;", "Sigmoid(%x)"),
    "sigmoid by a reciprocal": (a.raise_sigmoid, EXP + "%a = Reciprocal(%u) ;", "Sigmoid(%x)"),
    "sigmoid by half of tanh": (
        a.raise_sigmoid, "%h = Mul(%x, f32[]{0.5}) ; %i = Tanh(%h) ; %m = Mul(%i, f32[]{0.5}) ; "
        "%a = Add(%m, f32[]{0.5}) ;", "Sigmoid(%x)"),
    "sigmoid by tanh and half of a sum": (
        a.raise_sigmoid, "%h = Div(%x, f32[]{2.0}) ; %i = Tanh(%h) ; %m = Add(f32[]{1.0}, %i) ; "
        "%a = Mul(%m, f32[]{0.5}) ;", "Sigmoid(%x)"),
    "swish": (a.raise_swish, "%i = Sigmoid(%x) ; %a = Mul(%i, %x) ;", "Swish(%x)"),
    "swish by a quotient": (a.raise_swish, EXP + "%a = Div(%x, %u) ;", "Swish(%x)"),
    "swish of a multiple, the quick gelu": (
        a.raise_scaled_swish, "%m = Mul(%x, f32[]{1.702}) ; %i = Sigmoid(%m) ; %a = Mul(%x, %i) ;",
        "Swish(%x) {alpha=1.702}"),
    "hard sigmoid": (
        a.raise_hard_sigmoid, CLIPPED + "%a = Div(%i, f32[]{6.0}) ;", "HardSigmoid(%x) {alpha=0.16666667, beta=0.5}"),
    "hard sigmoid of a line": (
        a.raise_hard_sigmoid, "%m = Mul(%x, f32[]{0.25}) ; %i = Add(%m, f32[]{0.5}) ; "
        "%a = Clip(%i, f32[]{0.0}, f32[]{1.0}) ;", "HardSigmoid(%x) {alpha=0.25, beta=0.5}"),
    "hard swish": (
        a.raise_hard_swish, "%i = HardSigmoid(%x) {alpha=0.16666667, beta=0.5} ; %a = Mul(%x, %i) ;", "HardSwish(%x)"),
    "hard swish whose product comes first": (
        a.raise_hard_swish, CLIPPED + "%m = Mul(%x, %i) ; %a = Div(%m, f32[]{6.0}) ;", "HardSwish(%x)"),
    "softplus": (
        a.raise_softplus, "%i = Exp(%x) ; %u = Add(f32[]{1.0}, %i) ; %a = Log(%u) ;", "Softplus(%x)"),
    "softplus without overflow": (
        a.raise_softplus, "%r = Relu(%x) ; %b = Abs(%x) ; %n = Neg(%b) ; %i = Exp(%n) ; %u = Add(%i, f32[]{1.0}) ; "
        "%l = Log(%u) ; %a = Add(%r, %l) ;", "Softplus(%x)"),
    "softplus below a threshold": (
        a.drop_softplus_threshold, "%g = Greater(%x, f32[]{20.0}) : bool[N,4,6] %i = Softplus(%x) ; "
        "%a = Where(%g, %x, %i) ;", "Softplus(%x)"),
    "mish": (a.raise_mish, "%s = Softplus(%x) ; %i = Tanh(%s) ; %a = Mul(%x, %i) ;", "Mish(%x)"),
    "softsign": (a.raise_softsign, "%i = Abs(%x) ; %u = Add(f32[]{1.0}, %i) ; %a = Div(%x, %u) ;", "Softsign(%x)"),
    "leaky relu": (
        a.raise_leaky_relu, "%g = Greater(%x, f32[]{0.0}) : bool[N,4,6] %i = Mul(%x, f32[]{0.1}) ; "
        "%a = Where(%g, %x, %i) ;", "LeakyRelu(%x) {alpha=0.1}"),
    "leaky relu that asks what is below": (
        a.raise_leaky_relu, "%g = Less(%x, f32[]{0.0}) : bool[N,4,6] %i = Mul(%x, f32[]{0.1}) ; "
        "%a = Where(%g, %i, %x) ;", "LeakyRelu(%x) {alpha=0.1}"),
    "leaky relu as a maximum": (
        a.raise_leaky_relu, "%i = Mul(%x, f32[]{0.1}) ; %a = Max(%x, %i) ;", "LeakyRelu(%x) {alpha=0.1}"),
    "prelu": (
        a.raise_leaky_relu, "%g = Greater(%x, f32[]{0.0}) : bool[N,4,6] %i = Mul(%x, @w) ; "
        "%a = Where(%g, %x, %i) ;", "PRelu(%x, @w)"),
    "prelu as a sum": (
        a.raise_prelu, "%r = Relu(%x) ; %i = Min(%x, f32[]{0.0}) ; %m = Mul(%i, @w) ; %a = Add(%r, %m) ;", "PRelu(%x, @w)"),
    "prelu as a difference": (
        a.raise_prelu, "%r = Relu(%x) ; %n = Neg(%x) ; %i = Relu(%n) ; %m = Mul(%i, @w) ; %a = Sub(%r, %m) ;",
        "PRelu(%x, @w)"),
    "elu": (
        a.raise_elu, "%g = Greater(%x, f32[]{0.0}) : bool[N,4,6] %e = Exp(%x) ; %i = Sub(%e, f32[]{1.0}) ; "
        "%m = Mul(%i, f32[]{0.5}) ; %a = Where(%g, %x, %m) ;", "Elu(%x) {alpha=0.5}"),
    "selu": (a.raise_selu, SELU, "Selu(%x) {alpha=1.6732632, gamma=1.050701}"),
    "celu by elu": (
        a.raise_celu, "%d = Div(%x, f32[]{0.5}) ; %i = Elu(%d) {alpha=1.0} ; %a = Mul(%i, f32[]{0.5}) ;",
        "Celu(%x) {alpha=0.5}"),
    "celu": (
        a.raise_celu, "%r = Relu(%x) ; %d = Div(%x, f32[]{0.5}) ; %e = Exp(%d) ; %i = Sub(%e, f32[]{1.0}) ; "
        "%k = Mul(%i, f32[]{0.5}) ; %m = Min(%k, f32[]{0.0}) ; %a = Add(%r, %m) ;", "Celu(%x) {alpha=0.5}"),
    "clip": (
        a.raise_clip, "%i = Max(%x, f32[]{-0.5}) ; %a = Min(%i, f32[]{0.5}) ;", "Clip(%x, f32[]{-0.5}, f32[]{0.5})"),
    "clip by the maximum last": (
        a.raise_clip, "%i = Min(%x, f32[1]{0.5}) ; %a = Max(%i, f32[1]{-0.5}) ;", "Clip(%x, f32[]{-0.5}, f32[]{0.5})"),
    "clip of relu and a minimum": (
        a.raise_clip, "%i = Relu(%x) ; %a = Min(%i, f32[]{6.0}) ;", "Clip(%x, f32[]{0.0}, f32[]{6.0})"),
    "clip of relu": (
        a.merge_relu_into_clip, "%i = Relu(%x) ; %a = Clip(%i, f32[]{-1.0}, f32[]{6.0}) ;",
        "Clip(%x, f32[]{0.0}, f32[]{6.0})"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAISED)
def test_the_form_becomes_one_operator(check_rules, name: str):
    rule, body, after = RAISED[name]
    check_rules([rule], one(body + " return %a"), one(f"%a = {after} ; return %a"))


@pytest.mark.parametrize("name", RAISED)
def test_the_form_stays_where_a_value_in_between_is_used_elsewhere(check_rules, name: str):
    rule, body, _ = RAISED[name]
    check_rules([rule], one(body + " %o = Cos(%i) ; return %a, %o", outputs="y, z"), None, fired=0)


@pytest.mark.parametrize("name", RAISED)
def test_the_form_stays_where_a_value_in_between_is_an_output(check_rules, name: str):
    rule, body, _ = RAISED[name]
    check_rules([rule], one(body + " return %a, %i", outputs="y, z"), None, fired=0)


HALF = ["gelu of x (1 + erf) times a half", "gelu by tanh of a power", "hard swish", "clip", "celu"]


@pytest.mark.parametrize("name", HALF)
def test_numbers_are_compared_as_half_precision_rounds_them(name: str):
    rule, body, _ = RAISED[name]
    _, rows = rewritten(rule, one(body + " return %a").replace("f32", "f16"))
    refused = {"runtimes do not have it in f16": 1} if name == "celu" else {}
    assert rows.hits == (0 if refused else 1)
    assert not refused or dict(rows.declined) == refused


def test_what_runtimes_have_not_in_double_precision_is_left():
    _, rows = rewritten(a.raise_mish, one(RAISED["mish"][1] + " return %a").replace("f32", "f64"))
    assert dict(rows.declined) == {"runtimes do not have it in f64": 1}


def rewritten(rule: Rule, text: str) -> tuple[Graph, RuleStatistics]:
    graph = parse(text)
    inference = infer(graph)
    return graph, Rewriter([rule]).run(graph, infer=inference.node).statistics[rule.name]


SINGLE_ELEMENTS = {"relu": ("Max(%x, f32[]{0.0})", a.raise_relu), "clip": ("Clip(%x, f32[]{0.0})", a.clip_to_relu)}


@pytest.mark.parametrize("name", SINGLE_ELEMENTS)
def test_what_bounds_from_zero_is_relu(check_rules, name: str):
    form, rule = SINGLE_ELEMENTS[name]
    check_rules([rule], one(f"%a = {form} ; return %a"), one("%a = Relu(%x) ; return %a"), fired=1)


GREATER = "%g = Greater(%x, f32[]{0.0}) : bool[N,4,6] "
LEFT: dict[str, tuple[Rule, str, str]] = {
    "gelu of an operand that is broadcast": (
        a.raise_gelu, ERF.replace("; %u", "; @t : f32[2,1,1,1] = [0.5,0.5] %u") + "%m = Mul(%x, @t) : f32[2,N,4,6] "
        "%a = Mul(%m, %u) : f32[2,N,4,6] return %a", ""),
    "gelu with another number": (
        a.raise_gelu, ERF.replace("1.4142135", "1.5") + "%m = Mul(%x, %u) ; %a = Mul(%m, f32[]{0.5}) ; return %a", ""),
    "gelu of two values": (
        a.raise_gelu, ERF + "%z = Neg(%x) ; %m = Mul(%z, %u) ; %a = Mul(%m, f32[]{0.5}) ; return %a", ""),
    "swish of a number with a rank of its own": (
        a.raise_scaled_swish, "%m = Mul(%x, f32[1,1,1,1]{1.702}) : f32[1,N,4,6] %s = Sigmoid(%m) : f32[1,N,4,6] "
        "%a = Mul(%x, %s) : f32[1,N,4,6] return %a", "its operands broadcast"),
    "swish with a factor for each channel": (
        a.raise_scaled_swish, "%m = Mul(%x, @w) ; %s = Sigmoid(%m) ; %a = Mul(%x, %s) ; return %a",
        "the factor is not one number"),
    "hard sigmoid that ends elsewhere": (
        a.raise_hard_sigmoid, CLIPPED + "%a = Div(%i, f32[]{5.0}) ; return %a", "its values do not end at 1"),
    "hard sigmoid of a product": (
        a.raise_hard_sigmoid, "%m = Mul(%x, @w) ; %a = Clip(%m, f32[]{0.0}, f32[]{1.0}) ; return %a",
        "what it bounds is not a x + b with two numbers"),
    "softplus with a low threshold": (
        a.drop_softplus_threshold, GREATER.replace("0.0", "2.0") + "%i = Softplus(%x) ; %a = Where(%g, %x, %i) ; "
        "return %a", "the threshold is below 20"),
    "a maximum with more than x": (
        a.raise_leaky_relu, "%m = Mul(%x, f32[]{2.0}) ; %a = Max(%x, %m) ; return %a",
        "the greater one of x and k x is not x where it is positive"),
    "elu with a factor for each channel": (
        a.raise_elu, GREATER + "%e = Exp(%x) ; %i = Sub(%e, f32[]{1.0}) ; %m = Mul(%i, @w) ; %a = Where(%g, %x, %m) ; "
        "return %a", "the factor is not one number"),
    "elu times a negative number": (
        a.raise_selu, SELU.replace("{1.05", "{-1.05") + " return %a", "the factor is not one positive number"),
    "celu with two factors": (
        a.raise_celu, RAISED["celu"][1].replace("%i, f32[]{0.5}", "%i, f32[]{0.25}") + " return %a",
        "the factors inside and outside are not inverse to each other"),
    "bounds that cross": (
        a.raise_clip, "%i = Min(%x, f32[]{-0.5}) ; %a = Max(%i, f32[]{0.5}) ; return %a", "its bounds cross"),
    "a bound for each channel": (
        a.raise_clip, "%i = Max(%x, @w) ; %a = Min(%i, f32[]{0.5}) ; return %a",
        "the Max before it has not one operand and one number"),
    "clip with an end": (
        a.clip_to_relu, "%a = Clip(%x, f32[]{0.0}, f32[]{6.0}) ; return %a", "it has an upper bound"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rule, body, reason = LEFT[name]
    check_rules([rule], one(body), None, fired=0, declined=[reason] if reason else [])
