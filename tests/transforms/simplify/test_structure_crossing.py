"""Transposes and reshapings before operators along axes, and before several operands: what becomes of them, what is left
and why.
"""

import pytest
from tersor.ir import parse, verify
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule
from tersor.testing import check_rule
from tersor.transforms.simplify.algebra import products
from tersor.transforms.simplify.structure import comparisons, crossing, linear, passing

INPUTS = "%x: f32[N,3,4,5], %z: f32[N,3,4,5]"


def one(body: str, outputs: str = "y", inputs: str = INPUTS) -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


LAST = "%t = Transpose(%x) {perm=[0,2,3,1]} : f32[N,4,5,3] "
OTHER = "%u = Transpose(%z) {perm=[0,2,3,1]} : f32[N,4,5,3] "
FIRST = "%y = Transpose(%a) {perm=[0,3,1,2]} "
HEADS = "%q: f32[N,2,3,4], %k: f32[N,2,4,5]"
JOINED = "%a = Reshape(%q, i64[3]{-1,3,4}) : f32[2*N,3,4] %b = Reshape(%k, i64[3]{-1,4,5}) : f32[2*N,4,5] %p = MatMul(%a, %b) : f32[2*N,3,5] "
MATRICES = "%a: f32[4,N], %b: f32[5,4]"

BECOMES: dict[str, tuple[Rule, str, str]] = {
    "a softmax between two": (
        crossing.meet_across_axes, one(LAST + "%a = Softmax(%t) {axis=-1} : f32[N,4,5,3] " + FIRST + ": f32[N,3,4,5] return %y"),
        one("%y = Softmax(%x) {axis=1} : f32[N,3,4,5] return %y")),
    "a slice, a function and a pad between two": (
        crossing.meet_across_axes,
        one(LAST + "%s = Slice(%t, i64[1]{0}, i64[1]{2}, i64[1]{3}) : f32[N,4,5,2] %r = Relu(%s) : f32[N,4,5,2] "
            "%a = Pad(%r, i64[8]{0,1,0,0,0,0,2,0}, f32[]{0.5}) : f32[N,5,7,2] " + FIRST + ": f32[N,2,5,7] return %y"),
        one("%s = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{1}) : f32[N,2,4,5] %r = Relu(%s) : f32[N,2,4,5] "
            "%y = Pad(%r, i64[8]{0,0,1,0,0,0,0,2}, f32[]{0.5}) : f32[N,2,5,7] return %y")),
    "entries and a mean between two that leave a third": (
        crossing.meet_across_axes,
        one(LAST + "%g = Gather(%t, i64[2]{2,0}) {axis=3} : f32[N,4,5,2] %a = ReduceMean(%g, i64[1]{1}) : f32[N,1,5,2] %y = Transpose(%a) {perm=[0,3,2,1]} : f32[N,2,5,1] return %y"),
        one("%g = Gather(%x, i64[2]{2,0}) {axis=1} : f32[N,2,4,5] %a = ReduceMean(%g, i64[1]{2}) : f32[N,2,1,5] %y = Transpose(%a) {perm=[0,1,3,2]} : f32[N,2,5,1] return %y")),
    "a norm, a product and a sum along an axis that stays": (
        crossing.meet_across_axes,
        one("@w : f32[4] = random(1) @m : f32[4,3] = random(2) @b : f32[3] = random(3) %t = Transpose(%s) {perm=[1,0,2]} : f32[N,2,4] %n = LayerNormalization(%t, @w) : f32[N,2,4] "
            "%p = MatMul(%n, @m) : f32[N,2,3] %a = Add(@b, %p) : f32[N,2,3] %y = Transpose(%a) {perm=[1,0,2]} : f32[2,N,3] return %y", inputs="%s: f32[2,N,4]"),
        one("@w : f32[4] = random(1) @m : f32[4,3] = random(2) @b : f32[3] = random(3) %n = LayerNormalization(%s, @w) : f32[2,N,4] "
            "%p = MatMul(%n, @m) : f32[2,N,3] %y = Add(@b, %p) : f32[2,N,3] return %y", inputs="%s: f32[2,N,4]")),
    "a bias of what was moved": (
        crossing.meet_across_constants, one("@b : f32[3] = random(3) " + LAST + "%a = Sub(@b, %t) : f32[N,4,5,3] " + FIRST + ": f32[N,3,4,5] return %y"),
        one("@b : f32[1,3,1,1] = random(3) %y = Sub(@b, %x) : f32[N,3,4,5] return %y")),
    "a sum of two": (comparisons.add_two, one("%y = Sum(%x, %z) : f32[N,3,4,5] return %y"), one("%y = Add(%x, %z) : f32[N,3,4,5] return %y")),
    "a mean over what was moved": (
        crossing.reduce_before_transpose, one(LAST + "%y = ReduceMean(%t, i64[1]{-1}) {keepdims=0} : f32[N,4,5] return %y"),
        one("%y = ReduceMean(%x, i64[1]{1}) {keepdims=0} : f32[N,4,5] return %y")),
    "a greatest over what was moved, whose axis stays": (
        crossing.reduce_before_transpose, one(LAST + "%y = ReduceMax(%t, i64[1]{3}) : f32[N,4,5,1] return %y"),
        one("%r = ReduceMax(%x, i64[1]{1}) : f32[N,1,4,5] %y = Reshape(%r, i64[4]{-1,4,5,1}) : f32[N,4,5,1] return %y")),
    "the place of the greatest": (
        crossing.reduce_before_transpose, one(LAST + "%y = ArgMax(%t) {axis=3, keepdims=0} : i64[N,4,5] return %y"),
        one("%y = ArgMax(%x) {axis=1, keepdims=0} : i64[N,4,5] return %y")),
    "one entry of what was moved": (
        crossing.reduce_before_transpose, one(LAST + "%y = Gather(%t, i64[]{1}) {axis=-1} : f32[N,4,5] return %y"),
        one("%y = Gather(%x, i64[]{1}) {axis=1} : f32[N,4,5] return %y")),
    "operands of a Concat": (
        crossing.transpose_joined_instead_of_parts, one(LAST + OTHER + "%y = Concat(%t, %u) {axis=3} : f32[N,4,5,6] return %y"),
        one("%c = Concat(%x, %z) {axis=1} : f32[N,6,4,5] %y = Transpose(%c) {perm=[0,2,3,1]} : f32[N,4,5,6] return %y")),
    "parts that are transposed again": (
        crossing.split_before_transpose,
        one(LAST + "%a, %b = Split(%t, i64[2]{1,3}) {axis=1} : f32[N,1,5,3], f32[N,3,5,3] %p = Transpose(%a) {perm=[0,3,1,2]} : f32[N,3,1,5] %q = Transpose(%b) {perm=[0,2,1,3]} : f32[N,5,3,3] return %p, %q", "p, q"),
        one("%a, %b = Split(%x, i64[2]{1,3}) {axis=2} : f32[N,3,1,5], f32[N,3,3,5] %t = Transpose(%a) {perm=[0,2,3,1]} : f32[N,1,5,3] %u = Transpose(%b) {perm=[0,2,3,1]} : f32[N,3,5,3] "
            "%p = Transpose(%t) {perm=[0,3,1,2]} : f32[N,3,1,5] %q = Transpose(%u) {perm=[0,2,1,3]} : f32[N,5,3,3] return %p, %q", "p, q")),
    "both factors": (
        crossing.transpose_product_instead_of_factors,
        one("%t = Transpose(%q) {perm=[0,1,3,2]} : f32[N,2,4,3] %u = Transpose(%k) {perm=[0,1,3,2]} : f32[N,2,3,4] %y = MatMul(%t, %u) : f32[N,2,4,4] return %y", inputs="%q: f32[N,2,3,4], %k: f32[N,2,4,3]"),
        one("%p = MatMul(%k, %q) : f32[N,2,4,4] %y = Transpose(%p) {perm=[0,1,3,2]} : f32[N,2,4,4] return %y", inputs="%q: f32[N,2,3,4], %k: f32[N,2,4,3]")),
    "operands reshaped alike": (
        passing.reshape_result_instead_of_operands,
        one("%a = Reshape(%x, i64[3]{0,3,20}) : f32[N,3,20] %b = Reshape(%z, i64[3]{-1,3,20}) : f32[N,3,20] %y = Mul(%a, %b) : f32[N,3,20] return %y"),
        one("%m = Mul(%x, %z) : f32[N,3,4,5] %y = Reshape(%m, i64[3]{0,3,20}) : f32[N,3,20] return %y")),
    "operands with an axis added": (
        passing.reshape_result_instead_of_operands,
        one("%a = Unsqueeze(%x, i64[1]{1}) : f32[N,1,3,4,5] %b = Unsqueeze(%z, i64[1]{1}) : f32[N,1,3,4,5] %y = Less(%a, %b) : bool[N,1,3,4,5] return %y"),
        one("%m = Less(%x, %z) : bool[N,3,4,5] %y = Unsqueeze(%m, i64[1]{1}) : bool[N,1,3,4,5] return %y")),
    "batch axes joined around a product": (
        linear.unflatten_product, one(JOINED + "%y = Reshape(%p, i64[4]{-1,2,3,5}) : f32[N,2,3,5] return %y", inputs=HEADS),
        one("%y = MatMul(%q, %k) : f32[N,2,3,5] return %y", inputs=HEADS)),
    "both operands of a Gemm": (
        products.transpose_in_gemm,
        one("%t = Transpose(%a) {perm=[1,0]} : f32[N,4] %u = Transpose(%b) : f32[4,5] %y = Gemm(%t, %u) : f32[N,5] return %y", inputs=MATRICES),
        one("%y = Gemm(%a, %b) {transA=1, transB=1} : f32[N,5] return %y", inputs=MATRICES)),
    "one factor of two matrices": (
        products.transpose_in_product,
        one("%u = Transpose(%b) : f32[4,5] %s = Sin(%z) : f32[N,4] %y = MatMul(%s, %u) : f32[N,5] return %y", inputs="%z: f32[N,4], %b: f32[5,4]"),
        one("%s = Sin(%z) : f32[N,4] %y = Gemm(%s, %b) {transB=1} : f32[N,5] return %y", inputs="%z: f32[N,4], %b: f32[5,4]")),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES)
def test_it_is_replaced(check_rules, name: str):
    rule, before, after = BECOMES[name]
    check_rules([rule], before, after, fired=1)


@pytest.mark.parametrize("name", BECOMES)
def test_it_computes_the_same_where_the_interior_is_shared_an_output_or_of_symbolic_sizes(name: str):
    rule, before, _ = BECOMES[name]
    static = before.replace("2*N", "4").replace("[N,", "[2,").replace(",N]", ",2]")
    assert check_rule(rule, examples=[static], count=1).fired["as drawn"]


LEFT: dict[str, tuple[Rule, str, str]] = {
    "functions alone between two": (
        crossing.meet_across_axes, one(LAST + "%a = Relu(%t) : f32[N,4,5,3] " + FIRST + ": f32[N,3,4,5] return %y"), "no operators along axes are between two Transposes"),
    "a Transpose that others need": (
        crossing.meet_across_axes, one(LAST + "%a = Softmax(%t) : f32[N,4,5,3] " + FIRST + ": f32[N,3,4,5] return %y, %t", "y, o"),
        "no operators along axes are between two Transposes"),
    "a bias of what was moved, whose shape has to stay": (
        crossing.meet_across_axes, one("@b : f32[3] = random(3) " + LAST + "%a = Add(%t, @b) : f32[N,4,5,3] " + FIRST + ": f32[N,3,4,5] return %y"),
        "along which axes an operator between them works is not known"),
    "a product along an axis that was moved": (
        crossing.meet_across_constants, one("@m : f32[3,2] = random(3) " + LAST + "%a = MatMul(%t, @m) : f32[N,4,5,2] " + FIRST + ": f32[N,2,4,5] return %y"),
        "along which axes an operator between them works is not known"),
    "a constant with more axes": (
        crossing.meet_across_constants,
        one("@b : f32[1,1,1,1,1] = random(3) %t = Transpose(%x) {perm=[0,2,3,1]} : f32[N,4,5,3] %a = Add(%t, @b) : f32[1,N,4,5,3] %y = Transpose(%a) {perm=[0,1,4,2,3]} : f32[1,N,3,4,5] return %y"),
        "no operators along axes are between two Transposes"),
    "a sum of three": (comparisons.add_two, one("%y = Sum(%x, %z, %x) : f32[N,3,4,5] return %y"), "it is of more than two, or of one"),
    "a slice along axes that are computed": (
        crossing.meet_across_axes,
        one(LAST + "%a = Slice(%t, i64[1]{0}, i64[1]{2}, %i) : f32[?,?,?,?] " + FIRST + ": f32[?,?,?,?] return %y", inputs=INPUTS + ", %i: i64[1]"),
        "along which axes an operator between them works is not known"),
    "a mean that leaves axes in another order": (
        crossing.reduce_before_transpose, one(LAST + "%y = ReduceMean(%t, i64[1]{1}) {keepdims=0} : f32[N,5,3] return %y"), "the remaining axes are in another order"),
    "a mean of what others need": (
        crossing.reduce_before_transpose, one(LAST + "%y = ReduceMean(%t, i64[1]{-1}) {keepdims=0} : f32[N,4,5] return %y, %t", "y, o"),
        "its operand is no Transpose that it alone uses"),
    "several entries": (
        crossing.reduce_before_transpose, one(LAST + "%y = Gather(%t, i64[2]{1,0}) {axis=-1} : f32[N,4,5,2] return %y"), "its axes are not known, or it takes several entries"),
    "operands of a Concat that are transposed otherwise": (
        crossing.transpose_joined_instead_of_parts,
        one(LAST + "%u = Transpose(%z) {perm=[0,2,1,3]} : f32[N,4,3,5] %v = Reshape(%u, i64[4]{0,4,5,3}) : f32[N,4,5,3] %y = Concat(%t, %v) {axis=3} : f32[N,4,5,6] return %y"),
        "its operands are not all transposed alike"),
    "an operand of a Concat that others need": (
        crossing.transpose_joined_instead_of_parts, one(LAST + OTHER + "%y = Concat(%t, %u) {axis=3} : f32[N,4,5,6] return %y, %u", "y, o"), "a Transpose has other users"),
    "a part that is used as it is": (
        crossing.split_before_transpose,
        one(LAST + "%a, %b = Split(%t, i64[2]{1,3}) {axis=1} : f32[N,1,5,3], f32[N,3,5,3] %p = Transpose(%a) {perm=[0,3,1,2]} : f32[N,3,1,5] return %p, %b", "p, q"),
        "a part is used otherwise than transposed"),
    "factors whose batches are moved": (
        crossing.transpose_product_instead_of_factors,
        one("%t = Transpose(%q) {perm=[1,0,2,3]} : f32[2,N,3,4] %u = Transpose(%k) {perm=[1,0,2,3]} : f32[2,N,4,5] %y = MatMul(%t, %u) : f32[2,N,3,5] return %y", inputs=HEADS),
        "more than rows and columns are exchanged"),
    "operands reshaped from different shapes": (
        passing.reshape_result_instead_of_operands,
        one("%a = Reshape(%x, i64[3]{0,3,20}) : f32[N,3,20] %b = Reshape(%z, i64[3]{0,3,20}) : f32[N,3,20] %y = Mul(%a, %b) : f32[N,3,20] return %y", inputs="%x: f32[N,3,4,5], %z: f32[N,3,5,4]"),
        "they are not reshaped from one known shape to another"),
    "one value reshaped once": (
        passing.reshape_result_instead_of_operands, one("%a = Reshape(%x, i64[3]{0,3,20}) : f32[N,3,20] %y = Mul(%a, %a) : f32[N,3,20] return %y"),
        "not all operands are reshaped for it alone"),
    "batch axes that are taken apart otherwise": (
        linear.unflatten_product, one(JOINED + "%y = Reshape(%p, i64[4]{2,-1,3,5}) : f32[2,N,3,5] return %y", inputs=HEADS), "they are not the axes of the result"),
    "a product whose factor is not reshaped": (
        linear.unflatten_product,
        one("%a = Reshape(%q, i64[3]{-1,3,4}) : f32[2*N,3,4] %p = MatMul(%a, %k) : f32[2*N,3,5] %y = Reshape(%p, i64[4]{-1,2,3,5}) : f32[N,2,3,5] return %y", inputs="%q: f32[N,2,3,4], %k: f32[4,5]"),
        "a factor is not reshaped"),
    "a Gemm of a Transpose that others need": (
        products.transpose_in_gemm, one("%t = Transpose(%a) : f32[N,4] %y = Gemm(%t, %b) {transB=1} : f32[N,5] return %y, %t", "y, o", MATRICES),
        "neither operand is a matrix that is transposed for it alone"),
    "a product of more than matrices": (
        products.transpose_in_product, one("%t = Transpose(%k) {perm=[0,1,3,2]} : f32[N,2,5,4] %y = MatMul(%t, %k) : f32[N,2,5,5] return %y", inputs=HEADS),
        "it is no product of two matrices of which one is transposed for it alone"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(name: str):
    rule, text, reason = LEFT[name]
    graph = parse(text)
    result = Rewriter([rule]).run(graph, infer=infer(graph).node)
    assert not result.fired
    assert reason in result.statistics[rule.name].declined


def test_where_every_operand_is_a_constant_the_result_is_one_too():
    graph = parse("""
        graph() -> (y) {
          @a : f32[4,3] = random(1)
          %t = Transpose(@a) {perm=[1,0]} : f32[3,4]
          %y = Gather(%t, i64[]{-1}) {axis=1} : f32[3]
          return %y
        }
    """)
    infer(graph)
    assert Rewriter([crossing.reduce_before_transpose]).run(graph).fired == 1
    verify(graph)
