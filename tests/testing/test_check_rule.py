"""check_rule passes rules that are right and catches, with a readable text, those that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.ir import DType, constant
from tersor.ir.rewrite import P, decline, rule
from tersor.testing import check_rule
from tersor.transforms.simplify import RULES

x, y, w, b, c = P.var("x"), P.var("y"), P.const("w"), P.opt_const("b"), P.const("c")
g, t, m, v = P.const("g"), P.const("t"), P.const("m"), P.const("v")
KNOWN = {r.name: r for r in RULES["deploy"]}


@rule(P.Neg(P.Neg(x)))
def double_negation(op, x):
    """-(-x) is x."""
    return x


@rule(P.BatchNormalization(P.Conv(x, w, b).named("conv"), g, t, m, v).named("bn"))
def fold_batchnorm(op, x, w, b, g, t, m, v, conv, bn):
    """Conv then BatchNormalization is a Conv."""
    if w.tensor.dtype is not g.tensor.dtype:
        return decline("element types differ")
    k = g / constant(np.sqrt((v + bn.float("epsilon")).tensor.numpy()))
    shift = t - m * k
    return op.Conv(x, w * op.channelwise(k, w.rank), shift if b is None else b * k + shift, **conv.attrs)


@pytest.mark.parametrize("right", [double_negation, fold_batchnorm], ids=lambda r: r.name)
def test_a_rule_that_is_right_passes_in_every_form(right):
    report = check_rule(right, count=16)
    assert report.fired["as drawn"] > 0
    assert report.fired["first sizes symbolic"] > 0
    assert report.tried["interior value is an output"] > 0
    assert report.tried["interior value has another user"] > 0
    assert report.compared > 0


@pytest.mark.parametrize("name", ["merge_reshapes", "compose_layout", "raise_gelu", "merge_relus", "drop_empty_pad"])
def test_rules_of_the_simplifier_pass(name: str):
    if name not in KNOWN:
        pytest.skip(f"there is no rule {name} any more")
    assert check_rule(KNOWN[name], count=8).fired.total()


def test_the_same_seed_gives_the_same_report():
    first, second = (check_rule(fold_batchnorm, count=6, seed=3) for _ in range(2))
    assert first == second
    assert first != check_rule(fold_batchnorm, count=6, seed=4)


def caught(wrong, **options) -> str:
    with pytest.raises(AssertionError) as found:
        check_rule(wrong, **options)
    text = str(found.value)
    assert wrong.name in text
    return text


# Planted faults


def test_a_wrong_epsilon_is_caught():
    @rule(P.BatchNormalization(P.Conv(x, w, b).named("conv"), g, t, m, v).named("bn"))
    def forgets_epsilon(op, x, w, b, g, t, m, v, conv, bn):
        k = g / constant(np.sqrt((v + 1e-5).tensor.numpy()))
        shift = t - m * k
        return op.Conv(x, w * op.channelwise(k, w.rank), shift if b is None else b * k + shift, **conv.attrs)

    text = caught(forgets_epsilon)
    assert "differs" in text
    assert "before:\ngraph @instance" in text
    assert "after:\ngraph @instance" in text


def test_a_forgotten_bias_is_caught():
    @rule(P.Relu(P.Conv(x, w, b).named("conv")))
    def forgets_bias(op, x, w, conv):
        return op.Relu(op.Conv(x, w, **conv.attrs))

    assert "is wrong" in caught(forgets_bias)


def test_a_change_to_an_interior_value_that_others_use_is_caught():
    @rule("Mul")
    def ignores_other_users(op, node):
        inner, factor = node.operand(0).node, node.operand(1)
        if inner is None or inner.op != "Mul" or not factor.is_const or not inner.operand(1).is_const:
            return decline("no chain of factors")
        product = constant(inner.operand(1).tensor.numpy() * factor.tensor.numpy())
        if product.shape != inner.operand(1).shape:
            return decline("the factors have different shapes")
        inner.set_input(1, product)
        return inner.output

    chain = """graph(%x: f32[3,4]) -> (y) {
      %p = Mul(%x, f32[]{2.0}) : f32[3,4] %q = Mul(%p, f32[]{3.0}) : f32[3,4] return %q }"""
    text = caught(ignores_other_users, examples=[chain])
    assert "interior value" in text


def test_a_rule_that_assumes_static_sizes_is_caught():
    @rule(P.Flatten(x).named("flatten"))
    def bakes_the_batch_in(op, x, flatten):
        if flatten.int("axis") != 1 or x.rank is None or x.rank < 2:
            return decline("another axis")
        batch = x.shape[0] if isinstance(x.shape[0], int) else 2
        return op.Reshape(x, [batch, -1])

    assert "first sizes symbolic" in caught(bakes_the_batch_in, dtypes=["f32"])


def test_a_rule_that_fails_on_unknown_ranks_is_caught():
    @rule(P.Flatten(x).named("flatten"))
    def counts_axes(op, x, flatten):
        if flatten.int("axis") % len(x.shape) != 1:
            return decline("another axis")
        return op.Reshape(x, [0, -1]) if len(x.shape) > 1 else decline("a vector")

    assert "raises TypeError" in caught(counts_axes)


def test_a_rule_for_real_numbers_is_caught_on_integers():
    @rule(P.Div(P.Mul(x, c), c))
    def halves_twice(op, x, c):
        return op.Mul(op.Div(x, c), c)

    assert "is wrong" in caught(halves_twice)


def test_a_missing_check_of_broadcasting_is_caught():
    @rule(P.Sub(P.Add(x, y), y))
    def cancels(op, x, y):
        return x

    assert "is wrong" in caught(cancels, dtypes=["f64"])


def test_a_commuted_match_that_is_taken_for_the_other_is_caught():
    @rule(P.Add(P.Mul(x, y), x))
    def takes_operands_by_place(op, x, y):
        return op.Mul(x, op.Add(x, constant(np.float32(1))))

    assert "is wrong" in caught(takes_operands_by_place, dtypes=["f32"])


def test_rules_that_never_settle_are_caught():
    @rule(P.Relu(x))
    def forever(op, x):
        return op.Relu(op.Identity(x))

    assert "does not end" in caught(forever)


def test_a_rule_that_changes_the_element_type_is_caught():
    @rule(P.Neg(x))
    def widens(op, x):
        return op.Cast(op.Neg(op.Cast(x, to=DType.F64.code)), to=DType.F64.code)

    assert "is wrong" in caught(widens, dtypes=["f32"])


def test_a_rule_that_changes_the_graph_and_says_no_is_caught():
    @rule("Relu")
    def changes_and_declines(op, node):
        node.attrs["note"] = 1
        return decline("no")

    assert "is wrong" in caught(changes_and_declines)


def test_a_rule_that_never_fires_is_an_error_that_says_why():
    @rule(P.Relu(x))
    def never(op, x):
        return decline("it is Monday")

    text = caught(never, count=2)
    assert "never fired" in text
    assert "it is Monday" in text
