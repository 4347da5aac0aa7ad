"""Arithmetic with numbers and signs: what two operations become, what stays and why."""

import pytest
from tersor.transforms.simplify.structure import arithmetic
from tersor.transforms.simplify.structure.arithmetic import DEPLOY_RULES, RULES

X = "%x: f32[N,4], %z: f32[N,4]"


def one(body: str, inputs: str = X, outputs: str = "y", constants: str = "") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ @w : f32[4] = [1,2,3,4] @v : f32[4] = [5,6,7,8] {constants} {body} }}"


def steps(*lines: str) -> str:
    return " ".join(f"{line} : f32[N,4]" for line in lines)


MERGED = {
    "two summands": (("%a = Add(%x, f32[]{2})", "%b = Add(%a, f32[]{3})"), "Add(%x, f32[]{5})"),
    "a summand and a subtrahend": (("%a = Add(%x, f32[]{2})", "%b = Sub(%a, f32[]{3})"), "Add(%x, f32[]{-1})"),
    "two subtrahends": (("%a = Sub(%x, f32[]{2})", "%b = Sub(%a, f32[]{3})"), "Sub(%x, f32[]{5})"),
    "a subtrahend and a summand": (("%a = Sub(%x, f32[]{2})", "%b = Add(f32[]{3}, %a)"), "Sub(%x, f32[]{-1})"),
    "two factors": (("%a = Mul(f32[]{2}, %x)", "%b = Mul(%a, f32[]{3})"), "Mul(%x, f32[]{6})"),
    "a factor and a divisor": (("%a = Mul(%x, f32[]{2})", "%b = Div(%a, f32[]{3})"), "Mul(%x, f32[]{0.6666667})"),
    "two divisors": (("%a = Div(%x, f32[]{2})", "%b = Div(%a, f32[]{3})"), "Div(%x, f32[]{6})"),
    "a divisor and a factor": (("%a = Div(%x, f32[]{2})", "%b = Mul(%a, f32[]{3})"), "Div(%x, f32[]{0.6666667})"),
    "two negations": (("%a = Neg(%x)", "%b = Neg(%a)"), "%x"),
    "two reciprocals": (("%a = Reciprocal(%x)", "%b = Reciprocal(%a)"), "%x"),
    "a negated summand": (("%a = Neg(%x)", "%b = Add(%a, %z)"), "Sub(%z, %x)"),
    "a negated subtrahend": (("%a = Neg(%x)", "%b = Sub(%z, %a)"), "Add(%z, %x)"),
    "a negated difference": (("%a = Sub(%x, %z)", "%b = Neg(%a)"), "Sub(%z, %x)"),
    "a negated product with a number": (("%a = Mul(%x, f32[]{2})", "%b = Neg(%a)"), "Mul(%x, f32[]{-2})"),
    "a product of a negation and a number": (("%a = Neg(%x)", "%b = Div(%a, f32[]{2})"), "Div(%x, f32[]{-2})"),
    "a factor that is a reciprocal": (("%a = Reciprocal(%x)", "%b = Mul(%z, %a)"), "Div(%z, %x)"),
    "a divisor that is a reciprocal": (("%a = Reciprocal(%x)", "%b = Div(%z, %a)"), "Mul(%z, %x)"),
    "a factor that is one divided": (("%a = Div(f32[]{1}, %x)", "%b = Mul(%z, %a)"), "Div(%z, %x)"),
    "the reciprocal of a quotient": (("%a = Div(%x, %z)", "%b = Reciprocal(%a)"), "Div(%z, %x)"),
}  # fmt: skip


def result(after: str, name: str = "%r") -> tuple[str, str]:
    return ("", after) if after.startswith("%") else (f"{name} = {after} : f32[N,4] ", name)


@pytest.mark.parametrize("name", MERGED)
def test_two_operations_are_one(check_rules, name: str):
    lines, after = MERGED[name]
    line, value = result(after)
    check_rules(RULES, one(steps(*lines) + " %c = Relu(%b) : f32[N,4] return %c"),
                one(f"{line}%c = Relu({value}) : f32[N,4] return %c"), fired=1)  # fmt: skip


SHARED = {"two negations"}


@pytest.mark.parametrize("rest", ["%c = Relu(%a) : f32[N,4] return %b, %c", "return %b, %a"])
@pytest.mark.parametrize("name", [name for name in MERGED if name not in SHARED])
def test_what_others_need_is_not_merged(check_rules, name: str, rest: str):
    body = steps(*MERGED[name][0])
    check_rules(RULES, one(f"{body} {rest}", outputs="p, q"), None, fired=0)


def test_two_negations_cancel_where_others_need_the_first(check_rules):
    body = steps("%a = Neg(%x)", "%b = Neg(%a)", "%c = Relu(%b)")
    check_rules(RULES, one(f"{body} return %c, %a", outputs="p, q"),
                one(steps("%a = Neg(%x)", "%c = Relu(%x)") + " return %c, %a", outputs="p, q"), fired=1)  # fmt: skip


def test_two_nots_cancel(check_rules):
    inputs = "%x: bool[N]"
    body = "%a = Not(%x) : bool[N] %b = Not(%a) : bool[N] %c = And(%b, %x) : bool[N] return %c"
    check_rules(RULES, one(body, inputs), one("%c = And(%x, %x) : bool[N] return %c", inputs), fired=1)


def test_integers_are_added_up_but_not_divided_out(check_rules):
    inputs = "%x: i64[N]"
    body = "%a = {}(%x, i64[]{{7}}) : i64[N] %b = {}(%a, i64[]{{2}}) : i64[N] return %b"
    check_rules(
        RULES, one(body.format("Add", "Sub"), inputs), one("%b = Add(%x, i64[]{5}) : i64[N] return %b", inputs), fired=1
    )
    check_rules(RULES, one(body.format("Mul", "Div"), inputs), None, declined=["integers are rounded in between"])


LEFT = {
    "a parameter": (RULES, ("%a = Mul(%x, @layer.scale)", "%b = Mul(%a, f32[]{2})"), "one of the constants is not a number of the program"),
    "a vector": (RULES, ("%a = Mul(%x, @w)", "%b = Mul(%a, f32[]{2})"), "one of the constants is not a number of the program"),
    "a sum times a number": (RULES, ("%a = Add(%x, f32[]{2})", "%b = Mul(%a, f32[]{3})"), "one adds and the other multiplies"),
    "numbers whose product overflows": (RULES, ("%a = Mul(%x, f32[]{1e30})", "%b = Mul(%a, f32[]{1e30})"), "together they are not a finite number"),
    "a cube": (RULES, ("%a = Pow(%x, f32[]{3})",), "the exponent has no operator of its own"),
    "constants that are larger together": (DEPLOY_RULES, ("%a = Mul(%x, @w)", "%b = Mul(%a, @column)"), "together they are larger"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rules, lines, reason = LEFT[name]
    constants = "@layer.scale : f32[] = [3] @column : f32[2,1] = [1,2]"
    body = steps(*lines).replace("@column) : f32[N,4]", "@column) : f32[2,4]")
    inputs = X.replace("N", "2") if "column" in body else X
    last = lines[-1].split(" ")[0]
    check_rules(rules, one(f"{body} return {last}", inputs, constants=constants), None, fired=0, declined=[reason])


def test_constants_are_merged_where_parameters_may_change(check_rules):
    body = steps("%a = Mul(%x, @w)", "%b = Div(%a, @v)") + " return %b"
    check_rules(DEPLOY_RULES, one(body), one("%b = Mul(%x, @v) : f32[N,4] return %b"), fired=1)


@pytest.mark.parametrize(("number", "op"), [(0.5, "Sqrt"), (-1.0, "Reciprocal")])
def test_powers_with_an_operator_of_their_own(check_rules, number: float, op: str):
    body = "%p = Abs(%x) : f32[N,4] %a = {} : f32[N,4] return %a"
    check_rules(RULES, one(body.format(f"Pow(%p, f32[]{{{number}}})")), one(body.format(f"{op}(%p)")), fired=1)


def test_scales_of_both_factors_of_a_product_are_one(check_rules):
    inputs = "%x: f32[N,3,4], %z: f32[N,4,5]"
    body = """%a = Mul(%x, f32[]{0.5}) : f32[N,3,4] %b = Mul(%z, f32[1]{0.25}) : f32[N,4,5]
              %c = MatMul(%a, %b) : f32[N,3,5] return %c"""
    after = "%a = Mul(%x, f32[1]{0.125}) : f32[N,3,4] %c = MatMul(%a, %z) : f32[N,3,5] return %c"
    check_rules([arithmetic.scale_one_factor_of_a_product], one(body, inputs), one(after, inputs), fired=1)


def test_a_scale_that_adds_axes_stays_where_it_is(check_rules):
    inputs = "%x: f32[3,4], %z: f32[4,5]"
    body = """%a = Mul(%x, f32[1,1,1]{0.5}) : f32[1,3,4] %b = Mul(%z, f32[]{0.25}) : f32[4,5]
              %c = MatMul(%a, %b) : f32[1,3,5] return %c"""
    check_rules([arithmetic.scale_one_factor_of_a_product], one(body, inputs), None, declined=["a scale may add axes"])
