"""Products with constant matrices, one after the other or with factors of their own."""

import pytest
from tersor.ir import parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.algebra import products


def graph(body: str, x: str = "f32[N,5]", weights: str = "", names: str = "y") -> str:
    return f"graph(%x: {x}) -> ({names}) {{ {weights} {body} }}"


W, B = "@w : f32[5,3] = random(1)", "@b : f32[3] = random(2)"


@pytest.mark.parametrize("bias", ["f32[3]", "f32[1,3]"])
def test_a_product_of_matrices_and_its_bias_are_a_gemm(check_rules, bias: str):
    text = graph(
        "%0 = MatMul(%x, @w) : f32[N,3] %1 = Add(@b, %0) : f32[N,3] return %1", weights=f"{W} @b : {bias} = random(2)"
    )
    after = graph("%0 = Gemm(%x, @w, @b) : f32[N,3] return %0", weights="@w : f32[5,3] @b : f32[3]")
    check_rules([products.write_as_gemm], text, after, fired=1)


def test_a_product_of_cubes_stays_a_product(check_rules):
    text = graph("%0 = MatMul(%x, @w) : f32[N,S,3] %1 = Add(%0, @b) : f32[N,S,3] return %1", "f32[N,S,5]", W + B)
    check_rules([products.write_as_gemm], text, None, declined=["it is not a product of two matrices"])


@pytest.mark.parametrize("tail", ["return %1, %0", "%2 = Relu(%0) : f32[N,3] return %1, %2"])
def test_a_product_that_others_see_stays(check_rules, tail: str):
    text = graph(f"%0 = MatMul(%x, @w) : f32[N,3] %1 = Add(%0, @b) : f32[N,3] {tail}", weights=W + B, names="y, z")
    check_rules([products.write_as_gemm], text, None, fired=0)


def test_factors_of_a_gemm_are_part_of_its_constants(check_rules):
    text = graph("%0 = Gemm(%x, @w, @b) {alpha=2.0, beta=0.5} : f32[N,3] return %0", weights=W + B)
    after = graph("%0 = Gemm(%x, @w, @b) : f32[N,3] return %0", weights="@w : f32[5,3] @b : f32[3]")
    check_rules([products.fold_gemm_factors], text, after, fired=1)


def test_factors_of_computed_operands_stay(check_rules):
    text = "graph(%x: f32[N,5], %w: f32[5,3]) -> (y) { %0 = Gemm(%x, %w) {alpha=2.0} : f32[N,3] return %0 }"
    check_rules([products.fold_gemm_factors], text, None, fired=0)


def test_a_gemm_transposes_by_itself(check_rules):
    text = graph(
        "%t = Transpose(%x) {perm=[1,0]} : f32[5,N] %0 = Gemm(%t, @w) : f32[5,3] return %0",
        "f32[N,5]",
        "@w : f32[N,3]".replace("N", "4"),
    ).replace("N", "4")
    text = text.replace("@w : f32[4,3]", "@w : f32[4,3] = random(1)")
    after = "graph(%x: f32[4,5]) -> (y) { @w : f32[4,3] = random(1) %0 = Gemm(%x, @w) {transA=1} : f32[5,3] return %0 }"
    check_rules([products.transpose_in_gemm], text, after, fired=1)


def test_a_product_with_the_identity_is_its_operand(check_rules):
    text = graph(
        "%0 = MatMul(%x, @i) : f32[N,2] %1 = Neg(%0) : f32[N,2] return %1", "f32[N,2]", "@i : f32[2,2] = [1,0,0,1]"
    )
    check_rules([products.drop_identity_product], text, graph("%1 = Neg(%x) : f32[N,2] return %1", "f32[N,2]"), fired=1)
    other = text.replace("[1,0,0,1]", "[1,0,0,2]")
    check_rules([products.drop_identity_product], other, None, declined=["its constant is not an identity matrix"])


CHAIN = "%0 = MatMul(%x, @u) : f32[N,S,{middle}] {bias} %1 = MatMul({inner}, @v) : f32[N,S,4] {tail}"


def chain(middle: int, bias: bool = False, tail: str = "return %1", names: str = "y") -> str:
    weights = f"@u : f32[5,{middle}] = random(1) @v : f32[{middle},4] = random(2) @b : f32[{middle}] = random(3)"
    added = f"%a = Add(%0, @b) : f32[N,S,{middle}]" if bias else ""
    body = CHAIN.format(middle=middle, bias=added, inner="%a" if bias else "%0", tail=tail)
    return graph(body, "f32[N,S,5]", weights, names)


def test_two_products_are_one(check_rules):
    after = graph("%0 = MatMul(%x, @w) : f32[N,S,4] return %0", "f32[N,S,5]", "@w : f32[5,4]")
    check_rules([products.multiply_matrices], chain(6), after, fired=1)


def test_two_products_with_a_bias_between_them_are_one_with_another_bias(check_rules):
    after = graph(
        "%0 = MatMul(%x, @w) : f32[N,S,4] %1 = Add(%0, @b) : f32[N,S,4] return %1", "f32[N,S,5]",
        "@w : f32[5,4] @b : f32[4]",
    )  # fmt: skip
    check_rules([products.multiply_matrices], chain(6, bias=True), after, fired=1)


def test_factors_of_low_rank_stay(check_rules):
    check_rules([products.multiply_matrices], chain(2), None, declined=["the product is larger than both factors"])


@pytest.mark.parametrize("tail", ["return %1, %0", "%2 = Relu(%0) : f32[N,S,6] return %1, %2"])
def test_a_product_that_others_see_is_not_multiplied(check_rules, tail: str):
    check_rules([products.multiply_matrices], chain(6, tail=tail, names="y, z"), None, fired=0)


@pytest.mark.parametrize("transposed", [0, 1])
def test_two_dense_layers_without_an_activation_are_one(check_rules, transposed: int):
    shapes = ("6,5", "4,6", "4,5") if transposed else ("5,6", "6,4", "5,4")
    attrs = f"{{transB={transposed}}}"
    weights = f"@u : f32[{shapes[0]}] = random(1) @c : f32[6] = random(2) @v : f32[{shapes[1]}] = random(3) @d : f32[4] = random(4)"
    text = graph(
        f"%0 = Gemm(%x, @u, @c) {attrs} : f32[N,6] %1 = Gemm(%0, @v, @d) {attrs} : f32[N,4] return %1", weights=weights
    )
    after = graph(
        f"%0 = Gemm(%x, @w, @b) {{transA=0, transB={transposed}}} : f32[N,4] return %0",
        weights=f"@w : f32[{shapes[2]}] @b : f32[4]",
    )
    check_rules([products.multiply_gemms], text, after, fired=1)


def convolutions(first: str, second: str, bias: bool = True) -> str:
    weights = f"@u : f32[6,3,{first}] = random(1) @c : f32[6] = random(2) @v : f32[2,6,3,3] = random(3)"
    return graph(
        f"%0 = Conv(%x, @u{', @c' if bias else ''}) : f32[N,6,8,8] %1 = Conv(%0, @v) {{{second}}} : f32[N,2,*] return %1",
        "f32[N,3,8,8]", weights,
    ).replace("f32[N,2,*]", "f32[N,2,8,8]" if "pads" in second else "f32[N,2,6,6]")  # fmt: skip


def test_a_pointwise_convolution_is_part_of_the_one_below(check_rules):
    after = graph(
        "%0 = Conv(%x, @w, @b) {strides=[1,1]} : f32[N,2,6,6] return %0",
        "f32[N,3,8,8]",
        "@w : f32[2,3,3,3] @b : f32[2]",
    )
    check_rules([products.multiply_convolutions], convolutions("1,1", "strides=[1,1]"), after, fired=1)


def test_a_bias_does_not_pass_a_padding_of_zeros(check_rules):
    reason = "the first one's bias is not there in the second one's padding"
    check_rules([products.multiply_convolutions], convolutions("1,1", "pads=[1,1,1,1]"), None, declined=[reason])
    after = graph("%0 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,2,8,8] return %0", "f32[N,3,8,8]", "@w : f32[2,3,3,3]")
    check_rules([products.multiply_convolutions], convolutions("1,1", "pads=[1,1,1,1]", bias=False), after, fired=1)


def test_a_row_against_which_one_column_may_broadcast_is_no_bias_of_a_gemm():
    found = parse("""graph(%x: f32[N,4], %w: f32[4,N]) -> (y) {
      %p = MatMul(%x, %w) : f32[N,N]
      %y = Add(%p, f32[3]{1,2,3}) : f32[N,3]
      return %y }""")
    infer(found)
    result = Rewriter([products.write_as_gemm]).run(found)
    assert not result.fired
    assert result.statistics["write_as_gemm"].declined == {"the summand is not one constant per column": 1}
