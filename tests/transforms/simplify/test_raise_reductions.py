"""Reductions written out, in a row, or with their axes dropped and kept behind them: what each becomes, what is left
and why, and that a value in between which others need keeps the form as it is.
"""

import pytest
from tersor.transforms.simplify.raising import reductions as r

RULES = {rule.name: rule for rule in r.RULES}


def one(body: str, type_: str = "f32[N,4,6,5]", outputs: str = "y") -> str:
    return f"graph(%x: {type_}) -> ({outputs}) {{ {body.replace(' ;', f' : {type_}')} }}"


# name -> rule, body with %i in between and %a at the end, what comes of it
RAISED: dict[str, tuple[str, str, str]] = {
    "squeeze of a mean": (
        "reshape_reduction", "%i = ReduceMean(%x, i64[2]{2,3}) : f32[N,4,1,1] %a = Squeeze(%i, i64[2]{2,3}) : f32[N,4]",
        "%a = ReduceMean(%x, i64[2]{2,3}) {keepdims=0} : f32[N,4]"),
    "flatten of a maximum": (
        "reshape_reduction", "%i = ReduceMax(%x, i64[2]{-2,-1}) : f32[N,4,1,1] %a = Flatten(%i) : f32[N,4]",
        "%a = ReduceMax(%x, i64[2]{2,3}) {keepdims=0} : f32[N,4]"),
    "reshape of a mean": (
        "reshape_reduction", "%i = ReduceMean(%x, i64[2]{2,3}) : f32[N,4,1,1] %a = Reshape(%i, i64[2]{-1,4}) : f32[N,4]",
        "%a = ReduceMean(%x, i64[2]{2,3}) {keepdims=0} : f32[N,4]"),
    "flatten of a pool": (
        "reshape_reduction", "%i = GlobalAveragePool(%x) : f32[N,4,1,1] %a = Flatten(%i) : f32[N,4]",
        "%a = ReduceMean(%x, i64[2]{2,3}) {keepdims=0} : f32[N,4]"),
    "squeeze of the greatest of a pool": (
        "reshape_reduction", "%i = GlobalMaxPool(%x) : f32[N,4,1,1] %a = Squeeze(%i, i64[2]{2,3}) : f32[N,4]",
        "%a = ReduceMax(%x, i64[2]{2,3}) {keepdims=0} : f32[N,4]"),
    "unsqueeze of a sum": (
        "reshape_reduction", "%i = ReduceSum(%x, i64[1]{1}) {keepdims=0} : f32[N,6,5] "
        "%a = Unsqueeze(%i, i64[1]{1}) : f32[N,1,6,5]", "%a = ReduceSum(%x, i64[1]{1}) {keepdims=1} : f32[N,1,6,5]"),
    "means that keep their axes": (
        "merge_reductions", "%i = ReduceMean(%x, i64[1]{3}) : f32[N,4,6,1] %a = ReduceMean(%i, i64[1]{-2}) : f32[N,4,1,1]",
        "%a = ReduceMean(%x, i64[2]{2,3}) {keepdims=1} : f32[N,4,1,1]"),
    "sums that drop their axes": (
        "merge_reductions", "%i = ReduceSum(%x, i64[1]{1}) {keepdims=0} : f32[N,6,5] "
        "%a = ReduceSum(%i, i64[1]{2}) {keepdims=0} : f32[N,6]", "%a = ReduceSum(%x, i64[2]{1,3}) {keepdims=0} : f32[N,6]"),
    "a maximum that drops what another kept": (
        "merge_reductions", "%i = ReduceMax(%x, i64[1]{3}) : f32[N,4,6,1] "
        "%a = ReduceMax(%i, i64[2]{2,3}) {keepdims=0} : f32[N,4]", "%a = ReduceMax(%x, i64[2]{2,3}) {keepdims=0} : f32[N,4]"),
    "a sum divided by its terms": (
        "raise_mean", "%i = ReduceSum(%x, i64[2]{2,3}) : f32[N,4,1,1] %a = Div(%i, f32[]{30.0}) : f32[N,4,1,1]",
        "%a = ReduceMean(%x, i64[2]{2,3}) {keepdims=1} : f32[N,4,1,1]"),
    "a sum times the share of a term": (
        "raise_mean", "%i = ReduceSum(%x, i64[1]{1}) {keepdims=0} : f32[N,6,5] %a = Mul(f32[]{0.25}, %i) : f32[N,6,5]",
        "%a = ReduceMean(%x, i64[1]{1}) {keepdims=0} : f32[N,6,5]"),
    "a mean times its terms": (
        "raise_sum", "%i = ReduceMean(%x, i64[1]{1}) : f32[N,1,6,5] %a = Mul(%i, f32[]{4.0}) : f32[N,1,6,5]",
        "%a = ReduceSum(%x, i64[1]{1}) {keepdims=1} : f32[N,1,6,5]"),
    "the root of a sum of squares": (
        "raise_l2", "%q = Pow(%x, f32[]{2.0}) ; %i = ReduceSum(%q, i64[1]{-1}) : f32[N,4,6,1] %a = Sqrt(%i) : f32[N,4,6,1]",
        "%a = ReduceL2(%x, i64[1]{3}) {keepdims=1} : f32[N,4,6,1]"),
    "a power of a sum of squares": (
        "raise_l2", "%i = ReduceSumSquare(%x, i64[1]{-1}) : f32[N,4,6,1] %a = Pow(%i, f32[]{0.5}) : f32[N,4,6,1]",
        "%a = ReduceL2(%x, i64[1]{3}) {keepdims=1} : f32[N,4,6,1]"),
    "a sum of products with itself": (
        "raise_sum_of_squares", "%i = Mul(%x, %x) ; %a = ReduceSum(%i, i64[1]{1}) {keepdims=0} : f32[N,6,5]",
        "%a = ReduceSumSquare(%x, i64[1]{1}) {keepdims=0} : f32[N,6,5]"),
    "a sum of magnitudes": (
        "raise_l1", "%i = Abs(%x) ; %a = ReduceSum(%i, i64[1]{1}) : f32[N,1,6,5]",
        "%a = ReduceL1(%x, i64[1]{1}) {keepdims=1} : f32[N,1,6,5]"),
    "the logarithm of a sum of exponentials": (
        "raise_log_sum_exp", "%e = Exp(%x) ; %i = ReduceSum(%e, i64[1]{2}) : f32[N,4,1,5] %a = Log(%i) : f32[N,4,1,5]",
        "%a = ReduceLogSumExp(%x, i64[1]{2}) {keepdims=1} : f32[N,4,1,5]"),
    "softmax": (
        "raise_softmax", "%i = Exp(%x) ; %s = ReduceSum(%i, i64[1]{1}) : f32[N,1,6,5] %a = Div(%i, %s) ;",
        "%a = Softmax(%x) {axis=-3} ;"),
    "log softmax": (
        "raise_log_softmax", "%i = ReduceLogSumExp(%x, i64[1]{1}) : f32[N,1,6,5] %a = Sub(%x, %i) ;",
        "%a = LogSoftmax(%x) {axis=-3} ;"),
    "softmax of what the greatest is subtracted from": (
        "drop_softmax_shift", "%m = ReduceMax(%x, i64[1]{2}) : f32[N,4,1,5] %i = Sub(%x, %m) ; "
        "%a = Softmax(%i) {axis=-2} ;", "%a = Softmax(%x) {axis=-2} ;"),
    "log softmax of what the greatest is subtracted from": (
        "drop_softmax_shift", "%m = ReduceMax(%x, i64[1]{-1}) : f32[N,4,6,1] %i = Sub(%x, %m) ; "
        "%a = LogSoftmax(%i) {axis=3} ;", "%a = LogSoftmax(%x) {axis=3} ;"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAISED)
def test_the_form_becomes_one_operator(check_rules, name: str):
    rule, body, after = RAISED[name]
    check_rules([RULES[rule]], one(body + " return %a"), one(after + " return %a"), fired=1)


@pytest.mark.parametrize("name", RAISED)
def test_the_form_stays_where_a_value_in_between_is_used_elsewhere(check_rules, name: str):
    rule, body, _ = RAISED[name]
    check_rules([RULES[rule]], one(body + " %o = Cos(%i) return %a, %o", outputs="y, z"), None, fired=0)


@pytest.mark.parametrize("name", RAISED)
def test_the_form_stays_where_a_value_in_between_is_an_output(check_rules, name: str):
    rule, body, _ = RAISED[name]
    check_rules([RULES[rule]], one(body + " return %a, %i", outputs="y, z"), None, fired=0)


SUM = "%i = ReduceSum(%x, i64[2]{2,3}) : f32[N,4,1,1] "
LEFT: dict[str, tuple[str, str, str]] = {
    "a reshape that splits": (
        "reshape_reduction", "%i = ReduceMean(%x, i64[2]{2,3}) : f32[N,4,1,1] %a = Reshape(%i, i64[3]{-1,2,2}) : f32[N,2,2]",
        "it changes more than the axes of the reduction"),
    "a mean of a sum": (
        "merge_reductions", "%i = ReduceSum(%x, i64[1]{3}) : f32[N,4,6,1] %a = ReduceMean(%i, i64[1]{2}) : f32[N,4,1,1]",
        "its operand is no reduction of its kind"),
    "axes that are kept, then others dropped": (
        "merge_reductions", "%i = ReduceSum(%x, i64[1]{3}) : f32[N,4,6,1] "
        "%a = ReduceSum(%i, i64[1]{2}) {keepdims=0} : f32[N,4,1]",
        "the first keeps axes that the second does not drop"),
    "axes that are dropped, then others kept": (
        "merge_reductions", "%i = ReduceSum(%x, i64[1]{3}) {keepdims=0} : f32[N,4,6] "
        "%a = ReduceSum(%i, i64[1]{2}) : f32[N,4,1]", "the first drops axes and the second keeps them"),
    "a sum divided by another number": (
        "raise_mean", SUM + "%a = Div(%i, f32[]{29.0}) : f32[N,4,1,1]", "it is not divided by the number of terms"),
    "a sum over a batch of any size": (
        "raise_mean", "%i = ReduceSum(%x, i64[1]{0}) : f32[1,4,6,5] %a = Div(%i, f32[]{2.0}) : f32[1,4,6,5]",
        "the number of terms is not known"),
    "softmax over two axes": (
        "raise_softmax", "%e = Exp(%x) ; %s = ReduceSum(%e, i64[2]{2,3}) : f32[N,4,1,1] %a = Div(%e, %s) ;",
        "it does not run over one axis of floats"),
    "softmax with the greatest of another axis": (
        "drop_softmax_shift", "%m = ReduceMax(%x, i64[1]{2}) : f32[N,4,1,5] %i = Sub(%x, %m) ; %a = Softmax(%i) ;",
        "the greatest is that of other axes"),
    "log softmax over two axes": (
        "raise_log_softmax", "%s = ReduceLogSumExp(%x, i64[2]{2,3}) : f32[N,4,1,1] %a = Sub(%x, %s) ;",
        "it does not run over one axis of floats"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rule, body, reason = LEFT[name]
    check_rules([RULES[rule]], one(body + " return %a"), None, fired=0, declined=[reason])


@pytest.mark.parametrize(("rule", "inner"), [("raise_sum_of_squares", "Mul(%x, %x)"), ("raise_l1", "Abs(%x)")])
def test_formulas_of_integers_are_left(check_rules, rule: str, inner: str):
    body = f"%q = {inner} ; %a = ReduceSum(%q, i64[1]{{2}}) : i64[N,4,1] return %a"
    check_rules([RULES[rule]], one(body, "i64[N,4,3]"), None, fired=0, declined=["it is not in floating point"])


def test_a_softmax_in_every_step_is_one_operator(check_rules):
    """As it is written against overflow, with a logarithm at the end of the sum."""
    before = one(
        "%m = ReduceMax(%x, i64[1]{-1}) : f32[N,4,6,1] %i = Sub(%x, %m) ; %e = Exp(%i) ; "
        "%s = ReduceSum(%e, i64[1]{-1}) : f32[N,4,6,1] %l = Log(%s) : f32[N,4,6,1] %a = Sub(%i, %l) ; return %a"
    )
    check_rules(r.RULES, before, one("%a = LogSoftmax(%x) {axis=-1} ; return %a"))
